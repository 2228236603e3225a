package dynalock

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/dynalock/dynalock/heartbeat"
)

// expressions of the write that begins the tenure.
func (a *acquisition) expressions(o *offer) *write {
	c, now := a.c, a.c.opt.clock.Now().Wall
	made := c.store.service.stamp(a.key, now, a.row.stamp) // not a.made: an answer may have corrected the clock since
	a.made = max(a.made, made)
	floor := c.store.service.floor(a.key, now)
	if a.floor == 0 {
		a.floor = floor
	}
	w := &write{update: updAcquire, values: item{
		":next": str(a.ledger.version(a.ledger.last)), ":owner": str(a.kind.owner(c.opt.Owner)),
		":lease": str(leaseText(a.options.Lease, a.row.dialect)), ":floor": num(floor), ":made": num(made),
		":expires": num(now.Add(a.options.Lease).UnixMilli()), ":waiters": num(c.line.waiters(a.key)),
	}}
	admit := a.row.admit
	if o != nil {
		admit = o.versions
		w.update += setHold
		w.values[":hold"], w.values[":waiters"] = num(o.hold.Microseconds()), num(o.waiters)
	} else {
		w.update += setTurn
	}
	free := condReleased + condAWSLabs
	if a.row.dialect == DialectDynamolock {
		free = condReleased + condDynamolock
	}
	seen := ""
	if len(admit) > 0 {
		seen = condVersion(len(admit))
	}
	a.kind.claim(w, free, seen)
	for i, v := range admit { // versions that the condition does not mention are not sent
		w.values[":seen"+strconv.Itoa(i)] = str(v)
	}
	if a.options.Data != nil {
		w.update += setData
		w.values[":data"] = bin(a.options.Data)
	}
	remove := updAcquireRemove
	if a.options.Reason != "" {
		w.update += setReason
		w.values[":reason"] = str(a.options.Reason)
	} else {
		remove += ", #reason"
	}
	if a.options.NoHeartbeat {
		w.update += setStatic
	} else {
		remove += ", #static"
	}
	if a.row.dead != nil {
		w.update += setPrevious
	} else {
		remove += ", #previous"
	}
	w.update += remove
	return w
}

// outcome of one attempt: a lock, or the answer that did not give one.
type outcome struct {
	answer
	lock *Lock
}

// attempt sends the write once. If ctx or the client ends first, it goes on in the background, so that the answer is
// not lost: a lock that it then wins is released.
func (a *acquisition) attempt(ctx context.Context, o *offer) (outcome, error) {
	a.asked = true
	result := make(chan outcome)
	started := a.c.tasks.sheltered(ctx, func(bg context.Context) {
		out := a.send(bg, o)
		select {
		case <-a.c.tasks.closing: // Close has not seen this tenure
		default:
			select {
			case result <- out:
				return
			case <-ctx.Done():
			case <-a.c.tasks.closing:
			}
		}
		if out.lock == nil {
			a.cleanUp(bg)
			return
		}
		out.lock.unbegin()
		if err := out.lock.giveBack(bg); err != nil {
			a.c.roster.forget(out.lock) // the release is not retried
			a.c.opt.Logger.WarnContext(bg, "lock won after its caller had gone was not released", "key", a.key, "error", err)
		}
	}, func(p *PanicError) { // the request may or may not have been sent
		if o != nil {
			select {
			case o.done <- inDoubt:
			default:
			}
		}
		a.ledger.doubt(a.ledger.last, a.c.opt.clock.Now())
		select {
		case result <- outcome{answer: answer{err: p, crash: p}}:
			return
		case <-ctx.Done():
		case <-a.c.tasks.closing:
		}
		a.c.tasks.background(a.values, a.cleanUp)
	})
	if !started {
		if o != nil {
			o.done <- declined
		}
		return outcome{}, ErrClosed
	}
	select {
	case out := <-result:
		out.crash.raise()
		return out, nil
	case <-ctx.Done():
		a.abandoned = true
		return outcome{}, ctx.Err()
	case <-a.c.tasks.closing:
		a.abandoned = true
		return outcome{}, ErrClosed
	}
}

// send makes the request, and interprets the answer.
func (a *acquisition) send(ctx context.Context, o *offer) outcome {
	a.tries++
	n := a.ledger.next(1)
	if o != nil {
		a.row.dialect, a.row.stamp, a.made = o.dialect, max(a.row.stamp, o.stamp), max(a.made, o.made)
	}
	out := outcome{answer: a.c.store.updateWith(ctx, a.timing.attempt, func() *dynamodb.UpdateItemInput {
		in := a.c.store.updateInput(a.key, a.expressions(o))
		in.ReturnValues = types.ReturnValueAllNew
		return in
	})}
	if out.verdict == applied {
		switch r := decode(a.key, out.item); {
		case r.Version != a.ledger.version(n):
			out.verdict, out.err = inDoubt, errStranger // a wrapper's
		case r.State == Foreign: // its number cannot be a token: 1.5, for example; no condition can tell
			out.verdict, a.undo = refused, true
			a.ledger.doubt(n, out.sent)
		}
	}
	if a.tries == 1 {
		a.ledger.first = out.sent
	}
	if o != nil {
		o.done <- out.verdict
	}
	switch out.verdict {
	case applied:
		if out.lock = a.begin(ctx, out.item, n, out.sent); out.lock == nil {
			out.verdict, out.err = inDoubt, errTooLate
		}
	case refused:
		if len(out.item) == 0 { // the server did not return the item that refused it
			look := a.c.store.read(ctx, a.timing.attempt, a.key, true)
			if look.verdict != applied {
				out.verdict, out.err = rejected, look.err
				return out
			}
			out.item, out.got = look.item, look.got
		}
		// Our own item: an earlier attempt was applied and its answer lost. The lease counts from that attempt.
		r := decode(a.key, out.item)
		if id, k := splitVersion(r.Version); id == a.ledger.id && r.State == Held {
			sent, ok := a.ledger.sentAt(k)
			switch {
			case ok:
			case k == n: // this very request, repeated by something between us and DynamoDB
				sent = out.sent
			default:
				sent = a.ledger.first
			}
			out.lock = a.begin(ctx, out.item, k, sent)
		}
	case inDoubt:
		a.ledger.doubt(n, out.sent)
		a.ledger.unanswered = true
		a.c.emit(ctx, Event{Kind: EventInDoubt, Op: "acquire", Key: a.key, Attempt: a.tries, Err: out.err})
	case fatal:
		if a.c.store.known.served.Load() != 0 { // else it is misconfigured, and nothing was applied
			a.ledger.doubt(n, out.sent)
		}
	default:
		if !unsent(out.err) {
			a.ledger.doubt(n, out.sent)
		}
	}
	return out
}

// errTooLate: the write was applied, but its lease was over, or the client closed, before the answer could be used.
var errTooLate = errors.New("the answer came after the lease")

// maxGap is how far the clocks may differ before that shows that the process was suspended during its request.
const maxGap = 50 * time.Millisecond

// maxLate is how old a token made of time may be when its tenure begins: because the request took long, or because the
// answer has corrected a clock. An older token may be below that of a tenure which began, and whose item was deleted,
// meanwhile.
const maxLate = 500 * time.Millisecond

// begin makes the lock of an item that is ours, written by attempt n, which was sent at sent. It returns nil if the
// lease has expired already and could not be renewed, or if the token had to be raised and was not.
func (a *acquisition) begin(ctx context.Context, it item, n uint64, sent heartbeat.Reading) *Lock {
	c := a.c
	r := decode(a.key, it)
	a.previous = r.previous
	l := &Lock{
		c: c, key: a.key, kind: a.kind, ledger: a.ledger.begin(n, sent), token: r.Token, timing: a.timing,
		dialect: a.row.dialect, options: a.options, made: max(a.made, r.stamp()), stamped: r.stamp(),
		hold: r.hold, extra: r.extra, site: a.site, began: sent, acquired: r.AcquiredAt,
		turn: make(chan struct{}, 1), data: r.Data,
	}
	l.options.Data = nil
	acked := sent
	elapsed, gap := c.opt.clock.Now().Since(sent)
	raised := a.raise(r.Token)
	if elapsed > a.timing.trust/2 || gap > maxGap || raised > 0 {
		// The answer took so long that little of the lease is left: one heartbeat before the caller relies on it.
		beat := l.confirm(ctx, raised)
		l.ledger.unanswered = l.ledger.unanswered || beat.verdict == inDoubt
		a.ledger = l.ledger
		switch beat.verdict {
		case applied:
			acked = beat.sent
		case refused:
			a.restart()
			return nil
		default:
			if raised > 0 {
				return nil
			}
		}
		if elapsed, _ := c.opt.clock.Now().Since(acked); elapsed >= a.timing.trust {
			return nil
		}
	}
	a.ledger = ledger{id: a.ledger.id, last: a.ledger.last}
	l.ctx, l.cancel = context.WithCancelCause(l.within(a.values))
	cfg := heartbeat.Config{
		Period: a.timing.period, Trust: a.timing.trust, AttemptTimeout: a.timing.attempt,
		Acked: acked, Renew: l.beat, Ended: l.ended, Bind: func(lease *heartbeat.Lease) { l.lease = lease },
	}
	if a.options.NoHeartbeat {
		cfg.Period = 0
	}
	if a.options.MaxHold > 0 { // counts from the first send
		cfg.Limit = max(a.options.MaxHold-(acked.Mono-sent.Mono), 1)
	}
	if _, err := c.sched.Add(cfg); err != nil { // the client is closed
		a.ledger = l.ledger
		return nil
	}
	c.store.service.saw(l.key, l.token, l.id(), l.stamped)
	c.roster.enter(l)
	c.line.holds(l, &r)
	c.sightings.drop(l.key)
	if l.Err() != nil { // over before it was noted
		c.line.vacate(l, false)
		c.roster.forget(l)
	}
	return l
}

// raise is the number to which the token of a tenure that is about to begin has to be raised; 0 if the token is good.
// If the item was deleted, the client may have seen a larger token of the key. A token made of time is good while it is
// fresh.
func (a *acquisition) raise(token uint64) uint64 {
	s := &a.c.store.service
	fresh := s.floor(a.key, a.c.opt.clock.Now().Wall) + 1
	stale := token > a.floor && fresh > token+uint64(maxLate.Microseconds())
	if stale || fresh > token && s.outdone(a.key, token, a.ledger.id) {
		return fresh
	}
	return 0
}

// restart makes a new acquisition of one whose tenure has begun and ended.
func (a *acquisition) restart() {
	a.ledger, a.tries, a.floor = ledger{id: newID()}, 0, 0
	a.row.admit, a.row.dead = nil, nil
}
