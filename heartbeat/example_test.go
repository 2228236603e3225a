package heartbeat_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dynalock/dynalock/heartbeat"
)

// A lease of ten seconds is renewed every two and trusted for eight.
func Example() {
	clock := heartbeat.SystemClock()
	sched := heartbeat.New()
	defer sched.Close()

	won := clock.Now() // before the request that wins the lease is sent
	renewed := make(chan int)
	lease, err := sched.Add(heartbeat.Config{
		Period: 2 * time.Second,
		Trust:  8 * time.Second,
		Acked:  won,
		Renew: func(_ context.Context, a heartbeat.Attempt) error {
			renewed <- a.N // here a request goes to the store
			return nil
		},
		Ended: func(err error) { fmt.Println("stop working:", err) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	fmt.Println("may act:", lease.Valid())
	lease.Kick() // not in two seconds: now
	fmt.Println("renewed by attempt", <-renewed)

	if err := lease.Stop(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println("may act:", lease.Valid()) // now it can be given back: no renewal comes after it
	// Output:
	// may act: true
	// renewed by attempt 1
	// may act: false
}

// renewed stands for a renewal: a request to a store, which acknowledges it.
func renewed(context.Context, heartbeat.Attempt) error { return nil }

// keep has a scheduler keep a lease that was won just now.
func keep(sched *heartbeat.Scheduler, renew func(context.Context, heartbeat.Attempt) error) *heartbeat.Lease {
	lease, err := sched.Add(heartbeat.Config{
		Period: 2 * time.Second, Trust: 8 * time.Second, Acked: heartbeat.SystemClock().Now(), Renew: renew,
	})
	if err != nil {
		panic(err)
	}
	return lease
}

// A process needs one scheduler for all of its leases.
func ExampleNew() {
	sched := heartbeat.New(func(o *heartbeat.Options) {
		o.Parallelism = 16 // renewals in flight at most
	})
	defer sched.Close()
	one, two := keep(sched, renewed), keep(sched, renewed)
	fmt.Println(one.Valid(), two.Valid())
	// Output: true true
}

// A static lease is only watched. This one ends after a tenth of a second, although its trust would last longer.
func ExampleScheduler_Add() {
	sched := heartbeat.New()
	defer sched.Close()
	ended := make(chan error)
	_, err := sched.Add(heartbeat.Config{
		Period: 0, // static
		Trust:  time.Minute,
		Limit:  100 * time.Millisecond,
		Acked:  heartbeat.SystemClock().Now(),
		Ended:  func(err error) { ended <- err },
	})
	fmt.Println(err)
	fmt.Println(errors.Is(<-ended, heartbeat.ErrLimit))
	// Output:
	// <nil>
	// true
}

// A bad Config is an error that names every bad field.
func ExampleScheduler_Add_invalid() {
	sched := heartbeat.New()
	defer sched.Close()
	_, err := sched.Add(heartbeat.Config{Period: 2 * time.Second, Trust: time.Second})
	fmt.Println(err)
	// Output:
	// heartbeat: Config.Period is 2s, want 0 (static) or less than Trust (1s)
	// heartbeat: Config.Renew is nil, want a function unless Period is 0
}

// Shutdown is Close with a bound on the wait, for a Renew that ignores its context.
func ExampleScheduler_Shutdown() {
	sched := heartbeat.New()
	began, answer := make(chan struct{}), make(chan struct{})
	lease := keep(sched, func(context.Context, heartbeat.Attempt) error {
		close(began)
		<-answer // whatever becomes of ctx
		return nil
	})
	lease.Kick()
	<-began

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	fmt.Println(sched.Shutdown(ctx), lease.Valid())
	close(answer)
	fmt.Println(sched.Shutdown(context.Background()))
	// Output:
	// context deadline exceeded false
	// <nil>
}

// The holder asks before each step. Valid looks at the clocks alone.
func ExampleLease_Valid() {
	sched := heartbeat.New()
	defer sched.Close()
	lease := keep(sched, renewed)
	fmt.Println(lease.Valid(), lease.Remaining() > 7*time.Second)
	lease.End(nil)
	fmt.Println(lease.Valid(), lease.Remaining() > 0)
	// Output:
	// true true
	// false false
}

// Kick renews now, not when the period is over.
func ExampleLease_Kick() {
	sched := heartbeat.New()
	defer sched.Close()
	began := make(chan int)
	lease := keep(sched, func(_ context.Context, a heartbeat.Attempt) error {
		began <- a.N
		return nil
	})
	lease.Kick()
	fmt.Println("attempt", <-began)
	// Output: attempt 1
}

// After Stop no renewal comes any more, so the lease can be given back to the store.
func ExampleLease_Stop() {
	sched := heartbeat.New()
	defer sched.Close()
	lease := keep(sched, renewed)
	fmt.Println(lease.Stop(context.Background()), lease.Valid())
	// Output: <nil> false
}

// Another request has shown that the lease is lost. End tells the scheduler, which tells the owner.
func ExampleLease_End() {
	sched := heartbeat.New()
	defer sched.Close()
	ended := make(chan error)
	lease, err := sched.Add(heartbeat.Config{
		Trust: 8 * time.Second, Acked: heartbeat.SystemClock().Now(),
		Ended: func(err error) { ended <- err },
	})
	fmt.Println(err)
	lease.End(fmt.Errorf("%w: the store says so", heartbeat.ErrGone))
	fmt.Println(<-ended)
	// Output:
	// <nil>
	// heartbeat: lease gone: the store says so
}

// Readings of one clock are compared with each other, and mean nothing by themselves.
func ExampleSystemClock() {
	clock := heartbeat.SystemClock()
	before := clock.Now()
	time.Sleep(10 * time.Millisecond)
	elapsed, _ := clock.Now().Since(before)
	fmt.Println(elapsed >= 10*time.Millisecond)
	// Output: true
}

// A lease that the store says is somebody else's ends at once; after other errors it is renewed again.
func ExampleErrGone() {
	sched := heartbeat.New()
	defer sched.Close()

	lost := make(chan error)
	lease, err := sched.Add(heartbeat.Config{
		Period: 2 * time.Second,
		Trust:  8 * time.Second,
		Acked:  heartbeat.SystemClock().Now(),
		Renew: func(_ context.Context, a heartbeat.Attempt) error {
			if a.N == 1 {
				return errors.New("connection reset")
			}
			return fmt.Errorf("%w: taken over by host-7", heartbeat.ErrGone)
		},
		Ended: func(err error) { lost <- err },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	lease.Kick()
	fmt.Println(<-lost)
	fmt.Println("may act:", lease.Valid())
	// Output:
	// heartbeat: lease gone: taken over by host-7
	// may act: false
}

// A write of data that also renews the lease saves a heartbeat.
func ExampleLease_Acknowledge() {
	clock := heartbeat.SystemClock()
	sched := heartbeat.New()
	defer sched.Close()
	// A static lease: the scheduler only watches it.
	lease, err := sched.Add(heartbeat.Config{Trust: time.Minute, Acked: clock.Now()})
	if err != nil {
		fmt.Println(err)
		return
	}

	sent := clock.Now() // before the write is sent, not after its answer
	before := lease.Deadline()
	lease.Acknowledge(sent) // once the store has acknowledged the write
	fmt.Println("prolonged:", lease.Deadline().After(before))
	// Output:
	// prolonged: true
}

// The clock that says most time has passed decides, and the gap shows that the machine was away.
func ExampleReading_Since() {
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	before := heartbeat.Reading{Mono: time.Hour, Boot: time.Hour, Wall: noon}
	after := heartbeat.Reading{ // the lid was closed for ten minutes
		Mono: time.Hour + 5*time.Second,
		Boot: time.Hour + 5*time.Second + 10*time.Minute,
		Wall: noon.Add(5*time.Second + 10*time.Minute),
	}
	elapsed, gap := after.Since(before)
	fmt.Println(elapsed, gap)
	// Output:
	// 10m5s 10m0s
}
