package dynalock_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/dynalock/dynalock/dynalock"
)

// trap is a caller's own DynamoDB, or provider of credentials, that does something odd, such as to panic, before each
// request while it is set.
type trap struct {
	dynalock.DynamoDB
	odd atomic.Pointer[func()]
}

func (p *trap) set(odd func()) { p.odd.Store(&odd) }

func (p *trap) spring() {
	if odd := p.odd.Load(); odd != nil && *odd != nil {
		(*odd)()
	}
}

func (p *trap) GetItem(
	ctx context.Context, in *dynamodb.GetItemInput, optFns ...func(*dynamodb.Options),
) (*dynamodb.GetItemOutput, error) {
	p.spring()
	return p.DynamoDB.GetItem(ctx, in, optFns...)
}

func (p *trap) UpdateItem(
	ctx context.Context, in *dynamodb.UpdateItemInput, optFns ...func(*dynamodb.Options),
) (*dynamodb.UpdateItemOutput, error) {
	p.spring()
	return p.DynamoDB.UpdateItem(ctx, in, optFns...)
}

func (p *trap) Scan(
	ctx context.Context, in *dynamodb.ScanInput, optFns ...func(*dynamodb.Options),
) (*dynamodb.ScanOutput, error) {
	p.spring()
	return p.DynamoDB.Scan(ctx, in, optFns...)
}

func (p *trap) TransactWriteItems(
	ctx context.Context, in *dynamodb.TransactWriteItemsInput, optFns ...func(*dynamodb.Options),
) (*dynamodb.TransactWriteItemsOutput, error) {
	p.spring()
	return p.DynamoDB.TransactWriteItems(ctx, in, optFns...)
}

// Retrieve implements aws.CredentialsProvider.
func (p *trap) Retrieve(context.Context) (aws.Credentials, error) {
	p.spring()
	return aws.Credentials{AccessKeyID: "made", SecretAccessKey: "up"}, nil
}

// trapped is a client over a trap, and its log.
func (e *env) trapped(optFns ...func(*dynalock.Options)) (*dynalock.Client, *trap, *logged) {
	e.Helper()
	p := &trap{DynamoDB: e.connect()}
	c, log := e.over(p, optFns...)
	return c, p, log
}

// disowned is a client over the SDK's, with a trap for a provider of its credentials, and its log.
func (e *env) disowned(optFns ...func(*dynalock.Options)) (*dynalock.Client, *trap, *logged) {
	e.Helper()
	p := &trap{}
	c, log := e.over(dynamodb.New(e.connect().Options(), func(o *dynamodb.Options) { o.Credentials = p }), optFns...)
	return c, p, log
}

// over is a client over a store, and its log.
func (e *env) over(db dynalock.DynamoDB, optFns ...func(*dynalock.Options)) (*dynalock.Client, *logged) {
	e.Helper()
	log := &logged{}
	c, err := dynalock.New(db, e.table,
		append([]func(*dynalock.Options){func(o *dynalock.Options) { o.Lease = lease }, logsTo(log)}, optFns...)...)
	must(e, err)
	e.Cleanup(func() { _ = c.Close(context.WithoutCancel(e.ctx)) })
	return c, log
}

// ending of a call that may return, panic, or end its goroutine.
type ending struct {
	err      error
	panicked any
	left     bool // by runtime.Goexit
}

func call(f func() error) ending {
	got := make(chan ending, 1)
	go func() {
		r := ending{left: true}
		defer func() {
			if r.panicked = recover(); r.panicked != nil {
				r.left = false
			}
			got <- r
		}()
		r.err = f()
		r.left = false
	}()
	return <-got
}

func TestAPanicOfTheStoreGoesToTheCallerWhoWaitsForIt(t *testing.T) {
	panicsGoToTheCaller(t, (*env).trapped)
}

// One in an aws.CredentialsCache ends the process: it calls the provider in a goroutine of its own.
func TestAPanicOfTheCredentialsGoesToTheCallerWhoWaitsForIt(t *testing.T) {
	panicsGoToTheCaller(t, (*env).disowned)
}

func panicsGoToTheCaller(
	t *testing.T, trapped func(*env, ...func(*dynalock.Options)) (*dynalock.Client, *trap, *logged),
) {
	t.Helper()
	boom := errors.New("boom")
	for name, odd := range map[string]func(){"panic": func() { panic(boom) }, "Goexit": runtime.Goexit} {
		virtually(t, name, func(e *env) {
			c, p, log := trapped(e, long)
			other, _ := e.client(long)
			l := e.acquire(c, "held")
			elsewhere := e.acquire(other, "elsewhere")
			record, err := other.Get(e.ctx, "elsewhere")
			must(e, err)
			nothing := func(context.Context, *dynalock.Lock) error { return errors.New("the function ran") }
			for name, f := range map[string]func() error{
				"Acquire":      func() error { _, err := c.Acquire(e.ctx, "key"); return err },
				"TryAcquire":   func() error { _, err := c.TryAcquire(e.ctx, "key"); return err },
				"Do":           func() error { return c.Do(e.ctx, "key", nothing) },
				"Once":         func() error { _, err := c.Once(e.ctx, "job", "period", nothing); return err },
				"Election.Run": func() error { return c.Election("election").Run(e.ctx, nothing) },
				"Resume":       func() error { _, err := c.Resume(e.ctx, elsewhere.Handle()); return err },
				"Get":          func() error { _, err := c.Get(e.ctx, "key"); return err },
				"Pause":        func() error { return c.Pause(e.ctx, "job", "why") },
				"ForceRelease": func() error { return c.ForceRelease(e.ctx, record) },
				"Records": func() error {
					for _, err := range c.Records(e.ctx) {
						return err
					}
					return nil
				},
				"Renew":    func() error { return l.Renew(e.ctx) },
				"SetData":  func() error { return l.SetData(e.ctx, []byte("x")) },
				"Transact": func() error { return l.Transact(e.ctx, put(e, "row", "x")) },
				"Release":  func() error { return e.acquire(c, "own").Release(e.ctx) },
			} {
				p.set(odd)
				if name == "Release" { // the acquisition before it is fine
					p.set(nil)
					own := e.acquire(c, "own")
					p.set(odd)
					f = func() error { return own.Release(e.ctx) }
				}
				got := call(f)
				p.set(nil)
				switch odd := got.panicked; {
				case got.left && strings.HasSuffix(e.Name(), "Goexit"):
				case odd == any(boom):
				default:
					e.Errorf("%s: %+v", name, got)
				}
			}
			check(e, l.Held(), "the lock is %v", l.Err())
			must(e, l.Release(e.ctx))
			e.acquire(c, "key") // what was in doubt stands in nobody's way
			must(e, c.Close(e.ctx))
			synctest.Wait()
			records := log.records(e, "panic recovered")
			check(e, len(records) >= 14, "%d records of 14 panics", len(records))
			for _, r := range records {
				check(e, r["level"] == "ERROR" && strings.Contains(r["stack"].(string), "trap"), "%v", r)
			}
		})
	}
}

func TestAPanicInTheBackgroundIsLoggedAndEndsTheLock(t *testing.T) {
	var odd atomic.Pointer[func()]
	spring := func(name, here string) {
		if f := odd.Load(); f != nil && name == here {
			(*f)()
		}
	}
	for _, here := range []string{"DynamoDB", "Credentials", "Observer", "Logger", "Health"} {
		for name, f := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
			t.Run(here+" "+name, func(t *testing.T) {
				inBubble(t, "", func(e *env) {
					odd.Store(nil)
					trapped := e.trapped
					if here == "Credentials" {
						trapped = e.disowned
					}
					c, p, log := trapped(func(o *dynalock.Options) {
						o.Observer = calling(func(_ context.Context, ev dynalock.Event) {
							if ev.Kind == dynalock.EventRenewed {
								spring("Observer", here)
							}
						})
						if here == "Logger" {
							o.Logger = slog.New(oddHandler{func() { spring("Logger", here) }})
						}
					})
					p.set(func() {
						spring("DynamoDB", here)
						spring("Credentials", here)
					})
					health := func(context.Context) error { spring("Health", here); return e.ctx.Err() }
					ended := make(chan ending, 1)
					lead := make(chan *dynalock.Lock, 1)
					go func() {
						ended <- call(func() error {
							election := c.Election("key", func(o *dynalock.ElectionOptions) { o.Health = health })
							return election.Run(e.ctx, func(ctx context.Context, l *dynalock.Lock) error {
								lead <- l
								<-ctx.Done()
								return context.Cause(ctx)
							})
						})
					}()
					l := <-lead
					odd.Store(&f)
					start := time.Now()
					<-l.Done()
					check(e, time.Since(start) <= 2*lease/5, "it was lost after %v, want at the first heartbeat", time.Since(start))
					lost, ok := errors.AsType[*dynalock.LostError](l.Err())
					check(e, ok && errors.Is(lost, dynalock.ErrPanicked), "%v", l.Err())
					p2, ok := errors.AsType[*dynalock.PanicError](l.Err())
					check(e, ok && len(p2.Stack) > 0 && (name == "Goexit" || p2.Value == "boom"), "%+v", p2)
					check(e, l.Deadline().Before(time.Now().Add(time.Nanosecond)), "it is trusted until %v", l.Deadline())
					if here != "Logger" {
						records := log.records(e, "panic recovered")
						check(e, len(records) > 0 && strings.Contains(records[0]["stack"].(string), "panic_test.go"), "%v", records)
					}
					if here != "Observer" { // which Run asks itself, when it campaigns again
						r := <-ended
						check(e, r.panicked == "boom" || r.left, "Run: %+v", r)
					}
					odd.Store(nil)
					must(e, c.Close(e.ctx))
				})
			})
		}
	}
}

// oddHandler is a log handler that does something odd.
type oddHandler struct{ odd func() }

func (h oddHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h oddHandler) Handle(context.Context, slog.Record) error {
	h.odd()
	return nil
}
func (h oddHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h oddHandler) WithGroup(string) slog.Handler      { return h }

func TestAPanicOfAnObserverLeavesNoLockBehind(t *testing.T) {
	for _, tt := range []struct {
		kind dynalock.EventKind
		do   func(e *env, c *dynalock.Client) error
		free bool // right after
	}{
		{acquired, func(e *env, c *dynalock.Client) error { _, err := c.Acquire(e.ctx, "key"); return err }, true},
		{acquired, func(e *env, c *dynalock.Client) error { _, err := c.TryAcquire(e.ctx, "key"); return err }, true},
		{released, func(e *env, c *dynalock.Client) error { return e.acquire(c, "key").Release(e.ctx) }, true},
		{notAcquired, func(e *env, c *dynalock.Client) error {
			other, _ := e.client()
			l := e.acquire(other, "key")
			defer func() { must(e, l.Release(e.ctx)) }()
			_, err := c.TryAcquire(e.ctx, "key")
			return err
		}, true},
		{waiting, func(e *env, c *dynalock.Client) error {
			other, _ := e.client()
			l := e.acquire(other, "key")
			defer func() { must(e, l.Release(e.ctx)) }()
			_, err := c.Acquire(e.ctx, "key")
			return err
		}, true},
	} {
		virtually(t, tt.kind.String(), func(e *env) {
			var on atomic.Bool
			c, _, _ := e.trapped(func(o *dynalock.Options) {
				o.Observer = calling(func(_ context.Context, ev dynalock.Event) {
					if on.Load() && ev.Kind == tt.kind {
						panic("boom")
					}
				})
			})
			on.Store(true)
			got := call(func() error { return tt.do(e, c) })
			check(e, got.panicked == "boom", "%+v", got)
			on.Store(false)
			time.Sleep(time.Second)
			check(e, text(e.item("key")["isReleased"]) == "1", "the lock stays: %v", e.item("key"))
			must(e, e.acquire(c, "key").Release(e.ctx))
			must(e, c.Close(e.ctx))
		})
	}
}

func TestCloseTellsAPanicOfAReleaseAndReleasesTheRest(t *testing.T) {
	virtual(t, func(e *env) {
		c, p, _ := e.trapped()
		e.acquire(c, "a")
		e.acquire(c, "b")
		var n atomic.Int32
		p.set(func() {
			if n.Add(1) == 1 {
				panic("boom")
			}
		})
		wantErr(e, c.Close(e.ctx), dynalock.ErrPanicked)
		freed := 0
		for _, key := range []string{"a", "b"} {
			if text(e.item(key)["isReleased"]) == "1" {
				freed++
			}
		}
		check(e, freed == 1, "%d of 2 locks are free", freed)
	})
}

func TestAPanicOfAnObserverOfALossIsOnlyLogged(t *testing.T) {
	virtual(t, func(e *env) {
		c, _, log := e.trapped(func(o *dynalock.Options) {
			o.Observer = calling(func(_ context.Context, ev dynalock.Event) {
				if ev.Kind == lost {
					panic("boom")
				}
			})
		})
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		<-l.Done()
		synctest.Wait()
		check(e, len(log.records(e, "panic recovered")) == 1, "%d records", len(log.records(e, "panic recovered")))
		must(e, c.Close(e.ctx))
	})
}
