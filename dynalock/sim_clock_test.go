package dynalock_test

import (
	"context"
	"time"

	"github.com/dynalock/dynalock/heartbeat"
)

// clockPlan is how the clocks of one simulated machine run against real time, which is the bubble's.
type clockPlan struct {
	Mono, Wall float64       // rates
	Offset     time.Duration // of the wall clock at the beginning
	NoBoot     bool          // the boot-time clock is only the monotonic one, as outside Linux
	Steps      []wallStep    // in order
	Pauses     []pause       // in order, not overlapping
}

// wallStep sets the wall clock forward, or back where By is negative.
type wallStep struct{ At, By time.Duration }

// pause is a time in which the process does not run.
type pause struct {
	At, For time.Duration
	Kind    pauseKind
}

type pauseKind string

const (
	stopped   pauseKind = "stopped"   // SIGSTOP, or a long stop of the garbage collector: the clocks run on
	suspended pauseKind = "suspended" // the machine sleeps: its monotonic clock stands still
	untraced  pauseKind = "untraced"  // a paused virtual machine: every clock stands still. Beyond what a lease can bear
)

func (p pause) end() time.Duration { return p.At + p.For }

// simClock is the clocks of one client. Every reading is a function of the real time, so it needs no lock.
type simClock struct {
	clockPlan
	began time.Time
}

func (c *simClock) Now() heartbeat.Reading { return c.at(time.Since(c.began)) }

func (c *simClock) at(truly time.Duration) heartbeat.Reading {
	var asleep, gone time.Duration // gone: no clock shows it
	for _, p := range c.Pauses {
		if truly <= p.At {
			break
		}
		switch d := min(truly, p.end()) - p.At; p.Kind {
		case suspended:
			asleep += d
		case untraced:
			gone += d
		}
	}
	mono := scale(truly-asleep-gone, c.Mono)
	boot := mono + asleep
	if c.NoBoot {
		boot = mono
	}
	wall := c.began.Round(0).Add(c.Offset + scale(truly-gone, c.Wall))
	for _, s := range c.Steps {
		if truly >= s.At {
			wall = wall.Add(s.By)
		}
	}
	return heartbeat.Reading{Mono: mono, Boot: boot, Wall: wall}
}

func scale(d time.Duration, rate float64) time.Duration { return time.Duration(float64(d) * rate) }

// until is the real time in which the monotonic clock moves on by d and the process runs again.
func (c *simClock) until(d time.Duration) time.Duration {
	now := time.Since(c.began)
	at := now + scale(max(d, 0), 1/c.Mono)
	if d > 0 {
		at++ // never early by rounding
	}
	for _, p := range c.Pauses {
		if at < p.At || now >= p.end() {
			continue
		}
		if p.Kind == stopped {
			at = max(at, p.end())
		} else {
			at += p.end() - max(p.At, now)
		}
	}
	return at - now
}

// awake waits until the process runs; false: ctx ended first.
func (c *simClock) awake(ctx context.Context) bool {
	now := time.Since(c.began)
	for _, p := range c.Pauses {
		if p.At <= now && now < p.end() {
			t := time.NewTimer(p.end() - now)
			defer t.Stop()
			select {
			case <-t.C:
			case <-ctx.Done():
				return false
			}
		}
	}
	return true
}

// paused is how much of the real time between two instants the process did not run.
func (c *simClock) paused(from, to time.Duration) (d time.Duration) {
	for _, p := range c.Pauses {
		d += max(0, min(to, p.end())-max(from, p.At))
	}
	return d
}

func (c *simClock) NewTimer(d time.Duration) heartbeat.Timer {
	return &simTimer{time.NewTimer(c.until(d)), c}
}

// simTimer runs on the monotonic clock of its client, and is late by the pauses of the process.
type simTimer struct {
	timer *time.Timer
	clock *simClock
}

func (t *simTimer) C() <-chan time.Time        { return t.timer.C }
func (t *simTimer) Stop() bool                 { return t.timer.Stop() }
func (t *simTimer) Reset(d time.Duration) bool { return t.timer.Reset(t.clock.until(d)) }
