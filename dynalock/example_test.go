//nolint:errcheck // as short as the code of a document is
package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// ctx and fatal stand for those of a program.
var ctx = context.Background()

func fatal(err error) {
	if err != nil {
		panic(err)
	}
}

// table is an embedded server with a table of locks. A program makes db with dynamodb.NewFromConfig.
func table() (db *dynamodb.Client) {
	db = dynalocktest.NewServer().Client()
	fatal(dynalock.CreateTable(ctx, db, "locks"))
	return db
}

// open is a client called owner on that table.
func open(db *dynamodb.Client, owner string) *dynalock.Client {
	client, err := dynalock.New(db, "locks", func(o *dynalock.Options) { o.Owner = owner })
	fatal(err)
	return client
}

// The whole of it: a client, a lock, work, and the way out.
func Example() {
	db := dynalocktest.NewServer().Client() // or dynamodb.NewFromConfig(cfg)
	fatal(dynalock.CreateTable(ctx, db, "locks"))

	client, err := dynalock.New(db, "locks")
	fatal(err)
	defer client.Close(ctx)

	err = client.Do(ctx, "nightly-report", func(ctx context.Context, l *dynalock.Lock) error {
		fmt.Println("working on", l.Key(), ctx.Err()) // ctx is cancelled when the lock is lost
		return nil
	})
	fmt.Println(err)
	// Output:
	// working on nightly-report <nil>
	// <nil>
}

func ExampleNew() {
	client, err := dynalock.New(table(), "locks", func(o *dynalock.Options) {
		o.Lease = 30 * time.Second
		o.Namespace = "billing/"
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	fatal(err)
	fmt.Println(client.Table(), client.Options().Lease, client.Options().MaxPoll)
	// Output: locks 30s 1s
}

// All that is wrong is said at once.
func ExampleNew_invalid() {
	_, err := dynalock.New(table(), "locks", func(o *dynalock.Options) {
		o.Lease = 50 * time.Millisecond
		o.MaxClockSkew = -time.Second
	})
	fmt.Println(errors.Is(err, dynalock.ErrInvalid))
	fmt.Println(err)
	// Output:
	// true
	// dynalock: invalid input: Lease is 50ms, allowed: 100ms to 24h; MaxClockSkew is -1s, allowed: 0 to 24h
}

func ExampleClient_Acquire() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)

	l, err := client.Acquire(ctx, "orders/17") // waits as long as ctx
	fatal(err)
	defer l.Release(ctx)

	fmt.Println(l.Key(), l.Held(), time.Until(l.Deadline()) > 7*time.Second)
	// Output: orders/17 true true
}

// A wait that ends with its context says who was in the way.
func ExampleClient_Acquire_timeout() {
	db := table()
	holder, waiter := open(db, "worker 1"), open(db, "worker 2")
	defer holder.Close(ctx)
	defer waiter.Close(ctx)
	_, err := holder.Acquire(ctx, "orders/17")
	fatal(err)

	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	_, err = waiter.Acquire(short, "orders/17")
	fmt.Println(errors.Is(err, dynalock.ErrHeld), errors.Is(err, context.DeadlineExceeded))
	if held, ok := errors.AsType[*dynalock.HeldError](err); ok {
		fmt.Println("held by", held.Record.Owner)
	}
	// Output:
	// true true
	// held by worker 1
}

func ExampleClient_TryAcquire() {
	db := table()
	first, second := open(db, "worker 1"), open(db, "worker 2")
	defer first.Close(ctx)
	defer second.Close(ctx)

	l, err := first.TryAcquire(ctx, "migration", func(o *dynalock.AcquireOptions) { o.Reason = "schema 42" })
	fatal(err)
	_, err = second.TryAcquire(ctx, "migration")
	if held, ok := errors.AsType[*dynalock.HeldError](err); ok {
		fmt.Println("held by", held.Record.Owner, "for", held.Record.Reason)
	}

	fatal(l.Release(ctx))
	l, err = second.TryAcquire(ctx, "migration")
	fmt.Println(l.Held(), err)
	// Output:
	// held by worker 1 for schema 42
	// true <nil>
}

func ExampleClient_Do() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	err := client.Do(ctx, "import", func(_ context.Context, l *dynalock.Lock) error {
		fmt.Println("holding", l.Key())
		return errors.New("the file is broken")
	})
	fmt.Println(err)
	record, err := client.Get(ctx, "import")
	fatal(err)
	fmt.Println("afterwards it is", record.State)
	// Output:
	// holding import
	// the file is broken
	// afterwards it is free
}

// A workflow takes the lock in one step and goes on with it in another one, in another process.
func ExampleClient_Resume() {
	db := table()
	step1, step2 := open(db, "step 1"), open(db, "step 2")
	defer step1.Close(ctx)
	defer step2.Close(ctx)

	l, err := step1.Acquire(ctx, "deploy", func(o *dynalock.AcquireOptions) {
		o.NoHeartbeat, o.Lease = true, 15*time.Minute // nothing runs between the steps
		o.Data = []byte("version 2")
	})
	fatal(err)
	handle := l.Handle() // into the state of the workflow

	resumed, err := step2.Resume(ctx, handle)
	fatal(err)
	fmt.Printf("%s, %v\n", resumed.Data(), resumed.Token() > l.Token())
	fmt.Println("the old copy:", errors.Is(l.Renew(ctx), dynalock.ErrLost))
	fatal(resumed.Release(ctx))
	_, err = step2.Resume(ctx, handle)
	fmt.Println("once more:", errors.Is(err, dynalock.ErrLost))
	// Output:
	// version 2, true
	// the old copy: true
	// once more: true
}

func ExampleLock_Handle() {
	client := open(table(), "step 1")
	defer client.Close(ctx)
	l, err := client.Acquire(ctx, "deploy")
	fatal(err)
	resumed, err := client.Resume(ctx, l.Handle())
	fatal(err)
	fmt.Println(resumed.Key(), l.Held(), resumed.Held())
	// Output: deploy false true
}

func ExampleClient_Get() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	record, err := client.Get(ctx, "report")
	fatal(err)
	fmt.Println(record.State)

	_, err = client.Acquire(ctx, "report", func(o *dynalock.AcquireOptions) { o.Data = []byte("page 3") })
	fatal(err)
	record, err = client.Get(ctx, "report")
	fatal(err)
	fmt.Printf("%v by %s, lease %v, data %s\n", record.State, record.Owner, record.Lease, record.Data)
	// Output:
	// free
	// held by worker 1, lease 10s, data page 3
}

func ExampleClient_Records() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	l, err := client.Acquire(ctx, "done")
	fatal(err)
	fatal(l.Release(ctx))
	_, err = client.Acquire(ctx, "going on")
	fatal(err)

	for record, err := range client.Records(ctx) {
		fatal(err)
		fmt.Println(record.Key, "is", record.State)
	}
	// Unordered output:
	// done is free
	// going on is held
}

// An operator frees the tenure that he has looked at, and no other one.
func ExampleClient_ForceRelease() {
	db := table()
	worker, operator := open(db, "worker 1"), open(db, "operator")
	defer worker.Close(ctx)
	defer operator.Close(ctx)
	l, err := worker.Acquire(ctx, "stuck")
	fatal(err)

	record, err := operator.Get(ctx, "stuck")
	fatal(err)
	fmt.Println(operator.ForceRelease(ctx, record))
	fmt.Println("again:", errors.Is(operator.ForceRelease(ctx, record), dynalock.ErrChanged))
	fmt.Println("the worker:", errors.Is(l.Renew(ctx), dynalock.ErrLost))
	// Output:
	// <nil>
	// again: true
	// the worker: true
}

// A job that runs at each tick, on one of all the replicas that call Tick.
func ExampleClient_Tick() {
	db := table()
	client := open(db, "replica 1")
	defer client.Close(ctx)
	replica, stop := context.WithCancel(ctx)
	defer stop()

	err := client.Tick(replica, "cleanup", dynalock.Every(time.Second, 0),
		func(_ context.Context, l *dynalock.Lock, due time.Time) error {
			fmt.Println("cleaning up:", l.Key() == "once/cleanup/"+due.Format(time.RFC3339))
			stop() // as a signal would
			return nil
		})
	fmt.Println(err)
	// Output:
	// cleaning up: true
	// context canceled
}

// A period that failed is run again after somebody has opened it.
func ExampleClient_Reopen() {
	db := table()
	worker, operator := open(db, "worker 1"), open(db, "operator")
	defer worker.Close(ctx)
	defer operator.Close(ctx)
	backup := func(context.Context, *dynalock.Lock) error { return errors.New("no space left") }
	worker.Once(ctx, "backup", "2026-11-29", backup)

	_, err := worker.Once(ctx, "backup", "2026-11-29", backup)
	var failed *dynalock.RunError
	if errors.As(err, &failed) { // and the disk is emptied
		fmt.Println(failed.Run.Err, operator.Reopen(ctx, failed.Run))
	}
	run, err := worker.Once(ctx, "backup", "2026-11-29", func(context.Context, *dynalock.Lock) error { return nil })
	fmt.Println(run.Ran, run.Attempt, err)
	// Output:
	// no space left <nil>
	// true 2 <nil>
}

// Close gives back whatever is held, for the end of a process.
func ExampleClient_Close() {
	db := table()
	client := open(db, "worker 1")
	l, err := client.Acquire(ctx, "job")
	fatal(err)

	stop, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	fmt.Println(client.Close(stop), l.Held())
	_, err = client.Acquire(ctx, "job")
	fmt.Println(errors.Is(err, dynalock.ErrClosed))
	// Output:
	// <nil> false
	// true
}

// A lock can be watched in three ways: by asking, by a channel, and by a context for what must stop with it.
func ExampleLock_Context() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	l, err := client.Acquire(ctx, "job")
	fatal(err)
	fatal(l.Release(ctx))
	<-l.Done()
	fmt.Println(l.Held(), errors.Is(l.Err(), dynalock.ErrReleased),
		errors.Is(context.Cause(l.Context()), dynalock.ErrReleased))
	// Output: false true true
}

func ExampleLock_SetData() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	l, err := client.Acquire(ctx, "import")
	fatal(err)
	fatal(l.SetData(ctx, []byte("row 1000")))
	fatal(l.Release(ctx))

	l, err = client.Acquire(ctx, "import") // whoever is next goes on from there
	fatal(err)
	fmt.Printf("%s\n", l.Data())
	// Output: row 1000
}

// counter is an update of the caller's own.
func counter() types.TransactWriteItem {
	return types.TransactWriteItem{Update: &types.Update{
		TableName:                 aws.String("locks"),
		Key:                       map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: "a counter"}},
		UpdateExpression:          aws.String("ADD hits :1"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":1": &types.AttributeValueMemberN{Value: "1"}},
	}}
}

// A write that is refused as soon as somebody else has the lock, whatever this process still believes.
func ExampleLock_Transact() {
	db := table()
	worker, operator := open(db, "worker 1"), open(db, "operator")
	defer worker.Close(ctx)
	defer operator.Close(ctx)
	l, err := worker.Acquire(ctx, "job")
	fatal(err)
	fmt.Println(l.Transact(ctx, counter()))

	record, err := operator.Get(ctx, "job")
	fatal(err)
	fatal(operator.ForceRelease(ctx, record))
	fmt.Println(l.Held(), errors.Is(l.Transact(ctx, counter()), dynalock.ErrLost), l.Held())
	// Output:
	// <nil>
	// true true false
}

// The check by itself, for a transaction that the program sends.
func ExampleLock_ConditionCheck() {
	db := table()
	client := open(db, "worker 1")
	defer client.Close(ctx)
	l, err := client.Acquire(ctx, "job")
	fatal(err)
	write := func() error {
		_, err := db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
			TransactItems: []types.TransactWriteItem{counter(), l.ConditionCheck()},
		})
		return err
	}
	fmt.Println(write())
	fatal(l.Release(ctx))
	cancelled, ok := errors.AsType[*types.TransactionCanceledException](write())
	fmt.Println(ok, *cancelled.CancellationReasons[1].Code)
	// Output:
	// <nil>
	// true ConditionalCheckFailed
}

func ExampleCreateTable() {
	db := dynalocktest.NewServer().Client()
	fmt.Println(dynalock.CreateTable(ctx, db, "locks", func(o *dynalock.TableOptions) {
		o.TimeToLive = true // for Options.Retention
		o.DeletionProtection = true
	}))
	fmt.Println(dynalock.CreateTable(ctx, db, "locks")) // exists and fits
	err := dynalock.CreateTable(ctx, db, "locks", func(o *dynalock.TableOptions) { o.PartitionKey = "id" })
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
	// dynalock: invalid input: table "locks" exists and does not fit: the table's partition key is "key", the options say "id"
}

func ExampleCheckTable() {
	findings, err := dynalock.CheckTable(ctx, table(), "locks", func(o *dynalock.TableOptions) { o.SortKey = "kind" })
	fatal(err)
	for _, finding := range findings {
		fmt.Println(finding)
	}
	// Output:
	// fatal: the table has no sort key, the options say "kind"; leave SortKey out, or use another table
	// info: it is not protected against deletion; enable deletion protection
}

// A one-shot process cannot watch a dead holder for a whole lease. With MaxClockSkew it goes by the stored expiry.
func ExampleOptions_maxClockSkew() {
	client, err := dynalock.New(table(), "locks", func(o *dynalock.Options) {
		o.MaxClockSkew = 500 * time.Millisecond // no two clocks of the fleet differ by more
	})
	fatal(err)
	defer client.Close(ctx)
	fmt.Println(client.Options().MaxClockSkew)
	// Output: 500ms
}

// gauge counts the locks that are held.
type gauge struct{ held int }

func (g *gauge) Observe(_ context.Context, e dynalock.Event) {
	switch e.Kind {
	case dynalock.EventAcquired, dynalock.EventTakenOver:
		g.held++
	case dynalock.EventReleased, dynalock.EventLost:
		g.held--
	}
}

func ExampleObserver() {
	g := &gauge{}
	client, err := dynalock.New(table(), "locks", func(o *dynalock.Options) { o.Observer = g })
	fatal(err)
	defer client.Close(ctx)
	l, err := client.Acquire(ctx, "job")
	fatal(err)
	fmt.Println("held:", g.held)
	fatal(l.Release(ctx))
	fmt.Println("held:", g.held)
	// Output:
	// held: 1
	// held: 0
}
