package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

func TestAReleaseAfterTheLeaseIsOneAttemptAndTellsOfTheLoss(t *testing.T) {
	for name, o := range outages {
		virtually(t, name, func(e *env) {
			c, wire := e.client()
			l := e.acquire(c, "key")
			remove := wire.Inject(o.fault)
			<-l.Done()
			time.Sleep(lease)
			sent, began := wire.Count(), time.Now()
			err := l.Release(e.ctx)
			wantErr(e, err, dynalock.ErrLost)
			wantErr(e, err, dynalock.ErrStore)
			check(e, !strings.Contains(err.Error(), "\n"), "its text has lines: %v", err)
			check(e, wire.Count() == sent+1, "%d requests", wire.Count()-sent)
			check(e, time.Since(began) <= lease/5, "it took %v", time.Since(began)) // an attempt
			remove()
			must(e, l.Release(e.ctx))
			check(e, text(e.item("key")["isReleased"]) == "1", "not released")
		})
	}
}

func TestAReleaseAfterALossIsRepeatedUntilTheLeaseIsOver(t *testing.T) {
	for name, o := range outages {
		if name == "a refusal" { // this is final
			continue
		}
		virtually(t, name, func(e *env) {
			c, wire := e.client()
			l := e.acquire(c, "key")
			wire.Inject(o.fault)
			<-l.Done()
			sent, began := wire.Count(), time.Now()
			err := l.Release(e.ctx)
			wantErr(e, err, dynalock.ErrLost)
			wantErr(e, err, dynalock.ErrStore)
			took := time.Since(began) // the margin and the attempt that is under way then
			check(e, took >= lease/5-50*time.Millisecond && took <= lease*2/5+50*time.Millisecond, "it took %v", took)
			check(e, name == "silence" || wire.Count()-sent > 3, "%d requests", wire.Count()-sent)
		})
	}
}

func TestAReleaseAfterALossWhoseContextEndsTellsOfBoth(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key")
		wire.Inject(outages["silence"].fault)
		<-l.Done()
		err := l.Release(e.within(lease / 20))
		wantErr(e, err, dynalock.ErrLost)
		wantErr(e, err, context.DeadlineExceeded)
	})
}

func TestWhatEndsLongAfterItsLockWasLostDoesNotWaitForItsRelease(t *testing.T) {
	for name, g := range guarded {
		virtually(t, name, func(e *env) {
			c, wire := e.client()
			began := make(chan struct{})
			over := make(chan error, 1)
			ctx, cancel := context.WithCancel(e.ctx)
			go func() {
				over <- g.call(ctx, c, func(context.Context, *dynalock.Lock) error {
					close(began)
					time.Sleep(3 * lease)
					cancel()
					return nil
				})
			}()
			<-began
			wire.Inject(outages["a reset"].fault)
			<-ctx.Done()
			ended := time.Now()
			err := <-over
			check(e, errors.Is(err, dynalock.ErrLost) || name == "Election.Run", "error is %v", err)
			check(e, time.Since(ended) <= lease/5, "it ended %v later", time.Since(ended))
			ended = time.Now()
			must(e, c.Close(e.within(lease)))
			check(e, time.Since(ended) <= lease/5, "Close took %v", time.Since(ended))
		})
	}
}

func TestALossIsToldOnceAndInOneLineWhateverTheFunctionReturns(t *testing.T) {
	for name, g := range guarded {
		for how, result := range map[string]func(ctx context.Context) error{
			"the cause": context.Cause,
			"wrapping":  func(ctx context.Context) error { return fmt.Errorf("work: %w", context.Cause(ctx)) },
			"the end":   func(ctx context.Context) error { return ctx.Err() },
			"its own":   func(context.Context) error { return errors.New("two\nlines") },
			"nothing":   func(context.Context) error { return nil },
		} {
			if name == "Election.Run" { // which goes on
				continue
			}
			virtually(t, name+" returns "+how, func(e *env) {
				c, wire := e.client()
				err := g.call(e.ctx, c, func(ctx context.Context, _ *dynalock.Lock) error {
					crash(wire)
					<-ctx.Done()
					return result(ctx)
				})
				wantErr(e, err, dynalock.ErrLost)
				text := err.Error()
				check(e, strings.Count(text, dynalock.ErrLost.Error()) == 1 && !strings.Contains(text, "\n"), "it says: %s", text)
			})
		}
	}
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
		check(e, text(row["recordVersionNumber"]) != version,
			"Release returned nil while the item was as before: %s, released %q", version, text(row["isReleased"]))
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

func holderRelease(l *dynalock.Lock, e *env) error { return l.Release(e.ctx) }

func TestRetentionIsSetAtReleaseAndNeverOnAHeldItem(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long, func(o *dynalock.Options) { o.Retention = 48 * time.Hour })
		held := func(when string) {
			e.Helper()
			check(e, e.item("key")["ttl"] == nil, "%s: a held item has a TTL: %v", when, text(e.item("key")["ttl"]))
		}
		released := func(when string) {
			e.Helper()
			ttl, err := strconv.ParseInt(text(e.item("key")["ttl"]), 10, 64)
			must(e, err)
			off := time.Until(time.Unix(ttl, 0)) - 48*time.Hour
			check(e, off.Abs() < time.Minute, "%s: the TTL is off by %v", when, off)
		}
		for range 2 { // of a new item, and of one with a TTL
			l := e.acquire(c, "key")
			held("acquired")
			must(e, l.Renew(e.ctx))
			must(e, l.SetData(e.ctx, []byte("x")))
			held("renewed")
			next := make(chan *dynalock.Lock)
			go func() {
				l, err := c.Acquire(e.ctx, "key")
				check(e, err == nil, "%v", err)
				next <- l
			}()
			time.Sleep(20 * time.Millisecond)
			must(e, l.Release(e.ctx))
			l = <-next
			held("handed over")
			l, err := c.Resume(e.ctx, l.Handle())
			must(e, err)
			held("resumed")
			must(e, l.Release(e.ctx))
			released("released")
		}
		e.acquire(c, "key")
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		must(e, c.ForceRelease(e.ctx, r))
		released("freed by an operator")

		// A client without retention takes the TTL off, too.
		plain, _ := e.client(long)
		l := e.acquire(plain, "key")
		held("acquired by a client without retention")
		must(e, l.Release(e.ctx))
		check(e, e.item("key")["ttl"] == nil, "a TTL from a client without retention")

		// A row that another library took over with our TTL in it loses it when we take that over.
		e.put("key", with(e.item("key"),
			attributes{"isReleased": nil, "recordVersionNumber": s("theirs"), "leaseDuration": s("100"), "ttl": n("1")}))
		e.acquire(plain, "key")
		held("taken over")
	})
}

// deleting are the options of a lock whose item goes after its release.
func deleting(o *dynalock.AcquireOptions) { o.DeleteOnRelease = true }

// outlives tells for how long the TTL of an item keeps it.
func outlives(e *env, key string) time.Duration {
	e.Helper()
	return time.Until(time.Unix(int64(stored(e.item(key), "ttl")), 0))
}

func TestDeleteOnReleaseLeavesTheItemOfThisTenureToTheTTLAfterEveryCopyOfAnOldRequest(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		l := e.acquire(c, "key", deleting)
		before := wire.Count()
		must(e, l.Release(e.ctx))
		check(e, wire.Count() == before+1 && wire.Count("UpdateItem") == before+1, "%d requests: %v", wire.Count()-before,
			wire.Counts())
		rest := outlives(e, "key")
		check(e, rest > 14*time.Minute && rest <= 15*time.Minute+time.Second, "the item may go in %v", rest)
		must(e, l.Release(e.ctx))
		kept := e.acquire(c, "key")
		check(e, e.item("key")["ttl"] == nil, "a held item has a TTL")
		check(e, kept.Token() == l.Token()+1, "token %d after %d", kept.Token(), l.Token())
		must(e, kept.Release(e.ctx))
		check(e, e.item("key")["ttl"] == nil, "a lock that is not to go has a TTL")

		l = e.acquire(c, "key", deleting)
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		must(e, c.ForceRelease(e.ctx, r))
		other, _ := e.client(long)
		successor := e.acquire(other, "key")
		wantErr(e, l.Release(e.ctx), dynalock.ErrLost)
		must(e, successor.Renew(e.ctx))

		// The handle carries it.
		l = e.acquire(c, "resumed", deleting)
		l, err = other.Resume(e.ctx, l.Handle())
		must(e, err)
		must(e, l.Release(e.ctx))
		check(e, outlives(e, "resumed") > 14*time.Minute, "the item may go in %v", outlives(e, "resumed"))
	})
}
