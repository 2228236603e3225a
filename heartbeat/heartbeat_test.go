package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The lease of most tests: its deadline is 8 s after an acknowledged send.
const (
	period  = 2 * time.Second
	trust   = 8 * time.Second
	timeout = time.Second
)

var errStore = errors.New("the store is down")

// world is a machine with a scheduler in a bubble of virtual time. Its scheduler is closed when the test ends; a
// goroutine that is left over then fails the test.
type world struct {
	*testing.T
	*Scheduler
	clock *skewedClock
	start time.Time
}

func inBubble(t *testing.T, fn func(w *world), optFns ...func(*Options)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clock := newSkewedClock()
		optFns := append([]func(*Options){func(o *Options) { o.Clock = clock }}, optFns...)
		w := &world{T: t, Scheduler: New(optFns...), clock: clock, start: time.Now()}
		defer w.Close()
		fn(w)
	})
}

// elapsed is the bubble's time since the test began.
func (w *world) elapsed() time.Duration { return time.Since(w.start) }

func (w *world) sleepUntil(d time.Duration) {
	w.Helper()
	if d < w.elapsed() {
		w.Fatalf("it is %v, too late for %v", w.elapsed(), d)
	}
	time.Sleep(d - w.elapsed())
	synctest.Wait()
}

// kept is a lease together with what was asked and told about it.
type kept struct {
	*Lease
	w *world

	mu      sync.Mutex
	sent    []time.Duration // when each attempt began
	tries   []Attempt
	endedAt []time.Duration
	ended   []error
}

// add keeps a lease that was won just now. answer nil: every renewal is acknowledged at once.
func (w *world) add(answer func(ctx context.Context, a Attempt) error, cfgFns ...func(*Config)) *kept {
	w.Helper()
	k := &kept{w: w}
	cfg := Config{Period: period, Trust: trust, AttemptTimeout: timeout, Acked: w.clock.Now()}
	cfg.Renew = func(ctx context.Context, a Attempt) error {
		k.mu.Lock()
		k.sent = append(k.sent, w.elapsed())
		k.tries = append(k.tries, a)
		k.mu.Unlock()
		if answer == nil {
			return nil
		}
		return answer(ctx, a)
	}
	cfg.Ended = func(err error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.endedAt = append(k.endedAt, w.elapsed())
		k.ended = append(k.ended, err)
	}
	for _, fn := range cfgFns {
		fn(&cfg)
	}
	var err error
	if k.Lease, err = w.Add(cfg); err != nil {
		w.Fatal(err)
	}
	return k
}

func (k *kept) attempts() []time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.sent)
}

// wantLost checks that the loss was announced once, with err, at a time.
func (k *kept) wantLost(err error, at time.Duration) {
	k.w.Helper()
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.ended) != 1 {
		k.w.Fatalf("Ended was called %d times, want once: %v", len(k.ended), k.ended)
	}
	if !errors.Is(k.ended[0], err) || k.endedAt[0] != at {
		k.w.Errorf("ended at %v: %v; want %v: %v", k.endedAt[0], k.ended[0], at, err)
	}
	if k.Valid() || k.Remaining() > 0 || k.Deadline().After(k.w.clock.Now().Wall) {
		k.w.Errorf("lost, but Valid is %v, Remaining %v, Deadline %v", k.Valid(), k.Remaining(), k.Deadline())
	}
}

func (k *kept) wantAlive() {
	k.w.Helper()
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.ended) != 0 || !k.Valid() {
		k.w.Errorf("at %v: Valid is %v, ended: %v; want it alive", k.w.elapsed(), k.Valid(), k.ended)
	}
}

func fails(context.Context, Attempt) error { return errStore }

// obedient hangs until its context is cancelled.
func obedient(ctx context.Context, _ Attempt) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// deaf hangs until the test ends, whatever its context says.
func deaf(release <-chan struct{}) func(context.Context, Attempt) error {
	return func(context.Context, Attempt) error {
		<-release
		return nil
	}
}

func takes(d time.Duration) func(context.Context, Attempt) error {
	return func(context.Context, Attempt) error {
		time.Sleep(d)
		return nil
	}
}

func static(c *Config) { c.Period = 0 }

// Renewing.

func TestALeaseIsRenewedWithinEachPeriodAndStaysValid(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(takes(5 * time.Millisecond))
		for range 60 * 10 {
			time.Sleep(100 * time.Millisecond)
			k.wantAlive()
		}
		last := time.Duration(0)
		for _, at := range k.attempts() {
			if d := at - last; d > period || last > 0 && d < period*9/10 {
				w.Errorf("a renewal came %v after the one before, want between %v and %v", d, period*9/10, period)
			}
			last = at
		}
		if n := len(k.sent); n < 30 || n > 34 {
			w.Errorf("%d renewals in a minute, want 30 to 34", n)
		}
		for _, a := range k.tries {
			if a.N != 1 || a.Late != 0 {
				w.Errorf("attempt %+v, want the first, and on time", a)
			}
		}
	})
}

func TestFirstRenewalsSpreadOverTheSecondHalfOfThePeriod(t *testing.T) {
	inBubble(t, func(w *world) {
		var early, late int
		leases := make([]*kept, 500)
		for i := range leases {
			leases[i] = w.add(nil)
		}
		w.sleepUntil(period)
		for _, k := range leases {
			switch at := k.attempts(); {
			case len(at) != 1 || at[0] < period/2 || at[0] > period:
				w.Fatalf("renewals at %v, want one between %v and %v", at, period/2, period)
			case at[0] < period*3/4:
				early++
			default:
				late++
			}
		}
		if early < 150 || late < 150 {
			w.Errorf("%d in the first half of the time, %d in the second: they are not spread", early, late)
		}
	})
}

func TestLeasesThatFellIntoStepComeApartAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		leases := make([]*kept, 500)
		for i := range leases {
			leases[i] = w.add(nil)
		}
		w.sleepUntil(period / 4)
		for _, k := range leases {
			k.Acknowledge(w.clock.Now()) // all in one moment, as after an outage
		}
		w.sleepUntil(period/4 + period)
		var early, late int
		for _, k := range leases {
			switch at := k.attempts(); {
			case len(at) != 1 || at[0] < period/4+period*9/10:
				w.Fatalf("renewals at %v, want one in the last tenth of the period", at)
			case at[0] < period/4+period*95/100:
				early++
			default:
				late++
			}
		}
		if early < 150 || late < 150 {
			w.Errorf("%d in the first half of the last tenth, %d in the second: they are still in step", early, late)
		}
	})
}

func TestTrustCountsFromBeforeTheSendNotFromTheAnswer(t *testing.T) {
	inBubble(t, func(w *world) {
		first := true
		k := w.add(func(context.Context, Attempt) error {
			if first {
				first = false
				time.Sleep(900 * time.Millisecond)
				return nil
			}
			return errStore
		})
		time.Sleep(trust)
		sent := k.attempts()[0]
		if got, want := k.Deadline(), w.start.Add(sent+trust); !got.Equal(want) {
			w.Errorf("the deadline is %v, want %v", got, want)
		}
		w.sleepUntil(sent + trust - 1)
		k.wantAlive()
		if left := k.Remaining(); left != 1 {
			w.Errorf("%v remaining, want 1ns", left)
		}
		w.sleepUntil(sent + trust)
		k.wantLost(ErrDeadline, sent+trust)
	})
}

func TestAnUnavailableStoreNeverExtendsALease(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(fails)
		w.sleepUntil(trust - 1)
		k.wantAlive()
		w.sleepUntil(trust)
		k.wantLost(ErrDeadline, trust)
		if !errors.Is(k.ended[0], errStore) {
			w.Errorf("%q does not say what the last attempt failed with", k.ended[0])
		}
	})
}

func TestALostAnswerIsTriedAgainAndTheLeaseIsKept(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(func(_ context.Context, a Attempt) error {
			if a.N < 4 {
				return errStore
			}
			return nil
		})
		for range 100 {
			time.Sleep(period / 5)
			k.wantAlive()
		}
		for i, a := range k.tries {
			if want := i%4 + 1; a.N != want {
				w.Fatalf("attempt %d says it is number %d, want %d", i, a.N, want)
			}
		}
	})
}

func TestRetriesComeSoonThenLessOftenAndOnceMoreBeforeTheDeadline(t *testing.T) {
	inBubble(t, func(w *world) {
		leases := make([]*kept, 50)
		for i := range leases {
			leases[i] = w.add(fails)
		}
		w.sleepUntil(trust)
		base := period / 20
		for _, k := range leases {
			at := k.attempts()
			if d := at[1] - at[0]; d < base/2 || d > base*3/2 {
				w.Errorf("the first retry came after %v, want about %v", d, base)
			}
			for i := range len(at) - 1 {
				if d := at[i+1] - at[i]; d > period/2+base/2 {
					w.Errorf("retry %d came after %v, want at most %v", i+1, d, period/2+base/2)
				}
			}
			if left := trust - at[len(at)-1]; left > base || left <= 0 {
				w.Errorf("the last attempt began %v before the deadline, want within %v", left, base)
			}
			if len(at) > 30 {
				w.Errorf("%d attempts in one lease: the retries do not back off", len(at))
			}
		}
	})
}

func TestAHungAttemptIsCancelledInTimeForAnother(t *testing.T) {
	inBubble(t, func(w *world) {
		var causes []error
		k := w.add(func(ctx context.Context, a Attempt) error {
			err := obedient(ctx, a)
			causes = append(causes, err)
			return err
		})
		w.sleepUntil(trust)
		k.wantLost(ErrDeadline, trust)
		at := k.attempts()
		if len(at) < 4 {
			w.Errorf("attempts at %v, want at least four", at)
		}
		for i, err := range causes[:len(causes)-1] {
			if !errors.Is(err, context.DeadlineExceeded) {
				w.Errorf("attempt %d was cancelled with %v", i+1, err)
			}
		}
		if last := causes[len(causes)-1]; trust-at[len(at)-1] < timeout && !errors.Is(last, ErrDeadline) {
			w.Errorf("the last attempt was cancelled with %v, want the deadline", last)
		}
	})
}

func TestAnAttemptMayTakeUntilTheDeadline(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(obedient, func(c *Config) { c.AttemptTimeout = math.MaxInt64 })
		w.sleepUntil(trust)
		k.wantLost(ErrDeadline, trust)
		if n := len(k.attempts()); n != 1 {
			w.Errorf("%d attempts, want one that lasts", n)
		}
	})
}

func TestRenewIsNeverCalledTwiceAtOnceForALease(t *testing.T) {
	inBubble(t, func(w *world) {
		running := 0
		k := w.add(func(context.Context, Attempt) error {
			if running++; running > 1 {
				w.Error("a renewal began while another one ran")
			}
			time.Sleep(timeout * 3 / 2) // beyond its time
			running--
			return errStore
		})
		for range 80 {
			time.Sleep(trust / 80)
			k.Kick()
		}
		k.wantLost(ErrDeadline, trust)
	})
}

func TestErrGoneEndsALeaseAtOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(func(context.Context, Attempt) error { return fmt.Errorf("somebody else's: %w", ErrGone) })
		time.Sleep(period)
		k.wantLost(ErrGone, k.attempts()[0])
		time.Sleep(trust)
		if n := len(k.attempts()); n != 1 {
			w.Errorf("%d attempts, want no more after ErrGone", n)
		}
	})
}

// Losing.

func TestALossIsAnnouncedAtTheDeadlineWhileTheRenewalHangs(t *testing.T) {
	inBubble(t, func(w *world) {
		release := make(chan struct{})
		defer close(release)
		k := w.add(deaf(release))
		w.sleepUntil(trust - 1)
		k.wantAlive()
		w.sleepUntil(trust)
		k.wantLost(ErrDeadline, trust)
	})
}

func TestWhetherALeaseIsValidIsToldWithoutWaitingForAnyLock(t *testing.T) {
	inBubble(t, func(w *world) {
		release := make(chan struct{})
		defer close(release)
		k := w.add(deaf(release))
		w.sleepUntil(period)
		w.mu.Lock() // whoever waits for it now waits for ever
		defer w.mu.Unlock()
		if !k.Valid() || k.Remaining() != trust-period || !k.Deadline().Equal(w.start.Add(trust)) {
			w.Errorf("Valid %v, Remaining %v, Deadline %v", k.Valid(), k.Remaining(), k.Deadline())
		}
		w.clock.suspend(time.Second)
		if k.Valid() {
			w.Error("valid after a suspension")
		}
		w.clock.suspend(trust)
		if k.Valid() || k.Remaining() > 0 {
			w.Error("valid after the deadline")
		}
	})
}

func TestALossIsAnnouncedAtTheDeadlineWhileTheLeaseWaitsForASlot(t *testing.T) {
	inBubble(t, func(w *world) {
		w.add(obedient, func(c *Config) { c.AttemptTimeout = c.Trust })
		w.sleepUntil(period) // the only slot is taken until 8 s
		k := w.add(nil, func(c *Config) { c.Trust = 5 * time.Second })
		w.sleepUntil(period + 5*time.Second)
		k.wantLost(ErrDeadline, period+5*time.Second)
		if n := len(k.attempts()); n != 0 {
			w.Errorf("%d attempts without a slot", n)
		}
	}, func(o *Options) { o.Parallelism = 1 })
}

func TestAnAnswerAfterTheDeadlineRevivesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		release := make(chan struct{})
		k := w.add(deaf(release))
		w.sleepUntil(trust)
		close(release)
		k.wantLost(ErrDeadline, trust)
		k.Acknowledge(w.clock.Now())
		k.Kick()
		time.Sleep(trust)
		k.wantLost(ErrDeadline, trust)
		if n := len(k.attempts()); n != 1 {
			w.Errorf("%d attempts, want none after the loss", n)
		}
	})
}

func TestAnAnswerAfterTheDeadlineRevivesNothingThoughNobodyHasLookedSince(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(nil, static)
		w.clock.suspend(trust)
		k.Acknowledge(w.clock.Now())
		k.wantLost(ErrDeadline, 0)
	})
}

func TestALeaseWhoseDeadlinePassedWhileItWaitedIsNotRenewed(t *testing.T) {
	inBubble(t, func(w *world) {
		block := w.add(obedient, func(c *Config) { c.Trust = time.Hour })
		w.sleepUntil(period)
		k := w.add(nil)
		k.Kick()
		w.clock.suspend(trust)
		block.End(nil) // gives the slot away before the loop has looked at the clocks
		k.wantLost(ErrDeadline, period)
		if at := k.attempts(); len(at) != 0 {
			w.Errorf("renewals at %v, want none after the deadline", at)
		}
	}, func(o *Options) { o.Parallelism = 1 })
}

func TestAnAnswerAfterItsTimeButBeforeTheDeadlineCounts(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(takes(3 * timeout))
		for range 40 {
			time.Sleep(time.Second)
			k.wantAlive()
		}
	})
}

func TestAStaticLeaseIsOnlyWatched(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(nil, static)
		k.Kick()
		w.sleepUntil(trust - 1)
		k.wantAlive()
		w.sleepUntil(trust)
		k.wantLost(ErrDeadline, trust)
		if n := len(k.attempts()); n != 0 {
			w.Errorf("a static lease was renewed %d times", n)
		}
	})
}

func TestTheLimitEndsALeaseHoweverWellItIsRenewed(t *testing.T) {
	inBubble(t, func(w *world) {
		const limit = 61 * time.Second
		k := w.add(nil, func(c *Config) { c.Limit = limit })
		w.sleepUntil(limit - time.Millisecond)
		k.wantAlive()
		if left := k.Remaining(); left != time.Millisecond {
			w.Errorf("%v remaining, want 1ms", left)
		}
		w.sleepUntil(limit)
		k.wantLost(ErrLimit, limit)
	})
}

func TestALeaseThatWasWonTooSlowlyEndsAtOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		acked := w.clock.Now()
		time.Sleep(trust)
		k := w.add(nil, func(c *Config) { c.Acked = acked })
		k.wantLost(ErrDeadline, trust)
	})
}

func TestALossIsAnnouncedOnceHoweverManyWaysItIsLearned(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(func(context.Context, Attempt) error { return ErrGone })
		time.Sleep(k.w.firstDue(k))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { k.End(ErrGone) })
			wg.Go(func() { k.Acknowledge(w.clock.Now()) })
			wg.Go(func() { k.Valid() })
		}
		wg.Wait()
		k.wantLost(ErrGone, w.elapsed())
	})
}

// firstDue is how long it is until the first renewal of k.
func (w *world) firstDue(k *kept) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return k.due - w.now
}

func (w *world) slotsFree() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slots
}

func TestEndWithoutAReasonIsErrGone(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(nil)
		time.Sleep(time.Second / 2)
		k.End(nil)
		if k.Valid() {
			w.Error("valid after End")
		}
		k.wantLost(ErrGone, time.Second/2)
	})
}

func TestAnEndedThatBlocksHoldsUpNoOtherLease(t *testing.T) {
	inBubble(t, func(w *world) {
		release := make(chan struct{})
		blocking := w.add(nil, func(c *Config) { c.Ended = func(error) { <-release } })
		k, doomed := w.add(nil), w.add(fails)
		blocking.End(nil)
		w.sleepUntil(10 * trust)
		k.wantAlive()
		if doomed.Valid() {
			w.Error("a lease is valid after its deadline")
		}
		close(release)
		doomed.wantLost(ErrDeadline, 10*trust)
	})
}

// Many leases.

func TestOneHungRenewalTakesOneSlotAndOnlyUntilItsTimeIsOver(t *testing.T) {
	inBubble(t, func(w *world) {
		release := make(chan struct{})
		defer close(release)
		for range 3 { // more than there are slots
			w.add(deaf(release))
		}
		leases := make([]*kept, 50)
		for i := range leases {
			leases[i] = w.add(takes(time.Millisecond))
		}
		w.sleepUntil(5 * trust)
		for _, k := range leases {
			k.wantAlive()
		}
	}, func(o *Options) { o.Parallelism = 2 })
}

func TestNoMoreRenewalsThanParallelismAreInFlight(t *testing.T) {
	inBubble(t, func(w *world) {
		var mu sync.Mutex
		var now, most int
		answer := func(context.Context, Attempt) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			return nil
		}
		leases := make([]*kept, 300) // at full capacity: 4 slots renew 400 a second, 150 are needed
		for i := range leases {
			leases[i] = w.add(answer)
			leases[i].Kick()
		}
		w.sleepUntil(30 * time.Second)
		for _, k := range leases {
			k.wantAlive()
		}
		if most != 4 {
			w.Errorf("%d renewals were in flight, want 4 at most, and once", most)
		}
	}, func(o *Options) { o.Parallelism = 4 })
}

func TestWaitingLeasesAreRenewedInTheOrderOfTheirDeadlines(t *testing.T) {
	inBubble(t, func(w *world) {
		var order []int
		block := w.add(obedient)
		w.sleepUntil(period) // the slot is taken
		for _, i := range []int{3, 1, 4, 0, 2} {
			k := w.add(func(context.Context, Attempt) error {
				order = append(order, i)
				return nil
			}, func(c *Config) { c.Trust = trust + time.Duration(i)*time.Second })
			k.Kick()
		}
		if err := block.Stop(w.Context()); err != nil {
			w.Fatal(err)
		}
		synctest.Wait()
		if !slices.Equal(order, []int{0, 1, 2, 3, 4}) {
			w.Errorf("renewed in the order %v", order)
		}
	}, func(o *Options) { o.Parallelism = 1 })
}

func TestTenThousandLeasesAtRestCostOneGoroutineWhichEndsWithThem(t *testing.T) {
	inBubble(t, func(w *world) {
		running := func() int {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.goroutines
		}
		if n := running(); n != 0 {
			w.Errorf("%d goroutines before the first lease", n)
		}
		leases := make([]*kept, 10_000)
		for i := range leases {
			leases[i] = w.add(nil)
		}
		w.sleepUntil(period / 4)
		if n := running(); n != 1 {
			w.Errorf("%d goroutines for %d leases at rest, want 1", n, len(leases))
		}
		for _, k := range leases {
			if err := k.Stop(w.Context()); err != nil {
				w.Fatal(err)
			}
		}
		synctest.Wait()
		if n := running(); n != 0 {
			w.Errorf("%d goroutines after the last lease", n)
		}
		k := w.add(nil) // and it starts again
		time.Sleep(2 * trust)
		k.wantAlive()
	})
}

func TestALeaseAddedWhileTheSchedulerSleepsIsRenewedInTime(t *testing.T) {
	inBubble(t, func(w *world) {
		w.add(nil, static)
		w.sleepUntil(10 * time.Millisecond)
		k := w.add(nil, func(c *Config) { c.Period, c.Trust = 100*time.Millisecond, 300*time.Millisecond })
		for range 100 {
			time.Sleep(10 * time.Millisecond)
			k.wantAlive()
		}
	})
}

func TestALateStartIsToldToTheRenewal(t *testing.T) {
	inBubble(t, func(w *world) {
		block := w.add(obedient, func(c *Config) { c.AttemptTimeout = trust })
		w.sleepUntil(period) // the slot is taken
		k := w.add(obedient)
		k.Kick()
		const late = 345 * time.Millisecond
		w.sleepUntil(period + late)
		if err := block.Stop(w.Context()); err != nil {
			w.Fatal(err)
		}
		synctest.Wait()
		if at, told := k.attempts()[0], k.tries[0].Late; at != period+late || told != late {
			w.Errorf("an attempt that was due at %v and began at %v says it was %v late", period, at, told)
		}
		w.sleepUntil(period + late + timeout - 1)
		if n := w.slotsFree(); n != 0 {
			w.Error("the late attempt was cut short")
		}
		w.sleepUntil(period + late + timeout)
		if n := w.slotsFree(); n != 1 {
			w.Error("the late attempt has not ended at its time")
		}
	}, func(o *Options) { o.Parallelism = 1 })
}

// readByRenewal, called in a hook of the clock, tells that it is a renewal that reads it, before its request.
func readByRenewal() bool {
	pcs := make([]uintptr, 4)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)]) // behind the hook
	frames.Next()                                                  // Now
	caller, _ := frames.Next()
	return strings.HasSuffix(caller.Function, ".(*Scheduler).renew")
}

func TestTheTimeThatARenewalWaitsForACPUCountsAsLate(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(nil)
		time.Sleep(period / 4)
		const late = 40 * time.Millisecond
		var once sync.Once
		w.clock.onNow(func() {
			if readByRenewal() {
				once.Do(func() { w.clock.suspend(late) })
			}
		})
		k.Kick()
		synctest.Wait()
		if told := k.tries[0].Late; told != late {
			w.Errorf("told to be %v late, want %v", told, late)
		}
	})
}

// What others do to a lease.

func TestAnAcknowledgementByOthersExtendsTheLeaseAndMovesTheNextRenewal(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(nil)
		for range 40 { // a user who writes every second needs no heartbeat
			time.Sleep(period * 45 / 100)
			sent := w.clock.Now()
			k.Acknowledge(sent)
			if left := k.Remaining(); left != trust {
				w.Fatalf("%v remaining after an acknowledgement, want %v", left, trust)
			}
		}
		if at := k.attempts(); len(at) != 0 {
			w.Errorf("renewals at %v, want none", at)
		}
		time.Sleep(period)
		synctest.Wait()
		if n := len(k.attempts()); n != 1 {
			w.Errorf("%d renewals in the period after the last acknowledgement, want 1", n)
		}
	})
}

func TestAnAcknowledgementOfAnEarlierSendTakesNothingBack(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(fails, static)
		early := w.clock.Now()
		time.Sleep(time.Second)
		k.Acknowledge(w.clock.Now())
		k.Acknowledge(early)
		if left := k.Remaining(); left != trust {
			w.Errorf("%v remaining, want %v", left, trust)
		}
		w.sleepUntil(time.Second + trust)
		k.wantLost(ErrDeadline, time.Second+trust)
	})
}

func TestAnAcknowledgementDuringARenewalCountsAndSoDoesTheRenewal(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(takes(500 * time.Millisecond))
		time.Sleep(w.firstDue(k) + 100*time.Millisecond)
		k.Acknowledge(w.clock.Now())
		w.sleepUntil(60 * time.Second)
		k.wantAlive()
		if n := len(k.attempts()); n < 29 || n > 35 {
			w.Errorf("%d renewals in a minute, want about 30", n)
		}
	})
}

func TestAnAcknowledgementSparesALeaseThatWaitsForASlot(t *testing.T) {
	inBubble(t, func(w *world) {
		block := w.add(obedient)
		w.sleepUntil(period)
		k := w.add(nil)
		k.Kick()
		time.Sleep(time.Millisecond)
		k.Acknowledge(w.clock.Now())
		if err := block.Stop(w.Context()); err != nil {
			w.Fatal(err)
		}
		w.sleepUntil(period + period/2)
		if at := k.attempts(); len(at) != 0 {
			w.Errorf("renewals at %v, want none so soon", at)
		}
		w.sleepUntil(2*period + time.Millisecond)
		if n := len(k.attempts()); n != 1 {
			w.Errorf("%d renewals, want one within the period", n)
		}
	}, func(o *Options) { o.Parallelism = 1 })
}

func TestAcknowledgementsOfEarlierSendsDoNotPutRetriesOff(t *testing.T) {
	inBubble(t, func(w *world) {
		acked := w.clock.Now()
		k := w.add(fails)
		for w.elapsed() < trust {
			k.Acknowledge(acked)
			time.Sleep(time.Millisecond)
		}
		if n := len(k.attempts()); n < 8 {
			w.Errorf("%d attempts before the deadline, want at least 8", n)
		}
	})
}

func TestKickRenewsAtOnceAndOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(takes(5 * time.Millisecond))
		time.Sleep(100 * time.Millisecond)
		k.Kick()
		k.Kick()
		w.sleepUntil(period / 2)
		if at := k.attempts(); !slices.Equal(at, []time.Duration{100 * time.Millisecond}) {
			w.Errorf("renewals at %v, want one at 100ms", at)
		}
	})
}

func TestANilOptionSetsNothing(t *testing.T) {
	inBubble(t, func(w *world) { w.add(nil).wantAlive() }, nil, nil)
}

func TestABadConfigIsRefusedWithEveryFieldNamed(t *testing.T) {
	inBubble(t, func(w *world) {
		_, err := w.Add(Config{Period: -1, Trust: -1, AttemptTimeout: -1, Limit: -1})
		for _, field := range []string{"Period", "Trust", "AttemptTimeout", "Limit"} {
			if err == nil || !strings.Contains(err.Error(), "Config."+field) {
				w.Errorf("%v does not name %s", err, field)
			}
		}
		renew := func(context.Context, Attempt) error { return nil }
		for name, cfg := range map[string]Config{
			"no time between period and deadline": {Period: trust, Trust: trust, Renew: renew},
			"nothing to renew with":               {Period: period, Trust: trust},
			"trust without end":                   {Trust: 1 << 62},
		} {
			if _, err := w.Add(cfg); err == nil || errors.Is(err, ErrClosed) {
				w.Errorf("%s: %v", name, err)
			}
		}
		if l, err := w.Add(Config{Period: period, Trust: trust, Acked: w.clock.Now(), Renew: renew}); err != nil {
			w.Error(err)
		} else if l.cfg.AttemptTimeout != period {
			w.Errorf("AttemptTimeout is %v by default, want the period", l.cfg.AttemptTimeout)
		}
	})
}
