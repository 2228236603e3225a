package dynalock

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/heartbeat"
)

// Lock is one tenure: one acquisition of one key. All methods are safe for concurrent use. Token, Held, Deadline, Done
// and Err never wait for a request.
type Lock struct {
	c        *Client
	key      string
	kind     kind
	token    uint64
	timing   timing
	dialect  Dialect
	options  AcquireOptions
	hold     time.Duration     // the lock's usual hold time before this tenure
	extra    item              // what the item says that is its kind's own
	made     int64             // stamp of the last attempt to acquire: what this tenure writes is stamped later
	began    heartbeat.Reading // when the write that won it was sent
	acquired time.Time         // as the item has it
	site     *site             // where it was asked for
	ctx      context.Context
	cancel   context.CancelCauseFunc
	lease    *heartbeat.Lease
	turn     chan struct{} // cap 1: one write at a time; waiting for it obeys contexts
	doubt    bool          // a write that releases may have been applied; belongs to whoever has the turn

	mu      sync.Mutex // guards what follows; never held over I/O or a wait
	ledger  ledger     // its id never changes
	stamped int64      // the latest stamp that the row may have
	guarded uint64     // how many guarded writes were begun
	data    []byte
	life    life
	news    news
}

// id is the acquisition id.
func (l *Lock) id() string { return l.ledger.id }

// Key is the key without the client's namespace.
func (l *Lock) Key() string { return l.key }

// Token is the fencing token. It is greater than that of every earlier tenure of the key. If the item was deleted in
// between, that rests on clocks; see the package documentation.
func (l *Lock) Token() uint64 { return l.token }

// Held reports whether the caller may still act, by the holder's own clocks: Lease - SafetyMargin has not yet passed
// since the last acknowledged request was sent. After a gap between the clocks (the process was suspended) Held is
// false until a heartbeat has been acknowledged. A pause that no clock shows can only be covered by fencing: see
// [Lock.Transact]. Held takes about a microsecond and never blocks.
func (l *Lock) Held() bool { return l.lease.Valid() }

// Deadline is the time until which Held stays true if no further heartbeat is acknowledged.
func (l *Lock) Deadline() time.Time { return l.lease.Deadline() }

// Context carries the values of the context with which the lock was acquired. It is cancelled when the lock is released
// or lost: [context.Cause] is then [ErrReleased] or a [*LostError]. A call that acquires the key again with this
// context is refused ([ErrNested]).
func (l *Lock) Context() context.Context { return l.ctx }

// Done is closed when the lock is released or lost. A loss closes it at the deadline at the latest, also when a
// heartbeat hangs.
func (l *Lock) Done() <-chan struct{} { return l.ctx.Done() }

// Err is nil while the lock is held. After that it is ErrReleased or a [*LostError].
func (l *Lock) Err() error {
	l.mu.Lock()
	err := l.life.err
	l.mu.Unlock()
	if err == nil && l.lease.Remaining() <= 0 { // the clock is ahead of the announcement
		reason := heartbeat.ErrDeadline
		if age, _ := l.c.opt.clock.Now().Since(l.began); l.options.MaxHold > 0 && age >= l.options.MaxHold {
			reason = heartbeat.ErrLimit
		}
		return &LostError{Key: l.key, Reason: reason}
	}
	return err
}

// Data is the payload that this tenure found, or stored last. The caller may change it.
func (l *Lock) Data() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.data)
}

// end ends the tenure for the caller, once: from here on Err says why and Done is closed.
func (l *Lock) end(err error) bool {
	left := l.timing.lease // at most, when it ends with err
	if errors.Is(err, heartbeat.ErrDeadline) {
		left -= l.timing.trust
	}
	l.mu.Lock()
	first := l.life.end(err, l.c.now()+left)
	l.mu.Unlock()
	if first {
		l.c.store.service.saw(l.key, l.token, l.id(), 0)
		l.cancel(err)
	}
	return first
}

// ended is called by the scheduler when the lease has ended.
func (l *Lock) ended(reason error) {
	var lost *LostError
	if !errors.As(reason, &lost) {
		lost = &LostError{Key: l.key, Reason: reason}
	}
	if !l.end(lost) {
		return
	}
	l.c.line.vacate(l, false)
	l.c.roster.forget(l)
	report := func(ctx context.Context) {
		l.emit(ctx, Event{Kind: EventLost, By: lost.By, Err: lost})
	}
	if !l.c.tasks.background(l.ctx, report) { // a logger may block, the scheduler must not
		l.c.tasks.shelter(func() { report(l.ctx) }, nil)()
	}
}

// lose ends the tenure because the item says that it is over.
func (l *Lock) lose(it item) error {
	now := decode(l.key, it)
	lost := &LostError{Key: l.key, By: &now}
	switch {
	case len(it) == 0:
		lost.By, lost.Reason = nil, fmt.Errorf("%w: the item was deleted", heartbeat.ErrGone)
	case now.id() == l.id():
		lost.Reason = fmt.Errorf("%w: a copy of this holder wrote version %s", heartbeat.ErrGone, now.Version)
	case l.succeeded(&now):
		lost.Reason = fmt.Errorf("%w: it was taken over by %q, whose tenure has ended since", heartbeat.ErrGone, now.Owner)
	case now.State == Free:
		lost.Reason = fmt.Errorf("%w: it was released by another process", heartbeat.ErrGone)
	default:
		lost.Reason = fmt.Errorf("%w: it was taken over", heartbeat.ErrGone)
	}
	l.mu.Lock()
	l.life.vanish()
	l.mu.Unlock()
	if l.lease != nil {
		l.lease.End(lost)
		l.ended(lost)
	}
	return lost
}

// succeeded reports whether a free row was left by another tenure that no operator has ended.
func (l *Lock) succeeded(r *Record) bool {
	return r.State == Free && r.Owner != "" && r.ReleasedBy == "" &&
		(r.Token > l.token || r.Owner != l.kind.owner(l.c.opt.Owner))
}

// revoke ends the tenure because this client itself has ended it in the table, or cannot keep it.
func (l *Lock) revoke(reason error, by *Record) error {
	lost := &LostError{Key: l.key, Reason: reason, By: by}
	l.lease.End(lost)
	l.ended(lost)
	return lost
}

// record describes this tenure as its holder has it.
func (l *Lock) record() *Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Record{
		Key: l.key, Owner: l.kind.owner(l.c.opt.Owner), Version: l.ledger.version(l.ledger.last), Reason: l.options.Reason,
		State: Held,
		Token: l.token, Lease: l.timing.lease, AcquiredAt: l.acquired, dialect: l.dialect, hold: l.hold, extra: l.extra,
	}
}

// take waits for the turn to write.
func (l *Lock) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Lock) give() { <-l.turn }

// write makes one attempt of a conditional write on the item, on condition that its version is one of ours, and
// keeps the account of versions. The caller has the turn.
func (l *Lock) write(ctx context.Context, send func(ctx context.Context, w *write) answer) answer {
	l.mu.Lock()
	next := l.ledger.next(l.c.opt.bump())
	named := l.ledger.named()
	now := l.stamp()
	l.stamped = max(l.stamped, now)
	w := &write{cond: condVersion(len(named)) + condToken, values: item{
		":token": num(l.token), ":next": str(l.ledger.version(next)), ":now": num(now),
	}}
	for i, version := range named {
		w.values[fmt.Sprintf(":seen%d", i)] = str(version)
	}
	l.mu.Unlock()

	a := send(ctx, w)

	l.mu.Lock()
	switch a.verdict {
	case applied:
		l.ledger.settle(next, a.sent)
		l.c.store.service.saw(l.key, l.token, l.id(), now)
	case refused:
		now := decode(l.key, a.item)
		if a.verdict = l.ledger.refused(&now, next, a.sent); a.verdict == applied {
			a.err = nil
		}
	default: // whatever was answered, it may be in the item
		l.ledger.doubt(next, a.sent)
	}
	l.mu.Unlock()
	return a
}

// stamp is the time of a write of this tenure. It is later than that of every request that asked for it, so that no
// copy of those applies to what the release leaves.
func (l *Lock) stamp() int64 {
	return l.c.store.service.stamp(l.key, l.c.opt.clock.Now().Wall, l.made+1)
}

// bump is the step by which a write of a tenure raises its counter. It is random, so that a clone of this process does
// not send the same version, and the first write tells the two apart.
func bump() uint64 {
	var b [2]byte
	rand.Read(b[:]) //nolint:errcheck // never fails: it aborts the process
	return 1 + uint64(binary.BigEndian.Uint16(b[:]))
}

// renew makes one attempt of a heartbeat, if the kind allows it. more, which may be nil, adds to what is written. The
// caller has the turn.
func (l *Lock) renew(ctx context.Context, more func(*write)) answer {
	if crash, err := l.kind.heartbeat(ctx, l); err != nil {
		return answer{verdict: rejected, err: err, crash: crash}
	}
	return l.extend(ctx, more)
}

// confirm is the heartbeat of a tenure that its caller was not given yet. It raises the token unless token is 0.
func (l *Lock) confirm(ctx context.Context, token uint64) answer {
	if token == 0 {
		return l.extend(ctx, nil)
	}
	a := l.extend(ctx, func(w *write) {
		w.update += setToken
		w.values[":raised"] = num(token)
	})
	if a.verdict == applied {
		l.token = token
	}
	return a
}

// extend is renew for a caller that has just asked the kind.
func (l *Lock) extend(ctx context.Context, more func(*write)) answer {
	a := l.write(ctx, func(ctx context.Context, w *write) answer {
		w.update = updRenew
		w.values[":lease"] = str(leaseText(l.timing.lease, l.dialect))
		w.values[":expires"] = num(l.c.opt.clock.Now().Wall.Add(l.timing.lease).UnixMilli())
		if more != nil {
			more(w)
		}
		in := l.c.store.updateInput(l.key, w)
		if l.kind.curious() {
			in.ReturnValues = types.ReturnValueAllNew
		}
		return l.c.store.update(ctx, l.timing.attempt, in)
	})
	if a.verdict == applied && l.kind.curious() {
		r := decode(l.key, a.item)
		l.kind.renewed(&r)
	}
	return a
}

// beat is one attempt of the scheduler to renew the lease. A panic of the caller's code ends the tenure.
func (l *Lock) beat(ctx context.Context, at heartbeat.Attempt) (err error) {
	l.c.tasks.shelter(func() { err = l.pulse(ctx, at) }, func(p *PanicError) { err = l.revoke(p, nil) })()
	return err
}

// pulse is beat for code that does not panic.
func (l *Lock) pulse(ctx context.Context, at heartbeat.Attempt) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.give()
	a := l.renew(ctx, nil)
	if a.crash != nil {
		return l.revoke(a.crash, nil)
	}
	switch a.verdict {
	case applied:
		l.lease.Acknowledge(a.sent) // before a logger may block
		e := Event{Kind: EventRenewed, Duration: a.got.Mono - a.sent.Mono, Late: at.Late, Attempt: at.N}
		if at.N > 1 || at.Late > l.timing.period/2 {
			e.Kind = EventRenewedLate
		}
		l.emit(l.ctx, e)
		return nil
	case refused:
		return l.lose(a.item)
	}
	if l.Err() == nil { // else a release has cancelled it
		failed := a
		tell := func(ctx context.Context) { l.failed(ctx, "heartbeat", at.N, &failed) }
		// a logger may block, the next attempt must not
		l.c.tasks.sheltered(l.ctx, tell, func(p *PanicError) { _ = l.revoke(p, nil) })
	}
	return l.c.store.storeError("heartbeat", l.key, a.err)
}

// Renew sends one heartbeat now, and waits until it is acknowledged. Failed attempts are retried until ctx ends or the
// lock is lost. nil means that the lease was extended. Errors match ErrLost, ErrReleased, ErrStore or ctx.Err().
func (l *Lock) Renew(ctx context.Context) error { return l.store(ctx, "renew", nil) }

// SetData stores the payload if this tenure still holds the lock, and renews the lease with the same write. Failed
// attempts are retried until ctx ends or the lock is lost.
//
// nil means that the payload is stored. Errors match ErrInvalid (the item would have more than 400 KB), ErrLost,
// ErrReleased, ErrStore or ctx.Err(). Except for ErrInvalid, the payload may or may not be stored then.
func (l *Lock) SetData(ctx context.Context, data []byte) error {
	if err := invalid(l.c.checkData(l.key, data)); err != nil {
		return err
	}
	data = append([]byte{}, data...)
	return l.store(ctx, "set data", data)
}

// store renews until it is acknowledged.
func (l *Lock) store(ctx context.Context, op string, data []byte) error {
	var more func(*write)
	if data != nil {
		more = func(w *write) {
			w.update += setData
			w.values[":data"] = bin(data)
		}
	}
	var err error
	stopped := retry(l.resting(ctx), func(n int) (done bool) {
		var a answer
		if a, err = l.storeOnce(ctx, data, more); err != nil || a.verdict == applied {
			return true
		}
		err = l.c.store.storeError(op, l.key, a.err)
		if a.verdict == fatal {
			return true
		}
		l.failed(ctx, op, n, &a)
		return false
	})
	if stopped != nil {
		return fmt.Errorf("%w: %w", stopped, err)
	}
	return err
}

// storeOnce makes one attempt of store. An error says that the tenure is over, or ctx.
func (l *Lock) storeOnce(ctx context.Context, data []byte, more func(*write)) (a answer, err error) {
	if err := l.Err(); err != nil {
		return a, err
	}
	if err := l.take(ctx); err != nil {
		return a, err
	}
	a = l.c.tasks.heed(ctx, nil, func(ctx context.Context) (a answer) {
		defer l.give()
		if l.Err() != nil { // it ended while we waited for the turn
			return answer{verdict: rejected}
		}
		a = l.renew(ctx, more)
		if a.verdict == applied && data != nil {
			l.mu.Lock()
			l.data = data
			l.mu.Unlock()
		}
		return a
	})
	if err := l.Err(); err != nil {
		return a, err
	}
	switch a.verdict {
	case applied:
		l.lease.Acknowledge(a.sent)
		return a, l.Err()
	case refused:
		return a, l.lose(a.item)
	}
	return a, nil
}

// resting waits before the next attempt of an operation of the holder. The end of ctx is an error. The end of the
// tenure is none: the next attempt says why.
func (l *Lock) resting(ctx context.Context) func(time.Duration) error {
	return func(d time.Duration) error {
		t := l.c.opt.clock.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C():
		case <-l.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	}
}
