package dynalock_test

import (
	"context"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/internal/testserver"
)

func TestALockWonAfterItsCallerHadGoneIsForgotten(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		for range 5 {
			e.embedded.Inject(dynalocktest.Fault{
				Kind: dynalocktest.SlowResponse, Operation: "UpdateItem",
				Delay: 100 * time.Millisecond, Times: 1,
			})
			_, err := c.Acquire(e.within(50*time.Millisecond), "key")
			wantErr(e, err, context.DeadlineExceeded)
			time.Sleep(time.Second)
			check(e, text(e.item("key")["isReleased"]) == "1", "not released")
		}
		before := wire.Count()
		must(e, c.Close(e.ctx))
		check(e, wire.Count() == before, "Close sent %d requests for locks that were released", wire.Count()-before)
	})
}

func TestTheCleaningUpBehindAnAcquisitionIsRepeated(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Minute })
		ctx, cancel := context.WithCancel(e.ctx)
		wire.Inject(testserver.Fault{
			Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1,
			Match: func(string, []byte) bool { cancel(); return true },
		})
		wire.Inject(testserver.Fault{Kind: testserver.LoseRequest, Op: "UpdateItem", Times: 2})
		_, err := c.Acquire(ctx, "key")
		wantErr(e, err, context.Canceled)
		time.Sleep(10 * time.Second)
		check(e, text(e.item("key")["isReleased"]) == "1", "the ghost is still there: %v", e.item("key"))
	})
}

// The first write is lost on its way, and then the call fails. When the write arrives after all, the call is long over.
func TestACallThatFailsAfterALostAnswerGivesBackWhatTheLostWriteBringsLater(t *testing.T) {
	try := func(ctx context.Context, c *dynalock.Client) error {
		_, err := c.TryAcquire(ctx, "key")
		return err
	}
	wait := func(ctx context.Context, c *dynalock.Client) error {
		_, err := c.Acquire(ctx, "key")
		return err
	}
	denied := testserver.Fault{Kind: testserver.FailBefore, Times: 1, Status: 400, Type: "AccessDeniedException"}
	mute := testserver.Fault{Kind: testserver.LoseRequest, Times: 2}
	held, foreign := goRow("other", "0000000000000000000000000000000a"), attributes{"something": s("else")}
	for name, tt := range map[string]struct {
		call func(ctx context.Context, c *dynalock.Client) error
		row  attributes       // what somebody else writes after the lost write was sent
		then testserver.Fault // what the next requests meet
		ends time.Duration    // the call's context
		want error
	}{
		"a try finds it held":         {call: try, row: held, want: dynalock.ErrHeld},
		"a try finds it foreign":      {call: try, row: foreign, want: dynalock.ErrForeign},
		"a try is refused for good":   {call: try, then: denied, want: dynalock.ErrStore},
		"a try has no answer":         {call: try, then: mute, want: dynalock.ErrStore},
		"a try ends with its context": {call: try, ends: 5 * time.Millisecond, want: context.DeadlineExceeded},
		"a wait finds it foreign":     {call: wait, row: foreign, want: dynalock.ErrForeign},
		"a wait is refused for good":  {call: wait, then: denied, want: dynalock.ErrStore},
		"a wait ends with its context": {
			call: wait, row: held, ends: lease / 4, want: context.DeadlineExceeded,
		},
	} {
		t.Run(name, func(t *testing.T) {
			onServer(t, func(e *env) {
				c, wire := e.client()
				meanwhile := func(string, []byte) bool {
					if tt.row != nil {
						e.put("key", with(tt.row, nil))
					}
					return true
				}
				wire.Inject(testserver.Fault{Kind: testserver.KeepRequest, Op: "UpdateItem", Times: 1, Match: meanwhile})
				if tt.then.Kind != testserver.Pass {
					wire.Inject(tt.then)
				}
				ctx := e.ctx
				if tt.ends > 0 {
					ctx = e.within(tt.ends)
				}
				wantErr(e, tt.call(ctx, c), tt.want)
				e.delete("key") // by an operator, so that nothing is in the way of the lost write
				_, err := wire.Deliver(e.ctx)
				must(e, err)
				time.Sleep(lease / 2)
				r, err := c.Get(e.ctx, "key")
				must(e, err)
				check(e, r.State == dynalock.Free, "half a lease later the tenure of nobody is still there: %+v", r)
			})
		})
	}
}

func TestALockWonAfterItsCallerHadGoneThatCouldNotBeReleasedIsForgotten(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		wire.Inject(testserver.Fault{Op: "UpdateItem", Delay: 100 * time.Millisecond, Times: 1})
		remove := wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Op: "UpdateItem"})
		_, err := c.Acquire(e.within(50*time.Millisecond), "key")
		wantErr(e, err, context.DeadlineExceeded)
		time.Sleep(3 * lease)
		remove()
		before := wire.Count()
		must(e, c.Close(e.ctx))
		check(e, wire.Count() == before, "Close sent %d requests for a tenure that is nobody's", wire.Count()-before)
	})
}
