//nolint:errcheck // as short as the code of a document is
package moving

import (
	"context"
	"fmt"
	"time"

	"cirello.io/dynamolock/v2"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func Example_before() {
	server := dynalocktest.NewServer()
	defer server.Close()
	db := server.Client()
	_ = dynalock.CreateTable(context.Background(), db, "locks")
	work := func() {}

	err := func() error {
		client, err := dynamolock.New(db, "locks",
			dynamolock.WithLeaseDuration(10*time.Second),
			dynamolock.WithHeartbeatPeriod(2*time.Second))
		if err != nil {
			return err
		}
		defer client.Close()
		lock, err := client.AcquireLock("job", dynamolock.WithAdditionalTimeToWaitForLock(time.Minute))
		if err != nil {
			return err
		}
		defer lock.Close()
		work()
		return nil
	}()
	fmt.Println(err)
	// Output: <nil>
}

func Example_after() {
	ctx := context.Background()
	server := dynalocktest.NewServer()
	defer server.Close()
	db := server.Client()
	_ = dynalock.CreateTable(ctx, db, "locks")
	work := func(context.Context) error { return nil }

	err := func() error {
		client, err := dynalock.New(db, "locks", func(o *dynalock.Options) {
			o.Dialect = dynalock.DialectDynamolock // as long as dynamolock locks in this table, too
		})
		if err != nil {
			return err
		}
		defer client.Close(ctx)
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		lock, err := client.Acquire(ctx, "job")
		if err != nil {
			return err
		}
		defer lock.Release(ctx)
		return work(lock.Context()) // ends when the lock is lost
	}()
	fmt.Println(err)
	// Output: <nil>
}
