//nolint:errcheck // as short as the code of a document is
package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/heartbeat"
)

// The defaults follow from the lease. A client that sets more than that says how its time is divided.
func ExampleOptions() {
	client, err := dynalock.New(table(), "locks", func(o *dynalock.Options) {
		o.Lease = 30 * time.Second
		o.SafetyMargin = 6 * time.Second   // the holder stops 24 s after its last heartbeat
		o.Heartbeat = 4 * time.Second      // so five of them can fail
		o.AttemptTimeout = 2 * time.Second // each is given up after this long, and retried
		o.MinPoll, o.MaxPoll = 50*time.Millisecond, 5*time.Second
	})
	fatal(err)
	defer client.Close(ctx)
	l, err := client.Acquire(ctx, "job")
	fatal(err)
	fmt.Println(time.Until(l.Deadline()).Round(time.Second))
	// Output: 24s
}

// Two teams use one table and do not meet.
func ExampleOptions_namespace() {
	db := table()
	for _, team := range []string{"billing", "shipping"} {
		client, err := dynalock.New(db, "locks", func(o *dynalock.Options) {
			o.Namespace, o.Owner = team+"/", "worker of "+team
		})
		fatal(err)
		defer client.Close(ctx)
		l, err := client.TryAcquire(ctx, "import")
		fatal(err)
		fmt.Println(l.Key(), l.Held())
	}
	// Output:
	// import true
	// import true
}

// A table that has other keys, and other items: its locks have a sort value of their own.
func ExampleOptions_sortKey() {
	db := dynalocktest.NewServer().Client()
	fatal(dynalock.CreateTable(ctx, db, "app", func(o *dynalock.TableOptions) { o.PartitionKey, o.SortKey = "pk", "sk" }))
	client, err := dynalock.New(db, "app", func(o *dynalock.Options) {
		o.PartitionKey, o.SortKey, o.SortValue = "pk", "sk", "lock"
	})
	fatal(err)
	defer client.Close(ctx)
	l, err := client.Acquire(ctx, "order/17")
	fatal(err)
	fmt.Println(l.Held())
	// Output: true
}

// Items that dynamolock for Go can read.
func ExampleOptions_dialect() {
	db := table()
	client, err := dynalock.New(db, "locks", func(o *dynalock.Options) { o.Dialect = dynalock.DialectDynamolock })
	fatal(err)
	defer client.Close(ctx)
	_, err = client.Acquire(ctx, "job")
	fatal(err)
	out, err := db.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String("locks"), Key: map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: "job"}},
	})
	fatal(err)
	fmt.Println(out.Item["leaseDuration"].(*types.AttributeValueMemberS).Value)
	// Output: 10s
}

// Keys that nobody uses any more leave the table. DynamoDB deletes their items some time after the retention.
func ExampleOptions_retention() {
	server := dynalocktest.NewServer()
	db := server.Client()
	fatal(dynalock.CreateTable(ctx, db, "locks", func(o *dynalock.TableOptions) { o.TimeToLive = true }))
	client, err := dynalock.New(db, "locks", func(o *dynalock.Options) { o.Retention = time.Hour })
	fatal(err)
	defer client.Close(ctx)
	l, err := client.Acquire(ctx, "order/17")
	fatal(err)
	fatal(l.Release(ctx))

	fmt.Println("deleted at once:", server.ExpireItems())
	server.SetClockOffset(61 * time.Minute)
	fmt.Println("deleted later:", server.ExpireItems())
	// Output:
	// deleted at once: 0
	// deleted later: 1
}

// A worker that hangs keeps the lock no longer than MaxHold, even though its heartbeats succeed.
func ExampleAcquireOptions_maxHold() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	l, err := client.Acquire(ctx, "report", func(o *dynalock.AcquireOptions) {
		o.MaxHold = 100 * time.Millisecond
		o.Reason = "report of November" // waiters are shown it
	})
	fatal(err)
	<-l.Done()
	fmt.Println(l.Held(), errors.Is(l.Err(), dynalock.ErrLost), errors.Is(l.Err(), heartbeat.ErrLimit))
	// Output: false true true
}

// A key that is used once: DynamoDB deletes its item 15 minutes after the release, or later.
func ExampleAcquireOptions_deleteOnRelease() {
	server := dynalocktest.NewServer()
	fatal(dynalock.CreateTable(ctx, server.Client(), "locks", func(o *dynalock.TableOptions) { o.TimeToLive = true }))
	client := open(server.Client(), "worker 1")
	defer client.Close(ctx)
	err := client.Do(ctx, "upload/4711", func(context.Context, *dynalock.Lock) error { return nil },
		func(o *dynalock.AcquireOptions) { o.DeleteOnRelease = true })
	fatal(err)

	server.SetClockOffset(16 * time.Minute)
	fmt.Println("deleted:", server.ExpireItems())
	// Output: deleted: 1
}

// A function that runs until a deadline, such as a Lambda invocation, takes a lease that lasts as long.
func ExampleLeaseUntilDeadline() {
	invocation, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	lease, err := dynalock.LeaseUntilDeadline(invocation)
	fatal(err)
	fmt.Println(lease.Round(time.Second)) // trusted for 4/5 of it
	// Output: 1m15s
}

// The work ends a second before the invocation does, so that the lock can still be released.
func ExampleBeforeDeadline() {
	invocation, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	work, cancelWork := dynalock.BeforeDeadline(invocation)
	defer cancelWork()
	until, _ := work.Deadline()
	fmt.Println(time.Until(until).Round(time.Second))
	// Output: 59s
}
