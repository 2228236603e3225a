package main

import (
	"syscall"
	"time"
)

// pause sleeps as precisely as the kernel does.
func pause(d time.Duration) {
	for end := time.Now().Add(d); d > 0; d = time.Until(end) {
		left := syscall.NsecToTimespec(d.Nanoseconds())
		_ = syscall.Nanosleep(&left, nil) // a signal ends it early
	}
}
