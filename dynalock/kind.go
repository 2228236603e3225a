package dynalock

import (
	"context"
	"time"
)

// kind is what sets one kind of lock apart from the others: who may begin a tenure, what else is written with it, what
// allows a heartbeat, and what a release leaves. The engine asks the kind where kinds differ, and knows none by name.
//
// A kind embeds [plain] and overrides what it needs. It has a file of its own, with its options, attributes,
// conditions, decoding and public calls, and is handed to Client.acquire or Client.tryAcquire. Its methods may be
// called by several goroutines. Only heartbeat may wait, and allows for about a request: a holder of this process may
// wait for the answer to hand the lock over. DynamoDB's time is store.service.millis.
type kind interface {
	// owner is the label that the item shows. client is the client's.
	owner(client string) string

	// claim writes the condition of the write that begins a tenure, and adds to its update. free is the condition that
	// the row was released. seen is the condition that its version is a known one; it is empty if no version is known.
	claim(w *write, free, seen string)

	// allows is called before an attempt to begin a tenure, unless the call has only just begun. What must hold then, too,
	// is for claim. Any verdict but applied keeps the attempt from being sent, and counts as its answer. An error ends the
	// call.
	allows(ctx context.Context, a *acquisition) (answer, error)

	// bars says why the key gives no tenure, whatever is tried: the call ends with this error. open tells that the row
	// is missing, free, or that of a dead holder.
	bars(r *Record, open bool) error

	// intended reports whether the present holder of r means to hand the lock over to this very waiter.
	intended(r *Record) bool

	// heartbeat is called before each renewal. If it returns an error, the renewal is not sent. If that is a panic of the
	// caller's code, the tenure ends.
	heartbeat(ctx context.Context, l *Lock) (*PanicError, error)

	// curious reports that renewed is to be called with the row after each renewal.
	curious() bool
	renewed(r *Record)

	// unbegun is what the release of a tenure writes that its caller was never given; nil for a plain release.
	unbegun(l *Lock) func(*write)

	// ghost adds to the release of what an acquisition may have begun without hearing of it.
	ghost(w *write)

	// keep is how long a released row stays at least; 0: as the client's options say.
	keep() time.Duration

	// passes reports whether r shows that the tenure which wrote it has given up the lock.
	passes(r *Record) bool

	// ends reports that the key gives no tenure any more after a release that finishes it.
	ends() bool

	// portable reports whether another process may go on with the tenure; see [Client.Resume].
	portable() bool
}

// plain is the kind of [Client.Acquire]: the first to come holds the key, and nothing else is written.
type plain struct{}

func (plain) owner(client string) string { return client }

func (plain) claim(w *write, free, seen string) {
	w.cond = condNew + " OR (" + free + ")"
	if seen != "" {
		w.cond += " OR " + seen
	}
}

func (plain) allows(context.Context, *acquisition) (answer, error) {
	return answer{verdict: applied}, nil
}

func (plain) bars(*Record, bool) error                              { return nil }
func (plain) intended(*Record) bool                                 { return false }
func (plain) heartbeat(context.Context, *Lock) (*PanicError, error) { return nil, nil } //nolint:nilnil // nothing is against it
func (plain) curious() bool                                         { return false }
func (plain) renewed(*Record)                                       {}
func (plain) unbegun(*Lock) func(*write)                            { return nil }
func (plain) ghost(*write)                                          {}
func (plain) keep() time.Duration                                   { return 0 }
func (plain) passes(r *Record) bool                                 { return r.State == Free }
func (plain) ends() bool                                            { return false }
func (plain) portable() bool                                        { return true }
