package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/dynalock/dynalock/dynalock"
)

func TestTheCommandDiesWithDynalockAdmin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := w.lifeline()
	p := w.start([]string{"LIFELINE=" + line.path}, "run", key, "--", "sh", "-c",
		hold+`trap "" INT TERM HUP; echo ready; exec sleep 1000`)
	p.expect("ready")
	p.signal(syscall.SIGKILL)
	line.await(t)
	if r := w.record(); r.State != dynalock.Held {
		t.Errorf("the lock is %v, want held until its lease ends", r.State)
	}
}

func TestACommandThatIsStoppedIsWokenToEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(nil, "run", key, "--", "sh", "-c", `echo pid=$$; kill -STOP $$; echo woken`)
	_, pid, _ := strings.Cut(p.expect("pid="), "=")
	for deadline := time.Now().Add(patienceOfTests); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("not stopped: %s, %v", stat, err)
		}
		if strings.Contains(string(stat), ") T ") {
			break
		}
	}
	p.signal(syscall.SIGTERM)
	p.exits(128 + int(syscall.SIGTERM))
}

// terminal is a pseudo-terminal: the near end, as a person sees it, and the far end, as a program does.
func terminal(t *testing.T) (near, far *os.File) {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var number uint32
	var locked int32
	control(t, near, syscall.TIOCGPTN, unsafe.Pointer(&number))
	control(t, near, syscall.TIOCSPTLCK, unsafe.Pointer(&locked))
	far, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return near, far
}

func control(t *testing.T, f *os.File, request uintptr, arg unsafe.Pointer) {
	t.Helper()
	conn, err := f.SyscallConn() // Fd would make reading uninterruptible
	if err != nil {
		t.Fatal(err)
	}
	var errno syscall.Errno
	if err := conn.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(arg))
	}); err != nil || errno != 0 {
		t.Fatal(err, errno)
	}
}

// onTerminal runs a shell script on a terminal, in a session of its own.
func (w *world) onTerminal(script string) (near *os.File, lines <-chan string, done <-chan error) {
	w.t.Helper()
	near, far := terminal(w.t)
	cmd := w.command(nil, "sh", "-c", script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = far, far, far
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	// The far end stays open here, too: with the last one, what was not read yet can be lost.
	seen, ended := make(chan string, 1000), make(chan error, 1)
	go func() {
		defer close(seen)
		for s := bufio.NewScanner(near); s.Scan(); {
			w.t.Log("|", s.Text())
			seen <- strings.TrimRight(s.Text(), "\r")
		}
	}()
	go func() { ended <- cmd.Wait() }()
	w.t.Cleanup(func() {
		for _, s := range processes(w.t) { // if the test has failed, there is something left
			if s.session == cmd.Process.Pid {
				_ = syscall.Kill(s.pid, syscall.SIGKILL)
			}
		}
		_ = near.Close()
		for range seen {
		}
	})
	return near, seen, ended
}

// await waits for a line on the terminal.
func await(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	for timeout := time.After(patienceOfTests); ; {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the terminal hung up before %q", want)
			}
			if line == want {
				return
			}
		case <-timeout:
			t.Fatalf("no line %q", want)
		}
	}
}

func TestOnATerminalTheCommandHasTheForegroundAndAfterItWeHaveItAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// A process in the background that reads from the terminal would be stopped.
	near, lines, done := w.onTerminal(`stty -echo
		dynalock-admin run "$KEY" -- sh -c 'echo ready; read x; echo "command read $x"'
		read y; echo "shell read $y"`)
	await(t, lines, "ready")
	press(t, near, "one\n")
	await(t, lines, "command read one")
	press(t, near, "two\n")
	await(t, lines, "shell read two")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestOnATerminalInterruptsReachTheCommandAndStopsDoNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	near, lines, done := w.onTerminal(`stty -echo
		dynalock-admin run "$KEY" -- sh -c 'trap "echo interrupted; exit 9" INT; echo ready; read x; echo "read $x"; ` + idle + `'
		echo "exit $?"`)
	await(t, lines, "ready")
	press(t, near, "\x1a") // Ctrl-Z: neither the command nor its guard stops
	press(t, near, "on\n")
	await(t, lines, "read on")
	press(t, near, "\x03") // Ctrl-C
	await(t, lines, "interrupted")
	await(t, lines, "exit 9")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if r := w.record(); r.State != dynalock.Free {
		t.Errorf("the lock is %v", r.State)
	}
}

func TestInAPipelineTheTerminalStaysWithThePipeline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	near, lines, done := w.onTerminal(`stty -echo
		dynalock-admin run "$KEY" -- echo ready | { read x; echo "piped $x"; read y </dev/tty; echo "pager read $y"; }`)
	await(t, lines, "piped ready")
	press(t, near, "q\n")
	await(t, lines, "pager read q")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAReleaseThatWasConfirmedTooLateChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, err := w.other.Acquire(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	near, lines, done := w.onTerminal(`stty -echo; dynalock-admin release "$KEY"; echo "exit $?"`)
	await(t, lines, "Its lease has not expired: its holder may be alive and at work.")
	if err := first.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, err := w.other.Acquire(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	press(t, near, "yes\n")
	await(t, lines, "exit 77")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if r := w.record(); r.State != dynalock.Held || r.Token != second.Token() {
		t.Errorf("the lock is %v with token %d, want held with %d", r.State, r.Token, second.Token())
	}
}

func press(t *testing.T, near *os.File, keys string) {
	t.Helper()
	if _, err := near.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

func TestTheCommandOfALaterTermIgnoresNoMoreSignalsThanThatOfTheFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const show = `echo $(grep SigIgn /proc/self/status); `
	p := w.start(nil, "elect", key, "--lease", "2s", "--", "sh", "-c", `[ -e again ] || { : >again; `+show+idle+`}; `+show)
	first := p.expect("SigIgn")
	if err := w.other.ForceRelease(t.Context(), w.record()); err != nil {
		t.Fatal(err)
	}
	if second := p.expect("SigIgn"); second != first {
		t.Errorf("first %q, then %q", first, second)
	}
	p.exits(0)
}
