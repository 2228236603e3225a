package dynalock_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

// Clocks.

// clocks are a machine's clocks that can be moved. The monotonic one, and so every timer, is the test's own time.
type clocks struct{ boot, wall atomic.Int64 } // nanoseconds ahead

func (c *clocks) Now() heartbeat.Reading {
	r := heartbeat.SystemClock().Now()
	r.Boot += time.Duration(c.boot.Load())
	r.Wall = r.Wall.Add(time.Duration(c.wall.Load()))
	return r
}

func (c *clocks) NewTimer(d time.Duration) heartbeat.Timer {
	return heartbeat.SystemClock().NewTimer(d)
}

// suspend is what a machine sees that slept for d.
func (c *clocks) suspend(d time.Duration) {
	c.boot.Add(int64(d))
	c.wall.Add(int64(d))
}

func TestAfterASuspensionALockIsNotHeldUntilAHeartbeatIsAcknowledged(t *testing.T) {
	for name, move := range map[string]func(*clocks){
		"the boot-time clock shows it": func(c *clocks) { c.boot.Add(int64(lease / 4)) },
		"the wall clock shows it":      func(c *clocks) { c.wall.Add(int64(lease / 4)) },
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				clock := &clocks{}
				c, wire := e.client(dynalock.WithClock(clock))
				l := e.acquire(c, "key")
				time.Sleep(lease / 20)
				check(e, l.Held(), "not held before the suspension: %v", l.Err())
				move(clock)
				remove := wire.Inject(testserver.Fault{Kind: testserver.LoseRequest})
				check(e, !l.Held(), "held right after a gap between the clocks")
				time.Sleep(lease / 20)
				check(e, !l.Held() && l.Err() == nil, "held %v, %v: nothing has been acknowledged", l.Held(), l.Err())
				remove()
				time.Sleep(lease / 5)
				check(e, l.Held(), "not held after an acknowledged heartbeat: %v", l.Err())
				must(e, l.Release(e.ctx))
			})
		})
	}
}

func TestAStaticLeaseIsHeldAgainAfterASuspensionOnlyOnceRenewed(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		c, wire := e.client(dynalock.WithClock(clock))
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		clock.suspend(lease / 4)
		time.Sleep(lease / 10)
		check(e, !l.Held() && wire.Count() == 1, "held %v, %d requests", l.Held(), wire.Count())
		must(e, l.Renew(e.ctx))
		check(e, l.Held(), "not held after Renew: %v", l.Err())
	})
}

func TestAWallClockSetForwardBeyondTheTrustIsALossAndSettingItBackIsNoCure(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		c, _ := e.client(dynalock.WithClock(clock))
		l := e.acquire(c, "key")
		clock.wall.Add(int64(lease))
		check(e, !l.Held(), "held")
		clock.wall.Add(-int64(lease))
		check(e, !l.Held(), "held again without an acknowledgement")
		<-l.Done()
		wantErr(e, l.Err(), dynalock.ErrLost)
		wantErr(e, l.Err(), heartbeat.ErrDeadline)
		wantErr(e, l.Renew(e.ctx), dynalock.ErrLost)
	})
}

func TestErrKnowsOfALossThatHasNotBeenAnnouncedYet(t *testing.T) {
	for reason, limit := range map[error]time.Duration{heartbeat.ErrDeadline: 0, heartbeat.ErrLimit: lease / 2} {
		t.Run(reason.Error(), func(t *testing.T) {
			virtual(t, func(e *env) {
				clock := &clocks{}
				c, _ := e.client(dynalock.WithClock(clock))
				l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.MaxHold = limit })
				synctest.Wait() // nothing is under way: nobody has looked at the clock when Err does
				clock.wall.Add(int64(lease))
				wantErr(e, l.Err(), dynalock.ErrLost)
				wantErr(e, l.Err(), reason)
			})
		})
	}
}

func TestAWallClockSetBackExtendsNothing(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		c, wire := e.client(dynalock.WithClock(clock))
		l := e.acquire(c, "key")
		start := time.Now()
		crash(wire)
		clock.wall.Add(-int64(time.Hour))
		<-l.Done()
		check(e, time.Since(start) <= lease*4/5, "held for %v", time.Since(start))
	})
}

func TestAWaiterCountsItsMonotonicClockAlone(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"set forward": time.Hour, "set back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				holder, wire := e.client()
				e.acquire(holder, "key")
				crash(wire)
				clock := &clocks{}
				waiter, _ := e.client(dynalock.WithClock(clock))
				_, err := waiter.TryAcquire(e.ctx, "key")
				wantErr(e, err, dynalock.ErrHeld)
				seen := time.Now()
				clock.suspend(ahead)
				_, err = waiter.TryAcquire(e.ctx, "key")
				wantErr(e, err, dynalock.ErrHeld)
				e.acquire(waiter, "key")
				waited := time.Since(seen)
				check(e, waited >= lease && waited < lease+50*time.Millisecond, "taken after %v", waited)
			})
		})
	}
}
