//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/cmd/dynalock-admin/internal/guard"
	"github.com/dynalock/dynalock/dynalock"
)

func (a *app) electCommand() *cobra.Command {
	r := &guarded{a: a}
	var value string
	cmd := &cobra.Command{
		Use:   "elect KEY -- COMMAND [ARGS...]",
		Short: "Run a command for as long as this candidate leads",
		Long: `Campaign, and run the command whenever this candidate leads.

  - The command exits while its term lasts: dynalock-admin gives up the leadership, and exits with the same code.
  - The lock is lost: the command is killed before the lease ends, as by "run". The campaign goes on.
  - The leader is asked to hand over: the command gets SIGTERM, and SIGKILL after --kill-after. The lease is kept until
    the command is dead. The campaign goes on.
  - dynalock-admin gets a signal: the campaign ends, and the signal is passed on to a command that runs.
  - dynalock-admin itself is killed or stopped: its guardian kills the command, as with "run".

The command gets the environment that "run" gives it. DYNALOCK_TOKEN is the term, and DYNALOCK_OWNER the candidate.

` + exitCodes,
	}
	takes(cmd, "KEY")
	r.lockFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&r.owner, "candidate", "", "name of this candidate, unique among the candidates (default host/pid/random)")
	f.StringVar(&value, "value", "", "value to publish with the leadership, such as an address (default: none)")
	cmd.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := r.prepare(ctx, cmd, args[1:])
		if err == nil {
			err = r.nested(ctx, c, args[0])
		}
		if err != nil {
			return err
		}
		e := c.Election(args[0], func(o *dynalock.ElectionOptions) {
			if f.Changed("value") {
				o.Value = []byte(value)
			}
		})
		err = r.campaign(ctx, e)
		r.close(ctx, c)
		return err
	})
	return cmd
}

// campaign runs the command in every term until a command exits by itself, or a signal ends the campaign.
func (r *guarded) campaign(ctx context.Context, e *dynalock.Election) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.listen(cancel)
	err := r.look(ctx, e)
	over := false // a command has exited by itself
	if err == nil {
		err = e.Run(ctx, func(term context.Context, l *dynalock.Lock) error {
			r.won = true
			if err := r.heard(); err != nil {
				defer r.listen(cancel)
				return err
			}
			defer r.listen(cancel) // from the command's end on, signals are ours again
			end, err := r.work(term, l, r.options.Owner)
			if err != nil {
				return err
			}
			if over = term.Err() == nil && !end.lost; !over {
				r.hush()
				r.warn("the command has ended; campaigning again")
			}
			return end.err()
		})
	}
	heard := r.heard()
	var exit *exitError // the command's
	errors.As(err, &exit)
	switch {
	case over && errors.Is(err, dynalock.ErrStore):
		r.futile = true
		r.warn("warning: the leadership was not given up, and lasts until its lease ends: " + message(err))
		if exit == nil {
			return nil
		}
		return exit
	case exit != nil:
		return exit
	case heard != nil && !over:
		return heard
	}
	return err
}

// look reads the leader, so that a store that does not answer is reported at once, not taken for a wait.
func (r *guarded) look(ctx context.Context, e *dynalock.Election) error {
	ctx, cancel := r.a.bounded(ctx)
	defer cancel()
	leader, err := e.Leader(ctx)
	switch {
	case err != nil:
		return err
	case leader.State == dynalock.Foreign:
		return &dynalock.ForeignError{Key: leader.Key, Problem: leader.Problem}
	case leader.State == dynalock.Held && guard.IsTerminal(r.a.err):
		r.warn(fmt.Sprintf("waiting: %q leads", leader.Owner))
	}
	return nil
}
