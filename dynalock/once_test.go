package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

func nothing(context.Context, *dynalock.Lock) error { return nil }

func TestOncePeriodRunsOnceAndTheLoserLearnsByWhomAndWithWhatResult(t *testing.T) {
	onServer(t, func(e *env) {
		a, wireA := e.client(func(o *dynalock.Options) { o.Owner = "a" }, long)
		b, wireB := e.client(func(o *dynalock.Options) { o.Owner = "b" }, long)
		run, err := a.Once(e.ctx, "report", "2026-11-21", func(_ context.Context, l *dynalock.Lock) error {
			check(e, l.Held(), "the run does not hold its lock")
			return errors.New("no paper")
		})
		check(e, err != nil && err.Error() == "no paper" && run.Ran && run.Attempt == 1, "run %+v, error %v", run, err)
		check(e, wireA.Count() == 3, "%d requests of the winner, want 3", wireA.Count())
		run, err = b.Once(e.ctx, "report", "2026-11-21", func(context.Context, *dynalock.Lock) error {
			e.Error("ran twice")
			return nil
		})
		must(e, err)
		check(e, !run.Ran && run.By == "a" && run.Err == "no paper" && run.Attempt == 1 && !run.StartedAt.IsZero() && !run.FinishedAt.IsZero(), "run %+v", run)
		check(e, wireB.Count() == 2, "%d requests of the loser, want 2", wireB.Count())
		run, err = b.Once(e.ctx, "report", "2026-11-22", nothing)
		must(e, err)
		check(e, run.Ran, "the next period did not run: %+v", run)
	})
}

func TestAnotherProcessWaitsForTheResultOrIsTold(t *testing.T) {
	virtual(t, func(e *env) {
		a, _ := e.client(func(o *dynalock.Options) { o.Owner = "a" })
		b, _ := e.client()
		started := make(chan struct{})
		go func() {
			_, err := a.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error {
				close(started)
				time.Sleep(10 * lease)
				return nil
			})
			check(e, err == nil, "%v", err)
		}()
		<-started
		run, err := b.Once(e.ctx, "job", "1", nothing, func(o *dynalock.OnceOptions) { o.NoWait = true })
		wantErr(e, err, dynalock.ErrHeld)
		check(e, run.By == "a" && run.FinishedAt.IsZero() && !run.Ran, "run %+v", run)
		run, err = b.Once(e.within(2*lease), "job", "1", nothing)
		wantErr(e, err, dynalock.ErrHeld)
		wantErr(e, err, context.DeadlineExceeded)
		check(e, run.By == "a", "run %+v", run)
		run, err = b.Once(e.ctx, "job", "1", nothing)
		must(e, err)
		check(e, run.By == "a" && !run.Ran && !run.FinishedAt.IsZero(), "run %+v", run)
	})
}

func TestEachOf500PeriodsRunsOnceWhateverTheClocks(t *testing.T) {
	virtual(t, func(e *env) {
		const processes, periods = 8, 500
		var mu sync.Mutex
		ran := map[string]int{}
		var wg sync.WaitGroup
		for p := range processes {
			skew := time.Duration(p) * time.Minute / (processes - 1)
			c, _ := e.client(dynalock.WithClock(skewed{heartbeat.SystemClock(), skew}))
			random := rand.New(rand.NewPCG(7, uint64(p)))
			wg.Go(func() {
				start := time.Now()
				for n := range periods {
					period := fmt.Sprint(n)
					// Each starts the period by its own clock, up to a minute early, and the job takes 5 ms.
					time.Sleep(time.Until(start.Add(time.Duration(n+1)*2*time.Minute - skew + time.Duration(random.Int64N(int64(time.Second))))))
					_, err := c.Once(e.ctx, "job", period, func(context.Context, *dynalock.Lock) error {
						mu.Lock()
						ran[period]++
						mu.Unlock()
						time.Sleep(5 * time.Millisecond)
						return nil
					})
					check(e, err == nil, "%v", err)
				}
			})
		}
		wg.Wait()
		check(e, len(ran) == periods, "%d periods ran, want %d", len(ran), periods)
		for period, n := range ran {
			check(e, n == 1, "period %s ran %d times", period, n)
		}
	})
}

func TestACrashedRunIsBegunAgainButNotMoreOftenThanAllowed(t *testing.T) {
	virtual(t, func(e *env) {
		random := rand.New(rand.NewPCG(1, 1))
		exhausted, repeated := 0, 0
		for n := range 50 {
			period := fmt.Sprint(n)
			begun, finished := 0, 0
			var mu sync.Mutex
			var wg sync.WaitGroup
			for range 5 {
				ctx, die := context.WithCancel(e.ctx)
				c, wire := e.client()
				wg.Go(func() {
					run, err := c.Once(ctx, "job", period, func(context.Context, *dynalock.Lock) error {
						mu.Lock()
						begun++
						crashes := random.IntN(2) == 0
						mu.Unlock()
						if crashes {
							crash(wire)
							die()
							return nil
						}
						mu.Lock()
						finished++
						mu.Unlock()
						return nil
					}, func(o *dynalock.OnceOptions) { o.MaxAttempts = 3 })
					if errors.Is(err, dynalock.ErrExhausted) {
						check(e, run.Attempt == 3, "run %+v", run)
					}
				})
			}
			wg.Wait()
			check(e, begun <= 3, "period %s was begun %d times", period, begun)
			check(e, finished == 1 || begun == 3, "period %s was begun %d and finished %d times", period, begun, finished)
			if finished == 0 {
				exhausted++
			}
			if begun > 1 {
				repeated++
			}
		}
		check(e, exhausted > 0 && repeated > exhausted, "%d exhausted, %d repeated: the test did not reach its cases", exhausted, repeated)
	})
}

func TestAFinishedRunIsKeptForAsLongAsAskedFor(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long)
		for period, want := range map[string]time.Duration{"default": 7 * 24 * time.Hour, "an hour": time.Hour} {
			_, err := c.Once(e.ctx, "job", period, nothing, func(o *dynalock.OnceOptions) {
				if period != "default" {
					o.Keep = want
				}
			})
			must(e, err)
			ttl, err := strconv.ParseInt(text(e.item("once/job/" + period)["ttl"]), 10, 64)
			must(e, err)
			off := time.Until(time.Unix(ttl, 0)) - want
			check(e, off.Abs() < time.Minute, "%s: kept for %v, want %v", period, want+off, want)
		}
	})
}

func TestOfTwoWhoTakeACrashedRunOverOneIsRefused(t *testing.T) {
	virtual(t, func(e *env) {
		dead, wire := e.client()
		ctx, die := context.WithCancel(e.ctx)
		_, err := dead.Once(ctx, "job", "1", func(context.Context, *dynalock.Lock) error { crash(wire); die(); return nil })
		check(e, err != nil, "the run did not crash")
		quick, _ := e.client()
		slow, wire := e.client()
		wire.Inject(testserver.Fault{Op: "UpdateItem", Skip: 1, Times: 1, Delay: lease / 10}) // its take-over: it comes after the other's
		var running atomic.Int64
		var wg sync.WaitGroup
		for _, c := range []*dynalock.Client{quick, slow} {
			wg.Go(func() {
				_, err := c.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error {
					check(e, running.Add(1) == 1, "two run at once")
					time.Sleep(2 * lease)
					running.Add(-1)
					return nil
				})
				check(e, err == nil, "%v", err)
			})
		}
		wg.Wait()
	})
}

func TestOnceRefusesBadInputAndSurvivesAPanic(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client()
		_, err := c.Once(e.ctx, "", "", nothing, func(o *dynalock.OnceOptions) { o.MaxAttempts, o.Keep, o.AtLeast = 0, 0, -1 })
		wantErr(e, err, dynalock.ErrInvalid)
		for _, field := range []string{"job", "period", "MaxAttempts", "Keep", "AtLeast"} {
			check(e, strings.Contains(err.Error(), field), "%q does not name %s", err, field)
		}
		check(e, wire.Count() == 0, "%d requests", wire.Count())
		run, err := c.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error { panic("boom") })
		wantErr(e, err, dynalock.ErrPanicked)
		p, ok := errors.AsType[*dynalock.PanicError](err)
		check(e, ok && p.Value == "boom" && len(p.Stack) > 0, "error %v", err)
		check(e, run.Ran && strings.Contains(run.Err, "boom"), "run %+v", run)
		run, err = c.Once(e.ctx, "job", "1", nothing)
		must(e, err)
		check(e, !run.Ran && strings.Contains(run.Err, "boom"), "run %+v", run)
	})
}

func TestJobsAndPeriodsThatJoinToTheSameTextAreDifferent(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client()
		for _, pair := range [][2]string{{"a/b", "c"}, {"a", "b/c"}, {"a%2Fb", "c"}} {
			run, err := c.Once(e.ctx, pair[0], pair[1], nothing)
			must(e, err)
			check(e, run.Ran, "%q met another job's period", pair)
		}
	})
}

func TestAPausedJobDoesNotStart(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(func(o *dynalock.Options) { o.Owner = "operator" })
		must(e, c.Pause(e.ctx, "job", "database upgrade"))
		for _, atLeast := range []time.Duration{0, time.Second} {
			_, err := c.Once(e.ctx, "job", "1", nothing, func(o *dynalock.OnceOptions) { o.AtLeast = atLeast })
			wantErr(e, err, dynalock.ErrPaused)
			check(e, strings.Contains(err.Error(), "database upgrade") && strings.Contains(err.Error(), "operator"), "error %q", err)
		}
		must(e, c.Unpause(e.ctx, "job"))
		run, err := c.Once(e.ctx, "job", "1", nothing)
		must(e, err)
		check(e, run.Ran, "run %+v", run)
	})
}

func TestAtLeastKeepsTheNextPeriodsFromStartingTooSoon(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		spaced := func(o *dynalock.OnceOptions) { o.AtLeast = time.Minute }
		run, err := c.Once(e.ctx, "job", "1", nothing, spaced)
		must(e, err)
		check(e, run.Ran, "run %+v", run)
		time.Sleep(30 * time.Second)
		_, err = c.Once(e.ctx, "job", "2", nothing, spaced)
		wantErr(e, err, dynalock.ErrTooSoon)
		run, err = c.Once(e.ctx, "job", "1", nothing, spaced) // a late copy of the first
		must(e, err)
		check(e, !run.Ran, "run %+v", run)
		time.Sleep(31 * time.Second)
		run, err = c.Once(e.ctx, "job", "2", nothing, spaced)
		must(e, err)
		check(e, run.Ran, "run %+v", run)
	})
}

func TestRunsListsTheLastRunsOfAJob(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(func(o *dynalock.Options) { o.Namespace = "prod/" })
		for _, period := range []string{"1", "2", "3"} {
			_, err := c.Once(e.ctx, "job", period, nothing)
			must(e, err)
			_, err = c.Once(e.ctx, "job 2", period, nothing)
			must(e, err)
		}
		got := map[string]bool{}
		for run, err := range c.Runs(e.ctx, "job") {
			must(e, err)
			check(e, run.Job == "job" && !run.FinishedAt.IsZero(), "run %+v", run)
			got[run.Period] = true
		}
		check(e, len(got) == 3 && got["1"] && got["2"] && got["3"], "periods %v", got)
	})
}

// skewed is a clock whose wall time is off.
type skewed struct {
	heartbeat.Clock
	by time.Duration
}

func (s skewed) Now() heartbeat.Reading {
	r := s.Clock.Now()
	r.Wall = r.Wall.Add(s.by)
	return r
}
