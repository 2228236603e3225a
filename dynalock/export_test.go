package dynalock

import "github.com/dynalock/dynalock/heartbeat"

// WithClock gives a client clocks of its own.
func WithClock(c heartbeat.Clock) func(*Options) {
	return func(o *Options) { o.clock = c }
}

// Watch has c see a version of a key, as a waiter in line or as TryAcquire does. ended, called a lease later, tells
// whether c takes its holder for dead, and leaves the line.
func (c *Client) Watch(key string, waiting bool) (ended func() (dead bool)) {
	leave := func() {}
	if waiting {
		w := c.enqueue(key)
		leave = func() { c.leave(w) }
	}
	c.observe(&Record{Key: key, Version: "v", Lease: minLease}, c.now())
	return func() bool {
		defer leave()
		_, dead := c.dead(key)
		return dead
	}
}

// Watches is how many keys are watched.
func (c *Client) Watches() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.watches)
}
