//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/cmd/dynalock-admin/internal/guard"
	"github.com/dynalock/dynalock/dynalock"
)

// patience is how long an ending waits for a store that does not answer, where a lock was held. What is left undone then
// ends with its lease.
const patience = 5 * time.Second

// guarded is one invocation of run, once or elect: a command that runs while a lock is held.
type guarded struct {
	a       *app
	command []string
	path    string           // of the command's program
	env     []string         // the command's, but for what its lock adds
	options dynalock.Options // the client's
	signals chan os.Signal   // to be passed on, or to end a wait
	heard   func() error     // see listen

	ownOutput bool // standard output is for us alone
	won       bool // a lock was held at some time

	lease, heartbeat, margin, skew time.Duration
	killAfter                      time.Duration
	owner                          string

	forever  bool          // how long somebody else's lock is waited for
	wait     time.Duration // unless forever; 0: one attempt
	heldCode int
}

// lockFlags are those of everything that holds a lock.
func (r *guarded) lockFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&r.lease, "lease", 0, "how long the lock outlives its last heartbeat (default 10s)")
	f.DurationVar(&r.heartbeat, "heartbeat", 0, "time between heartbeats (default a fifth of the lease)")
	f.DurationVar(&r.margin, "safety-margin", 0, "how long before the lease ends the lock counts as lost (default a fifth of the lease)")
	f.DurationVar(&r.skew, "max-clock-skew", 0, "take a lock at first sight whose stored expiry passed longer ago than this; clocks must agree that well (default: never)")
	f.DurationVar(&r.killAfter, "kill-after", 5*time.Second, "time from SIGTERM to SIGKILL for what the command left behind")
}

// waitFlags are those of everything that can do without the lock.
func (r *guarded) waitFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&r.wait, "wait", 0, "give up after this long (default: wait for ever); 0: as --no-wait")
	f.Bool("no-wait", false, "make one attempt")
	f.IntVarP(&r.heldCode, "held-exit-code", "E", exitHeld, "exit code when somebody else holds the lock, 0 to 255")
	allow(cmd, "held-exit-code", "0 to 255")
	f.StringVar(&r.owner, "owner", "", "label of the holder (default host/pid/random)")
	cmd.MarkFlagsMutuallyExclusive("wait", "no-wait") // for the shell; what cobra would say comes after this
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if f.Changed("wait") && f.Changed("no-wait") {
			return usagef("--wait and --no-wait are both set, allowed: one of them")
		}
		return nil
	}
}

// before accepts arguments of these names, and after them -- and a command.
func before(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch dash := cmd.ArgsLenAtDash(); {
		case dash != len(names):
			return usagef("%s needs exactly %s before --, as in: %[1]s %[2]s -- COMMAND", cmd.Name(), strings.Join(names, " "))
		case len(args) == len(names):
			return usagef("%s needs a COMMAND after --", cmd.Name())
		}
		return nil
	}
}

// filesAfter has the shell complete files behind n arguments: the command and its arguments.
func filesAfter(n int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) < n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveDefault
	}
}

// prepare checks what the flags say, finds the command, and makes the client. From here on signals come to us.
func (r *guarded) prepare(ctx context.Context, cmd *cobra.Command, command []string) (*dynalock.Client, error) {
	f := cmd.Flags()
	noWait, _ := f.GetBool("no-wait") // there may be no such flag
	r.forever = !noWait && !f.Changed("wait")
	switch {
	case r.wait < 0:
		return nil, usagef("--wait is %v, allowed: 0 or more", r.wait)
	case r.killAfter < 0:
		return nil, usagef("--kill-after is %v, allowed: 0 or more", r.killAfter)
	case r.heldCode < 0 || r.heldCode > 255:
		return nil, usagef("--held-exit-code is %d, allowed: 0 to 255", r.heldCode)
	}
	r.command, r.env = command, r.a.environ(cmd.Root().PersistentFlags())
	var err error
	if r.path, err = r.a.lookUp(command[0]); err != nil {
		return nil, startError(command[0], err)
	}
	c, err := r.a.client(ctx, func(o *dynalock.Options) {
		o.Lease, o.Heartbeat, o.SafetyMargin, o.MaxClockSkew, o.Owner = r.lease, r.heartbeat, r.margin, r.skew, r.owner
	})
	if err != nil {
		return nil, err
	}
	r.options = c.Options()
	r.signals = make(chan os.Signal, 16)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
		if !signal.Ignored(s) { // as by nohup: then it stays ignored, here and in the command
			signal.Notify(r.signals, s)
		}
	}
	return c, nil
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

// patiently tries, and where somebody else is in the way waits, as long as the flags say. The first attempt tells a
// store that does not answer, at once, from a lock that is held: for that alone it is worth to wait.
func (r *guarded) patiently(ctx context.Context, try func(ctx context.Context, wait bool) error) error {
	until := time.Now().Add(r.wait)
	err := r.first(ctx, try)
	var first, last *dynalock.HeldError
	if !errors.As(err, &first) {
		return err
	}
	if !r.forever {
		if !time.Now().Before(until) {
			return first
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	if guard.IsTerminal(r.a.err) {
		r.warn("waiting: " + message(first))
	}
	short := !r.forever && time.Until(until) < cmp.Or(r.options.AttemptTimeout, time.Second)
	err = try(ctx, true)
	if errors.As(err, &last) && last.Record.Version == "" || short && errors.Is(err, dynalock.ErrStore) { // too short to look again
		return first
	}
	return err
}

// first makes the first attempt, for which there is as much time as for anything that is asked, and no more than to wait.
func (r *guarded) first(ctx context.Context, try func(ctx context.Context, wait bool) error) error {
	limit := r.a.timeout
	if r.wait > 0 && (limit == 0 || r.wait < limit) {
		limit = r.wait
	}
	limited, cancel := within(ctx, limit)
	defer cancel()
	err := try(limited, false)
	if err == nil || r.won || limited.Err() == nil || ctx.Err() != nil || errors.Is(err, dynalock.ErrHeld) || errors.Is(err, dynalock.ErrStore) {
		return err
	}
	return &exitError{exitStore, fmt.Errorf("no answer from table %q within %v", r.a.table, limit)}
}

// heldError gives a lock that somebody else holds the exit code of the flags.
func (r *guarded) heldError(err error) error {
	if errors.Is(err, dynalock.ErrHeld) {
		return &exitError{r.heldCode, err}
	}
	return err
}

// ending is how the command came to its end.
type ending struct {
	code   int  // its exit code, or 128 and the number of the signal that killed it
	killed bool // by a signal
	lost   bool // the lock was lost before it was dead
}

// err is the exit code as an error. What there is to say has been said.
func (e ending) err() error {
	switch {
	case e.lost:
		return &exitError{code: exitLost}
	case e.code != 0:
		return &exitError{code: e.code}
	}
	return nil
}

// work runs the command while l is held, with more variables in its environment, and returns when all of its group is
// dead. An end of duty ends the command, too. An error says that it was not started.
func (r *guarded) work(duty context.Context, l *dynalock.Lock, owner string, env ...string) (ending, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(r.path, r.command[1:]...)
	cmd.Args[0] = r.command[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r.a.in, r.a.out, r.a.err
	cmd.Env = append(slices.Clone(r.env), "DYNALOCK_KEY="+l.Key(), "DYNALOCK_TOKEN="+strconv.FormatUint(l.Token(), 10), "DYNALOCK_OWNER="+owner)
	cmd.Env = append(cmd.Env, env...)
	if r.ownOutput {
		cmd.Stdout = r.a.err
	}
	g, err := guard.Start(cmd)
	if err != nil {
		return ending{}, startError(r.command[0], err)
	}
	lost := r.supervise(duty, l, g)
	return ending{g.Code(), g.Killed(), lost}, nil
}

// supervise passes signals on, and ends the command when the lock is lost or its duty over. It returns when the whole
// group is dead, and tells whether the lock was lost by then. The killing is a timer's affair, so that a reader of our
// standard error who holds up what is said there does not hold up that.
func (r *guarded) supervise(duty context.Context, l *dynalock.Lock, g *guard.Group) (lost bool) {
	margin := cmp.Or(r.options.SafetyMargin, r.options.Lease/5)
	done, over, exited := l.Done(), duty.Done(), g.Exited()
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
			done, over, lost = nil, nil, true
			g.Signal(syscall.SIGTERM)
			defer killBy(killTime(l, margin)).Stop()
			r.warn(message(l.Err()) + "; ending the command")
		case <-over:
			over = nil
			if l.Err() != nil { // that is why
				continue
			}
			g.Signal(syscall.SIGTERM) // the lease is kept until it is dead
			defer killBy(time.Now().Add(r.killAfter)).Stop()
			r.warn(message(context.Cause(duty)) + "; ending the command")
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

// close joins what is under way: an attempt whose caller has gone is given back.
func (r *guarded) close(ctx context.Context, c *dynalock.Client) {
	defer signal.Stop(r.signals)
	limit := courtesy
	if r.won {
		limit = patience
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, _ = untilSignal(ctx, r.signals, func(ctx context.Context) (struct{}, error) { return struct{}{}, c.Close(ctx) })
}

func (r *guarded) warn(text string) { r.a.say("dynalock-admin: " + clean(text)) }

// listen has a signal cancel what is under way, until heard is called, which tells the one that came, if one did.
func (r *guarded) listen(cancel func()) { r.heard = onSignal(r.signals, cancel) }

// untilSignal calls f with a context that a signal ends. After a signal its error is an exitError with the code of
// that signal, and what f returned is returned nevertheless.
func untilSignal[T any](ctx context.Context, signals <-chan os.Signal, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	heard := onSignal(signals, cancel)
	v, err := f(ctx)
	if e := heard(); e != nil {
		return v, e
	}
	return v, err
}

// onSignal calls cancel when a signal comes. heard ends that; its error is an exitError with the code of the signal
// that came.
func onSignal(signals <-chan os.Signal, cancel func()) (heard func() error) {
	finished, got := make(chan struct{}), make(chan os.Signal)
	go func() {
		defer close(got)
		select {
		case s := <-signals:
			cancel()
			got <- s
		case <-finished:
		}
	}()
	return func() error {
		close(finished)
		if s, ok := (<-got).(syscall.Signal); ok {
			return &exitError{exitSignal + int(s), interrupted{s}}
		}
		return nil
	}
}
