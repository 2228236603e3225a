package dynalock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"
)

// Why a term ended although its lease was good. Match the cause of the term's context with errors.Is.
var (
	ErrResigned   = errors.New("dynalock: leader resigned")
	ErrHandedOver = errors.New("dynalock: leadership is handed over to another candidate")
	ErrUnhealthy  = errors.New("dynalock: leader is not healthy")
)

// ElectionOptions of one candidate.
type ElectionOptions struct {
	// Candidate is this candidate's name. The record shows it as its owner, and [Election.HandOver] takes it. It has to be
	// unique among the candidates, and has at most 256 bytes. Default: the client's Owner.
	Candidate string
	// Value is published with the leadership, as the record's Data: the leader's address, for example. A leader changes it
	// with [Lock.SetData]. Default: empty.
	Value []byte
	// Health, if set, is called before this candidate campaigns, and before every renewal (a heartbeat, [Lock.Renew] or
	// [Lock.SetData]). Its context ends after AttemptTimeout. An error ends the term in good order, and keeps the
	// candidate from campaigning while Health returns it. Meanwhile nothing is renewed, so that a leader that hangs is
	// followed in the end: lead has the rest of the lease to return, about 3/5 of it with the default Heartbeat and
	// SafetyMargin, and then the lock is lost.
	Health func(ctx context.Context) error
	// Lease of the leadership. 100 ms to 24 h, rounded up to a millisecond. Default: the client's.
	Lease time.Duration
}

// Election is one candidate of an election. An election is the lock of a key, and its fencing token is the number of
// the term. All methods are safe for concurrent use.
type Election struct {
	c   *Client
	key string
	opt ElectionOptions

	mu      sync.Mutex // guards what follows; never held over I/O or a wait
	running bool
	term    *term
}

// term is one tenure of this candidate as the leader.
type term struct {
	lock   *Lock
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the lock has been released
	err    error         // of the release; valid when done is closed
	mu     sync.Mutex
	asked  bool   // to hand over
	to     string // whom it is handed over to
}

// The attributes of an election.
const (
	attrSuccessor = "successor" // S the candidate that the leader is to hand over to
	attrYielded   = "yielded"   // S the version with which the leader stood down in favour of the successor
)

var electionNames = map[string]string{"#successor": attrSuccessor, "#yielded": attrYielded}

const (
	// condYielded: the leader of an election stood down in favour of this candidate. It is bound to the version, because
	// another library copies attributes that it does not know.
	condYielded = "(#successor = :candidate AND #yielded = #version AND " + condBefore + ")"

	// updYield stands down in favour of the successor: no other candidate may take the lock before its lease has expired.
	updYield = "SET #version = :next, #stamp = :next, #renewed = :now, #yielded = :next, #successor = :successor, #hold = :hold"

	// updSuccessor asks the leader to hand over. The version stays: the leader's heartbeats go on.
	updSuccessor = "SET #successor = :successor"

	electionRemove = ", #successor, #yielded"
)

// successor is the candidate that the leader is to hand over to; "" if there was no request to hand over.
func successor(r *Record) string {
	p := parser{it: r.extra}
	return p.str(attrSuccessor)
}

// yielded tells whether the leader has stood down in favour of the successor.
func yielded(r *Record) bool {
	p := parser{it: r.extra}
	return r.Version != "" && p.str(attrYielded) == r.Version
}

// candidate is the kind of a term: a leader may name its successor, and renews only while it is healthy.
type candidate struct {
	plain
	e *Election
	t *term
}

func (k *candidate) owner(string) string { return k.e.opt.Candidate }

func (k *candidate) claim(w *write, free, seen string) {
	k.plain.claim(w, free, seen)
	w.cond += " OR " + condYielded
	w.values[":candidate"] = str(k.e.opt.Candidate)
}

func (k *candidate) intended(r *Record) bool { return successor(r) == k.e.opt.Candidate }

func (k *candidate) passes(r *Record) bool { return k.plain.passes(r) || yielded(r) }

func (k *candidate) curious() bool { return true }

func (k *candidate) renewed(r *Record) { k.e.asked(k.t, successor(r)) }

// heartbeat calls Health. A leader that is not healthy is told to end its term, and its lease is not renewed meanwhile.
func (k *candidate) heartbeat(ctx context.Context, l *Lock) (*PanicError, error) {
	if k.e.opt.Health == nil {
		return nil, nil
	}
	check, cancel := context.WithTimeout(ctx, l.timing.attempt)
	defer cancel()
	crash, err := l.c.tasks.protect(func() error { return k.e.opt.Health(check) })
	if err != nil && crash == nil { // a panic is the end of more than the term
		k.t.cancel(fmt.Errorf("%w: %w", ErrUnhealthy, err))
	}
	return crash, err
}

// Election makes a candidate. It does no I/O. Bad options are errors of [Election.Run].
func (c *Client) Election(key string, optFns ...func(*ElectionOptions)) *Election {
	e := &Election{c: c, key: key, opt: ElectionOptions{Candidate: c.opt.Owner}}
	apply(&e.opt, optFns)
	return e
}

// Run campaigns, and calls lead for every term that it wins, until ctx is done or lead returns while its term lasts.
// The number of the term is the lock's token. lead's context is cancelled when
//
//   - ctx is done,
//   - the lease can no longer be trusted ([context.Cause] is a [*LostError]),
//   - the term is to end in good order (the cause is ErrResigned, ErrHandedOver or ErrUnhealthy),
//   - [Client.Close] begins (the cause is ErrClosed). A lead that calls Close itself has to pass a context derived from
//     its own.
//
// Run waits for lead to return before it releases the lock, and keeps the lease meanwhile, unless Health fails. So, by
// the clocks, no two leaders act at once. A lead that ignores its context keeps others from leading until its lease is
// lost. After a term that was lost or ended in good order, Run logs what lead returned, and campaigns again.
//
// nil means that lead returned nil while its term lasted, and that the lock was released. Errors:
//
//   - lead's error, if lead returned it while its term lasted.
//   - ctx.Err() ([context.Canceled], for example) after an ordinary stop of a leader, once lead has returned and the
//     lock was released. It is joined with lead's error if that does not match ctx.Err(), and with the error of the
//     release if it failed.
//   - An error that matches ErrHeld and ctx.Err() and says who leads, after an ordinary stop of a candidate that waits.
//   - ErrClosed after Close, joined in the same way.
//   - ErrInvalid, for bad options and while another Run of this Election is under way.
//   - Other errors are those of [Client.Acquire] and [Lock.Release].
func (e *Election) Run(ctx context.Context, lead func(ctx context.Context, l *Lock) error) error {
	var errs []error
	if err := checkCandidate(e.opt.Candidate); err != nil {
		errs = append(errs, err)
	}
	check := AcquireOptions{Lease: e.opt.Lease, Data: e.opt.Value}
	t, err := check.validate(e.c, e.key)
	if err != nil {
		errs = append(errs, err)
	}
	if lead == nil {
		errs = append(errs, errors.New("lead is nil, allowed: a function"))
	}
	if err := invalid(errs); err != nil {
		return err
	}
	e.mu.Lock()
	again := e.running
	e.running = true
	e.mu.Unlock()
	if again {
		return invalid([]error{fmt.Errorf("election %q of candidate %q is running, allowed: one Run at a time", e.key,
			e.opt.Candidate)})
	}
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.running = false
	}()
	for {
		if err := e.awaitHealth(ctx, t.attempt); err != nil {
			return err
		}
		over, err := e.serve(ctx, lead)
		if over {
			return err
		}
		// Others go first: the candidate that was named, or one that is healthy.
		if err := e.c.tasks.rest(ctx, 2*e.c.opt.MaxPoll); err != nil {
			return err
		}
	}
}

func checkCandidate(name string) error {
	errs := badText("Candidate", name, maxLabelBytes)
	if name == "" {
		errs = append(errs, badLength("Candidate", name, 1, maxLabelBytes))
	}
	return invalid(errs)
}

// awaitHealth waits until this candidate may campaign. Health's context ends after timeout.
func (e *Election) awaitHealth(ctx context.Context, timeout time.Duration) error {
	for e.opt.Health != nil {
		check, cancel := context.WithTimeout(ctx, timeout)
		err := e.opt.Health(check)
		cancel()
		if err == nil {
			return nil
		}
		if err := e.c.tasks.rest(ctx, e.c.opt.MaxPoll); err != nil {
			return err
		}
	}
	return nil
}

// serve wins one term and serves it. over tells that Run is to return err.
func (e *Election) serve(ctx context.Context, lead func(context.Context, *Lock) error) (over bool, err error) {
	ctx = context.WithValue(ctx, labelKey{e.c, e.key}, e.opt.Candidate)
	d := e.c.tasks.undertake(ctx, e.key)
	defer d.end()
	t := &term{done: make(chan struct{}), ctx: d.ctx, cancel: d.cancel}
	l, err := e.c.acquire(d.caller, e.key, &candidate{e: e, t: t}, []func(*AcquireOptions){func(o *AcquireOptions) {
		o.Data, o.Lease = e.opt.Value, e.opt.Lease
		if e.opt.Value == nil {
			o.Data = []byte{} // not the value of the leader before
		}
	}})
	if err != nil {
		return true, err
	}
	t.lock = l
	defer d.guard(l)()
	e.setTerm(t)
	defer close(t.done)
	defer e.setTerm(nil)
	defer func() { // also when lead panics
		d.leave()
		if to := t.successor(); to != "" {
			l.endWith(func(w *write) { w.update, w.values[":successor"] = updYield, str(to) })
		}
		if t.err = l.Release(ctx); errors.Is(t.err, ErrLost) {
			t.err = nil
		}
		if over && t.err != nil {
			err = join(err, t.err)
		}
	}()

	if d.stopped() { // before lead had begun
		return true, ErrClosed
	}
	err = lead(l.within(d.ctx), l)

	cause := context.Cause(d.ctx)
	switch {
	case ctx.Err() != nil:
		if err == nil || errors.Is(err, ctx.Err()) {
			return true, ctx.Err()
		}
		return true, join(ctx.Err(), err)
	case cause == nil:
		return true, err
	case errors.Is(cause, ErrClosed):
		if err == nil || errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) {
			return true, ErrClosed
		}
		return true, join(ErrClosed, err)
	}
	e.c.opt.Logger.WarnContext(ctx, "term ended", "key", e.key, "token", l.token, "owner", e.opt.Candidate, "cause", cause,
		"error", err)
	return false, nil
}

func (e *Election) setTerm(t *term) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.term = t
}

// asked ends the term in favour of another candidate. That candidate learns of it with its next look, and then looks
// often. Only after that does the leader stop, so that the gap is short.
func (e *Election) asked(t *term, to string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if to == "" || to == e.opt.Candidate || t.asked {
		return
	}
	t.asked = e.c.tasks.background(t.ctx, func(ctx context.Context) {
		if e.c.tasks.rest(ctx, e.c.opt.MaxPoll) != nil {
			return
		}
		t.mu.Lock()
		t.to = to
		t.mu.Unlock()
		t.cancel(ErrHandedOver)
	})
}

func (t *term) successor() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.to
}

// Resign ends this candidate's term, if it leads. lead's context is cancelled (its cause is ErrResigned), and when lead
// has returned the lock is released. Resign waits for that. Run lets other candidates go first, and then campaigns
// again. To leave the election, end Run's context.
//
// nil means that this candidate does not lead any more. The error matches ErrStore or ErrClosed if the release failed:
// then others can lead when the lease has expired. It is ctx.Err() if ctx was done first.
func (e *Election) Resign(ctx context.Context) error {
	e.mu.Lock()
	t := e.term
	e.mu.Unlock()
	if t == nil {
		return nil
	}
	t.cancel(ErrResigned)
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Leader reads the leader, strongly consistent: one read unit. Record.Owner is the candidate, Token the term and Data
// the value. State Free means that there is no leader. A leader that died is shown until its lease has expired and
// another one was elected. Errors are those of [Client.Get].
func (e *Election) Leader(ctx context.Context) (Record, error) { return e.c.Get(ctx, e.key) }

// Observe yields the leader, and again whenever the leader, the term or the value has changed, until ctx is done. State
// Free means that there is no leader. It reads every MaxPoll, eventually consistent: half a read unit each. If a read
// fails, it yields the error, which matches ErrStore, and goes on if the loop does.
func (e *Election) Observe(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := invalid(e.c.checkKey(e.key)); err != nil {
			yield(Record{}, err)
			return
		}
		var last *Record
		for ctx.Err() == nil {
			a := e.c.store.look(ctx, e.key, false)
			switch {
			case ctx.Err() != nil:
				return
			case a.err != nil:
				if !yield(Record{}, e.c.store.storeError("observe", e.key, a.err)) {
					return
				}
			default:
				r := decode(e.key, a.item)
				if last == nil || r.State != last.State || r.tenure() != last.tenure() || !bytes.Equal(r.Data, last.Data) {
					last = &r
					if !yield(r, nil) {
						return
					}
				}
			}
			if e.c.tasks.sleep(ctx, e.c.opt.MaxPoll) != nil {
				return
			}
		}
	}
}

// HandOver makes the named candidate the leader. It asks the present leader, in whichever process, to stand down:
//
//   - The leader learns of it with its next heartbeat, in this process at once. MaxPoll later it tells its function to
//     stop (the cause of its context is ErrHandedOver), waits for it, and stands down in favour of the candidate.
//   - The candidate takes the lock at its next look, at most MaxPoll/20 later. No other candidate can take it
//     meanwhile. If the named candidate does not exist, others lead when the lease has expired.
//
// HandOver waits until the candidate leads; then it returns nil. Errors:
//
//   - ErrChanged, if another candidate leads, or if there was no leader that can hand over.
//   - ErrInvalid, ErrForeign, ErrStore or ctx.Err().
//
// It costs a read and a write, the leader's last write, the candidate's read and write, the candidate's reads every
// MaxPoll/20 from its first look on, and the caller's reads until it is done.
func (e *Election) HandOver(ctx context.Context, name string) error {
	if err := checkCandidate(name); err != nil {
		return err
	}
	r, err := e.Leader(ctx)
	switch {
	case err != nil:
		return err
	case r.State == Foreign:
		return &ForeignError{Key: e.key, Problem: r.Problem}
	case r.State == Free || r.id() == "":
		return fmt.Errorf("%w: election %q has no leader that can hand over", ErrChanged, e.key)
	case r.Owner == name && !yielded(&r):
		return nil
	}
	w := &write{cond: condTenure, update: updSuccessor, values: item{":id": str(r.id() + "-"), ":successor": str(name)}}
	doubt := false
	err = e.c.store.persist(ctx, func() (bool, error) {
		a := e.c.store.ask(ctx, e.key, w)
		switch a.verdict {
		case applied:
			return true, nil
		case refused:
			if doubt { // it may have been asked, and have handed over: see below
				return true, nil
			}
			return true, fmt.Errorf("%w: the leadership of %q changed meanwhile", ErrChanged, e.key)
		}
		doubt = doubt || a.verdict == inDoubt
		return a.verdict == fatal, e.c.store.storeError("hand over", e.key, a.err)
	})
	if err != nil {
		return err
	}
	e.mu.Lock()
	t := e.term
	e.mu.Unlock()
	if t != nil && t.lock.id() == r.id() {
		e.asked(t, name)
	}
	for wait := e.c.opt.MinPoll; ; wait = min(2*wait, e.c.opt.MaxPoll) {
		now, err := e.Leader(ctx)
		switch {
		case err != nil:
			return err
		case now.State == Held && now.id() != r.id() && now.Owner == name:
			return nil
		case now.State != Held || now.id() != r.id():
			return fmt.Errorf("%w: the leadership of %q went to %q", ErrChanged, e.key, now.Owner)
		}
		if err := e.c.tasks.sleep(ctx, wait); err != nil {
			return err
		}
	}
}
