package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/cmd/dynalock-admin/internal/guard"
	"github.com/dynalock/dynalock/dynalock"
)

func (a *app) releaseCommand() *cobra.Command {
	var (
		yes   bool
		owner string
		token uint64
	)
	cmd := &cobra.Command{
		Use:   "release KEY",
		Short: "Free a lock whose holder is gone or is to be overruled",
		Long: `Free a lock whose holder is gone or is to be overruled. Shows what it would free and asks, or is told --yes. It
frees exactly the tenure that it has shown: where the lock has changed hands or was released in the meantime it
changes nothing (exit code 77). A lock that is free already is success.

A holder that is alive learns of this with its next heartbeat and may go on until then: only what checks the fencing
token, or the lock itself in its transactions, refuses it at once.`,
		Args: oneKey,
		RunE: a.do(func(ctx context.Context, args []string) error {
			c, err := a.client(ctx, func(o *dynalock.Options) { o.Owner = owner })
			if err != nil {
				return err
			}
			r, err := a.look(ctx, c, args[0])
			if err != nil {
				return err
			}
			switch {
			case token != 0 && (r.State != dynalock.Held || r.Token != token):
				return fmt.Errorf("%w: %q is %v with token %d, not held with token %d", dynalock.ErrChanged, r.Key, r.State, r.Token, token)
			case r.State == dynalock.Foreign:
				return &dynalock.ForeignError{Key: r.Key, Problem: r.Problem}
			case r.State == dynalock.Free:
				return a.showReleased(r, false)
			}
			if !yes {
				if err := a.confirm(r); err != nil {
					return err
				}
			}
			forced, cancel := a.bounded(ctx)
			defer cancel()
			if err := c.ForceRelease(forced, r); err != nil {
				return err
			}
			return a.showReleased(r, true)
		}),
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().Uint64Var(&token, "token", 0, "free the lock only if it is held with this fencing token")
	allow(cmd, "token", "a whole number, as get shows it")
	cmd.Flags().StringVar(&owner, "owner", "", "label to store as the one who freed it (default host/pid/random)")
	return cmd
}

// look reads one lock.
func (a *app) look(ctx context.Context, c *dynalock.Client, key string) (dynalock.Record, error) {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	return c.Get(ctx, key)
}

// confirm shows the lock on the terminal and asks whether to free it.
func (a *app) confirm(r dynalock.Record) error {
	if !guard.IsTerminal(a.in) {
		return usagef("release needs --yes where there is no terminal to ask on")
	}
	now := time.Now()
	if err := showLock(a.err, r, now); err != nil {
		return err
	}
	if !expired(r, now) {
		a.say("\nIts lease has not run out: its holder may be alive and at work.")
	}
	yes, err := a.ask("Free this lock?")
	if err == nil && !yes {
		return &exitError{exitOther, fmt.Errorf("%q was not freed", r.Key)}
	}
	return err
}

// ask asks on the terminal.
func (a *app) ask(question string) (yes bool, err error) {
	if _, err := fmt.Fprintf(a.err, "\n%s [y/N] ", question); err != nil {
		return false, err
	}
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) { // the end of the input is an answer, too
		return false, err
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}

func (a *app) showReleased(r dynalock.Record, freed bool) error {
	if a.output == formatJSON {
		return writeJSON(a.out, struct {
			Released bool     `json:"released"`
			Was      lockJSON `json:"was"`
		}{freed, toJSON(r, time.Now())})
	}
	if !freed {
		_, err := fmt.Fprintf(a.out, "%q is free already\n", clean(r.Key))
		return err
	}
	_, err := fmt.Fprintf(a.out, "%q freed, was held by %q with token %d\n", clean(r.Key), clean(r.Owner), r.Token)
	return err
}
