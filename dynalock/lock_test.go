package dynalock_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

func TestAHeartbeatIsOneRequest(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		l := e.acquire(c, "key")
		before := text(e.item("key")["recordVersionNumber"])
		n := wire.Count()
		must(e, l.Renew(e.ctx))
		check(e, wire.Count()-n == 1, "%d requests, want 1", wire.Count()-n)
		check(e, text(e.item("key")["recordVersionNumber"]) != before, "the version stayed %q", before)
	})
}

func TestALockIsKeptByItsHeartbeatAlone(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key")
		time.Sleep(100 * lease)
		check(e, l.Held() && l.Err() == nil, "lost: %v", l.Err())
		beats := wire.Count() - 1
		check(e, beats >= 500 && beats <= 600, "%d heartbeats in 100 leases, want one every fifth of a lease", beats)
	})
}

func TestAHungNetworkIsAnnouncedAtTheDeadline(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key")
		time.Sleep(3 * lease)
		crash(wire)
		deadline := l.Deadline()
		<-l.Done()
		late := time.Since(deadline)
		check(e, late >= 0 && late <= time.Millisecond, "Done closed %v after the deadline", late)
		check(e, !l.Held(), "Held is true after the deadline")
		wantErr(e, l.Err(), dynalock.ErrLost)
		wantErr(e, l.Err(), heartbeat.ErrDeadline)
		wantErr(e, context.Cause(l.Context()), dynalock.ErrLost)
	})
}

func TestEmptyDataIsStoredAndNoneKeepsWhatIsThere(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long)
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.Data = []byte("data") })
		must(e, l.Renew(e.ctx))
		must(e, l.Release(e.ctx))
		l = e.acquire(c, "key")
		check(e, string(l.Data()) == "data", "found %q", l.Data())
		must(e, l.SetData(e.ctx, nil))
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		check(e, len(r.Data) == 0 && len(l.Data()) == 0, "stored is %q, the lock says %q", r.Data, l.Data())
	})
}

func TestRenewAndSetDataExtendTheLeaseFromBeforeTheirSend(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		wire.Inject(testserver.Fault{Delay: lease / 10})
		for name, extend := range map[string]func() error{
			"Renew":   func() error { return l.Renew(e.ctx) },
			"SetData": func() error { return l.SetData(e.ctx, []byte("x")) },
		} {
			time.Sleep(lease / 10)
			start := time.Now()
			must(e, extend())
			check(e, l.Deadline().Equal(start.Add(lease*4/5)), "%s: the deadline is %v after the send, want %v", name,
				l.Deadline().Sub(start), lease*4/5)
		}
	})
}

// refusing is a table in which somebody holds every lock.
type refusing struct {
	dynalock.DynamoDB
	row attributes
}

func (r refusing) UpdateItem(
	context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options),
) (*dynamodb.UpdateItemOutput, error) {
	return nil, &types.ConditionalCheckFailedException{Item: r.row}
}

func TestDataIsWhatTheLastOfConcurrentCallsStored(t *testing.T) {
	t.Parallel()
	srv := dynalocktest.NewServer() // in real time, where goroutines overtake one another
	t.Cleanup(srv.Close)
	must(t, dynalock.CreateTable(t.Context(), srv.Client(), "locks"))
	c, err := dynalock.New(srv.Client(), "locks")
	must(t, err)
	l, err := c.Acquire(t.Context(), "key")
	must(t, err)
	for range 500 {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() { check(t, l.SetData(t.Context(), []byte{byte(i)}) == nil, "SetData failed") })
		}
		wg.Wait()
		r, err := c.Get(t.Context(), "key")
		must(t, err)
		if !bytes.Equal(r.Data, l.Data()) {
			t.Fatalf("Data is %v, stored is %v", l.Data(), r.Data)
		}
	}
	must(t, c.Close(t.Context()))
}

// blockingLog is a log whose disk is full.
type blockingLog struct {
	slog.Handler
	block time.Duration
}

func (blockingLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (h blockingLog) Handle(context.Context, slog.Record) error  { time.Sleep(h.block); return nil }

func TestAHeartbeatCountsThoughTheLoggerBlocks(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client(func(o *dynalock.Options) { o.Logger = slog.New(blockingLog{slog.DiscardHandler, lease * 7 / 10}) })
		l := e.acquire(c, "key")
		// the next one is late, which is logged
		e.embedded.Inject(dynalocktest.Fault{Kind: dynalocktest.Throttled, Operation: "UpdateItem", Times: 1})
		time.Sleep(lease)
		check(e, l.Held(), "lost: %v", l.Err())
	})
}

func TestMaxHoldCountsFromTheFirstSendThoughTheAnswerIsSlow(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client(func(o *dynalock.Options) { o.AttemptTimeout = lease * 2 / 3 })
		e.embedded.Inject(dynalocktest.Fault{
			Kind: dynalocktest.SlowResponse, Operation: "UpdateItem", Delay: lease * 3 / 5,
			Times: 1,
		})
		start := time.Now()
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.MaxHold = lease })
		<-l.Done()
		wantErr(e, l.Err(), heartbeat.ErrLimit)
		check(e, time.Since(start) < lease*11/10, "it was held for %v", time.Since(start))
	})
}

func TestDataThatWasNeverSentIsNotShown(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.Data = []byte("old") })
		e.embedded.Inject(dynalocktest.Fault{
			Kind: dynalocktest.SlowResponse, Operation: "UpdateItem",
			Delay: 200 * time.Millisecond, Times: 1,
		})
		var wg sync.WaitGroup
		wg.Go(func() { _ = l.Renew(e.ctx) }) // has the turn
		time.Sleep(50 * time.Millisecond)
		wg.Go(func() {
			time.Sleep(50 * time.Millisecond)
			must(e, l.Release(e.ctx))
		})
		wantErr(e, l.SetData(e.ctx, []byte("new")), dynalock.ErrReleased)
		wg.Wait()
		check(e, string(l.Data()) == "old", "Data is %q", l.Data())
	})
}

func TestARenewalThatIsThrottledIsRepeatedEverMoreRarely(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(long)
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		wire.Inject(busy)
		before := wire.Count()
		err := l.Renew(e.within(10 * time.Second))
		wantErr(e, err, context.DeadlineExceeded)
		wantErr(e, err, dynalock.ErrStore)
		n := wire.Count() - before
		check(e, n > 10 && n < 30, "%d requests in 10 s, want few at the end", n)
	})
}
