package dynalock_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
)

func TestHoweverManyWaitNoneForgetsWhatItHasWatched(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		const keys = 15_000
		ends := make([]func() bool, keys)
		for i := range ends {
			ends[i] = dynalock.Watch(c, fmt.Sprint(i), true)
		}
		time.Sleep(lease)
		alive := 0
		for _, end := range ends {
			if !end() {
				alive++
			}
		}
		check(e, alive == 0, "%d of %d dead locks would not be taken", alive, keys)
		for i := range keys { // and what nobody waits for takes no room
			dynalock.Watch(c, fmt.Sprint("passing", i), false)
		}
		check(e, dynalock.Watches(c) <= keys, "%d are kept", dynalock.Watches(c))
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
