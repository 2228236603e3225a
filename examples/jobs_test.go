package examples

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/adapters/cron"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// onWeekdays is the replica of docs/jobs.md.
func onWeekdays(
	ctx context.Context, locks *dynalock.Client, report func(ctx context.Context, due time.Time) error,
) error {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		return err
	}
	weekdays, err := cron.Parse("0 6 * * mon-fri", zone) // adapters/cron; or dynalock.Every(5*time.Minute, 0)
	if err != nil {
		return err
	}
	err = locks.Tick(ctx, "report", weekdays, func(ctx context.Context, _ *dynalock.Lock, due time.Time) error {
		return report(ctx, due)
	}, func(o *dynalock.TickOptions) { o.CatchUp = dynalock.CatchUpAll })
	if ctx.Err() != nil {
		return nil // an ordinary stop
	}
	return err
}

func TestAReportOfEachWeekdayIsMadeOnceByThreeReplicasAcrossAChangeOfClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dynalocktest.NewServer()
		defer srv.Close()
		if err := dynalock.CreateTable(t.Context(), srv.Client(), "locks"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(time.Date(2000, 3, 23, 12, 0, 0, 0, time.UTC))) // a Thursday; clocks change on Sunday
		ctx, stop := context.WithCancel(t.Context())
		made := make(chan time.Time, 10)
		stopped := make(chan error)
		for range 3 {
			locks, err := dynalock.New(srv.Client(), "locks")
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := locks.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}()
			go func() {
				stopped <- onWeekdays(ctx, locks, func(_ context.Context, due time.Time) error {
					made <- due
					return nil
				})
			}()
		}
		time.Sleep(6 * 24 * time.Hour)
		stop()
		for range 3 {
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		}
		close(made)
		var due []string
		for at := range made {
			due = append(due, at.UTC().Format("Mon 15:04"))
		}
		if want := []string{"Fri 05:00", "Mon 04:00", "Tue 04:00", "Wed 04:00"}; !slices.Equal(due, want) {
			t.Errorf("reports were made for %q, want %q", due, want)
		}
	})
}

func invoice(period string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{
		"id":    &types.AttributeValueMemberS{Value: "invoice/" + period},
		"total": &types.AttributeValueMemberN{Value: "4711"},
	}
}

// write writes the invoice of a period, once, however often the period is begun.
func write(ctx context.Context, l *dynalock.Lock, period string) error {
	err := l.Transact(ctx, types.TransactWriteItem{Put: &types.Put{
		TableName: new("invoices"), Item: invoice(period),
		ConditionExpression: new("attribute_not_exists(id)"), // the condition of your own
	}})
	var cancelled *types.TransactionCanceledException
	if errors.As(err, &cancelled) && *cancelled.CancellationReasons[0].Code == "ConditionalCheckFailed" {
		return nil // an earlier run has written it
	}
	return err
}

// became says what became of a period, by what Once returned.
func became(run dynalock.Run, err error) string {
	switch {
	case err == nil:
		return "done" // by this call, or by run.By
	case run.Ran && !run.FinishedAt.IsZero():
		return "failed" // err is the function's
	case run.Ran:
		return "open" // whoever asks begins it again: another replica, or you
	case errors.Is(err, dynalock.ErrRunFailed):
		return "failed" // in another call; run.Err is that function's
	case errors.Is(err, dynalock.ErrExhausted):
		return "exhausted" // nobody begins it again before Reopen
	case errors.Is(err, dynalock.ErrHeld):
		return "running" // elsewhere, and this call ended first
	}
	return "not begun" // by this call: paused, too soon, or DynamoDB was not reached
}

// invoiced is a server with the tables "locks" and "invoices", in a bubble.
func invoiced(t *testing.T) *dynalocktest.Server {
	t.Helper()
	srv := dynalocktest.NewServer()
	t.Cleanup(srv.Close)
	for table, key := range map[string]string{"locks": "key", "invoices": "id"} {
		err := dynalock.CreateTable(t.Context(), srv.Client(), table, func(o *dynalock.TableOptions) { o.PartitionKey = key })
		if err != nil {
			t.Fatal(err)
		}
	}
	return srv
}

// replica is a process of its own on a server.
func replica(t *testing.T, srv *dynalocktest.Server, name string) *dynalock.Client {
	t.Helper()
	locks, err := dynalock.New(srv.ClientFor(name), "locks", func(o *dynalock.Options) { o.Owner = name })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := locks.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	return locks
}

func TestARunThatIsCutOffAfterItsWriteIsBegunAgainAndWritesOnceByAConditionOfItsOwn(t *testing.T) {
	for name, tt := range map[string]struct {
		write  func(ctx context.Context, l *dynalock.Lock, period string) error
		writes int
	}{
		"with a condition": {write, 1},
		"without one": {func(ctx context.Context, l *dynalock.Lock, period string) error {
			return l.Transact(ctx, types.TransactWriteItem{Put: &types.Put{TableName: new("invoices"), Item: invoice(period)}})
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := invoiced(t)
				var runs, writes int
				send := func(ctx context.Context, l *dynalock.Lock) error {
					runs++
					before := srv.Usage().WriteUnits
					err := tt.write(ctx, l, "2026-11")
					if srv.Usage().WriteUnits-before == 4 && err == nil { // two for the check, two for the invoice
						writes++
					}
					if runs == 1 {
						srv.Inject(dynalocktest.Fault{Kind: dynalocktest.LostRequest, Client: "one"})
						<-ctx.Done()
					}
					return err
				}
				_, err := replica(t, srv, "one").Once(t.Context(), "invoices", "2026-11", send)
				if !errors.Is(err, dynalock.ErrLost) {
					t.Errorf("the run that is cut off returns %v", err)
				}
				run, err := replica(t, srv, "two").Once(t.Context(), "invoices", "2026-11", send)
				if err != nil || !run.Ran || runs != 2 {
					t.Errorf("the second run is %+v, %v; %d runs", run, err, runs)
				}
				if writes != tt.writes {
					t.Errorf("%d writes, want %d", writes, tt.writes)
				}
			})
		})
	}
}

func TestWhatOnceReturnsTellsWhatBecameOfThePeriod(t *testing.T) {
	boom := errors.New("boom")
	for name, tt := range map[string]struct {
		fn          func(ctx context.Context, l *dynalock.Lock, srv *dynalocktest.Server) error
		first, then string
	}{
		"a success": {func(context.Context, *dynalock.Lock, *dynalocktest.Server) error { return nil }, "done", "done"},
		"an error": {
			func(context.Context, *dynalock.Lock, *dynalocktest.Server) error { return boom }, "failed",
			"failed",
		},
		"a panic": {
			func(context.Context, *dynalock.Lock, *dynalocktest.Server) error { panic(boom) }, "failed",
			"failed",
		},
		"a release": {func(ctx context.Context, l *dynalock.Lock,
			_ *dynalocktest.Server,
		) error {
			return l.Release(ctx)
		}, "open", "exhausted"},
		"not done": {
			func(context.Context, *dynalock.Lock, *dynalocktest.Server) error { return dynalock.ErrNotDone },
			"open", "exhausted",
		},
		"of other locks": {
			func(context.Context, *dynalock.Lock, *dynalocktest.Server) error { return dynalock.ErrLost },
			"failed", "failed",
		},
		"a loss": {func(ctx context.Context, _ *dynalock.Lock, srv *dynalocktest.Server) error {
			srv.Inject(dynalocktest.Fault{Kind: dynalocktest.LostRequest, Client: "one"})
			<-ctx.Done()
			return ctx.Err()
		}, "open", "exhausted"},
		"no answer at its end": {func(_ context.Context, _ *dynalock.Lock, srv *dynalocktest.Server) error {
			srv.Inject(dynalocktest.Fault{Kind: dynalocktest.LostRequest, Client: "one"})
			return nil
		}, "open", "exhausted"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := invoiced(t)
				once := func(c *dynalock.Client, fn func(context.Context, *dynalock.Lock) error) (dynalock.Run, error) {
					return c.Once(t.Context(), "invoices", "2026-11", fn, func(o *dynalock.OnceOptions) { o.MaxAttempts = 1 })
				}
				run, err := once(replica(t, srv, "one"),
					func(ctx context.Context, l *dynalock.Lock) error { return tt.fn(ctx, l, srv) })
				if got := became(run, err); got != tt.first || !run.Ran {
					t.Errorf("%+v, %v: %s, want %s", run, err, got, tt.first)
				}
				run, err = once(replica(t, srv, "two"), func(context.Context, *dynalock.Lock) error {
					t.Error("it was begun again")
					return nil
				})
				if got := became(run, err); got != tt.then || run.Ran {
					t.Errorf("later %+v, %v: %s, want %s", run, err, got, tt.then)
				}
			})
		})
	}
}

func TestWhoDoesNotGetThePeriodIsToldWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := invoiced(t)
		one, two := replica(t, srv, "one"), replica(t, srv, "two")
		nothing := func(context.Context, *dynalock.Lock) error { return nil }
		asked := func(want string) {
			t.Helper()
			run, err := two.Once(t.Context(), "invoices", "2026-11", nothing, func(o *dynalock.OnceOptions) { o.NoWait = true })
			if got := became(run, err); got != want || run.Ran {
				t.Errorf("%+v, %v: %s, want %s", run, err, got, want)
			}
		}
		_, err := one.Once(t.Context(), "invoices", "2026-11", func(context.Context, *dynalock.Lock) error {
			asked("running")
			return dynalock.ErrNotDone
		})
		if !errors.Is(err, dynalock.ErrNotDone) {
			t.Error(err)
		}
		if err := one.Pause(t.Context(), "invoices", "why"); err != nil {
			t.Error(err)
		}
		asked("not begun")
	})
}

// ticks has replicas tick until ctx ends, one for each schedule.
func ticks(
	ctx context.Context, t *testing.T, srv *dynalocktest.Server, run func(due time.Time), schedules ...dynalock.Schedule,
) {
	t.Helper()
	ended := make(chan error)
	for _, s := range schedules {
		locks := replica(t, srv, "replica")
		go func() {
			ended <- locks.Tick(ctx, "report", s, func(_ context.Context, _ *dynalock.Lock, due time.Time) error {
				run(due)
				return nil
			})
		}()
	}
	for range schedules {
		if err := <-ended; !errors.Is(err, ctx.Err()) {
			t.Error(err)
		}
	}
}

func TestReplicasWithDifferentSchedulesRunTheTicksOfAllOfThemEachOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := invoiced(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var mu sync.Mutex
		ran := map[time.Time]int{}
		start := time.Now()
		ticks(ctx, t, srv, func(due time.Time) {
			mu.Lock()
			defer mu.Unlock()
			ran[due.UTC()]++
		}, dynalock.Every(4*time.Minute, 0), dynalock.Every(4*time.Minute, 0), dynalock.Every(3*time.Minute, 0))
		for minute := 1; minute < 60; minute++ {
			want := 0
			if minute%4 == 0 || minute%3 == 0 {
				want = 1
			}
			if got := ran[start.Add(time.Duration(minute)*time.Minute).UTC()]; got != want {
				t.Errorf("the tick of minute %d ran %d times, want %d", minute, got, want)
			}
		}
	})
}

func TestADeployThatChangesTheScheduleRunsWhatTheNewOneHadDueSinceTheLastTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := invoiced(t)
		var ran []string
		until := func(at time.Time, s dynalock.Schedule) {
			ctx, cancel := context.WithDeadline(t.Context(), at)
			defer cancel()
			ticks(ctx, t, srv, func(due time.Time) {
				ran = append(ran, fmt.Sprintf("%s at %s", due.UTC().Format("15:04"), time.Now().UTC().Format("15:04")))
			}, s)
		}
		midnight := time.Now() // when bubbles begin
		until(midnight.Add(12*time.Hour), dynalock.Every(24*time.Hour, 6*time.Hour))
		until(midnight.Add(24*time.Hour), dynalock.Every(24*time.Hour, 8*time.Hour))
		if want := []string{"06:00 at 06:00", "08:00 at 12:00"}; !slices.Equal(ran, want) {
			t.Errorf("ticks ran %q, want %q", ran, want)
		}
	})
}

func TestATickThatWasReopenedIsBegunByAReplicaThatStartsOrByItsName(t *testing.T) {
	for _, how := range []string{"a replica that starts", "its name"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := invoiced(t)
				midnight := time.Now()
				ctx, cancel := context.WithDeadline(t.Context(), midnight.Add(time.Hour))
				defer cancel()
				var mu sync.Mutex
				ran := 0
				count := func(time.Time) {
					mu.Lock()
					defer mu.Unlock()
					ran++
				}
				others := make(chan struct{})
				go func() {
					defer close(others)
					ticks(ctx, t, srv, count, dynalock.Every(40*time.Minute, 0), dynalock.Every(40*time.Minute, 0))
				}()
				time.Sleep(50 * time.Minute)
				operator := replica(t, srv, "operator")
				name := midnight.Add(40 * time.Minute).UTC().Format(time.RFC3339)
				run, err := operator.GetRun(ctx, "report", name)
				if err != nil || operator.Reopen(ctx, run) != nil {
					t.Errorf("%+v, %v", run, err)
				}
				time.Sleep(5 * time.Minute)
				mu.Lock()
				if ran != 1 {
					t.Errorf("it ran %d times", ran)
				}
				mu.Unlock()
				if how == "its name" {
					run, err := operator.Once(ctx, "report", name, func(context.Context, *dynalock.Lock) error { return nil })
					if err != nil || !run.Ran {
						t.Errorf("%+v, %v", run, err)
					}
				} else if ticks(ctx, t, srv, count, dynalock.Every(40*time.Minute, 0)); ran != 2 {
					t.Errorf("it ran %d times with a new replica", ran)
				}
				<-others
			})
		})
	}
}

// consume works on a message of a queue, once. An error says that the message has to be delivered again.
func consume(
	ctx context.Context, locks *dynalock.Client, id string, work func(context.Context, *dynalock.Lock) error,
) error {
	_, err := locks.Once(ctx, "payments", id, func(ctx context.Context, l *dynalock.Lock) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			}
			if err != nil { // an error or a panic leaves the message to its next delivery
				err = fmt.Errorf("%w: %w", dynalock.ErrNotDone, err)
			}
		}()
		return work(ctx, l)
	}, func(o *dynalock.OnceOptions) {
		o.NoWait = true              // the queue delivers it again
		o.MaxAttempts = 1000         // the queue counts the deliveries
		o.Keep = 15 * 24 * time.Hour // longer than the queue keeps a message
	})
	return err
}

func TestAMessageIsDeliveredUntilItIsDoneAndThenNeverWorkedOnAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := invoiced(t)
		one, two := replica(t, srv, "one"), replica(t, srv, "two")
		deliveries, worked := 0, 0
		work := func(context.Context, *dynalock.Lock) error {
			switch worked++; {
			case worked == 2:
				panic("boom")
			case worked < 6:
				return errors.New("no answer from the bank")
			}
			err := consume(t.Context(), two, "4711",
				func(context.Context, *dynalock.Lock) error { return errors.New("it ran twice") })
			if !errors.Is(err, dynalock.ErrHeld) {
				t.Errorf("a second delivery at the same time: %v", err)
			}
			return nil
		}
		for ; deliveries < 10; deliveries++ {
			err := consume(t.Context(), one, "4711", work)
			if done := deliveries >= 5; (err == nil) != done || !done && !errors.Is(err, dynalock.ErrNotDone) {
				t.Errorf("delivery %d: %v", deliveries+1, err)
			}
		}
		if worked != 6 {
			t.Errorf("it was worked on %d times", worked)
		}
	})
}
