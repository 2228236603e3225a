package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/internal/testserver"
)

// candidate runs in an election until the test ends.
type candidate struct {
	*dynalock.Election
	name    string
	wire    *testserver.Wire
	leads   chan *dynalock.Lock // each term won
	ends    chan error          // the cause of each term's end
	stop    context.CancelFunc
	stopped chan error // Run's error
}

func (e *env) candidate(name string, optFns ...func(*dynalock.ElectionOptions)) *candidate {
	e.Helper()
	c, wire := e.client()
	ctx, stop := context.WithCancel(e.ctx)
	k := &candidate{name: name, wire: wire, leads: make(chan *dynalock.Lock, 100), ends: make(chan error, 100), stop: stop, stopped: make(chan error, 1)}
	k.Election = c.Election("leader", append([]func(*dynalock.ElectionOptions){func(o *dynalock.ElectionOptions) {
		o.Candidate, o.Value = name, []byte(name+":8080")
	}}, optFns...)...)
	go func() {
		k.stopped <- k.Run(ctx, func(ctx context.Context, l *dynalock.Lock) error {
			k.leads <- l
			<-ctx.Done()
			k.ends <- context.Cause(ctx)
			return nil
		})
	}()
	e.Cleanup(stop)
	return k
}

func TestALeaderPublishesItsValueAndItsTokenIsTheTerm(t *testing.T) {
	onServer(t, func(e *env) {
		a := e.candidate("a")
		l := <-a.leads
		r, err := a.Leader(e.ctx)
		must(e, err)
		check(e, r.Owner == "a" && string(r.Data) == "a:8080" && r.Token == l.Token() && r.State == dynalock.Held, "leader is %+v", r)
		a.stop()
		wantErr(e, <-a.stopped, context.Canceled)
		r, err = a.Leader(e.ctx)
		must(e, err)
		check(e, r.State == dynalock.Free, "leader is %+v after the end", r)
	})
}

func TestTheEndOfRunWaitsForTheFunctionBeforeItGivesTheLockUp(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		ctx, stop := context.WithCancel(e.ctx)
		el := c.Election("leader")
		held := false
		err := el.Run(ctx, func(ctx context.Context, l *dynalock.Lock) error {
			stop()
			<-ctx.Done()
			time.Sleep(5 * lease) // slow to stop
			held = l.Held()
			return errors.New("half done")
		})
		check(e, held, "the lock was given up while the function ran")
		wantErr(e, err, context.Canceled)
		check(e, err.Error() == "context canceled\nhalf done", "error is %q", err)
	})
}

func TestHandOverMakesTheNamedCandidateTheLeaderInThreeRequests(t *testing.T) {
	onServer(t, func(e *env) {
		a := e.candidate("a")
		la := <-a.leads
		b, c := e.candidate("b"), e.candidate("c")
		time.Sleep(lease / 10) // both wait
		must(e, a.HandOver(e.ctx, "c"))
		wantErr(e, <-a.ends, dynalock.ErrHandedOver)
		lc := <-c.leads
		check(e, lc.Token() > la.Token(), "token %d after %d", lc.Token(), la.Token())
		check(e, len(b.leads) == 0, "b led")
		must(e, b.HandOver(e.ctx, "b")) // asked for by one who does not lead
		wantErr(e, <-c.ends, dynalock.ErrHandedOver)
		<-b.leads
		if e.embedded == nil {
			return
		}
		// The gap: the requests on the item between the leader's last write and the candidate's first.
		var ended time.Time
		gap := 0
		for _, r := range e.embedded.Requests() {
			for _, w := range r.Writes {
				if _, yielded := w.New()["yielded"]; yielded {
					ended, gap = r.At, 0
				} else if _, before := w.Old()["yielded"]; before {
					e.Logf("hand-over: %v and %d reads between the two writes", r.At.Sub(ended), gap)
					check(e, r.At.Sub(ended) < 100*time.Millisecond, "gap of %v", r.At.Sub(ended))
				}
			}
			if r.Operation == "GetItem" {
				gap++
			}
		}
	})
}

func TestHandOverToNobodyEndsWithTheLease(t *testing.T) {
	virtual(t, func(e *env) {
		a := e.candidate("a")
		<-a.leads
		b := e.candidate("b")
		time.Sleep(lease)
		start := time.Now()
		wantErr(e, a.HandOver(e.ctx, "nobody"), dynalock.ErrChanged)
		<-b.leads
		check(e, time.Since(start) < 5*lease, "nobody led for %v", time.Since(start))
	})
}

func TestAnUnhealthyLeaderEndsItsTermInGoodOrderAndDoesNotCampaign(t *testing.T) {
	virtual(t, func(e *env) {
		var sick atomic.Bool
		a := e.candidate("a", func(o *dynalock.ElectionOptions) {
			o.Health = func(context.Context) error {
				if sick.Load() {
					return errors.New("disk full")
				}
				return nil
			}
		})
		<-a.leads
		b := e.candidate("b")
		time.Sleep(lease)
		sick.Store(true)
		start := time.Now()
		err := <-a.ends
		wantErr(e, err, dynalock.ErrUnhealthy)
		<-b.leads
		check(e, time.Since(start) < 2*lease, "b led only after %v", time.Since(start))
		time.Sleep(10 * lease)
		check(e, len(a.leads) == 0, "an unhealthy candidate led")
		b.stop()
		sick.Store(false)
		<-a.leads
	})
}

func TestResignLetsOthersLeadAndCampaignsAgain(t *testing.T) {
	virtual(t, func(e *env) {
		a := e.candidate("a")
		<-a.leads
		b := e.candidate("b")
		time.Sleep(lease)
		must(e, a.Resign(e.ctx))
		wantErr(e, <-a.ends, dynalock.ErrResigned)
		<-b.leads
		must(e, b.Resign(e.ctx))
		<-a.leads
	})
}

func TestObserveYieldsEveryLeaderAndItsValue(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		seen := make(chan string, 100)
		go func() {
			for r, err := range c.Election("leader").Observe(e.ctx) {
				check(e, err == nil, "%v", err)
				seen <- fmt.Sprintf("%v %s", r.State, r.Data)
			}
		}()
		next := func() string { time.Sleep(3 * time.Second); return <-seen }
		check(e, next() == "free ", "an empty election is not shown")
		a := e.candidate("a")
		l := <-a.leads
		got := next()
		check(e, got == "held a:8080", "saw %q", got)
		must(e, l.SetData(e.ctx, []byte("moved")))
		got = next()
		check(e, got == "held moved", "saw %q", got)
		a.stop()
		got = next()
		check(e, got == "free moved", "saw %q", got)
	})
}

func TestALeaderWithoutAValueDoesNotShowTheOneBefore(t *testing.T) {
	virtual(t, func(e *env) {
		a := e.candidate("a")
		<-a.leads
		a.stop()
		<-a.stopped
		b := e.candidate("b", func(o *dynalock.ElectionOptions) { o.Value = nil })
		<-b.leads
		r, err := b.Leader(e.ctx)
		must(e, err)
		check(e, r.Owner == "b" && len(r.Data) == 0, "leader is %+v", r)
	})
}

func TestASecondRunOfACandidateIsRefused(t *testing.T) {
	virtual(t, func(e *env) {
		a := e.candidate("a")
		<-a.leads
		wantErr(e, a.Run(e.within(lease), nil), dynalock.ErrInvalid)
		check(e, len(a.ends) == 0, "the first Run was ended")
	})
}

func TestAHandOverThatComesTooLateLeavesTheNextLeaderAlone(t *testing.T) {
	virtual(t, func(e *env) {
		a := e.candidate("a")
		la := <-a.leads
		b := e.candidate("b")
		time.Sleep(lease)
		asking, wire := e.client()
		wire.Inject(testserver.Fault{Op: "UpdateItem", Delay: 2 * lease, Times: 1}) // while a leads no more
		go func() {
			time.Sleep(lease / 2)
			check(e, a.Resign(e.ctx) == nil, "not resigned")
		}()
		wantErr(e, asking.Election("leader").HandOver(e.ctx, "c"), dynalock.ErrChanged)
		lb := <-b.leads
		check(e, lb.Token() > la.Token(), "token %d after %d", lb.Token(), la.Token())
		time.Sleep(5 * lease)
		check(e, len(b.ends) == 0 && lb.Held(), "b was asked to hand over: %v", lb.Err())
	})
}

// dynamolock copies attributes that it does not know into a row that it takes over.
func TestACandidateDoesNotTakeALockThatDynamolockHoldsThoughAnOldLeaderStoodDownForIt(t *testing.T) {
	virtual(t, func(e *env) {
		row := with(goRow("dynamolock", "theirs"), attributes{"successor": s("b"), "yielded": s("0123456789abcdef0123456789abcdef-7"), "fencingToken": n("7")})
		e.put("leader", row)
		b := e.candidate("b")
		for beat := range 20 {
			time.Sleep(lease / 4)
			check(e, len(b.leads) == 0, "b took the lock of a live holder")
			e.put("leader", with(row, attributes{"recordVersionNumber": s(fmt.Sprint("theirs ", beat))}))
		}
		<-b.leads // when it is dead
	})
}

func TestNoTwoLeadersHoldAtOnceUnderAnyFault(t *testing.T) {
	kinds := []dynalocktest.Kind{
		dynalocktest.SlowRequest, dynalocktest.SlowResponse, dynalocktest.LostRequest, dynalocktest.LostResponse, dynalocktest.Duplicated,
		dynalocktest.ErrorBefore, dynalocktest.ErrorAfter, dynalocktest.ResetBefore, dynalocktest.ResetAfter, dynalocktest.Throttled,
		dynalocktest.Conflict,
	}
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			virtual(t, func(e *env) {
				random := rand.New(rand.NewPCG(1, uint64(len(kind))))
				e.embedded.Inject(dynalocktest.Fault{Kind: kind, Probability: 0.2, Jitter: 3 * lease})
				var mu sync.Mutex
				leaders := map[string]*dynalock.Lock{}
				terms := 0
				for _, name := range []string{"a", "b", "c"} {
					c, _ := e.client()
					el := c.Election("leader", func(o *dynalock.ElectionOptions) { o.Candidate = name })
					go func() {
						for e.ctx.Err() == nil {
							_ = el.Run(e.ctx, func(ctx context.Context, l *dynalock.Lock) error {
								mu.Lock()
								terms++
								leaders[name] = l
								end := time.Duration(random.Int64N(int64(4 * lease)))
								mu.Unlock()
								select {
								case <-ctx.Done():
								case <-time.After(end):
								}
								return nil
							})
						}
					}()
				}
				for range 20_000 {
					time.Sleep(10 * time.Millisecond)
					mu.Lock()
					var holding []string
					for name, l := range leaders {
						if l.Held() {
							holding = append(holding, name)
						}
					}
					mu.Unlock()
					if len(holding) > 1 {
						e.Fatalf("%v lead at once", holding)
					}
				}
				check(e, terms > 10, "only %d terms in 200 s", terms)
				e.Logf("%d terms", terms)
			})
		})
	}
}
