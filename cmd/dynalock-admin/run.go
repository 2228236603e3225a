//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/cmd/dynalock-admin/internal/guard"
	"github.com/dynalock/dynalock/dynalock"
)

// patience is how long an ending waits for a store that does not answer. What is left undone then ends with its lease.
const patience = 5 * time.Second

// guarded is one invocation of run.
type guarded struct {
	a       *app
	key     string
	command []string
	signals chan os.Signal // to be passed on, or to end a wait

	lease, heartbeat, margin, skew time.Duration
	acquire                        dynalock.AcquireOptions
	owner                          string
	forever                        bool
	wait                           time.Duration // unless forever; 0: one attempt
	killAfter                      time.Duration
	heldCode                       int
}

func (a *app) runCommand() *cobra.Command {
	r := &guarded{a: a}
	var noWait bool
	var data string
	cmd := &cobra.Command{
		Use:   "run KEY -- COMMAND [ARGS...]",
		Short: "Run a command while holding a lock",
		Long: `Wait for the lock, run the command while holding it, release the lock once the command is dead, and exit with the
command's exit code.

The command finds DYNALOCK_KEY, DYNALOCK_TOKEN (the fencing token), DYNALOCK_TABLE and DYNALOCK_OWNER in its
environment. It runs in a process group of its own. SIGINT, SIGTERM and SIGQUIT are passed on to the group, SIGHUP,
SIGUSR1 and SIGUSR2 to the command. When the lock is lost, the group gets SIGTERM at once, and SIGKILL before
the lease ends and others may take the lock: after three quarters of the safety margin. What the command leaves behind
in its group when it exits gets SIGTERM, and SIGKILL after --kill-after; the lock is held until then.

No lease can stop a process whose machine sleeps, or a write that is on its way: let what the command writes to
check the token.

` + exitCodes,
		Args: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case dash != 1:
				return usagef("run needs exactly one KEY before --, as in: run KEY -- COMMAND")
			case len(args) == 1:
				return usagef("run needs a COMMAND after --")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.DurationVar(&r.wait, "wait", 0, "give up after this long (default: wait for ever); 0: as --no-wait")
	f.BoolVar(&noWait, "no-wait", false, "make one attempt")
	f.IntVarP(&r.heldCode, "held-exit-code", "E", exitHeld, "exit code when somebody else holds the lock, 0 to 255")
	f.DurationVar(&r.lease, "lease", 0, "how long the lock outlives its last heartbeat (default 10s)")
	f.DurationVar(&r.heartbeat, "heartbeat", 0, "time between heartbeats (default a fifth of the lease)")
	f.DurationVar(&r.margin, "safety-margin", 0, "how long before the lease ends the lock counts as lost (default a fifth of the lease)")
	f.DurationVar(&r.acquire.MaxHold, "max-hold", 0, "give the lock up, and end the command, after this long (default: never)")
	f.DurationVar(&r.skew, "max-clock-skew", 0, "take a lock at first sight whose stored expiry passed longer ago than this; clocks must agree that well (default: never)")
	f.DurationVar(&r.killAfter, "kill-after", 5*time.Second, "time from SIGTERM to SIGKILL for what the command left behind")
	f.StringVar(&r.acquire.Reason, "reason", "", "shown to those who wait")
	f.StringVar(&data, "data", "", "payload to store in the lock (default: what is there stays)")
	f.StringVar(&r.owner, "owner", "", "label of the holder (default host/pid/random)")
	cmd.MarkFlagsMutuallyExclusive("wait", "no-wait")
	cmd.RunE = a.do(func(ctx context.Context, args []string) error {
		r.key, r.command = args[0], args[1:]
		r.forever = !noWait && !f.Changed("wait")
		if f.Changed("data") {
			r.acquire.Data = []byte(data)
		}
		return r.run(ctx)
	})
	return cmd
}

// run does all of it.
func (r *guarded) run(ctx context.Context) error {
	switch {
	case r.wait < 0:
		return usagef("--wait is %v, allowed: 0 or more", r.wait)
	case r.killAfter < 0:
		return usagef("--kill-after is %v, allowed: 0 or more", r.killAfter)
	case r.heldCode < 0 || r.heldCode > 255:
		return usagef("--held-exit-code is %d, allowed: 0 to 255", r.heldCode)
	}
	path, err := lookUp(r.command[0])
	if err != nil {
		return err
	}
	c, err := r.a.client(ctx, func(o *dynalock.Options) {
		o.Lease, o.Heartbeat, o.SafetyMargin, o.MaxClockSkew, o.Owner = r.lease, r.heartbeat, r.margin, r.skew, r.owner
	})
	if err != nil {
		return err
	}
	r.signals = make(chan os.Signal, 16)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
		if !signal.Ignored(s) { // as by nohup: then it stays ignored, here and in the command
			signal.Notify(r.signals, s)
		}
	}
	l, err := untilSignal(ctx, r.signals, func(ctx context.Context) (*dynalock.Lock, error) { return r.take(ctx, c) })
	switch {
	case l != nil && err == nil:
		err = r.hold(ctx, l, c.Options(), path)
	case l != nil: // and a signal, at the same time
		_ = r.release(ctx, l, false)
	}
	r.close(ctx, c)
	if errors.Is(err, dynalock.ErrHeld) {
		return &exitError{r.heldCode, err}
	}
	return err
}

// lookUp finds the command, before anything is locked for it.
func lookUp(command string) (string, error) {
	path, err := exec.LookPath(command)
	return path, startError(command, err)
}

// startError gives an error of looking up or starting a command the exit code that shells give it.
func startError(command string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return &exitError{exitNotFound, fmt.Errorf("command %q not found", command)}
	}
	var inner *exec.Error
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return &exitError{exitNotExecutable, fmt.Errorf("command %q cannot be executed: %w", command, err)}
}

// take acquires the lock. The first attempt is one request that tells a store that does not answer, at once, from a
// lock that is held: for that alone it is worth to wait.
func (r *guarded) take(ctx context.Context, c *dynalock.Client) (*dynalock.Lock, error) {
	fill := func(o *dynalock.AcquireOptions) { *o = r.acquire }
	until := time.Now().Add(r.wait)
	l, err := c.TryAcquire(ctx, r.key, fill)
	var first, last *dynalock.HeldError
	if !errors.As(err, &first) {
		return l, err
	}
	if !r.forever {
		if !time.Now().Before(until) {
			return nil, first
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	if guard.IsTerminal(r.a.err) {
		r.warn("waiting: " + message(first))
	}
	l, err = c.Acquire(ctx, r.key, fill)
	if errors.As(err, &last) && last.Record.Version == "" { // too short to look again
		return nil, first
	}
	return l, err
}

// hold runs the command while l is held, and releases l once the command is dead.
func (r *guarded) hold(ctx context.Context, l *dynalock.Lock, o dynalock.Options, path string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(path, r.command[1:]...)
	cmd.Args[0] = r.command[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r.a.in, r.a.out, r.a.err
	cmd.Env = append(os.Environ(),
		"DYNALOCK_KEY="+r.key, "DYNALOCK_TOKEN="+strconv.FormatUint(l.Token(), 10),
		"DYNALOCK_TABLE="+r.a.table, "DYNALOCK_OWNER="+o.Owner)
	if r.a.endpoint != "" {
		cmd.Env = append(cmd.Env, "DYNALOCK_ENDPOINT_URL="+r.a.endpoint)
	}
	g, err := guard.Start(cmd)
	if err != nil {
		_ = r.release(ctx, l, false)
		return startError(r.command[0], err)
	}
	margin := o.SafetyMargin
	if margin == 0 {
		margin = o.Lease / 5
	}
	lost := r.supervise(l, g, margin)
	if err := r.release(ctx, l, lost); lost || err != nil {
		return &exitError{code: exitLost}
	}
	if code := g.Code(); code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// supervise passes signals on, and ends the command when the lock is lost. It returns when the whole group is dead,
// and tells whether the lock was lost by then. The killing is a timer's affair, so that a reader of our standard error
// who holds up what is said there does not hold up that.
func (r *guarded) supervise(l *dynalock.Lock, g *guard.Group, margin time.Duration) (lost bool) {
	done, exited := l.Done(), g.Exited()
	killBy := func(at time.Time) *time.Timer {
		return time.AfterFunc(time.Until(at), func() { g.Signal(syscall.SIGKILL) })
	}
	for {
		select {
		case <-g.Gone():
			if err := l.Err(); err != nil && !lost { // both at once
				lost = true
				r.warn(message(err))
			}
			return lost
		case s := <-r.signals:
			if s, ok := s.(syscall.Signal); ok {
				g.Pass(s)
			}
		case <-done:
			done, lost = nil, true
			g.Signal(syscall.SIGTERM)
			defer killBy(killTime(l, margin)).Stop()
			r.warn(message(l.Err()) + "; ending the command")
		case <-exited:
			exited = nil
			g.Signal(syscall.SIGTERM) // to what it left behind
			defer killBy(time.Now().Add(r.killAfter)).Stop()
		}
	}
}

// killTime is when a command that does not heed SIGTERM is killed after the loss of its lock. The lock counts as lost
// when the lease has no more than the safety margin left. Of that a quarter is kept for the killing. A loss that was
// told by the store comes earlier, and others may be at work already: the command does not get more time then.
func killTime(l *dynalock.Lock, margin time.Duration) time.Time {
	from := time.Now()
	if deadline := l.Deadline(); deadline.Before(from) { // noticed late
		from = deadline
	}
	return from.Add(margin - margin/4)
}

// release gives the lock back. An error says that it was lost before, and has been told; a store that does not answer
// is no error: the lock ends with its lease.
func (r *guarded) release(ctx context.Context, l *dynalock.Lock, lost bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if lost { // then it is a courtesy to those who wait
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	_, err := untilSignal(ctx, r.signals, func(ctx context.Context) (struct{}, error) { return struct{}{}, l.Release(ctx) })
	switch {
	case err == nil || lost:
		return nil
	case errors.Is(err, dynalock.ErrLost):
		r.warn(message(err))
		return err
	}
	r.warn(fmt.Sprintf("warning: %q was not released, and is held until its lease ends: %s", r.key, message(err)))
	return nil
}

// close joins what is under way: an attempt whose caller has gone is given back.
func (r *guarded) close(ctx context.Context, c *dynalock.Client) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, _ = untilSignal(ctx, r.signals, func(ctx context.Context) (struct{}, error) { return struct{}{}, c.Close(ctx) })
}

func (r *guarded) warn(text string) { r.a.say("dynalock-admin: " + clean(text)) }

// untilSignal calls f with a context that a signal ends. After a signal its error is an exitError with the code of
// that signal, and what f returned is returned nevertheless.
func untilSignal[T any](ctx context.Context, signals <-chan os.Signal, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	finished := make(chan struct{})
	got := make(chan os.Signal)
	go func() {
		defer close(got)
		select {
		case s := <-signals:
			cancel()
			got <- s
		case <-finished:
		}
	}()
	v, err := f(ctx)
	close(finished)
	if s, ok := (<-got).(syscall.Signal); ok {
		return v, &exitError{exitSignal + int(s), interrupted{s}}
	}
	return v, err
}
