package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

// A network may deliver a request again, or for the first time, long after its caller has had an answer or given up.

// keepCopy has a copy of the next write of an item stay behind, for Deliver.
func keepCopy(wire *testserver.Wire) {
	wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "UpdateItem", Times: 1})
}

func deliver(e *env, wire *testserver.Wire) {
	e.Helper()
	_, err := wire.Deliver(e.ctx)
	must(e, err)
}

func record(e *env, c *dynalock.Client, key string) dynalock.Record {
	e.Helper()
	r, err := c.Get(e.ctx, key)
	must(e, err)
	return r
}

func TestALateCopyOfAnAcquireBeginsNoTenureBehindAnotherOne(t *testing.T) {
	for name, opts := range map[string]struct {
		client func(*dynalock.Options)
		lock   func(*dynalock.AcquireOptions)
	}{
		"kept":      {long, nil},
		"deleted":   {long, deleting},
		"retention": {func(o *dynalock.Options) { long(o); o.Retention = time.Hour }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			onServer(t, func(e *env) {
				for _, known := range []bool{false, true} {
					key := fmt.Sprint("key ", known)
					a, wire := e.client(opts.client)
					b, _ := e.client(opts.client)
					if known {
						must(e, e.acquire(b, key, opts.lock).Release(e.ctx))
					}
					keepCopy(wire)
					l := e.acquire(a, key, opts.lock, func(o *dynalock.AcquireOptions) { o.Data = []byte("checkpoint 0") })
					check0 := l.ConditionCheck()
					must(e, l.Release(e.ctx))
					l2 := e.acquire(b, key, opts.lock)
					must(e, l2.SetData(e.ctx, []byte("checkpoint 17")))
					must(e, l2.Transact(e.ctx, put(e, "register", "b")))
					must(e, l2.Release(e.ctx))
					before := e.item(key)

					deliver(e, wire)
					check(e, text(e.item(key)["recordVersionNumber"]) == text(before["recordVersionNumber"]),
						"the copy made the row %v", record(e, a, key))
					check(e, (e.item(key)["ttl"] == nil) == (name == "kept"), "the TTL is %q", text(e.item(key)["ttl"]))
					_, err := e.connect().TransactWriteItems(e.ctx,
						&dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{put(e, "register", "a"), check0}})
					var cancelled *types.TransactionCanceledException
					check(e, errors.As(err, &cancelled), "the guarded write of the old tenure: %v", err)
					check(e, text(e.item("register")["value"]) == "b", "the register is %q", text(e.item("register")["value"]))
					l3, err := b.TryAcquire(e.ctx, key, opts.lock)
					must(e, err)
					check(e, string(l3.Data()) == "checkpoint 17", "the next tenure finds %q", l3.Data())
					check(e, l3.Token() == l2.Token()+1 && l2.Token() == l.Token()+1, "tokens %d, %d, %d", l.Token(), l2.Token(),
						l3.Token())
					must(e, l3.Release(e.ctx))
				}
			})
		})
	}
}

// A holder's clock that is ahead must not let copies of its requests through that others' clocks take for new.
func TestALateCopyOfAnAcquireIsRefusedWhateverTheClocksSay(t *testing.T) {
	ends := map[string]func(e *env, ahead, c *dynalock.Client, l *dynalock.Lock){
		"release": func(e *env, _, _ *dynalock.Client, l *dynalock.Lock) { must(e, l.Release(e.ctx)) },
		"another tenure": func(e *env, _, c *dynalock.Client, l *dynalock.Lock) {
			must(e, l.Release(e.ctx))
			must(e, e.acquire(c, l.Key()).Release(e.ctx))
		},
		"forced release": func(e *env, _, c *dynalock.Client, l *dynalock.Lock) {
			must(e, c.ForceRelease(e.ctx, record(e, c, l.Key())))
		},
		"resume": func(e *env, _, c *dynalock.Client, l *dynalock.Lock) {
			resumed, err := c.Resume(e.ctx, l.Handle())
			must(e, err)
			must(e, resumed.Release(e.ctx))
		},
		"hand-over": func(e *env, ahead, _ *dynalock.Client, l *dynalock.Lock) {
			done := make(chan error)
			go func() {
				next, err := ahead.Acquire(e.ctx, l.Key())
				if err == nil {
					err = next.Release(e.ctx)
				}
				done <- err
			}()
			e.until("another waits", func() bool { return dynalock.LocalWaiters(ahead, l.Key()) > 0 })
			dynalock.ForgetKeys(ahead) // as one does that has used very many
			must(e, l.Release(e.ctx))
			must(e, <-done)
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			onServer(t, func(e *env) {
				c, _ := e.client(long)
				must(e, e.acquire(c, "key").Release(e.ctx))
				db, wire := testserver.Tap(e.connect())
				ahead, err := dynalock.New(db, e.table, long, dynalock.WithClock(skewed{heartbeat.SystemClock(), 4 * time.Minute}))
				must(e, err)
				e.Cleanup(func() { _ = ahead.Close(context.WithoutCancel(e.ctx)) })
				keepCopy(wire)
				l := e.acquire(ahead, "key")
				end(e, ahead, c, l)
				before := record(e, c, "key")
				check(e, before.State == dynalock.Free, "record is %+v", before)
				deliver(e, wire)
				check(e, record(e, c, "key").Version == before.Version, "the copy made the row %+v", record(e, c, "key"))
			})
		})
	}
}

func TestALateCopyOfAnAcquireBeginsNoTenureBehindATakeOver(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client()
		must(e, e.acquire(c, "key").Release(e.ctx))
		a, wire := e.client(dynalock.WithClock(skewed{heartbeat.SystemClock(), 4 * time.Minute}))
		keepCopy(wire)
		e.acquire(a, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		must(e, e.acquire(c, "key").Release(e.ctx))
		before := record(e, c, "key")
		deliver(e, wire)
		check(e, record(e, c, "key").Version == before.Version, "the copy made the row %+v", record(e, c, "key"))
	})
}

// The first attempt is lost, the call gives up, others lock and release: then it arrives.
func TestAnAcquireThatArrivesForTheFirstTimeAfterOthersBeginsNoTenure(t *testing.T) {
	onServer(t, func(e *env) {
		a, wire := e.client(long)
		b, _ := e.client(long)
		must(e, e.acquire(b, "key").Release(e.ctx))
		ctx, cancel := context.WithCancel(e.ctx)
		wire.Inject(testserver.Fault{
			Kind: testserver.KeepRequest, Op: "UpdateItem", Times: 1,
			Match: func(string, []byte) bool { cancel(); return true },
		})
		_, err := a.Acquire(ctx, "key", func(o *dynalock.AcquireOptions) { o.Data = []byte("checkpoint 0") })
		wantErr(e, err, context.Canceled)
		time.Sleep(20 * time.Millisecond)
		must(e, e.acquire(b, "key", func(o *dynalock.AcquireOptions) { o.Data = []byte("checkpoint 17") }).Release(e.ctx))
		before := record(e, b, "key")
		deliver(e, wire)
		now := record(e, b, "key")
		check(e, now.Version == before.Version && string(now.Data) == "checkpoint 17", "the late request made the row %+v",
			now)
	})
}

// The first attempt is stamped by a clock that is minutes ahead, and its answer puts that right.
func TestAnAttemptIsStampedByTheTimeThatAnAnswerToTheOneBeforeHasToldNotByTheClock(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		clock.wall.Store(int64(4 * time.Minute))
		a, wire := e.client(dynalock.WithClock(clock), long)
		b, _ := e.client(long)
		must(e, e.acquire(b, "key").Release(e.ctx))
		ctx, cancel := context.WithCancel(e.ctx)
		wire.Inject(testserver.Fault{
			Kind: testserver.FailBefore, Op: "UpdateItem", Times: 1, Status: 400,
			Type: "ThrottlingException",
		})
		wire.Inject(testserver.Fault{
			Kind: testserver.KeepRequest, Op: "UpdateItem", Times: 1,
			Match: func(string, []byte) bool { cancel(); return true },
		})
		_, err := a.Acquire(ctx, "key")
		wantErr(e, err, context.Canceled)
		time.Sleep(5 * time.Second) // what is known of the time is known to a second
		must(e, e.acquire(b, "key").Release(e.ctx))
		before := record(e, b, "key")
		deliver(e, wire)
		now := record(e, b, "key")
		check(e, now.Version == before.Version, "the late request made the row %+v", now)
	})
}

// The row that a hand-over replaces is stamped right, though the first request for its tenure was not.
func TestAHandOverIsStampedByTheTimeThatAnAnswerHasToldNotByThatOfTheFirstRequestForTheTenureBefore(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		clock.wall.Store(int64(4 * time.Minute))
		a, wire := e.client(dynalock.WithClock(clock))
		b, _ := e.client(long)
		must(e, e.acquire(b, "key").Release(e.ctx))
		wire.Inject(testserver.Fault{
			Kind: testserver.FailBefore, Op: "UpdateItem", Times: 1, Status: 400, Type: "ThrottlingException",
		})
		l := e.acquire(a, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		next := e.within(time.Second)
		go func() {
			_, err := a.Acquire(next, "key")
			check(e, err != nil, "it has the lock")
		}()
		synctest.Wait()
		wire.Inject(testserver.Fault{
			Kind: testserver.KeepRequest, Op: "UpdateItem", Times: 1,
			Match: func(string, []byte) bool { time.AfterFunc(0, func() { crash(wire) }); return true },
		})
		check(e, l.Release(e.within(time.Second)) != nil, "the release says that it is done")
		must(e, e.acquire(b, "key").Release(e.ctx))
		before := record(e, b, "key")
		deliver(e, wire)
		now := record(e, b, "key")
		check(e, now.Version == before.Version, "the late request made the row %+v", now)
	})
}

// The Java client wipes what it does not know, and another library's row has no stamp that a request could be compared
// with.
func TestALateCopyOfAnAcquireBeginsNoTenureOnARowThatAnotherLibraryWrote(t *testing.T) {
	onServer(t, func(e *env) {
		a, wire := e.client()
		keepCopy(wire)
		l := e.acquire(a, "key")
		must(e, l.Release(e.ctx))
		row := with(javaRow("java's"), attributes{"isReleased": s("1")})
		e.put("key", maps.Clone(row))
		deliver(e, wire)
		check(e, text(e.item("key")["recordVersionNumber"]) == "java's", "the copy made the row %v", e.item("key"))

		before := wire.Count()
		must(e, e.acquire(a, "key").Release(e.ctx))
		check(e, wire.Count()-before == 3, "%d requests, want one more than on a row of our own", wire.Count()-before)
	})
}

// The row that had refused it was deleted, and no other attempt of its call is known to have arrived.
func TestAnAttemptThatComesLateIsTrustedFromTheFirstAttemptOn(t *testing.T) {
	virtual(t, func(e *env) {
		holder, _ := e.client()
		e.acquire(holder, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		c, wire := e.client(func(o *dynalock.Options) { o.MinPoll, o.MaxPoll = lease/10, lease/10 })
		keepCopy(wire)
		start := time.Now()
		got := make(chan *dynalock.Lock)
		go func() { got <- e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true }) }()
		time.Sleep(lease / 20)
		wire.Inject(testserver.Fault{Kind: testserver.LoseRequest, Op: "UpdateItem", Times: 1})
		e.delete("key")
		e.until("another attempt", func() bool { return wire.Count("UpdateItem") > 1 })
		deliver(e, wire)
		l := <-got
		check(e, l.Held() && l.Deadline().Sub(start) <= lease*4/5, "trusted for %v after the first attempt",
			l.Deadline().Sub(start))
	})
}

func TestALateCopyOfACandidatesAcquireTakesNoLockThatIsYieldedToItLater(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client()
		keepCopy(wire)
		candidate := c.Election("key", func(o *dynalock.ElectionOptions) { o.Candidate = "x" })
		must(e, candidate.Run(e.ctx, func(context.Context, *dynalock.Lock) error { return nil }))
		time.Sleep(10 * time.Millisecond)
		leader, _ := e.client()
		l := e.acquire(leader, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		row := e.item("key") // the leader stands down in favour of x
		row["yielded"], row["successor"] = row["recordVersionNumber"], s("x")
		e.put("key", row)
		deliver(e, wire)
		check(e, record(e, c, "key").Token == l.Token(), "the copy made the row %+v", record(e, c, "key"))
	})
}

func TestAServersClockThatIsHoursOffTheMachinesIsBelievedAtItsSecondAnswer(t *testing.T) {
	virtual(t, func(e *env) {
		for _, offset := range []time.Duration{-6 * time.Hour, 6 * time.Hour} {
			c := offClient(e, offset)
			ask(e, c)
			ask(e, c)
			l := e.acquire(c, fmt.Sprint(offset))
			off := time.Until(time.UnixMicro(int64(l.Token())))
			check(e, off.Abs() < 3*time.Second, "a clock that is off by %v: the token is off by %v", offset, off)
		}
	})
}

func TestALateCopyOfAClaimSpendsNoAttemptOfAPeriod(t *testing.T) {
	onServer(t, func(e *env) {
		operator, _ := e.client()
		begun := 0
		crash := func(ctx context.Context, l *dynalock.Lock) error {
			begun++
			must(e, operator.ForceRelease(ctx, record(e, operator, l.Key())))
			return nil
		}
		a, wire := e.client()
		keepCopy(wire)
		_, err := a.Once(e.ctx, "job", "1", crash)
		wantErr(e, err, dynalock.ErrLost)
		deliver(e, wire)
		for range 2 {
			_, err = a.Once(e.within(lease/2), "job", "1", crash)
			wantErr(e, err, dynalock.ErrLost)
		}
		_, err = a.Once(e.ctx, "job", "1", crash)
		wantErr(e, err, dynalock.ErrExhausted)
		check(e, begun == 3, "begun %d times of 3", begun)
	})
}

func TestARequestThatIsRefusedForItsClockAloneIsAdmittedByTheVersionThatItSaw(t *testing.T) {
	virtual(t, func(e *env) {
		b, _ := e.client()
		for _, tt := range []struct {
			offset time.Duration
			want   int
		}{{0, 1}, {-time.Minute, 2}, {4 * time.Minute, 1}, {0, 2}} {
			// the last one finds the stamp of the clock that is ahead
			l := e.acquire(b, "key")
			must(e, l.Release(e.ctx))
			time.Sleep(10 * time.Millisecond)
			db, wire := testserver.Tap(e.connect())
			c, err := dynalock.New(db, e.table, dynalock.WithClock(skewed{heartbeat.SystemClock(), tt.offset}))
			must(e, err)
			l2, err := c.TryAcquire(e.ctx, "key")
			must(e, err)
			check(e, wire.Count() == tt.want, "clock off by %v: %d requests, want %d", tt.offset, wire.Count(), tt.want)
			check(e, l2.Token() == l.Token()+1, "token %d after %d", l2.Token(), l.Token())
			must(e, l2.Release(e.ctx))
			must(e, c.Close(e.ctx))
		}
	})
}

func TestATokenMadeBeforeASlowRequestIsRaisedToWhatOthersWereGivenMeanwhile(t *testing.T) {
	virtual(t, func(e *env) {
		a, _ := e.client()
		b, _ := e.client(func(o *dynalock.Options) { o.Lease, o.AttemptTimeout = time.Minute, 10*time.Second })
		must(e, e.acquire(b, "another key").Release(e.ctx))
		e.embedded.Inject(dynalocktest.Fault{
			Kind: dynalocktest.SlowRequest, Operation: "UpdateItem", Times: 1,
			Delay: 5 * time.Second,
		})
		late := make(chan *dynalock.Lock)
		go func() { late <- e.acquire(b, "key") }()
		time.Sleep(time.Second)
		l := e.acquire(a, "key")
		must(e, l.Release(e.ctx))
		e.delete("key")
		l2 := <-late
		check(e, l2.Token() > l.Token(), "token %d, given after %d", l2.Token(), l.Token())
		check(e, text(e.item("key")["fencingToken"]) == fmt.Sprint(l2.Token()), "the item has %s",
			text(e.item("key")["fencingToken"]))
		must(e, l2.Transact(e.ctx, put(e, "register", "x")))
		must(e, l2.Release(e.ctx))
	})
}

func TestTheTokensOfOneClientNeverGoBackNorComeTwice(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client(func(o *dynalock.Options) { o.MinPoll = time.Millisecond })
		last := uint64(0)
		for i := range 20 {
			key := fmt.Sprint("key ", i%2)
			e.embedded.Inject(dynalocktest.Fault{
				Kind: dynalocktest.SlowRequest, Operation: "UpdateItem", Times: 1,
				Delay: time.Duration(i) * 10 * time.Millisecond,
			})
			slow := make(chan *dynalock.Lock)
			go func() {
				l, _ := c.TryAcquire(e.ctx, key) // nil where it is held
				slow <- l
			}()
			time.Sleep(time.Duration(i%4) * time.Millisecond)
			if l, err := c.TryAcquire(e.ctx, key); err == nil {
				last = l.Token()
				must(e, l.Release(e.ctx))
				e.delete(key)
			}
			if l := <-slow; l != nil {
				check(e, l.Token() > last, "round %d: token %d after %d", i, l.Token(), last)
				must(e, l.Release(e.ctx))
			}
			e.delete(key)
			last = 0 // of this key and round
		}
	})
}

// strangers answers in place of DynamoDB, as a proxy does.
type strangers struct {
	aws.HTTPClient
	answers  []*http.Response
	unsigned bool // no signature, and so no refusal, tells the right time
}

func (x *strangers) Do(r *http.Request) (*http.Response, error) {
	if len(x.answers) == 0 {
		return x.HTTPClient.Do(r)
	}
	a := x.answers[0]
	x.answers = x.answers[1:]
	a.Request = r
	return a, nil
}

func (x *strangers) client(e *env) *dynalock.Client {
	x.HTTPClient = e.connect().Options().HTTPClient
	db := dynamodb.New(e.connect().Options(), func(o *dynamodb.Options) {
		o.HTTPClient = x
		if x.unsigned {
			o.Credentials = aws.AnonymousCredentials{}
		}
	})
	c, err := dynalock.New(db, e.table, func(o *dynalock.Options) { o.Lease = lease })
	must(e, err)
	e.Cleanup(func() { _ = c.Close(context.WithoutCancel(e.ctx)) })
	return c
}

// ahead is an answer whose date is a year ahead, with the request id that only DynamoDB gives or without.
func ahead(named bool) *http.Response {
	a := response(503, []byte("<html>down for maintenance</html>"))
	a.Header = http.Header{
		"Content-Type": {"text/html"},
		"Date":         {time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat)},
	}
	if named {
		a.Header.Set("X-Amzn-Requestid", "MADEUP")
	}
	return a
}

func TestTheTimeThatAStrangerTellsMakesNoToken(t *testing.T) {
	for name, answers := range map[string]func() []*http.Response{
		"without a request id, twice": func() []*http.Response { return []*http.Response{ahead(false), ahead(false)} },
		"with one, once":              func() []*http.Response { return []*http.Response{ahead(true)} },
		"now and then":                func() []*http.Response { return []*http.Response{ahead(true), ahead(false)} },
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				for i := range 4 {
					served := i%2 > 0 // the client has had an answer of DynamoDB before
					x := &strangers{unsigned: i > 1}
					c := x.client(e)
					if served {
						ask(e, c)
					}
					x.answers = answers()
					l := e.acquire(c, fmt.Sprint("key ", i))
					off := time.Until(time.UnixMicro(int64(l.Token())))
					check(e, off.Abs() < 3*time.Second, "served before: %v: the token is off by %v", served, off)
					must(e, l.Release(e.ctx))

					x.answers = answers()
					ask(e, c)
					_, err := c.Once(e.ctx, "job", fmt.Sprint(i), nothing, func(o *dynalock.OnceOptions) { o.AtLeast = time.Second })
					must(e, err)
					time.Sleep(4 * time.Second)
				}
			})
		})
	}
}

func TestTheTTLOfARunIsInDynamoDBsTime(t *testing.T) {
	virtual(t, func(e *env) {
		for _, offset := range []time.Duration{-8 * 24 * time.Hour, 8 * 24 * time.Hour} {
			c := offClient(e, offset)
			ask(e, c)
			ask(e, c)
			period := fmt.Sprint(offset)
			run, err := c.Once(e.ctx, "job", period, nothing, func(o *dynalock.OnceOptions) { o.Keep = 7 * 24 * time.Hour })
			must(e, err)
			check(e, run.Ran, "run %+v", run)
			off := outlives(e, "once/job/"+period) - 7*24*time.Hour
			check(e, off.Abs() < 3*time.Second, "a clock that is off by %v: kept for %v more than asked", offset, off)

			l := e.acquire(c, period, deleting)
			must(e, l.Release(e.ctx))
			off = outlives(e, period) - 15*time.Minute
			check(e, off.Abs() < 3*time.Second, "a clock that is off by %v: a released item stays for %v more than it has to",
				offset, off)
		}
	})
}

// Each code that a proxy, a wrapper or an SDK with its retries on may pass on for a request that was applied at its
// first attempt.
var afterwards = []struct {
	code   string
	status int
	passes bool // the library repeats the request
}{
	{"ProvisionedThroughputExceededException", 400, true},
	{"ThrottlingException", 400, true},
	{"RequestLimitExceeded", 400, true},
	{"TransactionConflictException", 400, true},
	{"TransactionInProgressException", 400, true},
	{"InternalServerError", 500, true},
	{"ServiceUnavailable", 503, true},
	{"ExpiredTokenException", 400, false},
	{"AccessDeniedException", 400, false},
	{"UnrecognizedClientException", 400, false},
	{"ResourceNotFoundException", 400, false},
}

func TestWhatWasAppliedAndAnsweredWithARefusalIsNoLoss(t *testing.T) {
	for _, tt := range afterwards {
		t.Run(tt.code, func(t *testing.T) {
			onServer(t, func(e *env) {
				c, wire := e.client()
				hit := func(op string) {
					wire.Inject(testserver.Fault{Kind: testserver.FailAfter, Op: op, Times: 1, Status: tt.status, Type: tt.code})
				}
				settled := func(what string, err error) {
					e.Helper()
					if err != nil && (tt.passes || !errors.Is(err, dynalock.ErrStore)) {
						e.Errorf("%s: %v", what, err)
					}
				}
				ask(e, c)
				hit("UpdateItem")
				l, err := c.TryAcquire(e.ctx, "key")
				settled("TryAcquire", err)
				if err != nil { // it was applied, and is given back
					e.until("it is given back", func() bool { return record(e, c, "key").State == dynalock.Free })
					l = e.acquire(c, "key")
				}
				for range 2 { // the first renewal, and one more
					hit("UpdateItem")
					settled("Renew", l.Renew(e.ctx))
					must(e, l.Renew(e.ctx))
				}
				hit("UpdateItem")
				settled("SetData", l.SetData(e.ctx, []byte("x")))
				must(e, l.SetData(e.ctx, []byte("y")))
				hit("TransactWriteItems")
				settled("Transact", l.Transact(e.ctx, put(e, "register", "x")))
				check(e, text(e.item("register")["value"]) == "x", "the guarded write is not there")
				check(e, l.Held(), "lost: %v", l.Err())
				hit("UpdateItem")
				settled("Release", l.Release(e.ctx))
				must(e, l.Release(e.ctx))
				check(e, text(e.item("key")["isReleased"]) == "1", "not released")

				l = e.acquire(c, "deleted", deleting)
				hit("UpdateItem")
				settled("deleting release", l.Release(e.ctx))
				must(e, l.Release(e.ctx))
				check(e, outlives(e, "deleted") > 0, "not released")
			})
		})
	}
}

// The lock is lost while the answer is a refusal: what was applied is not "nothing was written".
func TestAGuardedWriteThatWasAppliedIsNotToldAsALossWhateverWasAnswered(t *testing.T) {
	for _, tt := range afterwards {
		t.Run(tt.code, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, wire := e.client(func(o *dynalock.Options) { o.Lease = 4 * time.Second })
				l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.MaxHold = 100 * time.Millisecond })
				wire.Inject(testserver.Fault{
					Kind: testserver.FailAfter, Op: "TransactWriteItems", Times: 1,
					Delay: 99 * time.Millisecond, Status: tt.status, Type: tt.code,
				})
				err := l.Transact(e.ctx, put(e, "register", "x"))
				check(e, text(e.item("register")["value"]) == "x", "it was not applied")
				check(e, !errors.Is(err, dynalock.ErrLost), "error is %v", err)
				check(e, l.Err() != nil, "the lock is held")
			})
		})
	}
}

// gate is a condition of the caller's own: a gate that has to be open.
func gate(e *env) types.TransactWriteItem {
	return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
		TableName: &e.table, Key: e.key("gate"), ConditionExpression: aws.String("attribute_not_exists(closed)"),
	}}
}

func TestARefusalOfTheCallersConditionIsNoVerdictOnAnAttemptThatIsStillUnderWay(t *testing.T) {
	t.Run("it arrives later", func(t *testing.T) {
		onServer(t, func(e *env) {
			var cancelled *types.TransactionCanceledException
			c, wire := e.client(long)
			l := e.acquire(c, "key")
			e.put("gate", attributes{"closed": s("yes")})
			wire.Inject(testserver.Fault{Kind: testserver.KeepRequest, Op: "TransactWriteItems", Times: 1})
			before := wire.Counts()
			err := l.Transact(e.ctx, put(e, "register", "x"), gate(e))
			check(e, errors.As(err, &cancelled) && errors.Is(err, dynalock.ErrStore), "error is %v", err)
			after := wire.Counts()
			check(e, after["TransactWriteItems"]-before["TransactWriteItems"] == 3 &&
				after["UpdateItem"]-before["UpdateItem"] == 1,
				"requests: %v after %v, want the lost one, the refused one, a heartbeat and the answer to it", after, before)
			e.put("gate", attributes{})
			deliver(e, wire)
			check(e, len(e.item("register")) == 0, "what was refused was written")
			check(e, l.Held(), "lost: %v", l.Err())
			must(e, l.Transact(e.ctx, put(e, "register", "y"), gate(e)))
			must(e, l.Release(e.ctx))
		})
	})
	t.Run("a copy of the one that was refused arrives later", func(t *testing.T) {
		onServer(t, func(e *env) {
			var cancelled *types.TransactionCanceledException
			c, wire := e.client(long)
			l := e.acquire(c, "key")
			e.put("gate", attributes{"closed": s("yes")})
			wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "TransactWriteItems", Times: 1})
			before := wire.Counts()
			err := l.Transact(e.ctx, put(e, "register", "x"), gate(e))
			check(e, errors.As(err, &cancelled) && errors.Is(err, dynalock.ErrStore), "error is %v", err)
			after := wire.Counts()
			check(e, after["TransactWriteItems"]-before["TransactWriteItems"] == 2 &&
				after["UpdateItem"]-before["UpdateItem"] == 1,
				"requests: %v after %v, want the refused one, a heartbeat and the answer to it", after, before)
			e.put("gate", attributes{})
			deliver(e, wire)
			check(e, len(e.item("register")) == 0, "what was refused was written")
			must(e, l.Release(e.ctx))
		})
	})
	t.Run("a copy of the one that was refused arrives before the heartbeat", func(t *testing.T) {
		virtual(t, func(e *env) {
			c, wire := e.client(long)
			l := e.acquire(c, "key")
			e.put("gate", attributes{"closed": s("yes")})
			wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "TransactWriteItems", Times: 1})
			wire.Inject(testserver.Fault{Op: "UpdateItem", Times: 1, Delay: 50 * time.Millisecond})
			go func() {
				time.Sleep(25 * time.Millisecond)
				e.put("gate", attributes{})
				deliver(e, wire)
			}()
			must(e, l.Transact(e.ctx, put(e, "register", "x"), gate(e)))
			check(e, text(e.item("register")["value"]) == "x", "not written")
			must(e, l.Release(e.ctx))
		})
	})
	t.Run("it arrives before the heartbeat", func(t *testing.T) {
		virtual(t, func(e *env) {
			c, wire := e.client(long)
			l := e.acquire(c, "key")
			e.put("gate", attributes{"closed": s("yes")})
			wire.Inject(testserver.Fault{Kind: testserver.KeepRequest, Op: "TransactWriteItems", Times: 1})
			wire.Inject(testserver.Fault{Op: "UpdateItem", Times: 1, Delay: 50 * time.Millisecond})
			go func() {
				time.Sleep(45 * time.Millisecond) // the second attempt was refused, and the heartbeat is on its way
				e.put("gate", attributes{})
				deliver(e, wire)
			}()
			must(e, l.Transact(e.ctx, put(e, "register", "x"), gate(e)))
			check(e, text(e.item("register")["value"]) == "x", "not written")
			must(e, l.Release(e.ctx))
		})
	})
	t.Run("another guarded write is made void with it", func(t *testing.T) {
		virtual(t, func(e *env) {
			var cancelled *types.TransactionCanceledException
			c, wire := e.client(long)
			l := e.acquire(c, "key")
			e.put("gate", attributes{"closed": s("yes")})
			wire.Inject(testserver.Fault{Kind: testserver.KeepRequest, Op: "TransactWriteItems", Times: 2})
			other := make(chan error)
			go func() { other <- l.Transact(e.ctx, put(e, "other", "x")) }()
			time.Sleep(time.Microsecond)
			err := l.Transact(e.ctx, put(e, "register", "x"), gate(e))
			check(e, errors.As(err, &cancelled), "error is %v", err)
			must(e, <-other)
			check(e, text(e.item("other")["value"]) == "x", "not written")
			e.put("gate", attributes{})
			deliver(e, wire)
			check(e, len(e.item("register")) == 0, "what was refused was written")
			must(e, l.Release(e.ctx))
		})
	})
}

// A released row that somebody altered by hand and left the version as it was.
func TestAReleasedRowThatSomebodyAlteredByHandIsForeign(t *testing.T) {
	n := func(v string) types.AttributeValue { return &types.AttributeValueMemberN{Value: v} }
	onServer(t, func(e *env) {
		c, _ := e.client(long)
		for name, changes := range map[string]attributes{
			"lease 0":              {"leaseDuration": s("0")},
			"lease 00":             {"leaseDuration": s("00")},
			"lease 99":             {"leaseDuration": s("99")},
			"lease -100":           {"leaseDuration": s("-100")},
			"lease of a day and 1": {"leaseDuration": s("86400001")},
			"lease of years":       {"leaseDuration": s("864000000000")},
			"lease in words":       {"leaseDuration": s("ten seconds")},
			"lease a number":       {"leaseDuration": n("10000")},
			"token -5":             {"fencingToken": n("-5")},
			"token 0.5":            {"fencingToken": n("0.5")},
			"token 1e30":           {"fencingToken": n("1000000000000000000000000000000")},
			"token 2^63":           {"fencingToken": n("9223372036854775808")},
			"token a text":         {"fencingToken": s("5")},
			"owner a number":       {"ownerName": n("5")},
			"data a text":          {"data": s("5")},
		} {
			must(e, e.acquire(c, name).Release(e.ctx))
			row := with(e.item(name), changes)
			e.put(name, maps.Clone(row))
			_, err := c.TryAcquire(e.ctx, name)
			check(e, errors.Is(err, dynalock.ErrForeign), "%s: %v", name, err)
			_, err = c.Acquire(e.within(lease), name)
			check(e, errors.Is(err, dynalock.ErrForeign), "%s: %v", name, err)
			check(e, fmt.Sprint(texts(e.item(name))) == fmt.Sprint(texts(row)), "%s was overwritten: %v", name,
				texts(e.item(name)))
		}
		for name, changes := range map[string]attributes{ // still a lock
			"lease 100":      {"leaseDuration": s("100")},
			"lease of a day": {"leaseDuration": s("86400000")},
			"lease 99999 ms": {"leaseDuration": s("99999")},
		} {
			must(e, e.acquire(c, name).Release(e.ctx))
			e.put(name, with(e.item(name), changes))
			must(e, e.acquire(c, name).Release(e.ctx))
		}
	})
}

// No condition can tell a fraction. What it becomes is no tenure, and is taken back.
func TestATokenThatIsAFractionGivesNoLock(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long)
		must(e, e.acquire(c, "key").Release(e.ctx))
		e.put("key", with(e.item("key"), attributes{"fencingToken": &types.AttributeValueMemberN{Value: "1.5"}}))
		for range 2 {
			_, err := c.TryAcquire(e.ctx, "key")
			wantErr(e, err, dynalock.ErrForeign)
			check(e, strings.Contains(err.Error(), "fencingToken"), "error is %v", err)
			e.until("it is given back", func() bool { return text(e.item("key")["isReleased"]) == "1" })
			check(e, text(e.item("key")["fencingToken"]) == "1.5", "the token is %s", text(e.item("key")["fencingToken"]))
		}
	})
}

func texts(it attributes) map[string]string {
	m := map[string]string{}
	for name, v := range it {
		m[name] = text(v)
	}
	return m
}

func TestALateCopyOfAnAcquireDoesNotTakeTheLockAgainAfterItsRelease(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		for range 2 { // of a new key, and of one that was released
			wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "UpdateItem", Times: 1})
			l := e.acquire(c, "key")
			must(e, l.Release(e.ctx))
			_, err := wire.Deliver(e.ctx)
			must(e, err)
			r, err := c.Get(e.ctx, "key")
			must(e, err)
			check(e, r.State == dynalock.Free && r.Token == l.Token(), "record is %+v", r)
		}
	})
}

func TestALateCopyOfAnAcquireBeginsNoTenureAfterAnOperatorEndedIts(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "UpdateItem", Times: 1})
		l := e.acquire(c, "key")
		// the operator's clock is behind
		hasty, _ := e.client(dynalock.WithClock(skewed{heartbeat.SystemClock(), -time.Minute}))
		r, err := hasty.Get(e.ctx, "key")
		must(e, err)
		must(e, hasty.ForceRelease(e.ctx, r))
		_, err = wire.Deliver(e.ctx)
		must(e, err)
		now, err := c.Get(e.ctx, "key")
		must(e, err)
		check(e, now.State == dynalock.Free && now.Token == l.Token(), "the copy was applied: %+v", now)
	})
}

// A copy that makes the item anew after a deletion writes the version again, but not the token that counted on.
func TestALateCopyOfAnAcquireRevivesNoTenureWhoseItemWasDeletedUnlessItWasNew(t *testing.T) {
	onServer(t, func(e *env) {
		for name, act := range map[string]func(c *dynalock.Client, l *dynalock.Lock) error{
			"heartbeat":   func(_ *dynalock.Client, l *dynalock.Lock) error { return l.Renew(e.ctx) },
			"transaction": func(_ *dynalock.Client, l *dynalock.Lock) error { return l.Transact(e.ctx, put(e, "guarded", "x")) },
			"release":     func(_ *dynalock.Client, l *dynalock.Lock) error { return l.Release(e.ctx) },
			"resume": func(c *dynalock.Client, l *dynalock.Lock) error {
				_,
					err := c.Resume(e.ctx, l.Handle())
				return err
			},
		} {
			c, wire := e.client(long)
			must(e, e.acquire(c, name).Release(e.ctx))
			wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "UpdateItem", Times: 1})
			l := e.acquire(c, name)
			e.delete(name)
			_, err := wire.Deliver(e.ctx)
			must(e, err)
			now, err := c.Get(e.ctx, name)
			must(e, err)
			check(e, now.State == dynalock.Held && now.Token != l.Token(), "%s: the copy was not applied: %+v", name, now)
			err = act(c, l)
			check(e, errors.Is(err, dynalock.ErrLost), "%s: %v", name, err)
		}
		check(e, len(e.item("guarded")) == 0, "a guarded write was applied")
	})
}

// No condition can tell an item that was deleted from one that never was. So delete none.
func TestALateCopyOfAnAcquireMakesTheItemAnewThatWasDeletedUnderItsHolder(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		wire.Inject(testserver.Fault{Kind: testserver.KeepCopy, Op: "UpdateItem", Times: 1})
		l := e.acquire(c, "key")
		e.delete("key")
		_, err := wire.Deliver(e.ctx)
		must(e, err)
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		check(e, r.State == dynalock.Held && r.Token == l.Token(), "record is %+v", r)
		must(e, l.Renew(e.ctx)) // as if nothing had happened
		other, _ := e.client(long)
		_, err = other.TryAcquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrHeld)
		must(e, l.Release(e.ctx))
	})
}
