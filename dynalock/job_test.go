package dynalock_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

func TestAPausedJobDoesNotStart(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(func(o *dynalock.Options) { o.Owner = "operator" })
		must(e, c.Pause(e.ctx, "job", "database upgrade"))
		for _, atLeast := range []time.Duration{0, time.Second} {
			_, err := c.Once(e.ctx, "job", "1", nothing, func(o *dynalock.OnceOptions) { o.AtLeast = atLeast })
			wantErr(e, err, dynalock.ErrPaused)
			check(e, strings.Contains(err.Error(), "database upgrade") && strings.Contains(err.Error(), "operator"), "error %q",
				err)
		}
		must(e, c.Unpause(e.ctx, "job"))
		run, err := c.Once(e.ctx, "job", "1", nothing)
		must(e, err)
		check(e, run.Ran, "run %+v", run)
	})
}

func TestALateCopyOfAPauseOrItsEndUndoesNothingThatCameAfter(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client()
		late := func(call func() error) { // a copy of its write stays on the way
			wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "UpdateItem", Times: 1})
			must(e, call())
		}
		pause := func() error { return c.Pause(e.ctx, "job", "") }
		unpause := func() error { return c.Unpause(e.ctx, "job") }
		paused := func() bool { return e.item("once/job")["paused"] != nil }
		late(pause) // of a job that is new, and of one that is known
		must(e, unpause())
		_, err := wire.Deliver(e.ctx)
		must(e, err)
		check(e, !paused(), "the copy paused it again")
		late(func() error { // not even behind a late copy of a start, which brings the version back that it had seen
			_, err := c.Once(e.ctx, "job", "1", nothing, func(o *dynalock.OnceOptions) { o.AtLeast = time.Minute })
			return err
		})
		late(pause)
		must(e, unpause())
		_, err = wire.Deliver(e.ctx)
		must(e, err)
		check(e, !paused(), "the copy paused it again")
		must(e, pause())
		late(unpause)
		must(e, pause())
		_, err = wire.Deliver(e.ctx)
		must(e, err)
		check(e, paused(), "the copy ended the pause that came after")
	})
}

func TestALateCopyOfAnUnpauseDoesNotEndTheRepetitionOfThePauseThatItEnded(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		other, late := e.client()
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1})
		done := make(chan error, 1)
		go func() { done <- c.Pause(e.ctx, "job", "") }()
		time.Sleep(5 * time.Millisecond) // it is applied, and will be looked for
		late.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "UpdateItem", Times: 1})
		must(e, other.Unpause(e.ctx, "job"))
		must(e, <-done)
		check(e, e.item("once/job")["paused"] != nil, "Pause returned nil, and the job is not paused")
		_, err := late.Deliver(e.ctx)
		must(e, err)
		check(e, e.item("once/job")["paused"] != nil, "the copy ended the pause that came after")
	})
}

func TestAPauseIsKnownToBeAppliedThoughItsAnswersAreLost(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		for range 2 {
			wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1})
			must(e, c.Pause(e.ctx, "job", ""))
			check(e, e.item("once/job")["paused"] != nil, "not paused")
			wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1})
			must(e, c.Unpause(e.ctx, "job"))
			check(e, e.item("once/job")["paused"] == nil, "still paused")
		}
	})
}

func TestWhatIsNotOfAJobIsNeitherPausedNorStartedOver(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client()
		spaced := func(o *dynalock.OnceOptions) { o.AtLeast = time.Second }
		l := e.acquire(c, "once/lock")
		foreign := map[string]types.AttributeValue{"ownerName": s("somebody")}
		e.put("once/row", foreign)
		for job, want := range map[string]error{"lock": dynalock.ErrHeld, "row": dynalock.ErrForeign} {
			wantErr(e, c.Pause(e.ctx, job, ""), want)
			wantErr(e, c.Unpause(e.ctx, job), want)
			_, err := c.Once(e.ctx, job, "1", nothing, spaced)
			wantErr(e, err, want)
		}
		check(e, len(e.item("once/row")) == len(foreign), "the foreign row became %v", e.item("once/row"))
		must(e, l.Renew(e.ctx))

		must(e, c.Unpause(e.ctx, "job"))
		check(e, len(e.item("once/job")) == 0, "a job that was not paused became %v", e.item("once/job"))
		wantErr(e, c.Pause(e.ctx, "job", "\xff"), dynalock.ErrInvalid)
	})
}

func TestAPausedJobDoesNotBeginACrashedRunAgain(t *testing.T) {
	virtual(t, func(e *env) {
		spaced := func(o *dynalock.OnceOptions) { o.AtLeast = time.Second }
		a, wire := e.client()
		ctx, die := context.WithCancel(e.ctx)
		_, err := a.Once(ctx, "job", "1", func(context.Context, *dynalock.Lock) error {
			crash(wire)
			die()
			return nil
		}, spaced)
		wantErr(e, err, context.Canceled)
		b, _ := e.client()
		must(e, b.Pause(e.ctx, "job", "database upgrade"))
		time.Sleep(2 * lease)
		_, err = b.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error {
			e.Error("a paused job ran")
			return nil
		}, spaced)
		wantErr(e, err, dynalock.ErrPaused)
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

func TestAStartWhoseAnswerWasLostIsNotTooSoonForItsOwnPeriod(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1}) // what notes the start
		run, err := c.Once(e.ctx, "job", "1", nothing, func(o *dynalock.OnceOptions) { o.AtLeast = time.Minute })
		must(e, err)
		check(e, run.Ran, "run %+v", run)
		check(e, wire.Count("UpdateItem") == 4, "%d writes, want the start twice, the claim and the finish",
			wire.Count("UpdateItem"))
	})
}

func TestAPauseIsLookedForWithAConsistentReadSoThatItCountsFromTheMomentThatPauseReturned(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		before := e.embedded.Usage().ReadUnits
		_, err := c.Once(e.ctx, "job", "1", nothing)
		must(e, err)
		check(e, e.embedded.Usage().ReadUnits-before == 1, "%v read units, want 1: half a unit shows what may be over",
			e.embedded.Usage().ReadUnits-before)
	})
}

func TestAPauseLetsTheRunUnderWayFinish(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		run, err := c.Once(e.ctx, "job", "1", func(ctx context.Context, _ *dynalock.Lock) error {
			must(e, c.Pause(e.ctx, "job", "enough"))
			time.Sleep(2 * lease)
			return context.Cause(ctx)
		})
		check(e, err == nil && run.Ran, "run %+v, error %v", run, err)
		_, err = c.Once(e.ctx, "job", "2", nothing)
		wantErr(e, err, dynalock.ErrPaused)
	})
}

func TestAtLeastSpacesTheStartsOfProcessesWhoseClocksDiffer(t *testing.T) {
	virtual(t, func(e *env) {
		const processes, ticks, atLeast = 8, 100, 100 * time.Second
		var mu sync.Mutex
		var starts []time.Time
		tooSoon := 0
		var wg sync.WaitGroup
		for p := range processes {
			clock := skewed{heartbeat.SystemClock(), time.Duration(p) * time.Minute / (processes - 1)}
			c, _ := e.client(dynalock.WithClock(clock))
			wg.Go(func() {
				for n := range ticks {
					// Every 2 minutes by its own clock, and each names the period by its own clock, to the minute: at one
					// tick they name two periods.
					time.Sleep(time.Until(time.Date(2000, 1, 1, 0, 2*n+2, 30, 0, time.UTC)) + time.Duration(p)*time.Second/10)
					period := clock.Now().Wall.UTC().Format("15:04")
					_, err := c.Once(e.ctx, "job", period, func(context.Context, *dynalock.Lock) error {
						mu.Lock()
						defer mu.Unlock()
						starts = append(starts, time.Now())
						return nil
					}, func(o *dynalock.OnceOptions) { o.AtLeast = atLeast })
					mu.Lock()
					if errors.Is(err, dynalock.ErrTooSoon) {
						tooSoon++
					} else {
						check(e, err == nil, "%v", err)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for i := 1; i < len(starts); i++ {
			gap := starts[i].Sub(starts[i-1])
			check(e, gap >= atLeast-2*time.Second, "start %d %v after the one before", i, gap) // the clock is known to a second
		}
		check(e, len(starts) == ticks && tooSoon > ticks, "%d starts in %d ticks, %d were too soon", len(starts), ticks,
			tooSoon)
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

func TestACallThatWaitsDoesNotBeginACrashedRunAgainAfterAPause(t *testing.T) {
	virtual(t, func(e *env) {
		a, wire := e.client()
		b, _ := e.client()
		began := make(chan struct{})
		go func() {
			_, _ = a.Once(e.ctx, "job", "1", func(ctx context.Context, _ *dynalock.Lock) error { // it crashes
				close(began)
				<-ctx.Done()
				return ctx.Err()
			})
		}()
		<-began
		waited := make(chan error, 1)
		go func() {
			run, err := b.Once(e.within(10*lease), "job", "1", nothing)
			check(e, !run.Ran, "it was begun again, attempt %d", run.Attempt)
			waited <- err
		}()
		time.Sleep(lease / 2)
		must(e, b.Pause(e.ctx, "job", "it crashes"))
		crash(wire)
		wantErr(e, <-waited, dynalock.ErrPaused)
	})
}

func TestACallInLineBehindTheRunOfItsOwnProcessDoesNotBeginItAgainAfterAPause(t *testing.T) {
	for name, end := range map[string]func(e *env, c *dynalock.Client, l *dynalock.Lock){
		"given back": func(e *env, _ *dynalock.Client, l *dynalock.Lock) { must(e, l.Release(e.ctx)) },
		"freed by an operator": func(e *env, operator *dynalock.Client, l *dynalock.Lock) {
			r, err := operator.Get(e.ctx, l.Key())
			must(e, err)
			must(e, operator.ForceRelease(e.ctx, r))
			<-l.Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, _ := e.client()
				operator, _ := e.client()
				inLine := make(chan error, 1)
				_, err := c.Once(e.ctx, "job", "1", func(_ context.Context, l *dynalock.Lock) error {
					go func() {
						_, err := c.Once(e.within(10*lease), "job", "1", func(context.Context, *dynalock.Lock) error {
							e.Error("a paused job ran")
							return nil
						})
						inLine <- err
					}()
					time.Sleep(lease / 10)
					must(e, operator.Pause(e.ctx, "job", "it crashes"))
					end(e, operator, l)
					return nil
				})
				check(e, err != nil, "the run is finished")
				wantErr(e, <-inLine, dynalock.ErrPaused)
			})
		})
	}
}

func TestAJobTellsWhetherItIsPausedByWhomWhyAndSinceWhenAndItsLastStart(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.Owner = "ops" })
		_, err := c.Job(e.ctx, "")
		wantErr(e, err, dynalock.ErrInvalid)
		job, err := c.Job(e.ctx, "report")
		check(e, err == nil && job == dynalock.Job{Name: "report"} && wire.Count() == 1, "job %+v, error %v", job, err)
		_, err = c.Once(e.ctx, "report", "monday", nothing, func(o *dynalock.OnceOptions) { o.AtLeast = time.Second })
		must(e, err)
		must(e, c.Pause(e.ctx, "report", "database upgrade"))
		job, err = c.Job(e.ctx, "report")
		must(e, err)
		check(e, job.Paused && job.PausedBy == "ops" && job.Reason == "database upgrade", "job %+v", job)
		check(e, job.LastPeriod == "monday" && time.Since(job.LastStart).Abs() < time.Minute &&
			time.Since(job.PausedAt).Abs() < time.Minute, "job %+v", job)
		must(e, c.Unpause(e.ctx, "report"))
		job, err = c.Job(e.ctx, "report")
		check(e, err == nil && !job.Paused && job.PausedBy == "" && job.Reason == "" && job.PausedAt.IsZero() &&
			job.LastPeriod == "monday", "job %+v, error %v", job, err)
		l := e.acquire(c, "once/locked")
		_, err = c.Job(e.ctx, "locked")
		wantErr(e, err, dynalock.ErrHeld)
		must(e, l.Release(e.ctx))
		e.put("once/foreign", map[string]types.AttributeValue{"a": s("b")})
		_, err = c.Job(e.ctx, "foreign")
		wantErr(e, err, dynalock.ErrForeign)
	})
}
