//nolint:errcheck // as short as the code of a document is
package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/dynalock/dynalock/dynalock"
)

// runner is a process on the table of an election. It polls often, so that the examples are short.
func runner(db *dynamodb.Client, name string) *dynalock.Client {
	client, err := dynalock.New(db, "locks", func(o *dynalock.Options) {
		o.Owner, o.MaxPoll = name, 50*time.Millisecond
	})
	fatal(err)
	return client
}

// inBackground runs an election in the background, as a program does, until stop is called.
func inBackground(e *dynalock.Election, lead func(ctx context.Context, term *dynalock.Lock) error) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.Run(ctx, lead)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// standBy leads until its term ends.
func standBy(ctx context.Context, _ *dynalock.Lock) error {
	<-ctx.Done()
	return ctx.Err()
}

// An election has a key, and each process is a candidate. Nobody leads before Run.
func ExampleClient_Election() {
	client := runner(table(), "node 1")
	defer client.Close(ctx)
	election := client.Election("scheduler", func(o *dynalock.ElectionOptions) {
		o.Candidate = "node-1"
		o.Value = []byte("10.0.0.7:8080") // the leader publishes it
		o.Lease = 20 * time.Second
	})
	leader, err := election.Leader(ctx)
	fmt.Println(leader.State, err)
	// Output: free <nil>
}

func ExampleElection_Run() {
	client := runner(table(), "node-1")
	defer client.Close(ctx)
	stopping, stop := context.WithCancel(ctx)

	election := client.Election("scheduler")
	err := election.Run(stopping, func(ctx context.Context, term *dynalock.Lock) error {
		fmt.Println("leading:", term.Held())
		stop() // as a signal does
		<-ctx.Done()
		return ctx.Err()
	})
	fmt.Println("an ordinary stop:", errors.Is(err, context.Canceled))
	// Output:
	// leading: true
	// an ordinary stop: true
}

// Any process can ask for the leader, also one that is not a candidate.
func ExampleElection_Leader() {
	db := table()
	node, other := runner(db, "node-1"), runner(db, "dashboard")
	defer node.Close(ctx)
	defer other.Close(ctx)
	election := node.Election("scheduler", func(o *dynalock.ElectionOptions) { o.Value = []byte("10.0.0.7:8080") })
	leading := make(chan struct{})
	defer inBackground(election, func(ctx context.Context, term *dynalock.Lock) error {
		close(leading)
		return standBy(ctx, term)
	})()
	<-leading

	leader, err := other.Election("scheduler").Leader(ctx)
	fatal(err)
	fmt.Printf("%s at %s\n", leader.Owner, leader.Data)
	// Output: node-1 at 10.0.0.7:8080
}

// The loop sees the leader of now, and each change.
func ExampleElection_Observe() {
	client := runner(table(), "node-1")
	defer client.Close(ctx)
	election := client.Election("scheduler")

	for leader, err := range election.Observe(ctx) {
		fatal(err)
		if leader.State == dynalock.Held {
			fmt.Println("leader:", leader.Owner)
			break
		}
		fmt.Println("no leader")
		defer inBackground(election, standBy)()
	}
	// Output:
	// no leader
	// leader: node-1
}

// The leader stands down, and a named candidate follows: before a deploy, for example.
func ExampleElection_HandOver() {
	db := table()
	one, two := runner(db, "node-1"), runner(db, "node-2")
	defer one.Close(ctx)
	defer two.Close(ctx)
	leading := make(chan struct{}, 1)
	defer inBackground(one.Election("scheduler"), func(ctx context.Context, _ *dynalock.Lock) error {
		leading <- struct{}{}
		<-ctx.Done()
		fmt.Println(context.Cause(ctx))
		return ctx.Err()
	})()
	<-leading
	defer inBackground(two.Election("scheduler"), standBy)()

	operator := runner(db, "operator")
	defer operator.Close(ctx)
	election := operator.Election("scheduler")
	fatal(election.HandOver(ctx, "node-2"))
	leader, err := election.Leader(ctx)
	fmt.Println("leader:", leader.Owner, err)
	// Output:
	// dynalock: leadership is handed over to another candidate
	// leader: node-2 <nil>
}

// Resign ends a term, and returns when another candidate can lead.
func ExampleElection_Resign() {
	client := runner(table(), "node-1")
	defer client.Close(ctx)
	election := client.Election("scheduler")
	leading := make(chan struct{}, 9)
	defer inBackground(election, func(ctx context.Context, _ *dynalock.Lock) error {
		leading <- struct{}{}
		<-ctx.Done()
		if errors.Is(context.Cause(ctx), dynalock.ErrResigned) {
			fmt.Println("told to resign")
		}
		return ctx.Err()
	})()
	<-leading
	fmt.Println(election.Resign(ctx))
	// Output:
	// told to resign
	// <nil>
}

// A leader that is not healthy ends its term, and does not campaign until it is healthy again.
func ExampleElectionOptions_health() {
	client := runner(table(), "node-1")
	defer client.Close(ctx)
	stopping, stop := context.WithCancel(ctx)
	var down atomic.Bool
	election := client.Election("scheduler", func(o *dynalock.ElectionOptions) {
		o.Health = func(context.Context) error { // asked before each heartbeat
			if down.Load() {
				return errors.New("the database is down")
			}
			return nil
		}
	})
	election.Run(stopping, func(ctx context.Context, term *dynalock.Lock) error {
		down.Store(true)
		term.Renew(ctx) // the next heartbeat, for the example now
		fmt.Println(context.Cause(ctx))
		stop()
		return ctx.Err()
	})
	// Output: dynalock: leader is not healthy: the database is down
}
