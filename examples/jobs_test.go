package examples

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dynalock/dynalock/adapters/cron"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// onWeekdays is the replica of docs/jobs.md.
func onWeekdays(ctx context.Context, locks *dynalock.Client, report func(ctx context.Context, due time.Time) error) error {
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

func Example_failedRun() {
	ctx := context.Background()
	db, stop := service(ctx)
	defer stop()
	locks, _ := dynalock.New(db, "locks", func(o *dynalock.Options) { o.Owner = "worker" })
	sendInvoices := func(context.Context, *dynalock.Lock) error { return errors.New("smtp down") }
	_, err := locks.Once(ctx, "invoices", "2026-11", sendInvoices)
	fmt.Println(err)

	run, err := locks.Once(ctx, "invoices", "2026-11", sendInvoices, func(o *dynalock.OnceOptions) {
		o.RetryOnError, o.RetryPause = 3, time.Minute
	})
	switch {
	case errors.Is(err, dynalock.ErrRunFailed):
		fmt.Println("failed elsewhere:", run.By, run.Err)
	case errors.Is(err, dynalock.ErrNotDone):
		fmt.Println("told to stop; another replica goes on")
	case err != nil:
		fmt.Println(err)
	}
	// Output:
	// smtp down
	// failed elsewhere: worker smtp down
}
