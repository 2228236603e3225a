package dynalock_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

func TestALostAnswerAtEveryCallSiteIsNoLoss(t *testing.T) {
	kinds := map[string]testserver.Kind{
		"lost request": testserver.LoseRequest, "lost answer": testserver.LoseResponse, "hung request": testserver.HangBefore,
		"hung answer": testserver.HangAfter, "error before": testserver.FailBefore, "error after": testserver.FailAfter,
	}
	for name, kind := range kinds {
		hit := func(w *testserver.Wire) {
			w.Inject(testserver.Fault{Kind: kind, Op: "UpdateItem", Times: 1, Delay: lease / 10})
		}
		t.Run(name, func(t *testing.T) {
			t.Run("acquire", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					hit(wire)
					start := time.Now()
					l := e.acquire(c, "key")
					if kind == testserver.LoseResponse || kind == testserver.HangAfter || kind == testserver.FailAfter {
						check(e, wire.Count() > 2 || l.Deadline().Before(start.Add(lease*4/5+lease/10)),
							"deadline %v after the first send, want it counted from there", l.Deadline().Sub(start))
					}
					time.Sleep(2 * lease)
					check(e, l.Held(), "false loss: %v", l.Err())
					must(e, l.Release(e.ctx))
				})
			})
			t.Run("heartbeat", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					l := e.acquire(c, "key")
					for range 3 {
						hit(wire)
						time.Sleep(lease)
						check(e, l.Held(), "false loss: %v", l.Err())
					}
					must(e, l.Release(e.ctx))
				})
			})
			t.Run("release", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					l := e.acquire(c, "key")
					hit(wire)
					must(e, l.Release(e.ctx))
					r, err := c.Get(e.ctx, "key")
					must(e, err)
					check(e, r.State == dynalock.Free, "orphan: %+v", r)
				})
			})
			t.Run("deleting release", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					l := e.acquire(c, "key", deleting)
					hit(wire)
					must(e, l.Release(e.ctx))
					check(e, outlives(e, "key") > 14*time.Minute, "it is kept for %v", outlives(e, "key"))
				})
			})
			t.Run("take-over", func(t *testing.T) {
				onServer(t, func(e *env) {
					dead, wire := e.client()
					e.acquire(dead, "key")
					crash(wire)
					c, wire := e.client()
					_, err := c.TryAcquire(e.ctx, "key")
					wantErr(e, err, dynalock.ErrHeld)
					time.Sleep(lease)
					hit(wire)
					l := e.acquire(c, "key")
					time.Sleep(2 * lease)
					check(e, l.Held(), "false loss: %v", l.Err())
				})
			})
			t.Run("hand-over", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					l := e.acquire(c, "key")
					got := make(chan *dynalock.Lock)
					go func() {
						l, err := c.Acquire(e.ctx, "key")
						check(e, err == nil, "%v", err)
						got <- l
					}()
					time.Sleep(50 * time.Millisecond)
					hit(wire)
					must(e, l.Release(e.ctx))
					l2 := <-got
					check(e, l2.Token() > l.Token(), "token %d after %d", l2.Token(), l.Token())
					time.Sleep(2 * lease)
					check(e, l2.Held(), "false loss: %v", l2.Err())
				})
			})
			t.Run("set data", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					l := e.acquire(c, "key")
					hit(wire)
					must(e, l.SetData(e.ctx, []byte("new")))
					time.Sleep(2 * lease)
					check(e, l.Held(), "false loss: %v", l.Err())
					r, err := c.Get(e.ctx, "key")
					must(e, err)
					check(e, string(r.Data) == "new", "data is %q", r.Data)
				})
			})
			t.Run("renew", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
					before := l.Deadline()
					hit(wire)
					must(e, l.Renew(e.ctx))
					check(e, l.Held() && l.Deadline().After(before), "held %v until %v, before it was %v", l.Held(), l.Deadline(),
						before)
					must(e, l.Release(e.ctx))
				})
			})
			t.Run("resume", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, _ := e.client()
					l := e.acquire(c, "key")
					other, wire := e.client()
					hit(wire)
					l2, err := other.Resume(e.ctx, l.Handle())
					must(e, err)
					check(e, l2.Token() == l.Token()+1, "token %d after %d", l2.Token(), l.Token())
					time.Sleep(lease / 2) // two heartbeats of either
					check(e, l2.Held(), "false loss: %v", l2.Err())
					wantErr(e, l.Err(), dynalock.ErrLost)
				})
			})
			t.Run("clean-up", func(t *testing.T) {
				onServer(t, func(e *env) {
					c, wire := e.client()
					ctx, cancel := context.WithCancel(e.ctx)
					wire.Inject(testserver.Fault{
						Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1,
						Match: func(string, []byte) bool {
							cancel()
							return true
						},
					})
					hit(wire)
					_, err := c.Acquire(ctx, "key")
					wantErr(e, err, context.Canceled)
					start := time.Now()
					for text(e.item("key")["isReleased"]) != "1" {
						if time.Since(start) > lease {
							e.Fatalf("the ghost is still there: %v", e.item("key"))
						}
						time.Sleep(lease / 100)
					}
				})
			})
			t.Run("force release", func(t *testing.T) {
				virtual(t, func(e *env) {
					c, _ := e.client()
					l := e.acquire(c, "key")
					operator, wire := e.client()
					r, err := operator.Get(e.ctx, "key")
					must(e, err)
					hit(wire)
					must(e, operator.ForceRelease(e.ctx, r))
					r, err = operator.Get(e.ctx, "key")
					must(e, err)
					check(e, r.State == dynalock.Free && r.Token == l.Token(), "record is %+v", r)
				})
			})
			t.Run("hand-over of an election", func(t *testing.T) {
				virtual(t, func(e *env) {
					a := e.candidate("a")
					<-a.leads
					b := e.candidate("b")
					c, wire := e.client()
					hit(wire)
					must(e, c.Election("leader").HandOver(e.ctx, "b"))
					wantErr(e, <-a.ends, dynalock.ErrHandedOver)
					<-b.leads
				})
			})
			t.Run("stand down", func(t *testing.T) {
				onServer(t, func(e *env) {
					a := e.candidate("a")
					<-a.leads
					b := e.candidate("b")
					var met atomic.Bool
					a.wire.Inject(testserver.Fault{Kind: kind, Op: "UpdateItem", Times: 1, Match: func(_ string, body []byte) bool {
						yields := bytes.Contains(body, []byte("#yielded")) && bytes.Contains(body, []byte(":successor"))
						met.Store(met.Load() || yields)
						return yields
					}})
					must(e, a.HandOver(e.ctx, "b"))
					l := <-b.leads
					time.Sleep(lease / 2)
					check(e, l.Held(), "false loss: %v", l.Err())
					check(e, met.Load() && len(a.leads) == 0, "a did not stand down, or leads again")
				})
			})
			t.Run("resign", func(t *testing.T) {
				onServer(t, func(e *env) {
					a := e.candidate("a")
					l := <-a.leads
					hit(a.wire)
					must(e, a.Resign(e.ctx))
					r, err := a.Leader(e.ctx)
					must(e, err)
					check(e, r.State == dynalock.Free && r.Token == l.Token(), "record is %+v", r)
				})
			})
		})
	}
}

func TestEveryCallReturnsWithin50MillisecondsOfItsContextsEnd(t *testing.T) {
	calls := map[string]func(e *env, ctx context.Context, c *dynalock.Client, l *dynalock.Lock) error{
		"Acquire": func(_ *env, ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error {
			_, err := c.Acquire(ctx, "other")
			return err
		},
		"TryAcquire": func(_ *env, ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error {
			_, err := c.TryAcquire(ctx, "other")
			return err
		},
		"Resume": func(_ *env, ctx context.Context, c *dynalock.Client, l *dynalock.Lock) error {
			_, err := c.Resume(ctx, l.Handle())
			return err
		},
		"Get": func(_ *env, ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error {
			_, err := c.Get(ctx, "other")
			return err
		},
		"Records": func(_ *env, ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error {
			for _, err := range c.Records(ctx) {
				return err
			}
			return nil
		},
		"ForceRelease": func(_ *env, ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error {
			return c.ForceRelease(ctx, dynalock.Record{Key: "key", State: dynalock.Held, Owner: "x", Version: "v"})
		},
		"Close": func(_ *env, ctx context.Context, c *dynalock.Client, _ *dynalock.Lock) error { return c.Close(ctx) },
		"Renew": func(_ *env, ctx context.Context, _ *dynalock.Client, l *dynalock.Lock) error { return l.Renew(ctx) },
		"SetData": func(_ *env, ctx context.Context, _ *dynalock.Client, l *dynalock.Lock) error {
			return l.SetData(ctx, nil)
		},
		"Release": func(_ *env, ctx context.Context, _ *dynalock.Client, l *dynalock.Lock) error { return l.Release(ctx) },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				for _, after := range []time.Duration{0, time.Millisecond, 100 * time.Millisecond} {
					c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Minute })
					l := e.acquire(c, "key "+after.String())
					crash(wire)
					ctx, cancel := context.WithTimeout(e.ctx, after)
					start := time.Now()
					err := call(e, ctx, c, l)
					took := time.Since(start) - after
					cancel()
					check(e, err != nil, "no error from a hung network")
					check(e, took <= 50*time.Millisecond, "returned %v after its context's end", took)
				}
			})
		})
	}
}

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
	errs["Do"] = c.Do(e.ctx, "key",
		func(context.Context, *dynalock.Lock) error { e.Error("Do ran its function"); return nil })
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
		// a table of another Region is a table that is not there
		{name: "other Region", table: "nowhere", says: "AWS_REGION"},
		{
			name: "partition key", set: func(o *dynalock.Options) { o.PartitionKey = "id" }, says: `partition key "id"`,
			skip: "Records",
		},
		{
			name: "sort key", set: func(o *dynalock.Options) { o.SortKey, o.SortValue = "sort", "value" },
			says: `sort key "sort"`, skip: "Records",
		},
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
					check(e, !errors.Is(err, dynalock.ErrHeld) && !errors.Is(err, dynalock.ErrLost), "%s: %v is something else, too",
						call, err)
				}
				check(e, time.Since(start) < 20*time.Second, "the calls waited for %v where waiting does not help",
					time.Since(start))
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
	for name, kind := range map[string]testserver.Kind{
		"hung": testserver.HangBefore, "broken": testserver.LoseRequest,
		"5xx": testserver.FailBefore,
	} {
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

func TestAStoreThatNeverAnsweredIsNotReportedAsAHeldLock(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = 10 * time.Second })
		crash(wire)
		for _, patience := range []time.Duration{500 * time.Millisecond, 5 * time.Second} {
			// within the first attempt, and after it
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
				check(e, strings.Contains(err.Error(), `released by another process ("usurper")`), "it says: %v", err)
				return
			}
			check(e, strings.Contains(err.Error(), `it was taken over by "usurper"`) &&
				!strings.Contains(err.Error(), "released"), "it says: %v", err)

			l = e.acquire(holder, "key") // the same, found by a heartbeat
			remove := wire.Inject(testserver.Fault{Kind: testserver.HangBefore})
			must(e, other.ForceRelease(e.ctx, record(e, other, "key")))
			next = e.acquire(other, "key")
			must(e, next.Release(e.ctx))
			remove()
			<-l.Done()
			synctest.Wait()
			lost, _ := errors.AsType[*dynalock.LostError](l.Err())
			check(e, lost != nil && lost.By != nil && lost.By.Token == next.Token() && strings.Contains(lost.Error(), "usurper"),
				"it says: %v", lost)
			records := log.records(e, "lock lost")
			r := records[len(records)-1]
			check(e, r["heldBy"] == "usurper" && r["heldByToken"] == float64(next.Token()), "record is %v", r)
		})
	}
}
