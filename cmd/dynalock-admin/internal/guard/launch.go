//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// The first argument of a copy of this program says what it is there for.
const (
	launchMode = "__launch"
	guardMode  = "__guard"
)

// Serve does what a copy of this program is there for, and ends the process. In any other process it returns at once.
func Serve(args []string) {
	if len(args) < 2 {
		return
	}
	switch {
	case args[1] == launchMode && len(args) > 3 && is(syscall.S_IFSOCK):
		launch(args[2], args[3:])
		os.Exit(1)
	case args[1] == guardMode && len(args) == 2 && is(syscall.S_IFIFO):
		os.Exit(stand())
	}
}

// is reports whether standard input is of a kind: what somebody types is no copy.
func is(kind uint32) bool {
	var s syscall.Stat_t
	return syscall.Fstat(0, &s) == nil && uint32(s.Mode)&syscall.S_IFMT == kind
}

// copyOf makes a copy of this program, whose file may have been replaced since it was started.
func copyOf(mode string, args ...string) *exec.Cmd {
	path := program()
	return &exec.Cmd{Path: path, Args: append([]string{"dynalock-admin", mode}, args...)}
}

// launcher is a process that becomes a command when it is told to.
type launcher struct {
	cmd     *exec.Cmd
	path    string // of the command
	stdin   *os.File
	control int // our end of a socket whose other end is the launcher's standard input
}

// newLauncher starts one. The control comes as standard input, and that of the command through it, because every other
// descriptor that we were given is the command's, too.
func newLauncher(cmd *exec.Cmd) (*launcher, error) {
	ends, err := socketpair()
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(ends[1]), "control")
	defer func() { _ = theirs.Close() }()
	l := &launcher{path: cmd.Path, control: ends[0]}
	l.stdin, _ = cmd.Stdin.(*os.File)
	l.cmd = copyOf(launchMode, append([]string{cmd.Path}, cmd.Args...)...)
	l.cmd.Env, l.cmd.Dir, l.cmd.SysProcAttr = cmd.Env, cmd.Dir, cmd.SysProcAttr
	l.cmd.Stdin, l.cmd.Stdout, l.cmd.Stderr = theirs, cmd.Stdout, cmd.Stderr
	if err := l.cmd.Start(); err != nil {
		_ = syscall.Close(l.control)
		return nil, err
	}
	return l, nil
}

// socketpair makes two connected sockets that no other program gets.
func socketpair() ([2]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return ends, os.NewSyscallError("socketpair", err)
	}
	syscall.CloseOnExec(ends[0])
	syscall.CloseOnExec(ends[1])
	return ends, nil
}

// run has it become the command. The error is that of execve, after which the launcher ends.
func (l *launcher) run() error {
	defer func() { _ = syscall.Close(l.control) }()
	rights := syscall.UnixRights(int(l.stdin.Fd()))
	if err := again(func() error { return syscall.Sendmsg(l.control, []byte{1}, rights, nil, 0) }); err != nil {
		if errors.Is(err, syscall.EPIPE) { // it has been killed, which its end tells
			return nil
		}
		return os.NewSyscallError("sendmsg", err)
	}
	answer, n := make([]byte, 16), 0
	err := again(func() (err error) { n, err = syscall.Read(l.control, answer); return err })
	if err != nil || n <= 0 { // closed by execve, or with the process
		return nil
	}
	errno, err := strconv.Atoi(string(answer[:n]))
	if err != nil {
		return fmt.Errorf("the launcher says %q", answer[:n])
	}
	return &fs.PathError{Op: "exec", Path: l.path, Err: syscall.Errno(errno)}
}

func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// launch is the launcher's side: it waits for the word and for its standard input, and becomes the command. It returns
// if that fails.
func launch(path string, args []string) {
	control, err := syscall.Dup(0) // the lowest that is free, and so none of the command's
	if err != nil {
		return
	}
	syscall.CloseOnExec(control)
	if err := becomes(control, path, args); err != nil {
		errno := syscall.EIO
		errors.As(err, &errno)
		_, _ = syscall.Write(control, []byte(strconv.Itoa(int(errno))))
	}
}

// becomes returns only if it fails, or nil where nobody is left to say the word.
func becomes(control int, path string, args []string) error {
	word, rights := make([]byte, 1), make([]byte, syscall.CmsgSpace(4))
	var n, m int
	err := again(func() (err error) { n, m, _, _, err = syscall.Recvmsg(control, word, rights, 0); return err })
	if err != nil || n == 0 {
		return err
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:m])
	if err != nil {
		return err
	}
	if len(messages) != 1 {
		return syscall.EBADMSG
	}
	files, err := syscall.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	if len(files) != 1 {
		return syscall.EBADMSG
	}
	_ = syscall.Close(0)
	if stdin, err := syscall.Dup(files[0]); err != nil || stdin != 0 {
		return syscall.EBADF
	}
	_ = syscall.Close(files[0])
	return syscall.Exec(path, args, os.Environ())
}
