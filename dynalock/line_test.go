package dynalock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

func TestTheNextInLineLooksWhenTheFirstGivesUp(t *testing.T) {
	virtual(t, func(e *env) {
		holder, _ := e.client()
		l := e.acquire(holder, "key")
		c, _ := e.client()
		first := e.within(lease)
		go func() {
			_, err := c.Acquire(first, "key")
			check(e, errors.Is(err, dynalock.ErrHeld), "%v", err)
		}()
		synctest.Wait()
		got := make(chan *dynalock.Lock)
		go func() {
			l, err := c.Acquire(e.ctx, "key")
			check(e, err == nil, "%v", err)
			got <- l
		}()
		time.Sleep(2 * lease)
		must(e, l.Release(e.ctx))
		released := time.Now()
		<-got
		check(e, time.Since(released) < 2*time.Second, "taken only %v after the release", time.Since(released))
	})
}

func TestAWaiterThatGivesUpInTheVeryMomentOfAnOfferDeclinesIt(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		for i := range 100 {
			key := fmt.Sprint("key ", i)
			l := e.acquire(c, key)
			end := e.within(time.Second)
			go func() {
				if l, err := c.Acquire(end, key); err == nil {
					check(e, l.Release(e.ctx) == nil, "not released")
				}
			}()
			<-end.Done()
			start := time.Now()
			must(e, l.Release(e.ctx))
			check(e, time.Since(start) < lease/10, "a release took %v", time.Since(start))
		}
	})
}

func TestAProcessThatPassesItsLockAmongItselfLetsOthersHaveATurn(t *testing.T) {
	for _, goroutines := range []int{2, 4, 20} {
		t.Run(fmt.Sprint(goroutines), func(t *testing.T) {
			virtual(t, func(e *env) {
				busy, _ := e.client()
				var turns atomic.Int64
				var over atomic.Bool
				var wg sync.WaitGroup
				for range goroutines {
					wg.Go(func() {
						for !over.Load() {
							err := busy.Do(e.ctx, "key", func(context.Context, *dynalock.Lock) error {
								turns.Add(1)
								time.Sleep(10 * time.Millisecond)
								return nil
							})
							check(e, err == nil, "%v", err)
						}
					})
				}
				time.Sleep(time.Second)
				other, _ := e.client()
				worst, sum := int64(0), int64(0)
				for range 60 {
					before := turns.Load()
					l, err := other.Acquire(e.within(time.Minute), "key")
					over.Store(err != nil) // or the others would go on for ever
					must(e, err)
					worst, sum = max(worst, turns.Load()-before), sum+turns.Load()-before
					must(e, l.Release(e.ctx))
					for back := turns.Load(); turns.Load() < back+3; { // until they have it again
						time.Sleep(10 * time.Millisecond)
					}
				}
				over.Store(true)
				wg.Wait()
				e.Logf("of %d tenures of another process at most %d went before", sum, worst)
				check(e, worst < 45, "%d tenures of another process went before", worst)
			})
		})
	}
}

func TestALocalWaiterGoesOnWhenItsHolderIsLostOrCannotRelease(t *testing.T) {
	for name, tt := range map[string]struct {
		end   func(e *env, l *dynalock.Lock, wire *testserver.Wire)
		bound time.Duration
	}{
		"lost": {func(e *env, l *dynalock.Lock, _ *testserver.Wire) {
			operator, _ := e.client()
			r, err := operator.Get(e.ctx, l.Key())
			must(e, err)
			must(e, operator.ForceRelease(e.ctx, r))
		}, lease / 4}, // the holder's next heartbeat is refused
		"release fails": {func(e *env, l *dynalock.Lock, wire *testserver.Wire) {
			// the waiter's, which the lock is offered
			wire.Inject(testserver.Fault{Kind: testserver.LoseRequest, Op: "UpdateItem", Times: 1})
			wire.Inject(testserver.Fault{
				Kind: testserver.FailBefore, Status: 400, Type: "ValidationException", Op: "UpdateItem",
				Times: 1,
			})
			wantErr(e, l.Release(e.ctx), dynalock.ErrStore)
		}, lease * 11 / 10}, // the lease is watched running out
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, wire := e.client()
				l := e.acquire(c, "key")
				next := make(chan error, 1)
				waiting := e.within(10 * lease)
				go func() {
					_, err := c.Acquire(waiting, "key")
					next <- err
				}()
				synctest.Wait()
				start := time.Now()
				tt.end(e, l, wire)
				must(e, <-next)
				check(e, time.Since(start) < tt.bound, "the next in line had it after %v", time.Since(start))
			})
		})
	}
}

func TestNoTwoOfManyGoroutinesHoldAtOnce(t *testing.T) {
	onServer(t, func(e *env) {
		var wg sync.WaitGroup
		holding := make(chan struct{}, 1)
		last := uint64(0)
		for range 4 {
			c, _ := e.client()
			for range 2 {
				wg.Go(func() {
					for range 5 {
						err := c.Do(e.within(60*time.Second), "key", func(_ context.Context, l *dynalock.Lock) error {
							select {
							case holding <- struct{}{}:
							default:
								e.Error("two at once")
							}
							check(e, l.Token() > last, "token %d after %d", l.Token(), last)
							last = l.Token()
							time.Sleep(5 * time.Millisecond)
							<-holding
							return nil
						})
						check(e, err == nil, "%v", err)
					}
				})
			}
		}
		wg.Wait()
	})
}

func TestManyWaitersOfOneProcessLookLikeOne(t *testing.T) {
	virtual(t, func(e *env) {
		looks := func(key string, goroutines int) int {
			holder, _ := e.client()
			e.acquire(holder, key)
			c, wire := e.client()
			ctx := e.within(20 * time.Second)
			for range goroutines {
				go func() {
					_, err := c.Acquire(ctx, key)
					check(e, errors.Is(err, dynalock.ErrHeld), "%v", err)
				}()
			}
			<-ctx.Done()
			synctest.Wait()
			check(e, wire.Count("UpdateItem") <= goroutines, "%d writes of %d waiters", wire.Count("UpdateItem"), goroutines)
			return wire.Count("GetItem")
		}
		one, many := looks("one", 1), looks("many", 100)
		check(e, many < 2*one, "100 waiters of one process looked %d times, one looked %d times", many, one)
	})
}

// latency of a request to the embedded server of a virtual test.
const latency = 2 * time.Millisecond

// crowd are goroutines of some processes that take one key again and again, and what became of them.
type crowd struct {
	e     *env
	ctx   context.Context
	group sync.WaitGroup

	mu          sync.Mutex
	turns       map[*dynalock.Client]int
	held        time.Duration
	first, last time.Time
}

func newCrowd(e *env, d time.Duration) *crowd {
	return &crowd{e: e, ctx: e.within(d), turns: map[*dynalock.Client]int{}}
}

// join has goroutines of c take the key, each for hold, and pause for rest before they ask again.
func (w *crowd) join(c *dynalock.Client, goroutines int, hold, rest time.Duration) {
	for range goroutines {
		w.group.Go(func() {
			for w.ctx.Err() == nil {
				l, err := c.Acquire(w.ctx, "key")
				if err != nil {
					check(w.e, w.ctx.Err() != nil, "%v", err)
					return
				}
				began := time.Now()
				time.Sleep(hold)
				over := time.Now()
				check(w.e, l.Release(context.WithoutCancel(w.ctx)) == nil, "not released")
				w.mu.Lock()
				w.turns[c]++
				w.held += over.Sub(began)
				if w.first.IsZero() {
					w.first = began
				}
				w.last = over
				w.mu.Unlock()
				time.Sleep(rest)
			}
		})
	}
}

// share is the part of the time, from the first tenure to the end of the last, in which somebody held the lock: as it
// is, and with the one request that begins a tenure, which no lock is without, counted as held.
func (w *crowd) share() (raw, net float64) {
	w.group.Wait()
	tenures := -1 // the request of the first came before
	for _, n := range w.turns {
		tenures += n
	}
	all := w.last.Sub(w.first)
	return float64(w.held) / float64(all), float64(w.held+time.Duration(tenures)*latency) / float64(all)
}

func TestALockThatManyGoroutinesWantIsHeldAlmostAllTheTime(t *testing.T) {
	const goroutines, d = 1500, 12 * time.Second
	type other struct {
		goroutines int
		rest       time.Duration
	}
	ms := time.Millisecond
	for name, tt := range map[string]struct {
		hold, maxPoll time.Duration
		other         other
	}{
		"alone, for 1 ms":                        {hold: ms},
		"alone, for 5 ms":                        {hold: 5 * ms},
		"alone, for 20 ms":                       {hold: 20 * ms},
		"alone, with a MaxPoll of 30 s":          {hold: 20 * ms, maxPoll: 30 * time.Second},
		"beside a few, for 5 ms":                 {hold: 5 * ms, other: other{3, 0}},
		"beside a few, for 20 ms":                {hold: 20 * ms, other: other{3, 0}},
		"beside one that rests, for 5 ms":        {hold: 5 * ms, other: other{1, 50 * ms}},
		"beside a few that rest, for 20 ms":      {hold: 20 * ms, other: other{3, 100 * ms}},
		"beside another such process, for 20 ms": {hold: 20 * ms, other: other{goroutines, 0}},
	} {
		if underRace && tt.hold < 20*ms {
			continue
		}
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				poll := func(o *dynalock.Options) { o.MaxPoll = tt.maxPoll }
				busy, wire := e.client(poll)
				second, _ := e.client(poll)
				w := newCrowd(e, d)
				w.join(busy, goroutines, tt.hold, 0)
				w.join(second, tt.other.goroutines, tt.hold, tt.other.rest)
				raw, net := w.share()
				e.Logf("held %.1f %% of the time, %.1f %% with the requests that begin tenures; %d and %d turns; %d requests of the first process",
					100*raw, 100*net, w.turns[busy], w.turns[second], wire.Count("GetItem", "UpdateItem"))
				check(e, net >= 0.95, "held %.1f %% of the time, want 95 or more", 100*net)
				check(e, w.turns[busy] >= 12, "the busy process had %d turns", w.turns[busy])
				check(e, tt.other.goroutines == 0 || w.turns[second] >= 12, "the other process had %d turns", w.turns[second])
			})
		})
	}
}

// relay has goroutines of one client pass a lock on, each after hold, and returns how many hand-overs came before each
// of the first n releases for everybody. At hand-over number at, turn is called.
func relay(e *env, hold time.Duration, n, at int, turn func()) (streaks []int) {
	c, wire := e.client()
	var over atomic.Bool
	var wg sync.WaitGroup
	all, streak := 0, -1 // a tenure that was not handed over begins each
	wire.Inject(testserver.Fault{Op: "UpdateItem", Match: func(_ string, body []byte) bool {
		switch released := bytes.Contains(body, []byte("SET #released = :one")); {
		case len(streaks) == n:
		case released:
			streaks, streak = append(streaks, streak), -1
			over.Store(len(streaks) == n)
		case bytes.Contains(body, []byte("SET #owner")):
			if streak++; streak > 0 {
				if all++; all == at {
					wg.Go(turn)
				}
			}
		}
		return false
	}})
	for range 3 {
		wg.Go(func() {
			for !over.Load() {
				err := c.Do(e.ctx, "key", func(context.Context, *dynalock.Lock) error { time.Sleep(hold); return nil })
				check(e, err == nil, "%v", err)
			}
		})
	}
	wg.Wait()
	return streaks
}

// A turn ends after 16 hand-overs of tenures that last for seconds; of shorter ones not before the pause after it, in
// which nobody holds the lock, is a small part of the whole.
func TestTheTurnsOfAProcessThatIsAloneDoNotGrow(t *testing.T) {
	for name, tt := range map[string]struct {
		hold time.Duration
		want int
	}{
		// The others need 10 ms (MinPoll) to look and 2 requests: 32 times 14 ms are 224 tenures of 2 ms.
		"held for no time": {0, 224},
		"held for 2 s":     {2 * time.Second, 16},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				streaks := relay(e, tt.hold, 5, 0, nil)
				want := slices.Repeat([]int{tt.want}, 5)
				check(e, slices.Equal(streaks, want), "hand-overs in a row: %v, want %v", streaks, want)
			})
		})
	}
}

func TestHoweverLongAProcessWasAloneANewcomerWaitsForNoMoreThanOneOfItsTurns(t *testing.T) {
	for _, hold := range []time.Duration{0, 20 * time.Millisecond, 300 * time.Millisecond, 2 * time.Second} {
		if underRace && hold != 20*time.Millisecond {
			continue
		}
		t.Run(hold.String(), func(t *testing.T) {
			virtual(t, func(e *env) {
				busy, _ := e.client()
				w := newCrowd(e, 24*time.Hour)
				ctx, cancel := context.WithCancel(w.ctx)
				w.ctx = ctx
				w.join(busy, 40, hold, 0)
				had := func() int {
					w.mu.Lock()
					defer w.mu.Unlock()
					return w.turns[busy]
				}
				worst := 0
				for range 5 {
					for alone := had() + 400; had() < alone; {
						time.Sleep(hold + latency)
					}
					newcomer, _ := e.client()
					before := had()
					l := e.acquireWithin(newcomer, 10*time.Minute, "key")
					worst = max(worst, had()-before)
					must(e, l.Release(e.ctx))
				}
				cancel()
				w.group.Wait()
				most := max(16, 32*(14*time.Millisecond+min(hold, time.Second))/(hold+latency)) + 2
				e.Logf("%d tenures at most before a newcomer's", worst)
				check(e, worst <= int(most), "%d tenures before a newcomer's, want at most %d", worst, most)
			})
		})
	}
}

// timers counts the timers that a client asks its clock for.
type timers struct {
	heartbeat.Clock
	n atomic.Int64
}

func (c *timers) NewTimer(d time.Duration) heartbeat.Timer {
	c.n.Add(1)
	return c.Clock.NewTimer(d)
}

func TestAWaiterThatGivesUpWakesNobodyUnlessItWasTheFirstInLine(t *testing.T) {
	virtual(t, func(e *env) {
		holder, _ := e.client()
		e.acquire(holder, "key")
		clock := &timers{Clock: heartbeat.SystemClock()}
		c, wire := e.client(dynalock.WithClock(clock))
		var ends []context.CancelFunc
		for range 101 {
			ctx, cancel := context.WithCancel(e.ctx)
			defer cancel()
			ends = append(ends, cancel)
			go func() {
				_, err := c.Acquire(ctx, "key")
				check(e, errors.Is(err, dynalock.ErrHeld), "%v", err)
			}()
			synctest.Wait()
		}
		time.Sleep(lease / 10)
		synctest.Wait()
		before, requests := clock.n.Load(), wire.Count()
		for _, end := range ends[1:] {
			end()
			synctest.Wait()
		}
		check(e, clock.n.Load() == before, "the first of a line was woken %d times by 100 who left it", clock.n.Load()-before)
		check(e, wire.Count() == requests, "100 who left the line cost %d requests", wire.Count()-requests)
		ends[0]()
		synctest.Wait() // before the client is closed, which would end the call, too
	})
}

func TestGoroutinesOfAClientAreServedInTheOrderInWhichTheyCameWhoeverGivesUp(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		l := e.acquire(c, "key")
		var mu sync.Mutex
		var wg sync.WaitGroup
		var got, want []int
		var ends []context.CancelFunc
		for i := range 60 {
			ctx, cancel := context.WithCancel(e.ctx)
			defer cancel()
			ends = append(ends, cancel)
			wg.Go(func() {
				l, err := c.Acquire(ctx, "key")
				if err != nil {
					return
				}
				mu.Lock()
				got = append(got, i)
				mu.Unlock()
				check(e, l.Release(e.ctx) == nil, "not released")
			})
			synctest.Wait()
		}
		for i, end := range ends {
			if i%7 == 0 || i%5 == 1 {
				end()
			} else {
				want = append(want, i)
			}
		}
		must(e, l.Release(e.ctx))
		wg.Wait()
		check(e, slices.Equal(got, want), "served in the order %v, want %v", got, want)
	})
}
