package dynalock_test

import (
	"context"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

func TestDoReleasesAfterAPanicAndAnEndedContext(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client()
		func() {
			defer func() { check(e, recover() == "boom", "the panic was swallowed") }()
			_ = c.Do(e.ctx, "key", func(context.Context, *dynalock.Lock) error { panic("boom") })
		}()
		ctx, cancel := context.WithCancel(e.ctx)
		err := c.Do(ctx, "key", func(ctx context.Context, l *dynalock.Lock) error {
			check(e, l.Held(), "not held")
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		wantErr(e, err, context.Canceled)
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		check(e, r.State == dynalock.Free, "record is %+v", r)
	})
}

func TestDoSaysThatTheLockWasLostWhateverTheFunctionReturns(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		err := c.Do(e.ctx, "key", func(ctx context.Context, _ *dynalock.Lock) error {
			crash(wire)
			<-ctx.Done()
			wantErr(e, context.Cause(ctx), dynalock.ErrLost)
			return nil
		})
		wantErr(e, err, dynalock.ErrLost)
	})
}

func TestDoSaysThatTheLockWasNotReleased(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		wire.Inject(testserver.Fault{
			Kind: testserver.FailBefore, Status: 400, Type: "ValidationException", Op: "UpdateItem",
			Skip: 1,
		})
		wantErr(e, c.Do(e.ctx, "key", nothing), dynalock.ErrStore)
		check(e, e.item("key")["isReleased"] == nil, "it was released after all")
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
