package dynalock

import (
	"context"
	"time"
)

// unwind releases what a call that ends with a panic (of an Observer, for example) has won, or may have won.
func (a *acquisition) unwind() {
	switch {
	case a.over:
	case a.won != nil:
		a.won.startRelease()
	default:
		a.abandon()
	}
}

// abandon cleans up in the background after an acquisition that ended without a lock: a request in doubt may have
// made, or may yet make, a tenure that nobody holds.
func (a *acquisition) abandon() {
	if !a.abandoned && len(a.ledger.open) > 0 { // in this order: else the ledger is not its own
		a.abandoned = true
		a.c.tasks.background(a.values, a.cleanUp)
	}
}

// cleanUp releases the ghost of this acquisition, if there is one. It retries for one lease at most: after that a ghost
// is dead.
func (a *acquisition) cleanUp(ctx context.Context) {
	if len(a.ledger.open) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, a.timing.lease)
	defer cancel()
	times := 1
	if a.ledger.unanswered {
		times = 5
	}
	pause := func(d time.Duration) error { return a.c.tasks.sleep(ctx, a.timing.attempt/2+d) }
	_ = retry(pause, func(n int) bool {
		// Refused: the acquire has not been applied, but may be applied later.
		return a.disown(ctx) == applied || n == times
	})
}

// disown makes one attempt to release what this acquisition may have begun.
func (a *acquisition) disown(ctx context.Context) verdict {
	a.made = a.c.store.service.stamp(a.key, a.c.opt.clock.Now().Wall, max(a.made, a.row.stamp)+1)
	w := &write{cond: condTenure, update: updRelease, values: item{
		":id": str(a.ledger.prefix()), ":next": str(a.ledger.version(a.ledger.next(1))), ":now": num(a.made),
	}}
	if a.undo {
		w.update += setLower
	}
	a.kind.ghost(w)
	a.c.store.retain(w, a.kind.keep())
	w.update += updReleaseRemove
	return a.c.store.update(ctx, a.timing.attempt, a.c.store.updateInput(a.key, w)).verdict
}

// unbegin makes the release of a tenure that its caller was never given undo what its beginning has written.
func (l *Lock) unbegin() {
	if final := l.kind.unbegun(l); final != nil {
		l.endWith(final)
	}
}
