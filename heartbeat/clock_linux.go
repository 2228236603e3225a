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
func suspended() time.Duration {
	last := lastSuspended.Load()
	now := steady(last, bootMinusMono)
	if now != last {
		lastSuspended.Store(now)
	}
	return time.Duration(now)
}

// steady reads the difference of two clocks. A thread that loses its CPU between the two reads sees a difference that
// is too large. In a throttled container that would look like a suspension every few minutes. The error is never
// negative, so a difference that grew is read again, and the smallest one counts.
func steady(last int64, read func() int64) int64 {
	const noise = int64(time.Millisecond)
	least := read()
	for i := 0; i < 2 && least > last+noise; i++ {
		least = min(least, read())
	}
	if least >= last && least <= last+noise {
		return last
	}
	return least
}

func bootMinusMono() int64 {
	mono := clockGettime(clockMonotonic) // first, or the error would be negative
	return clockGettime(clockBoottime) - mono
}

// clockGettime is 0 if a sandbox forbids the call: then the boot-time clock equals the monotonic one.
func clockGettime(id uintptr) int64 {
	var ts syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		return 0
	}
	return ts.Nano()
}
