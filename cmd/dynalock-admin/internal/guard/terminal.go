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

// foreground is the process group in the foreground of f, where that is this process's terminal.
func foreground(f *os.File) (int, error) {
	var group int32
	err := ioctl(f, syscall.TIOCGPGRP, unsafe.Pointer(&group))
	return int(group), err
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
