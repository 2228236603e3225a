//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/cmd/dynalock-admin/internal/guard"
	"github.com/dynalock/dynalock/dynalock"
)

// patience is how long the end of an invocation waits for a store that does not answer, if a lock was held. A lock that
// is not released by then ends with its lease.
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
	told    syscall.Signal   // the last one passed on that tells to stop; 0: none

	ownOutput bool // standard output is for us alone
	won       bool // a lock was held at some time
	futile    bool // the store has nothing more to give: the lock is lost, or the store did not answer at its end

	quiet func() // see hush; nil: nothing is about to be said

	lease, heartbeat, margin, skew time.Duration
	killAfter                      time.Duration
	owner                          string

	forever  bool    // how long somebody else's lock is waited for
	wait     seconds // unless forever; 0: one attempt
	heldCode int
}

// lockFlags are the flags of all commands that hold a lock.
func (r *guarded) lockFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&r.lease, "lease", 0, "how long the lock outlives its last heartbeat (default 10s)")
	f.DurationVar(&r.heartbeat, "heartbeat", 0, "time between heartbeats (default a fifth of the lease)")
	f.DurationVar(&r.margin, "safety-margin", 0,
		"how long before the lease ends the lock counts as lost (default a fifth of the lease)")
	f.DurationVar(&r.skew, "max-clock-skew", 0,
		"take a lock at first sight if its stored expiry passed longer ago than this; clocks must agree that well (default: never)")
	f.DurationVar(&r.killAfter, "kill-after", 5*time.Second,
		"time from SIGTERM to SIGKILL for processes that the command left behind")
}

// waitFlags are the flags of all commands that can end without the lock.
func (r *guarded) waitFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.VarP(&r.wait, "wait", "w",
		"give up after this long: seconds, or a duration such as 1m30s (default: wait forever); 0: as --no-wait")
	f.BoolP("no-wait", "n", false, "make one attempt, and do not wait")
	f.IntVarP(&r.heldCode, "held-exit-code", "E", exitHeld, "exit code if another process holds the lock, 0 to 255")
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

// seconds is a flag that accepts seconds, as flock -w does, and durations, as all other flags of a time do.
type seconds time.Duration

// Set implements pflag.Value.
func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if number, bad := strconv.ParseFloat(text, 64); bad == nil {
		nanos := number * float64(time.Second)
		if math.IsNaN(nanos) || math.Abs(nanos) >= math.MaxInt64 {
			return errors.New("out of range")
		}
		d, err = time.Duration(nanos), nil
	}
	*s = seconds(d)
	return err
}

// String implements pflag.Value.
func (s *seconds) String() string {
	if *s == 0 {
		return "0" // which no help shows
	}
	return time.Duration(*s).String()
}

// Type implements pflag.Value.
func (s *seconds) Type() string { return "seconds" }

// takes has cmd accept arguments of these names, and after them -- and a command.
func takes(cmd *cobra.Command, names ...string) {
	example := func(args []string) error {
		text := strings.Join(names, " ") + " -- COMMAND"
		if len(args) > len(names) { // it has begun without --
			text = strings.Join(slices.Insert(slices.Clone(args), len(names), "--"), " ")
		}
		return usagef("%s needs exactly %s before --, as in: %[1]s %[3]s", cmd.Name(), strings.Join(names, " "), text)
	}
	cmd.Args = func(_ *cobra.Command, args []string) error {
		switch dash := cmd.ArgsLenAtDash(); {
		case dash < 0:
			return example(args)
		case dash != len(names):
			return example(nil)
		case len(args) == len(names):
			return usagef("%s needs a COMMAND after --", cmd.Name())
		}
		return nil
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if args := cmd.Flags().Args(); len(args) > len(names) { // it is a flag of the command's
			return example(append(slices.Clone(args), "..."))
		}
		return flagError(err)
	})
	cmd.ValidArgsFunction = filesAfter(len(names))
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
		return nil, usagef("--wait is %v, allowed: 0 or more", time.Duration(r.wait))
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
	if text := r.unsignalled(); text != "" {
		r.warn("warning: " + text + ": it may work on when the lock is lost; run dynalock-admin under sudo, not the command")
	}
	r.signals = make(chan os.Signal, 16)
	for _, s := range []os.Signal{
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1,
		syscall.SIGUSR2,
	} {
		if !signal.Ignored(s) { // as by nohup: then it stays ignored, here and in the command
			signal.Notify(r.signals, s)
		}
	}
	return c, nil
}

// unsignalled says why the processes of the command may not be signalled, if that can be known; else it is empty.
func (r *guarded) unsignalled() string {
	info, err := os.Stat(r.path)
	if err != nil {
		return "" // it cannot be started either
	}
	switch name := filepath.Base(r.path); name {
	case "sudo", "su", "doas", "pkexec":
		return fmt.Sprintf("a command that %s runs may not be signalled, or leaves its process group", name)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if ok && info.Mode()&fs.ModeSetuid != 0 && os.Geteuid() != 0 && int(owner.Uid) != os.Geteuid() {
		return fmt.Sprintf("the command %q is set-user-ID, and may not be signalled", r.command[0])
	}
	return ""
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

// patiently tries, and if another process holds the lock waits, as long as the flags say. The first attempt tells a
// store that does not answer from a lock that is held. Only for the lock is it worth waiting.
func (r *guarded) patiently(ctx context.Context, try func(ctx context.Context, wait bool) error) error {
	until := time.Now().Add(time.Duration(r.wait))
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
	if errors.As(err, &last) && last.Record.Version == "" || short && errors.Is(err, dynalock.ErrStore) {
		// the time was too short for another look
		return first
	}
	return err
}

// first makes the first attempt. It is bounded by --timeout, and by --wait.
func (r *guarded) first(ctx context.Context, try func(ctx context.Context, wait bool) error) error {
	limit := r.a.timeout
	if wait := time.Duration(r.wait); wait > 0 && (limit == 0 || wait < limit) {
		limit = wait
	}
	limited, cancel := within(ctx, limit)
	defer cancel()
	err := try(limited, false)
	if err == nil || r.won || limited.Err() == nil || ctx.Err() != nil || errors.Is(err, dynalock.ErrHeld) ||
		errors.Is(err, dynalock.ErrStore) {
		return err
	}
	return &exitError{exitStore, fmt.Errorf("no answer from table %q within %v", r.a.table, limit)}
}

// heldError gives the error of a lock that another process holds the exit code of the flags.
func (r *guarded) heldError(err error) error {
	if errors.Is(err, dynalock.ErrHeld) {
		return &exitError{r.heldCode, err}
	}
	return err
}

// ending is how the command ended.
type ending struct {
	code   int  // its exit code, or 128 and the number of the signal that killed it
	killed bool // by a signal
	lost   bool // the lock was lost before it was dead
}

// err is the exit code as an error. It has no text, because the user has been told.
func (e ending) err() error {
	switch {
	case e.lost:
		return &exitError{code: exitLost}
	case e.code != 0:
		return &exitError{code: e.code}
	}
	return nil
}

// work runs the command while l is held, with env added to its environment, and returns when its whole group is dead.
// The end of duty ends the command, too. An error says that the command was not started.
func (r *guarded) work(duty context.Context, l *dynalock.Lock, owner string, env ...string) (ending, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(r.path, r.command[1:]...)
	cmd.Args[0] = r.command[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r.a.in, r.a.out, r.a.err
	cmd.Env = append(slices.Clone(r.env), "DYNALOCK_KEY="+l.Key(), "DYNALOCK_TOKEN="+strconv.FormatUint(l.Token(), 10),
		"DYNALOCK_OWNER="+owner)
	cmd.Env = append(cmd.Env, env...)
	if r.ownOutput {
		cmd.Stdout = r.a.err
	}
	v := &supervision{guarded: r, lock: l, margin: cmp.Or(r.options.SafetyMargin, r.options.Lease/5)}
	every := min(cmp.Or(r.options.Heartbeat, r.options.Lease/5), v.margin) / 4
	g, err := guard.Start(cmd, v.deadline, max(every, 5*time.Millisecond))
	if err != nil {
		return ending{}, startError(r.command[0], err)
	}
	v.group = g
	lost := v.supervise(duty)
	if r.futile = lost; lost {
		r.quiet = r.saying(courtesy/5, "the command has ended; trying for a second to release the lock")
	} else {
		r.quiet = r.saying(time.Second,
			"the command has ended; trying to tell DynamoDB until the lease ends, or a signal comes")
	}
	return ending{g.Code(), g.Killed(), lost}, nil
}

// supervision watches a command while it runs.
type supervision struct {
	*guarded
	lock   *dynalock.Lock
	group  *guard.Group
	margin time.Duration
	lost   atomic.Pointer[time.Time] // when the command is killed after the loss of its lock; nil: it is not lost
}

// deadline is when the guardian kills the command if it hears no more of us. It is when we would kill the command
// ourselves if no further heartbeat were acknowledged.
func (v *supervision) deadline() time.Time {
	if at := v.lost.Load(); at != nil {
		return *at
	}
	return v.lock.Deadline().Add(v.margin - v.margin/4)
}

// supervise passes signals on, and ends the command when the lock is lost or duty is over. It returns when the whole
// group is dead, and reports whether the lock was lost by then. A timer does the killing, so that a slow reader of our
// standard error does not delay it.
func (v *supervision) supervise(duty context.Context) (lost bool) {
	l, g := v.lock, v.group
	done, over, exited := l.Done(), duty.Done(), g.Exited()
	killBy := func(at time.Time) *time.Timer {
		kill := func() { _ = g.Signal(syscall.SIGKILL) } // whom that does not reach was told before
		return time.AfterFunc(time.Until(at), kill)
	}
	var waking <-chan time.Time // the command is stopped, and it is not yet known whether the lock is still held
	for {
		select {
		case <-g.Gone():
			if err := l.Err(); err != nil && !lost { // both at once
				lost = true
				v.warn(message(err))
			}
			return lost
		case s := <-v.signals:
			if s, ok := s.(syscall.Signal); ok {
				if s != syscall.SIGUSR1 && s != syscall.SIGUSR2 {
					v.told = s
				}
				v.immune(g.Pass(s))
			}
		case <-done:
			done, over, lost = nil, nil, true
			at := killTime(l, v.margin)
			v.lost.Store(&at)
			err := g.End()
			defer killBy(at).Stop()
			v.warn(message(l.Err()) + "; ending the command")
			v.immune(err)
		case <-over:
			over = nil
			if l.Err() != nil { // that is why
				continue
			}
			err := g.End() // the lease is kept until it is dead
			defer killBy(time.Now().Add(v.killAfter)).Stop()
			v.warn(message(context.Cause(duty)) + "; ending the command")
			v.immune(err)
		case <-exited:
			exited = nil
			err := g.End() // what it left behind
			defer killBy(time.Now().Add(v.killAfter)).Stop()
			v.immune(err)
		case sig := <-g.Stopped():
			waking = v.suspend(sig)
		case s := <-g.Jobs():
			if s == syscall.SIGCONT {
				waking = v.resume()
				continue
			}
			_ = g.Signal(syscall.SIGSTOP) // whom that does not reach the guardian does not reach either
			waking = v.suspend(syscall.SIGTSTP)
		case <-waking:
			waking = v.resume()
		case text := <-g.Warnings():
			v.warn(text)
		}
	}
}

// immune warns of processes that a signal did not reach.
func (v *supervision) immune(err error) {
	if err != nil {
		v.warn("warning: " + err.Error() + ", and works on; run dynalock-admin under sudo, not the command")
	}
}

// suspend stops this process as the terminal has stopped the command. Nothing renews the lease then, and if that lasts
// too long the guardian kills the command in time. If this process cannot be stopped, a command that waits for the
// foreground is left waiting, because it would stop again at once.
func (v *supervision) suspend(by syscall.Signal) (waking <-chan time.Time) {
	stopped := v.group.Suspend(func() {
		v.warn(fmt.Sprintf("stopped: unless it is continued within %v the lock is lost, and the command killed",
			time.Until(v.lock.Deadline()).Round(time.Second/10)))
	})
	if !stopped && by != syscall.SIGTSTP {
		return nil
	}
	return v.resume()
}

// resume continues a command that was stopped, if the lock is still held. If it is lost, that ends the command.
func (v *supervision) resume() (waking <-chan time.Time) {
	switch {
	case v.lock.Held():
		v.group.Resume()
		return nil
	case v.lock.Err() != nil:
		return nil
	}
	return time.After(v.margin / 10) // a heartbeat decides it
}

// killTime is when a command that does not heed SIGTERM is killed after the loss of its lock. The lock counts as lost
// when the lease has no more than the safety margin left. A quarter of the margin is kept for the killing. A loss that
// the store has reported comes earlier, and others may be at work already, so the command does not get more time then.
func killTime(l *dynalock.Lock, margin time.Duration) time.Time {
	from := time.Now()
	if deadline := l.Deadline(); deadline.Before(from) { // noticed late
		from = deadline
	}
	return from.Add(margin - margin/4)
}

// close joins what is under way: a lock that an attempt wins after its caller has gone is released.
func (r *guarded) close(ctx context.Context, c *dynalock.Client) {
	defer signal.Stop(r.signals)
	limit := courtesy
	if r.won && !r.futile {
		limit = patience
	}
	defer r.hush()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, _ = untilSignal(ctx, r.signals, func(ctx context.Context) (struct{}, error) { return struct{}{}, c.Close(ctx) })
}

// hush stops the message that comes when the release takes long after the command's end: the release is done, or has
// not begun.
func (r *guarded) hush() {
	if r.quiet != nil {
		r.quiet()
		r.quiet = nil
	}
}

func (r *guarded) warn(text string) { r.a.say("dynalock-admin: " + clean(text)) }

// saying writes what is still being done, if that takes longer.
func (r *guarded) saying(after time.Duration, text string) (stop func()) {
	t := time.AfterFunc(after, func() { r.warn(text) })
	return func() { t.Stop() }
}

// listen has a signal cancel what is under way, until heard is called. heard returns the signal that came, if one did.
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
