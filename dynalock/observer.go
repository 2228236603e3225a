package dynalock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// EventKind says what happened to a lock. The events of one call, and those of the tenure that it began, come in this
// order:
//
//	Acquire, Resume  [Waiting]  Acquired | TakenOver | NotAcquired
//	TryAcquire                  Acquired | TakenOver | NotAcquired
//	a tenure                    (Acquired | TakenOver)  {Renewed | RenewedLate}  Lost | Released
//
// A call that has to wait has one Waiting event. Each call ends with one event, whose Waited says whether the call had
// to wait. A call that is refused for its input or its context, or because the client is closed, has no event.
//
// A tenure ends with one event, too:
//
//   - A release after a loss has no event of its own.
//   - A release that fails is Released with an Err. It has no further event when it is repeated. The lock ends with its
//     lease at the latest.
//   - A tenure that was won after its caller had gone is released without an event.
//
// InDoubt and Retry may come at any time. [Client.Do], [Client.Once] and [Election.Run] have the events of an Acquire
// and of a tenure.
type EventKind int

// The kinds of events.
const (
	EventAcquired EventKind = iota // a tenure began; Duration: since Acquire was called
	// EventWaiting: a call has to wait. By is the tenure that it waits for, of another process or of a goroutine of this
	// one. By has only a Key while that is not known.
	EventWaiting
	EventTakenOver   // a tenure began on the item of a dead holder; By: the dead tenure; Duration as for EventAcquired
	EventRenewed     // a heartbeat was acknowledged; Duration: its round trip
	EventRenewedLate // the same, but it began late (Late) or needed more than one attempt
	EventInDoubt     // a request (Op, Err) was sent and its answer lost
	EventLost        // a tenure ended without a release; Err: why; Duration: how long it was held
	EventReleased    // a tenure ended with a release; Duration: how long it was held; Err: see above
	// EventRetry: a request failed for a cause that may pass, and is not in doubt (Op, Err): throttling, a refused
	// connection or expired credentials, for example. It is retried. Token is that of the tenure that the request is
	// about.
	EventRetry
	// EventNotAcquired: a call ended without a lock. Err is its error, By is the tenure that holds the lock, if it is
	// known, and Duration is the time since the call.
	EventNotAcquired
)

var eventNames = [...]string{
	"acquired", "waiting", "taken over", "renewed", "renewed late", "in doubt", "lost", "released", "retry",
	"not acquired",
}

// String names the kind.
func (k EventKind) String() string {
	if k < 0 || int(k) >= len(eventNames) {
		return fmt.Sprintf("EventKind(%d)", int(k))
	}
	return eventNames[k]
}

// Event is one thing that happened to a lock.
type Event struct {
	Kind     EventKind
	Key      string
	Token    uint64        // 0 while no tenure has begun
	Owner    string        // this client's label, or the candidate's in an election
	Op       string        // for EventInDoubt and EventRetry: the operation
	Duration time.Duration // see the kinds
	Waited   bool          // for the event that ends a call: an EventWaiting came before
	Late     time.Duration // how long after its due time a heartbeat began
	Attempt  int           // 1 for the first
	By       *Record       // the other tenure, where there is one
	Err      error
}

// Observer receives events. Observe is called synchronously from many goroutines, and must not block. ctx carries the
// values of the context of the call that acquired the lock.
//
// Observe must not call [Client.Close], nor any call that sends a request for a lock of this client ([Lock.Release],
// [Lock.Renew], [Lock.SetData], [Lock.Transact], [Client.Acquire], for example). Some of these would wait, until their
// context ends, for the very call or heartbeat that waits for Observe, and all of them delay it. Observe may start a
// goroutine for them, and may make calls that do no I/O, such as [Lock.Held]. The same is true of the handlers of the
// Logger.
//
// A panic of Observe, or of the Logger's handler, goes on in the call that the event is about. See [PanicError] for
// panics in the background.
type Observer interface {
	Observe(ctx context.Context, e Event)
}

// labelKey is the key in a context under which a kind keeps the label that the events of a key bear.
type labelKey struct {
	c   *Client
	key string
}

// label is the owner that the events of a key name: the client's, unless ctx carries another one.
func (c *Client) label(ctx context.Context, key string) string {
	if label, ok := ctx.Value(labelKey{c, key}).(string); ok {
		return label
	}
	return c.opt.Owner
}

// emit logs an event and tells the observer.
func (c *Client) emit(ctx context.Context, e Event) {
	e.Owner = c.label(ctx, e.Key)
	if c.tasks.dutyOf(ctx) != nil { // who is told is not in the function that runs under the lock
		ctx = context.WithValue(ctx, dutyKey{c.tasks}, (*duty)(nil))
	}
	if c.opt.Observer != nil {
		c.opt.Observer.Observe(ctx, e)
	}
	level := slog.LevelInfo
	switch e.Kind {
	case EventRenewed:
		level = slog.LevelDebug
	case EventTakenOver, EventRenewedLate, EventLost:
		level = slog.LevelWarn
	case EventReleased:
		if e.Err != nil {
			level = slog.LevelWarn
		}
	case EventNotAcquired:
		if !ordinary(e.Err) {
			level = slog.LevelWarn
		}
	case EventRetry:
		if level = slog.LevelDebug; !conflicts(e.Err) {
			level = c.often(&c.store.known.warned[0])
		}
	case EventInDoubt:
		level = c.often(&c.store.known.warned[1])
	}
	if !c.opt.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("key", e.Key), slog.Uint64("token", e.Token), slog.String("owner", e.Owner)}
	switch {
	case e.By == nil, e.By.Version == "":
	// or was, and has ended since
	case e.By.State == Held, e.Kind == EventLost && e.By.ReleasedBy == "" && e.By.Token > e.Token:
		attrs = append(attrs, slog.String("heldBy", e.By.Owner), slog.Uint64("heldByToken", e.By.Token))
	case e.By.ReleasedBy != "":
		attrs = append(attrs, slog.String("releasedBy", e.By.ReleasedBy))
	}
	if e.Op != "" {
		attrs = append(attrs, slog.String("op", e.Op))
	}
	if e.Duration > 0 {
		attrs = append(attrs, slog.Duration("duration", e.Duration))
	}
	if e.Late > 0 {
		attrs = append(attrs, slog.Duration("late", e.Late))
	}
	if e.Attempt > 1 {
		attrs = append(attrs, slog.Int("attempt", e.Attempt))
	}
	if e.Waited {
		attrs = append(attrs, slog.Bool("waited", true))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	c.opt.Logger.LogAttrs(ctx, level, "lock "+e.Kind.String(), attrs...)
}

// often is the level of an event that an outage brings for many locks at once: one of them in a second is a warning.
func (c *Client) often(warned *atomic.Int64) slog.Level {
	now := int64(c.now())
	if last := warned.Load(); (last == 0 || now-last >= int64(time.Second)) && warned.CompareAndSwap(last, now) {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// conflicts reports whether a request met another one of the same item: a heartbeat and a guarded write, for example.
func conflicts(err error) bool {
	var conflict *types.TransactionConflictException
	return errors.As(err, &conflict)
}

// failed reports a failed attempt of a write of this tenure. The write is retried unless ctx has ended.
func (l *Lock) failed(ctx context.Context, op string, n int, a *answer) {
	if e := (Event{Op: op, Key: l.key, Token: l.token, Attempt: n, Err: a.err}); a.verdict == inDoubt {
		e.Kind = EventInDoubt
		l.c.emit(l.ctx, e)
	} else if a.err != nil && ctx.Err() == nil {
		e.Kind, e.Err = EventRetry, l.c.store.storeError(op, l.key, a.err)
		l.c.emit(l.ctx, e)
	}
}

// failed reports a failed attempt that is retried. An attempt in doubt has been reported before.
func (a *acquisition) failed(ctx context.Context, op string, got *answer) {
	select {
	case <-a.c.tasks.closing:
	case <-ctx.Done():
	default:
		if got.verdict == rejected {
			a.c.emit(a.values, Event{
				Kind: EventRetry, Op: op, Key: a.key, Attempt: max(a.tries, 1), Err: a.c.store.storeError(op, a.key, got.err),
			})
		}
	}
}

// news are the events of a tenure, in their order: after the event that begins it, which may never come because the
// caller has gone, and none after the event that ends it.
type news struct {
	begun  bool    // its caller knows that it began
	ended  bool    // the event that ends it has come
	untold []Event // events that have to wait for the beginning
}

// begin returns the events that had to wait.
func (n *news) begin() (untold []Event) {
	untold, n.begun, n.untold = n.untold, true, nil
	return untold
}

// admit reports whether an event is to be reported now.
func (n *news) admit(e *Event) bool {
	late := n.ended
	n.ended = n.ended || e.Kind == EventLost || e.Kind == EventReleased
	if !late && !n.begun {
		n.untold = append(n.untold, *e)
	}
	return !late && n.begun
}

// tell reports the events that had to come after the one that begins the tenure.
func (l *Lock) tell() {
	l.mu.Lock()
	untold := l.news.begin()
	l.mu.Unlock()
	for _, e := range untold {
		l.c.emit(l.ctx, e)
	}
}

// emit reports an event of the tenure when it is due.
func (l *Lock) emit(ctx context.Context, e Event) {
	e.Key, e.Token = l.key, l.token
	if e.Kind == EventLost || e.Kind == EventReleased {
		e.Duration = l.c.now() - l.began.Mono
	}
	l.mu.Lock()
	now := l.news.admit(&e)
	l.mu.Unlock()
	if now {
		l.c.emit(ctx, e)
	}
}

// ordinary reports whether an error is an expected end of a call, which the caller may have asked for.
func ordinary(err error) bool {
	is := func(target error) bool { return errors.Is(err, target) }
	return slices.ContainsFunc([]error{ErrHeld, ErrClosed, context.Canceled}, is) ||
		slices.ContainsFunc(ordinaryOfKinds, is)
}
