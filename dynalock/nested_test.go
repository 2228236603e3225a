package dynalock_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
)

func TestWaitingForOneselfIsRefusedAtOnceAndSaysWhere(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client()
		nothing := func(context.Context, *dynalock.Lock) error { return nil }
		for name, tt := range map[string]struct {
			key  string
			hold func(ctx context.Context, fn func(ctx context.Context, l *dynalock.Lock) error) error
		}{
			"Do": {"key", func(ctx context.Context, fn func(context.Context, *dynalock.Lock) error) error {
				return c.Do(ctx, "key", fn)
			}},
			"Once": {"once/job/period", func(ctx context.Context, fn func(context.Context, *dynalock.Lock) error) error {
				_, err := c.Once(ctx, "job", "period", fn)
				return err
			}},
			"Election": {"election", func(ctx context.Context, fn func(context.Context, *dynalock.Lock) error) error {
				return c.Election("election").Run(ctx, fn)
			}},
			"Lock.Context": {"acquired", func(ctx context.Context, fn func(context.Context, *dynalock.Lock) error) error {
				l, err := c.Acquire(ctx, "acquired")
				must(e, err)
				return errors.Join(fn(l.Context(), l), l.Release(ctx))
			}},
		} {
			must(e, tt.hold(e.ctx, func(ctx context.Context, l *dynalock.Lock) error {
				return c.Do(ctx, "between "+name, func(ctx context.Context, _ *dynalock.Lock) error { // not the innermost either
					ctx, cancel := context.WithTimeout(ctx, time.Second)
					defer cancel()
					before := wire.Count("UpdateItem")
					errs := map[string]error{}
					_, errs["Acquire"] = c.Acquire(ctx, tt.key)
					errs["Do"] = c.Do(ctx, tt.key, nothing)
					errs["Election.Run"] = c.Election(tt.key).Run(ctx, nothing)
					if name == "Once" {
						_, errs["Once"] = c.Once(ctx, "job", "period", nothing)
					}
					for call, err := range errs {
						nested, ok := errors.AsType[*dynalock.NestedError](err)
						if !ok {
							e.Fatalf("%s under %s: %v", call, name, err)
						}
						wantErr(e, err, dynalock.ErrNested)
						check(e, !errors.Is(err, dynalock.ErrHeld) && nested.Key == tt.key && nested.Token == l.Token(),
							"%s under %s: %+v", call, name, nested)
						check(e, strings.Contains(nested.Where, "nested_test.go:") && strings.Contains(err.Error(), nested.Where),
							"%s under %s: %v", call, name, err)
					}
					check(e, wire.Count("UpdateItem") == before && ctx.Err() == nil, "%s was asked for, or waited for", tt.key)
					_, err := c.TryAcquire(ctx, tt.key) // waits for nobody
					held, ok := errors.AsType[*dynalock.HeldError](err)
					check(e, ok && held.ThisProcess, "TryAcquire: %v", err)
					return nil
				})
			}))
		}
	})
}

func TestAHolderMayWaitForOtherLocksAndForItsOwnOnceItIsOver(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		err := c.Do(e.ctx, "key", func(ctx context.Context, l *dynalock.Lock) error {
			must(e, c.Do(ctx, "other", func(context.Context, *dynalock.Lock) error { return nil }))
			resumed, err := c.Resume(ctx, l.Handle()) // which goes on with it, and waits for nobody
			must(e, err)
			must(e, resumed.Release(e.ctx))
			again, err := c.Acquire(context.WithoutCancel(ctx), "key")
			must(e, err)
			must(e, again.Release(e.ctx))
			return nil
		})
		wantErr(e, err, dynalock.ErrLost) // by the Resume
	})
}

func TestAWaitForAnotherGoroutineOfTheProcessSaysSo(t *testing.T) {
	virtual(t, func(e *env) {
		seen := &observed{}
		c, _ := e.client(func(o *dynalock.Options) { o.Owner, o.Observer = "me", seen })
		l := e.acquire(c, "key")
		_, err := c.Acquire(e.within(time.Second), "key")
		held, ok := errors.AsType[*dynalock.HeldError](err)
		check(e, ok && held.ThisProcess && held.Record.Token == l.Token(), "%v", err)
		check(e, strings.Contains(err.Error(), "this process"), "it says: %v", err)
		waiting := seen.of(dynalock.EventWaiting)
		check(e, len(waiting) == 1 && waiting[0].By != nil && waiting[0].By.Token == l.Token(), "%+v", waiting)
		other, _ := e.client()
		_, err = other.TryAcquire(e.ctx, "key")
		held, ok = errors.AsType[*dynalock.HeldError](err)
		check(e, ok && !held.ThisProcess && !strings.Contains(err.Error(), "this process"), "another process: %v", err)
	})
}
