package dynalock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dynalock/dynalock/heartbeat"
)

// Release releases the lock, and waits until the write is known to have been applied. Before the request is sent, Held
// is false and Context is cancelled. If goroutines of this process wait for the key, the first of them gets the lock in
// the same write.
//
// Release is idempotent, and may be called again after an error. It never touches a successor. Lost answers and failed
// attempts are retried until the lease has expired, by the holder's clock. A release that begins after that makes one
// attempt. ctx bounds the wait only: after its end the release goes on in the background, and Close joins it.
//
// nil means that this tenure does not hold the item any more. After a loss nil means that the tenure still held it, and
// that it is free now. Errors match
//
//   - ErrLost (a [*LostError]), if the lock was lost before. It also matches ErrStore or ctx.Err() if the release
//     failed or goes on;
//   - ErrStore, if DynamoDB did not carry out the release: the lock ends with its lease;
//   - ErrClosed, after Close;
//   - ctx.Err(), if ctx ended first: the release goes on.
func (l *Lock) Release(ctx context.Context) error {
	err := l.giveBack(ctx)
	if p, ok := err.(*PanicError); ok { //nolint:errorlint // exactly what release returned
		p.raise()
	}
	return err
}

// giveBack is Release for callers that want a panic of the store as an error.
func (l *Lock) giveBack(ctx context.Context) error {
	r := l.startRelease()
	select {
	case <-r.done:
		return l.outcome(r.err)
	case <-ctx.Done():
	}
	grace := time.NewTimer(closeGrace) // a healthy store answers within it, also to a context that was over before
	defer grace.Stop()
	select {
	case <-r.done:
		return l.outcome(r.err)
	case <-grace.C:
		return l.outcome(fmt.Errorf("dynalock: release of %q goes on in the background: %w", l.key, ctx.Err()))
	}
}

// outcome adds to an error of the release that the tenure was lost before it, if the error does not say so.
func (l *Lock) outcome(err error) error {
	if _, panicked := err.(*PanicError); err == nil || panicked || errors.Is(err, ErrLost) { //nolint:errorlint // exactly what release returned
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.life.err, ErrLost) {
		return fmt.Errorf("%w; then %w", l.life.err, err)
	}
	return err
}

// startRelease starts the release, unless it is under way or done.
func (l *Lock) startRelease() *release {
	l.mu.Lock()
	r, first := l.life.release(l.c.now() + l.timing.lease)
	l.mu.Unlock()
	if !first {
		return r
	}
	started := l.c.tasks.sheltered(l.ctx, func(bg context.Context) {
		r.err = l.release(bg)
		l.concluded(bg, r.err)
		l.finish(r)
	}, func(p *PanicError) {
		r.err = p
		l.finish(r)
	})
	if !started {
		r.err = ErrClosed
		l.finish(r)
	}
	return r
}

// concluded reports how the tenure ended, unless that was reported before.
func (l *Lock) concluded(ctx context.Context, err error) {
	lost, ok := err.(*LostError) //nolint:errorlint // exactly what release returned
	if ok {
		l.emit(ctx, Event{Kind: EventLost, By: lost.By, Err: lost})
		return
	}
	l.emit(ctx, Event{Kind: EventReleased, Err: err})
}

// finish publishes the outcome of a release. A release that failed because of the store may be repeated.
func (l *Lock) finish(r *release) {
	switch r.err.(type) { //nolint:errorlint // exactly what release returned
	case *StoreError, *PanicError:
		l.c.roster.outlast(l, l.until()) // before another release may begin
		l.mu.Lock()
		l.life.failed()
		l.mu.Unlock()
	default:
		l.mu.Lock()
		l.life.finished()
		l.mu.Unlock()
		l.c.roster.forget(l)
	}
	close(r.done)
}

// until is when the lease of a tenure that has ended is over at the latest, by the monotonic clock.
func (l *Lock) until() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.life.until
}

// release stops the heartbeat, joins the one in flight, and writes.
func (l *Lock) release(ctx context.Context) error {
	l.end(ErrReleased)
	defer l.c.line.vacate(l, false) // whatever happens, local waiters go on
	left := max(0, l.until()-l.c.now())
	ctx, cancel := context.WithTimeout(ctx, left+l.timing.attempt)
	defer cancel()
	if err := l.lease.Stop(ctx); err != nil {
		return l.c.store.storeError("release", l.key, err)
	}
	if err := l.take(ctx); err != nil {
		return l.c.store.storeError("release", l.key, err)
	}
	defer l.give()
	l.mu.Lock()
	gone, final := l.life.gone, l.life.final
	l.mu.Unlock()
	if gone {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.lostError()
	}

	held := l.c.now() - l.began.Mono
	average := held
	if l.hold > 0 {
		average = (4*l.hold + held) / 5
	}
	handed := declined
	if final == nil {
		handed = l.handOver(ctx, average)
	}
	l.doubt = l.doubt || handed != declined && handed != refused
	if handed != applied {
		if err := l.writeRelease(ctx, average, final); err != nil {
			return err
		}
	}
	l.c.line.vacate(l, true)
	return nil
}

// lostError is why the tenure was over before its release. The caller has l.mu.
func (l *Lock) lostError() error {
	if lost, ok := l.life.err.(*LostError); ok { //nolint:errorlint // exactly what lose stored
		return lost
	}
	return &LostError{Key: l.key, Reason: ErrReleased}
}

// endWith makes the release write final instead of a plain release. It reports false, and does nothing, if a release,
// by the holder or by Close, has begun.
func (l *Lock) endWith(final func(*write)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.life.endWith(final)
}

// handOver passes the lock to the first goroutine of this process that waits for it. That goroutine writes its own
// tenure on condition of this one's version: one request instead of two, and no poll.
func (l *Lock) handOver(ctx context.Context, average time.Duration) verdict {
	o := &offer{hold: average, dialect: l.dialect, made: l.made, done: make(chan verdict, 1)}
	l.mu.Lock()
	o.versions, o.stamp = l.ledger.named(), l.stamped
	l.mu.Unlock()
	if !l.c.line.offerTo(l, o) {
		return declined
	}
	select {
	case v := <-o.done:
		return v
	case <-ctx.Done():
		return inDoubt
	}
}

// writeRelease frees the item. It retries until the write is known to be applied, or the lease has expired.
func (l *Lock) writeRelease(ctx context.Context, average time.Duration, final func(*write)) error {
	var a answer
	pause := func(d time.Duration) error {
		if l.c.now() >= l.until() {
			return heartbeat.ErrDeadline
		}
		return l.c.tasks.sleep(ctx, d)
	}
	_ = retry(pause, func(n int) bool {
		a = l.write(ctx, func(ctx context.Context, w *write) answer {
			w.values[":hold"] = num(average.Microseconds())
			if final != nil {
				final(w)
				return l.c.store.update(ctx, l.timing.attempt, l.c.store.updateInput(l.key, w))
			}
			keep := l.kind.keep()
			if l.options.DeleteOnRelease { // not at once: while it is there, no copy of an old request applies
				keep = tombstone
			}
			w.update = updRelease + setHold
			l.c.store.retain(w, keep)
			w.update += updReleaseRemove
			return l.c.store.update(ctx, l.timing.attempt, l.c.store.updateInput(l.key, w))
		})
		if a.verdict == applied || a.verdict == refused {
			return true
		}
		l.doubt = true
		if a.crash != nil || a.verdict == fatal {
			return true
		}
		l.failed(ctx, "release", n, &a)
		return false
	})
	switch {
	case a.verdict == applied:
		return nil
	case a.verdict == refused:
		now := decode(l.key, a.item)
		own := now.id() == l.id()
		if own && l.kind.passes(&now) || l.doubt && !own && !l.kind.ends() {
			return nil // it was applied, and its answer lost
		}
		return l.lose(a.item)
	case a.crash != nil:
		return a.crash
	}
	return l.c.store.storeError("release", l.key, a.err)
}
