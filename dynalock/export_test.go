package dynalock

import "github.com/dynalock/dynalock/heartbeat"

// WithClock gives a client clocks of its own.
func WithClock(c heartbeat.Clock) func(*Options) {
	return func(o *Options) { o.clock = c }
}

// Watched is how many locks of others the client remembers.
func Watched(c *Client) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.watches)
}
