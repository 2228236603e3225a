package dynalock

import (
	"context"
	"errors"
)

// duty is a function of the user's that runs under a lock: that of Do, of Once, or of a term of an election. Close
// tells the function to stop and waits for it, before the lock is released.
type duty struct {
	tasks  *tasks
	key    string
	outer  *duty           // in whose function it was begun, nil: in none
	caller context.Context // of the call, for the acquisition; what is derived from it bears the duty
	ctx    context.Context // the function's
	cancel context.CancelCauseFunc
	lock   *Lock
	over   chan struct{} // closed when the function has returned and its lock has been released

	closes   bool // its function calls Close, whose context may be derived from ctx; guarded by tasks.mu
	returned bool // its function has returned; guarded by tasks.mu
}

// dutyKey is the key under which a function's context bears its duty for a client.
type dutyKey struct{ t *tasks }

// dutyOf is the innermost function of this client in which ctx was made; nil if there is none.
func (t *tasks) dutyOf(ctx context.Context) *duty {
	d, _ := ctx.Value(dutyKey{t}).(*duty)
	return d
}

// undertake begins a duty, which its caller has to end. A client that is closing does not wait for the duty, and gives
// it no lock.
func (t *tasks) undertake(ctx context.Context, key string) *duty {
	d := &duty{tasks: t, key: key, outer: t.dutyOf(ctx), over: make(chan struct{})}
	d.caller = context.WithValue(ctx, dutyKey{t}, d)
	d.ctx, d.cancel = context.WithCancelCause(d.caller)
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.closing:
	default:
		t.duties[d] = struct{}{}
		t.n++
	}
	return d
}

// end is called when the function has returned and its lock has been released.
func (d *duty) end() {
	d.cancel(nil)
	d.tasks.mu.Lock()
	_, awaited := d.tasks.duties[d]
	delete(d.tasks.duties, d)
	d.tasks.mu.Unlock()
	close(d.over)
	if awaited {
		d.tasks.exit()
	}
}

// guard cancels the function's context when that of its lock is cancelled, until the function has returned.
func (d *duty) guard(l *Lock) (returned func()) {
	d.lock = l
	stop := context.AfterFunc(l.ctx, func() {
		d.tasks.mu.Lock()
		closes := d.closes
		d.tasks.mu.Unlock()
		if !closes { // else Close, which releases the lock, would end its own context: it does this last
			d.cancel(context.Cause(l.ctx))
		}
	})
	return func() {
		stop()
		d.cancel(nil)
		d.leave()
	}
}

// leave is called when the function has returned, before its lock is released.
func (d *duty) leave() {
	d.tasks.mu.Lock()
	defer d.tasks.mu.Unlock()
	d.returned = true
}

// left reports whether the function has returned.
func (d *duty) left() bool {
	d.tasks.mu.Lock()
	defer d.tasks.mu.Unlock()
	return d.returned
}

// stopped reports whether Close has told the function to stop.
func (d *duty) stopped() bool { return errors.Is(context.Cause(d.ctx), ErrClosed) }

// excuse removes the functions in which Close was called from those that Close waits for: it would wait for itself. The
// caller holds t.mu, and calls done when Close is done.
func (t *tasks) excuse(d *duty) (done func()) {
	inside := d
	for ; d != nil; d = d.outer {
		if t.awaits(d) {
			d.closes = true
			delete(t.duties, d)
			t.n--
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

// awaits reports whether Close waits for d. The caller holds t.mu.
func (t *tasks) awaits(d *duty) bool {
	_, ok := t.duties[d]
	return ok
}

// awaited reports whether Close waits for d, or for a function in which d was begun. The caller holds t.mu.
func (t *tasks) awaited(d *duty) bool {
	for ; d != nil; d = d.outer {
		if t.awaits(d) {
			return true
		}
	}
	return false
}
