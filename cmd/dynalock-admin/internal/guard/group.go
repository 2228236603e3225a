//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package guard

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// Group is a command and the processes that it has started.
type Group struct {
	cmd      *exec.Cmd
	stderr   *os.File
	tty      *os.File // the command's, and ours; nil: none
	deadline func() time.Time

	guardian *guardian // of start, then of keep; nil: it ended, and there is no other yet
	tried    time.Time // to start one
	children chan os.Signal
	jobs     chan os.Signal
	stopped  chan syscall.Signal
	warnings chan string

	exited chan struct{}
	dead   chan struct{}
	gone   chan struct{}
}

// Start runs cmd, whose standard streams must be files. If cmd reads from and writes to the terminal in whose
// foreground this process is, the command gets the foreground until it exits.
//
// The guardian kills the command at the deadline. deadline is called from another goroutine, every now and then, until
// the group is dead. It must not block.
//
// The calling goroutine must be locked to its thread (runtime.LockOSThread) until the command is dead: on Linux the
// kernel kills the command when that thread ends.
//
// From here on this process ignores signals that would stop or end it while the command runs on: SIGTTIN, SIGTTOU and
// SIGPIPE. A terminal's SIGTSTP comes to Jobs. On systems without Jobs it is ignored, here and in the command.
func Start(cmd *exec.Cmd, deadline func() time.Time, every time.Duration) (*Group, error) {
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	g := &Group{
		deadline: deadline,
		children: make(chan os.Signal, 1), jobs: make(chan os.Signal, 16),
		stopped: make(chan syscall.Signal, 1), warnings: make(chan string, 16),
		exited: make(chan struct{}), dead: make(chan struct{}), gone: make(chan struct{}),
	}
	g.stderr, _ = cmd.Stderr.(*os.File)
	cmd.SysProcAttr = attributes()
	cmd.SysProcAttr.Setpgid = true
	in, inFile := cmd.Stdin.(*os.File)
	out, outFile := cmd.Stdout.(*os.File)
	if inFile && outFile && IsTerminal(out) {
		if group, err := foreground(in); err == nil {
			g.tty = in
			if group == syscall.Getpgrp() {
				cmd.SysProcAttr.Foreground = true
				cmd.SysProcAttr.Ctty = int(in.Fd())
			}
		}
	}
	if signal.Ignored(syscall.SIGPIPE) { // since the command before this one, which it would inherit
		heed := []os.Signal{syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGPIPE}
		signal.Notify(make(chan os.Signal, 1), heed...) // Reset alone leaves them ignored
		signal.Reset(heed...)
	}
	g.notify()
	if err := g.start(cmd); err != nil {
		g.forget()
		return nil, err
	}
	signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGPIPE)
	go g.keep(every)
	go g.wait()
	return g, nil
}

// start starts the guardian, and then the command, which runs only when the guardian knows of it.
func (g *Group) start(cmd *exec.Cmd) error {
	guardian, err := newGuardian(g.stderr, 0, time.Time{})
	if err != nil {
		return fmt.Errorf("its guardian cannot be started: %w", err)
	}
	l, err := newLauncher(cmd)
	if err == nil {
		g.guardian, g.cmd = guardian, l.cmd
		if err = guardian.tell(g.id(), g.deadline()); err == nil {
			if err = l.run(); err == nil {
				return nil
			}
		} else {
			err = fmt.Errorf("its guardian has ended: %w", err)
			_ = syscall.Close(l.control)
		}
		_ = l.cmd.Wait() // it failed, or was not told to run
		signal.Ignore(syscall.SIGTTOU)
		g.takeBack()
	}
	guardian.dismiss()
	return err
}

// wait follows the command, and then the rest of its group, to the end.
func (g *Group) wait() {
	_ = g.cmd.Wait() // ProcessState has it all
	g.takeBack()
	close(g.exited)
	for pause := time.Millisecond; alive(g.id()); pause = min(2*pause, 100*time.Millisecond) {
		time.Sleep(pause)
	}
	close(g.dead)
}

// keep extends the time of the command, replaces a guardian that has ended, and looks after this process's children.
// Except for the command, children are started and reaped only here.
func (g *Group) keep(every time.Duration) {
	defer close(g.gone)
	defer g.forget()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var told time.Time
	for {
		var ended <-chan struct{}
		var retry <-chan time.Time
		if g.guardian != nil {
			ended = g.guardian.dead
		} else {
			retry = time.After(time.Until(g.tried.Add(time.Second)))
		}
		select {
		case <-retry:
			g.replace("")
		case <-g.dead:
			if g.guardian != nil {
				g.guardian.dismiss()
			}
			return
		case <-g.children:
			g.lookAfter()
		case <-ended:
			g.replace(fmt.Sprintf("warning: the guardian of the command ended (%v)", g.guardian.cmd.ProcessState))
		case <-tick.C:
			if at := g.deadline(); g.guardian != nil && !at.Equal(told) {
				told = at
				if err := g.guardian.tell(g.id(), at); err != nil {
					g.replace("warning: the guardian of the command does not listen")
				}
			}
		}
	}
}

// replace starts another guardian, a second later if the present one is younger than that.
func (g *Group) replace(why string) {
	if old := g.guardian; old != nil {
		old.dismiss()
		g.guardian, g.tried = nil, old.since
		if time.Since(old.since) < time.Second {
			g.warn(why + "; another one is started soon")
			return
		}
	}
	g.tried = time.Now()
	next, err := newGuardian(g.stderr, g.id(), g.deadline())
	switch {
	case err == nil:
		g.guardian = next
		if why != "" {
			g.warn(why + "; another one has taken its place")
		}
	case why != "":
		g.warn(fmt.Sprintf("%s, and no other can be started; retrying: %v", why, err))
	}
}

// warn leaves a text for the reader of Warnings, and drops it if there is none.
func (g *Group) warn(text string) {
	select {
	case g.warnings <- text:
	default:
	}
}

// id is that of the group, and of the command.
func (g *Group) id() int { return g.cmd.Process.Pid }

// Exited is closed when the command has ended.
func (g *Group) Exited() <-chan struct{} { return g.exited }

// Gone is closed when no process of the group runs any more.
func (g *Group) Gone() <-chan struct{} { return g.gone }

// Warnings are for people.
func (g *Group) Warnings() <-chan string { return g.warnings }

// Stopped receives the signal by which the terminal has stopped the command: SIGTSTP when its stop key was pressed,
// SIGTTIN or SIGTTOU when the command reads from it, or writes to it, in the background. Then this process is to
// Suspend itself.
func (g *Group) Stopped() <-chan syscall.Signal { return g.stopped }

// Jobs receives the SIGTSTP and the SIGCONT that are sent to this process.
func (g *Group) Jobs() <-chan os.Signal { return g.jobs }

// Code is the command's exit code, or 128 and the number of the signal that ended it. It is valid once Exited is
// closed.
func (g *Group) Code() int {
	status, ok := g.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return g.cmd.ProcessState.ExitCode()
}

// Killed reports whether a signal ended the command. It is valid once Exited is closed.
func (g *Group) Killed() bool {
	status, ok := g.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// Signal sends sig to the whole group. A group that is gone is no error. The error names processes that may not be
// signalled.
func (g *Group) Signal(sig syscall.Signal) error {
	err := syscall.Kill(-g.id(), sig)
	if left := immune(g.id()); left != nil {
		return left
	}
	if errors.Is(err, syscall.EPERM) && alive(g.id()) { // where no more is known
		return errors.New("the command may not be signalled")
	}
	return nil
}

// End asks the group to end, and wakes it if it is stopped.
func (g *Group) End() error {
	err := g.Signal(syscall.SIGTERM)
	_ = syscall.Kill(-g.id(), syscall.SIGCONT) // as above
	return err
}

// Pass passes a signal on that was sent to this process. A signal that asks to end goes to the whole group, as a
// terminal sends it, and wakes a stopped group. Other signals (SIGHUP, SIGUSR1, SIGUSR2) go to the command alone,
// because its helpers would die of them.
func (g *Group) Pass(sig syscall.Signal) error {
	switch sig {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM:
		err := g.Signal(sig)
		_ = syscall.Kill(-g.id(), syscall.SIGCONT) // as above
		return err
	}
	if err := g.cmd.Process.Signal(sig); errors.Is(err, syscall.EPERM) {
		return errors.New("the command may not be signalled")
	}
	return nil // it may have ended
}

// Suspend stops this process, with the rest of its own group, as the terminal's stop key does, and returns when it is
// continued. Before that it calls say. If no shell could continue it, it is not stopped; it takes a second to find that
// out.
func (g *Group) Suspend(say func()) (stopped bool) {
	if session() == syscall.Getpgrp() { // an orphaned group, which the kernel does not stop
		return false
	}
	say()
	for len(g.jobs) > 0 {
		<-g.jobs
	}
	byDefault(syscall.SIGTSTP, func() {
		_ = syscall.Kill(0, syscall.SIGTSTP) // our own group
		select {
		case <-g.jobs: // SIGCONT
			stopped = true
		case <-time.After(time.Second): // it was orphaned nevertheless
		}
	})
	return stopped
}

// Resume continues the command. It gets the terminal's foreground if that is ours.
func (g *Group) Resume() {
	if g.tty != nil {
		if group, err := foreground(g.tty); err == nil && group == syscall.Getpgrp() {
			_ = setForeground(g.tty, g.id()) // without a terminal there is nothing to give
		}
	}
	_ = syscall.Kill(-g.id(), syscall.SIGCONT) // it may be dead
}

// takeBack has this process in the foreground again, if its command was.
func (g *Group) takeBack() {
	if g.tty == nil {
		return
	}
	if group, err := foreground(g.tty); err == nil && group == g.id() {
		_ = setForeground(g.tty, syscall.Getpgrp()) // without a terminal there is nothing to take back
	}
}

// alive reports whether a process of the group runs. Zombies, which only wait for their parent to notice, do not.
func alive(pgid int) bool {
	if errors.Is(syscall.Kill(-pgid, 0), syscall.ESRCH) {
		return false
	}
	return running(pgid)
}
