package dynalock_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

// The store: what it may refuse, and what the error says.

// everyCall makes every call that asks the store, on a client of db and with a handle and a record of somebody else.
func everyCall(e *env, db dynalock.DynamoDB, table string, optFns ...func(*dynalock.Options)) map[string]error {
	e.Helper()
	c, err := dynalock.New(db, table, optFns...)
	must(e, err)
	defer func() { must(e, c.Close(e.ctx)) }()
	good, _ := e.client(long)
	l := e.acquire(good, "a lock elsewhere")
	r, err := good.Get(e.ctx, l.Key())
	must(e, err)
	errs := map[string]error{}
	_, errs["Acquire"] = c.Acquire(e.within(30*time.Second), "key")
	_, errs["TryAcquire"] = c.TryAcquire(e.ctx, "key")
	errs["Do"] = c.Do(e.ctx, "key", func(context.Context, *dynalock.Lock) error { e.Error("Do ran its function"); return nil })
	_, errs["Resume"] = c.Resume(e.ctx, oldHandle(e, l))
	_, errs["Get"] = c.Get(e.ctx, "key")
	errs["ForceRelease"] = c.ForceRelease(e.ctx, r)
	for _, err := range c.Records(e.ctx) {
		errs["Records"] = err
	}
	must(e, l.Release(e.ctx))
	return errs
}

func TestAStoreThatCannotBeUsedIsAnErrorThatSaysWhichAndWhatToDo(t *testing.T) {
	denied := func(code string) func(e *env) *dynamodb.Client {
		return func(e *env) *dynamodb.Client {
			db, wire := testserver.Tap(e.connect())
			wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: code})
			return db
		}
	}
	tests := []struct {
		name  string
		db    func(e *env) *dynamodb.Client
		table string
		set   func(*dynalock.Options)
		says  string // and the table's name
		skip  string // a call that succeeds
	}{
		{name: "table missing", table: "nowhere", says: "dynalock.CreateTable"},
		{name: "other Region", table: "nowhere", says: "AWS_REGION"}, // a table of another Region is a table that is not there
		{name: "partition key", set: func(o *dynalock.Options) { o.PartitionKey = "id" }, says: `partition key "id"`, skip: "Records"},
		{name: "sort key", set: func(o *dynalock.Options) { o.SortKey, o.SortValue = "sort", "value" }, says: `sort key "sort"`, skip: "Records"},
		{name: "permission", db: denied("AccessDeniedException"), says: "lacks a permission"},
		{name: "revoked credentials", db: denied("UnrecognizedClientException"), says: "credentials are not valid"},
		{name: "expired credentials", db: denied("ExpiredTokenException"), says: "credentials are not valid"},
		{name: "no credentials", says: "no AWS credentials", db: func(e *env) *dynamodb.Client {
			return dynamodb.New(e.connect().Options(), func(o *dynamodb.Options) {
				o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
					return aws.Credentials{}, errors.New("nothing in the chain")
				})
			})
		}},
		{name: "no Region", says: "no Region is configured", db: func(e *env) *dynamodb.Client {
			o := e.connect().Options()
			return dynamodb.New(dynamodb.Options{Credentials: o.Credentials, HTTPClient: unreachable{e}})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onServer(t, func(e *env) {
				db, table := e.connect(), e.table
				if tt.db != nil {
					db = tt.db(e)
				}
				if tt.table != "" {
					table = tt.table
				}
				set := func(o *dynalock.Options) { // so that nothing below is a matter of patience
					if o.Lease = time.Minute; tt.set != nil {
						tt.set(o)
					}
				}
				start := time.Now()
				for call, err := range everyCall(e, db, table, set) {
					if call == tt.skip {
						continue
					}
					wantErr(e, err, dynalock.ErrStore)
					store, ok := errors.AsType[*dynalock.StoreError](err)
					check(e, ok && store.Table == table && store.Op != "" && store.Err != nil, "%s: %#v", call, store)
					check(e, strings.Contains(err.Error(), tt.says) && strings.Contains(err.Error(), table), "%s says: %v", call, err)
					check(e, !errors.Is(err, dynalock.ErrHeld) && !errors.Is(err, dynalock.ErrLost), "%s: %v is something else, too", call, err)
				}
				check(e, time.Since(start) < 20*time.Second, "the calls waited for %v where waiting does not help", time.Since(start))
				if tt.table != "" || tt.db != nil {
					_, err := dynalock.CheckTable(e.ctx, db, table)
					wantErr(e, err, dynalock.ErrStore)
					check(e, strings.Contains(err.Error(), tt.says), "CheckTable says: %v", err)
				}
				if tt.db != nil {
					err := dynalock.CreateTable(e.ctx, db, table)
					wantErr(e, err, dynalock.ErrStore)
					check(e, strings.Contains(err.Error(), tt.says), "CreateTable says: %v", err)
				}
			})
		})
	}
}

// unreachable is a network that must not be used.
type unreachable struct{ t testing.TB }

func (u unreachable) Do(r *http.Request) (*http.Response, error) {
	u.t.Errorf("a request was sent to %s", r.URL)
	return nil, errors.New("unreachable")
}

func TestTheSDKsErrorCanBeHadFromTheStoreError(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "AccessDeniedException"})
		_, err := c.TryAcquire(e.ctx, "key")
		api, ok := errors.AsType[smithy.APIError](err)
		check(e, ok && api.ErrorCode() == "AccessDeniedException", "no API error in %v", err)
		check(e, wire.Count() == 1, "%d requests, want no repetition of what is refused for good", wire.Count())
	})
}

func TestAPermissionTakenFromAHolderIsNoLossBeforeItsDeadline(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key")
		remove := wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "AccessDeniedException"})
		time.Sleep(lease / 2)
		check(e, l.Held(), "lost: %v", l.Err())
		err := l.Renew(e.within(lease / 20))
		wantErr(e, err, dynalock.ErrStore)
		wantErr(e, err, context.DeadlineExceeded)
		remove() // given back in time
		time.Sleep(2 * lease)
		check(e, l.Held(), "lost: %v", l.Err())
	})
}

func TestWaitersWaitThroughAnOutageAndHoldersLoseAtTheDeadline(t *testing.T) {
	for name, kind := range map[string]testserver.Kind{"hung": testserver.HangBefore, "broken": testserver.LoseRequest, "5xx": testserver.FailBefore} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, wire := e.client()
				l := e.acquire(c, "mine")
				remove := wire.Inject(testserver.Fault{Kind: kind})
				deadline := l.Deadline()

				start := time.Now()
				_, err := c.Acquire(e.within(10*lease), "other")
				wantErr(e, err, context.DeadlineExceeded)
				wantErr(e, err, dynalock.ErrStore)
				took := time.Since(start) - 10*lease
				check(e, took >= 0 && took <= 50*time.Millisecond, "the waiter gave up %v after its context's end", took)
				<-l.Done()
				wantErr(e, l.Err(), heartbeat.ErrDeadline)
				check(e, time.Since(deadline) > 5*lease && !l.Held(), "held for ever")

				// The network comes back: waiters get the lock, and nothing of before is in the way.
				got := make(chan *dynalock.Lock)
				go func() {
					l, err := c.Acquire(e.ctx, "third")
					check(e, err == nil, "%v", err)
					got <- l
				}()
				time.Sleep(5 * lease)
				remove()
				back := time.Now()
				must(e, (<-got).Release(e.ctx))
				e.acquire(c, "other")
				check(e, time.Since(back) < 2*lease, "%v until the locks were to be had again", time.Since(back))
			})
		})
	}
}

func TestCloseOnADeadNetworkLeavesNothingBehind(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Hour })
		locks := []*dynalock.Lock{e.acquire(c, "a"), e.acquire(c, "b")}
		crash(wire)
		errs := make(chan error, 3)
		go func() { _, err := c.Acquire(e.ctx, "c"); errs <- err }()
		go func() { _, err := c.TryAcquire(e.ctx, "d"); errs <- err }()
		go func() { errs <- locks[0].Renew(e.ctx) }()
		time.Sleep(time.Millisecond)
		start := time.Now()
		err := c.Close(e.within(time.Second))
		wantErr(e, err, context.DeadlineExceeded)
		check(e, strings.Contains(err.Error(), `"a"`) && strings.Contains(err.Error(), `"b"`), "it does not say what could not be released: %v", err)
		check(e, time.Since(start) <= 1050*time.Millisecond, "Close took %v", time.Since(start))
		for range 3 {
			err := <-errs
			check(e, errors.Is(err, dynalock.ErrClosed) || errors.Is(err, dynalock.ErrReleased), "a call ended with %v", err)
		}
		for _, l := range locks {
			check(e, !l.Held(), "held after Close")
		}
		// The bubble ends here: a goroutine that was left would fail it.
	})
}

// deadWithManyLocks is a client that holds more locks than Close releases at a time, and is cut off for good.
func deadWithManyLocks(e *env) (*dynalock.Client, []*dynalock.Lock) {
	c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Minute })
	var locks []*dynalock.Lock
	for i := range 500 {
		locks = append(locks, e.acquire(c, fmt.Sprint("key", i)))
	}
	crash(wire)
	return c, locks
}

func TestCloseOfManyLocksOnADeadNetworkEndsWithItsContext(t *testing.T) {
	virtual(t, func(e *env) {
		c, locks := deadWithManyLocks(e)
		start := time.Now()
		wantErr(e, c.Close(e.within(100*time.Millisecond)), context.DeadlineExceeded)
		check(e, time.Since(start) <= 150*time.Millisecond, "returned %v after its context's end", time.Since(start)-100*time.Millisecond)
		for _, l := range locks { // also those whose turn to be released never came
			wantErr(e, context.Cause(l.Context()), dynalock.ErrReleased)
			wantErr(e, l.Err(), dynalock.ErrReleased)
			check(e, !errors.Is(l.Err(), dynalock.ErrLost) && !l.Held(), "%q after Close: held is %v, %v", l.Key(), l.Held(), l.Err())
		}
	})
}

// The heartbeats go on until the turn of a lock comes: none is silently over meanwhile.
func TestALockThatWaitsForItsReleaseByCloseIsHeldOrSaysThatItIsNot(t *testing.T) {
	virtual(t, func(e *env) {
		c, locks := deadWithManyLocks(e)
		closed := make(chan error, 1)
		go func() { closed <- c.Close(e.within(3 * time.Minute)) }()
		for range 18 {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			for _, l := range locks {
				check(e, l.Held() == (l.Context().Err() == nil), "%q: held is %v, its context says %v", l.Key(), l.Held(), l.Context().Err())
			}
		}
		wantErr(e, <-closed, context.DeadlineExceeded)
	})
}

func TestAStoreThatNeverAnsweredIsNotReportedAsAHeldLock(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = 10 * time.Second })
		crash(wire)
		for _, patience := range []time.Duration{500 * time.Millisecond, 5 * time.Second} { // within the first attempt, and after it
			_, err := c.Acquire(e.within(patience), "key")
			wantErr(e, err, context.DeadlineExceeded)
			wantErr(e, err, dynalock.ErrStore)
			check(e, !errors.Is(err, dynalock.ErrHeld), "nothing was heard, and the error is %v", err)
		}
	})
}

func TestTheEndOfAWaitSaysWhyTheStoreCouldNotBeAsked(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: 503, Type: "ServiceUnavailable"})
		_, err := c.Acquire(e.within(lease), "key")
		wantErr(e, err, context.DeadlineExceeded)
		wantErr(e, err, dynalock.ErrStore)
		api, ok := errors.AsType[smithy.APIError](err)
		check(e, ok && api.ErrorCode() == "ServiceUnavailable", "the cause is not in %v", err)
	})
}

func TestDoEndsWithItsContextOnADeadNetworkAndReleasesInTheBackground(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = 10 * time.Second })
		ctx, cancel := context.WithCancel(e.ctx)
		var end time.Time
		var remove func()
		err := c.Do(ctx, "key", func(context.Context, *dynalock.Lock) error {
			remove = wire.Inject(testserver.Fault{Kind: testserver.HangBefore})
			cancel()
			end = time.Now()
			return nil
		})
		wantErr(e, err, context.Canceled)
		check(e, time.Since(end) <= 50*time.Millisecond, "returned %v after its context's end", time.Since(end))
		remove()
		time.Sleep(3 * time.Second)
		check(e, text(e.item("key")["isReleased"]) == "1", "not released: %v", e.item("key"))
	})
}

func TestDoTellsOfALossThatItsFunctionsOwnReleaseFound(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long)
		err := c.Do(e.ctx, "key", func(_ context.Context, l *dynalock.Lock) error {
			e.delete("key")
			wantErr(e, l.Release(e.ctx), dynalock.ErrLost)
			return nil
		})
		wantErr(e, err, dynalock.ErrLost)
	})
}

func TestAClosedClientRefusesCallsButStillReads(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		l := e.acquire(c, "key")
		must(e, c.Close(e.ctx))
		_, err := c.Acquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrClosed)
		_, err = c.TryAcquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrClosed)
		_, err = c.Resume(e.ctx, l.Handle())
		wantErr(e, err, dynalock.ErrClosed)
		wantErr(e, c.Do(e.ctx, "key", nothing), dynalock.ErrClosed)
		must(e, l.Release(e.ctx)) // Close has released it
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		check(e, r.State == dynalock.Free, "%+v", r)
	})
}

func TestEndedTenuresAreForgotten(t *testing.T) {
	ends := map[string]func(e *env, l *dynalock.Lock, wire *testserver.Wire){
		"lost at the deadline":  func(_ *env, l *dynalock.Lock, wire *testserver.Wire) { crash(wire); <-l.Done() },
		"lost by its heartbeat": func(e *env, l *dynalock.Lock, _ *testserver.Wire) { e.delete("key"); <-l.Done() },
		"lost by a transaction": func(e *env, l *dynalock.Lock, _ *testserver.Wire) {
			e.delete("key")
			wantErr(e, l.Transact(e.ctx, count(e)), dynalock.ErrLost)
		},
		"released": func(e *env, l *dynalock.Lock, _ *testserver.Wire) { must(e, l.Release(e.ctx)) },
		"lost by its release": func(e *env, l *dynalock.Lock, _ *testserver.Wire) {
			e.delete("key")
			wantErr(e, l.Release(e.ctx), dynalock.ErrLost)
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, wire := e.client()
				var forgotten atomic.Bool
				func() {
					l := e.acquire(c, "key")
					runtime.AddCleanup(l, func(gone *atomic.Bool) { gone.Store(true) }, &forgotten)
					end(e, l, wire)
				}()
				time.Sleep(10 * lease) // the runtime lets go of stopped timers, and what they refer to, a little later
				for i := 0; i < 50 && !forgotten.Load(); i++ {
					runtime.GC()
					runtime.Gosched()
				}
				check(e, forgotten.Load(), "the client still keeps the tenure")
				runtime.KeepAlive(c)
			})
		})
	}
}

// Foreign items: never taken, never changed.

// foreignRows are items that are no locks. All are tried as they are and with a mark that says released.
func foreignRows() map[string]attributes {
	base := goRow("somebody", "their version")
	rows := map[string]attributes{
		"only a key":      {},
		"another thing":   {"order": s("17")},
		"no version":      with(base, attributes{"recordVersionNumber": nil}),
		"version N":       with(base, attributes{"recordVersionNumber": n("7")}),
		"no lease":        with(base, attributes{"leaseDuration": nil}),
		"lease N":         with(base, attributes{"leaseDuration": n("1000")}),
		"owner N":         with(base, attributes{"ownerName": n("1")}),
		"owner list":      with(base, attributes{"ownerName": &types.AttributeValueMemberL{Value: []types.AttributeValue{s("x")}}}),
		"data S":          with(base, attributes{"data": s("text")}),
		"data NULL":       with(base, attributes{"data": &types.AttributeValueMemberNULL{Value: true}}),
		"token S":         with(base, attributes{"fencingToken": s("17")}),
		"token negative":  with(base, attributes{"fencingToken": n("-1")}),
		"token fraction":  with(base, attributes{"fencingToken": n("1.5")}),
		"token too large": with(base, attributes{"fencingToken": n("1e30")}),
		"token 2^63":      with(base, attributes{"fencingToken": n("9223372036854775808")}),
		"empty version":   with(base, attributes{"recordVersionNumber": s("")}),
		"released BOOL":   with(base, attributes{"isReleased": &types.AttributeValueMemberBOOL{Value: true}}),
		"released N":      with(base, attributes{"isReleased": n("1")}),
		"released set":    with(base, attributes{"isReleased": &types.AttributeValueMemberSS{Value: []string{"1"}}}),
	}
	for _, text := range []string{
		"", "soon", "s", "99", "99ms", "0", "-1000", "-1s", "86400001", "24h0m1s", "25h", "5 bananas", "10sx", "1x", "1000 ",
		"9223372036854775807", "99999999999999999999", "1e400h", "10,5s", "１０",
	} {
		rows["lease "+text] = with(base, attributes{"leaseDuration": s(text)})
	}
	for name, row := range maps.Clone(rows) {
		if row["isReleased"] == nil {
			rows[name+", released"] = with(row, attributes{"isReleased": s("1")})
		}
	}
	return rows
}

func TestAForeignItemIsToldAndNeverTouched(t *testing.T) {
	for _, dialect := range []dynalock.Dialect{dynalock.DialectAWSLabs, dynalock.DialectDynamolock} {
		t.Run(dialect.String(), func(t *testing.T) {
			onServer(t, func(e *env) {
				c, _ := e.client(long, func(o *dynalock.Options) { o.Dialect, o.MaxClockSkew = dialect, time.Millisecond })
				rows := map[string]attributes{}
				for key, row := range foreignRows() {
					e.put(key, row)
					rows[key] = e.item(key) // as the server writes numbers
				}
				for key, row := range rows {
					for range 2 {
						_, err := c.TryAcquire(e.ctx, key)
						foreign, ok := errors.AsType[*dynalock.ForeignError](err)
						check(e, ok && errors.Is(err, dynalock.ErrForeign) && foreign.Key == key && foreign.Problem != "", "TryAcquire of %q: %v", key, err)
						_, err = c.Acquire(e.within(5*time.Second), key)
						check(e, errors.Is(err, dynalock.ErrForeign), "Acquire of %q: %v", key, err)
						r, err := c.Get(e.ctx, key)
						must(e, err)
						check(e, r.State == dynalock.Foreign && r.Problem != "" && r.Key == key, "Get of %q: %+v", key, r)
						wantErr(e, c.ForceRelease(e.ctx, r), dynalock.ErrForeign)
						check(e, reflect.DeepEqual(e.item(key), row), "%q was changed to %v", key, e.item(key))
					}
				}
				found := 0
				for r, err := range c.Records(e.ctx) {
					must(e, err)
					check(e, r.State == dynalock.Foreign, "%q is listed as %v", r.Key, r.State)
					found++
				}
				check(e, found == len(rows), "%d of %d are listed", found, len(rows))
			})
		})
	}
}

// A released row that looks like a lock is taken without having been seen. These look like one in all but one attribute:
// they have the very lease of the client, or come from this library.
func TestAReleasedRowThatIsNoLockIsNotTakenUnseen(t *testing.T) {
	for dialect, theirs := range map[dynalock.Dialect]attributes{
		dynalock.DialectAWSLabs: javaRow("version"), dynalock.DialectDynamolock: goRow("go", "version"),
	} {
		t.Run(dialect.String(), func(t *testing.T) {
			onServer(t, func(e *env) {
				c, _ := e.client(func(o *dynalock.Options) { o.Dialect = dialect })
				must(e, e.acquire(c, "ours").Release(e.ctx))
				ours := with(e.item("ours"), attributes{"key": nil})
				for name, row := range map[string]attributes{
					"theirs, data S":          with(theirs, attributes{"data": s("text")}),
					"theirs, owner N":         with(theirs, attributes{"ownerName": n("1")}),
					"theirs, no version":      with(theirs, attributes{"recordVersionNumber": nil}),
					"ours, data S":            with(ours, attributes{"data": s("text")}),
					"ours, owner N":           with(ours, attributes{"ownerName": n("1")}),
					"ours, token S":           with(ours, attributes{"fencingToken": s("17")}),
					"ours, another's version": with(ours, attributes{"recordVersionNumber": s("theirs"), "leaseDuration": s("5 bananas")}),
					"ours, another's lease":   with(ours, attributes{"recordVersionNumber": s("theirs"), "leaseDuration": s("99")}),
				} {
					e.put(name, with(row, attributes{"isReleased": s("1")}))
					before := e.item(name)
					_, err := c.TryAcquire(e.ctx, name)
					check(e, errors.Is(err, dynalock.ErrForeign), "%s: %v", name, err)
					check(e, reflect.DeepEqual(e.item(name), before), "%s was changed to %v", name, e.item(name))
				}
			})
		})
	}
}

func TestARowOfAnotherLibraryIsALockEvenWithAttributesOfItsOwn(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long)
		for key, row := range map[string]attributes{
			"java":       javaRow("5d1e8a1c-0000-4000-8000-000000000000"),
			"go":         goRow("go", "v3RsI0n0fTh3dYn4m0l0ckR0wXXXXXXX"),
			"extra":      with(goRow("go", "v"), attributes{"team": s("billing"), "reason": n("1"), "waiters": s("many"), "acquiredAt": s("noon")}),
			"data":       with(javaRow("v"), attributes{"data": b("payload")}),
			"free":       with(javaRow("v"), attributes{"isReleased": s("1")}),
			"other free": with(goRow("go", "v"), attributes{"isReleased": s("1"), "leaseDuration": s("1h30m")}),
			"no owner":   with(goRow("", "v"), attributes{"ownerName": nil}),
		} {
			e.put(key, row)
			r, err := c.Get(e.ctx, key)
			must(e, err)
			want := dynalock.Held
			if row["isReleased"] != nil {
				want = dynalock.Free
			}
			check(e, r.State == want && r.Problem == "", "%s: %+v", key, r)
			l, err := c.TryAcquire(e.ctx, key)
			check(e, (err == nil) == (want == dynalock.Free), "TryAcquire of %s: %v", key, err)
			if err == nil {
				check(e, l.Token() > 0, "token %d", l.Token())
			} else {
				wantErr(e, err, dynalock.ErrHeld)
			}
			if key == "extra" {
				check(e, text(e.item(key)["team"]) == "billing", "their attribute is gone: %v", e.item(key))
			}
		}
	})
}

// takenByDynamolock makes of our row what dynamolock makes of it when it takes the lock over: it copies what it does
// not know.
func takenByDynamolock(row attributes, version string) attributes {
	return with(row, attributes{
		"ownerName": s("dynamolock"), "leaseDuration": s(lease.String()), "recordVersionNumber": s(version), "isReleased": nil,
	})
}

func TestAttributesOfOursAreIgnoredInARowThatDynamolockTookOver(t *testing.T) {
	onServer(t, func(e *env) {
		ours, _ := e.client()
		l := e.acquire(ours, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat, o.Reason = true, "our reason" })
		<-l.Done()
		row := e.item("key")
		check(e, row["expiresAt"] != nil && row["stampedVersion"] != nil, "our row is %v", row)
		skewed, _ := e.client(func(o *dynalock.Options) { o.MaxClockSkew = time.Millisecond })
		for beat := range 8 { // alive: its version changes, and our old expiry lies ever further back
			e.put("key", takenByDynamolock(row, fmt.Sprint("theirs ", beat)))
			r, err := skewed.Get(e.ctx, "key")
			must(e, err)
			check(e, r.State == dynalock.Held && r.Owner == "dynamolock" && r.Token == l.Token(), "%+v", r)
			check(e, r.ExpiresAt.IsZero() && r.AcquiredAt.IsZero() && r.RenewedAt.IsZero() && r.Reason == "" && r.Waiters == 0, "believed: %+v", r)
			_, err = skewed.TryAcquire(e.ctx, "key")
			wantErr(e, err, dynalock.ErrHeld)
			time.Sleep(lease / 4)
		}
		// Dead: taken after its lease, by observation alone, and the token counts on.
		e.put("key", takenByDynamolock(row, "their last"))
		start := time.Now()
		next := e.acquire(skewed, "key")
		check(e, time.Since(start) >= lease, "taken after %v", time.Since(start))
		check(e, next.Token() == l.Token()+1, "token %d after %d", next.Token(), l.Token())
	})
}

// Events and records.

// observed collects events.
type observed struct {
	mu     sync.Mutex
	events []dynalock.Event
}

func (o *observed) Observe(_ context.Context, e dynalock.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
}

// of lists the events of a kind.
func (o *observed) of(kind dynalock.EventKind) []dynalock.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(o.events), func(e dynalock.Event) bool { return e.Kind != kind })
}

// logged is a log in memory.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// records lists the log's records with this message.
func (l *logged) records(tb testing.TB, msg string) []map[string]any {
	tb.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []map[string]any
	for _, line := range bytes.Split(bytes.TrimSpace(l.buf.Bytes()), []byte("\n")) {
		if len(line) == 0 { // nothing is logged
			continue
		}
		record := map[string]any{}
		must(tb, json.Unmarshal(line, &record))
		if record["msg"] == msg {
			found = append(found, record)
		}
	}
	return found
}

func TestEveryEventIsLoggedAndObservedWithKeyTokenAndOwner(t *testing.T) {
	virtual(t, func(e *env) {
		seen, log := &observed{}, &logged{}
		watched := func(name string) (*dynalock.Client, *testserver.Wire) {
			return e.client(func(o *dynalock.Options) {
				o.Owner, o.Observer = name, seen
				o.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
		}
		// once returns the only event of a kind, checked against its record in the log.
		once := func(kind dynalock.EventKind, owner string, token uint64, level string) dynalock.Event {
			e.Helper()
			synctest.Wait()
			events, records := seen.of(kind), log.records(e, "lock "+kind.String())
			check(e, len(events) == 1 && len(records) == 1, "%d events and %d records of %v, want one", len(events), len(records), kind)
			if e.Failed() {
				e.FailNow()
			}
			ev, r := events[0], records[0]
			check(e, ev.Key == "key" && ev.Owner == owner && ev.Token == token, "%v: %+v", kind, ev)
			check(e, r["key"] == "key" && r["owner"] == owner && r["token"] == float64(token) && r["level"] == level, "%v: record is %v", kind, r)
			return ev
		}
		a, wire := watched("a")
		remove := wire.Inject(testserver.Fault{Delay: 10 * time.Millisecond})
		l := e.acquire(a, "key")
		ev := once(dynalock.EventAcquired, "a", l.Token(), "INFO")
		check(e, ev.Duration >= 10*time.Millisecond && ev.By == nil, "%+v", ev)

		for len(seen.of(dynalock.EventRenewed)) == 0 && l.Held() {
			time.Sleep(lease / 100)
		}
		ev = once(dynalock.EventRenewed, "a", l.Token(), "DEBUG")
		check(e, ev.Duration >= 10*time.Millisecond && ev.Duration < 20*time.Millisecond, "a heartbeat took %v", ev.Duration)

		remove()
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1})
		time.Sleep(lease / 4)
		ev = once(dynalock.EventInDoubt, "a", l.Token(), "WARN")
		check(e, ev.Op == "heartbeat" && ev.Err != nil, "%+v", ev)
		ev = once(dynalock.EventRenewedLate, "a", l.Token(), "WARN")
		check(e, ev.Attempt == 2, "%+v", ev)

		b, _ := watched("b")
		got := make(chan *dynalock.Lock)
		go func() {
			l, err := b.Acquire(e.ctx, "key")
			check(e, err == nil, "%v", err)
			got <- l
		}()
		time.Sleep(lease)
		ev = once(dynalock.EventWaiting, "b", 0, "INFO")
		check(e, ev.By != nil && ev.By.Owner == "a" && ev.By.Token == l.Token(), "%+v", ev)

		crash(wire)
		<-l.Done()
		ev = once(dynalock.EventLost, "a", l.Token(), "WARN")
		wantErr(e, ev.Err, dynalock.ErrLost)
		l2 := <-got
		ev = once(dynalock.EventTakenOver, "b", l2.Token(), "WARN")
		check(e, ev.By != nil && ev.By.Owner == "a" && ev.By.Token == l.Token(), "%+v", ev)
		for _, msg := range []string{"lock waiting", "lock taken over"} {
			r := log.records(e, msg)[0]
			check(e, r["heldBy"] == "a" && r["heldByToken"] == float64(l.Token()), "record is %v", r)
		}
		time.Sleep(lease)
		must(e, l2.Release(e.ctx))
		ev = once(dynalock.EventReleased, "b", l2.Token(), "INFO")
		check(e, ev.Duration >= lease && ev.Duration < 2*lease, "held for %v", ev.Duration)
	})
}

func TestTheEventOfALossNamesTheSuccessor(t *testing.T) {
	virtual(t, func(e *env) {
		seen := &observed{}
		holder, wire := e.client(func(o *dynalock.Options) { o.Observer = seen })
		other, _ := e.client(func(o *dynalock.Options) { o.Owner = "usurper" })
		l := e.acquire(holder, "key")
		remove := wire.Inject(testserver.Fault{Kind: testserver.HangBefore})
		r, err := other.Get(e.ctx, "key")
		must(e, err)
		must(e, other.ForceRelease(e.ctx, r))
		l2 := e.acquire(other, "key")
		remove()
		<-l.Done()
		synctest.Wait()
		lost, ok := errors.AsType[*dynalock.LostError](l.Err())
		check(e, ok && lost.Key == "key" && lost.By != nil && lost.By.Owner == "usurper" && lost.By.Token == l2.Token(), "%+v", lost)
		check(e, strings.Contains(lost.Error(), "usurper"), "it says: %v", lost)
		wantErr(e, lost, heartbeat.ErrGone)
		events := seen.of(dynalock.EventLost)
		check(e, len(events) == 1 && events[0].By != nil && events[0].By.Owner == "usurper", "%+v", events)
	})
}

func TestALossNamesASuccessorWhoseTenureHasEndedSince(t *testing.T) {
	for name, release := range map[string]func(e *env, other *dynalock.Client, next *dynalock.Lock) error{
		"its holder": func(e *env, _ *dynalock.Client, next *dynalock.Lock) error { return next.Release(e.ctx) },
		"an operator": func(e *env, other *dynalock.Client, _ *dynalock.Lock) error {
			return other.ForceRelease(e.ctx, record(e, other, "key"))
		},
	} {
		virtually(t, "released by "+name, func(e *env) {
			holder, wire, _, log := e.recorded()
			other, _ := e.client(func(o *dynalock.Options) { o.Owner = "usurper" })
			l := e.acquire(holder, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
			next := e.acquireWithin(other, 3*lease, "key")
			must(e, release(e, other, next))
			err := l.Release(e.ctx)
			_, ok := errors.AsType[*dynalock.LostError](err)
			check(e, ok, "error is %v", err)
			if name == "an operator" {
				check(e, strings.Contains(err.Error(), `released by somebody else ("usurper")`), "it says: %v", err)
				return
			}
			check(e, strings.Contains(err.Error(), `it was taken over by "usurper"`) && !strings.Contains(err.Error(), "released"), "it says: %v", err)

			l = e.acquire(holder, "key") // the same, found by a heartbeat
			remove := wire.Inject(testserver.Fault{Kind: testserver.HangBefore})
			must(e, other.ForceRelease(e.ctx, record(e, other, "key")))
			next = e.acquire(other, "key")
			must(e, next.Release(e.ctx))
			remove()
			<-l.Done()
			synctest.Wait()
			lost, _ := errors.AsType[*dynalock.LostError](l.Err())
			check(e, lost != nil && lost.By != nil && lost.By.Token == next.Token() && strings.Contains(lost.Error(), "usurper"), "it says: %v", lost)
			records := log.records(e, "lock lost")
			r := records[len(records)-1]
			check(e, r["heldBy"] == "usurper" && r["heldByToken"] == float64(next.Token()), "record is %v", r)
		})
	}
}

func TestTheLogsOfTwoMachinesCanBeJoined(t *testing.T) {
	virtual(t, func(e *env) {
		machine := func(name string) (*logged, *dynalock.Client) {
			log := &logged{}
			c, _ := e.client(func(o *dynalock.Options) {
				o.Owner, o.Logger = name, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
			return log, c
		}
		ctx, stop := context.WithCancel(e.ctx)
		var candidates sync.WaitGroup
		defer candidates.Wait()
		defer stop()
		candidate := func(c *dynalock.Client, name string) {
			election := c.Election("key", func(o *dynalock.ElectionOptions) { o.Candidate = name })
			candidates.Go(func() {
				err := election.Run(ctx, func(ctx context.Context, _ *dynalock.Lock) error {
					<-ctx.Done()
					return nil
				})
				check(e, err == nil || errors.Is(err, context.Canceled), "%v", err)
			})
		}
		// The first leads, the second waits, and an operator frees the lock.
		first, a := machine("machine a")
		candidate(a, "ann")
		time.Sleep(lease)
		second, b := machine("machine b")
		candidate(b, "ben")
		time.Sleep(lease)
		operators, c := machine("ops@desk")
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		must(e, c.ForceRelease(e.ctx, r))
		time.Sleep(lease)
		third, d := machine("machine d")
		l := e.acquire(d, "nobody waits for it")
		alone, err := c.Get(e.ctx, l.Key())
		must(e, err)
		must(e, c.ForceRelease(e.ctx, alone))
		<-l.Done()
		synctest.Wait()

		token := float64(r.Token)
		for _, want := range []struct {
			log  *logged
			msg  string
			with map[string]any
		}{
			{first, "lock acquired", map[string]any{"owner": "ann", "token": token}},
			{first, "lock renewed", map[string]any{"owner": "ann", "token": token}},
			{second, "lock waiting", map[string]any{"owner": "ben", "heldBy": "ann", "heldByToken": token}},
			{operators, "lock freed by an operator", map[string]any{"owner": "ops@desk", "heldBy": "ann", "heldByToken": token}},
			{first, "lock lost", map[string]any{"owner": "ann", "token": token}},
			{third, "lock lost", map[string]any{"owner": "machine d", "releasedBy": "ops@desk", "heldBy": nil}},
			{first, "term ended", map[string]any{"owner": "ann", "token": token}},
		} {
			records := want.log.records(e, want.msg)
			if len(records) == 0 {
				e.Errorf("there is no record %q", want.msg)
				continue
			}
			r := records[0]
			for name, value := range want.with {
				check(e, r[name] == value, "%s: %s is %v, want %v: %v", want.msg, name, r[name], value, r)
			}
			for _, old := range []string{"holder", "other", "otherToken", "by"} {
				check(e, r[old] == nil, "%s: %v", want.msg, r)
			}
		}
	})
}

func TestOneLossIsOneEvent(t *testing.T) {
	virtual(t, func(e *env) {
		seen := &observed{}
		c, _ := e.client(func(o *dynalock.Options) { o.Observer = seen })
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		<-l.Done() // the first news
		other, _ := e.client()
		e.acquire(other, "key")
		wantErr(e, l.Release(e.ctx), dynalock.ErrLost) // the second
		synctest.Wait()
		check(e, len(seen.of(dynalock.EventLost)) == 1, "%d events of one loss", len(seen.of(dynalock.EventLost)))
	})
}

func TestALockThatWasFreeIsNotReportedAsTakenOver(t *testing.T) {
	virtual(t, func(e *env) {
		seen := &observed{}
		holder, _ := e.client()
		c, _ := e.client(func(o *dynalock.Options) { o.Observer = seen })
		watch := func(key string) *dynalock.Lock {
			l := e.acquire(holder, key)
			_, err := c.TryAcquire(e.ctx, key)
			wantErr(e, err, dynalock.ErrHeld)
			return l
		}
		released, deleted, handed := watch("released"), watch("deleted"), watch("handed on")
		must(e, released.Release(e.ctx))
		e.delete("deleted")
		<-deleted.Done()
		time.Sleep(2 * lease) // long enough to have watched a dead holder
		for _, key := range []string{"released", "deleted"} {
			_, err := c.TryAcquire(e.ctx, key)
			must(e, err)
		}
		_, err := c.Resume(e.ctx, handed.Handle())
		must(e, err)
		check(e, len(seen.of(dynalock.EventTakenOver)) == 0, "reported: %+v", seen.of(dynalock.EventTakenOver))
		check(e, len(seen.of(dynalock.EventAcquired)) == 3, "acquired: %+v", seen.of(dynalock.EventAcquired))
	})
}

func TestALockAcquiredInDoubtSaysSo(t *testing.T) {
	virtual(t, func(e *env) {
		for op, do := range map[string]func(c *dynalock.Client, wire *testserver.Wire, lose func(op string)){
			"acquire": func(c *dynalock.Client, _ *testserver.Wire, lose func(string)) {
				lose("UpdateItem")
				e.acquire(c, "acquire")
			},
			"release": func(c *dynalock.Client, _ *testserver.Wire, lose func(string)) {
				l := e.acquire(c, "release")
				lose("UpdateItem")
				must(e, l.Release(e.ctx))
			},
			"set data": func(c *dynalock.Client, _ *testserver.Wire, lose func(string)) {
				l := e.acquire(c, "set data")
				lose("UpdateItem")
				must(e, l.SetData(e.ctx, nil))
			},
			"transact": func(c *dynalock.Client, _ *testserver.Wire, lose func(string)) {
				l := e.acquire(c, "transact")
				lose("TransactWriteItems")
				must(e, l.Transact(e.ctx, put(e, "guarded", "x")))
			},
		} {
			seen := &observed{}
			c, wire := e.client(func(o *dynalock.Options) { o.Observer = seen })
			do(c, wire, func(of string) {
				wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: of, Times: 1})
			})
			events := seen.of(dynalock.EventInDoubt)
			check(e, len(events) == 1 && events[0].Op == op && events[0].Key == op && events[0].Err != nil, "%s: %+v", op, events)
		}
	})
}

// The check in the caller's own transactions.

// count adds one to a number of the caller's own.
func count(e *env) types.TransactWriteItem {
	return types.TransactWriteItem{Update: &types.Update{
		TableName: &e.table, Key: e.key("counter"), UpdateExpression: aws.String("ADD #n :1"),
		ExpressionAttributeNames: map[string]string{"#n": "n"}, ExpressionAttributeValues: attributes{":1": n("1")},
	}}
}

func TestATransactionCommitsWhileTheLockIsHeldAndNeverAfter(t *testing.T) {
	ends := map[string]func(e *env, c, other *dynalock.Client, l *dynalock.Lock){
		"release": func(e *env, _, _ *dynalock.Client, l *dynalock.Lock) { must(e, l.Release(e.ctx)) },
		"hand-out": func(e *env, _, other *dynalock.Client, l *dynalock.Lock) {
			_, err := other.Resume(e.ctx, l.Handle())
			must(e, err)
		},
		"deletion": func(e *env, _, _ *dynalock.Client, l *dynalock.Lock) { e.delete(l.Key()) },
		"forced release": func(e *env, _, other *dynalock.Client, l *dynalock.Lock) {
			r, err := other.Get(e.ctx, l.Key())
			must(e, err)
			must(e, other.ForceRelease(e.ctx, r))
		},
		"take-over": func(e *env, _, other *dynalock.Client, l *dynalock.Lock) {
			r, err := other.Get(e.ctx, l.Key())
			must(e, err)
			must(e, other.ForceRelease(e.ctx, r))
			e.acquire(other, l.Key())
		},
		"take-over by dynamolock": func(e *env, _, _ *dynalock.Client, l *dynalock.Lock) {
			e.put(l.Key(), takenByDynamolock(e.item(l.Key()), "theirs"))
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			onServer(t, func(e *env) {
				c, _ := e.client(long) // no heartbeat tells before the transaction does
				other, _ := e.client(long)
				l := e.acquire(c, "key")
				own := func() error {
					_, err := e.connect().TransactWriteItems(e.ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{count(e), l.ConditionCheck()}})
					return err
				}
				must(e, l.Transact(e.ctx, count(e)))
				must(e, l.Renew(e.ctx)) // whatever the version has become
				must(e, own())
				end(e, c, other, l)
				err := l.Transact(e.ctx, count(e))
				check(e, errors.Is(err, dynalock.ErrLost) || name == "release" && errors.Is(err, dynalock.ErrReleased), "%v", err)
				cancelled, ok := errors.AsType[*types.TransactionCanceledException](own())
				check(e, ok && *cancelled.CancellationReasons[1].Code == "ConditionalCheckFailed", "the caller's own transaction: %v", cancelled)
				check(e, text(e.item("counter")["n"]) == "2", "%s writes, want the two before the end", text(e.item("counter")["n"]))
				if name != "release" {
					check(e, !l.Held(), "held after a guarded write was refused")
					wantErr(e, l.Err(), dynalock.ErrLost)
				}
			})
		})
	}
}

func TestATransactionWhoseAnswerIsLostIsAppliedOnce(t *testing.T) {
	for name, kind := range map[string]testserver.Kind{
		"lost answer": testserver.LoseResponse, "hung answer": testserver.HangAfter, "error after": testserver.FailAfter,
		"lost request": testserver.LoseRequest, "hung request": testserver.HangBefore, "error before": testserver.FailBefore,
	} {
		t.Run(name, func(t *testing.T) {
			onServer(t, func(e *env) {
				c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Minute })
				l := e.acquire(c, "key")
				wire.Inject(testserver.Fault{Kind: kind, Op: "TransactWriteItems", Times: 2})
				must(e, l.Transact(e.ctx, count(e)))
				check(e, text(e.item("counter")["n"]) == "1", "applied %s times", text(e.item("counter")["n"]))
				check(e, wire.Count("TransactWriteItems") >= 3, "%d requests", wire.Count("TransactWriteItems"))
			})
		})
	}
}

func TestATransactionOfUnknownOutcomeIsNotReportedAsNothingWritten(t *testing.T) {
	for name, kind := range map[string]testserver.Kind{"applied": testserver.HangAfter, "not applied": testserver.HangBefore} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, wire := e.client()
				l := e.acquire(c, "key")
				wire.Inject(testserver.Fault{Op: "UpdateItem", Kind: testserver.HangBefore})
				time.Sleep(lease * 3 / 5)
				wire.Inject(testserver.Fault{Op: "TransactWriteItems", Kind: kind, Times: 1})
				err := l.Transact(e.ctx, count(e)) // its answer is lost, and the lock with it
				wantErr(e, l.Err(), dynalock.ErrLost)
				written := len(e.item("counter")) > 0
				check(e, !written || !errors.Is(err, dynalock.ErrLost), "written, and reported as %v", err)
				check(e, written || err != nil, "reported as written")
			})
		})
	}
}

func TestATransactionThatConflictsWithAHeartbeatIsRepeated(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key")
		e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.Conflict, Operation: "TransactWriteItems", Key: "key", Times: 3})
		e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.Throttled, Operation: "TransactWriteItems", Skip: 3, Times: 2})
		must(e, l.Transact(e.ctx, count(e)))
		check(e, wire.Count("TransactWriteItems") == 6, "%d requests, want 5 that failed and one that did not", wire.Count("TransactWriteItems"))
		check(e, text(e.item("counter")["n"]) == "1", "applied %s times", text(e.item("counter")["n"]))
		check(e, l.Held(), "lost: %v", l.Err())

		// And the other way around: a heartbeat that conflicts is no loss.
		e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.Conflict, Operation: "UpdateItem", Key: "key", Times: 3})
		time.Sleep(2 * lease)
		check(e, l.Held(), "lost: %v", l.Err())
	})
}

func TestATransactionUnderContentionWithHeartbeatsCommitsEveryTime(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long)
		l := e.acquire(c, "key")
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 10 {
					check(e, l.Renew(e.ctx) == nil, "Renew: %v", l.Err())
				}
			})
			wg.Go(func() {
				for range 5 {
					err := l.Transact(e.ctx, count(e))
					check(e, err == nil, "Transact: %v", err)
				}
			})
		}
		wg.Wait()
		check(e, text(e.item("counter")["n"]) == "20", "applied %s times, want 20", text(e.item("counter")["n"]))
	})
}

func TestTheCallersOwnFailedConditionIsToldAndTheLockStaysHeld(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		l := e.acquire(c, "key")
		item := put(e, "guarded", "x")
		item.Put.ConditionExpression = aws.String("attribute_exists(nothing)")
		err := l.Transact(e.ctx, count(e), item)
		wantErr(e, err, dynalock.ErrStore)
		check(e, !errors.Is(err, dynalock.ErrLost), "%v", err)
		cancelled, ok := errors.AsType[*types.TransactionCanceledException](err)
		check(e, ok && len(cancelled.CancellationReasons) == 3 && *cancelled.CancellationReasons[1].Code == "ConditionalCheckFailed", "%v", err)
		check(e, wire.Count("TransactWriteItems") == 2, "%d requests, want one more, behind the heartbeat", wire.Count("TransactWriteItems"))
		check(e, l.Held() && len(e.item("counter")) == 0, "held %v, written %v", l.Held(), e.item("counter"))

		// Both at once: the loss is what counts.
		e.delete("key")
		wantErr(e, l.Transact(e.ctx, count(e), item), dynalock.ErrLost)
	})
}

func TestATransactionTakes99ItemsAndEndsWithItsContext(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		l := e.acquire(c, "key")
		var items []types.TransactWriteItem
		for i := range 99 {
			items = append(items, put(e, fmt.Sprint("item ", i), "x"))
		}
		must(e, l.Transact(e.ctx, items...))
		check(e, text(e.item("item 98")["value"]) == "x", "the last item was not written")

		crash(wire)
		start := time.Now()
		err := l.Transact(e.within(300*time.Millisecond), items[0])
		wantErr(e, err, context.DeadlineExceeded)
		check(e, time.Since(start) < 300*time.Millisecond+5*time.Second && (e.embedded == nil || time.Since(start) <= 350*time.Millisecond), "returned after %v", time.Since(start))
	})
}

// Clocks.

// clocks are a machine's clocks that can be moved. The monotonic one, and so every timer, is the test's own time.
type clocks struct{ boot, wall atomic.Int64 } // nanoseconds ahead

func (c *clocks) Now() heartbeat.Reading {
	r := heartbeat.SystemClock().Now()
	r.Boot += time.Duration(c.boot.Load())
	r.Wall = r.Wall.Add(time.Duration(c.wall.Load()))
	return r
}

func (c *clocks) NewTimer(d time.Duration) heartbeat.Timer {
	return heartbeat.SystemClock().NewTimer(d)
}

// suspend is what a machine sees that slept for d.
func (c *clocks) suspend(d time.Duration) {
	c.boot.Add(int64(d))
	c.wall.Add(int64(d))
}

func TestAfterASuspensionALockIsNotHeldUntilAHeartbeatIsAcknowledged(t *testing.T) {
	for name, move := range map[string]func(*clocks){
		"the boot-time clock shows it": func(c *clocks) { c.boot.Add(int64(lease / 4)) },
		"the wall clock shows it":      func(c *clocks) { c.wall.Add(int64(lease / 4)) },
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				clock := &clocks{}
				c, wire := e.client(dynalock.WithClock(clock))
				l := e.acquire(c, "key")
				time.Sleep(lease / 20)
				check(e, l.Held(), "not held before the suspension: %v", l.Err())
				move(clock)
				remove := wire.Inject(testserver.Fault{Kind: testserver.LoseRequest})
				check(e, !l.Held(), "held right after a gap between the clocks")
				time.Sleep(lease / 20)
				check(e, !l.Held() && l.Err() == nil, "held %v, %v: nothing has been acknowledged", l.Held(), l.Err())
				remove()
				time.Sleep(lease / 5)
				check(e, l.Held(), "not held after an acknowledged heartbeat: %v", l.Err())
				must(e, l.Release(e.ctx))
			})
		})
	}
}

func TestAStaticLeaseIsHeldAgainAfterASuspensionOnlyOnceRenewed(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		c, wire := e.client(dynalock.WithClock(clock))
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		clock.suspend(lease / 4)
		time.Sleep(lease / 10)
		check(e, !l.Held() && wire.Count() == 1, "held %v, %d requests", l.Held(), wire.Count())
		must(e, l.Renew(e.ctx))
		check(e, l.Held(), "not held after Renew: %v", l.Err())
	})
}

func TestAWallClockSetForwardBeyondTheTrustIsALossAndSettingItBackIsNoCure(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		c, _ := e.client(dynalock.WithClock(clock))
		l := e.acquire(c, "key")
		clock.wall.Add(int64(lease))
		check(e, !l.Held(), "held")
		clock.wall.Add(-int64(lease))
		check(e, !l.Held(), "held again without an acknowledgement")
		<-l.Done()
		wantErr(e, l.Err(), dynalock.ErrLost)
		wantErr(e, l.Err(), heartbeat.ErrDeadline)
		wantErr(e, l.Renew(e.ctx), dynalock.ErrLost)
	})
}

func TestErrKnowsOfALossThatHasNotBeenAnnouncedYet(t *testing.T) {
	for reason, limit := range map[error]time.Duration{heartbeat.ErrDeadline: 0, heartbeat.ErrLimit: lease / 2} {
		t.Run(reason.Error(), func(t *testing.T) {
			virtual(t, func(e *env) {
				clock := &clocks{}
				c, _ := e.client(dynalock.WithClock(clock))
				l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.MaxHold = limit })
				synctest.Wait() // nothing is under way: nobody has looked at the clock when Err does
				clock.wall.Add(int64(lease))
				wantErr(e, l.Err(), dynalock.ErrLost)
				wantErr(e, l.Err(), reason)
			})
		})
	}
}

func TestAWallClockSetBackExtendsNothing(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		c, wire := e.client(dynalock.WithClock(clock))
		l := e.acquire(c, "key")
		start := time.Now()
		crash(wire)
		clock.wall.Add(-int64(time.Hour))
		<-l.Done()
		check(e, time.Since(start) <= lease*4/5, "held for %v", time.Since(start))
	})
}

func TestAWaiterCountsItsMonotonicClockAlone(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"set forward": time.Hour, "set back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				holder, wire := e.client()
				e.acquire(holder, "key")
				crash(wire)
				clock := &clocks{}
				waiter, _ := e.client(dynalock.WithClock(clock))
				_, err := waiter.TryAcquire(e.ctx, "key")
				wantErr(e, err, dynalock.ErrHeld)
				seen := time.Now()
				clock.suspend(ahead)
				_, err = waiter.TryAcquire(e.ctx, "key")
				wantErr(e, err, dynalock.ErrHeld)
				e.acquire(waiter, "key")
				waited := time.Since(seen)
				check(e, waited >= lease && waited < lease+50*time.Millisecond, "taken after %v", waited)
			})
		})
	}
}

func TestAnAcquireWhoseAnswerWasSlowRenewsBeforeItReturns(t *testing.T) {
	const trust = lease * 4 / 5
	static := func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true }
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.AttemptTimeout = trust - lease/10 })
		other, _ := e.client()
		for _, key := range []string{"slow", "less slow"} { // so that the token counts on
			must(e, e.acquire(other, key).Release(e.ctx))
		}
		time.Sleep(lease)
		wire.Inject(testserver.Fault{Delay: trust/2 + lease/50, Times: 1})
		l := e.acquire(c, "slow", static)
		check(e, wire.Count() == 2, "%d requests, want a heartbeat after the slow answer", wire.Count())
		check(e, l.Held() && time.Until(l.Deadline()) > trust-lease/50, "held %v, %v are left", l.Held(), time.Until(l.Deadline()))

		before := wire.Count()
		wire.Inject(testserver.Fault{Delay: trust/2 - lease/50, Times: 1})
		l = e.acquire(c, "less slow", static)
		check(e, wire.Count() == before+1, "%d requests, want no heartbeat while half of the trust is left", wire.Count()-before)
		left := time.Until(l.Deadline())
		check(e, l.Held() && left > trust/2 && left < trust*3/5, "held %v, %v are left", l.Held(), left)
	})
}

func TestAnAcquireWhoseAnswerIsOfNoUseAnyMoreGoesOn(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.AttemptTimeout = lease * 7 / 10 })
		wire.Inject(testserver.Fault{Op: "UpdateItem", Times: 1, Delay: lease / 2})            // slow,
		wire.Inject(testserver.Fault{Op: "UpdateItem", Kind: testserver.HangBefore, Times: 1}) // and its renewal hangs until the trust is used up
		l := e.acquire(c, "key")
		check(e, l.Held() && time.Until(l.Deadline()) > 0, "not held: %v", l.Err())
		time.Sleep(3 * lease)
		check(e, l.Held(), "lost: %v", l.Err())
	})
}

func TestAnAcquisitionWhoseTenureCameAndWentBeginsAnotherOneWithANewID(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		c, _ := e.client(dynalock.WithClock(clock))
		operator, _ := e.client()
		e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.SlowResponse, Key: "key", Delay: lease / 10, Times: 1})
		var gone dynalock.Record
		go func() {
			time.Sleep(lease / 20) // the write is applied, its answer under way
			var err error
			gone, err = operator.Get(e.ctx, "key")
			check(e, err == nil && operator.ForceRelease(e.ctx, gone) == nil, "not freed: %v", err)
			clock.suspend(lease / 2)
		}()
		l := e.acquire(c, "key")
		version := text(e.item("key")["recordVersionNumber"])
		check(e, l.Held() && l.Token() == gone.Token+1, "held %v, token %d after %d", l.Held(), l.Token(), gone.Token)
		check(e, version[:32] != gone.Version[:32], "version %s after %s", version, gone.Version)
	})
}

func TestAnAcquireDuringAShortSleepReturnsALockThatIsHeld(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		c, wire := e.client(dynalock.WithClock(clock))
		wire.Inject(testserver.Fault{Times: 1, Match: func(string, []byte) bool { clock.suspend(lease / 10); return true }}) // most of the trust is left
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		check(e, wire.Count() == 2 && l.Held(), "%d requests, held %v", wire.Count(), l.Held())
	})
}

func TestAnAcquireDuringWhichTheMachineSleptRenewsBeforeItReturns(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		c, wire := e.client(dynalock.WithClock(clock))
		wire.Inject(testserver.Fault{Times: 1, Match: func(string, []byte) bool { clock.suspend(lease / 2); return true }})
		l := e.acquire(c, "key")
		check(e, wire.Count() == 2 && l.Held(), "%d requests, held %v", wire.Count(), l.Held())

		// Slept so long that somebody else has it by now: no lock, and the wait goes on.
		other, _ := e.client()
		e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.SlowResponse, Key: "taken", Delay: lease / 10, Times: 1})
		go func() {
			time.Sleep(lease / 20) // the write is applied, its answer under way
			clock.suspend(10 * lease)
			r, err := other.Get(e.ctx, "taken")
			check(e, err == nil, "%v", err)
			check(e, other.ForceRelease(e.ctx, r) == nil, "not freed")
			_, err = other.TryAcquire(e.ctx, "taken")
			check(e, err == nil, "%v", err)
		}()
		_, err := c.Acquire(e.within(3*lease), "taken")
		wantErr(e, err, dynalock.ErrHeld)
		wantErr(e, err, context.DeadlineExceeded)
	})
}
