package dynalock

import (
	"context"
	"errors"
)

// Do holds key while fn runs, and releases it after fn has returned, even when ctx is done or fn panics. fn's context
// has the values of ctx. It is cancelled when
//
//   - ctx is done,
//   - the lease can no longer be trusted ([context.Cause] is then a [*LostError]),
//   - [Client.Close] begins (the cause is ErrClosed), which waits for fn. A function that calls Close itself passes a
//     context derived from its own.
//
// nil means that fn returned nil, and that the lock was not lost and is released. Errors:
//
//   - fn's error.
//   - A [*LostError] (ErrLost) if the lock was lost, whatever fn returned. It is joined with fn's error.
//   - The error of the release, if it failed or goes on in the background after the end of ctx. It is joined, too.
//   - Before fn runs, the errors of [Client.Acquire], and ErrInvalid if fn is nil.
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

// finally releases a lock after the function that it guarded. It returns an error if the lock was lost before, or was
// not released. It returns nil if the function itself released the lock.
func (l *Lock) finally(ctx context.Context) error {
	lost := l.Err()
	released := l.Release(ctx)
	if errors.Is(lost, ErrLost) {
		return lost
	}
	return released
}
