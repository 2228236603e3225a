package dynalock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
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
		wantErr(e, err, dynalock.ErrRunFailed)
		failed, ok := errors.AsType[*dynalock.RunError](err)
		check(e, ok && failed.Run == run && strings.Contains(err.Error(), "no paper"), "error %v", err)
		check(e, !run.Ran && run.By == "a" && run.Err == "no paper" && run.Attempt == 1 && !run.StartedAt.IsZero() &&
			!run.FinishedAt.IsZero(), "run %+v", run)
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
		ran, by := map[string]int{}, map[string]int{}
		var wg sync.WaitGroup
		for p := range processes {
			skew := time.Duration(p) * time.Minute / (processes - 1)
			c, _ := e.client(dynalock.WithClock(skewed{heartbeat.SystemClock(), skew}),
				func(o *dynalock.Options) { o.Owner = fmt.Sprint(p) })
			random := rand.New(rand.NewPCG(7, uint64(p)))
			wg.Go(func() {
				start := time.Now()
				for n := range periods {
					period := fmt.Sprint(n)
					// Each starts the period by its own clock, up to a minute early, and the job takes 5 ms.
					time.Sleep(time.Until(
						start.Add(time.Duration(n+1)*2*time.Minute - skew + time.Duration(random.Int64N(int64(time.Second))))))
					run, err := c.Once(e.ctx, "job", period, func(context.Context, *dynalock.Lock) error {
						mu.Lock()
						ran[period]++
						by[period] = p
						mu.Unlock()
						time.Sleep(5 * time.Millisecond)
						return nil
					})
					mu.Lock()
					check(e, err == nil && run.Ran == (by[period] == p) && run.By == fmt.Sprint(by[period]) &&
						!run.FinishedAt.IsZero(),
						"run %+v by %d, error %v", run, by[period], err)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		check(e, len(ran) == periods, "%d periods ran, want %d", len(ran), periods)
		for period, n := range ran {
			check(e, n == 1, "period %s ran %d times", period, n)
		}
		e.Logf("%d processes, %d periods: each ran once", processes, len(ran))
	})
}

// death is an instant at which a process that runs a period can die.
type death struct {
	name    string
	at      string // a value that only this request carries: the claim's bound, the finish's result
	applied bool   // whether that request still takes effect
}

var deaths = []death{
	{"before the claim", `":max"`, false},
	{"before the claim's answer", `":max"`, true},
	{"before the finish", `":result"`, false},
	{"before the finish's answer", `":result"`, true},
}

// awaits lets the process behind the wire die at that instant, after so many requests of that kind.
func (d death) awaits(w *testserver.Wire, skip int) {
	kind, dead := testserver.HangBefore, false
	if d.applied {
		kind = testserver.HangAfter
	}
	w.Inject(testserver.Fault{Kind: kind, Match: func(_ string, body []byte) bool {
		if dead || !bytes.Contains(body, []byte(d.at)) {
			return false
		}
		skip--
		dead = skip < 0
		return dead
	}})
	w.Inject(testserver.Fault{Kind: testserver.HangBefore, Match: func(string, []byte) bool { return dead }})
}

func TestWhereverARunDiesItIsRepeatedUnlessItWasFinished(t *testing.T) {
	for i, death := range deaths {
		t.Run(death.name, func(t *testing.T) {
			virtual(t, func(e *env) {
				a, wire := e.client(func(o *dynalock.Options) { o.Owner = "a" })
				b, _ := e.client()
				begun := 0
				count := func(context.Context, *dynalock.Lock) error { begun++; return nil }
				death.awaits(wire, 0)
				_, err := a.Once(e.within(lease/4), "job", "1", count) // then the process is gone
				check(e, err != nil, "the dead process has a result")
				runs := [...]int{0, 0, 1, 1}[i]
				check(e, begun == runs, "the dead process began the run %d times, want %d", begun, runs)
				start := time.Now()
				run, err := b.Once(e.ctx, "job", "1", count)
				must(e, err)
				attempt := [...]int{1, 2, 2, 1}[i]
				check(e, run.Attempt == attempt && run.Ran == (i < 3) && !run.FinishedAt.IsZero(), "run %+v, want attempt %d", run,
					attempt)
				if attempt == 2 {
					check(e, time.Since(start) > lease/2 && time.Since(start) < 2*lease, "repeated %v after the death",
						time.Since(start))
				}
			})
		})
	}
}

func TestALostAnswerNeitherRepeatsARunNorHidesItsResult(t *testing.T) {
	for fault, kind := range map[string]testserver.Kind{
		"lost request": testserver.LoseRequest, "lost answer": testserver.LoseResponse,
		"error before": testserver.FailBefore, "error after": testserver.FailAfter,
		"hung request": testserver.HangBefore, "hung answer": testserver.HangAfter,
	} {
		for request, name := range []string{"claim", "finish"} {
			t.Run(fault+"/"+name, func(t *testing.T) {
				virtual(t, func(e *env) {
					a, wire := e.client(func(o *dynalock.Options) { o.Owner = "a" })
					b, _ := e.client()
					begun := 0
					wire.Inject(testserver.Fault{Kind: kind, Op: "UpdateItem", Skip: request, Times: 1})
					for _, c := range []*dynalock.Client{a, b} {
						run, err := c.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error { begun++; return nil })
						must(e, err)
						check(e, run.By == "a" && run.Ran == (c == a) && run.Attempt == 1 && !run.FinishedAt.IsZero(), "run %+v", run)
					}
					check(e, begun == 1, "begun %d times", begun)
				})
			})
		}
	}
}

func TestHoweverItsProcessesDieAPeriodIsBegunNoMoreOftenThanAllowed(t *testing.T) {
	virtual(t, func(e *env) {
		const processes, periods, allowed = 8, 30, 2
		random := rand.New(rand.NewPCG(2, 2))
		died, exhausted, repeated := map[string]int{}, 0, 0
		for n := range periods {
			period := fmt.Sprint(n)
			var mu sync.Mutex
			begun, attempts := 0, 0
			var wg sync.WaitGroup
			for p := range processes {
				ctx := e.ctx
				c, wire := e.client(dynalock.WithClock(
					skewed{heartbeat.SystemClock(), time.Duration(p) * time.Minute / (processes - 1)}))
				i := random.IntN(len(deaths) + 1)
				if n == 0 { // all die before the finish: one period surely is begun again, and exhausted
					i = 2
				}
				if i < len(deaths) {
					d := deaths[i]
					skip := 0
					if strings.Contains(d.at, "max") {
						skip = random.IntN(2) // the first claim, or after a refusal the one that takes over
					}
					d.awaits(wire, skip)
					died[d.name]++
					ctx = e.within(10 * lease)
				}
				wg.Go(func() {
					run, err := c.Once(ctx, "job", period, func(context.Context, *dynalock.Lock) error {
						mu.Lock()
						defer mu.Unlock()
						begun++
						return nil
					}, func(o *dynalock.OnceOptions) { o.MaxAttempts = allowed })
					mu.Lock()
					defer mu.Unlock()
					attempts = max(attempts, run.Attempt)
					if errors.Is(err, dynalock.ErrExhausted) {
						check(e, run.Attempt == allowed, "run %+v", run)
					}
				})
			}
			wg.Wait()
			check(e, begun <= allowed && attempts <= allowed, "period %s was begun %d times in %d attempts", period, begun,
				attempts)
			c, _ := e.client()
			run, err := c.Once(e.ctx, "job", period, nothing, func(o *dynalock.OnceOptions) { o.MaxAttempts = allowed })
			switch {
			case errors.Is(err, dynalock.ErrExhausted):
				check(e, run.FinishedAt.IsZero() && run.Attempt == allowed, "run %+v", run)
				exhausted++
			default:
				check(e, err == nil && !run.FinishedAt.IsZero(), "run %+v, error %v", run, err)
			}
			if begun > 1 {
				repeated++
			}
		}
		e.Logf("%d processes, %d periods: %d repeated, %d begun %d times and never finished; deaths %v", processes, periods,
			repeated, exhausted, allowed, died)
		check(e, repeated > 0 && exhausted > 0 && len(died) == len(deaths), "the test did not reach its cases")
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
		check(e, exhausted > 0 && repeated > exhausted, "%d exhausted, %d repeated: the test did not reach its cases",
			exhausted, repeated)
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

func TestARunThatAnOperatorFreedIsBegunAgainButNotMoreOftenThanAllowed(t *testing.T) {
	virtual(t, func(e *env) {
		most := func(n int) func(*dynalock.OnceOptions) {
			return func(o *dynalock.OnceOptions) { o.MaxAttempts = n }
		}
		dead, wire := e.client()
		ctx, die := context.WithCancel(e.ctx)
		_, err := dead.Once(ctx, "job", "1", func(context.Context, *dynalock.Lock) error { crash(wire); die(); return nil })
		check(e, err != nil, "the run did not crash")
		c, _ := e.client()
		r, err := c.Get(e.ctx, "once/job/1")
		must(e, err)
		must(e, c.ForceRelease(e.ctx, r))
		run, err := c.Once(e.ctx, "job", "1", nothing, most(1))
		wantErr(e, err, dynalock.ErrExhausted)
		check(e, !run.Ran && run.Attempt == 1, "run %+v", run)
		run, err = c.Once(e.ctx, "job", "1", nothing, most(2))
		must(e, err)
		check(e, run.Ran && run.Attempt == 2, "run %+v", run)
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
		// its take-over: it comes after the other's
		wire.Inject(testserver.Fault{Op: "UpdateItem", Skip: 1, Times: 1, Delay: lease / 10})
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
		_, err := c.Once(e.ctx, "", "", nothing, func(o *dynalock.OnceOptions) {
			o.MaxAttempts, o.Keep, o.AtLeast, o.RetryOnError, o.RetryPause = -1, time.Minute, -1, 1001, -1
		})
		wantErr(e, err, dynalock.ErrInvalid)
		for _, field := range []string{"job", "period", "MaxAttempts", "Keep", "AtLeast", "RetryOnError", "RetryPause"} {
			check(e, strings.Contains(err.Error(), field), "%q does not name %s", err, field)
		}
		check(e, wire.Count() == 0, "%d requests", wire.Count())
		run, err := c.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error { panic("boom") })
		wantErr(e, err, dynalock.ErrPanicked)
		p, ok := errors.AsType[*dynalock.PanicError](err)
		check(e, ok && p.Value == "boom" && len(p.Stack) > 0, "error %v", err)
		check(e, run.Ran && strings.Contains(run.Err, "boom"), "run %+v", run)
		run, err = c.Once(e.ctx, "job", "1", nothing)
		wantErr(e, err, dynalock.ErrRunFailed)
		check(e, !run.Ran && strings.Contains(run.Err, "boom"), "run %+v", run)
		for r, err := range c.Records(e.ctx) {
			must(e, err)
			check(e, r.State == dynalock.Free, "%s is %v after the panic", r.Key, r.State)
		}
	})
}

func TestAFunctionThatEndsItsGoroutineLeavesNoLock(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = c.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error {
				runtime.Goexit() // what t.FailNow does
				return nil
			})
			e.Error("it went on")
		}()
		<-ended
		run, err := c.Once(e.within(lease), "job", "1", nothing)
		wantErr(e, err, dynalock.ErrRunFailed)
		check(e, !run.Ran && run.Attempt == 1 && strings.Contains(run.Err, "Goexit"), "run %+v", run)
	})
}

func TestARunThatWasReleasedIsNotRecordedAndItsCallerIsTold(t *testing.T) {
	for name, release := range map[string]func(ctx context.Context, c *dynalock.Client, l *dynalock.Lock) error{
		"by the function": func(ctx context.Context, _ *dynalock.Client,
			l *dynalock.Lock,
		) error {
			return l.Release(ctx)
		},
		"by its own call of Close": func(ctx context.Context, c *dynalock.Client,
			_ *dynalock.Lock,
		) error {
			return c.Close(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				a, _ := e.client()
				b, _ := e.client()
				run, err := a.Once(e.ctx, "job", "1", func(ctx context.Context, l *dynalock.Lock) error {
					must(e, release(ctx, a, l))
					return nil
				})
				wantErr(e, err, dynalock.ErrReleased)
				check(e, run.Ran, "run %+v", run)
				run, err = b.Once(e.ctx, "job", "1", nothing)
				must(e, err)
				check(e, run.Ran && run.Attempt == 2, "run %+v", run)
			})
		})
	}
}

func TestARunWithoutHeartbeatsEndsAtItsDeadlineAndIsBegunAgainElsewhere(t *testing.T) {
	virtual(t, func(e *env) {
		static := func(o *dynalock.OnceOptions) { o.NoHeartbeat, o.NoWait = true, true }
		a, wire := e.client()
		b, _ := e.client(func(o *dynalock.Options) { o.MaxClockSkew = time.Second })
		run, err := a.Once(e.ctx, "job", "1", func(ctx context.Context, l *dynalock.Lock) error {
			time.Sleep(lease*4/5 - 20*time.Millisecond)
			check(e, l.Held() && ctx.Err() == nil, "it was lost before its deadline")
			check(e, wire.Count("UpdateItem") == 1, "%d writes while it ran, want the one that claimed it",
				wire.Count("UpdateItem"))
			<-ctx.Done()
			check(e, !l.Held(), "it holds its lock for longer than the lease")
			wantErr(e, context.Cause(ctx), heartbeat.ErrDeadline)
			_, err := b.Once(e.ctx, "job", "1", nothing, static)
			wantErr(e, err, dynalock.ErrHeld) // others wait for the whole lease, and the skew
			time.Sleep(lease/5 + time.Second + 20*time.Millisecond)
			again, err := b.Once(e.ctx, "job", "1", nothing, static)
			must(e, err)
			check(e, again.Ran && again.Attempt == 2, "run %+v", again)
			return nil
		}, static)
		wantErr(e, err, dynalock.ErrLost)
		check(e, run.Ran && run.Attempt == 1, "run %+v", run)
	})
}

func TestARunThatGivesItsLockBackIsUnfinishedAndBegunAgain(t *testing.T) {
	onServer(t, func(e *env) {
		noTime := errors.New("no time")
		for attempt := 1; attempt <= 2; attempt++ {
			c, _ := e.client()
			run, err := c.Once(e.ctx, "job", "1", func(ctx context.Context, l *dynalock.Lock) error {
				return errors.Join(noTime, l.Release(ctx))
			}, func(o *dynalock.OnceOptions) { o.MaxAttempts = 3 })
			wantErr(e, err, noTime)
			check(e, !errors.Is(err, dynalock.ErrLost) && run.Ran && run.Attempt == attempt, "run %+v, error %v", run, err)
		}
		c, _ := e.client()
		run, err := c.Once(e.ctx, "job", "1", nothing, func(o *dynalock.OnceOptions) { o.MaxAttempts = 3 })
		must(e, err)
		check(e, run.Ran && run.Attempt == 3, "run %+v", run)
		run, err = c.Once(e.ctx, "job", "1", nothing)
		must(e, err)
		check(e, !run.Ran && run.Attempt == 3 && run.Err == "", "run %+v", run)
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

func TestARunThatAnOperatorFreedWhileItsEndWasInDoubtIsLost(t *testing.T) {
	virtual(t, func(e *env) {
		a, _ := e.client()
		ops, _ := e.client()
		freed := make(chan error, 1)
		run, err := a.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error {
			// the end of the run
			e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.LostRequest, Operation: "UpdateItem", Times: 1})
			go func() {
				time.Sleep(lease / 100)
				r, err := ops.Get(e.ctx, "once/job/1")
				if err == nil {
					err = ops.ForceRelease(e.ctx, r)
				}
				freed <- err
			}()
			return nil
		})
		must(e, <-freed)
		wantErr(e, err, dynalock.ErrLost)
		check(e, run.Ran, "run %+v", run)
		run, err = a.Once(e.ctx, "job", "1", nothing)
		must(e, err)
		check(e, run.Ran && run.Attempt == 2, "run %+v", run)
	})
}

func TestARunWhoseLockIsReleasedMeanwhileSaysThatItIsNotFinished(t *testing.T) {
	for name, release := range map[string]func(ctx context.Context, c *dynalock.Client, l *dynalock.Lock) error{
		"by Close":        func(ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error { return c.Close(ctx) },
		"by the function": func(ctx context.Context, _ *dynalock.Client, l *dynalock.Lock) error { return l.Release(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			onServer(t, func(e *env) {
				a, _ := e.client()
				run, err := a.Once(e.ctx, "job", "1", func(ctx context.Context, l *dynalock.Lock) error {
					must(e, release(ctx, a, l))
					<-ctx.Done() // soon after the lock's own
					wantErr(e, context.Cause(ctx), dynalock.ErrReleased)
					return nil
				})
				wantErr(e, err, dynalock.ErrReleased)
				check(e, run.Ran && run.FinishedAt.IsZero(), "run %+v", run)
				b, _ := e.client()
				run, err = b.Once(e.ctx, "job", "1", nothing)
				must(e, err)
				check(e, run.Ran && run.Attempt == 2, "run %+v", run)
			})
		})
	}
}

func TestALockUnderTheKeyOfARunIsForeignToOnceWhichDoesNotWriteForEver(t *testing.T) {
	for name, leave := range map[string]func(e *env, l *dynalock.Lock, wire *testserver.Wire){
		"released": func(e *env, l *dynalock.Lock, _ *testserver.Wire) { must(e, l.Release(e.ctx)) },
		"dead":     func(_ *env, _ *dynalock.Lock, wire *testserver.Wire) { crash(wire) },
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				a, wireA := e.client()
				leave(e, e.acquire(a, "once/job/1"), wireA)
				b, wireB := e.client()
				_, err := b.Once(e.within(20*lease), "job", "1", nothing)
				wantErr(e, err, dynalock.ErrForeign)
				check(e, wireB.Count("UpdateItem") == 1, "%d writes", wireB.Count("UpdateItem"))
				_, err = b.Once(e.ctx, "job", "1", nothing, func(o *dynalock.OnceOptions) { o.NoWait = true })
				wantErr(e, err, dynalock.ErrForeign)
				check(e, wireB.Count("UpdateItem") == 2, "%d writes", wireB.Count("UpdateItem"))
			})
		})
	}
}

func TestALostRunHasNoEnd(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		run, err := c.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error {
			e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.Throttled, Operation: "UpdateItem"})
			time.Sleep(2 * lease)
			return nil
		})
		wantErr(e, err, dynalock.ErrLost)
		check(e, run.Ran && run.FinishedAt.IsZero(), "run %+v", run)
	})
}

func TestClaimsWhoseCallersHadGoneDoNotCountAsAttempts(t *testing.T) {
	for name, f := range map[string]dynalocktest.Fault{
		"the answer came too late": {Kind: dynalocktest.SlowResponse, Delay: 100 * time.Millisecond},
		"the answer was lost":      {Kind: dynalocktest.LostResponse},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, wire := e.client()
				f.Operation, f.Times = "UpdateItem", 1
				for range 5 {
					e.embedded.Inject(f)
					_, err := c.Once(e.within(50*time.Millisecond), "job", "1", func(context.Context, *dynalock.Lock) error {
						e.Error("it ran")
						return nil
					})
					wantErr(e, err, context.DeadlineExceeded)
					// what gives it back is sent twice
					wire.Inject(testserver.Fault{Kind: testserver.HangAfter, Op: "UpdateItem", Times: 1})
					time.Sleep(2 * lease)
				}
				for r, err := range c.Runs(e.ctx, "job") {
					e.Errorf("a run that never began is listed: %+v, %v", r, err)
				}
				run, err := c.Once(e.ctx, "job", "1", nothing)
				must(e, err)
				check(e, run.Ran && run.Attempt == 1, "run %+v", run)
			})
		})
	}
}

func TestOnceNotesNoStartForBadInputOrAClosedClient(t *testing.T) {
	virtual(t, func(e *env) {
		spaced := func(o *dynalock.OnceOptions) { o.AtLeast = time.Hour }
		c, wire := e.client()
		_, err := c.Once(e.ctx, "job", "1", nothing, spaced, func(o *dynalock.OnceOptions) { o.Lease = time.Millisecond })
		wantErr(e, err, dynalock.ErrInvalid)
		_, err = c.Once(e.ctx, "job", "1", nothing, spaced,
			func(o *dynalock.OnceOptions) { o.Reason = strings.Repeat("x", 257) })
		wantErr(e, err, dynalock.ErrInvalid)
		must(e, c.Close(e.ctx))
		_, err = c.Once(e.ctx, "job", "1", nothing, spaced)
		wantErr(e, err, dynalock.ErrClosed)
		check(e, wire.Count() == 0, "requests: %v", wire.Counts())
	})
}

func TestRetentionForgetsNoAttemptsOfARun(t *testing.T) {
	virtual(t, func(e *env) {
		must(e, dynalock.CreateTable(e.ctx, e.connect(), e.table, func(o *dynalock.TableOptions) { o.TimeToLive = true }))
		c, _ := e.client(func(o *dynalock.Options) { o.Retention = 15 * time.Minute })
		begun := 0
		for range 6 {
			_, err := c.Once(e.ctx, "job", "1", func(ctx context.Context, l *dynalock.Lock) error {
				begun++
				if begun == 1 {
					return l.Release(ctx)
				}
				r, err := c.Get(ctx, l.Key())
				must(e, err)
				return c.ForceRelease(ctx, r)
			}, func(o *dynalock.OnceOptions) { o.MaxAttempts = 2 })
			check(e, err != nil, "it is finished")
			time.Sleep(time.Hour)
			e.embedded.ExpireItems()
		}
		check(e, begun == 2, "begun %d times", begun)
	})
}

func TestRetentionForgetsNoAttemptsOfARunWhoseLastClaimWasGivenBack(t *testing.T) {
	for name, f := range map[string]dynalocktest.Fault{
		"the answer came too late": {Kind: dynalocktest.SlowResponse, Delay: 100 * time.Millisecond},
		"the answer was lost":      {Kind: dynalocktest.LostResponse},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				must(e, dynalock.CreateTable(e.ctx, e.connect(), e.table, func(o *dynalock.TableOptions) { o.TimeToLive = true }))
				c, _ := e.client(func(o *dynalock.Options) { o.Retention = 15 * time.Minute })
				unfinished := func(ctx context.Context, l *dynalock.Lock) error { return l.Release(ctx) }
				run, err := c.Once(e.ctx, "job", "1", unfinished)
				wantErr(e, err, dynalock.ErrReleased)
				check(e, run.Attempt == 1, "run %+v", run)
				f.Operation, f.Times = "UpdateItem", 1
				e.embedded.Inject(f) // the claim of the second attempt
				_, err = c.Once(e.within(50*time.Millisecond), "job", "1", unfinished)
				wantErr(e, err, context.DeadlineExceeded)
				time.Sleep(time.Hour)
				e.embedded.ExpireItems()
				run, err = c.Once(e.ctx, "job", "1", nothing)
				must(e, err)
				check(e, run.Ran && run.Attempt == 2, "run %+v", run)
			})
		})
	}
}

func TestARunThatWasToldToStopIsBegunAgainAtOnceAndDoesNotCountAsAnAttempt(t *testing.T) {
	onServer(t, func(e *env) {
		once := func(o *dynalock.OnceOptions) { o.MaxAttempts = 1 }
		sent := 0
		for deploy := 1; deploy <= 3; deploy++ {
			c, _ := e.client()
			ctx, deployed := context.WithCancel(e.ctx)
			run, err := c.Once(ctx, "invoices", "2026-11", func(ctx context.Context, _ *dynalock.Lock) error {
				sent = 3 // of 10
				deployed()
				<-ctx.Done()
				return fmt.Errorf("after %d of 10: %w", sent, ctx.Err())
			}, once)
			wantErr(e, err, context.Canceled)
			wantErr(e, err, dynalock.ErrNotDone)
			check(e, run.Ran && run.FinishedAt.IsZero() && run.Attempt == deploy && strings.HasPrefix(run.Err, "after 3 of 10"),
				"run %+v", run)
		}
		c, _ := e.client()
		run, err := c.Once(e.within(lease/2), "invoices", "2026-11", nothing, once)
		must(e, err)
		check(e, run.Ran && run.Attempt == 4 && run.Err == "", "run %+v", run)
		run, err = c.Once(e.ctx, "invoices", "2026-11", nothing, once)
		check(e, err == nil && !run.Ran && run.Err == "" && run.Attempt == 4, "run %+v, error %v", run, err)
	})
}

func TestAFunctionThatReturnsNilThoughItsContextEndedHasFinished(t *testing.T) {
	onServer(t, func(e *env) {
		a, _ := e.client()
		ctx, cancel := context.WithCancel(e.ctx)
		run, err := a.Once(ctx, "job", "1", func(ctx context.Context, _ *dynalock.Lock) error {
			cancel()
			<-ctx.Done()
			return nil
		})
		check(e, !errors.Is(err, dynalock.ErrNotDone) && run.Ran && !run.FinishedAt.IsZero(), "run %+v, error %v", run, err)
		b, _ := e.client()
		run, err = b.Once(e.ctx, "job", "1", nothing)
		check(e, err == nil && !run.Ran, "run %+v, error %v", run, err)
	})
}

func TestAFunctionThatPanicsAfterItWasToldToStopHasFailed(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		ctx, cancel := context.WithCancel(e.ctx)
		_, err := c.Once(ctx, "job", "1", func(ctx context.Context, _ *dynalock.Lock) error {
			cancel()
			<-ctx.Done()
			panic("half of it is written")
		}, func(o *dynalock.OnceOptions) { o.RetryOnError = 3 })
		wantErr(e, err, dynalock.ErrPanicked)
		check(e, !errors.Is(err, dynalock.ErrNotDone), "error %v", err)
		_, err = c.Once(e.ctx, "job", "1", nothing)
		wantErr(e, err, dynalock.ErrRunFailed)
	})
}

func TestARunOfThisProcessIsToldWithAllItsAttempts(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		ctx, deployed := context.WithCancel(e.ctx)
		_, err := c.Once(ctx, "job", "1", func(ctx context.Context, _ *dynalock.Lock) error {
			deployed()
			return ctx.Err()
		})
		wantErr(e, err, dynalock.ErrNotDone)
		run, err := c.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error {
			seen, err := c.Once(e.within(lease/10), "job", "1", nothing)
			wantErr(e, err, dynalock.ErrHeld)
			check(e, !seen.Ran && seen.Attempt == 2, "run %+v", seen)
			return nil
		})
		must(e, err)
		check(e, run.Ran && run.Attempt == 2, "run %+v", run)
	})
}

func TestAFunctionThatIsToldToStopForEverIsBegunForEverBySomeAndNotByAll(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		begun := 0
		var err error
		for range 200 {
			ctx, cancel := context.WithCancel(e.ctx)
			_, err = c.Once(ctx, "job", "1", func(ctx context.Context, _ *dynalock.Lock) error {
				begun++
				cancel()
				<-ctx.Done()
				return ctx.Err()
			})
			cancel()
			if errors.Is(err, dynalock.ErrExhausted) {
				break
			}
			wantErr(e, err, dynalock.ErrNotDone)
		}
		wantErr(e, err, dynalock.ErrExhausted)
		check(e, begun == 100+3, "begun %d times, want 100 that do not count and 3 that do", begun)
	})
}

func TestAFunctionThatFailsWhenItsLockIsLostLeavesThePeriodOpenAndCountsAsAnAttempt(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		once := func(o *dynalock.OnceOptions) { o.MaxAttempts = 1 }
		run, err := c.Once(e.ctx, "job", "1", func(ctx context.Context, _ *dynalock.Lock) error {
			remove := e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.Throttled, Operation: "UpdateItem"})
			<-ctx.Done()
			remove()
			return context.Cause(ctx)
		}, once)
		wantErr(e, err, dynalock.ErrLost)
		check(e, run.FinishedAt.IsZero(), "run %+v", run)
		_, err = c.Once(e.ctx, "job", "1", nothing, once)
		wantErr(e, err, dynalock.ErrExhausted)
	})
}

func TestAFunctionThatSaysNotDoneIsBegunAgainAtOnceByWhoeverAsksAsOftenAsAllowed(t *testing.T) {
	onServer(t, func(e *env) {
		a, _ := e.client(long)
		b, _ := e.client(long)
		notDone := func(context.Context, *dynalock.Lock) error {
			return fmt.Errorf("the file has not come: %w", dynalock.ErrNotDone)
		}
		inLine := make(chan dynalock.Run, 1)
		run, err := a.Once(e.ctx, "job", "1", func(ctx context.Context, l *dynalock.Lock) error {
			go func() {
				run, err := b.Once(e.within(20*time.Second), "job", "1", notDone)
				check(e, errors.Is(err, dynalock.ErrNotDone), "who waited gets %v", err)
				inLine <- run
			}()
			time.Sleep(lease / 10)
			return notDone(ctx, l)
		})
		wantErr(e, err, dynalock.ErrNotDone)
		check(e, run.Ran && run.Attempt == 1 && run.FinishedAt.IsZero() &&
			strings.HasPrefix(run.Err, "the file has not come"), "run %+v", run)
		run = <-inLine
		check(e, run.Ran && run.Attempt == 2, "who waited has run %+v", run)
		_, err = a.Once(e.ctx, "job", "1", notDone)
		wantErr(e, err, dynalock.ErrNotDone)
		run, err = a.Once(e.ctx, "job", "1", nothing)
		wantErr(e, err, dynalock.ErrExhausted)
		check(e, run.Attempt == 3 && strings.HasPrefix(run.Err, "the file has not come"), "run %+v", run)
	})
}

func TestRetryOnErrorCallsTheFunctionAgainAfterAPauseUnderTheSameLock(t *testing.T) {
	virtual(t, func(e *env) {
		const pause = 20 * time.Second
		retry := func(o *dynalock.OnceOptions) { o.RetryOnError, o.RetryPause = 2, pause }
		for failures := range 4 {
			c, _ := e.client()
			period := fmt.Sprint(failures)
			var calls []time.Time
			tokens := map[uint64]bool{}
			run, err := c.Once(e.ctx, "job", period, func(_ context.Context, l *dynalock.Lock) error {
				calls = append(calls, time.Now())
				tokens[l.Token()] = true
				check(e, l.Held(), "the lock is not held")
				switch {
				case len(calls) > failures:
					return nil
				case len(calls) == 1:
					panic("smtp down")
				}
				return errors.New("smtp down")
			}, retry)
			check(e, len(calls) == min(failures+1, 3) && len(tokens) == 1 && run.Attempt == 1, "%d failures: %d calls, run %+v",
				failures, len(calls), run)
			for i := 1; i < len(calls); i++ {
				gap := calls[i].Sub(calls[i-1])
				check(e, gap >= pause && gap < pause+time.Second, "called again after %v", gap)
			}
			_, again := c.Once(e.ctx, "job", period, nothing)
			if failures < 3 {
				check(e, err == nil && again == nil && run.Err == "", "%d failures: run %+v, error %v, then %v", failures, run, err,
					again)
			} else {
				check(e, err != nil && run.Err == "smtp down" && !run.FinishedAt.IsZero(), "run %+v, error %v", run, err)
				wantErr(e, again, dynalock.ErrRunFailed)
			}
		}
	})
}

func TestARunThatFailedIsNotTriedAgainOnceItIsToldToStopOrItsJobIsPausedOrItIsNotDone(t *testing.T) {
	for name, end := range map[string]func(e *env, c *dynalock.Client, stop func()) (error, error){
		"told to stop": func(_ *env, _ *dynalock.Client, stop func()) (error, error) {
			time.AfterFunc(time.Second, stop)
			return errors.New("smtp down"), dynalock.ErrNotDone
		},
		"closed": func(e *env, c *dynalock.Client, _ func()) (error, error) {
			time.AfterFunc(time.Second, func() { _ = c.Close(e.ctx) })
			return errors.New("smtp down"), dynalock.ErrNotDone
		},
		"paused": func(e *env, c *dynalock.Client, _ func()) (error, error) {
			must(e, c.Pause(e.ctx, "job", "smtp is down"))
			return errors.New("smtp down"), dynalock.ErrPaused
		},
		"not done": func(*env, *dynalock.Client, func()) (error, error) {
			return dynalock.ErrNotDone, dynalock.ErrNotDone
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, _ := e.client()
				ctx, stop := context.WithCancel(e.ctx)
				defer stop()
				calls := 0
				var want error
				_, err := c.Once(ctx, "job", "1", func(context.Context, *dynalock.Lock) (err error) {
					calls++
					err, want = end(e, c, stop)
					return err
				}, func(o *dynalock.OnceOptions) { o.RetryOnError, o.RetryPause = 5, time.Minute })
				wantErr(e, err, want)
				check(e, calls == 1, "called %d times", calls)
				d, _ := e.client()
				must(e, d.Unpause(e.ctx, "job"))
				run, err := d.Once(e.within(lease/2), "job", "1", nothing)
				check(e, err == nil && run.Ran, "run %+v, error %v", run, err)
			})
		})
	}
}

func TestWhatIsSaidOfAnExhaustedRunIsTrueAndTellsItsLastError(t *testing.T) {
	virtual(t, func(e *env) {
		c, _, _, log := e.recorded(func(o *dynalock.Options) { o.Owner = "worker" })
		fn := func(context.Context, *dynalock.Lock) error {
			return fmt.Errorf("cannot parse\nline 7: %w", dynalock.ErrNotDone)
		}
		twice := func(o *dynalock.OnceOptions) { o.MaxAttempts = 2 }
		for range 2 {
			_, err := c.Once(e.ctx, "daily", "1", fn, twice)
			wantErr(e, err, dynalock.ErrNotDone)
		}
		run, err := c.Once(e.ctx, "daily", "1", fn, twice)
		wantErr(e, err, dynalock.ErrExhausted)
		for _, told := range []string{`"1" of "daily"`, "2 times", `"worker"`, "cannot parse"} {
			check(e, strings.Contains(err.Error(), told), "%q does not tell %s", err, told)
		}
		check(e, !strings.Contains(err.Error(), "\n") && strings.Contains(run.Err, "cannot parse"), "%q, %+v", err, run)
		records := log.records(e, "lock not acquired")
		said := fmt.Sprint(records[len(records)-1]["error"])
		check(e, strings.Contains(said, "begun 2 times") && !strings.Contains(said, "has run"), "the log says %s", said)
	})
}

func TestOnceWithoutAFunctionFinishesNoPeriod(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		_, err := c.Once(e.ctx, "job", "1", nil)
		wantErr(e, err, dynalock.ErrInvalid)
		check(e, wire.Count() == 0, "%d requests", wire.Count())
	})
}

func TestARunThatIsToldToStopSaysSoInOneLine(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		ctx, cancel := context.WithCancel(e.ctx)
		_, err := c.Once(ctx, "job", "1", func(ctx context.Context, _ *dynalock.Lock) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		wantErr(e, err, dynalock.ErrNotDone)
		wantErr(e, err, context.Canceled)
		check(e, !strings.Contains(err.Error(), "\n"), "it says: %v", err)
	})
}

func TestARunThatLostItsLockIsNotDoneUnlessItsEndWasRecorded(t *testing.T) {
	for name, tt := range map[string]struct {
		taken, answers bool // by another process; DynamoDB answers again when the function returns
		result         error
		open, finished bool
	}{
		"taken over":               {taken: true, answers: true, open: true},
		"taken over, and failed":   {taken: true, answers: true, result: errors.New("no"), open: true},
		"recorded for all that":    {answers: true, finished: true},
		"given back with an error": {answers: true, result: errors.New("no"), open: true},
		"not known":                {},
	} {
		virtually(t, name, func(e *env) {
			c, wire := e.client()
			other, _ := e.client()
			run, err := c.Once(e.ctx, "job", "1", func(ctx context.Context, _ *dynalock.Lock) error {
				remove := wire.Inject(outages["a reset"].fault)
				<-ctx.Done()
				if tt.taken {
					_, err := other.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error { return dynalock.ErrNotDone })
					wantErr(e, err, dynalock.ErrNotDone)
				}
				if tt.answers {
					remove()
				}
				return tt.result
			})
			wantErr(e, err, dynalock.ErrLost)
			check(e, errors.Is(err, dynalock.ErrNotDone) == tt.open && run.FinishedAt.IsZero() != tt.finished, "%+v, %v", run,
				err)
			if !tt.answers {
				return
			}
			ran := false
			_, err = other.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error { ran = true; return nil })
			must(e, err)
			check(e, ran == tt.open, "it runs again: %v", ran)
		})
	}
}
