package dynalock_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

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

func TestAForcedReleaseWhoseAnswerIsLostIsNoChange(t *testing.T) {
	onServer(t, func(e *env) {
		holder, _ := e.client(long)
		e.acquire(holder, "key")
		operator, wire := e.client(long)
		r, err := operator.Get(e.ctx, "key")
		must(e, err)
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1})
		must(e, operator.ForceRelease(e.ctx, r))
		check(e, wire.Count("UpdateItem") == 2, "%d writes, want the lost one and the one that found its item",
			wire.Count("UpdateItem"))
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

func TestRecordsComePageByPageAndEndWhereTheCallerStops(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		const n = 9 // of 300 KB each: a page has 1 MB at most
		for i := range n {
			must(e, e.acquire(c, fmt.Sprint("key", i),
				func(o *dynalock.AcquireOptions) { o.Data = make([]byte, 300<<10) }).Release(e.ctx))
		}
		seen := map[string]bool{}
		for r, err := range c.Records(e.ctx) {
			must(e, err)
			seen[r.Key] = true
		}
		pages := wire.Count("Scan")
		check(e, len(seen) == n && pages >= 3, "%d records in %d pages", len(seen), pages)
		for _, err := range c.Records(e.ctx) {
			must(e, err)
			break
		}
		check(e, wire.Count("Scan") == pages+1, "%d pages read for one record", wire.Count("Scan")-pages)
	})
}
