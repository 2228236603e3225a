//nolint:errcheck // as short as the code of a document is
package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dynalock/dynalock/dynalock"
)

// Held answers by the holder's own clocks, without a request: cheap enough for each step of the work.
func ExampleLock_Held() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	l, err := client.Acquire(ctx, "import")
	fatal(err)
	for step := 1; l.Held(); step++ {
		fmt.Println("step", step)
		if step == 2 {
			fatal(l.Release(ctx))
		}
	}
	// Output:
	// step 1
	// step 2
}

// A lock that was lost says why, and to whom.
func ExampleLock_Err() {
	db := table()
	worker, operator := open(db, "worker 1"), open(db, "operator")
	defer worker.Close(ctx)
	defer operator.Close(ctx)
	l, err := worker.Acquire(ctx, "import")
	fatal(err)
	fmt.Println(l.Err())

	record, err := operator.Get(ctx, "import")
	fatal(err)
	fatal(operator.ForceRelease(ctx, record))
	l.Renew(ctx) // the next heartbeat, for the example now
	if lost, ok := errors.AsType[*dynalock.LostError](l.Err()); ok {
		fmt.Println("lost", lost.Key, "by", lost.By.ReleasedBy)
	}
	// Output:
	// <nil>
	// lost import by operator
}

// Release is sent even when ctx is over, and may be called again: after an error, or by a defer.
func ExampleLock_Release() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	l, err := client.Acquire(ctx, "import")
	fatal(err)
	fmt.Println(l.Release(ctx), l.Release(ctx))
	record, err := client.Get(ctx, "import")
	fmt.Println(record.State, err)
	// Output:
	// <nil> <nil>
	// free <nil>
}

// Nothing renews a static lease in the background. Its holder does, between the parts of its work.
func ExampleLock_Renew() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	l, err := client.Acquire(ctx, "batch", func(o *dynalock.AcquireOptions) { o.NoHeartbeat, o.Lease = true, time.Minute })
	fatal(err)
	before := l.Deadline()
	time.Sleep(time.Millisecond) // a part of the work
	fatal(l.Renew(ctx))
	fmt.Println(l.Deadline().After(before))
	// Output: true
}

// A resource that is not DynamoDB remembers the largest token, and rejects a smaller one.
func ExampleLock_Token() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	var largest uint64 // the resource keeps it
	write := func(l *dynalock.Lock) error {
		if l.Token() < largest {
			return errors.New("rejected: a later holder has written")
		}
		largest = l.Token()
		return nil
	}
	early, err := client.Acquire(ctx, "account")
	fatal(err)
	fatal(early.Release(ctx))
	late, err := client.Acquire(ctx, "account")
	fatal(err)
	fmt.Println(write(late))
	fmt.Println(write(early))
	// Output:
	// <nil>
	// rejected: a later holder has written
}

// Locks are not reentrant: a call that would wait for its own caller is an error at once.
func ExampleNestedError() {
	client := open(table(), "worker 1")
	defer client.Close(ctx)
	err := client.Do(ctx, "import", func(ctx context.Context, _ *dynalock.Lock) error {
		_, err := client.Acquire(ctx, "import")
		return err
	})
	nested, ok := errors.AsType[*dynalock.NestedError](err)
	fmt.Println(ok, nested.Key)
	// Output: true import
}
