package dynalock_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

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
		ttl, err := strconv.ParseInt(text(e.item("prod/once/job/1")["ttl"]), 10, 64) // until when it is kept
		must(e, err)
		kept := time.Until(time.Unix(ttl, 0))
		check(e, kept > 7*24*time.Hour-time.Minute && kept <= 7*24*time.Hour, "the run is kept for %v", kept)
	})
}

func TestARunThatCannotBeReadIsForeign(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		_, err := c.Once(e.ctx, "job", "1", nothing)
		must(e, err)
		it := e.item("once/job/1")
		it["finishedAt"] = s("2026-01-01")
		e.put("once/job/1", it)
		d, wire := e.client()
		_, err = d.Once(e.within(10*lease), "job", "1", nothing)
		wantErr(e, err, dynalock.ErrForeign)
		check(e, wire.Count("UpdateItem") == 1, "%d writes", wire.Count("UpdateItem"))
	})
}

func TestAPeriodThatIsOverIsRunAgainAfterItWasReopened(t *testing.T) {
	fails := errors.New("no disk")
	for name, end := range map[string]func(e *env, c *dynalock.Client){
		"failed": func(e *env, c *dynalock.Client) {
			_, err := c.Once(e.ctx, "backup", "1", func(context.Context, *dynalock.Lock) error { return fails })
			wantErr(e, err, fails)
		},
		"done": func(e *env, c *dynalock.Client) {
			_, err := c.Once(e.ctx, "backup", "1", nothing)
			must(e, err)
		},
		"exhausted": func(e *env, c *dynalock.Client) {
			_, err := c.Once(e.ctx, "backup", "1", func(context.Context, *dynalock.Lock) error { return dynalock.ErrNotDone })
			wantErr(e, err, dynalock.ErrNotDone)
		},
	} {
		t.Run(name, func(t *testing.T) {
			onServer(t, func(e *env) {
				once := func(o *dynalock.OnceOptions) { o.MaxAttempts = 1 }
				c, _ := e.client()
				operator, _ := e.client(func(o *dynalock.Options) { o.Owner = "ops" })
				for begun := 1; begun <= 2; begun++ {
					_, err := c.Once(e.ctx, "backup", "1", func(context.Context, *dynalock.Lock) error { return dynalock.ErrNotDone },
						once)
					if begun == 1 {
						wantErr(e, err, dynalock.ErrNotDone)
						run, err := operator.GetRun(e.ctx, "backup", "1")
						must(e, err)
						must(e, operator.Reopen(e.ctx, run))
						end(e, c)
					} else if name == "exhausted" {
						wantErr(e, err, dynalock.ErrExhausted)
					}
				}
				shown, err := operator.GetRun(e.ctx, "backup", "1")
				must(e, err)
				check(e, shown.Attempt == 2, "run %+v", shown)
				must(e, operator.Reopen(e.ctx, shown))
				open, err := operator.GetRun(e.ctx, "backup", "1")
				must(e, err)
				check(e, open.FinishedAt.IsZero() && open.Attempt == 2 && text(e.item("once/backup/1")["releasedBy"]) == "ops",
					"run %+v", open)
				run, err := c.Once(e.ctx, "backup", "1", nothing, once)
				must(e, err)
				check(e, run.Ran && run.Attempt == 3 && run.Token == shown.Token+1, "run %+v", run)
				wantErr(e, operator.Reopen(e.ctx, shown), dynalock.ErrChanged)
				for listed, err := range c.Runs(e.ctx, "backup") {
					must(e, err)
					check(e, listed.Attempt == 3 && listed.Err == "" && !listed.FinishedAt.IsZero(), "listed is %+v", listed)
				}
			})
		})
	}
}

func TestARunThatIsUnderWayIsNotReopened(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client()
		_, err := c.Once(e.ctx, "job", "1", func(ctx context.Context, l *dynalock.Lock) error {
			run, err := c.GetRun(ctx, "job", "1")
			must(e, err)
			check(e, run.Token == l.Token() && run.FinishedAt.IsZero(), "run %+v", run)
			err = c.Reopen(ctx, run)
			wantErr(e, err, dynalock.ErrHeld)
			check(e, l.Renew(ctx) == nil, "the run lost its lock")
			return nil
		})
		must(e, err)
		wantErr(e, c.Reopen(e.ctx, dynalock.Run{Job: "job", Period: "2", Attempt: 1, Token: 7}), dynalock.ErrChanged)
		wantErr(e, c.Reopen(e.ctx, dynalock.Run{Job: "job", Period: "2"}), dynalock.ErrInvalid)
		_, err = c.GetRun(e.ctx, "", "")
		wantErr(e, err, dynalock.ErrInvalid)
		run, err := c.GetRun(e.ctx, "job", "2")
		check(e, err == nil && run == dynalock.Run{Job: "job", Period: "2"}, "run %+v, error %v", run, err)
		must(e, e.acquire(c, "once/job/3").Release(e.ctx))
		_, err = c.GetRun(e.ctx, "job", "3")
		wantErr(e, err, dynalock.ErrForeign)
	})
}

func TestALateCopyOfAReopeningReopensNothing(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client()
		operator, wire := e.client()
		run, err := c.Once(e.ctx, "job", "1", nothing)
		must(e, err)
		wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "UpdateItem", Times: 1})
		must(e, operator.Reopen(e.ctx, run))
		again, err := c.Once(e.ctx, "job", "1", nothing)
		must(e, err)
		check(e, again.Ran, "run %+v", again)
		_, err = wire.Deliver(e.ctx)
		must(e, err)
		run, err = c.GetRun(e.ctx, "job", "1")
		must(e, err)
		check(e, !run.FinishedAt.IsZero() && run.Token == again.Token && run.Attempt == 2, "run %+v, want %+v", run, again)
	})
}

func TestAReopeningIsKnownToBeAppliedThoughItsAnswerIsLostAndThePeriodIsBegunMeanwhile(t *testing.T) {
	for name, begun := range map[string]bool{"begun meanwhile": true, "open yet": false} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, _ := e.client()
				operator, wire := e.client()
				run, err := c.Once(e.ctx, "job", "1", nothing)
				must(e, err)
				wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1})
				done := make(chan error, 1)
				go func() { done <- operator.Reopen(e.ctx, run) }()
				time.Sleep(5 * time.Millisecond) // it is applied, and will be looked for
				if begun {
					again, err := c.Once(e.ctx, "job", "1", nothing)
					check(e, err == nil && again.Ran, "run %+v, error %v", again, err)
				}
				must(e, <-done)
				check(e, wire.Count("UpdateItem") == 1, "%d writes", wire.Count("UpdateItem"))
				run, err = c.GetRun(e.ctx, "job", "1")
				check(e, err == nil && run.FinishedAt.IsZero() == !begun, "run %+v, error %v", run, err)
			})
		})
	}
}
