package guard

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// attributes have the kernel kill the command when this process dies, even if the guardian does not.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// program is the path of this program, also when its file has been replaced.
func program() string {
	const path = "/proc/self/exe"
	if _, err := os.Lstat(path); err == nil {
		return path
	}
	found, _ := exec.LookPath(os.Args[0]) // what cannot be found is not started, which is told
	return found
}

// clock is one that all processes of the machine share, which counts its suspension.
func clock() int64 {
	const boottime = 7 // CLOCK_BOOTTIME of clock_gettime(2)
	var ts syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, boottime, uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 { // forbidden by a sandbox
		return time.Now().UnixNano()
	}
	return ts.Nano()
}

// session is that of this process.
func session() int {
	id, _, _ := syscall.RawSyscall(syscall.SYS_GETSID, 0, 0, 0) // which always succeeds
	return int(id)
}

// notify has SIGCHLD come to keep, and SIGTSTP and SIGCONT to Jobs. Whoever started this program so that it ignores
// SIGTSTP has it ignored.
func (g *Group) notify() {
	signal.Notify(g.children, syscall.SIGCHLD)
	signal.Notify(g.jobs, syscall.SIGCONT)
	if !signal.Ignored(syscall.SIGTSTP) {
		signal.Notify(g.jobs, syscall.SIGTSTP)
	}
	if handler := stopHandler.Swap(nil); handler != nil {
		disposition(syscall.SIGTSTP, handler)
	}
}

// stopHandler is Go's for SIGTSTP while no command runs: package signal would leave it there, and us unstoppable.
var stopHandler atomic.Pointer[sigaction]

func (g *Group) forget() {
	signal.Stop(g.children)
	signal.Stop(g.jobs)
	if !signal.Ignored(syscall.SIGTSTP) {
		stopHandler.Store(disposition(syscall.SIGTSTP, new(sigaction)))
	}
}

// sigaction is no smaller than the kernel's. Its zero value is what a signal does by default.
type sigaction [8]uint64

// disposition sets what a signal does, and returns what it did.
func disposition(sig syscall.Signal, to *sigaction) (was *sigaction) {
	const size = 8 // of the kernel's sigset_t
	was = new(sigaction)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(was)), size, 0, 0)
	return was
}

// lookAfter sees whether the terminal has stopped the command, and reaps orphans.
func (g *Group) lookAfter() {
	switch sig := stopSignal(g.id()); sig {
	case syscall.SIGTSTP:
		g.stop(sig)
	case syscall.SIGTTIN, syscall.SIGTTOU:
		if g.tty != nil {
			if group, err := foreground(g.tty); err == nil && group == syscall.Getpgrp() { // the foreground is ours to give
				g.Resume()
				break
			}
		}
		g.stop(sig)
	}
	if adopts() {
		g.reap()
	}
}

func (g *Group) stop(sig syscall.Signal) {
	select {
	case g.stopped <- sig:
	default:
	}
}

// byDefault calls f while a signal does what it does by default, for which package signal has no way.
func byDefault(sig syscall.Signal, f func()) {
	handler := disposition(sig, new(sigaction))
	defer disposition(sig, handler)
	f()
}

// stopSignal is the signal that has stopped a child of ours since it was asked last; 0: none. It does not take the
// child's exit status away.
func stopSignal(pid int) syscall.Signal {
	const byPID, stopped, noHang = 1, 2, 1 // P_PID, WSTOPPED, WNOHANG of waitid(2)
	var info [32]int32                     // siginfo_t: signal, error, code; aligned: pid, user, status
	_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(pid),
		uintptr(unsafe.Pointer(&info)), stopped|noHang, 0, 0)
	const at = 3 + unsafe.Sizeof(uintptr(0))/8 // of the pid
	if errno != 0 || info[at] != int32(pid) {
		return 0
	}
	return syscall.Signal(info[at+2])
}

// adopts reports whether orphans become children of this process.
func adopts() bool {
	const getChildSubreaper = 37 // PR_GET_CHILD_SUBREAPER of prctl(2)
	var is int32
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, getChildSubreaper, uintptr(unsafe.Pointer(&is)), 0)
	return os.Getpid() == 1 || errno == 0 && is != 0
}

// reap takes note of orphans that have ended, which no other process does. Processes that this process itself has
// started (the command, the guardian, and those in its own group, such as a program for credentials) are waited for
// where they were started.
func (g *Group) reap() {
	for _, p := range processes() {
		ours := p.pid == g.id() || g.guardian != nil && p.pid == g.guardian.cmd.Process.Pid || p.group == syscall.Getpgrp()
		if p.dead && p.parent == os.Getpid() && !ours {
			_, _ = syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil) // it is dead
		}
	}
}

// process is what /proc tells of one.
type process struct {
	pid, parent, group int
	name               string
	dead               bool // all its threads
}

// processes are all that can be seen.
func processes() []process {
	var all []process
	names, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		if p, ok := parseStat(text); ok {
			all = append(all, p)
		}
	}
	return all
}

// running looks for a process of the group that is no zombie: where nobody reaps orphans, as in many containers, they
// stay forever. Where none can be seen at all, the group is believed to run.
func running(pgid int) bool {
	zombies := false
	for _, p := range processes() {
		switch {
		case p.group != pgid:
		case !p.dead:
			return true
		default:
			zombies = true
		}
	}
	return !zombies
}

// immune names the processes of the group that may not be signalled; nil if there are none. A signal to a group fails
// only if none of its processes may be signalled.
func immune(pgid int) error {
	if errors.Is(syscall.Kill(-pgid, 0), syscall.ESRCH) {
		return nil
	}
	var names []string
	for _, p := range processes() {
		if p.group == pgid && !p.dead && errors.Is(syscall.Kill(p.pid, 0), syscall.EPERM) {
			names = append(names, fmt.Sprintf("%d (%s)", p.pid, p.name))
		}
	}
	if names == nil {
		return nil
	}
	return fmt.Errorf("process %s may not be signalled", strings.Join(names, ", "))
}

// parseStat reads /proc/PID/stat.
func parseStat(text []byte) (p process, ok bool) {
	// The second field is the command's name in parentheses, and may contain anything.
	begin, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if begin < 0 || end < begin {
		return process{}, false
	}
	fields := bytes.Fields(text[end+1:])
	const state, parent, pgrp, threads = 0, 1, 2, 17
	if len(fields) <= threads {
		return process{}, false
	}
	p.name = string(text[begin+1 : end])
	for _, f := range []struct {
		to   *int
		text []byte
	}{{&p.pid, bytes.TrimSpace(text[:begin])}, {&p.parent, fields[parent]}, {&p.group, fields[pgrp]}} {
		n, err := strconv.Atoi(string(f.text))
		if err != nil {
			return process{}, false
		}
		*f.to = n
	}
	switch string(fields[state]) {
	case "Z", "X", "x":
		p.dead = string(fields[threads]) == "1" || string(fields[threads]) == "0" // a dead first thread may have others
	}
	return p, true
}
