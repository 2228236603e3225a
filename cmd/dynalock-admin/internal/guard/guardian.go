//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package guard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// guardian is the process that outlives this one, seen from here.
type guardian struct {
	cmd   *exec.Cmd
	pipe  *os.File // its end, before the guardian was ended by us, is ours
	since time.Time
	dead  chan struct{}
}

// newGuardian starts one. It writes to standard error what it has killed. A group is told to it before it begins, so
// that it knows it whenever this process ends; 0: it is told later.
func newGuardian(stderr *os.File, group int, deadline time.Time) (*guardian, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	g := &guardian{cmd: copyOf(guardMode), pipe: w, since: time.Now(), dead: make(chan struct{})}
	g.cmd.Dir, g.cmd.Env, g.cmd.Stdin, g.cmd.Stderr = "/", []string{}, r, stderr
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // neither a terminal nor a signal to our group reaches it
	if group > 0 {
		err = g.tell(group, deadline)
	}
	if err == nil {
		err = g.cmd.Start()
	}
	if err != nil {
		_ = w.Close()
		return nil, err
	}
	go func() {
		_ = g.cmd.Wait() // ProcessState has it
		close(g.dead)
	}()
	return g, nil
}

// tell says which group is to be killed, and when, if nothing else is told before.
func (g *guardian) tell(group int, deadline time.Time) error {
	if err := g.pipe.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(g.pipe, "%d %d\n", group, instant(deadline))
	return err
}

// dismiss ends it. It has no time to take our closing of the pipe for our end.
func (g *guardian) dismiss() {
	_ = g.cmd.Process.Kill() // it may be dead
	<-g.dead
	_ = g.pipe.Close()
}

// instant is a time by the clock that all processes of the machine share. This process may be stopped at any point
// here: what it tells then is too early, and never too late.
func instant(t time.Time) int64 {
	now := clock()
	return now + int64(time.Until(t))
}

// order is what a guardian was told.
type order struct {
	group    int   // 0: none yet
	deadline int64 // by clock
}

// orders are what a guardian reads, which may come in pieces.
type orders struct {
	rest []byte
	last order
}

func (o *orders) add(text []byte) {
	o.rest = append(o.rest, text...)
	end := bytes.LastIndexByte(o.rest, '\n')
	if end < 0 {
		return
	}
	line := o.rest[bytes.LastIndexByte(o.rest[:end], '\n')+1 : end]
	group, deadline, _ := strings.Cut(string(line), " ")
	if id, err := strconv.Atoi(group); err == nil && id > 1 {
		if at, err := strconv.ParseInt(deadline, 10, 64); err == nil {
			o.last = order{id, at}
		}
	}
	o.rest = append([]byte{}, o.rest[end+1:]...)
}

// stand is the guardian: it reads orders until the pipe's end, which is that of the process that it stands for.
func stand() int {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGPIPE, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
	closeInherited()
	if err := syscall.SetNonblock(0, true); err != nil {
		return 1
	}
	pipe := os.NewFile(0, "pipe")
	var told orders
	late := false // it has killed, and said so
	for buf := make([]byte, 4096); ; {
		wait := time.Second // the timer does not count a suspension of the machine
		if told.last.group > 0 && !late {
			wait = max(min(wait, time.Duration(told.last.deadline-clock())), 0)
		}
		_ = pipe.SetReadDeadline(time.Now().Add(wait))
		n, err := pipe.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) { // which it may be though there is something to read
			n, err = syscall.Read(0, buf)
			switch {
			case n == 0 && err == nil:
				err = io.EOF
			case errors.Is(err, syscall.EAGAIN):
				n, err = 0, nil
			}
		}
		switch {
		case n > 0:
			told.add(buf[:n])
		case err != nil && !errors.Is(err, syscall.EINTR):
			if told.last.group > 0 {
				slay(told.last.group, "the process that held the lock is gone")
			}
			return 0
		case told.last.group > 0 && clock() >= told.last.deadline:
			if !late {
				slay(told.last.group, "the process that holds the lock did not renew it in time")
			}
			late = true
			continue
		}
		late = late && clock() >= told.last.deadline
	}
}

// slay kills a group until it is dead, and says so. A reader that does not read delays nothing.
func slay(group int, why string) {
	for start, pause := time.Now(), time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := syscall.Kill(-group, syscall.SIGKILL)
		if err != nil || !alive(group) || time.Since(start) > time.Minute {
			break
		}
		time.Sleep(pause)
	}
	text := "dynalock-admin: " + why + "; its guardian has killed the command"
	if left := immune(group); left != nil {
		text += ", but " + left.Error()
	}
	said := make(chan struct{})
	go func() {
		defer close(said)
		_, _ = fmt.Fprintln(os.Stderr, text)
	}()
	select {
	case <-said:
	case <-time.After(time.Second):
	}
}

// closeInherited closes files that were open in the process which started this program, so that their end is not
// delayed. Files of this process are closed on exec.
func closeInherited() {
	names, _ := filepath.Glob("/dev/fd/*") // the pattern is good; on Linux a link to /proc/self/fd
	for _, name := range names {
		fd, err := strconv.Atoi(filepath.Base(name))
		if err != nil || fd <= 2 {
			continue
		}
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno == 0 && flags&syscall.FD_CLOEXEC == 0 {
			_ = syscall.Close(fd)
		}
	}
}
