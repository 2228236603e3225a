//nolint:errcheck // as short as the code of a document is
package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dynalock/dynalock/dynalock"
)

// succeed is a job that has nothing to do.
func succeed(context.Context, *dynalock.Lock) error { return nil }

// Two processes ask for the same period. The function is called again after an error, and runs in one of them.
func ExampleClient_Once() {
	db := table()
	one, two := open(db, "worker 1"), open(db, "worker 2")
	defer one.Close(ctx)
	defer two.Close(ctx)
	calls := 0
	send := func(context.Context, *dynalock.Lock) error {
		if calls++; calls == 1 {
			return errors.New("the mail server is busy")
		}
		return nil
	}
	for _, client := range []*dynalock.Client{one, two} {
		run, err := client.Once(ctx, "invoices", "2026-11", send, func(o *dynalock.OnceOptions) {
			o.RetryOnError, o.RetryPause = 2, 10*time.Millisecond
			o.Keep = 90 * 24 * time.Hour // so long the period is known to have run
		})
		fmt.Println(run.Ran, run.By, err)
	}
	fmt.Println("calls:", calls)
	// Output:
	// true worker 1 <nil>
	// false worker 1 <nil>
	// calls: 2
}

// A function that is not done leaves its period open. It is begun again by the next call, at most MaxAttempts times.
func ExampleClient_Once_notDone() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	wait := func(context.Context, *dynalock.Lock) error { return fmt.Errorf("%w: no file yet", dynalock.ErrNotDone) }
	for range 3 {
		run, err := client.Once(ctx, "import", "2026-11-29", wait, func(o *dynalock.OnceOptions) { o.MaxAttempts = 2 })
		fmt.Println(run.Attempt, errors.Is(err, dynalock.ErrNotDone), errors.Is(err, dynalock.ErrExhausted))
	}
	// Output:
	// 1 true false
	// 2 true false
	// 2 false true
}

// A caller that must not wait is told that the period is being run elsewhere.
func ExampleOnceOptions_noWait() {
	db := table()
	one, two := open(db, "worker 1"), open(db, "worker 2")
	defer one.Close(ctx)
	defer two.Close(ctx)
	short := func(o *dynalock.OnceOptions) {
		o.NoWait = true
		o.NoHeartbeat, o.Lease = true, time.Minute // nothing runs in the background, as in a Lambda function
	}
	one.Once(ctx, "report", "2026-11", func(context.Context, *dynalock.Lock) error {
		run, err := two.Once(ctx, "report", "2026-11", succeed, short)
		fmt.Println(errors.Is(err, dynalock.ErrHeld), "by", run.By)
		return nil
	}, short)
	// Output: true by worker 1
}

// Two processes whose clocks differ ask for two periods within a minute. The second one is too early.
func ExampleOnceOptions_atLeast() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	for _, period := range []string{"12:00", "12:01"} {
		_, err := client.Once(ctx, "cleanup", period, succeed, func(o *dynalock.OnceOptions) { o.AtLeast = 10 * time.Minute })
		fmt.Println(period, errors.Is(err, dynalock.ErrTooSoon))
	}
	// Output:
	// 12:00 false
	// 12:01 true
}

func ExampleClient_Pause() {
	db := table()
	worker, operator := open(db, "worker 1"), open(db, "operator")
	defer worker.Close(ctx)
	defer operator.Close(ctx)
	fatal(operator.Pause(ctx, "backup", "the disk is replaced"))
	_, err := worker.Once(ctx, "backup", "2026-11-29", succeed)
	fmt.Println(errors.Is(err, dynalock.ErrPaused))
	fmt.Println(err)
	// Output:
	// true
	// dynalock: job is paused: "backup" by "operator": the disk is replaced
}

func ExampleClient_Unpause() {
	client := open(table(), "operator")
	defer client.Close(ctx)
	fatal(client.Pause(ctx, "backup", "the disk is replaced"))
	fatal(client.Unpause(ctx, "backup"))
	run, err := client.Once(ctx, "backup", "2026-11-29", succeed)
	fmt.Println(run.Ran, err)
	// Output: true <nil>
}

func ExampleClient_Job() {
	client := open(table(), "operator")
	defer client.Close(ctx)
	fatal(client.Pause(ctx, "backup", "the disk is replaced"))
	job, err := client.Job(ctx, "backup")
	fatal(err)
	fmt.Printf("paused: %v, by %s: %s\n", job.Paused, job.PausedBy, job.Reason)
	// Output: paused: true, by operator: the disk is replaced
}

func ExampleClient_GetRun() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	client.Once(ctx, "backup", "2026-11-29", succeed)
	for _, period := range []string{"2026-11-29", "2026-11-30"} {
		run, err := client.GetRun(ctx, "backup", period)
		fatal(err)
		fmt.Println(run.Period, "attempt", run.Attempt, "finished:", !run.FinishedAt.IsZero())
	}
	// Output:
	// 2026-11-29 attempt 1 finished: true
	// 2026-11-30 attempt 0 finished: false
}

func ExampleClient_Runs() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	client.Once(ctx, "backup", "2026-11-29", succeed)
	client.Once(ctx, "backup", "2026-11-30", func(context.Context, *dynalock.Lock) error {
		return errors.New("no space left")
	})
	for run, err := range client.Runs(ctx, "backup") {
		fatal(err)
		fmt.Printf("%s %q\n", run.Period, run.Err)
	}
	// Unordered output:
	// 2026-11-29 ""
	// 2026-11-30 "no space left"
}

// Ticks that were missed while no process ran are caught up, at most ten of them, and each run is reported.
func ExampleTickOptions_catchUp() {
	client := open(table(), "replica 1")
	defer client.Close(ctx)
	replica, stop := context.WithCancel(ctx)
	defer stop()
	work := func(context.Context, *dynalock.Lock, time.Time) error { return nil }
	client.Tick(replica, "cleanup", dynalock.Every(time.Second, 0), work, func(o *dynalock.TickOptions) {
		o.CatchUp, o.MaxCatchUp = dynalock.CatchUpAll, 10
		o.Done = func(run dynalock.Run, err error) {
			fmt.Println("ran by", run.By, err)
			stop()
		}
	})
	// Output: ran by replica 1 <nil>
}

// Every day at 02:00 UTC.
func ExampleEvery() {
	nightly := dynalock.Every(24*time.Hour, 2*time.Hour)
	fmt.Println(nightly.Next(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)))
	// Output: 2026-11-22 02:00:00 +0000 UTC
}
