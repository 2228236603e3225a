package gocron_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	upstream "github.com/go-co-op/gocron/v2"

	"github.com/dynalock/dynalock/adapters/gocron"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func fatal(err error) {
	if err != nil {
		panic(err)
	}
}

// open is a client on an embedded server. A program makes its own with dynamodb.NewFromConfig.
func open(ctx context.Context) (*dynalocktest.Server, *dynalock.Client) {
	server := dynalocktest.NewServer()
	fatal(dynalock.CreateTable(ctx, server.Client(), "locks"))
	locks, err := dynalock.New(server.Client(), "locks", func(o *dynalock.Options) { o.Owner = "replica 1" })
	fatal(err)
	return server, locks
}

// Of the schedulers in all replicas, only that of the leader runs the jobs.
func ExampleNewElector() {
	ctx, stop := context.WithCancel(context.Background())
	server, locks := open(ctx)
	defer server.Close()

	elector := gocron.NewElector(locks.Election("scheduler"))
	ended := make(chan error)
	go func() { ended <- elector.Run(ctx) }() // as long as the scheduler runs
	scheduler, err := upstream.NewScheduler(upstream.WithDistributedElector(elector))
	fatal(err)
	ran := make(chan string, 1)
	_, err = scheduler.NewJob(upstream.DurationJob(20*time.Millisecond), upstream.NewTask(func() {
		select {
		case ran <- "report":
		default: // it ran before
		}
	}))
	fatal(err)
	scheduler.Start()
	fmt.Println(<-ran)

	fatal(scheduler.Shutdown())
	stop()
	fmt.Println(errors.Is(<-ended, context.Canceled), locks.Close(context.Background()))
	// Output:
	// report
	// true <nil>
}

// Each run of a job is locked: another replica, whose run begins while this one is not over, lets it pass.
func ExampleNewLocker() {
	ctx := context.Background()
	server, locks := open(ctx)
	defer server.Close()

	scheduler, err := upstream.NewScheduler(upstream.WithDistributedLocker(gocron.NewLocker(locks, "cron/")))
	fatal(err)
	holder := make(chan string)
	_, err = scheduler.NewJob(upstream.OneTimeJob(upstream.OneTimeJobStartImmediately()), upstream.NewTask(func() {
		record, err := locks.Get(ctx, "cron/report")
		fatal(err)
		holder <- record.Owner
	}), upstream.WithName("report"))
	fatal(err)
	scheduler.Start()
	fmt.Println("the lock is held by", <-holder)

	fmt.Println(scheduler.Shutdown(), locks.Close(ctx))
	// Output:
	// the lock is held by replica 1
	// <nil> <nil>
}
