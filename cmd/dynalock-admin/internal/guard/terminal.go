//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package guard

import (
	"os"
	"syscall"
	"unsafe"
)

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	var size [4]uint16
	return ioctl(f, syscall.TIOCGWINSZ, unsafe.Pointer(&size)) == nil
}

// inForeground reports whether f is this process's terminal, and this process in the foreground of it.
func inForeground(f *os.File) bool {
	var group int32
	return ioctl(f, syscall.TIOCGPGRP, unsafe.Pointer(&group)) == nil && int(group) == syscall.Getpgrp()
}

// setForeground puts a process group into the foreground of the terminal. From the background that needs SIGTTOU
// to be ignored.
func setForeground(f *os.File, group int) error {
	id := int32(group)
	return ioctl(f, syscall.TIOCSPGRP, unsafe.Pointer(&id))
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
