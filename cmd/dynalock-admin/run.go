//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/dynalock"
)

func (a *app) runCommand() *cobra.Command {
	r := &guarded{a: a}
	var options dynalock.AcquireOptions
	var data string
	cmd := &cobra.Command{
		Use:   "run KEY -- COMMAND [ARGS...]",
		Short: "Run a command while holding a lock",
		Long: `Wait for the lock, run the command while holding it, release the lock once the command is dead, and exit with
the command's exit code.

The command finds DYNALOCK_KEY, DYNALOCK_TOKEN (the fencing token) and DYNALOCK_OWNER in its environment, and all that
says where the lock is: DYNALOCK_TABLE, DYNALOCK_NAMESPACE and the other variables of the global flags, AWS_REGION and
AWS_PROFILE where flags say them. So a nested dynalock-admin get "$DYNALOCK_KEY" shows this very lock. One that would
wait for the lock that it runs under is refused (exit code 64).

The command runs in a process group of its own. SIGINT, SIGTERM and SIGQUIT are passed on to the group, SIGHUP,
SIGUSR1 and SIGUSR2 to the command. When the lock is lost, the group gets SIGTERM at once, and SIGKILL before
the lease ends and others may take the lock: after three quarters of the safety margin. What the command leaves behind
in its group when it exits gets SIGTERM, and SIGKILL after --kill-after; the lock is held until then.

A second process, the guardian, kills the group at once when dynalock-admin itself is gone (kill -9, out of memory), and
before the lease ends when dynalock-admin is stopped or starved and does not renew it. On a terminal Ctrl-Z stops
dynalock-admin with the command: who continues it too late finds the command killed and the lock lost.

What cannot be ended: a process that has left the group, as a daemon, a container, and whatever begins a session of its
own (setsid) has; one that may not be signalled, as what a set-user-ID program or sudo runs, so run dynalock-admin
under sudo, not the command. Both work on beside the next holder. On other systems than Linux a command is not stopped
by Ctrl-Z, and as the first process of a container dynalock-admin does not reap orphans.

Under systemd set KillMode=mixed: else the command gets SIGTERM from systemd and, passed on, from dynalock-admin.

No lease can stop a process whose machine sleeps, or a write that is on its way: let what the command writes to
check the token.

` + exitCodes,
	}
	takes(cmd, "KEY")
	r.lockFlags(cmd)
	r.waitFlags(cmd)
	f := cmd.Flags()
	f.DurationVar(&options.MaxHold, "max-hold", 0,
		"give the lock up, and end the command, after this long (default: never)")
	f.StringVar(&options.Reason, "reason", "", "shown to those who wait")
	f.StringVar(&data, "data", "", "payload to store in the lock (default: what is there stays)")
	cmd.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := r.prepare(ctx, cmd, args[1:])
		if err == nil {
			err = r.nested(ctx, c, args[0])
		}
		if err != nil {
			return err
		}
		if f.Changed("data") {
			options.Data = []byte(data)
		}
		err = r.hold(ctx, c, args[0], options)
		r.close(ctx, c)
		return err
	})
	return cmd
}

// hold runs the command under the lock.
func (r *guarded) hold(ctx context.Context, c *dynalock.Client, key string, options dynalock.AcquireOptions) error {
	l, err := untilSignal(ctx, r.signals, func(ctx context.Context) (l *dynalock.Lock, err error) {
		err = r.patiently(ctx, func(ctx context.Context, wait bool) error {
			acquire := c.TryAcquire
			if wait {
				acquire = c.Acquire
			}
			l, err = acquire(ctx, key, func(o *dynalock.AcquireOptions) { *o = options })
			return err
		})
		return l, err
	})
	r.won = l != nil
	switch {
	case l == nil:
		return r.heldError(err)
	case err != nil: // a signal, at the same time
		_ = r.release(ctx, l, false)
		return err
	}
	end, err := r.work(ctx, l, r.options.Owner)
	released := r.release(ctx, l, end.lost)
	switch {
	case err != nil:
		return err
	case released != nil:
		end.lost = true
	}
	return end.err()
}

// release gives the lock back. An error says that it was lost before, and has been told; a store that does not answer
// is no error: the lock ends with its lease.
func (r *guarded) release(ctx context.Context, l *dynalock.Lock, lost bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if lost { // then it is a courtesy to those who wait
		ctx, cancel = context.WithTimeout(ctx, courtesy)
		defer cancel()
	}
	_, err := untilSignal(ctx, r.signals,
		func(ctx context.Context) (struct{}, error) { return struct{}{}, l.Release(ctx) })
	switch {
	case err == nil || lost:
		return nil
	case errors.Is(err, dynalock.ErrLost):
		r.warn(message(err))
		return err
	}
	r.futile = true
	r.warn(fmt.Sprintf("warning: %q was not released, and is held until its lease ends: %s", l.Key(), message(err)))
	return nil
}
