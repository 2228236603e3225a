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

Environment. The command gets DYNALOCK_KEY, DYNALOCK_TOKEN (the fencing token) and DYNALOCK_OWNER. It also gets
DYNALOCK_TABLE, DYNALOCK_NAMESPACE and the other variables of the global flags, and AWS_REGION and AWS_PROFILE if flags
set them. So dynalock-admin get "$DYNALOCK_KEY" in the command shows this very lock. A dynalock-admin in the command
that would wait for the lock that it runs under is refused (exit code 64).

Signals. The command runs in a process group of its own. SIGINT, SIGTERM and SIGQUIT are passed on to the group, SIGHUP,
SIGUSR1 and SIGUSR2 to the command. Under systemd set KillMode=mixed. Otherwise the command gets SIGTERM twice, from
systemd and, passed on, from dynalock-admin.

Loss. When the lock is lost, the group gets SIGTERM at once, and SIGKILL before the lease ends and others may take the
lock: after three quarters of the safety margin. Processes that the command leaves in its group when it exits get
SIGTERM, and SIGKILL after --kill-after. The lock is held until then.

Guardian. A second process, the guardian, kills the group at once if dynalock-admin itself is gone (kill -9, out of
memory). It kills the group before the lease ends if dynalock-admin is stopped, or gets no CPU, and does not renew the
lease. On a terminal Ctrl-Z stops dynalock-admin together with the command. If they are continued too late, the command
has been killed and the lock lost.

Limits. Two kinds of processes cannot be ended, and work on beside the next holder:

  - a process that has left the group: a daemon, a container, a process that began a session of its own (setsid);
  - a process that may not be signalled, because sudo or a set-user-ID program runs it. So run dynalock-admin under
    sudo, not the command.

On systems other than Linux, Ctrl-Z does not stop the command, and dynalock-admin as the first process of a container
does not reap orphans. No lease can stop a process whose machine is suspended, or a write that is on its way: let the
resource that the command writes to check the token.

` + exitCodes,
	}
	takes(cmd, "KEY")
	r.lockFlags(cmd)
	r.waitFlags(cmd)
	f := cmd.Flags()
	f.DurationVar(&options.MaxHold, "max-hold", 0,
		"give up the lock, and end the command, after this long (default: never)")
	f.StringVar(&options.Reason, "reason", "", "shown to waiters")
	f.StringVar(&data, "data", "", "payload to store in the lock (default: the stored payload stays)")
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

// release releases the lock. An error says that it was lost before, and has been reported. A store that does not answer
// is no error: the lock ends with its lease.
func (r *guarded) release(ctx context.Context, l *dynalock.Lock, lost bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if lost { // then it only spares waiters some time
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
