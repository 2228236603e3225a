package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/internal/testserver"
)

// kinds are those of all events but heartbeats and doubts, in order.
func (o *observed) kinds() []dynalock.EventKind {
	o.mu.Lock()
	defer o.mu.Unlock()
	var kinds []dynalock.EventKind
	for _, e := range o.events {
		if !slices.Contains([]dynalock.EventKind{dynalock.EventRenewed, dynalock.EventRenewedLate, dynalock.EventInDoubt}, e.Kind) {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

const (
	acquired    = dynalock.EventAcquired
	waiting     = dynalock.EventWaiting
	takenOver   = dynalock.EventTakenOver
	lost        = dynalock.EventLost
	released    = dynalock.EventReleased
	notAcquired = dynalock.EventNotAcquired
)

func TestEveryCallAndEveryTenureEndsWithOneEvent(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(e *env, c *dynalock.Client, wire *testserver.Wire, other *dynalock.Client)
		want []dynalock.EventKind
	}{
		{"an uncontended tenure", func(e *env, c *dynalock.Client, _ *testserver.Wire, _ *dynalock.Client) {
			must(e, e.acquire(c, "key").Release(e.ctx))
		}, []dynalock.EventKind{acquired, released}},
		{"a refused TryAcquire", func(e *env, c *dynalock.Client, _ *testserver.Wire, other *dynalock.Client) {
			e.acquire(other, "key")
			_, err := c.TryAcquire(e.ctx, "key")
			wantErr(e, err, dynalock.ErrHeld)
		}, []dynalock.EventKind{notAcquired}},
		{"a wait that ends without a lock", func(e *env, c *dynalock.Client, _ *testserver.Wire, other *dynalock.Client) {
			e.acquire(other, "key")
			_, err := c.Acquire(e.within(2*lease), "key")
			wantErr(e, err, dynalock.ErrHeld)
		}, []dynalock.EventKind{waiting, notAcquired}},
		{"a wait that Close ends", func(e *env, c *dynalock.Client, _ *testserver.Wire, other *dynalock.Client) {
			e.acquire(other, "key")
			time.AfterFunc(lease, func() { must(e, c.Close(e.ctx)) })
			_, err := c.Acquire(e.ctx, "key")
			wantErr(e, err, dynalock.ErrClosed)
		}, []dynalock.EventKind{waiting, notAcquired}},
		{"a wait for another process", func(e *env, c *dynalock.Client, _ *testserver.Wire, other *dynalock.Client) {
			l := e.acquire(other, "key")
			time.AfterFunc(lease, func() { must(e, l.Release(e.ctx)) })
			must(e, e.acquire(c, "key").Release(e.ctx))
		}, []dynalock.EventKind{waiting, acquired, released}},
		{"a wait for a foreign row", func(e *env, c *dynalock.Client, _ *testserver.Wire, _ *dynalock.Client) {
			e.put("key", attributes{"ownerName": s("x")})
			_, err := c.Acquire(e.ctx, "key")
			wantErr(e, err, dynalock.ErrForeign)
		}, []dynalock.EventKind{notAcquired}},
		{"a wait for a goroutine of the same process, twice", func(e *env, c *dynalock.Client, _ *testserver.Wire, _ *dynalock.Client) {
			l := e.acquire(c, "key")
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() { must(e, e.acquire(c, "key").Release(e.ctx)) })
			}
			synctest.Wait()
			must(e, l.Release(e.ctx))
			wg.Wait()
		}, []dynalock.EventKind{acquired, waiting, waiting, acquired, released, acquired, released, released}},
		{"a dead holder's lock", func(e *env, c *dynalock.Client, _ *testserver.Wire, other *dynalock.Client) {
			e.acquire(other, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
			must(e, e.acquire(c, "key").Release(e.ctx))
		}, []dynalock.EventKind{waiting, takenOver, released}},
		{"a loss that is released afterwards", func(e *env, c *dynalock.Client, _ *testserver.Wire, _ *dynalock.Client) {
			l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
			<-l.Done()
			must(e, l.Release(e.ctx))
		}, []dynalock.EventKind{acquired, lost}},
		{"a loss that a release finds", func(e *env, c *dynalock.Client, _ *testserver.Wire, other *dynalock.Client) {
			l := e.acquire(c, "key")
			r, err := other.Get(e.ctx, "key")
			must(e, err)
			must(e, other.ForceRelease(e.ctx, r))
			wantErr(e, l.Release(e.ctx), dynalock.ErrLost)
		}, []dynalock.EventKind{acquired, lost}},
		{"a release that fails, and is repeated", func(e *env, c *dynalock.Client, wire *testserver.Wire, _ *dynalock.Client) {
			l := e.acquire(c, "key")
			remove := wire.Inject(testserver.Fault{Kind: testserver.FailBefore})
			wantErr(e, l.Release(e.ctx), dynalock.ErrStore)
			remove()
			must(e, l.Release(e.ctx))
		}, []dynalock.EventKind{acquired, released}},
		{"a lock won when its caller had gone", func(e *env, c *dynalock.Client, _ *testserver.Wire, _ *dynalock.Client) {
			e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.SlowResponse, Operation: "UpdateItem", Delay: 100 * time.Millisecond, Times: 1})
			_, err := c.Acquire(e.within(50*time.Millisecond), "key")
			wantErr(e, err, context.DeadlineExceeded)
			time.Sleep(time.Second)
			check(e, text(e.item("key")["isReleased"]) == "1", "not released")
		}, []dynalock.EventKind{notAcquired}},
		{"a Close that has no time", func(e *env, c *dynalock.Client, wire *testserver.Wire, _ *dynalock.Client) {
			e.acquire(c, "key")
			wire.Inject(testserver.Fault{Kind: testserver.HangBefore})
			wantErr(e, c.Close(e.within(time.Second)), context.DeadlineExceeded)
		}, []dynalock.EventKind{acquired, released}},
		{"a tenure that is resumed in the same process", func(e *env, c *dynalock.Client, _ *testserver.Wire, _ *dynalock.Client) {
			l := e.acquire(c, "key")
			resumed, err := c.Resume(e.ctx, l.Handle())
			must(e, err)
			synctest.Wait()
			must(e, resumed.Release(e.ctx))
			_, err = c.Resume(e.ctx, l.Handle())
			wantErr(e, err, dynalock.ErrLost)
		}, []dynalock.EventKind{acquired, acquired, lost, released, notAcquired}},
		{"what is refused at once", func(e *env, c *dynalock.Client, _ *testserver.Wire, _ *dynalock.Client) {
			_, err := c.Acquire(e.ctx, "")
			wantErr(e, err, dynalock.ErrInvalid)
			_, err = c.Acquire(e.within(0), "key")
			wantErr(e, err, context.DeadlineExceeded)
		}, nil},
	} {
		virtually(t, tt.name, func(e *env) {
			seen := &observed{}
			c, wire := e.client(func(o *dynalock.Options) { o.Observer = seen })
			other, _ := e.client()
			start := time.Now()
			tt.do(e, c, wire, other)
			synctest.Wait()
			kinds := seen.kinds()
			slices.Sort(kinds)
			slices.Sort(tt.want) // two calls at once are in no order
			check(e, slices.Equal(kinds, tt.want), "events are %v, want %v", kinds, tt.want)
			waits, ends := len(seen.of(waiting)), 0
			for _, ev := range slices.Concat(seen.of(acquired), seen.of(takenOver), seen.of(notAcquired)) {
				if ev.Waited {
					ends++
				}
				check(e, ev.Key == "key" && ev.Duration <= time.Since(start), "%+v", ev)
			}
			check(e, waits == ends, "%d waits, of which %d ended", waits, ends)
			for _, ev := range seen.of(notAcquired) {
				check(e, ev.Err != nil, "%+v", ev)
				_, held := errors.AsType[*dynalock.HeldError](ev.Err)
				check(e, !held || ev.By != nil, "by nobody: %+v", ev)
			}
		})
	}
}

func TestALossAndAReleaseTellHowLongTheLockWasHeld(t *testing.T) {
	virtual(t, func(e *env) {
		seen := &observed{}
		c, wire := e.client(func(o *dynalock.Options) { o.Observer = seen })
		other, _ := e.client()
		e.acquire(c, "crashed")
		forced, failed := e.acquire(c, "forced"), e.acquire(c, "failed")
		time.Sleep(10 * lease)
		r, err := other.Get(e.ctx, "forced")
		must(e, err)
		must(e, other.ForceRelease(e.ctx, r))
		wantErr(e, forced.Release(e.ctx), dynalock.ErrLost)
		wire.Inject(testserver.Fault{Kind: testserver.FailBefore})
		wantErr(e, failed.Release(e.ctx), dynalock.ErrStore)
		time.Sleep(lease)
		synctest.Wait()
		events := append(seen.of(lost), seen.of(released)...)
		check(e, len(events) == 3, "%+v", events)
		for _, ev := range events {
			check(e, ev.Duration >= 10*lease && ev.Duration < 13*lease && ev.Err != nil, "%+v", ev)
		}
	})
}

func TestACallThatEndsWithoutALockIsAWarningOnlyWhereThatIsUnusual(t *testing.T) {
	virtual(t, func(e *env) {
		log := &logged{}
		c, wire := e.client(logsTo(log))
		other, _ := e.client()
		e.acquire(other, "key")
		level := func() string {
			records := log.records(e, "lock not acquired")
			last := records[len(records)-1]
			check(e, last["error"] != nil, "%v", last)
			return fmt.Sprint(last["level"], " ", last["waited"])
		}
		_, err := c.TryAcquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrHeld)
		check(e, level() == "INFO <nil>", "a refusal is %s", level())
		_, err = c.Acquire(e.within(lease), "key")
		wantErr(e, err, context.DeadlineExceeded)
		check(e, level() == "INFO true", "the end of a wait is %s", level())
		wire.Inject(testserver.Fault{Kind: testserver.FailBefore})
		_, err = c.TryAcquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrStore)
		check(e, level() == "WARN <nil>", "a store that fails is %s", level())
	})
}

// calling makes calls from where events are told.
type calling func(ctx context.Context, e dynalock.Event)

func (f calling) Observe(ctx context.Context, e dynalock.Event) { f(ctx, e) }

// What the documentation of Observer says of calls that an Observer must not make: some of them wait for what waits for
// it. Each ends with its own context, and nothing is left over.
func TestACallThatAnObserverMustNotMakeWaitsUntilItsContextEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind dynalock.EventKind
		call func(ctx context.Context, c *dynalock.Client, l *dynalock.Lock) error
	}{
		{"Close on a loss", lost, func(ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error { return c.Close(ctx) }},
		{"Close on a release", released, func(ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error { return c.Close(ctx) }},
		{"Close on an acquisition", acquired, func(ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error { return c.Close(ctx) }},
		{"Close on a heartbeat", dynalock.EventRenewed, func(ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error { return c.Close(ctx) }},
		{"Release on a heartbeat", dynalock.EventRenewed, func(ctx context.Context, _ *dynalock.Client, l *dynalock.Lock) error { return l.Release(ctx) }},
		{"Release on a release", released, func(ctx context.Context, _ *dynalock.Client, l *dynalock.Lock) error { return l.Release(ctx) }},
		{"Renew on a heartbeat", dynalock.EventRenewed, func(ctx context.Context, _ *dynalock.Client, l *dynalock.Lock) error { return l.Renew(ctx) }},
	} {
		for _, elsewhere := range []bool{false, true} {
			virtually(t, fmt.Sprintf("%s, in a goroutine of its own %v", tt.name, elsewhere), func(e *env) {
				var (
					c    *dynalock.Client
					l    atomic.Pointer[dynalock.Lock]
					once sync.Once
					done = make(chan error, 1)
				)
				limit := 200 * time.Millisecond
				c, _ = e.client(func(o *dynalock.Options) {
					o.Observer = calling(func(_ context.Context, ev dynalock.Event) {
						call := func() {
							ctx, cancel := context.WithTimeout(e.ctx, limit)
							defer cancel()
							done <- tt.call(ctx, c, l.Load())
						}
						if ev.Kind == tt.kind {
							once.Do(func() {
								if !elsewhere {
									call()
									return
								}
								go call()
							})
						}
					})
				})
				won, _ := c.Acquire(e.ctx, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = tt.kind == lost })
				l.Store(won)
				if tt.kind == released {
					_ = won.Release(e.ctx)
				}
				start := time.Now()
				err := <-done
				if elsewhere {
					must(e, err)
				} else {
					wantErr(e, err, context.DeadlineExceeded)
					check(e, time.Since(start) <= lease+limit+50*time.Millisecond, "it took %v", time.Since(start))
				}
				must(e, c.Close(e.ctx))
			})
		}
	}
}

// logsTo has a client log everything.
func logsTo(log *logged) func(*dynalock.Options) {
	return func(o *dynalock.Options) {
		o.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
}
