package dynalock

import "github.com/dynalock/dynalock/heartbeat"

// WithClock gives a client clocks of its own.
func WithClock(c heartbeat.Clock) func(*Options) {
	return func(o *Options) { o.clock = c }
}
