package dynalock

import (
	"context"
	"errors"
)

// Do holds key while fn runs and releases it after fn returned, even when ctx is done or fn panics. fn's context
// has the values and the cancellation of ctx, and is cancelled, too, when the lease can no longer be trusted
// ([context.Cause] is then a [*LostError]), and when [Client.Close] begins (ErrClosed), which waits for fn. A function
// that calls Close itself passes a context derived from its own.
//
// The error is fn's, joined with a [*LostError] (ErrLost) if the lock was lost, whatever fn returned, and with the
// error of the release if that failed or, after the end of ctx, goes on in the background. Errors before fn ran are
// those of [Client.Acquire]; a nil fn is ErrInvalid.
func (c *Client) Do(
	ctx context.Context, key string, fn func(ctx context.Context, l *Lock) error, optFns ...func(*AcquireOptions),
) (err error) {
	if fn == nil {
		errs := []error{errors.New("fn is nil, allowed: a function")}
		var o AcquireOptions
		apply(&o, optFns)
		if _, err := o.validate(c, key); err != nil {
			errs = append(errs, err)
		}
		return invalid(errs)
	}
	d := c.tasks.undertake(ctx, key)
	defer d.end()
	l, err := c.Acquire(d.caller, key, optFns...)
	if err != nil {
		return err
	}
	defer func() { err = join(err, l.finally(ctx)) }()
	defer d.guard(l)()
	if d.stopped() { // before fn had begun
		return ErrClosed
	}
	return fn(l.within(d.ctx), l)
}

// finally releases a lock after the function that it guarded, and returns what the caller has to know: that it was
// lost before, or that it was not released. A lock that the function itself released is neither.
func (l *Lock) finally(ctx context.Context) error {
	lost := l.Err()
	released := l.Release(ctx)
	if errors.Is(lost, ErrLost) {
		return lost
	}
	return released
}
