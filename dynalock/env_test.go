package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/internal/testserver"
)

// lease of the tests of behaviour: short, because on a real server its time really passes.
const lease = 3 * time.Second

// env is a table on the server under test.
type env struct {
	*testing.T
	ctx      context.Context
	table    string
	sortKey  string
	embedded *dynalocktest.Server // nil on a real server
	connect  func() *dynamodb.Client
}

// onServer runs a test of lock behaviour on whichever server the suite runs on: on the embedded one in virtual
// time, on a real one in real time.
func onServer(t *testing.T, test func(e *env)) {
	t.Helper()
	onServerWithSortKey(t, "", test)
}

func onServerWithSortKey(t *testing.T, sortKey string, test func(e *env)) {
	t.Helper()
	t.Parallel()
	srv := testserver.New(t)
	if srv.Embedded() == nil {
		test(&env{
			T: t, ctx: t.Context(), table: srv.Table(t, "key", sortKey), sortKey: sortKey,
			connect: func() *dynamodb.Client { return srv.Client() },
		})
		return
	}
	inBubble(t, sortKey, test)
}

// inBubble runs a test in virtual time on an embedded server of its own.
func inBubble(t *testing.T, sortKey string, test func(e *env)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) {
			o.Latency = 2 * time.Millisecond
		})
		t.Cleanup(srv.Close)
		e := &env{T: t, ctx: t.Context(), table: "locks", sortKey: sortKey, embedded: srv, connect: srv.Client}
		must(t, dynalock.CreateTable(e.ctx, srv.Client(), e.table, func(o *dynalock.TableOptions) { o.SortKey = sortKey }))
		test(e)
	})
}

// virtual runs a test in virtual time whatever the server of the suite: for sentences about exact times.
func virtual(t *testing.T, test func(e *env)) {
	t.Helper()
	t.Parallel()
	inBubble(t, "", test)
}

// client makes a client, closed at the end of the test, and the wire that counts and breaks its requests.
func (e *env) client(optFns ...func(*dynalock.Options)) (*dynalock.Client, *testserver.Wire) {
	e.Helper()
	db, wire := testserver.Tap(e.connect())
	c, err := dynalock.New(db, e.table, append([]func(*dynalock.Options){func(o *dynalock.Options) {
		o.Lease = lease
		if e.embedded == nil {
			o.AttemptTimeout = lease * 3 / 10 // a busy machine answers late
		}
		if e.sortKey != "" {
			o.SortKey, o.SortValue = e.sortKey, "lock"
		}
	}}, optFns...)...)
	must(e.T, err)
	e.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), 5*time.Second)
		defer cancel()
		_ = c.Close(ctx) // the tests about Close look at its error
	})
	return c, wire
}

// within is a context that ends after d.
func (e *env) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(e.ctx, d)
	e.Cleanup(cancel)
	return ctx
}

func (e *env) acquire(c *dynalock.Client, key string, optFns ...func(*dynalock.AcquireOptions)) *dynalock.Lock {
	e.Helper()
	return e.acquireWithin(c, 30*time.Second, key, optFns...)
}

func (e *env) acquireWithin(
	c *dynalock.Client, d time.Duration, key string, optFns ...func(*dynalock.AcquireOptions),
) *dynalock.Lock {
	e.Helper()
	l, err := c.Acquire(e.within(d), key, optFns...)
	must(e.T, err)
	return l
}

// until waits for what is about to come.
func (e *env) until(what string, done func() bool) {
	e.Helper()
	for range 2000 {
		if done() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	e.Fatalf("it does not come: %s", what)
}

// crash cuts a client off for good, as the death of its process would.
func crash(wire *testserver.Wire) { wire.Cut() }

// item reads what is stored.
func (e *env) item(key string) map[string]types.AttributeValue {
	e.Helper()
	out, err := e.connect().GetItem(e.ctx,
		&dynamodb.GetItemInput{TableName: &e.table, Key: e.key(key), ConsistentRead: new(true)})
	must(e.T, err)
	return out.Item
}

func (e *env) key(key string) map[string]types.AttributeValue {
	k := map[string]types.AttributeValue{"key": s(key)}
	if e.sortKey != "" {
		k[e.sortKey] = s("lock")
	}
	return k
}

// put stores an item as another library or an operator would.
func (e *env) put(key string, attrs map[string]types.AttributeValue) {
	e.Helper()
	for name, v := range e.key(key) {
		attrs[name] = v
	}
	_, err := e.connect().PutItem(e.ctx, &dynamodb.PutItemInput{TableName: &e.table, Item: attrs})
	must(e.T, err)
}

func (e *env) delete(key string) {
	e.Helper()
	_, err := e.connect().DeleteItem(e.ctx, &dynamodb.DeleteItemInput{TableName: &e.table, Key: e.key(key)})
	must(e.T, err)
}

func s(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }

func text(v types.AttributeValue) string {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberN:
		return v.Value
	case nil:
		return ""
	}
	return fmt.Sprintf("%T", v)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func wantErr(tb testing.TB, err, target error) {
	tb.Helper()
	if !errors.Is(err, target) {
		tb.Fatalf("error is %v, want one that matches %v", err, target)
	}
}

func check(tb testing.TB, ok bool, format string, args ...any) {
	tb.Helper()
	if !ok {
		tb.Errorf(format, args...)
	}
}

// flag reports whether an environment variable asks for the long form of a test.
func flag(name string) bool { return os.Getenv(name) != "" }

// long is for tests that count requests: on a busy machine no answer comes too late for it.
func long(o *dynalock.Options) { o.Lease, o.AttemptTimeout = time.Minute, 30*time.Second }

var busy = testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ThrottlingException"}
