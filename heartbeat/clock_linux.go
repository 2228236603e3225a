package heartbeat

import (
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Clock ids of clock_gettime(2), which package syscall does not name.
const (
	clockMonotonic = 1
	clockBoottime  = 7
)

// lastSuspended is what suspended last answered.
var lastSuspended atomic.Int64

// suspended is the time that the machine has spent suspended since it booted.
//
// It is the difference of two reads, and a thread that loses its CPU between them sees too large a one; on a
// throttled container that would look like a suspension every few minutes. The error is never negative, so a
// difference that grew is read again, and the least counts.
func suspended() time.Duration {
	last, least := lastSuspended.Load(), bootMinusMono()
	for range 2 {
		if least <= last+int64(time.Millisecond) {
			break
		}
		least = min(least, bootMinusMono())
	}
	if least >= last && least <= last+int64(time.Millisecond) {
		return time.Duration(last)
	}
	lastSuspended.Store(least)
	return time.Duration(least)
}

func bootMinusMono() int64 {
	mono := clockGettime(clockMonotonic) // first, or the error would be negative
	return clockGettime(clockBoottime) - mono
}

// clockGettime is 0 where a sandbox forbids the call: then the boot-time clock equals the monotonic one.
func clockGettime(id uintptr) int64 {
	var ts syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		return 0
	}
	return ts.Nano()
}
