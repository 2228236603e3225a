package heartbeat

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestAfterASuspensionALeaseIsNotValidUntilARenewalSentAfterItIsAcknowledged(t *testing.T) {
	inBubble(t, func(w *world) {
		const rtt = 30 * time.Millisecond
		k := w.add(takes(rtt))
		w.sleepUntil(500 * time.Millisecond)
		k.wantAlive()
		w.clock.suspend(3 * time.Second) // trust is not used up
		if k.Valid() {
			w.Fatal("valid after a suspension")
		}
		if left := k.Remaining(); left != trust-3500*time.Millisecond {
			w.Errorf("%v remaining", left)
		}
		time.Sleep(rtt - 1)
		synctest.Wait()
		if k.Valid() {
			w.Error("valid before the renewal was acknowledged")
		}
		time.Sleep(time.Nanosecond)
		k.wantAlive()
		if at := k.attempts(); len(at) != 1 || at[0] != 500*time.Millisecond {
			w.Errorf("renewals at %v, want one when Valid noticed the suspension", at)
		}
	})
}

func TestASuspensionIsNoticedWithinASecondThoughNobodyAsks(t *testing.T) {
	inBubble(t, func(w *world) {
		hours := func(period time.Duration) func(*Config) {
			return func(c *Config) { c.Period, c.Trust = period, 4*period }
		}
		old := w.add(nil, hours(6*time.Hour))
		w.sleepUntil(2 * time.Hour)
		k := w.add(nil, hours(time.Hour))
		w.sleepUntil(2*time.Hour + time.Minute)
		w.clock.suspend(10 * time.Minute) // long before the next renewal
		w.sleepUntil(2*time.Hour + time.Minute + longestSleep)
		if at := k.attempts(); len(at) != 1 {
			w.Errorf("renewals at %v, want one within a second of the suspension", at)
		}
		if at := old.attempts(); len(at) != 0 {
			w.Errorf("renewals at %v, want none where slewing may explain as much", at)
		}
		k.wantAlive()
		old.wantAlive()
	})
}

func TestAnAnswerToARenewalSentBeforeTheSuspensionDoesNotExplainIt(t *testing.T) {
	inBubble(t, func(w *world) {
		answers := make(chan error)
		k := w.add(func(context.Context, Attempt) error { return <-answers }, func(c *Config) {
			c.AttemptTimeout = trust
		})
		time.Sleep(time.Millisecond)
		k.Kick()
		synctest.Wait()
		w.clock.suspend(time.Second)
		if k.Valid() {
			w.Error("valid after a suspension")
		}
		synctest.Wait()
		answers <- nil // sent before it
		synctest.Wait()
		if k.Valid() {
			w.Error("valid by a renewal that was sent before the suspension")
		}
		time.Sleep(period / 20)
		synctest.Wait()
		if n := len(k.attempts()); n != 2 {
			w.Errorf("%d attempts, want another one soon", n)
		}
		answers <- nil // sent after it
		k.wantAlive()
	})
}

func TestAnAnswerThatComesMuchLaterDoesNotExplainTheSuspensionEither(t *testing.T) {
	inBubble(t, func(w *world) {
		answers := make(chan error)
		k := w.add(func(context.Context, Attempt) error { return <-answers }, func(c *Config) {
			c.Trust, c.AttemptTimeout = time.Minute, time.Minute
		})
		w.sleepUntil(period)
		w.clock.suspend(time.Second)
		w.sleepUntil(20 * time.Second)
		answers <- nil // sent before it, and by now a second is no more than slewing explains
		synctest.Wait()
		if k.Valid() {
			w.Error("valid by a renewal that was sent before the suspension")
		}
		time.Sleep(period / 20)
		answers <- nil
		k.wantAlive()
	})
}

func TestAnAcknowledgementSentRightAfterASuspensionExplainsIt(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(nil, static)
		w.clock.suspend(time.Second) // the monotonic clock has not moved at all
		if k.Valid() {
			w.Error("valid after a suspension")
		}
		k.Acknowledge(w.clock.Now())
		k.wantAlive()
	})
}

func TestASuspensionIsNotForgottenWhenTimePasses(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(fails, func(c *Config) { c.Trust = time.Hour })
		w.sleepUntil(period / 4)
		w.clock.suspend(time.Second)
		time.Sleep(time.Minute) // nobody asks
		for range 50 * 60 {
			time.Sleep(time.Second) // after a while an eighth of the time exceeds the gap
			if k.Valid() {
				w.Fatalf("valid again after %v without an acknowledgement", w.elapsed())
			}
		}
	})
}

func TestALossDuringASuspensionIsAnnouncedAtTheFirstLookAtTheClocks(t *testing.T) {
	inBubble(t, func(w *world) {
		quiet := w.add(nil, static, func(c *Config) { c.Trust = time.Hour })
		long := w.add(nil, static, func(c *Config) { c.Trust = 24 * time.Hour })
		w.sleepUntil(20 * time.Minute)
		w.clock.suspend(time.Hour)
		w.sleepUntil(20*time.Minute + longestSleep)
		if len(quiet.ended) != 1 {
			w.Error("the loss was not announced within a second")
		}
		if len(long.ended) != 0 {
			w.Errorf("a lease that was not used up ended: %v", long.ended)
		}
	})
}

func TestAskingAfterALossDuringASuspensionAnnouncesItAtOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(nil, static, func(c *Config) { c.Trust = time.Hour })
		w.sleepUntil(20 * time.Minute)
		w.clock.suspend(time.Hour)
		if k.Valid() {
			w.Error("valid after its deadline")
		}
		k.wantLost(ErrDeadline, 20*time.Minute)
	})
}

func TestAStepOfTheWallClockForwardCostsARenewalAndNotTheLease(t *testing.T) {
	inBubble(t, func(w *world) {
		leases := make([]*kept, 100)
		for i := range leases {
			leases[i] = w.add(takes(time.Millisecond))
		}
		w.sleepUntil(period / 2)
		w.clock.step(4 * time.Second)
		if leases[0].Valid() {
			w.Error("valid after a step")
		}
		time.Sleep(20 * time.Millisecond)
		for _, k := range leases {
			k.wantAlive()
		}
	})
}

func TestAStepOfTheWallClockBackwardsChangesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(fails)
		w.sleepUntil(period / 4)
		w.clock.step(-time.Hour)
		k.wantAlive()
		if left := k.Remaining(); left != trust-period/4 {
			w.Errorf("%v remaining", left)
		}
		if got, want := k.Deadline(), w.clock.Now().Wall.Add(trust-period/4); !got.Equal(want) {
			w.Errorf("the deadline is %v, want %v", got, want)
		}
		w.sleepUntil(trust)
		k.wantLost(ErrDeadline, trust)
	})
}

func TestAWallClockThatIsSetBackRevivesNothingThatWasSeenToBeOver(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(nil, static)
		w.sleepUntil(time.Second)
		w.clock.step(time.Hour)
		if k.Valid() {
			w.Error("valid though the wall clock says that the lease is over")
		}
		w.clock.step(-time.Hour)
		if k.Valid() {
			w.Error("valid again though it was seen to be over")
		}
		k.wantLost(ErrDeadline, time.Second)
	})
}

func TestALeaseIsOverInTheVeryInstantOfItsDeadline(t *testing.T) {
	inBubble(t, func(w *world) {
		const trust = 40 * time.Millisecond // as a gap it needs no explanation
		k := w.add(nil, static, func(c *Config) { c.Trust = trust })
		w.clock.step(trust - 1)
		k.wantAlive()
		w.clock.step(1)
		if k.Valid() {
			w.Error("valid at its deadline")
		}
		w.clock.step(-trust)
		k.wantLost(ErrDeadline, 0)
	})
}

func TestALeaseStaysValidWhileTheWallClockIsSlewed(t *testing.T) {
	inBubble(t, func(w *world) {
		w.clock.slew = time.Second / 12
		k := w.add(takes(5 * time.Millisecond))
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			k.wantAlive()
		}
		last := time.Duration(0)
		for _, at := range k.attempts() {
			if at-last > period {
				w.Errorf("a renewal came %v after the one before", at-last)
			}
			last = at
		}
		if n := len(k.attempts()); n > 40 {
			w.Errorf("%d renewals in a minute, want about 33", n)
		}
	})
}

func TestALossIsAnnouncedByTheFastestClockThoughTimersRunOnAnother(t *testing.T) {
	inBubble(t, func(w *world) {
		w.clock.slew = time.Second / 12
		k := w.add(nil, static, func(c *Config) { c.Trust = time.Hour })
		const deadline = time.Hour * 12 / 13 // of the monotonic clock
		w.sleepUntil(deadline - time.Second)
		k.wantAlive()
		w.sleepUntil(deadline + 2*time.Millisecond)
		if len(k.ended) != 1 || k.endedAt[0] < deadline-time.Millisecond {
			w.Errorf("announced at %v, want within 2ms of %v", k.endedAt, deadline)
		}
	})
}

func TestTheAgeOfALeaseIsCountedByTheFastestClockToo(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(nil, func(c *Config) { c.Limit = time.Hour })
		w.sleepUntil(time.Minute)
		w.clock.suspend(59*time.Minute + trust/2)
		if k.Valid() {
			w.Error("valid beyond its limit")
		}
		synctest.Wait()
		if len(k.ended) != 1 {
			w.Error("not announced")
		}
	})
}

func TestASuspensionWhileTheLeaseWasBeingWonIsNoticed(t *testing.T) {
	inBubble(t, func(w *world) {
		acked := w.clock.Now()
		w.clock.suspend(time.Second)
		k := w.add(nil, func(c *Config) { c.Acked = acked })
		if k.Valid() {
			w.Error("valid before a renewal")
		}
		time.Sleep(period / 20)
		k.wantAlive()
	})
}
