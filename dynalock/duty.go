package dynalock

import (
	"context"
	"errors"
)

// duty is a function of the user's that runs under a lock: that of Do, of Once, or of a term of an election. Close
// tells it to stop and waits for it, before the lock is given up.
type duty struct {
	c      *Client
	key    string
	outer  *duty           // in whose function it was begun, nil: in none
	caller context.Context // of the call, for the acquisition; what is derived from it bears the duty
	ctx    context.Context // the function's
	cancel context.CancelCauseFunc
	lock   *Lock
	over   chan struct{} // closed when the function has returned and its lock has been given up

	closes bool // its function calls Close, whose context may be derived from ctx; guarded by Client.mu
}

// dutyKey is the key under which a function's context bears its duty for a client.
type dutyKey struct{ c *Client }

// dutyOf is the innermost function of this client in which ctx was made, nil when there is none.
func (c *Client) dutyOf(ctx context.Context) *duty {
	d, _ := ctx.Value(dutyKey{c}).(*duty)
	return d
}

// undertake begins a duty, which its caller has to end. A closing client does not wait for it, and gives it no lock.
func (c *Client) undertake(ctx context.Context, key string) *duty {
	d := &duty{c: c, key: key, outer: c.dutyOf(ctx), over: make(chan struct{})}
	d.caller = context.WithValue(ctx, dutyKey{c}, d)
	d.ctx, d.cancel = context.WithCancelCause(d.caller)
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closing:
	default:
		c.duties[d] = struct{}{}
		c.tasks++
	}
	return d
}

// end is when the function has returned and its lock has been given up.
func (d *duty) end() {
	d.cancel(nil)
	d.c.mu.Lock()
	_, awaited := d.c.duties[d]
	delete(d.c.duties, d)
	d.c.mu.Unlock()
	close(d.over)
	if awaited {
		d.c.exit()
	}
}

// guard ends the function's context with that of its lock, until the function has returned.
func (d *duty) guard(l *Lock) (returned func()) {
	d.lock = l
	stop := context.AfterFunc(l.ctx, func() {
		d.c.mu.Lock()
		closes := d.closes
		d.c.mu.Unlock()
		if !closes { // else Close, which releases the lock, would end its own context: it does this last
			d.cancel(context.Cause(l.ctx))
		}
	})
	return func() {
		stop()
		d.cancel(nil)
	}
}

// stopped reports whether Close has told the function to stop.
func (d *duty) stopped() bool { return errors.Is(context.Cause(d.ctx), ErrClosed) }

// excuse takes the functions in which Close was called from those that it waits for: it would wait for itself. What it
// returns is to be called when Close is done. The caller has c.mu.
func (c *Client) excuse(d *duty) (done func()) {
	inside := d
	for ; d != nil; d = d.outer {
		if c.awaits(d) {
			d.closes = true
			delete(c.duties, d)
			c.tasks--
		}
	}
	return func() {
		for d := inside; d != nil; d = d.outer {
			if d.lock != nil {
				d.cancel(context.Cause(d.lock.ctx))
			}
		}
	}
}

// awaits reports whether d is one that Close waits for. The caller has c.mu.
func (c *Client) awaits(d *duty) bool {
	_, ok := c.duties[d]
	return ok
}

// awaited reports whether Close waits for a function in which d was begun, or for d's. The caller has c.mu.
func (c *Client) awaited(d *duty) bool {
	for ; d != nil; d = d.outer {
		if c.awaits(d) {
			return true
		}
	}
	return false
}
