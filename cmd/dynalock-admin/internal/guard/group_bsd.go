//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package guard

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// program is the path of this program.
func program() string {
	path, err := os.Executable()
	if err != nil {
		path, _ = exec.LookPath(os.Args[0]) // what cannot be found is not started, which is told
	}
	return path
}

// clock is one that all processes of the machine share.
func clock() int64 { return time.Now().UnixNano() }

// session is that of this process, as far as is known: none.
func session() int { return 0 }

// notify keeps the terminal's stop key from everybody: no stop of the command would be seen.
func (g *Group) notify() { signal.Ignore(syscall.SIGTSTP) }

// byDefault is of no use where no stop is seen.
func byDefault(_ syscall.Signal, f func()) { f() }

func (g *Group) forget() {}

func (g *Group) lookAfter() {}

// running: that a signal can be sent is all there is to know.
func running(int) bool { return true }

// immune: who may not be signalled is not known.
func immune(int) error { return nil }
