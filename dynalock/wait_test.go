package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

func TestAWaiterSendsNoWriteUntilTheLockLooksFree(t *testing.T) {
	onServer(t, func(e *env) {
		holder, _ := e.client()
		other, wire := e.client(long)
		l := e.acquire(holder, "key")
		got := make(chan *dynalock.Lock)
		go func() {
			l, err := other.Acquire(e.within(20*time.Second), "key")
			check(e, err == nil, "%v", err)
			got <- l
		}()
		time.Sleep(3 * lease) // the holder's heartbeats keep it
		writes, reads := wire.Count("UpdateItem"), wire.Count("GetItem")
		check(e, writes == 1, "%d writes while waiting, want the first attempt alone", writes)
		check(e, reads > 0, "no reads while waiting")
		must(e, l.Release(e.ctx))
		l2 := <-got
		check(e, l2.Token() > l.Token(), "token %d after %d", l2.Token(), l.Token())
		check(e, wire.Count("UpdateItem") == 2, "%d writes, want the first attempt and the one that won",
			wire.Count("UpdateItem"))
	})
}

func TestAWaiterFindsTheDataThatWasStoredWhileItWaited(t *testing.T) {
	onServer(t, func(e *env) {
		holder, _ := e.client()
		l := e.acquire(holder, "key", func(o *dynalock.AcquireOptions) { o.Data = []byte("old") })
		waiter, wire := e.client()
		got := make(chan *dynalock.Lock)
		go func() {
			l, err := waiter.Acquire(e.ctx, "key")
			check(e, err == nil, "%v", err)
			got <- l
		}()
		for wire.Count("GetItem") == 0 { // until it has read "old"
			time.Sleep(10 * time.Millisecond)
		}
		must(e, l.SetData(e.ctx, []byte("new")))
		must(e, l.Release(e.ctx))
		l2 := <-got
		r, err := holder.Get(e.ctx, "key")
		must(e, err)
		check(e, string(l2.Data()) == "new" && string(r.Data) == "new", "found %q, stored is %q", l2.Data(), r.Data)
	})
}

func TestWaitersReadAtHalfThePriceAndGetDoesNot(t *testing.T) {
	virtual(t, func(e *env) {
		holder, _ := e.client()
		e.acquire(holder, "key")
		c, wire := e.client()
		var bodies []string
		wire.Inject(testserver.Fault{
			Op:    "GetItem",
			Match: func(_ string, body []byte) bool { bodies = append(bodies, string(body)); return false },
		})
		_, err := c.Acquire(e.within(2*lease), "key")
		wantErr(e, err, dynalock.ErrHeld)
		check(e, len(bodies) > 0, "no look")
		for _, body := range bodies {
			check(e, strings.Contains(body, `"ConsistentRead":false`), "a waiter's look is strongly consistent: %s", body)
		}
		bodies = nil
		_, err = c.Get(e.ctx, "key")
		must(e, err)
		check(e, len(bodies) == 1 && strings.Contains(bodies[0], `"ConsistentRead":true`), "Get reads %v", bodies)
	})
}

func TestAWaiterLooksAtRandomTimesBetweenMinPollAndMaxPoll(t *testing.T) {
	virtual(t, func(e *env) {
		const least, most = 20 * time.Millisecond, 500 * time.Millisecond
		holder, _ := e.client(long)
		tenures(e, holder, "key", 1, time.Minute) // so long that MaxPoll is what bounds the wait
		e.acquire(holder, "key")
		c, wire := e.client(func(o *dynalock.Options) { o.MinPoll, o.MaxPoll = least, most })
		var looks []time.Time
		wire.Inject(testserver.Fault{
			Op:    "GetItem",
			Match: func(string, []byte) bool { looks = append(looks, time.Now()); return false },
		})
		_, err := c.Acquire(e.within(time.Minute), "key")
		wantErr(e, err, dynalock.ErrHeld)
		gaps := map[time.Duration]bool{}
		early := 0
		for i := 1; i < len(looks); i++ {
			gap := looks[i].Sub(looks[i-1])
			check(e, gap >= least && gap <= most+10*time.Millisecond, "%v between two looks", gap)
			gaps[gap] = true
			if gap < (least+most)/2 {
				early++
			}
		}
		n := len(looks) - 1
		check(e, n > 150 && n < 400, "%d looks in a minute, want one every quarter of a second or so", n)
		check(e, len(gaps) > n/2 && early > n/4 && early < n*3/4, "%d distances between %d looks, %d of them short",
			len(gaps), n, early)
	})
}

func TestADeadHoldersLockIsTakenAfterItsLeaseAndNotEarlier(t *testing.T) {
	onServer(t, func(e *env) {
		holder, wire := e.client()
		l := e.acquire(holder, "key")
		crash(wire)
		lastWrite := time.Now()
		other, _ := e.client()
		l2 := e.acquire(other, "key")
		waited := time.Since(lastWrite)
		check(e, waited >= lease, "taken after %v, before the lease of %v", waited, lease)
		check(e, !l.Held(), "the dead holder still believes that it holds the lock")
		check(e, l2.Token() == l.Token()+1, "token %d after %d", l2.Token(), l.Token())
		if e.embedded != nil {
			check(e, waited < lease+100*time.Millisecond, "taken after %v", waited)
		}
	})
}

func TestOfTwoWhoTakeADeadHoldersLockOverOneIsRefused(t *testing.T) {
	virtual(t, func(e *env) {
		dead, wire := e.client()
		e.acquire(dead, "key")
		crash(wire)
		quick, _ := e.client()
		slow, wire := e.client()
		for _, c := range []*dynalock.Client{quick, slow} {
			_, err := c.TryAcquire(e.ctx, "key")
			wantErr(e, err, dynalock.ErrHeld)
		}
		time.Sleep(lease + time.Millisecond)
		// its take-over: it comes after the other's
		wire.Inject(testserver.Fault{Op: "UpdateItem", Times: 1, Delay: lease / 10})
		refused := make(chan error)
		go func() { _, err := slow.TryAcquire(e.ctx, "key"); refused <- err }()
		l := e.acquire(quick, "key")
		wantErr(e, <-refused, dynalock.ErrHeld)
		must(e, l.Renew(e.ctx))
	})
}

func TestALaterProcessTakesADeadHoldersLockAtFirstSightWithMaxClockSkew(t *testing.T) {
	onServer(t, func(e *env) {
		holder, wire := e.client()
		e.acquire(holder, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		crash(wire)
		careful, _ := e.client()
		_, err := careful.TryAcquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrHeld)
		time.Sleep(lease + 300*time.Millisecond)
		late, wire := e.client(long, func(o *dynalock.Options) { o.MaxClockSkew = 200 * time.Millisecond })
		_, err = late.TryAcquire(e.ctx, "key")
		must(e, err)
		check(e, wire.Count() == 2, "%d requests, want the look and the take-over", wire.Count())
	})
}

func TestALiveLockIsNotTakenWithMaxClockSkew(t *testing.T) {
	onServer(t, func(e *env) {
		holder, _ := e.client()
		l := e.acquire(holder, "key")
		time.Sleep(2 * lease)
		late, _ := e.client(func(o *dynalock.Options) { o.MaxClockSkew = 50 * time.Millisecond })
		_, err := late.TryAcquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrHeld)
		check(e, l.Held(), "lost")
	})
}

func TestALockIsTakenWithMaxClockSkewOnlyWhenItsExpiryLiesFurtherBackThanThat(t *testing.T) {
	virtual(t, func(e *env) {
		const skew = lease / 2
		holder, wire := e.client()
		e.acquire(holder, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		crash(wire)
		start := time.Now()
		for {
			once, _ := e.client(func(o *dynalock.Options) { o.MaxClockSkew = skew }) // has seen nothing before
			_, err := once.TryAcquire(e.ctx, "key")
			if err == nil {
				break
			}
			wantErr(e, err, dynalock.ErrHeld)
			time.Sleep(lease / 20)
		}
		took := time.Since(start)
		check(e, took >= lease+skew-10*time.Millisecond && took < lease+skew+lease/10,
			"taken %v after the only write of a lease of %v, with a skew of %v", took, lease, skew)
	})
}

func TestAWaiterCountsFromAfterTheAnswer(t *testing.T) {
	for name, wait := range map[string]func(e *env, c *dynalock.Client) error{
		"Acquire": func(e *env, c *dynalock.Client) error { _, err := c.Acquire(e.ctx, "key"); return err },
		"TryAcquire": func(e *env, c *dynalock.Client) error {
			for {
				_, err := c.TryAcquire(e.ctx, "key")
				if !errors.Is(err, dynalock.ErrHeld) {
					return err
				}
				time.Sleep(lease / 100)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				holder, holderWire := e.client()
				l := e.acquire(holder, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
				renewed := make(chan time.Time, 1)
				go func() {
					time.Sleep(lease / 20) // while the waiter's first question is under way
					check(e, l.Renew(e.ctx) == nil, "not renewed")
					renewed <- time.Now()
					crash(holderWire)
				}()
				c, wire := e.client()
				wire.Inject(testserver.Fault{Delay: lease / 10, Times: 1})
				must(e, wait(e, c))
				last := <-renewed
				check(e, time.Since(last) >= lease, "taken %v after the last heartbeat, with a lease of %v", time.Since(last),
					lease)
			})
		})
	}
}

// tenures holds key so many times, each for d.
func tenures(e *env, c *dynalock.Client, key string, times int, d time.Duration) {
	for range times {
		l := e.acquire(c, key)
		time.Sleep(d)
		must(e, l.Release(e.ctx))
	}
}

func TestTheItemKeepsAMovingAverageOfItsHoldTimes(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		average := func() time.Duration {
			us, err := strconv.ParseInt(text(e.item("key")["holdAverage"]), 10, 64)
			must(e, err)
			return time.Duration(us) * time.Microsecond
		}
		tenures(e, c, "key", 1, 4*lease)
		check(e, (average()-4*lease).Abs() < 50*time.Millisecond, "after one tenure of %v: %v", 4*lease, average())
		tenures(e, c, "key", 1, 0)
		check(e, average() > 2*lease && average() < 4*lease, "after a short one: %v", average())
		tenures(e, c, "key", 30, 0)
		check(e, average() < lease/10, "after many short ones: %v", average())
	})
}

func TestTheUsualHoldTimeSteersTheLooksOfAWaiter(t *testing.T) {
	virtual(t, func(e *env) {
		slow := func(o *dynalock.Options) { o.Lease, o.MaxPoll = 40*time.Second, 20*time.Second }
		holder, _ := e.client(slow)
		looks := func(key string) int {
			l := e.acquire(holder, key)
			waiter, wire := e.client(slow)
			_, err := waiter.Acquire(e.within(5*time.Second), key)
			wantErr(e, err, dynalock.ErrHeld)
			must(e, l.Release(e.ctx))
			return wire.Count("GetItem")
		}
		usuallyLong, unknown := 0, 0
		for i := range 10 {
			key := fmt.Sprint("long ", i)
			tenures(e, holder, key, 1, 5*time.Second)
			usuallyLong += looks(key)
			unknown += looks(fmt.Sprint("unknown ", i))
		}
		check(e, usuallyLong >= 1, "nobody looked at all")
		check(e, 2*usuallyLong < unknown,
			"10 waits of 5 s took %d looks where the lock is usually held for 5 s, and %d where nothing is known", usuallyLong,
			unknown)
	})
}

func TestTheMoreWaitTheLessOftenEachLooks(t *testing.T) {
	virtual(t, func(e *env) {
		slow := func(o *dynalock.Options) { o.Lease, o.MaxPoll = 40*time.Second, 20*time.Second }
		holder, _ := e.client(slow)
		looks := func(key, waiters string) int {
			tenures(e, holder, key, 1, 100*time.Millisecond)
			e.acquire(holder, key, func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
			e.put(key, with(e.item(key), attributes{"waiters": n(waiters)}))
			waiter, wire := e.client(slow)
			_, err := waiter.Acquire(e.within(5*time.Second), key)
			wantErr(e, err, dynalock.ErrHeld)
			return wire.Count("GetItem")
		}
		crowded, alone := 0, 0
		for i := range 10 {
			crowded += looks(fmt.Sprint("crowded ", i), "100")
			alone += looks(fmt.Sprint("alone ", i), "0")
		}
		check(e, 3*crowded < alone, "10 waits of 5 s took %d looks among a hundred others, and %d alone", crowded, alone)
	})
}

func TestManyProcessesWaitWithoutAHerd(t *testing.T) {
	virtual(t, func(e *env) {
		const processes, rounds = 20, 3
		hold := 500 * time.Millisecond
		first, _ := e.client()
		tenures(e, first, "key", 3, hold)
		done := make(chan int)
		for range processes {
			c, wire := e.client()
			go func() {
				for range rounds {
					err := c.Do(e.ctx, "key", func(context.Context, *dynalock.Lock) error { time.Sleep(hold); return nil })
					check(e, err == nil, "%v", err)
				}
				done <- wire.Count("GetItem", "UpdateItem")
			}()
		}
		start, requests := time.Now(), 0
		for range processes {
			requests += <-done
		}
		n := processes * rounds
		// 3 writes a tenure are acquire, heartbeats and release; the rest are refused writes and looks.
		check(e, requests < 25*n, "%d requests for %d tenures", requests, n)
		check(e, time.Since(start) < 2*time.Duration(n)*hold, "%d tenures of %v took %v", n, hold, time.Since(start))
	})
}

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
