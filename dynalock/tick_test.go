package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

// tickJob is a ticking job, and what its replicas did.
type tickJob struct {
	*env
	schedule dynalock.Schedule
	catchUp  dynalock.CatchUp
	takes    time.Duration                                              // a run
	opt      func(*dynalock.TickOptions)                                // besides; may be nil
	begins   func(ctx context.Context, r *replica, due time.Time) error // before it takes that long; may be nil

	mu      sync.Mutex
	running int
	ran     []tickRun // those that ended well, in this order
}

type tickRun struct {
	due, began time.Time
	by         *replica
}

// replica is a process of the job.
type replica struct {
	*dynalock.Client
	wire *testserver.Wire
	stop func() error // ends it in good order, and returns its error
}

func (e *env) tickJob(interval time.Duration) *tickJob {
	return &tickJob{env: e, schedule: dynalock.Every(interval, 0), takes: 5 * time.Millisecond}
}

// start starts a replica.
func (j *tickJob) start(optFns ...func(*dynalock.Options)) *replica {
	r := &replica{}
	r.Client, r.wire = j.client(optFns...)
	ctx, cancel := context.WithCancel(j.ctx)
	done := make(chan error, 1)
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	go func() {
		done <- r.Tick(ctx, "job", j.schedule, func(ctx context.Context, l *dynalock.Lock, due time.Time) error {
			return j.run(ctx, r, l, due)
		}, func(o *dynalock.TickOptions) { o.CatchUp = j.catchUp }, j.opt)
	}()
	j.Cleanup(func() { wantErr(j, r.stop(), context.Canceled) })
	return r
}

func (j *tickJob) run(ctx context.Context, r *replica, l *dynalock.Lock, due time.Time) error {
	began := time.Now()
	j.mu.Lock()
	j.running++
	check(j, j.running == 1, "%d ticks run at once", j.running)
	check(j, !began.Before(due), "tick %v begins %v early", due, due.Sub(began))
	check(j, l.Key() == "once/job/"+due.UTC().Format(time.RFC3339), "tick %v holds %q", due, l.Key())
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.running--
	}()
	j.mu.Lock()
	begins := j.begins
	j.mu.Unlock()
	if begins != nil {
		if err := begins(ctx, r, due); err != nil {
			return err
		}
	}
	select {
	case <-time.After(j.takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ran = append(j.ran, tickRun{due, began, r})
	return nil
}

// runs are those so far.
func (j *tickJob) runs() []tickRun {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.ran)
}

// dues tells which ticks have run, counted in intervals of d from start.
func (j *tickJob) dues(start time.Time, d time.Duration) (n []int) {
	for _, r := range j.runs() {
		n = append(n, int(r.due.Sub(start)/d))
	}
	return n
}

// midnight is that before the test.
func midnight() time.Time { return time.Now().UTC().Truncate(24 * time.Hour) }

// from counts from a to b.
func from(a, b int) (n []int) {
	for ; a <= b; a++ {
		n = append(n, a)
	}
	return n
}

// adjustable is a clock whose wall time somebody sets.
type adjustable struct {
	heartbeat.Clock
	by *atomic.Int64
}

func (a adjustable) Now() heartbeat.Reading {
	r := a.Clock.Now()
	r.Wall = r.Wall.Add(time.Duration(a.by.Load()))
	return r
}

func TestEachOf200TicksRunsOnceOn3ReplicasThatAreKilledAndHaveClocksAMinuteOff(t *testing.T) {
	for seed := range uint64(3) {
		if underRace && seed > 0 {
			continue
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			virtual(t, func(e *env) {
				const ticks, interval = 200, time.Minute
				var mu sync.Mutex // guards what follows
				random := rand.New(rand.NewPCG(3, seed))
				var live [3]*replica
				var crashes, deploys, sets int
				clocks := map[*replica]*atomic.Int64{}

				j := e.tickJob(interval)
				j.catchUp = dynalock.CatchUpAll
				j.opt = func(o *dynalock.TickOptions) { o.MaxAttempts = 10 }
				off := func() int64 { return int64(random.IntN(3)-1) * int64(time.Minute) }
				begin := func(i int) {
					by := &atomic.Int64{}
					by.Store(off())
					live[i] = j.start(dynalock.WithClock(adjustable{heartbeat.SystemClock(), by}))
					clocks[live[i]] = by
				}
				end := func(r *replica, how int) { // and another one takes its place
					if how == 0 {
						crash(r.wire)
						crashes++
					} else {
						deploys++
					}
					go func() { _ = r.stop() }()
					begin(slices.Index(live[:], r))
				}
				j.begins = func(ctx context.Context, r *replica, _ time.Time) error {
					mu.Lock()
					how := random.IntN(10)
					if how < 2 {
						end(r, how)
					}
					mu.Unlock()
					if how < 2 {
						<-ctx.Done()
					}
					return ctx.Err()
				}
				start := midnight()
				mu.Lock()
				for i := range live {
					begin(i)
				}
				mu.Unlock()
				for range ticks {
					time.Sleep(interval / 2)
					mu.Lock()
					switch i, how := random.IntN(len(live)), random.IntN(10); {
					case how < 2: // while it waits
						end(live[i], how)
					case how < 4:
						clocks[live[i]].Store(off())
						sets++
					}
					mu.Unlock()
					time.Sleep(interval / 2)
				}
				time.Sleep(interval / 2)
				check(e, slices.Equal(j.dues(start, interval), from(1, ticks)), "the ticks that ran are %v",
					j.dues(start, interval))
				late := time.Duration(0)
				for _, r := range j.runs() {
					late = max(late, r.began.Sub(r.due))
				}
				check(e, late < 30*time.Second, "a tick began %v late", late)
				check(e, crashes > 20 && deploys > 20 && sets > 10, "the test did not reach its cases")
				e.Logf("%d ticks; %d crashes, %d told to stop, %d clocks set; the last began %v late", ticks, crashes, deploys,
					sets, late)
				n := 0
				for run, err := range live[0].Runs(e.ctx, "job") {
					must(e, err)
					check(e, run.Err == "" && !run.FinishedAt.IsZero(), "run %+v", run)
					n++
				}
				check(e, n == ticks, "%d runs are known", n)
			})
		})
	}
}

func TestAfterAnOutageOf10TicksThoseRunThatCatchUpAsksFor(t *testing.T) {
	for catchUp, caught := range map[dynalock.CatchUp][]int{
		dynalock.CatchUpAll:    from(6, 15),
		dynalock.CatchUpLatest: {15},
		dynalock.CatchUpNone:   nil,
	} {
		t.Run(catchUp.String(), func(t *testing.T) {
			virtual(t, func(e *env) {
				const interval = 5 * time.Minute
				start := midnight()
				j := e.tickJob(interval)
				j.catchUp = catchUp
				replicas := func() (stop func()) {
					all := []*replica{j.start(), j.start(), j.start()}
					return func() {
						for _, r := range all {
							wantErr(e, r.stop(), context.Canceled)
						}
					}
				}
				stop := replicas()
				time.Sleep(5*interval + interval/2)
				stop()
				check(e, slices.Equal(j.dues(start, interval), from(1, 5)), "before the outage: %v", j.dues(start, interval))
				time.Sleep(10*interval + interval/3)
				replicas()
				time.Sleep(interval / 10)
				check(e, slices.Equal(j.dues(start, interval)[5:], caught), "caught up: %v, want %v", j.dues(start, interval)[5:],
					caught)
				time.Sleep(3 * interval)
				want := append(append(from(1, 5), caught...), 16, 17, 18)
				check(e, slices.Equal(j.dues(start, interval), want), "the ticks that ran are %v, want %v", j.dues(start, interval),
					want)
			})
		})
	}
}

func TestOfTicksThatWereMissedTheLatestAreCaughtUpAsManyAsAllowedAndFewAreComputed(t *testing.T) {
	virtual(t, func(e *env) {
		j := e.tickJob(time.Second)
		j.catchUp = dynalock.CatchUpAll
		j.opt = func(o *dynalock.TickOptions) { o.MaxCatchUp = 7 }
		start := midnight()
		r := j.start()
		time.Sleep(3500 * time.Millisecond)
		wantErr(e, r.stop(), context.Canceled)
		ran := len(j.runs())
		time.Sleep(365 * 24 * time.Hour)
		counted := &counting{Schedule: j.schedule}
		j.schedule = counted
		back := time.Now()
		j.start()
		time.Sleep(900 * time.Millisecond)
		got := j.dues(start, time.Second)[ran:]
		last := int(back.Sub(start) / time.Second)
		check(e, len(got) >= 7 && len(got) <= 8 && got[0] >= last-7 && got[0] <= last-5, "caught up: %v of those up to %d",
			got, last)
		check(e, counted.n.Load() < 10_000, "%d ticks were computed", counted.n.Load())
	})
}

// counting counts how often it is asked.
type counting struct {
	dynalock.Schedule
	n atomic.Int64
}

func (c *counting) Next(t time.Time) time.Time {
	c.n.Add(1)
	return c.Schedule.Next(t)
}

func TestTicksThatBecomeDueWhileOneRunsAreMissedAndNoTwoRunAtTheSameTime(t *testing.T) {
	for catchUp, want := range map[dynalock.CatchUp][]int{
		dynalock.CatchUpAll:    {1, 2, 3, 4, 5, 6},
		dynalock.CatchUpLatest: {1, 3, 4, 5, 6},
		dynalock.CatchUpNone:   {1, 4, 5, 6},
	} {
		if underRace && catchUp != dynalock.CatchUpLatest {
			continue
		}
		t.Run(catchUp.String(), func(t *testing.T) {
			virtual(t, func(e *env) {
				const interval = 10 * time.Minute
				start := midnight()
				j := e.tickJob(interval)
				j.catchUp = catchUp
				j.begins = func(_ context.Context, _ *replica, due time.Time) error {
					if due.Sub(start) == interval { // over at 3.8 intervals
						time.Sleep(28 * time.Minute)
					}
					return nil
				}
				for range 3 {
					j.start()
				}
				time.Sleep(6*interval + interval/2)
				check(e, slices.Equal(j.dues(start, interval), want), "the ticks that ran are %v, want %v", j.dues(start, interval),
					want)
			})
		})
	}
}

func TestATickCostsThreeWritesAndEveryReplicaReadsWhileItWaits(t *testing.T) {
	virtual(t, func(e *env) {
		const ticks, interval = 20, 5 * time.Minute
		j := e.tickJob(interval)
		var all []*replica
		for range 5 {
			all = append(all, j.start())
		}
		time.Sleep(interval + interval/2) // the first one finds out who goes first
		var writes, reads [5]int
		for i, r := range all {
			writes[i], reads[i] = r.wire.Count("UpdateItem"), r.wire.Count("GetItem")
		}
		before := e.embedded.Usage()
		time.Sleep(ticks * interval)
		runner := j.runs()[0].by
		for i, r := range all {
			w, g := r.wire.Count("UpdateItem")-writes[i], r.wire.Count("GetItem")-reads[i]
			if r == runner {
				check(e, w == 3*ticks && g == ticks, "who runs %d ticks: %d writes, %d reads", ticks, w, g)
			} else {
				check(e, w == 0 && g == 2*ticks, "who runs none: %d writes, %d reads", w, g)
			}
		}
		after := e.embedded.Usage()
		check(e, after.WriteUnits-before.WriteUnits == 3*ticks, "%v write units", after.WriteUnits-before.WriteUnits)
		check(e, after.ReadUnits-before.ReadUnits == ticks*(0.5+4*1), "%v read units", after.ReadUnits-before.ReadUnits)
		for _, r := range j.runs() {
			check(e, r.began.Sub(r.due) < 2*time.Second, "a tick began %v late", r.began.Sub(r.due))
		}
	})
}

func TestTicksOfEverySecondRunOnceEachOnTwoReplicas(t *testing.T) {
	onServer(t, func(e *env) {
		j := e.tickJob(time.Second)
		j.catchUp = dynalock.CatchUpAll
		start := midnight()
		a, b := j.start(), j.start()
		time.Sleep(6 * time.Second)
		for _, r := range []*replica{a, b} {
			wantErr(e, r.stop(), context.Canceled)
		}
		got := j.dues(start, time.Second)
		check(e, len(got) >= 3 && slices.Equal(got, from(got[0], got[0]+len(got)-1)), "the ticks that ran are %v", got)
		listed := 0
		for run, err := range a.Runs(e.ctx, "job") {
			must(e, err)
			if !run.FinishedAt.IsZero() {
				listed++
			}
		}
		check(e, listed == len(got), "%d runs are known, %d ran", listed, len(got))
	})
}

func TestALongRunIsWatchedWithFewReadsAndBegunAgainElsewhereWhenItsProcessDies(t *testing.T) {
	virtual(t, func(e *env) {
		const interval = time.Hour
		j := e.tickJob(interval)
		j.takes = 10 * time.Minute
		a := j.start()
		time.Sleep(time.Second)
		b := j.start()
		var first *replica
		died := make(chan time.Time, 1)
		var mu sync.Mutex
		begins := func(ctx context.Context, r *replica, _ time.Time) error {
			mu.Lock()
			isFirst := first == nil
			if isFirst {
				first = r
			}
			mu.Unlock()
			if isFirst {
				other := map[*replica]*replica{a: b, b: a}[r]
				before := other.wire.Count()
				time.Sleep(j.takes)
				n := other.wire.Count() - before
				check(e, n > 300 && n < 700, "%d requests of who waits for %v", n, j.takes)
				crash(r.wire)
				died <- time.Now()
				go func() { _ = r.stop() }()
				<-ctx.Done()
			}
			return ctx.Err()
		}
		j.mu.Lock()
		j.begins = begins
		j.mu.Unlock()
		time.Sleep(2*interval - time.Minute)
		mu.Lock()
		defer mu.Unlock()
		runs := j.runs()
		check(e, len(runs) == 1 && runs[0].by != first, "runs %v", runs)
		gap := runs[0].began.Sub(<-died)
		check(e, gap > lease/2 && gap < 3*lease, "begun again after %v", gap)
	})
}

func TestATickThatIsToldToStopIsBegunAgainAtOnceByAnotherReplicaAndOneThatFailsIsNot(t *testing.T) {
	virtual(t, func(e *env) {
		const interval = time.Hour
		var mu sync.Mutex
		var told []string
		start := midnight()
		j := e.tickJob(interval)
		j.opt = func(o *dynalock.TickOptions) {
			o.MaxAttempts, o.RetryOnError, o.RetryPause = 1, 1, time.Minute
			o.Done = func(run dynalock.Run, err error) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, fmt.Sprintf("%s attempt %d: %v, %t", run.Period[11:16], run.Attempt, err == nil,
					run.FinishedAt.IsZero()))
			}
		}
		stopped := make(chan time.Time, 1)
		var calls atomic.Int64
		j.begins = func(ctx context.Context, r *replica, due time.Time) error {
			switch n := due.Sub(start) / interval; {
			case n == 1 && len(stopped) == 0:
				time.AfterFunc(time.Second, func() {
					stopped <- time.Now()
					_ = r.stop()
				})
				<-ctx.Done()
				return ctx.Err()
			case n == 2:
				calls.Add(1)
				return errors.New("smtp down")
			}
			return nil
		}
		for range 3 {
			j.start()
		}
		time.Sleep(4*interval - interval/2)
		check(e, slices.Equal(j.dues(start, interval), []int{1, 3}) && calls.Load() == 2,
			"the ticks that ran are %v, %d calls of the other", j.dues(start, interval), calls.Load())
		check(e, j.runs()[0].began.Sub(<-stopped) < 2*time.Second, "begun again late")
		want := []string{
			"01:00 attempt 1: false, true", "01:00 attempt 2: true, false", "02:00 attempt 1: false, false",
			"03:00 attempt 1: true, false",
		}
		mu.Lock()
		defer mu.Unlock()
		check(e, slices.Equal(told, want), "Done was told %q, want %q", told, want)
	})
}

func TestATickThatIsNeverDoneIsBegunAsOftenAsAllowed(t *testing.T) {
	virtual(t, func(e *env) {
		const interval = time.Hour
		var begun, exhausted atomic.Int64
		start := midnight()
		j := e.tickJob(interval)
		j.opt = func(o *dynalock.TickOptions) {
			o.Done = func(_ dynalock.Run, err error) {
				if errors.Is(err, dynalock.ErrExhausted) {
					exhausted.Add(1)
				}
			}
		}
		j.begins = func(_ context.Context, _ *replica, due time.Time) error {
			if due.Sub(start) == interval {
				begun.Add(1)
				return dynalock.ErrNotDone
			}
			return nil
		}
		j.start()
		j.start()
		time.Sleep(2*interval + interval/2)
		check(e, begun.Load() == 3 && exhausted.Load() > 0, "begun %d times, found exhausted %d times", begun.Load(),
			exhausted.Load())
		check(e, slices.Equal(j.dues(start, interval), []int{2}), "the ticks that ran are %v", j.dues(start, interval))
	})
}

func TestAPausedJobDoesNotTickAndCatchesUpAfterwardsAsAsked(t *testing.T) {
	virtual(t, func(e *env) {
		const interval = 10 * time.Minute
		start := midnight()
		j := e.tickJob(interval)
		j.start()
		j.start()
		operator, _ := e.client()
		time.Sleep(2*interval + interval/2)
		must(e, operator.Pause(e.ctx, "job", "upgrade"))
		time.Sleep(5 * interval)
		job, err := operator.Job(e.ctx, "job")
		must(e, err)
		check(e, job.Paused && job.LastTick.Equal(start.Add(2*interval)) && job.LastPeriod == "2000-01-01T00:20:00Z" &&
			!job.LastStart.Before(job.LastTick), "job %+v", job)
		must(e, operator.Unpause(e.ctx, "job"))
		time.Sleep(interval)
		check(e, slices.Equal(j.dues(start, interval), []int{1, 2, 8}), "the ticks that ran are %v", j.dues(start, interval))
	})
}

func TestANewJobBeginsWithTheFirstTickAfterItsFirstCallAlsoWhenNobodyRunsAtThatTick(t *testing.T) {
	virtual(t, func(e *env) {
		const interval = 24 * time.Hour
		start := midnight()
		j := e.tickJob(interval)
		time.Sleep(5*interval - time.Hour)
		r := j.start()
		time.Sleep(time.Minute)
		wantErr(e, r.stop(), context.Canceled)
		check(e, len(j.runs()) == 0, "runs %v", j.runs())
		time.Sleep(2 * time.Hour)
		j.start()
		time.Sleep(time.Minute)
		check(e, slices.Equal(j.dues(start, interval), []int{5}), "the ticks that ran are %v", j.dues(start, interval))
	})
}

func TestATickWhoseRunIsForgottenIsNotRunAgain(t *testing.T) {
	virtual(t, func(e *env) {
		must(e, dynalock.CreateTable(e.ctx, e.connect(), e.table, func(o *dynalock.TableOptions) { o.TimeToLive = true }))
		const interval = 30 * 24 * time.Hour
		j := e.tickJob(interval)
		j.opt = func(o *dynalock.TickOptions) { o.Keep = 15 * time.Minute }
		r := j.start()
		time.Sleep(interval)
		for len(j.runs()) == 0 {
			time.Sleep(time.Hour)
		}
		wantErr(e, r.stop(), context.Canceled)
		time.Sleep(14 * time.Minute)
		check(e, e.embedded.ExpireItems() <= 1, "more than the run is deleted")
		time.Sleep(time.Hour)
		e.embedded.ExpireItems()
		run, err := r.GetRun(e.ctx, "job", j.runs()[0].due.Format(time.RFC3339))
		must(e, err)
		check(e, run.Attempt == 0, "the run is known: %+v", run)
		j.start()
		time.Sleep(time.Hour)
		check(e, len(j.runs()) == 1, "runs %v", j.runs())
	})
}

func TestATickThatItsProcessNotedAndDidNotBeginIsBegunByAnother(t *testing.T) {
	virtual(t, func(e *env) {
		const interval = time.Hour
		start := midnight()
		j := e.tickJob(interval)
		a := j.start()
		a.wire.Inject(testserver.Fault{Kind: testserver.HangBefore, Op: "UpdateItem", Skip: 2}) // the claim
		time.Sleep(interval + 2*time.Second)
		b := j.start()
		check(e, a.wire.Count("UpdateItem") >= 3, "%d writes", a.wire.Count("UpdateItem"))
		crash(a.wire)
		_ = a.stop()
		time.Sleep(3 * lease)
		runs := j.runs()
		check(e, slices.Equal(j.dues(start, interval), []int{1}) && runs[0].by == b, "runs %v", runs)
	})
}

func TestAClockThatIsSetBetweenTicksMakesNoneEarlyOrLate(t *testing.T) {
	for name, by := range map[string]time.Duration{
		"a minute forward": time.Minute, "a minute back": -time.Minute, "four minutes forward": 4 * time.Minute,
		"four minutes back": -4 * time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				const interval = 10 * time.Minute
				start := midnight()
				off := &atomic.Int64{}
				j := e.tickJob(interval)
				j.start(dynalock.WithClock(adjustable{heartbeat.SystemClock(), off}))
				time.Sleep(2*interval + interval/2)
				off.Store(int64(by))
				time.Sleep(2 * interval)
				check(e, slices.Equal(j.dues(start, interval), from(1, 4)), "the ticks that ran are %v", j.dues(start, interval))
				for _, r := range j.runs() {
					check(e, r.began.Sub(r.due) < 2*time.Second, "a tick began %v late", r.began.Sub(r.due))
				}
			})
		})
	}
}

// asleep is a machine that is suspended for a while: no timer and no monotonic clock runs then.
type asleep struct {
	heartbeat.Clock
	from time.Time
	span time.Duration
}

func (a asleep) Now() heartbeat.Reading {
	r := a.Clock.Now()
	slept := min(max(time.Since(a.from), 0), a.span)
	r.Mono -= slept
	return r
}

func (a asleep) NewTimer(d time.Duration) heartbeat.Timer {
	if at := time.Now().Add(d); time.Now().Before(a.from) && at.After(a.from) {
		d += a.span
	}
	return a.Clock.NewTimer(d)
}

func TestAReplicaThatWakesFromSleepRunsNoTickAgainAndIsInTimeForTheNext(t *testing.T) {
	virtual(t, func(e *env) {
		const interval = 10 * time.Minute
		start := midnight()
		j := e.tickJob(interval)
		sleeps := asleep{heartbeat.SystemClock(), start.Add(2*interval + interval/2), 5*interval + interval/4}
		a := j.start(dynalock.WithClock(sleeps))
		time.Sleep(2*interval + interval/2)
		b := j.start()
		time.Sleep(4 * interval)
		_ = b.stop()
		check(e, slices.Equal(j.dues(start, interval), from(1, 6)), "the ticks that ran are %v", j.dues(start, interval))
		time.Sleep(interval + interval/4) // it wakes at 7.75 intervals
		time.Sleep(20 * time.Second)
		check(e, slices.Equal(j.dues(start, interval), from(1, 7)), "the ticks that ran are %v", j.dues(start, interval))
		time.Sleep(interval)
		runs := j.runs()
		last := runs[len(runs)-1]
		check(e, slices.Equal(j.dues(start, interval), from(1, 8)) && last.by == a &&
			last.began.Sub(last.due) < 2*time.Second,
			"the ticks that ran are %v, the last %v late", j.dues(start, interval), last.began.Sub(last.due))
	})
}

func TestTicksGoOnAfterAnOutageOfTheTableAndItsFirstAnswerTellsWhatIsWrong(t *testing.T) {
	virtual(t, func(e *env) {
		const interval = 10 * time.Minute
		start := midnight()
		j := e.tickJob(interval)
		r := j.start()
		time.Sleep(interval + interval/2)
		remove := e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.ErrorBefore, Code: "AccessDeniedException"})
		time.Sleep(interval)
		remove()
		time.Sleep(interval / 4)
		check(e, slices.Equal(j.dues(start, interval), []int{1, 2}), "the ticks that ran are %v", j.dues(start, interval))
		wantErr(e, r.stop(), context.Canceled)
		c, _ := e.client()
		_, err := e.connect().DeleteTable(e.ctx, &dynamodb.DeleteTableInput{TableName: &e.table})
		must(e, err)
		err = c.Tick(e.ctx, "job", j.schedule, func(context.Context, *dynalock.Lock, time.Time) error { return nil })
		wantErr(e, err, dynalock.ErrStore)
		check(e, strings.Contains(err.Error(), "table does not exist"), "error %v", err)
	})
}

// last has one tick.
type last time.Time

func (l last) Next(t time.Time) time.Time {
	if t.Before(time.Time(l)) {
		return time.Time(l)
	}
	return time.Time{}
}

// stuck is a schedule that is none.
type stuck struct{}

func (stuck) Next(t time.Time) time.Time { return t }

func TestTickEndsWithItsContextItsClientItsScheduleAndWithWhatIsNoJob(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		ran := 0
		fn := func(context.Context, *dynalock.Lock, time.Time) error { ran++; return nil }
		hourly := dynalock.Every(time.Hour, 0)

		for name, tt := range map[string]struct {
			schedule dynalock.Schedule
			opt      func(*dynalock.TickOptions)
		}{
			"schedule":     {nil, nil},
			"Every":        {dynalock.Every(1500*time.Millisecond, 0), nil},
			"offset":       {dynalock.Every(time.Hour, time.Hour), nil},
			"CatchUp":      {hourly, func(o *dynalock.TickOptions) { o.CatchUp = 3 }},
			"MaxCatchUp":   {hourly, func(o *dynalock.TickOptions) { o.MaxCatchUp = -1 }},
			"MaxAttempts":  {hourly, func(o *dynalock.TickOptions) { o.MaxAttempts = 1001 }},
			"RetryOnError": {hourly, func(o *dynalock.TickOptions) { o.RetryOnError = -1 }},
			"Keep":         {hourly, func(o *dynalock.TickOptions) { o.Keep = time.Minute }},
		} {
			err := c.Tick(e.ctx, "job", tt.schedule, fn, tt.opt)
			wantErr(e, err, dynalock.ErrInvalid)
			check(e, strings.Contains(err.Error(), name+" is "), "%q does not name %s", err, name)
		}
		wantErr(e, c.Tick(e.ctx, "", hourly, nil), dynalock.ErrInvalid)
		over, cancel := context.WithCancel(e.ctx)
		cancel()
		err := c.Tick(over, "job", hourly, fn)
		check(e, err == context.Canceled, "error %v", err) //nolint:errorlint // exactly that
		check(e, wire.Count() == 0, "%d requests", wire.Count())
		wantErr(e, c.Tick(e.ctx, "stuck", stuck{}, fn), dynalock.ErrInvalid)

		must(e, c.Tick(e.ctx, "last", last(time.Now().Add(time.Hour)), fn))
		check(e, ran == 1, "the last tick ran %d times", ran)
		err = c.Tick(e.within(30*time.Minute), "job", hourly, fn)
		check(e, err == context.DeadlineExceeded, "error %v", err) //nolint:errorlint // exactly that

		l := e.acquire(c, "once/locked")
		wantErr(e, c.Tick(e.ctx, "locked", hourly, fn), dynalock.ErrHeld)
		must(e, l.Release(e.ctx))
		e.put("once/foreign", map[string]types.AttributeValue{"a": s("b")})
		wantErr(e, c.Tick(e.ctx, "foreign", hourly, fn), dynalock.ErrForeign)

		time.AfterFunc(10*time.Minute, func() { _ = c.Close(e.ctx) })
		wantErr(e, c.Tick(e.ctx, "job", hourly, fn), dynalock.ErrClosed)
		check(e, ran == 1, "%d runs", ran)
	})
}

func TestEveryIsDueAtMultiplesOfTheIntervalWhereverItIsAskedFrom(t *testing.T) {
	t.Parallel()
	berlin := time.FixedZone("Berlin", 3600)
	for _, tt := range []struct {
		d, offset  time.Duration
		from, want string
	}{
		{5 * time.Minute, 0, "2026-11-30T08:04:59Z", "2026-11-30T08:05:00Z"},
		{5 * time.Minute, 0, "2026-11-30T08:05:00Z", "2026-11-30T08:10:00Z"},
		{5 * time.Minute, time.Minute, "2026-11-30T08:05:30Z", "2026-11-30T08:06:00Z"},
		{24 * time.Hour, 2 * time.Hour, "2026-11-30T01:59:59Z", "2026-11-30T02:00:00Z"},
		{7 * 24 * time.Hour, 0, "2026-11-29T12:00:00Z", "2026-11-30T00:00:00Z"}, // a Monday
	} {
		from, err := time.Parse(time.RFC3339, tt.from)
		must(t, err)
		for _, from := range []time.Time{from, from.In(berlin), from.Add(999 * time.Millisecond)} {
			got := dynalock.Every(tt.d, tt.offset).Next(from)
			check(t, got.Format(time.RFC3339) == tt.want, "every %v + %v after %v: %v, want %s", tt.d, tt.offset, from, got,
				tt.want)
		}
	}
	check(t, dynalock.Every(0, 0).Next(time.Now()).IsZero(), "an interval of 0 has ticks")
}

func TestALateCopyOfTheNoteOfATickTakesNoLaterOneBack(t *testing.T) {
	virtual(t, func(e *env) {
		j := e.tickJob(time.Minute)
		r := j.start()
		r.wire.Inject(testserver.Fault{
			Kind: testserver.KeepCopy, Op: "UpdateItem", Skip: 1, Times: 1,
			Match: func(_ string, body []byte) bool {
				return strings.Contains(string(body), ":seenTick") || strings.Contains(string(body), `"#tick"`)
			},
		})
		time.Sleep(4*time.Minute + 30*time.Second)
		last := text(e.item("once/job")["tick"])
		statuses, err := r.wire.Deliver(e.ctx)
		must(e, err)
		check(e, len(statuses) == 1, "%d copies were kept", len(statuses))
		check(e, text(e.item("once/job")["tick"]) == last, "the last tick is %s, and was %s",
			text(e.item("once/job")["tick"]), last)
	})
}

func TestAReplicaThatFindsTheTickOfAnotherScheduleSaysSoOnceAMinute(t *testing.T) {
	for name, second := range map[string]time.Duration{"the same": 4 * time.Second, "a mistyped": 3 * time.Second} {
		virtually(t, name, func(e *env) {
			var logs [3]*logged
			for i, interval := range []time.Duration{4 * time.Second, 4 * time.Second, second} {
				c, _, _, log := e.recorded()
				logs[i] = log
				ctx := e.within(3 * time.Minute)
				schedule := dynalock.Every(interval, 0)
				go func() {
					_ = c.Tick(ctx, "job", schedule, func(context.Context, *dynalock.Lock, time.Time) error { return nil })
				}()
			}
			time.Sleep(3 * time.Minute)
			for i, log := range logs {
				told := log.records(e, "last tick of a job is not one of this schedule")
				if name == "the same" {
					check(e, len(told) == 0, "replica %d: %v", i, told)
					continue
				}
				least := 0 // one of two alike may always come second, and see the tick of the other
				if i == 2 {
					least = 2
				}
				check(e, len(told) >= least && len(told) <= 3, "replica %d tells %d times of 3 minutes", i, len(told))
				for _, r := range told {
					check(e, r["level"] == "WARN" && r["key"] == "once/job" && r["tick"] != nil, "record is %v", r)
				}
			}
		})
	}
}

func TestTheLogTellsAnInterruptedTickFromOneThatFailedAndOneThatIsGivenUp(t *testing.T) {
	interrupted, failed := "run interrupted", "tick of a job failed"
	open, givenUp := "tick of a job is not done, and is begun again", "tick of a job is given up"
	all := []string{interrupted, failed, open, givenUp}
	for name, tt := range map[string]struct {
		fn   func(ctx context.Context) error
		stop func(c *dynalock.Client, cancel func()) // once the function runs; may be nil
		want map[string]string                       // level by message
	}{
		"a deploy": {
			fn:   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			stop: func(_ *dynalock.Client, cancel func()) { cancel() },
			want: map[string]string{interrupted: "INFO"},
		},
		"Close": {
			fn:   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			stop: func(c *dynalock.Client, _ func()) { _ = c.Close(context.Background()) },
			want: map[string]string{interrupted: "INFO"},
		},
		"an error": {
			fn:   func(context.Context) error { return errors.New("cannot parse") },
			want: map[string]string{failed: "WARN"},
		},
		"not done": {
			fn:   func(context.Context) error { return dynalock.ErrNotDone },
			want: map[string]string{open: "WARN", givenUp: "WARN"},
		},
		"success": {fn: func(context.Context) error { return nil }},
	} {
		virtually(t, name, func(e *env) {
			c, _, _, log := e.recorded()
			ctx, cancel := context.WithCancel(e.ctx)
			defer cancel()
			over, began := make(chan struct{}), make(chan struct{})
			next := last(time.Now().UTC().Truncate(time.Minute).Add(time.Minute))
			go func() {
				defer close(over)
				_ = c.Tick(ctx, "job", next, func(ctx context.Context, _ *dynalock.Lock, _ time.Time) error {
					select {
					case <-began:
					default:
						close(began)
					}
					return tt.fn(ctx)
				}, func(o *dynalock.TickOptions) { o.MaxAttempts = 2 })
			}()
			<-began
			if tt.stop != nil {
				tt.stop(c, cancel)
			}
			<-over
			for _, msg := range all {
				level, told := tt.want[msg]
				records := log.records(e, msg)
				check(e, len(records) > 0 == told, "%d records %q", len(records), msg)
				for _, r := range records {
					check(e, r["level"] == level && strings.HasPrefix(fmt.Sprint(r["key"]), "once/job/") && r["error"] != nil,
						"record is %v", r)
				}
			}
		})
	}
}
