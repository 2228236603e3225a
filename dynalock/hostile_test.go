package dynalock_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

// What stands between the library and DynamoDB may be a user's own wrapper, a proxy, or an SDK whose retries are on;
// and it may fail for longer, or in other ways, than a network does.

// wrapped is a user's own DynamoDB. nil functions pass.
type wrapped struct {
	dynalock.DynamoDB
	update   func(next func() (*dynamodb.UpdateItemOutput, error)) (*dynamodb.UpdateItemOutput, error)
	get      func(next func() (*dynamodb.GetItemOutput, error)) (*dynamodb.GetItemOutput, error)
	transact func(next func() (*dynamodb.TransactWriteItemsOutput, error)) (*dynamodb.TransactWriteItemsOutput, error)
}

func (w *wrapped) UpdateItem(
	ctx context.Context, in *dynamodb.UpdateItemInput, optFns ...func(*dynamodb.Options),
) (*dynamodb.UpdateItemOutput, error) {
	next := func() (*dynamodb.UpdateItemOutput, error) { return w.DynamoDB.UpdateItem(ctx, in, optFns...) }
	if w.update == nil {
		return next()
	}
	return w.update(next)
}

func (w *wrapped) GetItem(
	ctx context.Context, in *dynamodb.GetItemInput, optFns ...func(*dynamodb.Options),
) (*dynamodb.GetItemOutput, error) {
	next := func() (*dynamodb.GetItemOutput, error) { return w.DynamoDB.GetItem(ctx, in, optFns...) }
	if w.get == nil {
		return next()
	}
	return w.get(next)
}

func (w *wrapped) TransactWriteItems(
	ctx context.Context, in *dynamodb.TransactWriteItemsInput, optFns ...func(*dynamodb.Options),
) (*dynamodb.TransactWriteItemsOutput, error) {
	next := func() (*dynamodb.TransactWriteItemsOutput, error) {
		return w.DynamoDB.TransactWriteItems(ctx, in, optFns...)
	}
	if w.transact == nil {
		return next()
	}
	return w.transact(next)
}

// through makes a client whose requests go through w.
func (e *env) through(w *wrapped, optFns ...func(*dynalock.Options)) *dynalock.Client {
	e.Helper()
	w.DynamoDB = e.connect()
	c, err := dynalock.New(w, e.table,
		append([]func(*dynalock.Options){func(o *dynalock.Options) { o.Lease = lease }}, optFns...)...)
	must(e, err)
	e.Cleanup(func() { _ = c.Close(context.WithoutCancel(e.ctx)) })
	return c
}

// A proxy that sends every write twice and passes on the second answer: the refusal shows the write itself.
func TestAWriteThatIsRepeatedOnItsWayIsNoLoss(t *testing.T) {
	virtual(t, func(e *env) {
		c := e.through(&wrapped{update: func(next func() (*dynamodb.UpdateItemOutput, error)) (*dynamodb.UpdateItemOutput,
			error,
		) {
			if _, err := next(); err != nil {
				return nil, err
			}
			return next()
		}})
		l := e.acquire(c, "key")
		time.Sleep(2 * lease)
		check(e, l.Held(), "dropped: %v", l.Err())
		must(e, l.Renew(e.ctx))
		must(e, l.SetData(e.ctx, []byte("x")))
		must(e, l.Release(e.ctx))
		check(e, text(e.item("key")["isReleased"]) == "1", "not released")
	})
}

// A clone of the process goes on from the same version, and bumps it as its original does.
func TestAWriteOfACloneIsALossThoughItFollowsOurs(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client(long)
		l := e.acquire(c, "key")
		it := e.item("key")
		id, n, _ := strings.Cut(text(it["recordVersionNumber"]), "-")
		count, err := strconv.Atoi(n)
		must(e, err)
		it["recordVersionNumber"] = s(fmt.Sprintf("%s-%d", id, count+1))
		e.put("key", it)
		wantErr(e, l.Renew(e.ctx), dynalock.ErrLost)
	})
}

func TestHoweverManyAnswersAreLostTheLeaseIsKeptAndReleased(t *testing.T) {
	for name, kind := range map[string]testserver.Kind{
		"none applied": testserver.FailBefore,
		"all applied":  testserver.FailAfter,
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, wire := e.client(func(o *dynalock.Options) { o.Lease, o.Heartbeat = time.Minute, 100*time.Millisecond })
				l := e.acquire(c, "key")
				lose := func() { // one of them applied at least, then as many lost as make it an old one
					before := wire.Count()
					remove := wire.Inject(testserver.Fault{Kind: kind, Op: "UpdateItem"})
					time.Sleep(5 * time.Second)
					remove()
					remove = wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Op: "UpdateItem"})
					time.Sleep(5 * time.Second)
					remove()
					check(e, wire.Count() > before+200, "%d requests", wire.Count()-before)
				}
				lose()
				time.Sleep(time.Minute)
				check(e, l.Held(), "lost: %v", l.Err())
				lose()
				must(e, l.Release(e.ctx))
				check(e, text(e.item("key")["isReleased"]) == "1", "not released")
			})
		})
	}
}

func TestAReleaseThatWasAppliedLongBeforeItsAnswerIsNoLoss(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Hour })
		l := e.acquire(c, "key")
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1}) // the release is applied
		// more than a condition can name
		wire.Inject(testserver.Fault{Kind: testserver.LoseRequest, Op: "UpdateItem", Times: 200})
		must(e, l.Release(e.ctx))
		check(e, text(e.item("key")["isReleased"]) == "1", "not released")
	})
}

func TestALateCopyOfAnAcquireIsGivenBackWhenTheCallFails(t *testing.T) {
	virtual(t, func(e *env) {
		a, _ := e.client()
		l := e.acquire(a, "key")
		b, wire := e.client(func(o *dynalock.Options) { o.MinPoll, o.MaxPoll = lease/2, lease/2 }) // no look before the copy
		// refused, and to come once more
		wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "UpdateItem", Times: 1})
		waited := make(chan error, 1)
		go func() {
			_, err := b.Acquire(e.within(10*lease), "key")
			waited <- err
		}()
		time.Sleep(lease / 10)
		wire.Inject(testserver.Fault{
			Kind: testserver.FailBefore, Op: "UpdateItem", Status: http.StatusBadRequest,
			Type: "ValidationException", Times: 1,
		})
		must(e, l.Release(e.ctx))
		_, err := wire.Deliver(e.ctx)
		must(e, err)
		wantErr(e, <-waited, dynalock.ErrStore)
		time.Sleep(lease / 10)
		check(e, text(e.item("key")["isReleased"]) == "1", "the late copy holds it: %v", e.item("key"))
	})
}

func TestAServerThatAnswersEverythingWithNothingGivesNoLock(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(srv.Close)
	db := dynamodb.New(dynamodb.Options{
		BaseEndpoint: &srv.URL, Region: "us-east-1", HTTPClient: srv.Client(),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "made", SecretAccessKey: "up"}, nil
		}),
	})
	c, err := dynalock.New(db, "locks")
	must(t, err)
	lists := 0
	_, err = c.TryAcquire(t.Context(), "key")
	wantErr(t, err, dynalock.ErrStore)
	check(t, strings.Contains(err.Error(), "the answer is not DynamoDB's"), "error is %v", err)
	_, err = c.Get(t.Context(), "key")
	wantErr(t, err, dynalock.ErrStore)
	for _, err := range c.Records(t.Context()) {
		wantErr(t, err, dynalock.ErrStore)
		lists++
	}
	check(t, lists == 1, "Records yielded %d times, want an error", lists)
	wantErr(t, dynalock.CreateTable(t.Context(), db, "locks"), dynalock.ErrStore)
	_, err = dynalock.CheckTable(t.Context(), db, "locks")
	wantErr(t, err, dynalock.ErrStore)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // or it would try to clean up behind the lock that it may have made
	_ = c.Close(ctx)
}

func TestAHeartbeatThatSomethingElseThanDynamoDBAnswersKeepsNoLock(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key")
		wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Op: "UpdateItem", Status: http.StatusOK})
		time.Sleep(2 * lease)
		wantErr(e, l.Err(), dynalock.ErrLost)
		check(e, !l.Held(), "it is held")
	})
}

func TestAWrapperThatLeavesTheItemOutGivesTheLockThatWasWrittenOrNone(t *testing.T) {
	virtual(t, func(e *env) {
		for name, applies := range map[string]bool{"applied": true, "made up": false} {
			w := &wrapped{DynamoDB: e.connect()}
			w.update = func(next func() (*dynamodb.UpdateItemOutput, error)) (*dynamodb.UpdateItemOutput, error) {
				if !applies {
					return &dynamodb.UpdateItemOutput{}, nil
				}
				out, err := next()
				if out != nil {
					out.Attributes = nil
				}
				return out, err
			}
			l, err := e.through(w).TryAcquire(e.ctx, name)
			if !applies {
				wantErr(e, err, dynalock.ErrStore)
				continue
			}
			must(e, err)
			check(e, l.Token() > 0 && text(e.item(name)["fencingToken"]) == strconv.FormatUint(l.Token(), 10),
				"token %d, stored %v", l.Token(), e.item(name))
		}
	})
}

func TestEveryCallReturnsWithItsContextThoughTheStoreIgnoresIt(t *testing.T) {
	const late = 700 * time.Millisecond
	calls := map[string]func(ctx context.Context, e *env, c *dynalock.Client, l *dynalock.Lock) error{
		"Acquire": func(ctx context.Context, _ *env, c *dynalock.Client, _ *dynalock.Lock) error {
			_, err := c.Acquire(ctx, "held")
			return err
		},
		"TryAcquire": func(ctx context.Context, _ *env, c *dynalock.Client, _ *dynalock.Lock) error {
			_, err := c.TryAcquire(ctx, "held")
			return err
		},
		"Get": func(ctx context.Context, _ *env, c *dynalock.Client, _ *dynalock.Lock) error {
			_, err := c.Get(ctx, "held")
			return err
		},
		"ForceRelease": func(ctx context.Context, _ *env, c *dynalock.Client, l *dynalock.Lock) error {
			return c.ForceRelease(ctx, dynalock.Record{Key: l.Key(), State: dynalock.Held, Version: "v"})
		},
		"Renew": func(ctx context.Context, _ *env, _ *dynalock.Client, l *dynalock.Lock) error { return l.Renew(ctx) },
		"SetData": func(ctx context.Context, _ *env, _ *dynalock.Client, l *dynalock.Lock) error {
			return l.SetData(ctx, []byte("x"))
		},
		"Transact": func(ctx context.Context, e *env, _ *dynalock.Client, l *dynalock.Lock) error {
			return l.Transact(ctx, count(e))
		},
		"Release": func(ctx context.Context, _ *env, _ *dynalock.Client, l *dynalock.Lock) error { return l.Release(ctx) },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				other, _ := e.client(long)
				e.acquire(other, "held")
				var slow atomic.Bool
				sleep := func() {
					if slow.Load() {
						time.Sleep(late)
					}
				}
				c := e.through(&wrapped{
					update: func(next func() (*dynamodb.UpdateItemOutput, error)) (*dynamodb.UpdateItemOutput, error) {
						sleep()
						return next()
					},
					get: func(next func() (*dynamodb.GetItemOutput, error)) (*dynamodb.GetItemOutput, error) {
						sleep()
						return next()
					},
					transact: func(next func() (*dynamodb.TransactWriteItemsOutput, error)) (*dynamodb.TransactWriteItemsOutput,
						error,
					) {
						sleep()
						return next()
					},
				}, long)
				l := e.acquire(c, "mine")
				slow.Store(true)
				for _, patience := range []time.Duration{late / 7, late * 10 / 7} { // in the first request, and in a later one
					start := time.Now()
					_ = call(e.within(patience), e, c, l) // some end in time
					took := time.Since(start) - patience
					check(e, took <= 50*time.Millisecond, "returned %v after its context's end", took)
				}
				slow.Store(false)
				must(e, c.Close(e.ctx))
				check(e, text(e.item("mine")["isReleased"]) == "1", "not released in the end")
			})
		})
	}
}

func TestAWrappersErrorWithoutAResponseIsUnderstood(t *testing.T) {
	virtual(t, func(e *env) {
		for _, hopeless := range []error{
			&types.ResourceNotFoundException{}, &smithy.GenericAPIError{Code: "AccessDeniedException"},
			&smithy.GenericAPIError{Code: "SomethingNew", Fault: smithy.FaultClient},
		} {
			c := e.through(&wrapped{update: func(func() (*dynamodb.UpdateItemOutput, error)) (*dynamodb.UpdateItemOutput,
				error,
			) {
				return nil, hopeless
			}})
			start := time.Now()
			_, err := c.Acquire(e.within(30*time.Second), "key")
			wantErr(e, err, dynalock.ErrStore)
			wantErr(e, err, hopeless)
			check(e, time.Since(start) < time.Second, "%v: told after %v", hopeless, time.Since(start))
		}
		for i, passing := range []error{
			&types.ProvisionedThroughputExceededException{}, &types.RequestLimitExceeded{}, &types.ThrottlingException{},
			&types.TransactionConflictException{}, &types.InternalServerError{},
			&smithy.GenericAPIError{Code: "ServiceUnavailable"},
			&smithy.GenericAPIError{Code: "TooManyRequestsException", Fault: smithy.FaultClient}, context.DeadlineExceeded,
			io.ErrUnexpectedEOF,
		} {
			fail := 2
			c := e.through(&wrapped{update: func(next func() (*dynamodb.UpdateItemOutput, error)) (*dynamodb.UpdateItemOutput,
				error,
			) {
				if fail--; fail >= 0 {
					return nil, passing
				}
				return next()
			}})
			_, err := c.TryAcquire(e.ctx, fmt.Sprint("key", i))
			check(e, err == nil, "%v: %v", passing, err)
			must(e, c.Close(e.ctx))
		}
	})
}

func TestAProxysTooManyRequestsIsWorthAnotherAttempt(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		wire.Inject(testserver.Fault{
			Kind: testserver.FailBefore, Status: http.StatusTooManyRequests, Type: "Unheard",
			Times: 1,
		})
		wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: http.StatusBadRequest, Type: "SlowDown", Times: 1})
		_, err := c.TryAcquire(e.ctx, "key")
		must(e, err)
	})
}

func TestAReadThatFailsOnceFailsNoCall(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		for code, status := range map[string]int{"InternalServerError": 500, "ProvisionedThroughputExceededException": 400} {
			fail := func() {
				wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Op: "GetItem", Status: status, Type: code, Times: 1})
			}
			fail()
			run, err := c.Once(e.ctx, "job", code, nothing)
			check(e, err == nil && run.Ran, "Once: ran %v, error %v", run.Ran, err)
			fail()
			_, err = c.Get(e.ctx, "key")
			must(e, err)
		}
	})
}
