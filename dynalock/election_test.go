package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

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
	named := *e
	if e.embedded != nil { // the server's list of requests tells who sent them
		named.connect = func() *dynamodb.Client { return e.embedded.ClientFor(name) }
	}
	c, wire := named.client()
	ctx, stop := context.WithCancel(e.ctx)
	k := &candidate{
		name: name, wire: wire, leads: make(chan *dynalock.Lock, 100), ends: make(chan error, 100), stop: stop,
		stopped: make(chan error, 1),
	}
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
		check(e, r.Owner == "a" && string(r.Data) == "a:8080" && r.Token == l.Token() && r.State == dynalock.Held,
			"leader is %+v", r)
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
		check(e, err.Error() == "context canceled; half done", "error is %q", err)
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
		must(e, a.HandOver(e.ctx, "b")) // asked for by one who does not lead
		wantErr(e, <-c.ends, dynalock.ErrHandedOver)
		<-b.leads
		if e.embedded == nil {
			return
		}
		// The three: the leader's last write, the candidate's look, the candidate's write. Others may look meanwhile,
		// but nobody else tries to write.
		type gap struct {
			took    time.Duration
			looks   int // of the candidate
			refused int // writes of anybody
		}
		var (
			gaps    []gap
			ended   time.Time
			looks   = map[string]int{}
			refused int
		)
		for _, r := range e.embedded.Requests() {
			switch {
			case r.Operation == "GetItem":
				looks[r.Client]++
			case r.Error != "":
				refused++
			}
			for _, w := range r.Writes {
				if _, yielded := w.New()["yielded"]; yielded {
					ended, looks, refused = r.At, map[string]int{}, 0
				} else if _, before := w.Old()["yielded"]; before {
					gaps = append(gaps, gap{r.At.Sub(ended), looks[r.Client], refused})
				}
			}
		}
		check(e, len(gaps) == 2, "%d hand-overs, want 2", len(gaps))
		for _, g := range gaps {
			e.Logf("hand-over: %v between the two writes, %d looks of the candidate", g.took, g.looks)
			check(e, g.looks == 1 && g.refused == 0, "%d looks of the candidate, want 1; %d refused writes", g.looks, g.refused)
			check(e, g.took <= time.Second/20+4*2*time.Millisecond, "gap of %v, want MaxPoll/20 and two requests at most",
				g.took)
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

func TestHandOverToALeaderThatStoodDownWaitsUntilItLeadsAgain(t *testing.T) {
	virtual(t, func(e *env) {
		a := e.candidate("a")
		first := <-a.leads
		wantErr(e, a.HandOver(e.within(lease/2), "nobody"), context.DeadlineExceeded)
		wantErr(e, <-a.ends, dynalock.ErrHandedOver)
		must(e, a.HandOver(e.ctx, "a"))
		r, err := a.Leader(e.ctx)
		must(e, err)
		check(e, r.Owner == "a" && r.Token > first.Token(), "handed over to %+v, whose last token was %d", r, first.Token())
	})
}

func TestResignSaysThatTheLockWasNotReleased(t *testing.T) {
	virtual(t, func(e *env) {
		a := e.candidate("a")
		<-a.leads
		remove := e.embedded.Inject(
			dynalocktest.Fault{Kind: dynalocktest.ErrorBefore, Operation: "UpdateItem", Code: "ValidationException"})
		wantErr(e, a.Resign(e.ctx), dynalock.ErrStore)
		remove()
		r, err := a.Leader(e.ctx)
		must(e, err)
		check(e, r.State == dynalock.Held, "the lock was released after all: %+v", r)
	})
}

func TestRunSaysThatTheLockWasNotReleased(t *testing.T) {
	for name, want := range map[string]error{"lead returns": nil, "the end of its context": context.Canceled} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, wire := e.client()
				ctx, stop := context.WithCancel(e.ctx)
				defer stop()
				err := c.Election("leader").Run(ctx, func(ctx context.Context, _ *dynalock.Lock) error {
					wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ValidationException"})
					if want != nil {
						stop()
						<-ctx.Done()
					}
					return nil
				})
				wantErr(e, err, dynalock.ErrStore)
				if want != nil {
					wantErr(e, err, want)
				}
			})
		})
	}
}

// unless makes a candidate healthy while it is not sick.
func unless(sick *atomic.Bool) func(*dynalock.ElectionOptions) {
	return func(o *dynalock.ElectionOptions) {
		o.Health = func(context.Context) error {
			if sick.Load() {
				return errors.New("disk full")
			}
			return nil
		}
	}
}

func TestAnUnhealthyLeaderEndsItsTermInGoodOrderAndDoesNotCampaign(t *testing.T) {
	virtual(t, func(e *env) {
		var sick atomic.Bool
		a := e.candidate("a", unless(&sick))
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

func TestAnUnhealthyLeaderThatDoesNotStopIsFollowedWhenItsLeaseIsOver(t *testing.T) {
	virtual(t, func(e *env) {
		var sick atomic.Bool
		c, _ := e.client()
		ctx, stop := context.WithCancel(e.ctx)
		hung, over := make(chan *dynalock.Lock, 1), make(chan error, 1)
		go func() {
			over <- c.Election("leader", func(o *dynalock.ElectionOptions) {
				o.Health = func(context.Context) error {
					if sick.Load() {
						return errors.New("disk full")
					}
					return nil
				}
			}).Run(ctx, func(ctx context.Context, l *dynalock.Lock) error {
				hung <- l
				<-ctx.Done()
				wantErr(e, context.Cause(ctx), dynalock.ErrUnhealthy)
				time.Sleep(10 * lease)
				return nil
			})
		}()
		l := <-hung
		b := e.candidate("b")
		time.Sleep(lease)
		sick.Store(true)
		start := time.Now()
		<-b.leads
		took := time.Since(start)
		check(e, took > lease/2 && took < 2*lease && !l.Held(), "b led after %v, the hung leader holds %v", took, l.Held())
		stop()
		wantErr(e, <-over, context.Canceled)
	})
}

func TestRunAsksHealthWithinTheAttemptTimeoutOfItsLease(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		ctx, stop := context.WithCancel(e.ctx)
		err := c.Election("leader", func(o *dynalock.ElectionOptions) {
			o.Lease = time.Second
			o.Health = func(ctx context.Context) error {
				defer stop()
				end, _ := ctx.Deadline()
				check(e, time.Until(end) == 200*time.Millisecond, "Health has %v, want a fifth of the lease", time.Until(end))
				return errors.New("disk full")
			}
		}).Run(ctx, nothing)
		wantErr(e, err, context.Canceled)
	})
}

func TestRunRefusesABadLeaseBeforeItAsksHealth(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		err := c.Election("leader", func(o *dynalock.ElectionOptions) {
			o.Lease = time.Microsecond
			o.Health = func(context.Context) error { return errors.New("disk full") }
		}).Run(e.within(time.Hour), nothing)
		wantErr(e, err, dynalock.ErrInvalid)
	})
}

func TestCloseEndsARunThatDoesNotLead(t *testing.T) {
	for name, well := range map[string]bool{"not healthy": false, "letting others go first": true} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, _ := e.client(func(o *dynalock.Options) { o.MaxPoll = time.Hour })
				el := c.Election("leader", func(o *dynalock.ElectionOptions) {
					if !well {
						o.Health = func(context.Context) error { return errors.New("disk full") }
					}
				})
				over := make(chan error, 1)
				go func() {
					over <- el.Run(e.within(3*time.Hour),
						func(ctx context.Context, _ *dynalock.Lock) error { <-ctx.Done(); return nil })
				}()
				time.Sleep(lease)
				must(e, el.Resign(e.ctx))
				start := time.Now()
				must(e, c.Close(e.within(lease)))
				wantErr(e, <-over, dynalock.ErrClosed)
				check(e, time.Since(start) < lease, "it took %v", time.Since(start))
			})
		})
	}
}

func TestCloseDoesNotWaitForAHandOverThatTheEndOfTheTermHasOvertaken(t *testing.T) {
	for name, stopFirst := range map[string]bool{"by Run's context": true, "by Close": false} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, _ := e.client(func(o *dynalock.Options) { o.MaxPoll = time.Hour })
				el := c.Election("leader", func(o *dynalock.ElectionOptions) { o.Candidate = "a" })
				ctx, stop := context.WithCancel(e.ctx)
				leads, over := make(chan struct{}), make(chan error, 1)
				go func() {
					over <- el.Run(ctx, func(ctx context.Context, _ *dynalock.Lock) error { close(leads); <-ctx.Done(); return nil })
				}()
				<-leads
				wantErr(e, el.HandOver(e.within(lease), "b"), context.DeadlineExceeded)
				if stopFirst {
					stop()
					wantErr(e, <-over, context.Canceled)
				}
				must(e, c.Close(e.within(lease)))
				if !stopFirst {
					wantErr(e, <-over, dynalock.ErrClosed)
				}
				stop()
			})
		})
	}
}

func TestACandidateThatIsNotHealthyDoesNotCampaignThoughNobodyLeads(t *testing.T) {
	virtual(t, func(e *env) {
		var well atomic.Bool
		a := e.candidate("a", func(o *dynalock.ElectionOptions) {
			o.Health = func(context.Context) error {
				if well.Load() {
					return nil
				}
				return errors.New("disk full")
			}
		})
		time.Sleep(5 * lease)
		check(e, len(a.leads) == 0 && a.wire.Count() == 0, "%d terms, %d requests of a candidate that is not healthy",
			len(a.leads), a.wire.Count())
		well.Store(true)
		<-a.leads
	})
}

func TestALeaderThatIsNotHealthyAnyMoreDoesNotCampaignThoughNobodyElseDoes(t *testing.T) {
	virtual(t, func(e *env) {
		var sick atomic.Bool
		a := e.candidate("a", unless(&sick))
		<-a.leads
		sick.Store(true)
		wantErr(e, <-a.ends, dynalock.ErrUnhealthy)
		time.Sleep(3 * lease)
		check(e, len(a.leads) == 0, "it led %d times more", len(a.leads))
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
		wantErr(e, <-a.stopped, context.Canceled)
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
		wantErr(e, a.Run(e.within(lease), nothing), dynalock.ErrInvalid)
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
		row := with(goRow("dynamolock", "theirs"),
			attributes{"successor": s("b"), "yielded": s("0123456789abcdef0123456789abcdef-7"), "fencingToken": n("7")})
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
		dynalocktest.SlowRequest, dynalocktest.SlowResponse, dynalocktest.LostRequest, dynalocktest.LostResponse,
		dynalocktest.Duplicated,
		dynalocktest.ErrorBefore, dynalocktest.ErrorAfter, dynalocktest.ResetBefore, dynalocktest.ResetAfter,
		dynalocktest.Throttled,
		dynalocktest.Conflict,
	}
	for i, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			virtual(t, func(e *env) {
				e.embedded.Inject(dynalocktest.Fault{Kind: kind, Probability: 0.2, Jitter: 3 * lease})
				unrest(e, uint64(i))
			})
		})
	}
	t.Run("all of them", func(t *testing.T) {
		virtual(t, func(e *env) {
			for _, kind := range kinds {
				e.embedded.Inject(dynalocktest.Fault{Kind: kind, Probability: 0.03, Jitter: 3 * lease})
			}
			unrest(e, 100)
		})
	})
}

// unrest lets three candidates lead, be cut off, resign, hand over and give up, and looks all the time whether two of
// them hold the lock or are at work.
func unrest(e *env, seed uint64) {
	const looks, every = 20_000, 10 * time.Millisecond
	var (
		mu        sync.Mutex // guards what follows
		random    = rand.New(rand.NewPCG(1, seed))
		locks     []*dynalock.Lock // that may be held
		atWork    []string
		terms     int
		ends      = map[string]int{}
		elections []*dynalock.Election
	)
	below := func(d time.Duration) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(random.Int64N(int64(d)))
	}
	lead := func(name string) func(context.Context, *dynalock.Lock) error {
		return func(ctx context.Context, l *dynalock.Lock) error {
			mu.Lock()
			terms++
			locks, atWork = append(locks, l), append(atWork, name)
			if len(atWork) > 1 {
				e.Errorf("%v are at work at once", atWork)
			}
			mu.Unlock()
			end := "gave up"
			select {
			case <-ctx.Done():
				end = endOf(ctx)
			case <-time.After(below(20 * lease)):
			}
			if end != "lost" { // slow to stop, which keeps the lock
				finished := time.After(below(lease))
				select {
				case <-finished:
				case <-l.Done():
					if !errors.Is(l.Err(), dynalock.ErrLost) {
						<-finished
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			ends[end]++
			atWork = slices.DeleteFunc(atWork, func(other string) bool { return other == name })
			return nil
		}
	}
	names := []string{"a", "b", "c"}
	ctx, stop := context.WithCancel(e.ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	sleep := func(d time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	for _, name := range names {
		db := e.embedded.ClientFor(name)
		c, err := dynalock.New(db, e.table, func(o *dynalock.Options) { o.Lease = lease })
		must(e, err)
		e.Cleanup(func() { _ = c.Close(e.within(time.Second)) })
		el := c.Election("leader", func(o *dynalock.ElectionOptions) { o.Candidate = name })
		elections = append(elections, el)
		running.Go(func() {
			for ctx.Err() == nil {
				_ = el.Run(ctx, lead(name)) // it ends when lead gives up
				sleep(every)
			}
		})
	}
	running.Go(func() { // what else happens to leaders
		for ctx.Err() == nil {
			sleep(below(2 * lease))
			who, to := int(below(3)), int(below(3))
			switch below(3) {
			case 0:
				mu.Lock()
				if len(atWork) > 0 {
					who = slices.Index(names, atWork[0])
				}
				mu.Unlock()
				mend := e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.LostRequest, Client: names[who]})
				sleep(below(3 * lease))
				mend()
			case 1:
				_ = elections[who].Resign(e.within(lease)) // most often it does not lead
			case 2:
				_ = elections[who].HandOver(e.within(2*lease), names[to])
			}
		}
	})
	n, reached := 0, false
	for ; n < looks || !reached && n < 5*looks; n++ {
		time.Sleep(every)
		mu.Lock()
		reached = terms >= 5 && ends["lost"] > 0 && ends["handed over"]+ends["resigned"] > 0
		locks = slices.DeleteFunc(locks, func(l *dynalock.Lock) bool { return l.Err() != nil && !l.Held() })
		held := 0
		for _, l := range locks {
			if l.Held() {
				held++
			}
		}
		mu.Unlock()
		if held > 1 {
			e.Fatalf("%d terms are held at once", held)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	e.Logf("%d looks: never two; %d terms, %v", n, terms, ends)
	check(e, reached, "%d terms, %v: the test did not reach its cases", terms, ends)
}

// endOf names why a term ended.
func endOf(ctx context.Context) string {
	for name, err := range map[string]error{
		"lost": dynalock.ErrLost, "handed over": dynalock.ErrHandedOver,
		"resigned": dynalock.ErrResigned,
	} {
		if errors.Is(context.Cause(ctx), err) {
			return name
		}
	}
	return "stopped"
}

func TestALeaderThatPublishesOftenIsStillAskedWhetherItIsHealthyAndToHandOver(t *testing.T) {
	publish := func(ctx context.Context, l *dynalock.Lock) error {
		for n := 0; n < 200 && ctx.Err() == nil; n++ {
			_ = l.SetData(ctx, []byte("busy")) // the end of the term may cut it short
			time.Sleep(lease / 10)
		}
		return ctx.Err()
	}
	t.Run("to hand over", func(t *testing.T) {
		virtual(t, func(e *env) {
			c, _ := e.client()
			ctx, stop := context.WithCancel(e.ctx)
			over := make(chan error, 1)
			go func() {
				over <- c.Election("leader", func(o *dynalock.ElectionOptions) { o.Candidate = "a" }).Run(ctx, publish)
			}()
			time.Sleep(lease / 10)
			b := e.candidate("b")
			must(e, b.HandOver(e.within(5*lease), "b"))
			stop()
			wantErr(e, <-over, context.Canceled)
		})
	})
	t.Run("whether it is healthy", func(t *testing.T) {
		virtual(t, func(e *env) {
			c, _ := e.client()
			ctx, stop := context.WithCancel(e.ctx)
			var sick atomic.Bool
			var cause, late error
			err := c.Election("leader", func(o *dynalock.ElectionOptions) {
				o.Health = func(context.Context) error {
					if sick.Load() {
						return errors.New("disk full")
					}
					return nil
				}
			}).Run(ctx, func(ctx context.Context, l *dynalock.Lock) error {
				sick.Store(true)
				_ = publish(ctx, l)
				cause = context.Cause(ctx)
				late = l.SetData(e.within(5*lease), []byte("still here"))
				stop()
				return nil
			})
			wantErr(e, err, context.Canceled)
			wantErr(e, cause, dynalock.ErrUnhealthy)
			wantErr(e, late, dynalock.ErrLost)
		})
	})
}

func TestAHandOverToTheSecondInItsClientsLineIsTakenAtOnce(t *testing.T) {
	virtual(t, func(e *env) {
		a := e.candidate("a")
		<-a.leads
		c, _ := e.client()
		ctx, stop := context.WithCancel(e.ctx)
		var wg sync.WaitGroup
		for _, name := range []string{"b", "c"} {
			wg.Go(func() {
				err := c.Election("leader", func(o *dynalock.ElectionOptions) { o.Candidate = name }).Run(ctx,
					func(ctx context.Context, _ *dynalock.Lock) error { <-ctx.Done(); return nil })
				wantErr(e, err, context.Canceled)
			})
			time.Sleep(lease / 10) // b is first in line
		}
		start := time.Now()
		must(e, a.HandOver(e.within(10*lease), "c"))
		check(e, time.Since(start) < lease, "c led after %v", time.Since(start))
		stop()
		wg.Wait()
	})
}

func TestAHandOverWhoseAnswerIsLostIsNoFailure(t *testing.T) {
	virtual(t, func(e *env) {
		a := e.candidate("a")
		<-a.leads
		b := e.candidate("b")
		time.Sleep(lease / 10)
		c, wire := e.client()
		wire.Inject(testserver.Fault{Kind: testserver.HangAfter, Op: "UpdateItem", Times: 1})
		must(e, c.Election("leader").HandOver(e.within(10*lease), "b"))
		<-b.leads
	})
}

func TestWhoWaitsForACandidateOfItsOwnClientIsToldItsName(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		ctx, stop := context.WithCancel(e.ctx)
		leads, over := make(chan struct{}), make(chan error, 1)
		go func() {
			over <- c.Election("leader", func(o *dynalock.ElectionOptions) { o.Candidate = "b" }).Run(ctx,
				func(ctx context.Context, _ *dynalock.Lock) error { close(leads); <-ctx.Done(); return nil })
		}()
		<-leads
		_, err := c.Acquire(e.within(lease), "leader")
		held, ok := errors.AsType[*dynalock.HeldError](err)
		check(e, ok && held.Record.Owner == "b", "error is %v", err)
		stop()
		wantErr(e, <-over, context.Canceled)
	})
}

func TestAnOrdinaryStopOfALeaderIsTheErrorOfItsContextAndACandidatesMatchesIt(t *testing.T) {
	onServer(t, func(e *env) {
		a, _ := e.client()
		b, _ := e.client()
		ctx, stop := context.WithCancel(e.ctx)
		candidate := make(chan error, 1)
		err := a.Election("k").Run(ctx, func(term context.Context, _ *dynalock.Lock) error {
			go func() { candidate <- b.Election("k").Run(ctx, nothing) }()
			time.Sleep(lease / 10)
			stop()
			<-term.Done()
			return term.Err()
		})
		check(e, err == context.Canceled, "the leader's Run returned %v", err) //nolint:errorlint // exactly that
		wantErr(e, <-candidate, context.Canceled)
		err = a.Election("k").Run(e.ctx, nothing)
		check(e, err == nil, "a lead that returned nil is %v", err)
	})
}

func TestAnObserverOfAnElectionSeesEachChangeOnceAndLooksEveryMaxPoll(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.MaxPoll = 100 * time.Millisecond })
		leader, _ := e.client(func(o *dynalock.Options) { o.Owner = "leader" })
		var seen []dynalock.Record
		var ends []error
		ctx, cancel := context.WithCancel(e.ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for r, err := range c.Election("key").Observe(ctx) {
				if err != nil {
					ends = append(ends, err)
				} else {
					seen = append(seen, r)
				}
			}
		}()
		time.Sleep(time.Second)
		n := wire.Count("GetItem")
		check(e, n >= 9 && n <= 11, "%d looks in a second, want one every 100 ms", n)
		l := e.acquire(leader, "key")
		time.Sleep(2 * lease) // its heartbeats are no change
		must(e, l.SetData(e.ctx, []byte("value")))
		time.Sleep(time.Second)
		denied := testserver.Fault{Kind: testserver.FailBefore, Op: "GetItem", Status: 400, Type: "AccessDeniedException"}
		remove := wire.Inject(denied)
		time.Sleep(time.Second)
		remove()
		must(e, l.Release(e.ctx))
		time.Sleep(time.Second)
		cancel()
		<-done
		var got []string
		for _, r := range seen {
			got = append(got, fmt.Sprint(r.State, " ", string(r.Data)))
		}
		want := []string{"free ", "held ", "held value", "free value"}
		check(e, slices.Equal(got, want), "seen were %q, want %q", got, want)
		check(e, len(ends) >= 5 && len(ends) <= 11, "%d errors in a second without permission", len(ends))
		for _, err := range ends {
			wantErr(e, err, dynalock.ErrStore)
		}
	})
}

func TestACandidateWhoseRunEndsWhileOthersGoFirstIsNotAskedForItsHealthAgain(t *testing.T) {
	virtual(t, func(e *env) {
		var asked atomic.Int64
		k := e.candidate("a", func(o *dynalock.ElectionOptions) {
			o.Health = func(context.Context) error {
				asked.Add(1)
				return nil
			}
		})
		<-k.leads
		must(e, k.Resign(e.ctx))
		synctest.Wait()
		before := asked.Load()
		k.stop()
		err := <-k.stopped
		check(e, err == context.Canceled, "error is %v, want the context's and no more", err) //nolint:errorlint // exactly it
		check(e, asked.Load() == before, "Health was asked %d times after the end", asked.Load()-before)
	})
}
