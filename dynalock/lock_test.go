package dynalock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

// long is for tests that count requests: on a busy machine no answer comes too late for it.
func long(o *dynalock.Options) { o.Lease, o.AttemptTimeout = time.Minute, 30*time.Second }

func TestAnUncontendedLockAndItsReleaseAreTwoRequests(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		for range 3 { // of a new key, and of one that was released
			before := wire.Count()
			l := e.acquire(c, "key")
			check(e, l.Held(), "Held is false after Acquire")
			must(e, l.Release(e.ctx))
			check(e, wire.Count()-before == 2, "%d requests, want 2", wire.Count()-before)
			check(e, !l.Held(), "Held is true after Release")
		}
	})
}

func TestTryAcquireOfAHeldLockIsOneRequestAndSaysWhoHoldsIt(t *testing.T) {
	onServer(t, func(e *env) {
		holder, _ := e.client(func(o *dynalock.Options) { o.Owner = "worker 1" })
		other, wire := e.client(long)
		l := e.acquire(holder, "key", func(o *dynalock.AcquireOptions) { o.Reason, o.Data = "nightly run", []byte("payload") })
		_, err := other.TryAcquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrHeld)
		held, ok := errors.AsType[*dynalock.HeldError](err)
		check(e, ok, "error is %T", err)
		r := held.Record
		check(e, r.Owner == "worker 1" && r.Reason == "nightly run" && r.Token == l.Token() && r.State == dynalock.Held &&
			r.Lease == lease && string(r.Data) == "payload", "record is %+v", r)
		check(e, time.Since(r.AcquiredAt).Abs() < 10*time.Second && r.ExpiresAt.After(r.AcquiredAt), "acquired at %v, expires at %v", r.AcquiredAt, r.ExpiresAt)
		check(e, held.RetryAfter > 0 && held.RetryAfter <= lease, "RetryAfter is %v", held.RetryAfter)
		check(e, wire.Count() == 1, "%d requests, want 1", wire.Count())
	})
}

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
		check(e, wire.Count("UpdateItem") == 2, "%d writes, want the first attempt and the one that won", wire.Count("UpdateItem"))
	})
}

func TestAHeartbeatIsOneRequest(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		l := e.acquire(c, "key")
		before := text(e.item("key")["recordVersionNumber"])
		n := wire.Count()
		must(e, l.Renew(e.ctx))
		check(e, wire.Count()-n == 1, "%d requests, want 1", wire.Count()-n)
		check(e, text(e.item("key")["recordVersionNumber"]) != before, "the version stayed %q", before)
	})
}

func TestALockIsKeptByItsHeartbeatAlone(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key")
		time.Sleep(100 * lease)
		check(e, l.Held() && l.Err() == nil, "lost: %v", l.Err())
		beats := wire.Count() - 1
		check(e, beats >= 500 && beats <= 600, "%d heartbeats in 100 leases, want one every fifth of a lease", beats)
	})
}

func TestHandOverWithinAProcessIsOneRequestWithANewToken(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		l := e.acquire(c, "key")
		const n = 10
		got := make(chan *dynalock.Lock, n)
		for range n {
			go func() {
				l, err := c.Acquire(e.ctx, "key")
				check(e, err == nil, "%v", err)
				got <- l
			}()
		}
		time.Sleep(200 * time.Millisecond)
		for range n {
			before, token := wire.Count(), l.Token()
			must(e, l.Release(e.ctx))
			l = <-got
			check(e, l.Held() && l.Token() == token+1, "held %v, token %d after %d", l.Held(), l.Token(), token)
			check(e, wire.Count()-before == 1, "%d requests for a hand-over, want 1", wire.Count()-before)
		}
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
		wire.Inject(testserver.Fault{Op: "GetItem", Match: func(_ string, body []byte) bool { bodies = append(bodies, string(body)); return false }})
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
		wire.Inject(testserver.Fault{Op: "GetItem", Match: func(string, []byte) bool { looks = append(looks, time.Now()); return false }})
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
		check(e, len(gaps) > n/2 && early > n/4 && early < n*3/4, "%d distances between %d looks, %d of them short", len(gaps), n, early)
	})
}

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
		wire.Inject(testserver.Fault{Op: "UpdateItem", Times: 1, Delay: lease / 10}) // its take-over: it comes after the other's
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

func TestRepeatedShortCallsOfOneProcessTakeADeadHoldersLock(t *testing.T) {
	onServer(t, func(e *env) {
		holder, wire := e.client()
		e.acquire(holder, "key")
		crash(wire)
		start := time.Now()
		other, wire := e.client(long)
		for {
			before := wire.Count()
			_, err := other.TryAcquire(e.ctx, "key")
			check(e, wire.Count()-before == 1, "%d requests for one attempt", wire.Count()-before)
			if err == nil {
				break
			}
			wantErr(e, err, dynalock.ErrHeld)
			time.Sleep(lease / 4)
		}
		check(e, time.Since(start) >= lease, "taken after %v", time.Since(start))
		check(e, time.Since(start) < 3*lease, "taken only after %v", time.Since(start))
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
		check(e, took >= lease+skew-10*time.Millisecond && took < lease+skew+lease/10, "taken %v after the only write of a lease of %v, with a skew of %v", took, lease, skew)
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
				check(e, time.Since(last) >= lease, "taken %v after the last heartbeat, with a lease of %v", time.Since(last), lease)
			})
		})
	}
}

func TestALostAnswerAtEveryCallSiteIsNoLoss(t *testing.T) {
	kinds := map[string]testserver.Kind{
		"lost request": testserver.LoseRequest, "lost answer": testserver.LoseResponse, "hung request": testserver.HangBefore,
		"hung answer": testserver.HangAfter, "error before": testserver.FailBefore, "error after": testserver.FailAfter,
	}
	for name, kind := range kinds {
		hit := func(w *testserver.Wire) {
			w.Inject(testserver.Fault{Kind: kind, Op: "UpdateItem", Times: 1, Delay: lease / 10})
		}
		t.Run(name, func(t *testing.T) {
			t.Run("acquire", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					hit(wire)
					start := time.Now()
					l := e.acquire(c, "key")
					if kind == testserver.LoseResponse || kind == testserver.HangAfter || kind == testserver.FailAfter {
						check(e, wire.Count() > 2 || l.Deadline().Before(start.Add(lease*4/5+lease/10)), "deadline %v after the first send, want it counted from there", l.Deadline().Sub(start))
					}
					time.Sleep(2 * lease)
					check(e, l.Held(), "false loss: %v", l.Err())
					must(e, l.Release(e.ctx))
				})
			})
			t.Run("heartbeat", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					l := e.acquire(c, "key")
					for range 3 {
						hit(wire)
						time.Sleep(lease)
						check(e, l.Held(), "false loss: %v", l.Err())
					}
					must(e, l.Release(e.ctx))
				})
			})
			t.Run("release", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					l := e.acquire(c, "key")
					hit(wire)
					must(e, l.Release(e.ctx))
					r, err := c.Get(e.ctx, "key")
					must(e, err)
					check(e, r.State == dynalock.Free, "orphan: %+v", r)
				})
			})
			t.Run("deleting release", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					l := e.acquire(c, "key", deleting)
					hit(wire)
					must(e, l.Release(e.ctx))
					check(e, outlives(e, "key") > 14*time.Minute, "it is kept for %v", outlives(e, "key"))
				})
			})
			t.Run("take-over", func(t *testing.T) {
				onServer(t, func(e *env) {
					dead, wire := e.client()
					e.acquire(dead, "key")
					crash(wire)
					c, wire := e.client()
					_, err := c.TryAcquire(e.ctx, "key")
					wantErr(e, err, dynalock.ErrHeld)
					time.Sleep(lease)
					hit(wire)
					l := e.acquire(c, "key")
					time.Sleep(2 * lease)
					check(e, l.Held(), "false loss: %v", l.Err())
				})
			})
			t.Run("hand-over", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					l := e.acquire(c, "key")
					got := make(chan *dynalock.Lock)
					go func() {
						l, err := c.Acquire(e.ctx, "key")
						check(e, err == nil, "%v", err)
						got <- l
					}()
					time.Sleep(50 * time.Millisecond)
					hit(wire)
					must(e, l.Release(e.ctx))
					l2 := <-got
					check(e, l2.Token() > l.Token(), "token %d after %d", l2.Token(), l.Token())
					time.Sleep(2 * lease)
					check(e, l2.Held(), "false loss: %v", l2.Err())
				})
			})
			t.Run("set data", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					l := e.acquire(c, "key")
					hit(wire)
					must(e, l.SetData(e.ctx, []byte("new")))
					time.Sleep(2 * lease)
					check(e, l.Held(), "false loss: %v", l.Err())
					r, err := c.Get(e.ctx, "key")
					must(e, err)
					check(e, string(r.Data) == "new", "data is %q", r.Data)
				})
			})
			t.Run("renew", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
					before := l.Deadline()
					hit(wire)
					must(e, l.Renew(e.ctx))
					check(e, l.Held() && l.Deadline().After(before), "held %v until %v, before it was %v", l.Held(), l.Deadline(), before)
					must(e, l.Release(e.ctx))
				})
			})
			t.Run("resume", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, _ := e.client()
					l := e.acquire(c, "key")
					other, wire := e.client()
					hit(wire)
					l2, err := other.Resume(e.ctx, l.Handle())
					must(e, err)
					check(e, l2.Token() == l.Token()+1, "token %d after %d", l2.Token(), l.Token())
					time.Sleep(lease / 2) // two heartbeats of either
					check(e, l2.Held(), "false loss: %v", l2.Err())
					wantErr(e, l.Err(), dynalock.ErrLost)
				})
			})
			t.Run("clean-up", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					ctx, cancel := context.WithCancel(e.ctx)
					wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1, Match: func(string, []byte) bool {
						cancel()
						return true
					}})
					hit(wire)
					_, err := c.Acquire(ctx, "key")
					wantErr(e, err, context.Canceled)
					start := time.Now()
					for text(e.item("key")["isReleased"]) != "1" {
						if time.Since(start) > lease {
							e.Fatalf("the ghost is still there: %v", e.item("key"))
						}
						time.Sleep(lease / 100)
					}
				})
			})
			t.Run("force release", func(t *testing.T) {
				virtual(t, func(e *env) {
					c, _ := e.client()
					l := e.acquire(c, "key")
					operator, wire := e.client()
					r, err := operator.Get(e.ctx, "key")
					must(e, err)
					hit(wire)
					must(e, operator.ForceRelease(e.ctx, r))
					r, err = operator.Get(e.ctx, "key")
					must(e, err)
					check(e, r.State == dynalock.Free && r.Token == l.Token(), "record is %+v", r)
				})
			})
			t.Run("hand-over of an election", func(t *testing.T) {
				virtual(t, func(e *env) {
					a := e.candidate("a")
					<-a.leads
					b := e.candidate("b")
					c, wire := e.client()
					hit(wire)
					must(e, c.Election("leader").HandOver(e.ctx, "b"))
					wantErr(e, <-a.ends, dynalock.ErrHandedOver)
					<-b.leads
				})
			})
			t.Run("stand down", func(t *testing.T) {
				onServer(t, func(e *env) {
					a := e.candidate("a")
					<-a.leads
					b := e.candidate("b")
					var met atomic.Bool
					a.wire.Inject(testserver.Fault{Kind: kind, Op: "UpdateItem", Times: 1, Match: func(_ string, body []byte) bool {
						yields := bytes.Contains(body, []byte("#yielded")) && bytes.Contains(body, []byte(":successor"))
						met.Store(met.Load() || yields)
						return yields
					}})
					must(e, a.HandOver(e.ctx, "b"))
					l := <-b.leads
					time.Sleep(lease / 2)
					check(e, l.Held(), "false loss: %v", l.Err())
					check(e, met.Load() && len(a.leads) == 0, "a did not stand down, or leads again")
				})
			})
			t.Run("resign", func(t *testing.T) {
				onServer(t, func(e *env) {
					a := e.candidate("a")
					l := <-a.leads
					hit(a.wire)
					must(e, a.Resign(e.ctx))
					r, err := a.Leader(e.ctx)
					must(e, err)
					check(e, r.State == dynalock.Free && r.Token == l.Token(), "record is %+v", r)
				})
			})
		})
	}
}

func TestAHungNetworkIsAnnouncedAtTheDeadline(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key")
		time.Sleep(3 * lease)
		crash(wire)
		deadline := l.Deadline()
		<-l.Done()
		late := time.Since(deadline)
		check(e, late >= 0 && late <= time.Millisecond, "Done closed %v after the deadline", late)
		check(e, !l.Held(), "Held is true after the deadline")
		wantErr(e, l.Err(), dynalock.ErrLost)
		wantErr(e, l.Err(), heartbeat.ErrDeadline)
		wantErr(e, context.Cause(l.Context()), dynalock.ErrLost)
	})
}

func TestReleaseIsIdempotentAndNeverTouchesASuccessor(t *testing.T) {
	onServer(t, func(e *env) {
		c1, _ := e.client()
		c2, _ := e.client()
		l := e.acquire(c1, "key")
		must(e, l.Release(e.ctx))
		must(e, l.Release(e.ctx))
		l2 := e.acquire(c2, "key")
		must(e, l.Release(e.ctx))
		wantErr(e, l.Err(), dynalock.ErrReleased)
		wantErr(e, context.Cause(l.Context()), dynalock.ErrReleased)
		time.Sleep(2 * lease)
		check(e, l2.Held(), "the successor was touched: %v", l2.Err())
		wantErr(e, l.Renew(e.ctx), dynalock.ErrReleased)
		wantErr(e, l.SetData(e.ctx, nil), dynalock.ErrReleased)
	})
}

func TestALateCopyOfAnAcquireDoesNotTakeTheLockAgainAfterItsRelease(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		for range 2 { // of a new key, and of one that was released
			wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "UpdateItem", Times: 1})
			l := e.acquire(c, "key")
			must(e, l.Release(e.ctx))
			_, err := wire.Deliver(e.ctx)
			must(e, err)
			r, err := c.Get(e.ctx, "key")
			must(e, err)
			check(e, r.State == dynalock.Free && r.Token == l.Token(), "record is %+v", r)
		}
	})
}

func TestALateCopyOfAnAcquireBeginsNoTenureAfterAnOperatorEndedIts(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "UpdateItem", Times: 1})
		l := e.acquire(c, "key")
		hasty, _ := e.client(dynalock.WithClock(skewed{heartbeat.SystemClock(), -time.Minute})) // the operator's clock is behind
		r, err := hasty.Get(e.ctx, "key")
		must(e, err)
		must(e, hasty.ForceRelease(e.ctx, r))
		_, err = wire.Deliver(e.ctx)
		must(e, err)
		now, err := c.Get(e.ctx, "key")
		must(e, err)
		check(e, now.State == dynalock.Free && now.Token == l.Token(), "the copy was applied: %+v", now)
	})
}

// A copy that makes the item anew after a deletion writes the version again, but not the token that counted on.
func TestALateCopyOfAnAcquireRevivesNoTenureWhoseItemWasDeletedUnlessItWasNew(t *testing.T) {
	onServer(t, func(e *env) {
		for name, act := range map[string]func(c *dynalock.Client, l *dynalock.Lock) error{
			"heartbeat":   func(_ *dynalock.Client, l *dynalock.Lock) error { return l.Renew(e.ctx) },
			"transaction": func(_ *dynalock.Client, l *dynalock.Lock) error { return l.Transact(e.ctx, put(e, "guarded", "x")) },
			"release":     func(_ *dynalock.Client, l *dynalock.Lock) error { return l.Release(e.ctx) },
			"resume":      func(c *dynalock.Client, l *dynalock.Lock) error { _, err := c.Resume(e.ctx, l.Handle()); return err },
		} {
			c, wire := e.client(long)
			must(e, e.acquire(c, name).Release(e.ctx))
			wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "UpdateItem", Times: 1})
			l := e.acquire(c, name)
			e.delete(name)
			_, err := wire.Deliver(e.ctx)
			must(e, err)
			now, err := c.Get(e.ctx, name)
			must(e, err)
			check(e, now.State == dynalock.Held && now.Token != l.Token(), "%s: the copy was not applied: %+v", name, now)
			err = act(c, l)
			check(e, errors.Is(err, dynalock.ErrLost), "%s: %v", name, err)
		}
		check(e, len(e.item("guarded")) == 0, "a guarded write was applied")
	})
}

// No condition can tell an item that was deleted from one that never was. So delete none.
func TestALateCopyOfAnAcquireMakesTheItemAnewThatWasDeletedUnderItsHolder(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "UpdateItem", Times: 1})
		l := e.acquire(c, "key")
		e.delete("key")
		_, err := wire.Deliver(e.ctx)
		must(e, err)
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		check(e, r.State == dynalock.Held && r.Token == l.Token(), "record is %+v", r)
		must(e, l.Renew(e.ctx)) // as if nothing had happened
		other, _ := e.client(long)
		_, err = other.TryAcquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrHeld)
		must(e, l.Release(e.ctx))
	})
}

func TestTheCleaningUpBehindAnAcquisitionIsRepeated(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Minute })
		ctx, cancel := context.WithCancel(e.ctx)
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1, Match: func(string, []byte) bool { cancel(); return true }})
		wire.Inject(testserver.Fault{Kind: testserver.LoseRequest, Op: "UpdateItem", Times: 2})
		_, err := c.Acquire(ctx, "key")
		wantErr(e, err, context.Canceled)
		time.Sleep(10 * time.Second)
		check(e, text(e.item("key")["isReleased"]) == "1", "the ghost is still there: %v", e.item("key"))
	})
}

func TestAReleaseWhoseHandOverIsLostIsNilOnlyWhenTheItemIsGivenBack(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		version := text(e.item("key")["recordVersionNumber"])
		got := make(chan *dynalock.Lock)
		go func() {
			l, err := c.Acquire(e.ctx, "key")
			check(e, err == nil, "%v", err)
			got <- l
		}()
		synctest.Wait()
		wire.Inject(testserver.Fault{Kind: testserver.LoseRequest, Op: "UpdateItem", Times: 1}) // the waiter's write
		must(e, l.Release(e.ctx))
		row := e.item("key")
		check(e, text(row["recordVersionNumber"]) != version, "Release returned nil while the item was as before: %s, released %q", version, text(row["isReleased"]))
		l2 := <-got
		check(e, l2.Token() > l.Token(), "token %d after %d", l2.Token(), l.Token())
	})
}

func TestAFailedReleaseCanBeRepeated(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key")
		remove := wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ValidationException"})
		err := l.Release(e.ctx)
		wantErr(e, err, dynalock.ErrStore)
		remove()
		must(e, l.Release(e.ctx))
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		check(e, r.State == dynalock.Free, "record is %+v", r)
	})
}

func TestAReleaseWithACancelledContextStillReleases(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client()
		l := e.acquire(c, "key")
		ctx, cancel := context.WithCancel(e.ctx)
		cancel()
		if err := l.Release(ctx); err != nil { // a slow machine: it goes on in the background
			wantErr(e, err, context.Canceled)
			must(e, l.Release(e.ctx))
		}
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		check(e, r.State == dynalock.Free, "record is %+v", r)
	})
}

func TestResumeContinuesInAnotherProcessAndTheOldCopyIsInert(t *testing.T) {
	onServer(t, func(e *env) {
		c1, _ := e.client()
		c2, _ := e.client()
		l := e.acquire(c1, "key", func(o *dynalock.AcquireOptions) { o.Data = []byte("step 1") })
		must(e, l.Renew(e.ctx))
		l2, err := c2.Resume(e.ctx, l.Handle())
		must(e, err)
		check(e, l2.Held() && l2.Token() > l.Token() && string(l2.Data()) == "step 1", "held %v, token %d after %d, data %q", l2.Held(), l2.Token(), l.Token(), l2.Data())
		wantErr(e, l.Renew(e.ctx), dynalock.ErrLost)
		check(e, !l.Held(), "the old copy is not inert")
		wantErr(e, l.Release(e.ctx), dynalock.ErrLost)
		time.Sleep(2 * lease)
		check(e, l2.Held(), "lost: %v", l2.Err())
		must(e, l2.Release(e.ctx))
		_, err = c1.Resume(e.ctx, l2.Handle())
		wantErr(e, err, dynalock.ErrLost)
	})
}

// dynamolock copies the token that it does not know, so the token alone names no tenure.
func TestAHandleIsOfNoUseForALockThatDynamolockTookOver(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long)
		l := e.acquire(c, "key")
		row := takenByDynamolock(e.item("key"), "theirs")
		e.put("key", row)
		other, _ := e.client(long)
		_, err := other.Resume(e.ctx, l.Handle())
		wantErr(e, err, dynalock.ErrLost)
		check(e, reflect.DeepEqual(e.item("key"), row), "the row of a live holder became %v", e.item("key"))
	})
}

func TestAResumeThatGivesUpInDoubtLeavesNobodysTenure(t *testing.T) {
	for name, tt := range map[string]struct {
		lost int           // answers
		wait time.Duration // of the caller
		want error
	}{
		"after its attempts": {3, time.Minute, dynalock.ErrStore},
		"between two":        {1, 5 * time.Millisecond, context.DeadlineExceeded}, // the answer takes 2 ms, the next attempt follows 10 ms later
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, _ := e.client(long)
				l := e.acquire(c, "key")
				other, wire := e.client(long)
				wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: tt.lost})
				_, err := other.Resume(e.within(tt.wait), l.Handle())
				wantErr(e, err, tt.want)
				wantErr(e, err, dynalock.ErrStore)
				time.Sleep(time.Second)
				check(e, text(e.item("key")["isReleased"]) == "1", "a second later, of a lease of a minute, nobody holds %v", e.item("key"))
			})
		})
	}
}

func TestTheContextOfAnAcquireBoundsTheWaitAndNotTheLock(t *testing.T) {
	onServer(t, func(e *env) {
		type key struct{}
		c, _ := e.client(long)
		ctx, cancel := context.WithCancel(context.WithValue(e.ctx, key{}, "value"))
		l, err := c.Acquire(ctx, "key")
		must(e, err)
		cancel()
		check(e, l.Held() && l.Err() == nil && l.Context().Err() == nil, "the lock ended with the context: %v, %v", l.Err(), l.Context().Err())
		check(e, l.Context().Value(key{}) == "value", "the lock's context has no values")
		must(e, l.Release(e.ctx))
	})
}

func TestACopyInTheSameClientIsEndedBeforeResumeReturns(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		old := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.Lease = 50 * time.Second })
		l, err := c.Resume(e.ctx, old.Handle())
		must(e, err)
		before := wire.Count()
		check(e, !old.Held() && old.Context().Err() != nil, "the old copy is held")
		wantErr(e, old.Err(), dynalock.ErrLost)
		wantErr(e, old.Renew(e.ctx), dynalock.ErrLost)
		check(e, wire.Count() == before, "%d requests of a copy that is over", wire.Count()-before)
		check(e, l.Held(), "not held: %v", l.Err())
		check(e, text(e.item("key")["leaseDuration"]) == "50000", "the lease became %v", text(e.item("key")["leaseDuration"]))
	})
}

func TestEmptyDataIsStoredAndNoneKeepsWhatIsThere(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long)
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.Data = []byte("data") })
		must(e, l.Renew(e.ctx))
		must(e, l.Release(e.ctx))
		l = e.acquire(c, "key")
		check(e, string(l.Data()) == "data", "found %q", l.Data())
		must(e, l.SetData(e.ctx, nil))
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		check(e, len(r.Data) == 0 && len(l.Data()) == 0, "stored is %q, the lock says %q", r.Data, l.Data())
	})
}

func TestRenewAndSetDataExtendTheLeaseFromBeforeTheirSend(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		wire.Inject(testserver.Fault{Delay: lease / 10})
		for name, extend := range map[string]func() error{
			"Renew":   func() error { return l.Renew(e.ctx) },
			"SetData": func() error { return l.SetData(e.ctx, []byte("x")) },
		} {
			time.Sleep(lease / 10)
			start := time.Now()
			must(e, extend())
			check(e, l.Deadline().Equal(start.Add(lease*4/5)), "%s: the deadline is %v after the send, want %v", name, l.Deadline().Sub(start), lease*4/5)
		}
	})
}

func TestARefusedWriteThatWasAppliedForAllThatCountsFromTheFirstSend(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		wire.Inject(testserver.Fault{Kind: testserver.FailAfter, Status: 400, Type: "ThrottlingException", Times: 1, Delay: lease / 10})
		start := time.Now()
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		check(e, wire.Count() == 2, "%d requests, want the refused one and the one that found its item", wire.Count())
		check(e, !l.Deadline().After(start.Add(lease*4/5)), "the deadline is %v after the first send", l.Deadline().Sub(start))
	})
}

func TestALockWhoseFirstRenewalIsInDoubtKnowsThatVersionToo(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.AttemptTimeout = lease * 7 / 10 })
		other, _ := e.client()
		must(e, e.acquire(other, "key").Release(e.ctx)) // so that the token counts on
		time.Sleep(lease)
		for _, f := range []struct {
			kind dynalocktest.Kind
			skip int
			wait time.Duration
		}{
			{dynalocktest.SlowResponse, 0, lease / 2},       // the acquire: so slow that a renewal follows,
			{dynalocktest.SlowRequest, 1, lease * 77 / 100}, // which is applied only after the next attempt has found the acquire's version,
			{dynalocktest.SlowRequest, 3, lease / 12},       // and before that one's own renewal, whose heartbeat is not yet due then
		} {
			e.embedded.Inject(dynalocktest.Fault{Kind: f.kind, Operation: "UpdateItem", Skip: f.skip, Times: 1, Delay: f.wait})
		}
		start := time.Now()
		l := e.acquire(c, "key")
		check(e, wire.Count("UpdateItem") == 4 && time.Since(start) < 2*lease, "%d writes in %v, want the acquire, the look at it, and a renewal after each", wire.Count("UpdateItem"), time.Since(start))
		time.Sleep(3 * lease)
		check(e, l.Held(), "lost: %v", l.Err())
	})
}

// refusing is a table in which somebody holds every lock.
type refusing struct {
	dynalock.DynamoDB
	row attributes
}

func (r refusing) UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return nil, &types.ConditionalCheckFailedException{Item: r.row}
}

func TestTheMemoryForLocksThatOthersHoldIsBounded(t *testing.T) {
	t.Parallel()
	c, err := dynalock.New(refusing{row: goRow("somebody", "version")}, "locks")
	must(t, err)
	const most = 10_000
	for i := range most + 100 {
		_, err := c.TryAcquire(t.Context(), fmt.Sprint("key ", i))
		wantErr(t, err, dynalock.ErrHeld)
	}
	check(t, dynalock.Watches(c) == most, "%d locks are remembered, want %d", dynalock.Watches(c), most)
	check(t, dynalock.Tokens(c) == most, "the tokens of %d keys are remembered, want %d", dynalock.Tokens(c), most)
	must(t, c.Close(t.Context()))
}

func TestDoReleasesAfterAPanicAndAnEndedContext(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client()
		func() {
			defer func() { check(e, recover() == "boom", "the panic was swallowed") }()
			_ = c.Do(e.ctx, "key", func(context.Context, *dynalock.Lock) error { panic("boom") })
		}()
		ctx, cancel := context.WithCancel(e.ctx)
		err := c.Do(ctx, "key", func(ctx context.Context, l *dynalock.Lock) error {
			check(e, l.Held(), "not held")
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		wantErr(e, err, context.Canceled)
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		check(e, r.State == dynalock.Free, "record is %+v", r)
	})
}

func TestDoSaysThatTheLockWasLostWhateverTheFunctionReturns(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		err := c.Do(e.ctx, "key", func(ctx context.Context, _ *dynalock.Lock) error {
			crash(wire)
			<-ctx.Done()
			wantErr(e, context.Cause(ctx), dynalock.ErrLost)
			return nil
		})
		wantErr(e, err, dynalock.ErrLost)
	})
}

func TestDoSaysThatTheLockWasNotReleased(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ValidationException", Op: "UpdateItem", Skip: 1})
		wantErr(e, c.Do(e.ctx, "key", nothing), dynalock.ErrStore)
		check(e, e.item("key")["isReleased"] == nil, "it was released after all")
	})
}

func TestEveryCallReturnsWithin50MillisecondsOfItsContextsEnd(t *testing.T) {
	calls := map[string]func(e *env, ctx context.Context, c *dynalock.Client, l *dynalock.Lock) error{
		"Acquire": func(_ *env, ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error {
			_, err := c.Acquire(ctx, "other")
			return err
		},
		"TryAcquire": func(_ *env, ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error {
			_, err := c.TryAcquire(ctx, "other")
			return err
		},
		"Resume": func(_ *env, ctx context.Context, c *dynalock.Client, l *dynalock.Lock) error {
			_, err := c.Resume(ctx, l.Handle())
			return err
		},
		"Get": func(_ *env, ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error {
			_, err := c.Get(ctx, "other")
			return err
		},
		"Records": func(_ *env, ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error {
			for _, err := range c.Records(ctx) {
				return err
			}
			return nil
		},
		"ForceRelease": func(_ *env, ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error {
			return c.ForceRelease(ctx, dynalock.Record{Key: "key", State: dynalock.Held, Owner: "x", Version: "v"})
		},
		"Close": func(_ *env, ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error { return c.Close(ctx) },
		"Renew": func(_ *env, ctx context.Context, _ *dynalock.Client, l *dynalock.Lock) error { return l.Renew(ctx) },
		"SetData": func(_ *env, ctx context.Context, _ *dynalock.Client, l *dynalock.Lock) error {
			return l.SetData(ctx, nil)
		},
		"Release": func(_ *env, ctx context.Context, _ *dynalock.Client, l *dynalock.Lock) error { return l.Release(ctx) },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				for _, after := range []time.Duration{0, time.Millisecond, 100 * time.Millisecond} {
					c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Minute })
					l := e.acquire(c, "key "+after.String())
					crash(wire)
					ctx, cancel := context.WithTimeout(e.ctx, after)
					start := time.Now()
					err := call(e, ctx, c, l)
					took := time.Since(start) - after
					cancel()
					check(e, err != nil, "no error from a hung network")
					check(e, took <= 50*time.Millisecond, "returned %v after its context's end", took)
				}
			})
		})
	}
}

func TestCloseReleasesEverythingAndLeavesNoGoroutine(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		var locks []*dynalock.Lock
		for _, key := range []string{"a", "b", "c", "d"} {
			locks = append(locks, e.acquire(c, key))
		}
		other, _ := e.client()
		e.acquire(other, "held")
		waiting := make(chan error)
		go func() { _, err := c.Acquire(e.ctx, "held"); waiting <- err }()
		synctest.Wait()
		wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ValidationException", Times: 1})
		err := c.Close(e.ctx)
		wantErr(e, err, dynalock.ErrStore) // the one that failed is told, and the others were tried
		wantErr(e, <-waiting, dynalock.ErrClosed)
		free := 0
		for _, l := range locks {
			r, err := other.Get(e.ctx, l.Key())
			must(e, err)
			if r.State == dynalock.Free {
				free++
			}
			check(e, !l.Held(), "%s is held after Close", l.Key())
		}
		check(e, free == 3, "%d of 4 are free, want all but the one that failed", free)
		_, err = c.Acquire(e.ctx, "a")
		wantErr(e, err, dynalock.ErrClosed)
		must(e, c.Close(e.ctx))
	})
}

func TestCloseEndsRequestsThatHang(t *testing.T) {
	for name, call := range map[string]func(e *env, c *dynalock.Client) error{
		"a waiter's look": func(e *env, c *dynalock.Client) error {
			_, err := c.Acquire(e.ctx, "key")
			return err
		},
		"Get": func(e *env, c *dynalock.Client) error {
			_, err := c.Get(e.within(lease), "key")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				other, _ := e.client()
				e.acquire(other, "key")
				c, wire := e.client(func(o *dynalock.Options) { o.AttemptTimeout = lease * 3 / 4 })
				wire.Inject(testserver.Fault{Kind: testserver.HangBefore, Op: "GetItem"})
				over := make(chan error, 1)
				go func() { over <- call(e, c) }()
				time.Sleep(lease / 4)
				start := time.Now()
				err := c.Close(e.within(lease / 10))
				if name == "Get" { // it may still have an answer until the end
					check(e, err == nil || errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "ignore"), "Close: %v", err)
				} else {
					must(e, err)
					wantErr(e, <-over, dynalock.ErrClosed)
					check(e, time.Since(start) <= 50*time.Millisecond, "it took %v", time.Since(start))
				}
			})
		})
	}
}

func TestAReleaseRepeatedAfterItWasInDoubtIsNoLoss(t *testing.T) {
	virtual(t, func(e *env) {
		a, wire := e.client()
		b, _ := e.client()
		l := e.acquire(a, "key")
		heal := wire.Inject(testserver.Fault{Kind: testserver.HangAfter, Op: "UpdateItem"})
		wantErr(e, l.Release(e.ctx), dynalock.ErrStore)
		heal()
		e.acquire(b, "key")
		must(e, l.Release(e.ctx))
	})
}

func TestForceReleaseOfATenureOfThisClientEndsItAtOnceForItsWaiters(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat, o.Lease = true, time.Hour })
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		must(e, c.ForceRelease(e.ctx, r))
		wantErr(e, l.Err(), dynalock.ErrLost)
		wantErr(e, l.Err(), heartbeat.ErrGone)
		_, err = c.Acquire(e.within(lease), "key")
		must(e, err)
	})
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
			wire.Inject(testserver.Fault{Kind: testserver.LoseRequest, Op: "UpdateItem", Times: 1}) // the waiter's, which the lock is offered
			wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ValidationException", Op: "UpdateItem", Times: 1})
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

func TestDataIsWhatTheLastOfConcurrentCallsStored(t *testing.T) {
	t.Parallel()
	srv := dynalocktest.NewServer() // in real time, where goroutines overtake one another
	t.Cleanup(srv.Close)
	must(t, dynalock.CreateTable(t.Context(), srv.Client(), "locks"))
	c, err := dynalock.New(srv.Client(), "locks")
	must(t, err)
	l, err := c.Acquire(t.Context(), "key")
	must(t, err)
	for range 500 {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() { check(t, l.SetData(t.Context(), []byte{byte(i)}) == nil, "SetData failed") })
		}
		wg.Wait()
		r, err := c.Get(t.Context(), "key")
		must(t, err)
		if !bytes.Equal(r.Data, l.Data()) {
			t.Fatalf("Data is %v, stored is %v", l.Data(), r.Data)
		}
	}
	must(t, c.Close(t.Context()))
}

func TestCloseReleasesAllOfManyLocksAFewAtATimeThoughTheFirstFails(t *testing.T) {
	virtual(t, func(e *env) {
		const many, delay = 300, 10 * time.Millisecond
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Hour })
		for i := range many {
			e.acquire(c, fmt.Sprint("key ", i))
		}
		wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ValidationException", Times: 1})
		wire.Inject(testserver.Fault{Delay: delay})
		start := time.Now()
		wantErr(e, c.Close(e.ctx), dynalock.ErrStore)
		check(e, time.Since(start) >= 4*delay, "%d locks were released in %v: more than 64 at a time", many, time.Since(start))
		free := 0
		for i := range many {
			if text(e.item(fmt.Sprint("key ", i))["isReleased"]) == "1" {
				free++
			}
		}
		check(e, free == many-1, "%d of %d are free, want all but the one that failed", free, many)
	})
}

func TestAForcedReleaseWhoseAnswerIsLostIsNoChange(t *testing.T) {
	onServer(t, func(e *env) {
		holder, _ := e.client(long)
		e.acquire(holder, "key")
		operator, wire := e.client(long)
		r, err := operator.Get(e.ctx, "key")
		must(e, err)
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1})
		must(e, operator.ForceRelease(e.ctx, r))
		check(e, wire.Count("UpdateItem") == 2, "%d writes, want the lost one and the one that found its item", wire.Count("UpdateItem"))
	})
}

func TestAnOperatorFreesExactlyTheTenureThatWasShown(t *testing.T) {
	onServer(t, func(e *env) {
		holder, _ := e.client()
		operator, _ := e.client()
		l := e.acquire(holder, "key")
		r, err := operator.Get(e.ctx, "key")
		must(e, err)
		must(e, l.Renew(e.ctx)) // a live holder's heartbeat is in nobody's way
		must(e, operator.ForceRelease(e.ctx, r))
		wantErr(e, operator.ForceRelease(e.ctx, r), dynalock.ErrChanged)
		l2 := e.acquire(operator, "key")
		wantErr(e, holderRelease(l, e), dynalock.ErrLost)
		wantErr(e, operator.ForceRelease(e.ctx, r), dynalock.ErrChanged)
		check(e, l2.Held(), "the successor was freed")
	})
}

func holderRelease(l *dynalock.Lock, e *env) error { return l.Release(e.ctx) }

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

// blockingLog is a log whose disk is full.
type blockingLog struct {
	slog.Handler
	block time.Duration
}

func (blockingLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (h blockingLog) Handle(context.Context, slog.Record) error  { time.Sleep(h.block); return nil }

func TestAHeartbeatCountsThoughTheLoggerBlocks(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client(func(o *dynalock.Options) { o.Logger = slog.New(blockingLog{slog.DiscardHandler, lease * 7 / 10}) })
		l := e.acquire(c, "key")
		e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.Throttled, Operation: "UpdateItem", Times: 1}) // the next one is late, which is logged
		time.Sleep(lease)
		check(e, l.Held(), "lost: %v", l.Err())
	})
}

func TestMaxHoldCountsFromTheFirstSendThoughTheAnswerIsSlow(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client(func(o *dynalock.Options) { o.AttemptTimeout = lease * 2 / 3 })
		e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.SlowResponse, Operation: "UpdateItem", Delay: lease * 3 / 5, Times: 1})
		start := time.Now()
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.MaxHold = lease })
		<-l.Done()
		wantErr(e, l.Err(), heartbeat.ErrLimit)
		check(e, time.Since(start) < lease*11/10, "it was held for %v", time.Since(start))
	})
}

func TestDataThatWasNeverSentIsNotShown(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.Data = []byte("old") })
		e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.SlowResponse, Operation: "UpdateItem", Delay: 200 * time.Millisecond, Times: 1})
		var wg sync.WaitGroup
		wg.Go(func() { _ = l.Renew(e.ctx) }) // has the turn
		time.Sleep(50 * time.Millisecond)
		wg.Go(func() {
			time.Sleep(50 * time.Millisecond)
			must(e, l.Release(e.ctx))
		})
		wantErr(e, l.SetData(e.ctx, []byte("new")), dynalock.ErrReleased)
		wg.Wait()
		check(e, string(l.Data()) == "old", "Data is %q", l.Data())
	})
}

func TestAHandleOfAnotherNamespaceIsRefusedAndOneOfAWiderIsNot(t *testing.T) {
	virtual(t, func(e *env) {
		in := func(namespace string) *dynalock.Client {
			c, _ := e.client(func(o *dynalock.Options) { o.Namespace = namespace })
			return c
		}
		l := e.acquire(in("a/"), "key")
		_, err := in("b/").Resume(e.ctx, l.Handle())
		wantErr(e, err, dynalock.ErrInvalid)
		m, err := in("").Resume(e.ctx, l.Handle())
		must(e, err)
		check(e, m.Key() == "a/key" && m.Token() > l.Token(), "key %q, token %d after %d", m.Key(), m.Token(), l.Token())
	})
}
