package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/internal/testserver"
)

func TestTransactDoesNotBlameTheLocksTableForWhatIsTheCallers(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client()
		l := e.acquire(c, "key")
		for name, tt := range map[string]struct {
			item types.TransactWriteItem
			says string
		}{
			"table": {types.TransactWriteItem{Put: &types.Put{
				TableName: aws.String("accounts"),
				Item:      attributes{"key": s("x")},
			}}, "does not say which"},
			"key": {types.TransactWriteItem{Put: &types.Put{TableName: &e.table, Item: attributes{"id": s("x")}}}, ""},
			"condition": {types.TransactWriteItem{Update: &types.Update{
				TableName: &e.table, Key: attributes{"key": s("x")}, UpdateExpression: aws.String("SET a = :a"),
				ConditionExpression:       aws.String("attribute_exists(b)"),
				ExpressionAttributeValues: attributes{":a": s("a")},
			}}, `item 0 on table "` + e.table + `" (ConditionalCheckFailed)`},
		} {
			start := time.Now()
			err := l.Transact(e.ctx, tt.item)
			check(e, time.Since(start) < 3*lease, "%s: it was repeated for %v", name, time.Since(start))
			store, ok := errors.AsType[*dynalock.StoreError](err)
			if !ok {
				e.Fatalf("%s: %v", name, err)
			}
			check(e, strings.Contains(store.Hint, tt.says), "%s: the hint is %q", name, store.Hint)
			for _, blame := range []string{"the table does not exist", "the table's key attributes", "permission on the table"} {
				check(e, !strings.Contains(store.Hint, blame), "%s: the hint is %q", name, store.Hint)
			}
			check(e, name != "table" || strings.Contains(store.Hint, `"accounts"`), "%s: the hint is %q", name, store.Hint)
		}
	})
}

func TestTransactSaysWhichItemItsHintIsAbout(t *testing.T) {
	reason := func(code string) types.CancellationReason {
		return types.CancellationReason{
			Code:    &code,
			Message: aws.String("The provided key element does not match the schema"),
		}
	}
	cancelled := func(codes ...string) error {
		e := &types.TransactionCanceledException{}
		for _, code := range codes {
			e.CancellationReasons = append(e.CancellationReasons, reason(code))
		}
		return e
	}
	for name, tt := range map[string]struct {
		err  error
		says string
		not  string
	}{
		"the caller's key": {
			cancelled("None", "ValidationError", "None"),
			`cancelled by item 1 on table "b" (ValidationError)`, "item 0",
		},
		"the lock's key": {cancelled("None", "None", "ValidationError"), `partition key "key"`, "item"},
		"a condition beside a conflict": {
			cancelled("ConditionalCheckFailed", "None", "TransactionConflict"),
			`item 0 on table "a" (ConditionalCheckFailed), the lock's check (TransactionConflict)`, "item 1",
		},
		"no reasons":                  {cancelled(), "", "cancelled by"},
		"a table that does not exist": {&types.ResourceNotFoundException{}, `"a", "b"`, "the table does not"},
		"a permission": {
			&smithy.GenericAPIError{Code: "AccessDeniedException"},
			"dynamodb:ConditionCheckItem", "permission on the table",
		},
		"a request that is not valid": {&smithy.GenericAPIError{
			Code:    "ValidationException",
			Message: "The provided key element",
		}, "the lock's check, which comes last", "partition key"},
		"credentials, which are everyone's": {
			&smithy.GenericAPIError{Code: "ExpiredTokenException"},
			"credentials are not valid", "which",
		},
	} {
		virtually(t, name, func(e *env) {
			c := e.through(&wrapped{transact: func(func() (*dynamodb.TransactWriteItemsOutput, error)) (
				*dynamodb.TransactWriteItemsOutput, error,
			) {
				return nil, tt.err
			}})
			l := e.acquire(c, "key")
			err := l.Transact(e.within(lease),
				types.TransactWriteItem{Delete: &types.Delete{TableName: aws.String("a")}},
				types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{TableName: aws.String("b")}})
			store, ok := errors.AsType[*dynalock.StoreError](err)
			if !ok {
				e.Fatalf("%v", err)
			}
			check(e, strings.Contains(store.Hint, tt.says) && !strings.Contains(store.Hint, tt.not), "the hint is %q",
				store.Hint)
		})
	}
}

func TestATransactionInDoubtIsNotRepeatedBeyondTheLifeOfItsToken(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Hour })
		l := e.acquire(c, "key")
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "TransactWriteItems", Times: 1})
		heal := wire.Inject(testserver.Fault{Kind: testserver.LoseRequest, Op: "TransactWriteItems"})
		time.AfterFunc(11*time.Minute, heal)
		wantErr(e, l.Transact(e.ctx, count(e)), dynalock.ErrStore)
		time.Sleep(5 * time.Minute)
		check(e, text(e.item("counter")["n"]) == "1", "applied %s times", text(e.item("counter")["n"]))
	})
}

func TestATransactionThatItsReleaseOvertookIsNoLoss(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key")
		wire.Inject(testserver.Fault{Op: "TransactWriteItems", Delay: 100 * time.Millisecond})
		done := make(chan error)
		go func() { done <- l.Transact(e.ctx, count(e)) }()
		time.Sleep(10 * time.Millisecond)
		must(e, l.Release(e.ctx))
		err := <-done
		wantErr(e, err, dynalock.ErrReleased)
		check(e, !errors.Is(err, dynalock.ErrLost), "%v", err)
		check(e, len(e.item("counter")) == 0, "it was written")
	})
}

func TestATransactionThatIsThrottledIsRepeatedEverMoreRarely(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(long)
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		wire.Inject(busy)
		err := l.Transact(e.within(10*time.Second), count(e))
		wantErr(e, err, context.DeadlineExceeded)
		n := wire.Count("TransactWriteItems")
		check(e, n > 10 && n < 30, "%d requests in 10 s, want few at the end", n)
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
					_, err := e.connect().TransactWriteItems(e.ctx,
						&dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{count(e), l.ConditionCheck()}})
					return err
				}
				must(e, l.Transact(e.ctx, count(e)))
				must(e, l.Renew(e.ctx)) // whatever the version has become
				must(e, own())
				end(e, c, other, l)
				err := l.Transact(e.ctx, count(e))
				check(e, errors.Is(err, dynalock.ErrLost) || name == "release" && errors.Is(err, dynalock.ErrReleased), "%v", err)
				cancelled, ok := errors.AsType[*types.TransactionCanceledException](own())
				check(e, ok && *cancelled.CancellationReasons[1].Code == "ConditionalCheckFailed",
					"the caller's own transaction: %v", cancelled)
				check(e, text(e.item("counter")["n"]) == "2", "%s writes, want the two before the end",
					text(e.item("counter")["n"]))
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
	for name, kind := range map[string]testserver.Kind{
		"applied":     testserver.HangAfter,
		"not applied": testserver.HangBefore,
	} {
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
		e.embedded.Inject(dynalocktest.Fault{
			Kind: dynalocktest.Conflict, Operation: "TransactWriteItems", Key: "key",
			Times: 3,
		})
		e.embedded.Inject(dynalocktest.Fault{
			Kind: dynalocktest.Throttled, Operation: "TransactWriteItems", Skip: 3,
			Times: 2,
		})
		must(e, l.Transact(e.ctx, count(e)))
		check(e, wire.Count("TransactWriteItems") == 6, "%d requests, want 5 that failed and one that did not",
			wire.Count("TransactWriteItems"))
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
		check(e, ok && len(cancelled.CancellationReasons) == 3 &&
			*cancelled.CancellationReasons[1].Code == "ConditionalCheckFailed", "%v", err)
		check(e, wire.Count("TransactWriteItems") == 2, "%d requests, want one more, behind the heartbeat",
			wire.Count("TransactWriteItems"))
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
		check(e, time.Since(start) < 300*time.Millisecond+5*time.Second &&
			(e.embedded == nil || time.Since(start) <= 350*time.Millisecond), "returned after %v", time.Since(start))
	})
}
