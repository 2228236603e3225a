package dynalock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/heartbeat"
)

// Acquire waits until it holds key or ctx is done; then the error matches both ErrHeld (and is a [*HeldError] that
// says who holds it) and ctx.Err(). Where nothing was heard from DynamoDB it matches ErrStore in place of ErrHeld, and
// where ctx was over before the call ctx.Err() alone.
//
// ctx bounds the wait only: the lock keeps ctx's values, not its cancellation. Waiting costs eventually consistent
// reads, no writes; goroutines of one client that wait for one key are one waiter, served in order. Locks are not
// reentrant: a call whose context is that of a holder of key would wait for itself, and is a [*NestedError] (ErrNested)
// at once. An uncontended call is one request. Other errors match ErrForeign, ErrStore (no table, no permission:
// waiting would not help), ErrClosed or ErrInvalid.
func (c *Client) Acquire(ctx context.Context, key string, optFns ...func(*AcquireOptions)) (*Lock, error) {
	return c.begin(ctx, key, plain{}, optFns)
}

// begin is Acquire for a lock of any kind.
func (c *Client) begin(ctx context.Context, key string, k kind, optFns []func(*AcquireOptions)) (*Lock, error) {
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
	return a.conclude(a.wait(ctx, w))
}

// TryAcquire makes one attempt: one request. A held lock is a [*HeldError] (ErrHeld) that says who holds it and
// since when. It takes a dead holder's lock when this client has watched it for the whole stored lease, over
// however many calls; with MaxClockSkew at first sight. Only when DynamoDB does not answer, or throttles, is the
// attempt repeated, twice at most, so that its outcome is known; then the error matches ErrStore. Others match
// ErrForeign, ErrClosed, ErrInvalid or ctx.Err().
func (c *Client) TryAcquire(ctx context.Context, key string, optFns ...func(*AcquireOptions)) (*Lock, error) {
	return c.tryBegin(ctx, key, plain{}, optFns)
}

// tryBegin is TryAcquire for a lock of any kind.
func (c *Client) tryBegin(ctx context.Context, key string, k kind, optFns []func(*AcquireOptions)) (*Lock, error) {
	a, err := c.newAcquisition(ctx, key, k, optFns)
	if err != nil {
		return nil, err
	}
	defer c.tasks.exit()
	defer a.unwind()
	return a.conclude(a.try(ctx))
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
	made      int64  // stamp of the last attempt: no earlier than what it has seen of the row
	undo      bool   // it was applied to a row that is no lock
	dialect   Dialect
	admit     []string      // versions that the write may replace although the lock is not free
	dead      *Record       // whose lock admit takes over
	previous  string        // the version that was taken over
	asked     bool          // a request was sent
	began     time.Duration // monotonic clock at the call
	last      *Record       // who was in the way when last looked
	retry     time.Duration // how long to wait before the next look
	lastErr   error
	patient   bool  // it waits for a lock that is held
	waited    bool  // an EventWaiting was sent
	won       *Lock // the tenure that is about to be the caller's
	over      bool  // the call has its result
	abandoned bool
}

// newAcquisition checks the input and enters the client, which the caller has to exit.
func (c *Client) newAcquisition(ctx context.Context, key string, k kind, optFns []func(*AcquireOptions)) (*acquisition, error) {
	var o AcquireOptions
	apply(&o, optFns)
	t, err := o.validate(c, key)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("dynalock: %q not asked for: %w", key, err)
	}
	if !c.tasks.enter() {
		return nil, ErrClosed
	}
	o.Data = slices.Clone(o.Data)
	a := &acquisition{
		c: c, key: key, kind: k, options: o, timing: t, values: context.WithoutCancel(ctx),
		ledger: ledger{id: newID()}, dialect: c.opt.Dialect, began: c.now(), site: callSite(),
	}
	if w, dead := c.sightings.dead(key); dead {
		a.admit, a.dialect, a.dead = []string{w.record.Version}, w.record.dialect, &w.record
		a.made = w.record.stamp()
	}
	return a, nil
}

// expressions of the write that begins the tenure.
func (a *acquisition) expressions(o *offer) *write {
	c, now := a.c, a.c.opt.clock.Now().Wall
	a.made = c.store.service.stamp(a.key, now, a.made)
	floor := c.store.service.floor(a.key, now)
	if a.floor == 0 {
		a.floor = floor
	}
	w := &write{update: updAcquire, values: item{
		":next": str(a.ledger.version(a.ledger.last)), ":owner": str(a.kind.owner(c.opt.Owner)),
		":lease": str(leaseText(a.options.Lease, a.dialect)), ":floor": num(floor), ":made": num(a.made),
		":expires": num(now.Add(a.options.Lease).UnixMilli()), ":waiters": num(c.line.waiters(a.key)),
	}}
	admit := a.admit
	if o != nil {
		admit = o.versions
		w.update += setHold
		w.values[":hold"], w.values[":waiters"] = num(o.hold.Microseconds()), num(o.waiters)
	} else {
		w.update += setTurn
	}
	free := condReleased + condAWSLabs
	if a.dialect == DialectDynamolock {
		free = condReleased + condDynamolock
	}
	seen := ""
	if len(admit) > 0 {
		seen = condVersion(len(admit))
	}
	a.kind.claim(w, free, seen)
	for i, v := range admit { // those that the condition does not mention are not sent
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
	if a.dead != nil {
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

// attempt sends the write once. It goes on in the background when ctx or the client ends first, so that the answer
// is not lost: what it then wins is given back.
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
			a.c.roster.forget(out.lock) // nobody repeats it
			a.c.opt.Logger.WarnContext(bg, "lock won after its caller had gone was not released", "key", a.key, "error", err)
		}
	}, func(p *PanicError) { // nobody knows how far it came
		if o != nil {
			select {
			case o.done <- inDoubt:
			default:
			}
		}
		a.ledger.doubt(a.ledger.last, a.c.opt.clock.Now())
		select {
		case result <- outcome{answer: answer{err: p, crash: p}}:
		case <-ctx.Done():
			a.abandon()
		case <-a.c.tasks.closing:
			a.abandon()
		}
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
		return outcome{}, ctx.Err()
	case <-a.c.tasks.closing:
		return outcome{}, ErrClosed
	}
}

// unbegin has the release of a tenure that its caller was never given undo what its beginning has written.
func (l *Lock) unbegin() {
	if final := l.kind.unbegun(l); final != nil {
		l.endWith(final)
	}
}

// send makes the request and makes of its answer what it says.
func (a *acquisition) send(ctx context.Context, o *offer) outcome {
	a.tries++
	n := a.ledger.next(1)
	if o != nil {
		a.dialect, a.made = o.dialect, max(a.made, o.made)
	}
	out := outcome{answer: a.c.store.updateWith(ctx, a.timing.attempt, a.key, func() *dynamodb.UpdateItemInput {
		in := a.c.store.updateInput(a.key, a.expressions(o))
		in.ReturnValues = types.ReturnValueAllNew
		return in
	})}
	if out.verdict == applied {
		switch r := decode(a.key, out.item); {
		case r.Version != a.ledger.version(n):
			out.verdict, out.err = inDoubt, errStranger // a wrapper's
		case r.State == Foreign: // its token cannot be one, such as 1.5; no condition can tell
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
		if len(out.item) == 0 { // a server that does not say what refused it
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
			case k == n: // this very request, repeated by something between us and the service
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

// maxGap between the clocks is no sign yet that the process was suspended while its request was under way.
const maxGap = 50 * time.Millisecond

// maxLate is how old a token made of time may be when its tenure begins: by the request, or by a clock that the answer
// has put right. An older one may be below that of a tenure which began, and whose item was deleted, meanwhile.
const maxLate = 500 * time.Millisecond

// begin makes the lock of an item that is ours, written by attempt n, which was sent at sent. nil when the lease
// that it would stand on is over already and could not be renewed, or when its token had to be raised and was not.
func (a *acquisition) begin(ctx context.Context, it item, n uint64, sent heartbeat.Reading) *Lock {
	c := a.c
	r := decode(a.key, it)
	a.previous = r.previous
	l := &Lock{
		c: c, key: a.key, kind: a.kind, ledger: a.ledger.begin(n, sent), token: r.Token, timing: a.timing, dialect: a.dialect, options: a.options, made: max(a.made, r.stamp()),
		hold: r.hold, extra: r.extra, site: a.site, began: sent, acquired: r.AcquiredAt,
		turn: make(chan struct{}, 1), data: r.Data,
	}
	l.options.Data = nil
	acked := sent
	elapsed, gap := c.opt.clock.Now().Since(sent)
	raised := a.raise(r.Token)
	if elapsed > a.timing.trust/2 || gap > maxGap || raised > 0 {
		// The answer took so long that little is left: one heartbeat before anybody relies on it.
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
	c.store.service.saw(l.key, l.token, l.id(), l.made)
	c.roster.enter(l)
	c.line.holds(l, &r)
	c.sightings.drop(l.key)
	if l.Err() != nil { // over before it was noted
		c.line.vacate(l, false)
		c.roster.forget(l)
	}
	return l
}

// raise says what the token of a tenure that is about to begin has to be raised to; 0: it is good. Where the item was
// deleted, the client may have seen a larger token of the key. One that is made of time is good while it is fresh.
func (a *acquisition) raise(token uint64) uint64 {
	s := &a.c.store.service
	fresh := s.floor(a.key, a.c.opt.clock.Now().Wall) + 1
	stale := token > a.floor && fresh > token+uint64(maxLate.Microseconds())
	if stale || fresh > token && s.outdone(a.key, token, a.ledger.id) {
		return fresh
	}
	return 0
}

// restart makes a new acquisition of one whose tenure came and went.
func (a *acquisition) restart() {
	a.ledger, a.tries, a.floor, a.admit, a.dead = ledger{id: newID()}, 0, 0, nil, nil
}

// acquired tells that the tenure has begun.
func (a *acquisition) acquired(l *Lock) *Lock {
	a.won = l
	e := Event{
		Kind: EventAcquired, Key: a.key, Token: l.token, Duration: a.c.now() - a.began, Waited: a.waited, Attempt: a.tries,
	}
	if a.dead != nil && a.previous == a.dead.Version {
		e.Kind, e.By = EventTakenOver, a.dead
	}
	a.c.emit(l.ctx, e)
	l.tell()
	return l
}

// waits tells, once, that the call has to wait.
func (a *acquisition) waits(by *Record) {
	if !a.waited {
		a.waited = true
		a.c.emit(a.values, Event{Kind: EventWaiting, Key: a.key, By: by})
	}
}

// conclude tells that the call ended without a lock, if it did.
func (a *acquisition) conclude(l *Lock, err error) (*Lock, error) {
	a.over = true
	if err != nil {
		a.c.emit(a.values, Event{
			Kind: EventNotAcquired, Key: a.key, Duration: a.c.now() - a.began, Waited: a.waited, By: a.last, Err: err,
		})
	}
	return l, err
}

// unwind gives back what a call has, or may have, won that ends with a panic: of an Observer, for one.
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
	if len(a.ledger.open) > 0 && !a.abandoned {
		a.abandoned = true
		a.c.tasks.background(a.values, a.cleanUp)
	}
}

// cleanUp releases the ghost of this acquisition where there is one. It tries for one lease at most, after which a
// ghost is dead anyway.
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
	for n := 1; n <= times; n++ {
		a.made = a.c.store.service.stamp(a.key, a.c.opt.clock.Now().Wall, a.made+1)
		w := &write{cond: condTenure, update: updRelease, values: item{
			":id": str(a.ledger.prefix()), ":next": str(a.ledger.version(a.ledger.next(1))), ":now": num(a.made),
		}}
		if a.undo {
			w.update += setLower
		}
		a.kind.ghost(w)
		a.c.store.retain(w, a.kind.keep())
		w.update += updReleaseRemove
		if a.c.store.update(ctx, a.timing.attempt, a.key, a.c.store.updateInput(a.key, w)).verdict == applied {
			return
		}
		// Refused: it has not been applied, but may be yet.
		if a.c.tasks.sleep(ctx, a.timing.attempt/2+backoff(n)) != nil {
			return
		}
	}
}

// look at what is in the way, and decide how to go on.
type step int

const (
	stepWrite step = iota // it looks free, or dead: try to take it
	stepLook              // wait, then read
	stepFail              // a.lastErr
)

// judge what the item under the key says, at the instant its answer came in.
func (a *acquisition) judge(it item, got heartbeat.Reading) step {
	c := a.c
	r := decode(a.key, it)
	a.admit, a.dead, a.made = nil, nil, max(a.made, r.stamp())
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
			a.admit, a.dialect = []string{r.Version}, r.dialect
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
		a.admit, a.dialect, a.dead = []string{r.Version}, r.dialect, &r
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

// pollBound is the longest wait before the next look at a lock that is usually held for hold and has been seen in
// its present tenure for seen, when others wait too. The looks of all waiters together come a few times per usual
// tenure, and ever more rarely in a tenure that lasts longer than usual.
func (o *Options) pollBound(hold, seen time.Duration, waiters int) time.Duration {
	bound := max(hold, seen/2) * time.Duration(max(1, min(waiters, 1000)/2))
	return min(max(bound, o.MinPoll), o.MaxPoll)
}

// try is TryAcquire.
func (a *acquisition) try(ctx context.Context) (*Lock, error) {
	failures := 0
	for rounds := 0; ; rounds++ {
		may, err := a.permitted(ctx)
		if err != nil {
			a.abandon()
			return nil, err
		}
		out := outcome{answer: may}
		if out.verdict == applied {
			out, err = a.attempt(ctx, nil)
		}
		if err != nil {
			return nil, fmt.Errorf("dynalock: trying to acquire %q: %w", a.key, err)
		}
		if out.lock != nil {
			return a.acquired(out.lock), nil
		}
		switch out.verdict {
		case refused:
			next := a.judge(out.item, out.got)
			if next == stepFail {
				a.abandon()
				return nil, a.lastErr
			}
			if next == stepLook || rounds >= 4 {
				a.abandon()
				return nil, a.heldError()
			}
			continue
		case fatal:
			a.abandon()
			return nil, a.c.store.diagnose(ctx, a.key, out.err)
		}
		a.lastErr = a.c.store.storeError("acquire", a.key, out.err)
		if failures++; failures == 3 {
			a.abandon()
			return nil, a.lastErr
		}
		if err := a.c.tasks.sleep(ctx, backoff(failures)); err != nil {
			a.abandon()
			return nil, fmt.Errorf("%w: %w", err, a.lastErr)
		}
	}
}

// wait is Acquire.
func (a *acquisition) wait(ctx context.Context, w *waiter) (*Lock, error) {
	next, failures, spins := stepWrite, 0, 0
	due := a.c.now()
	a.patient = true
	if by, behind := a.c.line.before(w); behind {
		a.waits(by)
	}
	for {
		o, freed, err := a.c.line.await(ctx, w, due)
		if err != nil {
			a.abandon()
			return nil, a.ended(err)
		}
		var got answer
		if o != nil || freed || next == stepWrite {
			if got, err = a.permitted(ctx); got.verdict == applied && err == nil {
				out, err := a.attempt(ctx, o)
				if err != nil {
					return nil, a.ended(err)
				}
				if out.lock != nil {
					return a.acquired(out.lock), nil
				}
				got = out.answer
			} else if o != nil {
				o.done <- declined
			}
			if err != nil {
				a.abandon()
				return nil, err
			}
		} else {
			got = a.look(ctx, a.key, false)
		}
		switch got.verdict {
		case applied, refused:
			failures = 0
			if next = a.judge(got.item, got.got); next == stepFail {
				a.abandon()
				return nil, a.lastErr
			}
			if next == stepLook {
				spins, due = 0, a.c.now()+a.retry
			} else if spins++; spins > 3 { // it looks free each time, and each time somebody is faster
				due = a.c.now() + a.c.opt.MinPoll
			} else {
				due = a.c.now()
			}
		case fatal:
			a.abandon()
			return nil, a.c.store.diagnose(ctx, a.key, got.err)
		default:
			failures++
			a.lastErr = a.c.store.storeError("acquire", a.key, got.err)
			due = a.c.now() + backoff(failures)
		}
	}
}

// look reads an item once. It ends when Close begins.
func (a *acquisition) look(ctx context.Context, key string, consistent bool) answer {
	got := a.c.tasks.heed(ctx, a.c.tasks.closing, func(ctx context.Context) answer { return a.c.store.read(ctx, a.timing.attempt, key, consistent) })
	if got.verdict == inDoubt {
		got.verdict = rejected // a read is in no doubt
	}
	return got
}

// permitted asks the kind before each attempt but one that is made at once.
func (a *acquisition) permitted(ctx context.Context) (answer, error) {
	if !a.asked && a.c.now()-a.began < a.c.opt.MinPoll {
		return answer{verdict: applied}, nil
	}
	return a.kind.allows(ctx, a)
}

// heldError says who is in the way.
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

// record is what this tenure looks like from here.
func (l *Lock) record() *Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Record{
		Key: l.key, Owner: l.kind.owner(l.c.opt.Owner), Version: l.ledger.version(l.ledger.last), Reason: l.options.Reason, State: Held,
		Token: l.token, Lease: l.timing.lease, AcquiredAt: l.acquired, dialect: l.dialect, hold: l.hold, extra: l.extra,
	}
}

// Do holds key while fn runs and releases it after fn returned, even when ctx is done or fn panics. fn's context
// has the values and the cancellation of ctx, and is cancelled, too, when the lease can no longer be trusted
// ([context.Cause] is then a [*LostError]), and when [Client.Close] begins (ErrClosed), which waits for fn. A function
// that calls Close itself passes a context derived from its own.
//
// The error is fn's, joined with a [*LostError] (ErrLost) if the lock was lost, whatever fn returned, and with the
// error of the release if that failed or, after the end of ctx, goes on in the background. Errors before fn ran are
// those of [Client.Acquire]; a nil fn is ErrInvalid.
func (c *Client) Do(ctx context.Context, key string, fn func(ctx context.Context, l *Lock) error, optFns ...func(*AcquireOptions)) (err error) {
	if fn == nil {
		return invalid([]error{errors.New("fn is nil, allowed: a function")})
	}
	d := c.tasks.undertake(ctx, key)
	defer d.end()
	l, err := c.Acquire(d.caller, key, optFns...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.finally(ctx)) }()
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
