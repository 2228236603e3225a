package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dynalock/dynalock/dynalock"
)

// The rules of elections, and of functions under a lock.
const (
	ruleFunction = "a lock is given up only after the function that it guards has returned"
	ruleContext  = "the context of a function under a lock ends with the lock"
	ruleCause    = "the cause of the end of a term is true"
	ruleSeen     = "a record that was read is what the item said during the call"
)

func voteName(i int) string { return "e" + strconv.Itoa(i) }

// sickness is a time in which a client's candidates are not healthy.
type sickness struct{ At, For time.Duration }

// newCandidates adds a candidate to a client, or two, and goroutines that ask for hand-overs and look on. A candidate
// is named after its goroutine.
func newCandidates(d dice, p *simPlan, c *clientPlan) {
	if d.chance(0.2) {
		for range 1 + d.IntN(2) {
			c.Sick = append(c.Sick, sickness{d.upTo(p.horizon()), d.upTo(3 * p.Lease)})
		}
	}
	for range pick(d, 1, 1, 1, 2) {
		key := voteName(d.IntN(p.Votes))
		c.Actors = append(c.Actors, newActor(1+d.IntN(3), func() action { return newTerm(d, p, key) }))
	}
	if d.chance(0.6) {
		candidates := c.candidates()
		c.Actors = append(c.Actors, newActor(1+d.IntN(4), func() action {
			return action{
				Op: pick(d, opHandOver, opHandOver, opHandOver, opResign, opLeader, opObserve), Key: voteName(d.IntN(p.Votes)),
				Candidate: pick(d, candidates...), Wait: d.upTo(2 * p.Lease), Timeout: d.between(p.Lease/2, 4*p.Lease),
			}
		}))
	}
}

// newTerm is a call of Run.
func newTerm(d dice, p *simPlan, key string) action {
	a := action{
		Op: opLead, Key: key, Wait: d.upTo(p.Lease), Timeout: d.between(p.Lease/2, 10*p.Lease),
		Hold: newSteps(d, p), Stay: d.upTo(8 * p.Lease),
	}
	newFunction(d, p, &a)
	if d.chance(0.5) {
		a.Stay = 3 * p.horizon() // it leads as long as it may
	}
	return a
}

// candidates are the goroutines that campaign.
func (c *clientPlan) candidates() (numbers []string) {
	for i, actor := range c.Actors {
		if len(actor) > 0 && actor[0].Op == opLead {
			numbers = append(numbers, strconv.Itoa(i))
		}
	}
	return numbers
}

func (p *simPlan) candidates() (names []string) {
	for i := range p.Clients {
		for _, n := range p.Clients[i].candidates() {
			names = append(names, fmt.Sprintf("c%d.%s", i, n))
		}
	}
	return names
}

// campaign is a client's part in an election: its candidate of one name.
type campaign struct {
	*dynalock.Election
	leads    *tenure // the last term that the candidate won
	resigned bool    // during this term
	sick     bool    // it was told so during this term
}

func (c *simClient) campaign(key, candidate string) *campaign {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	name := key + " " + candidate
	if c.campaigns[name] == nil {
		cp := &campaign{}
		cp.Election = c.lock.Election(key, func(o *dynalock.ElectionOptions) {
			o.Candidate, o.Value = candidate, []byte("value of "+candidate)
			if len(c.plan.Sick) > 0 {
				o.Health = func(context.Context) error {
					c.w.mu.Lock()
					defer c.w.mu.Unlock()
					now := c.w.now()
					for _, s := range c.plan.Sick {
						if s.At <= now && now < s.At+s.For {
							cp.sick = true
							return errors.New("sick")
						}
					}
					return nil
				}
			}
		})
		c.campaigns[name] = cp
	}
	return c.campaigns[name]
}

// campaign is the candidate that an action is about: the own one of the goroutine, or another one of the client.
func (a *actor) campaign(act action) *campaign {
	name := a.name
	if act.Op != opLead && act.Op != opHandOver {
		name = a.c.name + "." + act.Candidate
	}
	return a.c.campaign(act.Key, name)
}

// lead campaigns and leads.
func (a *actor) lead(parent context.Context, act action) {
	w, c := a.w, a.c
	call := &waitingCall{client: c, key: act.Key, waits: true, asks: true, patient: true}
	ctx, cancel := a.within(context.WithValue(parent, callTag{}, call), act.Timeout)
	defer cancel()
	cp := a.campaign(act)
	var last *tenure
	err := w.call(ctx, c, a.name, act.Key, "Run", func(ctx context.Context) error {
		return cp.Run(ctx, func(term context.Context, l *dynalock.Lock) error {
			a.served(call)
			t := a.given(l, act)
			last = t
			w.mu.Lock()
			w.check.count.Terms++
			cp.leads, cp.resigned, cp.sick = t, false, false
			w.mu.Unlock()
			defer func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				if cause := context.Cause(term); cause != nil && ctx.Err() == nil && !c.crashed() {
					w.check.caused(cp, t, cause)
				}
			}()
			return a.work(term, call, t, act)
		})
	})
	a.waited(call)
	a.over(last, err, "Run")
	if a.alive(parent) {
		a.documented("Run", act.Key, err, dynalock.ErrHeld, dynalock.ErrLost, dynalock.ErrClosed, dynalock.ErrStore, errWork)
	}
}

// caused checks why a term ended.
func (k *checker) caused(cp *campaign, t *tenure, cause error) {
	ok := false
	switch {
	case errors.Is(cause, dynalock.ErrHandedOver):
		ok = t.asked
	case errors.Is(cause, dynalock.ErrResigned):
		ok = cp.resigned
	case errors.Is(cause, dynalock.ErrUnhealthy):
		ok = cp.sick
	case errors.Is(cause, dynalock.ErrLost):
		ok = errors.Is(t.lock.Err(), dynalock.ErrLost)
	case errors.Is(cause, dynalock.ErrClosed):
		ok = t.client.closing
	}
	if !ok {
		k.fail(ruleCause, t.key, "%s ended for %v", t.id, cause)
	}
}

// handOver asks for another leader.
func (a *actor) handOver(ctx context.Context, act action) error {
	w, begin := a.w, a.w.now()
	err := w.call(ctx, a.c, a.name, act.Key, "HandOver to "+act.Candidate, func(ctx context.Context) error {
		return a.c.campaign(act.Key, a.asks(act)).HandOver(context.WithValue(ctx, siteTag{}, siteLeader), act.Candidate)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if st := w.check.key(act.Key); err == nil && !slices.ContainsFunc(st.terms, func(x leadership) bool {
		return x.owner == act.Candidate && (x.until == 0 || x.until >= begin)
	}) {
		w.check.fail(ruleNil, act.Key, "HandOver to %s returned nil; the leaders were %v", act.Candidate, st.terms)
	}
	return err
}

// asks is the candidate whose HandOver is called: one that leads in this client, if there is one.
func (a *actor) asks(act action) string {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	for name, cp := range a.c.campaigns {
		if key, candidate, _ := strings.Cut(name, " "); key == act.Key && cp.leads != nil && cp.leads.working != nil {
			return candidate
		}
	}
	return a.name
}

// resign ends the term of a candidate of this client.
func (a *actor) resign(ctx context.Context, act action) error {
	w, cp := a.w, a.campaign(act)
	w.mu.Lock()
	t := cp.leads
	if t != nil && t.working == nil {
		t = nil
	}
	cp.resigned = true
	w.mu.Unlock()
	err := w.call(ctx, a.c, a.name, act.Key, "Resign of "+act.Candidate, cp.Resign)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil || t == nil || a.c.crashed() {
		return err
	}
	w.check.count.Resigned++
	if t.working != nil || t.lock.Held() || t.ended == "" && !errors.Is(t.lock.Err(), dynalock.ErrLost) {
		w.check.fail(ruleNil, act.Key, "Resign returned nil, but the item shows %s", w.check.key(act.Key))
	}
	return nil
}

// observe looks on.
func (a *actor) observe(ctx context.Context, act action) error {
	w := a.w
	return w.call(ctx, a.c, a.name, act.Key, "Observe", func(ctx context.Context) error {
		for r, err := range a.campaign(act).Observe(context.WithValue(ctx, siteTag{}, siteObserve)) {
			if err != nil {
				a.documented("Observe", act.Key, err, dynalock.ErrStore)
				continue
			}
			w.mu.Lock()
			w.check.count.Observed++
			if st := w.check.key(act.Key); r.State == dynalock.Held && !slices.ContainsFunc(st.terms, func(x leadership) bool {
				return x.owner == r.Owner && x.token == r.Token
			}) {
				w.check.fail(ruleSeen, act.Key, "Observe yielded %+v, the leaders were %v", r, st.terms)
			}
			w.mu.Unlock()
		}
		return nil
	})
}

// leadership is the time of one tenure, by the order of writes.
type leadership struct {
	owner       string
	token       uint64
	from, until time.Duration // until 0: it lasts
}

// read checks what a consistent read has shown.
func (k *checker) read(key string, r dynalock.Record, begin time.Duration) {
	st := k.key(key)
	free := r.State != dynalock.Held
	if r.Version == st.version && free == (st.released || !st.exists) {
		return
	}
	for _, p := range st.past {
		if p.until >= begin && textOf(p.item, "recordVersionNumber") == r.Version {
			return
		}
	}
	if len(st.past) < 6 || st.past[0].until < begin {
		k.fail(ruleSeen, key, "read as %+v, but the item shows %s", r, st)
	}
}
