// Package examples keeps the code of the README and of docs/ compiling, running and true.
//
//nolint:errcheck // as short as the code of a README is
package examples

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.uber.org/goleak"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a stand-in for AWS, with the table "locks".
func service(ctx context.Context) (*dynamodb.Client, func()) {
	srv := dynalocktest.NewServer()
	if err := dynalock.CreateTable(ctx, srv.Client(), "locks"); err != nil {
		panic(err)
	}
	return srv.Client(), srv.Close
}

func build(context.Context) types.TransactWriteItem {
	item := map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: "report"}}
	return types.TransactWriteItem{Put: &types.Put{TableName: new("locks"), Item: item}}
}

func nightly(ctx context.Context, db *dynamodb.Client) error {
	locks, err := dynalock.New(db, "locks")
	if err != nil {
		return err
	}
	defer locks.Close(context.WithoutCancel(ctx))

	return locks.Do(ctx, "nightly-report", func(ctx context.Context, l *dynalock.Lock) error {
		report := build(ctx)           // ctx ends when the lock is lost
		return l.Transact(ctx, report) // commits only if the lock is still held
	})
}

func Example() {
	ctx := context.Background()
	db, stop := service(ctx)
	defer stop()
	fmt.Println(nightly(ctx, db))
	// Output: <nil>
}

func Example_tryAcquire() {
	ctx := context.Background()
	db, stop := service(ctx)
	defer stop()
	one, _ := dynalock.New(db, "locks", func(o *dynalock.Options) { o.Owner = "web-1" })
	locks, _ := dynalock.New(db, "locks")
	_, _ = one.TryAcquire(ctx, "deploy", func(o *dynalock.AcquireOptions) { o.Reason = "release 1.4" })

	lock, err := locks.TryAcquire(ctx, "deploy")
	var held *dynalock.HeldError
	if errors.As(err, &held) {
		fmt.Printf("held by %s: %s\n", held.Record.Owner, held.Record.Reason)
	}

	fmt.Println(lock, one.Close(ctx), locks.Close(ctx))
	// Output:
	// held by web-1: release 1.4
	// <nil> <nil> <nil>
}

func Example_acquire() {
	db, stop := service(context.Background())
	defer stop()
	locks, _ := dynalock.New(db, "locks")
	steps := []string{"one", "two"}
	work := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // bounds the wait, not the lock
		defer cancel()
		lock, err := locks.Acquire(ctx, "import")
		if err != nil {
			return err // mostly dynalock.ErrHeld, which says who holds it
		}
		defer lock.Release(context.WithoutCancel(ctx))
		for _, step := range steps {
			if !lock.Held() {
				return lock.Err() // matches dynalock.ErrLost, says why
			}
			fmt.Println(step)
		}
		return nil
	}
	fmt.Println(work())
	// Output:
	// one
	// two
	// <nil>
}

func Example_once() {
	ctx := context.Background()
	db, stop := service(ctx)
	defer stop()
	locks, _ := dynalock.New(db, "locks", func(o *dynalock.Options) { o.Owner = "worker" })
	sendInvoices := func(context.Context, *dynalock.Lock) error { return nil }

	for range 2 {
		run, err := locks.Once(ctx, "invoices", "2026-11", sendInvoices)
		fmt.Println(run.Ran, run.By, run.Err == "", err)
	}
	// Output:
	// true worker true <nil>
	// false worker true <nil>
}

func Example_tick() {
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	db, end := service(ctx)
	defer end()
	locks, _ := dynalock.New(db, "locks")
	cleanUp := func(_ context.Context, _ *dynalock.Lock, due time.Time) error {
		fmt.Println("due:", due)
		return nil
	}

	err := locks.Tick(ctx, "cleanup", dynalock.Every(5*time.Minute, 0), cleanUp)
	fmt.Println(err)
}

func Example_election() {
	ctx := context.Background()
	db, stop := service(ctx)
	defer stop()
	locks, _ := dynalock.New(db, "locks")
	lead := func(_ context.Context, term uint64) error {
		fmt.Println(term > 0)
		return nil
	}

	election := locks.Election("scheduler", func(o *dynalock.ElectionOptions) { o.Candidate = "node-7" })
	err := election.Run(ctx, func(ctx context.Context, term *dynalock.Lock) error {
		return lead(ctx, term.Token()) // ctx ends with the term; a return before that gives the leadership up
	})
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

func Example_shortLived() {
	ctx := context.Background()
	db, stop := service(ctx)
	defer stop()
	locks, err := dynalock.New(db, "locks", func(o *dynalock.Options) {
		o.Lease = time.Minute             // at least 5/4 of what the function may run
		o.MaxClockSkew = 10 * time.Second // a dead holder's lock is taken at first sight, this long after its expiry
	})
	if err != nil {
		panic(err)
	}
	lock, err := locks.TryAcquire(ctx, "job", func(o *dynalock.AcquireOptions) {
		o.NoHeartbeat = true // nothing runs in the background, which Lambda freezes
	})

	fmt.Println(lock.Held(), err, lock.Release(ctx))
	// Output: true <nil> <nil>
}

func TestTheNightlyReportWaitsForADeadHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time is virtual: this takes milliseconds
		srv := dynalocktest.Start(t, "locks") // it has the table, and is closed when the test ends
		dead, err := dynalock.New(srv.ClientFor("dead"), "locks")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dead.Acquire(t.Context(), "nightly-report"); err != nil {
			t.Fatal(err)
		}
		srv.Inject(dynalocktest.Fault{Kind: dynalocktest.LostRequest, Client: "dead"}) // cut off

		start := time.Now()
		if err := nightly(t.Context(), srv.Client()); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited < 10*time.Second {
			t.Errorf("it ran after %v, while the dead holder's lease lasted", waited)
		}
		if err := dead.Close(t.Context()); err != nil {
			// it knows by itself that its lock is lost: nothing is left to release
			t.Error(err)
		}
	})
}
