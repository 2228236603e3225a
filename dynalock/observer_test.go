package dynalock_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

// kinds are those of all events but heartbeats and doubts, in order.
func (o *observed) kinds() []dynalock.EventKind {
	o.mu.Lock()
	defer o.mu.Unlock()
	var kinds []dynalock.EventKind
	for _, e := range o.events {
		if !slices.Contains([]dynalock.EventKind{dynalock.EventRenewed, dynalock.EventRenewedLate, dynalock.EventInDoubt},
			e.Kind) {
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
		{
			"a wait for a goroutine of the same process, twice",
			func(e *env, c *dynalock.Client, _ *testserver.Wire, _ *dynalock.Client) {
				l := e.acquire(c, "key")
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(func() { must(e, e.acquire(c, "key").Release(e.ctx)) })
				}
				synctest.Wait()
				must(e, l.Release(e.ctx))
				wg.Wait()
			},
			[]dynalock.EventKind{acquired, waiting, waiting, acquired, released, acquired, released, released},
		},
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
		{
			"a release that fails, and is repeated",
			func(e *env, c *dynalock.Client, wire *testserver.Wire, _ *dynalock.Client) {
				l := e.acquire(c, "key")
				remove := wire.Inject(testserver.Fault{Kind: testserver.FailBefore})
				wantErr(e, l.Release(e.ctx), dynalock.ErrStore)
				remove()
				must(e, l.Release(e.ctx))
			},
			[]dynalock.EventKind{acquired, released},
		},
		{"a lock won when its caller had gone", func(e *env, c *dynalock.Client, _ *testserver.Wire, _ *dynalock.Client) {
			e.embedded.Inject(dynalocktest.Fault{
				Kind: dynalocktest.SlowResponse, Operation: "UpdateItem",
				Delay: 100 * time.Millisecond, Times: 1,
			})
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
		{
			"a tenure that is resumed in the same process",
			func(e *env, c *dynalock.Client, _ *testserver.Wire, _ *dynalock.Client) {
				l := e.acquire(c, "key")
				resumed, err := c.Resume(e.ctx, l.Handle())
				must(e, err)
				synctest.Wait()
				must(e, resumed.Release(e.ctx))
				_, err = c.Resume(e.ctx, l.Handle())
				wantErr(e, err, dynalock.ErrLost)
			},
			[]dynalock.EventKind{acquired, acquired, lost, released, notAcquired},
		},
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
		{
			"Close on a loss", lost,
			func(ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error { return c.Close(ctx) },
		},
		{
			"Close on a release", released,
			func(ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error { return c.Close(ctx) },
		},
		{
			"Close on an acquisition", acquired,
			func(ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error { return c.Close(ctx) },
		},
		{
			"Close on a heartbeat", dynalock.EventRenewed,
			func(ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error { return c.Close(ctx) },
		},
		{
			"Release on a heartbeat", dynalock.EventRenewed,
			func(ctx context.Context, _ *dynalock.Client, l *dynalock.Lock) error { return l.Release(ctx) },
		},
		{
			"Release on a release", released,
			func(ctx context.Context, _ *dynalock.Client, l *dynalock.Lock) error { return l.Release(ctx) },
		},
		{
			"Renew on a heartbeat", dynalock.EventRenewed,
			func(ctx context.Context, _ *dynalock.Client, l *dynalock.Lock) error { return l.Renew(ctx) },
		},
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

// tardy is the clock of a process whose timers fire late, for want of a CPU.
type tardy struct{ lag atomic.Int64 }

func (c *tardy) Now() heartbeat.Reading { return heartbeat.SystemClock().Now() }

func (c *tardy) NewTimer(d time.Duration) heartbeat.Timer {
	return &tardyTimer{heartbeat.SystemClock().NewTimer(c.late(d)), c}
}

func (c *tardy) late(d time.Duration) time.Duration { return d + time.Duration(c.lag.Load()) }

type tardyTimer struct {
	heartbeat.Timer
	clock *tardy
}

func (t *tardyTimer) Reset(d time.Duration) bool { return t.Timer.Reset(t.clock.late(d)) }

func TestARecordInTheLogShowsEverythingThatItsEventSays(t *testing.T) {
	virtual(t, func(e *env) {
		seen, log := &observed{}, &logged{}
		clock := &tardy{}
		watched := func(name string) (*dynalock.Client, *testserver.Wire) {
			return e.client(dynalock.WithClock(clock), func(o *dynalock.Options) {
				o.Owner, o.Observer = name, seen
				o.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
		}
		a, wire := watched("a")
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1})
		l := e.acquire(a, "key")
		time.Sleep(lease / 2)
		wire.Inject(testserver.Fault{Kind: testserver.LoseRequest, Op: "UpdateItem", Times: 3})
		time.Sleep(lease / 2)
		clock.lag.Store(int64(lease / 8)) // more than half of the 3/5 s between two heartbeats
		time.Sleep(lease)
		clock.lag.Store(0)
		b, _ := watched("b")
		got := make(chan *dynalock.Lock)
		go func() {
			l, err := b.Acquire(e.ctx, "key")
			check(e, err == nil, "%v", err)
			got <- l
		}()
		time.Sleep(lease)
		crash(wire)
		<-l.Done()
		l2 := <-got
		time.Sleep(lease)
		must(e, l2.Release(e.ctx))
		synctest.Wait()

		said := map[string]int{}
		for kind := dynalock.EventAcquired; kind <= dynalock.EventReleased; kind++ {
			events, records := seen.of(kind), log.records(e, "lock "+kind.String())
			same := len(events) > 0 && len(events) == len(records)
			check(e, same, "%v: %d events and %d records", kind, len(events), len(records))
			for i, ev := range events[:min(len(events), len(records))] {
				want := map[string]any{"key": ev.Key, "token": float64(ev.Token), "owner": ev.Owner}
				if ev.By != nil {
					want["heldBy"], want["heldByToken"] = ev.By.Owner, float64(ev.By.Token)
				}
				if ev.Waited {
					want["waited"] = true
				}
				if ev.Op != "" {
					want["op"] = ev.Op
				}
				if ev.Duration > 0 {
					want["duration"] = float64(ev.Duration)
				}
				if ev.Late > 0 {
					want["late"] = float64(ev.Late)
				}
				if ev.Attempt > 1 {
					want["attempt"] = float64(ev.Attempt)
				}
				if ev.Err != nil {
					want["error"] = ev.Err.Error()
				}
				for name, v := range want {
					said[name]++
					check(e, records[i][name] == v, "%v: %s is %v, want %v", kind, name, records[i][name], v)
				}
				check(e, len(records[i]) == len(want)+3, "%v: record is %v, want %v and three more", kind, records[i], want)
			}
		}
		for _, name := range strings.Fields("key token owner heldBy heldByToken waited op duration late attempt error") {
			check(e, said[name] > 0, "no event said %s", name)
		}
	})
}

// Events and records.

// observed collects events.
type observed struct {
	mu     sync.Mutex
	events []dynalock.Event
}

func (o *observed) Observe(_ context.Context, e dynalock.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
}

// of lists the events of a kind.
func (o *observed) of(kind dynalock.EventKind) []dynalock.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(o.events), func(e dynalock.Event) bool { return e.Kind != kind })
}

// logged is a log in memory.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// records lists the log's records with this message.
func (l *logged) records(tb testing.TB, msg string) []map[string]any {
	tb.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []map[string]any
	for _, line := range bytes.Split(bytes.TrimSpace(l.buf.Bytes()), []byte("\n")) {
		if len(line) == 0 { // nothing is logged
			continue
		}
		record := map[string]any{}
		must(tb, json.Unmarshal(line, &record))
		if record["msg"] == msg {
			found = append(found, record)
		}
	}
	return found
}

func TestEveryEventIsLoggedAndObservedWithKeyTokenAndOwner(t *testing.T) {
	virtual(t, func(e *env) {
		seen, log := &observed{}, &logged{}
		watched := func(name string) (*dynalock.Client, *testserver.Wire) {
			return e.client(func(o *dynalock.Options) {
				o.Owner, o.Observer = name, seen
				o.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
		}
		// once returns the only event of a kind, checked against its record in the log.
		once := func(kind dynalock.EventKind, owner string, token uint64, level string) dynalock.Event {
			e.Helper()
			synctest.Wait()
			events, records := seen.of(kind), log.records(e, "lock "+kind.String())
			check(e, len(events) == 1 && len(records) == 1, "%d events and %d records of %v, want one", len(events),
				len(records), kind)
			if e.Failed() {
				e.FailNow()
			}
			ev, r := events[0], records[0]
			check(e, ev.Key == "key" && ev.Owner == owner && ev.Token == token, "%v: %+v", kind, ev)
			check(e, r["key"] == "key" && r["owner"] == owner && r["token"] == float64(token) && r["level"] == level,
				"%v: record is %v", kind, r)
			return ev
		}
		a, wire := watched("a")
		remove := wire.Inject(testserver.Fault{Delay: 10 * time.Millisecond})
		l := e.acquire(a, "key")
		ev := once(dynalock.EventAcquired, "a", l.Token(), "INFO")
		check(e, ev.Duration >= 10*time.Millisecond && ev.By == nil, "%+v", ev)

		for len(seen.of(dynalock.EventRenewed)) == 0 && l.Held() {
			time.Sleep(lease / 100)
		}
		ev = once(dynalock.EventRenewed, "a", l.Token(), "DEBUG")
		check(e, ev.Duration >= 10*time.Millisecond && ev.Duration < 20*time.Millisecond, "a heartbeat took %v", ev.Duration)

		remove()
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1})
		time.Sleep(lease / 4)
		ev = once(dynalock.EventInDoubt, "a", l.Token(), "WARN")
		check(e, ev.Op == "heartbeat" && ev.Err != nil, "%+v", ev)
		ev = once(dynalock.EventRenewedLate, "a", l.Token(), "WARN")
		check(e, ev.Attempt == 2, "%+v", ev)

		b, _ := watched("b")
		got := make(chan *dynalock.Lock)
		go func() {
			l, err := b.Acquire(e.ctx, "key")
			check(e, err == nil, "%v", err)
			got <- l
		}()
		time.Sleep(lease)
		ev = once(dynalock.EventWaiting, "b", 0, "INFO")
		check(e, ev.By != nil && ev.By.Owner == "a" && ev.By.Token == l.Token(), "%+v", ev)

		crash(wire)
		<-l.Done()
		ev = once(dynalock.EventLost, "a", l.Token(), "WARN")
		wantErr(e, ev.Err, dynalock.ErrLost)
		l2 := <-got
		ev = once(dynalock.EventTakenOver, "b", l2.Token(), "WARN")
		check(e, ev.By != nil && ev.By.Owner == "a" && ev.By.Token == l.Token(), "%+v", ev)
		for _, msg := range []string{"lock waiting", "lock taken over"} {
			r := log.records(e, msg)[0]
			check(e, r["heldBy"] == "a" && r["heldByToken"] == float64(l.Token()), "record is %v", r)
		}
		time.Sleep(lease)
		must(e, l2.Release(e.ctx))
		ev = once(dynalock.EventReleased, "b", l2.Token(), "INFO")
		check(e, ev.Duration >= lease && ev.Duration < 2*lease, "held for %v", ev.Duration)
	})
}

func TestTheEventOfALossNamesTheSuccessor(t *testing.T) {
	virtual(t, func(e *env) {
		seen := &observed{}
		holder, wire := e.client(func(o *dynalock.Options) { o.Observer = seen })
		other, _ := e.client(func(o *dynalock.Options) { o.Owner = "usurper" })
		l := e.acquire(holder, "key")
		remove := wire.Inject(testserver.Fault{Kind: testserver.HangBefore})
		r, err := other.Get(e.ctx, "key")
		must(e, err)
		must(e, other.ForceRelease(e.ctx, r))
		l2 := e.acquire(other, "key")
		remove()
		<-l.Done()
		synctest.Wait()
		lost, ok := errors.AsType[*dynalock.LostError](l.Err())
		check(e, ok && lost.Key == "key" && lost.By != nil && lost.By.Owner == "usurper" && lost.By.Token == l2.Token(),
			"%+v", lost)
		check(e, strings.Contains(lost.Error(), "usurper"), "it says: %v", lost)
		wantErr(e, lost, heartbeat.ErrGone)
		events := seen.of(dynalock.EventLost)
		check(e, len(events) == 1 && events[0].By != nil && events[0].By.Owner == "usurper", "%+v", events)
	})
}

func TestTheLogsOfTwoMachinesCanBeJoined(t *testing.T) {
	virtual(t, func(e *env) {
		machine := func(name string) (*logged, *dynalock.Client) {
			log := &logged{}
			c, _ := e.client(func(o *dynalock.Options) {
				o.Owner, o.Logger = name, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
			return log, c
		}
		ctx, stop := context.WithCancel(e.ctx)
		var candidates sync.WaitGroup
		defer candidates.Wait()
		defer stop()
		candidate := func(c *dynalock.Client, name string) {
			election := c.Election("key", func(o *dynalock.ElectionOptions) { o.Candidate = name })
			candidates.Go(func() {
				err := election.Run(ctx, func(ctx context.Context, _ *dynalock.Lock) error {
					<-ctx.Done()
					return nil
				})
				check(e, err == nil || errors.Is(err, context.Canceled), "%v", err)
			})
		}
		// The first leads, the second waits, and an operator frees the lock.
		first, a := machine("machine a")
		candidate(a, "ann")
		time.Sleep(lease)
		second, b := machine("machine b")
		candidate(b, "ben")
		time.Sleep(lease)
		operators, c := machine("ops@desk")
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		must(e, c.ForceRelease(e.ctx, r))
		time.Sleep(lease)
		third, d := machine("machine d")
		l := e.acquire(d, "nobody waits for it")
		alone, err := c.Get(e.ctx, l.Key())
		must(e, err)
		must(e, c.ForceRelease(e.ctx, alone))
		<-l.Done()
		synctest.Wait()

		token := float64(r.Token)
		for _, want := range []struct {
			log  *logged
			msg  string
			with map[string]any
		}{
			{first, "lock acquired", map[string]any{"owner": "ann", "token": token}},
			{first, "lock renewed", map[string]any{"owner": "ann", "token": token}},
			{second, "lock waiting", map[string]any{"owner": "ben", "heldBy": "ann", "heldByToken": token}},
			{operators, "lock freed by an operator", map[string]any{"owner": "ops@desk", "heldBy": "ann", "heldByToken": token}},
			{first, "lock lost", map[string]any{"owner": "ann", "token": token}},
			{third, "lock lost", map[string]any{"owner": "machine d", "releasedBy": "ops@desk", "heldBy": nil}},
			{first, "term ended", map[string]any{"owner": "ann", "token": token}},
		} {
			records := want.log.records(e, want.msg)
			if len(records) == 0 {
				e.Errorf("there is no record %q", want.msg)
				continue
			}
			r := records[0]
			for name, value := range want.with {
				check(e, r[name] == value, "%s: %s is %v, want %v: %v", want.msg, name, r[name], value, r)
			}
			for _, old := range []string{"holder", "other", "otherToken", "by"} {
				check(e, r[old] == nil, "%s: %v", want.msg, r)
			}
		}
	})
}

func TestOneLossIsOneEvent(t *testing.T) {
	virtual(t, func(e *env) {
		seen := &observed{}
		c, _ := e.client(func(o *dynalock.Options) { o.Observer = seen })
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		<-l.Done() // the first news
		other, _ := e.client()
		e.acquire(other, "key")
		wantErr(e, l.Release(e.ctx), dynalock.ErrLost) // the second
		synctest.Wait()
		check(e, len(seen.of(dynalock.EventLost)) == 1, "%d events of one loss", len(seen.of(dynalock.EventLost)))
	})
}

func TestALockThatWasFreeIsNotReportedAsTakenOver(t *testing.T) {
	virtual(t, func(e *env) {
		seen := &observed{}
		holder, _ := e.client()
		c, _ := e.client(func(o *dynalock.Options) { o.Observer = seen })
		watch := func(key string) *dynalock.Lock {
			l := e.acquire(holder, key)
			_, err := c.TryAcquire(e.ctx, key)
			wantErr(e, err, dynalock.ErrHeld)
			return l
		}
		released, deleted, handed := watch("released"), watch("deleted"), watch("handed on")
		must(e, released.Release(e.ctx))
		e.delete("deleted")
		<-deleted.Done()
		time.Sleep(2 * lease) // long enough to have watched a dead holder
		for _, key := range []string{"released", "deleted"} {
			_, err := c.TryAcquire(e.ctx, key)
			must(e, err)
		}
		_, err := c.Resume(e.ctx, handed.Handle())
		must(e, err)
		check(e, len(seen.of(dynalock.EventTakenOver)) == 0, "reported: %+v", seen.of(dynalock.EventTakenOver))
		check(e, len(seen.of(dynalock.EventAcquired)) == 3, "acquired: %+v", seen.of(dynalock.EventAcquired))
	})
}

func TestALockAcquiredInDoubtSaysSo(t *testing.T) {
	virtual(t, func(e *env) {
		for op, do := range map[string]func(c *dynalock.Client, wire *testserver.Wire, lose func(op string)){
			"acquire": func(c *dynalock.Client, _ *testserver.Wire, lose func(string)) {
				lose("UpdateItem")
				e.acquire(c, "acquire")
			},
			"release": func(c *dynalock.Client, _ *testserver.Wire, lose func(string)) {
				l := e.acquire(c, "release")
				lose("UpdateItem")
				must(e, l.Release(e.ctx))
			},
			"set data": func(c *dynalock.Client, _ *testserver.Wire, lose func(string)) {
				l := e.acquire(c, "set data")
				lose("UpdateItem")
				must(e, l.SetData(e.ctx, nil))
			},
			"transact": func(c *dynalock.Client, _ *testserver.Wire, lose func(string)) {
				l := e.acquire(c, "transact")
				lose("TransactWriteItems")
				must(e, l.Transact(e.ctx, put(e, "guarded", "x")))
			},
		} {
			seen := &observed{}
			c, wire := e.client(func(o *dynalock.Options) { o.Observer = seen })
			do(c, wire, func(of string) {
				wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: of, Times: 1})
			})
			events := seen.of(dynalock.EventInDoubt)
			check(e, len(events) == 1 && events[0].Op == op && events[0].Key == op && events[0].Err != nil, "%s: %+v", op,
				events)
		}
	})
}
