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
