package dynalock_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
)

func TestALeaseIsRoundedUpToAMillisecond(t *testing.T) {
	virtual(t, func(e *env) {
		odd := 3*time.Second + 1234567*time.Nanosecond
		c, _ := e.client(func(o *dynalock.Options) { o.Lease = odd })
		check(e, c.Options().Lease == 3002*time.Millisecond, "the lease is %v", c.Options().Lease)
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.Lease = odd + time.Second })
		check(e, text(e.item("key")["leaseDuration"]) == "4002", "the item says %s", text(e.item("key")["leaseDuration"]))
		must(e, l.Release(e.ctx))
		must(e, c.Election("key", func(o *dynalock.ElectionOptions) { o.Lease = odd }).Run(e.ctx,
			func(context.Context, *dynalock.Lock) error { return nil }))
		_, err := c.Once(e.ctx, "job", "1", nothing, func(o *dynalock.OnceOptions) { o.Lease = odd })
		must(e, err)
	})
}

func TestALeaseUntilTheDeadlineIsTrustedUntilItAndEndsTheWorkBefore(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		ctx := e.within(3*time.Second + 333*time.Microsecond)
		deadline, _ := ctx.Deadline()
		d, err := dynalock.LeaseUntilDeadline(ctx)
		must(e, err)
		l, err := c.TryAcquire(ctx, "key", func(o *dynalock.AcquireOptions) { o.Lease, o.NoHeartbeat = d, true })
		must(e, err)
		off := l.Deadline().Sub(deadline)
		check(e, off >= 0 && off < 10*time.Millisecond, "the lock is trusted for %v more than the context lasts", off)
		work, cancel := dynalock.BeforeDeadline(ctx)
		defer cancel()
		end, _ := work.Deadline()
		check(e, deadline.Sub(end).Round(time.Millisecond) == 300*time.Millisecond, "the work ends %v before",
			deadline.Sub(end))
		long, cancel := dynalock.BeforeDeadline(e.within(time.Hour))
		defer cancel()
		end, _ = long.Deadline()
		check(e, time.Until(end) == time.Hour-time.Second, "the work has %v", time.Until(end))
		endless, cancel := dynalock.BeforeDeadline(e.ctx)
		_, ok := endless.Deadline()
		check(e, !ok, "it has a deadline")
		cancel()
		wantErr(e, endless.Err(), context.Canceled)
		for _, ctx := range []context.Context{e.ctx, e.within(79 * time.Millisecond), e.within(20 * time.Hour)} {
			_, err := dynalock.LeaseUntilDeadline(ctx)
			wantErr(e, err, dynalock.ErrInvalid)
		}
	})
}

func TestARefusalByAStaticLeaseSaysWhatIsLeftOfIt(t *testing.T) {
	virtual(t, func(e *env) {
		a, _ := e.client()
		b, _ := e.client()
		ask(e, b)
		static := func(o *dynalock.AcquireOptions) { o.Lease, o.NoHeartbeat = 75*time.Second, true }
		l := e.acquire(a, "key", static)
		refused := func() time.Duration {
			_, err := b.TryAcquire(e.ctx, "key")
			held, ok := errors.AsType[*dynalock.HeldError](err)
			check(e, ok, "error is %v", err)
			return held.RetryAfter
		}
		time.Sleep(5 * time.Second)
		after := refused()
		check(e, after > 69*time.Second && after <= 70*time.Second, "look again after %v", after)
		time.Sleep(60 * time.Second)
		after = refused()
		check(e, after > 9*time.Second && after <= 15*time.Second, "look again after %v", after)
		must(e, l.Release(e.ctx))

		e.acquire(a, "key") // one that is renewed
		check(e, e.item("key")["static"] == nil, "it is still said to be static")
		check(e, refused() < 5*time.Second, "look again after %v", refused())
	})
}

func TestWhoFreedALockIsToldToItsHolderAndInItsRecord(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long)
		l := e.acquire(c, "key")
		op, _ := e.client(long, func(o *dynalock.Options) { o.Owner = "alice@laptop" })
		must(e, op.ForceRelease(e.ctx, record(e, op, "key")))
		check(e, record(e, c, "key").ReleasedBy == "alice@laptop", "record is %+v", record(e, c, "key"))
		err := l.Renew(e.ctx)
		lost, ok := errors.AsType[*dynalock.LostError](err)
		check(e, ok && lost.By != nil && lost.By.ReleasedBy == "alice@laptop", "error is %v", err)
		check(e, strings.Contains(err.Error(), "alice@laptop"), "error is %v", err)
		must(e, e.acquire(c, "key").Release(e.ctx))
		check(e, record(e, c, "key").ReleasedBy == "", "record is %+v", record(e, c, "key"))
	})
}

// receipts counts how often a queue's consumer receives a message until it has the lock: each time it is refused it
// hides the message for RetryAfter, in whole seconds.
func receipts(e *env, consumer func() *dynalock.Client) (n int, l *dynalock.Lock) {
	e.Helper()
	for n = 1; n < 1000; n++ {
		l, err := consumer().TryAcquire(e.ctx, "key",
			func(o *dynalock.AcquireOptions) { o.Lease, o.NoHeartbeat = 75*time.Second, true })
		if err == nil {
			return n, l
		}
		held, ok := errors.AsType[*dynalock.HeldError](err)
		check(e, ok, "error is %v", err)
		time.Sleep((held.RetryAfter + time.Second - 1).Truncate(time.Second))
	}
	e.Fatal("it never got the lock")
	return n, nil
}

func TestAMessageIsReceivedAtMostOncePerTenureInItsWay(t *testing.T) {
	virtual(t, func(e *env) {
		const messages = 20 // of one order, received by as many instances at once
		var mu sync.Mutex
		var all sync.WaitGroup
		most := 0
		for range messages {
			c, _ := e.client(func(o *dynalock.Options) { o.MaxClockSkew, o.MaxPoll = 10*time.Second, 30*time.Second })
			all.Go(func() {
				n, l := receipts(e, func() *dynalock.Client { return c })
				time.Sleep(2 * time.Second)
				check(e, l.Release(e.ctx) == nil, "it was lost")
				mu.Lock()
				defer mu.Unlock()
				most = max(most, n)
			})
		}
		all.Wait()
		check(e, most > 1 && most <= messages, "one of %d messages was received %d times", messages, most)
		e.Logf("of %d messages of one order that came at once one was received %d times", messages, most)
	})
}

func TestADeadHolderOfAStaticLeaseCostsAQueuesConsumerThreeReceipts(t *testing.T) {
	virtual(t, func(e *env) {
		function := func() *dynalock.Client { // a new instance, with the options of the Lambda example
			c, _ := e.client(func(o *dynalock.Options) { o.MaxClockSkew, o.MaxPoll = 10*time.Second, 30*time.Second })
			return c
		}
		for name, consumer := range map[string]func() *dynalock.Client{
			"new instances": function,
			"one instance":  sync.OnceValue(function),
		} {
			dead, wire := e.client()
			e.acquire(dead, "key", func(o *dynalock.AcquireOptions) { o.Lease, o.NoHeartbeat = 75*time.Second, true })
			crash(wire)
			time.Sleep(10 * time.Second)
			start := time.Now()
			n, _ := receipts(e, consumer)
			waited := time.Since(start)
			check(e, n <= 3 && waited < 80*time.Second, "%s: it was received %d times in %v", name, n, waited)
			e.delete("key")
		}
	})
}
