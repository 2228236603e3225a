package dynalock_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
)

// actor is one goroutine of a client's program.
type actor struct {
	w    *world
	c    *simClient
	name string
}

func (a *actor) run(ctx context.Context, actions []action) {
	time.Sleep(a.c.plan.Start)
	for _, act := range actions {
		time.Sleep(act.Wait)
		if !a.alive(ctx) {
			return
		}
		a.do(ctx, act)
	}
}

// alive waits until the process runs; false: it has crashed, or time is over.
func (a *actor) alive(ctx context.Context) bool {
	return a.c.clock.awake(ctx) && !a.c.crashed() && ctx.Err() == nil
}

// within ends a context after d: in half of the cases by cancelling it, which nothing knows beforehand.
func (a *actor) within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d%2 == 0 {
		return context.WithTimeout(ctx, d)
	}
	ctx, cancel := context.WithCancel(ctx)
	t := time.AfterFunc(d, cancel)
	return ctx, func() { t.Stop(); cancel() }
}

func (a *actor) do(parent context.Context, act action) {
	switch act.Op {
	case opOnce:
		a.once(parent, act)
		return
	case opLead:
		a.lead(parent, act)
		return
	case opForce:
		a.force(parent, act)
		return
	}
	w, c, key := a.w, a.c, act.Key
	wait := &waitingCall{client: a.c, key: key, waits: act.Op != opTry}
	ctx, cancel := a.within(context.WithValue(parent, callTag{}, wait), act.Timeout)
	defer cancel()
	var l *dynalock.Lock
	var t *tenure
	var err error
	switch act.Op {
	case opAcquire, opTry:
		a.waits(wait)
		err = w.call(ctx, c, a.name, key, string(act.Op), func(ctx context.Context) error {
			f := c.lock.Acquire
			if act.Op == opTry {
				f = c.lock.TryAcquire
			}
			l, err = f(ctx, key, a.options(act))
			return err
		})
		a.waited(wait)
		if err == nil {
			a.hold(parent, act, a.given(l, act))
		}
	case opDo:
		a.waits(wait)
		err = w.call(ctx, c, a.name, key, "Do", func(ctx context.Context) error {
			return c.lock.Do(ctx, key, func(ctx context.Context, l *dynalock.Lock) error {
				a.waited(wait)
				t = a.given(l, act)
				return a.work(ctx, wait, t, act)
			}, a.options(act))
		})
		a.waited(wait)
		a.over(t, err, "Do")
	case opGet, opLeader:
		err = a.get(ctx, act)
	case opRecords:
		err = w.call(ctx, c, a.name, key, "Records", func(ctx context.Context) error {
			begin := w.now()
			for r, err := range c.lock.Records(ctx) {
				if err != nil {
					return err
				}
				w.mu.Lock()
				w.check.read(r.Key, r, begin)
				w.mu.Unlock()
			}
			return nil
		})
	case opPause, opUnpause:
		err = a.pause(ctx, act)
	case opRuns:
		err = a.list(ctx, act)
	case opHandOver:
		err = a.handOver(ctx, act)
	case opResign:
		err = a.resign(ctx, act)
	case opObserve:
		err = a.observe(ctx, act)
	case opDelete:
		_, err = w.raw.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: aws.String(lockTable), Key: itemKey(key)})
	}
	a.documented(string(act.Op), key, err, documented[act.Op]...)
}

// documented errors of calls; the end of their context always is one.
var documented = map[opKind][]error{
	opAcquire:  {dynalock.ErrClosed, dynalock.ErrStore},
	opTry:      {dynalock.ErrHeld, dynalock.ErrClosed, dynalock.ErrStore},
	opDo:       {dynalock.ErrClosed, dynalock.ErrStore, dynalock.ErrLost, errWork},
	opGet:      {dynalock.ErrStore},
	opRecords:  {dynalock.ErrStore},
	opPause:    {dynalock.ErrStore},
	opUnpause:  {dynalock.ErrStore},
	opRuns:     {dynalock.ErrStore},
	opHandOver: {dynalock.ErrStore, dynalock.ErrChanged},
	opResign:   {dynalock.ErrStore, dynalock.ErrClosed},
	opLeader:   {dynalock.ErrStore},
	opObserve:  {},
	opDelete:   {},
}

// get reads a record, that of a key or that of a leader.
func (a *actor) get(ctx context.Context, act action) error {
	w, begin := a.w, a.w.now()
	var r dynalock.Record
	err := w.call(ctx, a.c, a.name, act.Key, string(act.Op), func(ctx context.Context) (err error) {
		if act.Op == opLeader {
			r, err = a.campaign(act).Leader(context.WithValue(ctx, siteTag{}, siteLeader))
		} else {
			r, err = a.c.lock.Get(ctx, act.Key)
		}
		return err
	})
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.check.read(act.Key, r, begin)
	}
	return err
}

func itemKey(key string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"key": s(key)}
}

func (a *actor) options(act action) func(*dynalock.AcquireOptions) {
	return func(o *dynalock.AcquireOptions) {
		o.NoHeartbeat, o.MaxHold, o.DeleteOnRelease = act.NoHeartbeat, act.MaxHold, act.Delete
		o.Lease = a.lease(act)
		if act.Data {
			o.Data = []byte("begun by " + a.name)
		}
	}
}

// lease of an acquisition: shorter than the client's only where its heartbeat follows.
func (a *actor) lease(act action) time.Duration {
	if a.c.plan.Margin > 0 {
		return a.w.plan.Lease
	}
	if a.c.plan.Heartbeat > 0 || a.c.plan.Attempt > 0 {
		return max(act.Lease, a.w.plan.Lease)
	}
	if act.Lease == 0 {
		return a.w.plan.Lease
	}
	return act.Lease
}

// over checks that a call which tells of no failed release, and of no loss, has ended the tenure that it held.
func (a *actor) over(t *tenure, err error, what string) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	if t == nil || t.ended != "" || a.c.crashed() {
		return
	}
	for _, told := range []error{
		dynalock.ErrStore, dynalock.ErrLost, dynalock.ErrClosed, context.Canceled,
		context.DeadlineExceeded,
	} {
		if errors.Is(err, told) {
			return
		}
	}
	a.w.check.fail(ruleNil, t.key, "%s: %s: %s, but the item shows %s", a.name, what, outcomeText{err},
		a.w.check.key(t.key))
}

// documented checks the kind of an error; the end of a context always is one.
func (a *actor) documented(what, key string, err error, targets ...error) {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	if !slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) }) {
		a.w.fail(ruleErrors, key, "%s: %s: %v", a.name, what, err)
	}
}

// waits takes note of a call that asks for a lock.
func (a *actor) waits(call *waitingCall) {
	w := a.w
	w.mu.Lock()
	defer w.mu.Unlock()
	call.since = w.now()
	w.exporter.asks(a.name, call.since)
	if call.waits {
		w.waiting = append(w.waiting, call)
	}
}

// waited takes note of its end.
func (a *actor) waited(call *waitingCall) {
	w := a.w
	w.mu.Lock()
	defer w.mu.Unlock()
	call.over = w.now()
	w.waiting = slices.DeleteFunc(w.waiting, func(x *waitingCall) bool { return x == call })
}

// served takes note that a call that goes on has the lock.
func (a *actor) served(call *waitingCall) {
	w := a.w
	w.mu.Lock()
	defer w.mu.Unlock()
	call.asked = false
	w.waiting = slices.DeleteFunc(w.waiting, func(x *waitingCall) bool { return x == call })
}

// given takes note of a lock.
func (a *actor) given(l *dynalock.Lock, act action) *tenure {
	w := a.w
	lease := a.lease(act)
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.check.given(a.c, l, lease-cmp.Or(a.c.plan.Margin, lease/5), act.MaxHold, !act.NoHeartbeat)
	a.c.held = append(a.c.held, t)
	w.history.add(w.now(), a.name, l.Key(), "holds %s with token %d", t.id, l.Token())
	w.exporter.given(a.name, t, w.now())
	return t
}

// hold uses a lock and ends its tenure.
func (a *actor) hold(ctx context.Context, act action, t *tenure) {
	a.use(ctx, act.Hold, t)
	if !a.alive(ctx) {
		return
	}
	switch act.End {
	case endLeave:
		a.w.note(a.name, t.key, "leaves %s to its lease", t.id)
		return
	case endResume:
		a.resume(ctx, act, t)
	case endCancelled:
		over, cancel := context.WithCancel(ctx)
		cancel()
		_ = a.release(over, t) // once more below
	}
	ctx, cancel := a.within(ctx, a.w.plan.Lease)
	defer cancel()
	if a.release(ctx, t) != nil && a.alive(ctx) {
		_ = a.release(ctx, t) // once more, as an error allows
	}
}

func (a *actor) release(ctx context.Context, t *tenure) error {
	w := a.w
	w.mu.Lock()
	t.releasing = true
	w.mu.Unlock()
	err := w.call(ctx, a.c, a.name, t.key, "Release", t.lock.Release)
	w.mu.Lock()
	failed := slices.ContainsFunc(
		[]error{dynalock.ErrStore, dynalock.ErrClosed, context.Canceled, context.DeadlineExceeded}, func(target error) bool {
			return errors.Is(err, target) // joined with ErrLost, it says that the item may still show the tenure
		})
	if (err == nil || errors.Is(err, dynalock.ErrLost) && !failed) && t.ended == "" {
		w.check.fail(ruleNil, t.key, "%s: Release of %s: %s, but the item shows %s", a.name, t.id, outcomeText{err},
			w.check.key(t.key))
	}
	w.mu.Unlock()
	if t.lock.Held() {
		w.fail(ruleNil, t.key, "%s: %s is held after Release", a.name, t.id)
	}
	a.documented("Release", t.key, err, dynalock.ErrLost, dynalock.ErrStore, dynalock.ErrClosed)
	return err
}

// resume goes on with the lock in another process, for a while.
func (a *actor) resume(ctx context.Context, act action, t *tenure) {
	w := a.w
	other := &actor{w, w.clients[act.To], fmt.Sprintf("%s>%s", a.name, w.clients[act.To].name)}
	if !other.alive(ctx) {
		return
	}
	call := &waitingCall{client: other.c, key: t.key}
	ctx2, cancel := a.within(context.WithValue(ctx, callTag{}, call), w.plan.Lease)
	defer cancel()
	var l *dynalock.Lock
	err := w.call(ctx2, other.c, other.name, t.key, "Resume", func(ctx context.Context) (err error) {
		l, err = other.c.lock.Resume(ctx, t.lock.Handle(), func(o *dynalock.AcquireOptions) {
			o.Lease, o.MaxHold = other.lease(act), act.MaxHold
		})
		return err
	})
	other.waited(call)
	other.documented("Resume", t.key, err, dynalock.ErrLost, dynalock.ErrStore, dynalock.ErrClosed)
	if err == nil {
		act.End, act.Hold = endRelease, []step{{Op: stepFenced, Timeout: w.plan.Lease}}
		other.hold(ctx, act, other.given(l, act))
	}
}

// force frees a lock as an operator does who looks first.
func (a *actor) force(parent context.Context, act action) {
	w, c, key := a.w, a.c, act.Key
	ctx, cancel := a.within(parent, act.Timeout)
	defer cancel()
	r, err := c.lock.Get(ctx, key)
	a.documented("Get", key, err, dynalock.ErrStore)
	if err != nil || r.State != dynalock.Held {
		return
	}
	time.Sleep(act.Hold[0].Wait)
	ctx, cancel = a.within(parent, act.Timeout)
	defer cancel()
	err = w.call(ctx, c, a.name, key, "ForceRelease of "+r.Version,
		func(ctx context.Context) error { return c.lock.ForceRelease(ctx, r) })
	a.documented("ForceRelease", key, err, dynalock.ErrChanged, dynalock.ErrStore)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && !w.check.freed[idOf(r.Version)] {
		w.check.fail(ruleNil, key, "ForceRelease of %s returned nil, but the item shows %s", r.Version, w.check.key(key))
	}
}

// use works under the lock.
func (a *actor) use(ctx context.Context, steps []step, t *tenure) {
	w, l := a.w, t.lock
	for _, st := range steps {
		time.Sleep(st.Wait)
		if !a.alive(ctx) {
			return
		}
		w.mu.Lock()
		w.check.look(t.key)
		renewals := t.renewals
		w.mu.Unlock()
		within, cancel := a.within(ctx, st.Timeout)
		var err error
		switch st.Op {
		case stepRenew:
			err = w.call(context.WithValue(within, siteTag{}, siteRenew), a.c, a.name, t.key, "Renew", l.Renew)
			a.truth(t, err, func() bool { return t.renewals > renewals }, "Renew")
		case stepSetData:
			w.mu.Lock()
			w.writes++
			data := fmt.Sprintf("data %d", w.writes)
			w.mu.Unlock()
			err = w.call(within, a.c, a.name, t.key, "SetData",
				func(ctx context.Context) error { return l.SetData(ctx, []byte(data)) })
			a.truth(t, err, func() bool { return slices.Contains(t.data, data) }, "SetData")
		case stepFenced:
			err = a.write(within, t, st, true)
		case stepUnfenced:
			if l.Held() { // the check that does not help against a pause before the use
				err = a.write(within, t, st, false)
			}
		}
		cancel()
		a.documented(string(st.Op), t.key, err, dynalock.ErrLost, dynalock.ErrReleased, dynalock.ErrStore)
		if err != nil && st.Op == stepFenced {
			return // in doubt: nothing more is built on it in this tenure
		}
	}
}

func (a *actor) truth(t *tenure, err error, ok func() bool, what string) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	if err == nil && !ok() {
		a.w.check.fail(ruleNil, t.key, "%s: %s returned nil, but nothing was written", a.name, what)
	}
}
