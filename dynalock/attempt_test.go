package dynalock_test

import (
	"context"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/internal/testserver"
)

func TestARefusedWriteThatWasAppliedForAllThatCountsFromTheFirstSend(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		wire.Inject(testserver.Fault{
			Kind: testserver.FailAfter, Status: 400, Type: "ThrottlingException", Times: 1,
			Delay: lease / 10,
		})
		start := time.Now()
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		check(e, wire.Count() == 2, "%d requests, want the refused one and the one that found its item", wire.Count())
		check(e, !l.Deadline().After(start.Add(lease*4/5)), "the deadline is %v after the first send",
			l.Deadline().Sub(start))
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
			{dynalocktest.SlowResponse, 0, lease / 2}, // the acquire: so slow that a renewal follows,
			// which is applied only after the next attempt has found the acquire's version,
			{dynalocktest.SlowRequest, 1, lease * 77 / 100},
			// and before that one's own renewal, whose heartbeat is not yet due then
			{dynalocktest.SlowRequest, 3, lease / 12},
		} {
			e.embedded.Inject(dynalocktest.Fault{Kind: f.kind, Operation: "UpdateItem", Skip: f.skip, Times: 1, Delay: f.wait})
		}
		start := time.Now()
		l := e.acquire(c, "key")
		check(e, wire.Count("UpdateItem") == 4 && time.Since(start) < 2*lease,
			"%d writes in %v, want the acquire, the look at it, and a renewal after each", wire.Count("UpdateItem"),
			time.Since(start))
		time.Sleep(3 * lease)
		check(e, l.Held(), "lost: %v", l.Err())
	})
}

func TestAnAcquireWhoseAnswerWasSlowRenewsBeforeItReturns(t *testing.T) {
	const trust = lease * 4 / 5
	static := func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true }
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.AttemptTimeout = trust - lease/10 })
		other, _ := e.client()
		for _, key := range []string{"slow", "less slow"} { // so that the token counts on
			must(e, e.acquire(other, key).Release(e.ctx))
		}
		time.Sleep(lease)
		wire.Inject(testserver.Fault{Delay: trust/2 + lease/50, Times: 1})
		l := e.acquire(c, "slow", static)
		check(e, wire.Count() == 2, "%d requests, want a heartbeat after the slow answer", wire.Count())
		check(e, l.Held() && time.Until(l.Deadline()) > trust-lease/50, "held %v, %v are left", l.Held(),
			time.Until(l.Deadline()))

		before := wire.Count()
		wire.Inject(testserver.Fault{Delay: trust/2 - lease/50, Times: 1})
		l = e.acquire(c, "less slow", static)
		check(e, wire.Count() == before+1, "%d requests, want no heartbeat while half of the trust is left",
			wire.Count()-before)
		left := time.Until(l.Deadline())
		check(e, l.Held() && left > trust/2 && left < trust*3/5, "held %v, %v are left", l.Held(), left)
	})
}

func TestAnAcquireWhoseAnswerIsOfNoUseAnyMoreGoesOn(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.AttemptTimeout = lease * 7 / 10 })
		wire.Inject(testserver.Fault{Op: "UpdateItem", Times: 1, Delay: lease / 2}) // slow,
		// and its renewal hangs until the trust is used up
		wire.Inject(testserver.Fault{Op: "UpdateItem", Kind: testserver.HangBefore, Times: 1})
		l := e.acquire(c, "key")
		check(e, l.Held() && time.Until(l.Deadline()) > 0, "not held: %v", l.Err())
		time.Sleep(3 * lease)
		check(e, l.Held(), "lost: %v", l.Err())
	})
}

func TestAnAcquisitionWhoseTenureCameAndWentBeginsAnotherOneWithANewID(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		c, _ := e.client(dynalock.WithClock(clock))
		operator, _ := e.client()
		e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.SlowResponse, Key: "key", Delay: lease / 10, Times: 1})
		var gone dynalock.Record
		go func() {
			time.Sleep(lease / 20) // the write is applied, its answer under way
			var err error
			gone, err = operator.Get(e.ctx, "key")
			check(e, err == nil && operator.ForceRelease(e.ctx, gone) == nil, "not freed: %v", err)
			clock.suspend(lease / 2)
		}()
		l := e.acquire(c, "key")
		version := text(e.item("key")["recordVersionNumber"])
		check(e, l.Held() && l.Token() == gone.Token+1, "held %v, token %d after %d", l.Held(), l.Token(), gone.Token)
		check(e, version[:32] != gone.Version[:32], "version %s after %s", version, gone.Version)
	})
}

func TestAnAcquireDuringAShortSleepReturnsALockThatIsHeld(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		c, wire := e.client(dynalock.WithClock(clock))
		// most of the trust is left
		wire.Inject(testserver.Fault{Times: 1, Match: func(string, []byte) bool { clock.suspend(lease / 10); return true }})
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		check(e, wire.Count() == 2 && l.Held(), "%d requests, held %v", wire.Count(), l.Held())
	})
}

func TestAnAcquireDuringWhichTheMachineSleptRenewsBeforeItReturns(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		c, wire := e.client(dynalock.WithClock(clock))
		wire.Inject(testserver.Fault{Times: 1, Match: func(string, []byte) bool { clock.suspend(lease / 2); return true }})
		l := e.acquire(c, "key")
		check(e, wire.Count() == 2 && l.Held(), "%d requests, held %v", wire.Count(), l.Held())

		// Slept so long that somebody else has it by now: no lock, and the wait goes on.
		other, _ := e.client()
		e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.SlowResponse, Key: "taken", Delay: lease / 10, Times: 1})
		go func() {
			time.Sleep(lease / 20) // the write is applied, its answer under way
			clock.suspend(10 * lease)
			r, err := other.Get(e.ctx, "taken")
			check(e, err == nil, "%v", err)
			check(e, other.ForceRelease(e.ctx, r) == nil, "not freed")
			_, err = other.TryAcquire(e.ctx, "taken")
			check(e, err == nil, "%v", err)
		}()
		_, err := c.Acquire(e.within(3*lease), "taken")
		wantErr(e, err, dynalock.ErrHeld)
		wantErr(e, err, context.DeadlineExceeded)
	})
}
