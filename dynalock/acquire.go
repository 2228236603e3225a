package dynalock

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Acquire waits until it holds key, or until ctx is done. ctx bounds the wait only: the lock keeps ctx's values, not
// its cancellation. An uncontended call is one request. Waiting costs eventually consistent reads, and no writes.
// Goroutines of one client that wait for one key are one waiter, and are served in the order in which they came.
//
// nil means that the lock is held. Errors match
//
//   - ErrHeld (a [*HeldError] that says who holds the lock) and ctx.Err(), if ctx ended while another tenure held it;
//   - ErrStore and ctx.Err(), if DynamoDB did not answer until then;
//   - ctx.Err() alone, if ctx was over before the call;
//   - ErrNested (a [*NestedError]), at once, if the context is that of a holder of key: locks are not reentrant, and
//     the call would wait for itself;
//   - ErrStore, if waiting would not help: there is no table, or no permission;
//   - ErrForeign, ErrClosed or ErrInvalid.
func (c *Client) Acquire(ctx context.Context, key string, optFns ...func(*AcquireOptions)) (*Lock, error) {
	return c.acquire(ctx, key, plain{}, optFns)
}

// acquire is Acquire for a lock of any kind.
func (c *Client) acquire(ctx context.Context, key string, k kind, optFns []func(*AcquireOptions)) (*Lock, error) {
	a, err := c.newAcquisition(ctx, key, k, optFns)
	if err != nil {
		return nil, err
	}
	defer c.tasks.exit()
	if err := c.nested(ctx, key); err != nil {
		return nil, err
	}
	defer a.unwind()
	w := c.line.enqueue(key, k)
	defer c.line.leave(w)
	return a.conclude(a.drive(ctx, a.waiting(w)))
}

// TryAcquire makes one attempt, and does not wait: one request. It takes a dead holder's lock if this client has
// watched it for the whole stored lease, over any number of calls, or with MaxClockSkew at first sight. If DynamoDB
// does not answer, or throttles, the attempt is retried, at most twice, so that its outcome is known.
//
// nil means that the lock is held. Errors match
//
//   - ErrHeld (a [*HeldError]), if another tenure holds the lock: it says which, and since when;
//   - ErrStore, if DynamoDB did not carry out the attempt and its retries;
//   - ErrForeign, ErrClosed, ErrInvalid or ctx.Err().
func (c *Client) TryAcquire(ctx context.Context, key string, optFns ...func(*AcquireOptions)) (*Lock, error) {
	return c.tryAcquire(ctx, key, plain{}, optFns)
}

// tryAcquire is TryAcquire for a lock of any kind.
func (c *Client) tryAcquire(ctx context.Context, key string, k kind, optFns []func(*AcquireOptions)) (*Lock, error) {
	a, err := c.newAcquisition(ctx, key, k, optFns)
	if err != nil {
		return nil, err
	}
	defer c.tasks.exit()
	defer a.unwind()
	return a.conclude(a.drive(ctx, a.trying()))
}

// acquisition is an attempt to begin a tenure, over all its requests.
type acquisition struct {
	c         *Client
	key       string
	kind      kind
	site      *site
	options   AcquireOptions
	timing    timing
	values    context.Context // the caller's, for its values
	ledger    ledger
	tries     int    // how many requests were sent
	floor     uint64 // of the token, in the first attempt
	made      int64  // the latest stamp of an attempt
	undo      bool   // an attempt was applied to a row that is not a lock
	row       row
	previous  string        // the version that was taken over
	asked     bool          // a request was sent
	began     time.Duration // monotonic clock at the call
	last      *Record       // the tenure that held the lock at the last look
	retry     time.Duration // how long to wait before the next look
	lastErr   error
	patient   bool  // it waits for a lock that is held
	waited    bool  // an EventWaiting was sent
	won       *Lock // the tenure that is about to be the caller's
	over      bool  // the call has its result
	abandoned bool  // a tenure that may have begun is released in the background, which has the ledger from here on
}

// row is what the next attempt rests on: the row of the key as far as it was seen.
type row struct {
	// versions that the write may replace: of a dead holder, or of a free row that its condition does not know
	admit   []string
	dead    *Record // the holder that counts as dead; nil if none does
	dialect Dialect
	stamp   int64 // no attempt is stamped earlier
}

// newAcquisition checks the input and enters the client, which the caller has to exit.
func (c *Client) newAcquisition(
	ctx context.Context, key string, k kind, optFns []func(*AcquireOptions),
) (*acquisition, error) {
	var o AcquireOptions
	apply(&o, optFns)
	t, err := o.validate(c, key)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("dynalock: no request for %q was sent: %w", key, err)
	}
	if !c.tasks.enter() {
		return nil, ErrClosed
	}
	o.Data = slices.Clone(o.Data)
	a := &acquisition{
		c: c, key: key, kind: k, options: o, timing: t, values: context.WithoutCancel(ctx),
		ledger: ledger{id: newID()}, row: row{dialect: c.opt.Dialect}, began: c.now(), site: callSite(),
	}
	if w, dead := c.sightings.dead(key); dead {
		a.row = row{admit: []string{w.record.Version}, dead: &w.record, dialect: w.record.dialect, stamp: w.record.stamp()}
	}
	return a, nil
}

// acquired reports that the tenure has begun.
func (a *acquisition) acquired(l *Lock) *Lock {
	a.won = l
	e := Event{
		Kind: EventAcquired, Key: a.key, Token: l.token, Duration: a.c.now() - a.began, Waited: a.waited, Attempt: a.tries,
	}
	if a.row.dead != nil && a.previous == a.row.dead.Version {
		e.Kind, e.By = EventTakenOver, a.row.dead
	}
	a.c.emit(l.ctx, e)
	l.tell()
	return l
}

// waits reports, once, that the call has to wait.
func (a *acquisition) waits(by *Record) {
	if !a.waited {
		a.waited = true
		a.c.emit(a.values, Event{Kind: EventWaiting, Key: a.key, By: by})
	}
}

// conclude ends the call. If it ended without a lock, that is reported, and a tenure that it may have begun is
// released.
func (a *acquisition) conclude(l *Lock, err error) (*Lock, error) {
	a.over = true
	if err != nil {
		a.abandon()
		a.c.emit(a.values, Event{
			Kind: EventNotAcquired, Key: a.key, Duration: a.c.now() - a.began, Waited: a.waited, By: a.last, Err: err,
		})
	}
	return l, err
}
