// Package moving proves what docs/moving.md says about a table that dynamolock and dynalock share, and shows the same
// work written for both. It is a module of its own, so that dynamolock enters nobody's module graph.
package moving

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cirello.io/dynamolock/v2"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.uber.org/goleak"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func TestMain(m *testing.M) {
	// It goes on until its next tick after Close.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("cirello.io/dynamolock/v2.(*Client).heartbeat"))
}

const (
	table = "locks"
	lease = 500 * time.Millisecond
)

// shared is a table with a client of either library.
type shared struct {
	server *dynalocktest.Server
	older  *dynamolock.Client
	newer  *dynalock.Client
}

func share(t *testing.T, heartbeat time.Duration, optFns ...func(*dynalock.Options)) *shared {
	t.Helper()
	s := &shared{server: dynalocktest.NewServer()}
	t.Cleanup(s.server.Close)
	must(t, dynalock.CreateTable(t.Context(), s.server.Client(), table))
	var err error
	s.older, err = dynamolock.New(s.server.ClientFor("older"), table,
		dynamolock.WithOwnerName("older"),
		dynamolock.WithLeaseDuration(lease),
		dynamolock.WithHeartbeatPeriod(heartbeat))
	must(t, err)
	t.Cleanup(func() {
		must(t, s.older.Close())
		time.Sleep(lease) // its heartbeat notices at its next tick
	})
	s.newer, err = dynalock.New(s.server.ClientFor("newer"), table,
		append([]func(*dynalock.Options){func(o *dynalock.Options) {
			o.Owner = "newer"
			o.Lease = lease
			o.Dialect = dynalock.DialectDynamolock
		}}, optFns...)...)
	must(t, err)
	t.Cleanup(func() { must(t, s.newer.Close(context.WithoutCancel(t.Context()))) })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *shared) item(t *testing.T) map[string]types.AttributeValue {
	t.Helper()
	out, err := s.server.Client().GetItem(t.Context(), &dynamodb.GetItemInput{
		TableName: new(table), Key: map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: "job"}},
	})
	must(t, err)
	return out.Item
}

// try is dynamolock's attempt without a wait.
func (s *shared) try() (*dynamolock.Lock, error) {
	return s.older.AcquireLock("job", dynamolock.FailIfLocked())
}

func TestTheTwoLibrariesKeepEachOtherOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := share(t, lease/5)
		old, err := s.try()
		must(t, err)
		_, err = s.newer.TryAcquire(t.Context(), "job")
		if held, ok := errors.AsType[*dynalock.HeldError](err); !ok || held.Record.Owner != "older" {
			t.Fatalf("error is %v, want the lock held by dynamolock's owner", err)
		}
		must(t, old.Close())

		l, err := s.newer.TryAcquire(t.Context(), "job")
		must(t, err)
		if _, err := s.try(); err == nil {
			t.Fatal("dynamolock got a lock that is held")
		}
		must(t, l.Release(t.Context()))
		old, err = s.try()
		must(t, err)
		must(t, old.Close())
	})
}

func TestEachTakesOverFromADeadHolderOfTheOtherAfterItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := share(t, 0) // dynamolock sends no heartbeats
		_, err := s.try()
		must(t, err)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		l, err := s.newer.Acquire(ctx, "job", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		must(t, err)
		if took := time.Since(began); took < lease {
			t.Errorf("dynalock took over after %v, before the lease of %v", took, lease)
		}
		began = time.Now()
		_, err = s.older.AcquireLock("job", dynamolock.WithRefreshPeriod(lease/10),
			dynamolock.WithAdditionalTimeToWaitForLock(10*time.Second))
		must(t, err)
		if took := time.Since(began); took < lease-50*time.Millisecond { // it begins to count with its first look
			t.Errorf("dynamolock took over after %v, before the lease of %v", took, lease)
		}
		if l.Held() {
			t.Error("dynalock still believes that it holds the lock")
		}
		if err := l.Release(t.Context()); !errors.Is(err, dynalock.ErrLost) {
			t.Errorf("the release of a lock that dynamolock has taken says %v, want ErrLost", err)
		}
	})
}

func TestAHoldersHeartbeatsKeepItsLockFromTheOtherLibrary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := share(t, lease/5)
		l, err := s.newer.TryAcquire(t.Context(), "job")
		must(t, err)
		_, err = s.older.AcquireLock("job", dynamolock.WithRefreshPeriod(lease/10),
			dynamolock.WithAdditionalTimeToWaitForLock(lease))
		if err == nil || !l.Held() {
			t.Errorf("dynamolock got a lock that is kept (%v), held %v", err, l.Held())
		}
		must(t, l.Release(t.Context()))

		_, err = s.try()
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 3*lease)
		defer cancel()
		if _, err := s.newer.Acquire(ctx, "job"); !errors.Is(err, dynalock.ErrHeld) {
			t.Errorf("dynalock waited for a lock that is kept, and got %v, want ErrHeld", err)
		}
	})
}

func TestATenureOfDynamolockKeepsTheTokenAndTheNextOfOursIsAbove(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := share(t, lease/5)
		l, err := s.newer.TryAcquire(t.Context(), "job")
		must(t, err)
		must(t, l.Release(t.Context()))
		old, err := s.try()
		must(t, err)
		if n, ok := s.item(t)["fencingToken"].(*types.AttributeValueMemberN); !ok || n.Value == "" {
			t.Errorf("dynamolock's row has the token %v, want the one before", s.item(t)["fencingToken"])
		}
		if r, err := s.newer.Get(t.Context(), "job"); err != nil || !r.ExpiresAt.IsZero() || r.State != dynalock.Held {
			t.Errorf("dynamolock's row shows an expiry of ours: %+v, %v", r, err)
		}
		must(t, old.Close())
		l2, err := s.newer.TryAcquire(t.Context(), "job")
		must(t, err)
		if l2.Token() <= l.Token() {
			t.Errorf("token %d after %d", l2.Token(), l.Token())
		}
	})
}

// dynamolock reads a row, and later writes what it read on condition that the row is released, whatever has happened
// in between. So an old token can come back.
func TestATokenCanComeTwiceWhereDynamolockWritesBackWhatItReadEarlier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := share(t, lease/5)
		l, err := s.newer.TryAcquire(t.Context(), "job")
		must(t, err)
		must(t, l.Release(t.Context()))
		remove := s.server.Inject(
			dynalocktest.Fault{
				Kind: dynalocktest.SlowRequest, Client: "older", Operation: "PutItem",
				Delay: 300 * time.Millisecond,
			})
		got := make(chan error)
		go func() {
			old, err := s.try() // reads now, writes later
			if err == nil {
				err = old.Close()
			}
			got <- err
		}()
		time.Sleep(100 * time.Millisecond)
		between, err := s.newer.TryAcquire(t.Context(), "job")
		must(t, err)
		must(t, between.Release(t.Context()))
		must(t, <-got)
		remove()
		another, err := dynalock.New(s.server.ClientFor("another"), table, func(o *dynalock.Options) {
			o.Lease, o.Dialect = lease, dynalock.DialectDynamolock
		})
		must(t, err)
		defer func() { must(t, another.Close(context.WithoutCancel(t.Context()))) }()
		after, err := another.TryAcquire(t.Context(), "job") // a client that has seen none of them
		must(t, err)
		if after.Token() != between.Token() {
			t.Errorf("token %d after %d: dynamolock no longer writes old tokens back, and docs/moving.md can say so",
				after.Token(), between.Token())
		}
		// What tells the two apart is the acquisition: the guarded write of the earlier one is refused.
		_, err = s.server.Client().TransactWriteItems(t.Context(),
			&dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{between.ConditionCheck()}})
		if cancelled := (*types.TransactionCanceledException)(nil); !errors.As(err, &cancelled) {
			t.Errorf("the guarded write of an earlier tenure gives %v, want it refused", err)
		}
		must(t, after.Release(t.Context()))
		own, err := s.newer.TryAcquire(t.Context(), "job") // and one that has seen the larger ones
		must(t, err)
		if own.Token() <= between.Token() {
			t.Errorf("token %d after %d of the same client", own.Token(), between.Token())
		}
	})
}

func TestDynamolockCannotReadALeaseInTheJavaDialect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := share(t, lease/5, func(o *dynalock.Options) { o.Dialect = dynalock.DialectAWSLabs })
		l, err := s.newer.TryAcquire(t.Context(), "job")
		must(t, err)
		must(t, l.Release(t.Context()))
		if _, err := s.try(); err == nil || !strings.Contains(err.Error(), "cannot parse lease duration") {
			t.Errorf("dynamolock says %v: docs/moving.md need no longer ask for Options.Dialect", err)
		}
	})
}

func TestAnItemKeepsTheDialectThatItHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := share(t, lease/5, func(o *dynalock.Options) { o.Dialect = dynalock.DialectAWSLabs })
		old, err := s.try()
		must(t, err)
		must(t, old.Close())
		l, err := s.newer.Acquire(t.Context(), "job")
		must(t, err)
		if got, ok := s.item(t)["leaseDuration"].(*types.AttributeValueMemberS); !ok || got.Value != "500ms" {
			t.Errorf("leaseDuration is %v, want 500ms", s.item(t)["leaseDuration"])
		}
		must(t, l.Release(t.Context()))
		old, err = s.try()
		must(t, err)
		must(t, old.Close())
	})
}

// The rows are as the AWS Labs client for Java, version 1.4.0, wrote them with a lease of 2 s.
func TestTheRowsOfTheJavaClientAreReadAsWhatTheyAre(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := share(t, 0)
		put := func(attrs map[string]string) {
			t.Helper()
			item := map[string]types.AttributeValue{}
			for name, v := range attrs {
				item[name] = &types.AttributeValueMemberS{Value: v}
			}
			_, err := s.server.Client().PutItem(t.Context(), &dynamodb.PutItemInput{TableName: new(table), Item: item})
			must(t, err)
		}
		row := map[string]string{
			"key": "job", "ownerName": "java", "leaseDuration": "2000",
			"recordVersionNumber": "70ab6f0e-f781-4f63-8898-84e5b16c615f",
		}
		put(row)
		began := time.Now()
		_, err := s.newer.TryAcquire(t.Context(), "job")
		if held, ok := errors.AsType[*dynalock.HeldError](err); !ok || held.Record.Owner != "java" ||
			held.Record.Lease != 2*time.Second {
			t.Fatalf("error is %v, want the lock held by java for 2s", err)
		}
		l, err := s.newer.Acquire(t.Context(), "job")
		must(t, err)
		if took := time.Since(began); took < 2*time.Second || took > 2100*time.Millisecond {
			t.Errorf("taken over after %v, want just after the lease of 2s that the row says", took)
		}
		if got, ok := s.item(t)["leaseDuration"].(*types.AttributeValueMemberS); !ok || got.Value != "500" {
			t.Errorf("leaseDuration is %v, want milliseconds, as the row had them", s.item(t)["leaseDuration"])
		}
		must(t, l.Release(t.Context()))

		row["isReleased"] = "1"
		put(row)
		l, err = s.newer.TryAcquire(t.Context(), "job")
		must(t, err)
		must(t, l.Release(t.Context()))
	})
}
