package dynalock_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

// outages are ways in which requests fail, and the kind of event that each attempt is.
var outages = map[string]struct {
	fault testserver.Fault
	kind  dynalock.EventKind
}{
	"throttling": {
		testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ThrottlingException"},
		dynalock.EventRetry,
	},
	"a permission": {
		testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "AccessDeniedException"},
		dynalock.EventRetry,
	},
	"a refusal": {
		testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ValidationException"},
		dynalock.EventRetry,
	},
	"an error": {testserver.Fault{Kind: testserver.FailBefore, Status: 500}, dynalock.EventInDoubt},
	"a reset":  {testserver.Fault{Kind: testserver.LoseRequest}, dynalock.EventInDoubt},
	"silence":  {testserver.Fault{Kind: testserver.HangBefore}, dynalock.EventInDoubt},
}

// recorded is a client that keeps its events and its log.
func (e *env) recorded(optFns ...func(*dynalock.Options)) (*dynalock.Client, *testserver.Wire, *observed, *logged) {
	seen, log := &observed{}, &logged{}
	c, wire := e.client(append(optFns, func(o *dynalock.Options) {
		o.Observer, o.Logger = seen, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})...)
	return c, wire, seen, log
}

// warnings are the records of a message at warn, checked to be a second apart.
func warnings(e *env, log *logged, msg string) (list []map[string]any) {
	e.Helper()
	last := time.Time{}
	for _, r := range log.records(e, msg) {
		if r["level"] != "WARN" {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, r["time"].(string))
		must(e, err)
		check(e, at.Sub(last) >= time.Second, "%q comes %v after another one", msg, at.Sub(last))
		last, list = at, append(list, r)
	}
	return list
}

func TestEachHeartbeatThatFailsIsToldWithItsTokenAndOneWarningASecondIsLogged(t *testing.T) {
	for name, o := range outages {
		virtually(t, name, func(e *env) {
			c, wire, seen, log := e.recorded(func(o *dynalock.Options) { o.Lease = 10 * time.Second })
			l, second := e.acquire(c, "key"), e.acquire(c, "second")
			sent := wire.Count()
			wire.Inject(o.fault)
			<-l.Done()
			<-second.Done()
			events := seen.of(o.kind)
			failed := wire.Count() - sent
			check(e, len(events) >= failed-2 && len(events) <= failed && len(events) > 3, "%d events of %d requests",
				len(events), failed)
			for _, ev := range events {
				own := ev.Key == "key" && ev.Token == l.Token() || ev.Key == "second" && ev.Token == second.Token()
				check(e, own && ev.Op == "heartbeat" && ev.Attempt > 0 && ev.Err != nil, "%+v", ev)
			}
			warned := warnings(e, log, "lock "+o.kind.String())
			check(e, len(warned) >= 3 && len(warned) <= 10, "%d warnings of %d events", len(warned), len(events))
			for _, r := range warned {
				check(e, r["op"] == "heartbeat" && r["token"] != float64(0), "record is %v", r)
			}
			check(e, len(log.records(e, "lock "+o.kind.String())) == len(events), "not each event is in the log at debug")
		})
	}
}

func TestAHeartbeatThatMeetsAGuardedWriteIsNoWarning(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire, seen, log := e.recorded()
		l := e.acquire(c, "key")
		wire.Inject(testserver.Fault{
			Kind: testserver.FailBefore, Status: 400, Type: "TransactionConflictException",
			Times: 1,
		})
		time.Sleep(lease)
		check(e, l.Held() && len(seen.of(dynalock.EventRetry)) == 1, "events %+v, %v", seen.of(dynalock.EventRetry), l.Err())
		check(e, len(warnings(e, log, "lock retry")) == 0, "it is a warning")
	})
}

func TestAWaitThatCannotReachTheTableIsToldAndOneWarningASecondIsLogged(t *testing.T) {
	for name, o := range outages {
		if name == "a refusal" { // it ends the wait
			continue
		}
		for _, standby := range []bool{false, true} {
			who := " meets a wait"
			if standby {
				who = " meets a standby"
			}
			virtually(t, name+who, func(e *env) {
				holder, _ := e.client()
				e.acquire(holder, "key")
				c, wire, seen, log := e.recorded()
				ctx := e.within(16 * time.Second)
				time.AfterFunc(time.Second, func() { wire.Inject(o.fault) })
				var err error
				if standby {
					err = c.Election("key").Run(ctx, func(context.Context, *dynalock.Lock) error { return nil })
				} else {
					_, err = c.Acquire(ctx, "key")
				}
				wantErr(e, err, context.DeadlineExceeded)
				events := seen.of(dynalock.EventRetry)
				check(e, len(events) > 8, "%d events of 15 s", len(events))
				for _, ev := range events {
					check(e, ev.Key == "key" && ev.Op == "acquire" && ev.Token == 0 && errors.Is(ev.Err, dynalock.ErrStore), "%+v", ev)
				}
				check(e, len(warnings(e, log, "lock retry")) > 6, "%d warnings", len(warnings(e, log, "lock retry")))
			})
		}
	}
}

func TestAnAttemptThatRanIntoItsTimeoutSaysSo(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire, seen, _ := e.recorded()
		l := e.acquire(c, "key")
		wire.Inject(testserver.Fault{Kind: testserver.HangBefore})
		<-l.Done()
		_, err := c.TryAcquire(e.ctx, "another")
		want := "no answer within " + (lease / 5).String()
		check(e, strings.Contains(err.Error(), want), "error is %v", err)
		check(e, strings.Contains(l.Err().Error(), want), "error is %v", l.Err())
		for _, ev := range seen.of(dynalock.EventInDoubt) {
			check(e, strings.Contains(ev.Err.Error(), want), "event is %v", ev.Err)
		}
		_, err = c.TryAcquire(e.within(lease/20), "another")
		check(e, !strings.Contains(err.Error(), "no answer within"), "its own context ended: %v", err)
	})
}

// starts are calls that wait for DynamoDB from their first request on.
var starts = map[string]func(ctx context.Context, c *dynalock.Client, optFns ...func(*dynalock.OnceOptions)) error{
	"Once": func(ctx context.Context, c *dynalock.Client, optFns ...func(*dynalock.OnceOptions)) error {
		_, err := c.Once(ctx, "job", "1", nothing, optFns...)
		return err
	},
	"Once with AtLeast": func(ctx context.Context, c *dynalock.Client, optFns ...func(*dynalock.OnceOptions)) error {
		_, err := c.Once(ctx, "job", "1", nothing,
			append(optFns, func(o *dynalock.OnceOptions) { o.AtLeast = time.Minute })...)
		return err
	},
	"Tick": func(ctx context.Context, c *dynalock.Client, _ ...func(*dynalock.OnceOptions)) error {
		next := time.Now().UTC().Truncate(time.Hour).Add(time.Hour)
		ticks := 0
		err := c.Tick(ctx, "job", last(next), func(context.Context, *dynalock.Lock, time.Time) error { ticks++; return nil })
		if err == nil && ticks != 1 {
			err = errors.New("its tick did not run")
		}
		return err
	},
}

func TestOnceAndTickWaitForDynamoDBFromTheirFirstRequestOn(t *testing.T) {
	for name, o := range outages {
		if name == "a refusal" || name == "a permission" { // these do not pass
			continue
		}
		for start, call := range starts {
			virtually(t, name+" before "+start, func(e *env) {
				c, wire, seen, _ := e.recorded()
				remove := wire.Inject(o.fault)
				time.AfterFunc(15*time.Second, remove)
				began := time.Now()
				must(e, call(e.ctx, c))
				check(e, time.Since(began) >= 15*time.Second, "it took %v", time.Since(began))
				check(e, name == "silence" || len(seen.of(dynalock.EventRetry)) > 10, "%d events",
					len(seen.of(dynalock.EventRetry)))
			})
		}
	}
}

func TestAStartThatWaitsForDynamoDBEndsWithItsContextAndWithItsClient(t *testing.T) {
	for start, call := range starts {
		virtually(t, start, func(e *env) {
			c, wire := e.client()
			wire.Inject(testserver.Fault{Kind: testserver.LoseRequest})
			began := time.Now()
			err := call(e.within(20*time.Second), c)
			wantErr(e, err, context.DeadlineExceeded)
			check(e, start == "Tick" || errors.Is(err, dynalock.ErrStore), "error is %v", err)
			check(e, time.Since(began) < 20*time.Second+50*time.Millisecond, "it took %v", time.Since(began))
			time.AfterFunc(5*time.Second, func() { _ = c.Close(e.ctx) })
			began = time.Now()
			wantErr(e, call(e.ctx, c), dynalock.ErrClosed)
			check(e, time.Since(began) < 6*time.Second, "it took %v", time.Since(began))
		})
	}
}

func TestOnceThatDoesNotWaitMakesThreeAttempts(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ThrottlingException"})
		_, err := c.Once(e.ctx, "job", "1", nothing, func(o *dynalock.OnceOptions) { o.NoWait = true })
		wantErr(e, err, dynalock.ErrStore)
		check(e, wire.Count() == 3, "%d requests", wire.Count())
	})
}

func TestARunIsTriedAgainThoughDynamoDBIsBusyWhenItsPauseIsOver(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		calls := 0
		run, err := c.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error {
			if calls++; calls == 1 {
				remove := wire.Inject(
					testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ThrottlingException", Op: "GetItem"})
				time.AfterFunc(2*lease, remove)
				return errors.New("try again")
			}
			return nil
		}, func(o *dynalock.OnceOptions) { o.RetryOnError = 1 })
		must(e, err)
		check(e, calls == 2 && !run.FinishedAt.IsZero(), "%d calls, %+v", calls, run)
	})
}
