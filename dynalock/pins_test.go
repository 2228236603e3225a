package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

// What a statement left out, a condition turned around, or min instead of max would change, and nothing else tells.

// outrun lets somebody else be faster: whenever c is about to write, the item is released under a version that c has
// not seen, with a lease that c's condition does not let through unseen.
func outrun(e *env, wire *testserver.Wire) {
	n := 0
	wire.Inject(testserver.Fault{Op: "UpdateItem", Match: func(string, []byte) bool {
		n++
		e.put("key", with(goRow("other", fmt.Sprintf("%032d", n)), attributes{"isReleased": s("1")}))
		return false
	}})
}

func TestATryThatSomebodyOutrunsEachTimeIsToldSoAfterFiveWritesAndWaitsForNone(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		outrun(e, wire)
		start := time.Now()
		_, err := c.TryAcquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrHeld)
		check(e, !errors.Is(err, dynalock.ErrStore), "error is %v", err)
		check(e, wire.Count("UpdateItem") == 5, "%d writes, want 5", wire.Count("UpdateItem"))
		if e.embedded != nil {
			check(e, time.Since(start) <= 20*time.Millisecond, "it took %v, want no wait", time.Since(start))
		}
	})
}

func TestAWaiterThatSomebodyOutrunsEachTimeWaitsMinPollBetweenItsWrites(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(long, func(o *dynalock.Options) { o.MinPoll = 100 * time.Millisecond })
		outrun(e, wire)
		_, err := c.Acquire(e.within(2*time.Second), "key")
		wantErr(e, err, context.DeadlineExceeded)
		writes := wire.Count("UpdateItem")
		check(e, writes > 10 && writes < 30, "%d writes in 2 s, want a few at once and then one every 100 ms", writes)
	})
}

var busy = testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ThrottlingException"}

func TestARenewalThatIsThrottledIsRepeatedEverMoreRarely(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(long)
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		wire.Inject(busy)
		before := wire.Count()
		err := l.Renew(e.within(10 * time.Second))
		wantErr(e, err, context.DeadlineExceeded)
		wantErr(e, err, dynalock.ErrStore)
		n := wire.Count() - before
		check(e, n > 10 && n < 30, "%d requests in 10 s, want few at the end", n)
	})
}

func TestATransactionThatIsThrottledIsRepeatedEverMoreRarely(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(long)
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		wire.Inject(busy)
		err := l.Transact(e.within(10*time.Second), count(e))
		wantErr(e, err, context.DeadlineExceeded)
		n := wire.Count("TransactWriteItems")
		check(e, n > 10 && n < 30, "%d requests in 10 s, want few at the end", n)
	})
}

// The first write is lost on its way, and then the call fails. When the write arrives after all, the call is long over.
func TestACallThatFailsAfterALostAnswerGivesBackWhatTheLostWriteBringsLater(t *testing.T) {
	try := func(ctx context.Context, c *dynalock.Client) error {
		_, err := c.TryAcquire(ctx, "key")
		return err
	}
	wait := func(ctx context.Context, c *dynalock.Client) error {
		_, err := c.Acquire(ctx, "key")
		return err
	}
	denied := testserver.Fault{Kind: testserver.FailBefore, Times: 1, Status: 400, Type: "AccessDeniedException"}
	mute := testserver.Fault{Kind: testserver.LoseRequest, Times: 2}
	held, foreign := goRow("other", "0000000000000000000000000000000a"), attributes{"something": s("else")}
	for name, tt := range map[string]struct {
		call func(ctx context.Context, c *dynalock.Client) error
		row  attributes       // what somebody else writes after the lost write was sent
		then testserver.Fault // what the next requests meet
		ends time.Duration    // the call's context
		want error
	}{
		"a try finds it held":         {call: try, row: held, want: dynalock.ErrHeld},
		"a try finds it foreign":      {call: try, row: foreign, want: dynalock.ErrForeign},
		"a try is refused for good":   {call: try, then: denied, want: dynalock.ErrStore},
		"a try has no answer":         {call: try, then: mute, want: dynalock.ErrStore},
		"a try ends with its context": {call: try, ends: 5 * time.Millisecond, want: context.DeadlineExceeded},
		"a wait finds it foreign":     {call: wait, row: foreign, want: dynalock.ErrForeign},
		"a wait is refused for good":  {call: wait, then: denied, want: dynalock.ErrStore},
		"a wait ends with its context": {
			call: wait, row: held, ends: lease / 4, want: context.DeadlineExceeded,
		},
	} {
		t.Run(name, func(t *testing.T) {
			onServer(t, func(e *env) {
				c, wire := e.client()
				meanwhile := func(string, []byte) bool {
					if tt.row != nil {
						e.put("key", with(tt.row, nil))
					}
					return true
				}
				wire.Inject(testserver.Fault{Kind: testserver.KeepRequest, Op: "UpdateItem", Times: 1, Match: meanwhile})
				if tt.then.Kind != testserver.Pass {
					wire.Inject(tt.then)
				}
				ctx := e.ctx
				if tt.ends > 0 {
					ctx = e.within(tt.ends)
				}
				wantErr(e, tt.call(ctx, c), tt.want)
				e.delete("key") // by an operator, so that nothing is in the way of the lost write
				_, err := wire.Deliver(e.ctx)
				must(e, err)
				time.Sleep(lease / 2)
				r, err := c.Get(e.ctx, "key")
				must(e, err)
				check(e, r.State == dynalock.Free, "half a lease later the tenure of nobody is still there: %+v", r)
			})
		})
	}
}

func TestALockWonAfterItsCallerHadGoneThatCouldNotBeReleasedIsForgotten(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		wire.Inject(testserver.Fault{Op: "UpdateItem", Delay: 100 * time.Millisecond, Times: 1})
		remove := wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Op: "UpdateItem"})
		_, err := c.Acquire(e.within(50*time.Millisecond), "key")
		wantErr(e, err, context.DeadlineExceeded)
		time.Sleep(3 * lease)
		remove()
		before := wire.Count()
		must(e, c.Close(e.ctx))
		check(e, wire.Count() == before, "Close sent %d requests for a tenure that is nobody's", wire.Count()-before)
	})
}

func TestASecondCloseWaitsForTheFirstButNotLongerThanItsContext(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(long)
		e.acquire(c, "key")
		remove := wire.Inject(testserver.Fault{Kind: testserver.HangBefore})
		first := make(chan error, 1)
		go func() { first <- c.Close(e.ctx) }()
		synctest.Wait()

		start := time.Now()
		err := c.Close(e.within(time.Second))
		wantErr(e, err, context.DeadlineExceeded)
		took := time.Since(start)
		check(e, took >= time.Second && took <= time.Second+50*time.Millisecond, "it returned after %v, want 1 s", took)

		second := make(chan error, 1)
		go func() { second <- c.Close(e.ctx) }()
		synctest.Wait()
		select {
		case err := <-second:
			e.Errorf("it returned before the first one: %v", err)
		default:
		}
		remove()
		must(e, <-first)
		must(e, <-second)
		must(e, c.Close(e.within(time.Second)))
	})
}

// RetryAfter is when a try may find the lock free: not before it is usually given back, not after its holder would be
// dead, and never at once.
func TestRetryAfterIsTheUsualHoldTimeTheRestOfTheLeaseAtMostAndMinPollAtLeast(t *testing.T) {
	const most = 500 * time.Millisecond
	retryAfter := func(e *env, c *dynalock.Client) time.Duration {
		e.Helper()
		_, err := c.TryAcquire(e.ctx, "key")
		held, ok := errors.AsType[*dynalock.HeldError](err)
		if !ok {
			e.Fatalf("error is %v, want a HeldError", err)
		}
		return held.RetryAfter
	}
	t.Run("usual hold time", func(t *testing.T) {
		virtual(t, func(e *env) {
			holder, _ := e.client()
			c, _ := e.client(func(o *dynalock.Options) { o.MaxPoll = most })
			tenures(e, holder, "key", 1, 2*time.Second)
			e.acquire(holder, "key")
			got := retryAfter(e, c)
			check(e, got > most && got <= 2500*time.Millisecond, "usually held for 2 s: RetryAfter is %v", got)
		})
	})
	t.Run("rest of the lease", func(t *testing.T) {
		virtual(t, func(e *env) {
			holder, wire := e.client()
			c, _ := e.client(func(o *dynalock.Options) { o.MaxPoll = most })
			tenures(e, holder, "key", 1, time.Minute)
			e.acquire(holder, "key")
			crash(wire)
			retryAfter(e, c) // from here on its version is watched
			time.Sleep(lease / 2)
			got := retryAfter(e, c)
			check(e, got > lease/4 && got <= lease/2, "half a lease is left: RetryAfter is %v", got)
			time.Sleep(lease/2 - 10*time.Millisecond)
			got = retryAfter(e, c)
			check(e, got == c.Options().MinPoll, "next to nothing is left: RetryAfter is %v, want MinPoll", got)
			time.Sleep(got)
			l, err := c.TryAcquire(e.ctx, "key")
			must(e, err)
			check(e, l.Held(), "lost: %v", l.Err())
		})
	})
	t.Run("a tenure of unusual length", func(t *testing.T) {
		virtual(t, func(e *env) {
			holder, _ := e.client()
			c, _ := e.client(func(o *dynalock.Options) { o.MaxPoll = most })
			e.acquire(holder, "key") // of a key whose usual hold time is not known
			retryAfter(e, c)
			time.Sleep(10 * lease)
			late := 0
			for range 20 {
				got := retryAfter(e, c)
				check(e, got >= c.Options().MinPoll && got <= most+c.Options().MinPoll, "RetryAfter is %v", got)
				if got > most/10 {
					late++
				}
			}
			check(e, late > 10, "of 20 only %d waits are longer than %v though it has been held for long", late, most/10)
		})
	})
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
