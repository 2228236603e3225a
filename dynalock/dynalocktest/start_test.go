package dynalocktest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// fakeTest is a test that tells what it was told, and whose end the caller chooses.
type fakeTest struct {
	errors, fatals []string
	cleanups       []func()
	failed         bool
}

func (*fakeTest) Helper()             {}
func (f *fakeTest) Failed() bool      { return f.failed }
func (f *fakeTest) Cleanup(fn func()) { f.cleanups = append(f.cleanups, fn) }
func (f *fakeTest) Errorf(text string, a ...any) {
	f.errors = append(f.errors, fmt.Sprintf(text, a...))
}

func (f *fakeTest) Fatalf(text string, a ...any) {
	f.fatals = append(f.fatals, fmt.Sprintf(text, a...))
}

func (f *fakeTest) end() {
	for i := range f.cleanups {
		f.cleanups[len(f.cleanups)-1-i]()
	}
}

func TestOneLineMakesServerTableAndClientAndClosesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &fakeTest{}
		s := dynalocktest.Start(fake, "locks")
		locks, err := dynalock.New(s.Client(), "locks")
		if err != nil {
			t.Fatal(err)
		}
		if n := s.Usage().Total(); n != 0 || len(s.Requests()) != 0 {
			t.Errorf("%d requests are counted before the first one", n)
		}
		if err := locks.Do(t.Context(), "job", func(context.Context, *dynalock.Lock) error { return nil }); err != nil {
			t.Error(err)
		}
		if err := locks.Close(t.Context()); err != nil {
			t.Error(err)
		}
		fake.end()
		if len(fake.errors)+len(fake.fatals) != 0 {
			t.Errorf("the test is told %q and %q", fake.errors, fake.fatals)
		}
		if _, err := s.Client().ListTables(t.Context(), &dynamodb.ListTablesInput{}, func(o *dynamodb.Options) {
			o.Retryer = aws.NopRetryer{}
		}); err == nil {
			t.Error("the server answers after the test's end")
		}
	})
}

// user is a test with a client of the library.
type user struct {
	*testing.T

	locks *dynalock.Client
}

func (u user) acquire(key string, optFns ...func(*dynalock.AcquireOptions)) *dynalock.Lock {
	u.Helper()
	l, err := u.locks.Acquire(u.Context(), key, optFns...)
	if err != nil {
		u.Fatal(err)
	}
	return l
}

func TestATestThatForgetsToCloseFailsWithTheKeyAndTheOwner(t *testing.T) {
	for name, tt := range map[string]struct {
		opts func(*dynalocktest.ServerOptions)
		do   func(u user)
		fail bool // the test has failed by itself
		want int  // locks that are named
	}{
		"released": {do: func(u user) {
			if err := u.acquire("job").Release(u.Context()); err != nil {
				u.Error(err)
			}
		}},
		"deleted": {do: func(u user) {
			l := u.acquire("job", func(o *dynalock.AcquireOptions) { o.DeleteOnRelease = true })
			if err := l.Release(u.Context()); err != nil {
				u.Error(err)
			}
		}},
		"closed": {do: func(u user) {
			u.acquire("job")
			u.acquire("other")
			if err := u.locks.Close(u.Context()); err != nil {
				u.Error(err)
			}
		}},
		"a run of a period": {do: func(u user) {
			nothing := func(context.Context, *dynalock.Lock) error { return nil }
			if _, err := u.locks.Once(u.Context(), "backup", "2026-11-30", nothing); err != nil {
				u.Error(err)
			}
		}},
		"dead": {do: func(u user) {
			u.acquire("job", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
			time.Sleep(time.Minute)
		}},
		"held": {want: 1, do: func(u user) { u.acquire("job") }},
		"held for long": {want: 1, do: func(u user) {
			u.acquire("job")
			time.Sleep(time.Minute)
		}},
		"two": {want: 2, do: func(u user) {
			u.acquire("job")
			u.acquire("job 2")
		}},
		"left on purpose": {
			opts: func(o *dynalocktest.ServerOptions) { o.LeaveLocks = true },
			do:   func(u user) { u.acquire("job") },
		},
		"failed before": {fail: true, do: func(u user) { u.acquire("job") }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &fakeTest{failed: tt.fail}
				s := dynalocktest.Start(fake, "locks", tt.opts)
				for _, dialect := range []dynalock.Dialect{dynalock.DialectAWSLabs, dynalock.DialectDynamolock} {
					locks, err := dynalock.New(s.Client(), "locks", func(o *dynalock.Options) {
						o.Owner, o.Dialect, o.Namespace = "me", dialect, fmt.Sprint(dialect, "/")
					})
					if err != nil {
						t.Fatal(err)
					}
					tt.do(user{t, locks})
					defer func() { _ = locks.Close(t.Context()) }() // or a goroutine would be left in the bubble
				}
				fake.end()
				if tt.want == 0 && len(fake.errors) != 0 || tt.want > 0 && len(fake.errors) != 1 {
					t.Fatalf("the test is told %q, want %d locks in one error", fake.errors, 2*tt.want)
				}
				if tt.want == 0 {
					return
				}
				said := fake.errors[0]
				n := strings.Count(said, `is still held by "me"`)
				if n != 2*tt.want || !strings.Contains(said, `job" of table "locks"`) {
					t.Errorf("the test is told %q, want %d locks with key and owner", said, 2*tt.want)
				}
			})
		})
	}
}

func TestLocksOfOnePartitionAreToldApartByTheirSortKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &fakeTest{}
		s := dynalocktest.Start(fake, "")
		db, name := s.Client(), aws.String("locks")
		if _, err := db.CreateTable(t.Context(), &dynamodb.CreateTableInput{
			TableName: name, BillingMode: types.BillingModePayPerRequest,
			KeySchema: []types.KeySchemaElement{
				{AttributeName: aws.String("key"), KeyType: types.KeyTypeHash},
				{AttributeName: aws.String("sk"), KeyType: types.KeyTypeRange},
			},
			AttributeDefinitions: []types.AttributeDefinition{
				{AttributeName: aws.String("key"), AttributeType: "S"}, {AttributeName: aws.String("sk"), AttributeType: "S"},
			},
		}); err != nil {
			t.Fatal(err)
		}
		for _, it := range []item{
			{"sk": str("held"), "recordVersionNumber": str("v"), "leaseDuration": str("10s")},
			{"sk": str("free"), "recordVersionNumber": str("v"), "leaseDuration": str("10s"), "isReleased": str("1")},
			{"sk": str("no lease"), "recordVersionNumber": str("v"), "leaseDuration": num("10")},
			{"sk": str("no version"), "leaseDuration": str("10s")},
		} {
			it["key"] = str("a")
			if _, err := db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: name, Item: it}); err != nil {
				t.Fatal(err)
			}
		}
		fake.end()
		if len(fake.errors) != 1 || strings.Count(fake.errors[0], "is still held") != 1 {
			t.Errorf("the test is told %q, want one lock", fake.errors)
		}
	})
}

func TestATableThatCannotBeMadeIsFatal(t *testing.T) {
	t.Parallel()
	fake := &fakeTest{}
	dynalocktest.Start(fake, "no good")
	fake.end()
	if len(fake.fatals) != 1 || !strings.Contains(fake.fatals[0], `no table "no good"`) {
		t.Errorf("the test is told %q", fake.fatals)
	}
}
