package heartbeat

import "time"

// Reading is one look at a machine's three clocks at one instant. Only differences between two readings of one
// [Clock] mean anything.
type Reading struct {
	Mono time.Duration // monotonic clock (Go's): does not count suspension
	Boot time.Duration // boot-time clock: counts suspension (CLOCK_BOOTTIME on Linux; equals Mono elsewhere)
	Wall time.Time     // wall clock: may be stepped
}

// Since reports how much time has passed since earlier, by the clock that says that most has passed, and the gap: by
// how much that exceeds the time of the monotonic clock, because the machine was suspended or its wall clock was set
// forward. Neither is ever negative.
func (r Reading) Since(earlier Reading) (elapsed, gap time.Duration) {
	mono := max(r.Mono-earlier.Mono, 0)
	// Round(0) removes Go's monotonic reading, which Sub would otherwise use instead of the wall clock.
	elapsed = max(mono, r.Boot-earlier.Boot, r.Wall.Round(0).Sub(earlier.Wall.Round(0)))
	return elapsed, elapsed - mono
}

// after reports whether r was taken after o. During a suspension only the boot-time clock moves.
func (r Reading) after(o Reading) bool {
	return r.Mono > o.Mono || r.Mono == o.Mono && r.Boot > o.Boot
}

// unexplained tells a suspension or a step from slewing: chrony slews by 1/12 at most, and 50 ms is scheduling noise.
func unexplained(elapsed, gap time.Duration) bool {
	return gap > elapsed/8+50*time.Millisecond
}

// Clock is the seam through which simulations give each client clocks of its own. It must be safe for concurrent use,
// and must not block, because it is read with a mutex held. Timers run on the monotonic clock.
type Clock interface {
	Now() Reading
	NewTimer(d time.Duration) Timer
}

// Timer is what a [Scheduler] needs of a *time.Timer: after Reset and Stop no stale value is received.
type Timer interface {
	C() <-chan time.Time
	Reset(d time.Duration) bool
	Stop() bool
}

// SystemClock returns the clocks of this machine. To read them takes less than a microsecond and allocates nothing.
// Inside a testing/synctest bubble they run on the bubble's time, and show no suspension.
func SystemClock() Clock { return systemClock{} }

type systemClock struct{}

var started = time.Now()

// Now adds the suspension to Go's monotonic clock instead of reading CLOCK_BOOTTIME itself, because in a synctest
// bubble the two would run apart.
func (systemClock) Now() Reading {
	now := time.Now()
	mono := now.Sub(started)
	return Reading{Mono: mono, Boot: mono + suspended(), Wall: now}
}

func (systemClock) NewTimer(d time.Duration) Timer { return systemTimer{time.NewTimer(d)} }

type systemTimer struct{ *time.Timer }

func (t systemTimer) C() <-chan time.Time { return t.Timer.C }
