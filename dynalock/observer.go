package dynalock

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// EventKind says what happened to a lock.
type EventKind int

// The kinds of events.
const (
	EventAcquired    EventKind = iota // a tenure began; Duration: since Acquire was called
	EventWaiting                      // somebody else holds it, and we wait; By: who
	EventTakenOver                    // a tenure began on the item of a dead holder; By: the dead one
	EventRenewed                      // a heartbeat was acknowledged; Duration: its round trip
	EventRenewedLate                  // the same, but it began late (Late) or needed more than one attempt
	EventInDoubt                      // a request was sent and its answer lost
	EventLost                         // a tenure ended without a release; Err: why
	EventReleased                     // a tenure ended with a release; Duration: how long it was held
	EventRetry                        // credentials, a permission or the table failed a request (Op, Err) that is made again
)

var eventNames = [...]string{"acquired", "waiting", "taken over", "renewed", "renewed late", "in doubt", "lost", "released", "retry"}

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
	Owner    string        // this client's label
	Op       string        // for EventInDoubt and EventRetry: the operation
	Duration time.Duration // see the kinds
	Late     time.Duration // how long after its due time a heartbeat began
	Attempt  int           // 1 for the first
	By       *Record       // the other tenure, where there is one
	Err      error
}

// Observer receives events. Observe is called synchronously from many goroutines and must not block; ctx carries
// the values of the context of the call that acquired the lock.
type Observer interface {
	Observe(ctx context.Context, e Event)
}

// emit logs an event and tells the observer.
func (c *Client) emit(ctx context.Context, e Event) {
	e.Owner = c.opt.Owner
	if c.dutyOf(ctx) != nil { // who is told is not in the function that runs under the lock
		ctx = context.WithValue(ctx, dutyKey{c}, (*duty)(nil))
	}
	if c.opt.Observer != nil {
		c.opt.Observer.Observe(ctx, e)
	}
	level := slog.LevelInfo
	switch e.Kind {
	case EventRenewed:
		level = slog.LevelDebug
	case EventTakenOver, EventRenewedLate, EventInDoubt, EventLost:
		level = slog.LevelWarn
	case EventRetry: // of many locks at once: one record a second tells
		level = slog.LevelDebug
		now := int64(c.now())
		if last := c.known.warned.Load(); (last == 0 || now-last >= int64(time.Second)) && c.known.warned.CompareAndSwap(last, now) {
			level = slog.LevelWarn
		}
	}
	if !c.opt.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("key", e.Key), slog.Uint64("token", e.Token), slog.String("holder", e.Owner)}
	if e.By != nil {
		attrs = append(attrs, slog.String("other", e.By.Owner), slog.Uint64("otherToken", e.By.Token))
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
	if e.Err != nil {
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	c.opt.Logger.LogAttrs(ctx, level, "lock "+e.Kind.String(), attrs...)
}
