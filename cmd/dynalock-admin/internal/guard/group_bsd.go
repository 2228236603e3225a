//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package guard

import "syscall"

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// running: that a signal can be sent is all there is to know.
func running(int) bool { return true }
