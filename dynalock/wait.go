package dynalock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dynalock/dynalock/heartbeat"
)

// step is what a call does next.
type step int

const (
	stepWrite step = iota // it looks free, or dead: try to take it
	stepLook              // wait, then read
	stepFail              // a.lastErr
)

// judge decides what to do next, by the item under the key and the time at which its answer came in.
func (a *acquisition) judge(it item, got heartbeat.Reading) step {
	c := a.c
	r := decode(a.key, it)
	a.row = row{dialect: a.row.dialect, stamp: max(a.row.stamp, r.stamp())}
	switch {
	case r.State == Foreign:
		a.lastErr = &ForeignError{Key: a.key, Problem: r.Problem}
		return stepFail
	case r.id() == a.ledger.id && r.State == Held: // an attempt was applied after all: the write finds out
		if _, n := splitVersion(r.Version); len(a.ledger.open) == 0 {
			a.ledger.doubt(n, a.ledger.first) // to be given back where the write does not
		}
		return stepWrite
	}
	if a.lastErr = a.kind.bars(&r, r.State == Free); a.lastErr != nil {
		return stepFail
	}
	if r.State == Free {
		if len(it) > 0 {
			a.row.admit, a.row.dialect = []string{r.Version}, r.dialect
		}
		return stepWrite
	}
	if a.patient {
		a.waits(&r)
	}
	a.last, a.lastErr = &r, nil // no store error: this is an answer
	c.store.service.saw(r.Key, r.Token, r.id(), r.stamp())
	c.line.saw(&r)
	still, tenure := c.sightings.observe(&r, got.Mono)
	expired := c.opt.MaxClockSkew > 0 && !r.ExpiresAt.IsZero() && got.Wall.Sub(r.ExpiresAt) > c.opt.MaxClockSkew
	if still >= r.Lease || expired {
		if a.lastErr = a.kind.bars(&r, true); a.lastErr != nil {
			return stepFail
		}
		a.row.admit, a.row.dialect, a.row.dead = []string{r.Version}, r.dialect, &r
		return stepWrite
	}
	if a.kind.intended(&r) { // the holder is about to hand over to this waiter
		if a.retry = max(c.opt.MinPoll, c.opt.MaxPoll/20); a.kind.passes(&r) {
			return stepWrite
		}
		return stepLook
	}
	c.line.promote(a.key, &r)
	bound := c.opt.pollBound(r.hold, tenure, r.Waiters)
	a.retry = min(c.opt.MinPoll+rand.N(bound-c.opt.MinPoll+1), r.Lease-still)
	return stepLook
}

// pollBound is the longest wait before the next look at a lock that is usually held for hold, has been seen in its
// present tenure for seen, and has that many other waiters. All waiters together look a few times per usual tenure, and
// less and less often in a tenure that lasts longer than usual.
func (o *Options) pollBound(hold, seen time.Duration, waiters int) time.Duration {
	bound := max(hold, seen/2) * time.Duration(max(1, min(waiters, 1000)/2))
	return min(max(bound, o.MinPoll), o.MaxPoll)
}

// waiting is the manner of Acquire: it waits in line, looks while the lock is held, and goes on until ctx ends.
func (a *acquisition) waiting(w *waiter) *manner {
	spins := 0
	a.patient = true
	if by, behind := a.c.line.before(w); behind {
		a.waits(by)
	}
	return &manner{
		op: "acquire",
		turn: func(ctx context.Context, due time.Duration) (*offer, bool, error) {
			return a.c.line.await(ctx, w, due)
		},
		judge: func(got *answer) (step, time.Duration) {
			switch next := a.judge(got.item, got.got); next {
			case stepLook:
				spins = 0
				return next, a.retry
			case stepWrite:
				if spins++; spins > 3 { // it looks free each time, and each time another process is faster
					return next, a.c.opt.MinPoll
				}
				return next, 0
			default:
				return next, 0
			}
		},
		ended: a.ended,
	}
}

// trying is the manner of TryAcquire: it makes another attempt only if the row looks free.
func (a *acquisition) trying() *manner {
	rounds := 0
	m := a.impatient("acquire", "trying to acquire")
	m.judge = func(got *answer) (step, time.Duration) {
		next := a.judge(got.item, got.got)
		if rounds++; next == stepLook || next == stepWrite && rounds > 4 {
			a.lastErr = a.heldError()
			return stepFail, 0
		}
		return next, 0
	}
	return m
}

// heldError says which tenure holds the lock.
func (a *acquisition) heldError() *HeldError {
	e := &HeldError{Record: Record{Key: a.key}, RetryAfter: max(a.retry, a.c.opt.MinPoll)}
	if a.last != nil {
		e.Record = *a.last
		if a.last.static { // nothing will be seen of it before its end, unless it is released
			wall := a.c.opt.clock.Now().Wall
			left := a.last.Lease - time.Duration(a.c.store.service.millis(wall)-a.last.stamp())*time.Millisecond
			if left <= 0 && a.c.opt.MaxClockSkew > 0 && !a.last.ExpiresAt.IsZero() { // its holder is dead: until it can be taken
				left = a.last.ExpiresAt.Add(a.c.opt.MaxClockSkew + time.Millisecond).Sub(wall)
			}
			e.RetryAfter = max(min(left, a.last.Lease), e.RetryAfter)
		}
		holder := a.c.line.holder(a.key)
		e.ThisProcess = holder != nil && holder.id() == a.last.id()
		if w, ok := a.c.sightings.of(a.key); ok && w.record.Version == a.last.Version {
			e.RetryAfter = max(min(max(e.RetryAfter, a.last.hold), w.since+w.record.Lease-a.c.now()), a.c.opt.MinPoll)
		}
	}
	return e
}

// ended is the error of a wait that ended with err, the context's or ErrClosed.
func (a *acquisition) ended(err error) error {
	if errors.Is(err, ErrClosed) {
		return err
	}
	holder := a.c.line.holder(a.key)
	w, seen := a.c.sightings.of(a.key)
	switch {
	case a.last != nil:
	case holder != nil:
		a.last = holder.record()
	case !a.asked && seen: // behind another waiter of this process, which has looked
		a.last = &w.record
	case a.lastErr != nil:
		return fmt.Errorf("%w: %w", err, a.lastErr)
	default: // nothing was heard
		return a.c.store.storeError("acquire", a.key, err)
	}
	if a.lastErr != nil { // nothing was heard since
		return fmt.Errorf("%w: %w: %w", a.heldError(), err, a.lastErr)
	}
	return fmt.Errorf("%w: %w", a.heldError(), err)
}
