package heartbeat

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// skewedClock belongs to one simulated machine. Its monotonic clock is the bubble's time; the others run ahead of it.
type skewedClock struct {
	start time.Time
	slew  time.Duration // by which the wall clock gains in a second

	mu         sync.Mutex
	boot, wall time.Duration
	hook       func()
}

func newSkewedClock() *skewedClock { return &skewedClock{start: time.Now()} }

func (c *skewedClock) Now() Reading {
	c.mu.Lock()
	hook := c.hook
	c.mu.Unlock()
	if hook != nil {
		hook()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	mono := time.Since(c.start)
	gained := time.Duration(mono.Seconds() * float64(c.slew))
	return Reading{Mono: mono, Boot: mono + c.boot, Wall: c.start.Add(mono + gained + c.wall)}
}

func (c *skewedClock) NewTimer(d time.Duration) Timer { return SystemClock().NewTimer(d) }

// onNow has fn called before each look at the clock.
func (c *skewedClock) onNow(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = fn
}

// suspend lets the machine sleep for d: its monotonic clock does not see it.
func (c *skewedClock) suspend(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boot += d
	c.wall += d
}

// step sets the wall clock.
func (c *skewedClock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall += d
}

func TestTheClockThatSaysMostTimeHasPassedDecides(t *testing.T) {
	t.Parallel()
	wall := time.Now() // with Go's monotonic reading, on which the wall clock must not depend
	early := Reading{Mono: time.Hour, Boot: 2 * time.Hour, Wall: wall}
	for name, c := range map[string]struct{ mono, boot, wall, elapsed, gap time.Duration }{
		"all agree":              {10, 10, 10, 10, 0},
		"suspended":              {10, 25, 25, 25, 15},
		"paused, wall put right": {10, 10, 40, 40, 30},
		"wall set back":          {10, 10, -50, 10, 0},
		"all stand still":        {0, 0, 0, 0, 0},
		"readings exchanged":     {-10, -10, -10, 0, 0},
	} {
		now := Reading{Mono: early.Mono + c.mono, Boot: early.Boot + c.boot, Wall: wall.Round(0).Add(c.wall)}
		if elapsed, gap := now.Since(early); elapsed != c.elapsed || gap != c.gap {
			t.Errorf("%s: elapsed %v, gap %v, want %v, %v", name, elapsed, gap, c.elapsed, c.gap)
		}
	}
}

// Only a machine whose wall clock is set while the test runs makes two such times, so their monotonic readings are put
// in by hand.
func TestTheWallClockIsNotTheMonotonicReadingThatItCarries(t *testing.T) {
	t.Parallel()
	early := time.Now()
	now := early.Add(time.Hour)
	(*struct { // time.Time
		wall uint64
		mono int64
		loc  *time.Location
	})(unsafe.Pointer(&now)).mono -= int64(time.Hour)
	if now.Sub(early) != 0 || now.Round(0).Sub(early.Round(0)) != time.Hour {
		t.Fatal("the two clocks do not differ, and nothing is shown")
	}
	if elapsed, gap := (Reading{Wall: now}).Since(Reading{Wall: early}); elapsed != time.Hour || gap != time.Hour {
		t.Errorf("elapsed %v, gap %v, want the hour that the wall clock shows", elapsed, gap)
	}
}

func TestSlewingExplainsAGapAndSuspensionDoesNot(t *testing.T) {
	t.Parallel()
	for elapsed, slewed := range map[time.Duration]time.Duration{
		time.Second: time.Second / 13, time.Hour: time.Hour / 13, 0: 50 * time.Millisecond,
	} {
		if unexplained(elapsed, slewed) {
			t.Errorf("a gap of %v in %v is not explained", slewed, elapsed)
		}
	}
	for elapsed, gap := range map[time.Duration]time.Duration{
		100 * time.Millisecond: 70 * time.Millisecond, time.Second: 200 * time.Millisecond, time.Hour: 10 * time.Minute,
	} {
		if !unexplained(elapsed, gap) {
			t.Errorf("a gap of %v in %v is explained", gap, elapsed)
		}
	}
}

func TestTheSystemClocksRunTogetherInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clock := SystemClock()
		early := clock.Now()
		time.Sleep(24 * time.Hour)
		elapsed, gap := clock.Now().Since(early)
		if over := elapsed - 24*time.Hour; over < 0 || unexplained(elapsed, gap) {
			t.Errorf("after a day of the bubble's time %v had passed, with a gap of %v", elapsed, gap)
		}
	})
}

func TestReadingTheSystemClockAllocatesNothing(t *testing.T) {
	clock := SystemClock()
	var r Reading
	if n := testing.AllocsPerRun(100, func() { r = clock.Now() }); n != 0 || r.Wall.IsZero() {
		t.Errorf("%v allocations, reading %v", n, r)
	}
}
