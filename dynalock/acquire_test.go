package dynalock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
)

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
		l := e.acquire(holder, "key",
			func(o *dynalock.AcquireOptions) { o.Reason, o.Data = "nightly run", []byte("payload") })
		_, err := other.TryAcquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrHeld)
		held, ok := errors.AsType[*dynalock.HeldError](err)
		check(e, ok, "error is %T", err)
		r := held.Record
		check(e, r.Owner == "worker 1" && r.Reason == "nightly run" && r.Token == l.Token() && r.State == dynalock.Held &&
			r.Lease == lease && string(r.Data) == "payload", "record is %+v", r)
		check(e, time.Since(r.AcquiredAt).Abs() < 10*time.Second && r.ExpiresAt.After(r.AcquiredAt),
			"acquired at %v, expires at %v", r.AcquiredAt, r.ExpiresAt)
		check(e, held.RetryAfter > 0 && held.RetryAfter <= lease, "RetryAfter is %v", held.RetryAfter)
		check(e, wire.Count() == 1, "%d requests, want 1", wire.Count())
	})
}

func TestTheContextOfAnAcquireBoundsTheWaitAndNotTheLock(t *testing.T) {
	onServer(t, func(e *env) {
		type key struct{}
		c, _ := e.client(long)
		ctx, cancel := context.WithCancel(context.WithValue(e.ctx, key{}, "value"))
		l, err := c.Acquire(ctx, "key")
		must(e, err)
		cancel()
		check(e, l.Held() && l.Err() == nil && l.Context().Err() == nil, "the lock ended with the context: %v, %v", l.Err(),
			l.Context().Err())
		check(e, l.Context().Value(key{}) == "value", "the lock's context has no values")
		must(e, l.Release(e.ctx))
	})
}
