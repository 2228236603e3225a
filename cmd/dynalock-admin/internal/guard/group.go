//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package guard

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// Group is a command and what it has started.
type Group struct {
	cmd    *exec.Cmd
	tty    *os.File // handed over to the command; nil: none
	exited chan struct{}
	gone   chan struct{}
}

// Start runs cmd, whose standard streams must be files. Where cmd reads from and writes to the terminal in whose
// foreground this process is, the command gets the foreground, until it exits.
//
// The calling goroutine must be locked to its thread (runtime.LockOSThread) until the command is dead: on Linux the
// kernel kills the command when that thread ends.
//
// From here on this process ignores what would stop or end it while the command runs on: a terminal's SIGTSTP, which
// the command inherits, SIGTTIN, SIGTTOU and SIGPIPE.
func Start(cmd *exec.Cmd) (*Group, error) {
	g := &Group{cmd: cmd, exited: make(chan struct{}), gone: make(chan struct{})}
	cmd.SysProcAttr = attributes()
	cmd.SysProcAttr.Setpgid = true
	in, inFile := cmd.Stdin.(*os.File)
	out, outFile := cmd.Stdout.(*os.File)
	if inFile && outFile && IsTerminal(out) && inForeground(in) {
		g.tty = in
		cmd.SysProcAttr.Foreground = true
		cmd.SysProcAttr.Ctty = int(in.Fd())
	}
	if signal.Ignored(syscall.SIGPIPE) { // since the command before this one, which it would inherit
		heed := []os.Signal{syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGPIPE}
		signal.Notify(make(chan os.Signal, 1), heed...) // Reset alone leaves them ignored
		signal.Reset(heed...)
	}
	signal.Ignore(syscall.SIGTSTP)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGPIPE)
	go g.wait()
	return g, nil
}

// wait follows the command, and then the rest of its group, to the end.
func (g *Group) wait() {
	_ = g.cmd.Wait() // ProcessState has it all
	if g.tty != nil {
		_ = setForeground(g.tty, syscall.Getpgrp()) // without a terminal there is nothing to take back
	}
	close(g.exited)
	for pause := time.Millisecond; alive(g.id()); pause = min(2*pause, 100*time.Millisecond) {
		time.Sleep(pause)
	}
	close(g.gone)
}

// id is that of the group, and of the command.
func (g *Group) id() int { return g.cmd.Process.Pid }

// Exited is closed when the command has ended.
func (g *Group) Exited() <-chan struct{} { return g.exited }

// Gone is closed when no process of the group runs any more.
func (g *Group) Gone() <-chan struct{} { return g.gone }

// Code is the command's exit code, or 128 and the number of the signal that ended it. It is valid once Exited is closed.
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

// Signal sends sig to the whole group. A group that is gone is no error: that is what signals are sent for.
func (g *Group) Signal(sig syscall.Signal) { _ = syscall.Kill(-g.id(), sig) }

// Pass passes a signal on that this process was sent. What asks to end goes to the whole group, as a terminal sends
// it, and wakes a stopped one; what only tells something (SIGHUP, SIGUSR1, SIGUSR2) goes to the command alone, whose
// helpers would die of it.
func (g *Group) Pass(sig syscall.Signal) {
	switch sig {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM:
		g.Signal(sig)
		g.Signal(syscall.SIGCONT)
	default:
		_ = g.cmd.Process.Signal(sig) // it may have ended
	}
}

// alive reports whether a process of the group runs. Zombies, which only wait for their parent to notice, do not.
func alive(pgid int) bool {
	if errors.Is(syscall.Kill(-pgid, 0), syscall.ESRCH) {
		return false
	}
	return running(pgid)
}
