package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// How a lease ends, and why calls are refused. Match them with errors.Is.
var (
	// ErrGone is for Renew to return, wrapped or not: the lease is definitely lost, and trying again is of no use.
	ErrGone = errors.New("heartbeat: lease gone")
	// ErrDeadline: no renewal was acknowledged within Trust.
	ErrDeadline = errors.New("heartbeat: no acknowledgement before the deadline")
	// ErrLimit: the lease reached its Limit.
	ErrLimit = errors.New("heartbeat: lease reached its limit")
	// ErrStopped is the cause of an attempt's context after [Lease.Stop], and what Stop returns to its own Renew.
	ErrStopped = errors.New("heartbeat: lease stopped")
	// ErrClosed is returned by [Scheduler.Add] after Close, and is the cause of an attempt's context after Close.
	ErrClosed = errors.New("heartbeat: scheduler closed")
)

// Attempt tells a renewal about itself.
type Attempt struct {
	N    int           // 1 for the first attempt since the last acknowledgement, 2 for the first retry ...
	Late time.Duration // how much later than planned it started, for want of a slot or of a CPU
	Sent Reading       // taken just before Renew was called: an acknowledgement is credited from here
}

// Config says how one lease is kept. It is validated by [Scheduler.Add].
type Config struct {
	// Period is the longest time from one acknowledged send to the next renewal, as long as a slot is free.
	// 0: a static lease, never renewed, only watched until its deadline.
	Period time.Duration
	// Trust is how long one acknowledgement is trusted, counted from the Reading before its request was sent, by
	// whichever clock says that most time has passed. Greater than Period, at most ten years.
	Trust time.Duration
	// AttemptTimeout is when an attempt's context is cancelled (cause: context.DeadlineExceeded) and its slot is
	// given to another lease; at the lease's deadline at the latest. 0: Period.
	AttemptTimeout time.Duration
	// Limit is the age, counted from Acked, at which the lease ends whatever the renewals say. 0: none.
	Limit time.Duration
	// Acked is the Reading from before the request that won the lease was first sent.
	Acked Reading
	// Bind, if not nil, is called by Add with the lease that it makes, before Renew or Ended can be: for storing
	// the lease where those two find it. Until Add keeps it, it is not valid, and of its methods only Stop has an
	// effect; if Add is refused, it never is.
	Bind func(l *Lease)
	// Renew makes one renewal and returns nil once it has been acknowledged. An error that matches ErrGone ends the
	// lease; after any other it is tried again while the lease lasts, and so it is after a runtime.Goexit and after a
	// panic, which is taken for a *PanicError: the error of a loss shows that of the last attempt. It should return
	// soon after ctx is done; ctx bears no deadline, because it is cancelled by the scheduler's own clock. Of one lease
	// no two calls ever run at once: a Renew that ignores ctx keeps its own lease from being renewed, and no other.
	Renew func(ctx context.Context, a Attempt) error
	// Ended, if not nil, is called once when the lease is lost: err matches ErrDeadline, ErrLimit, or is what
	// Renew returned or what [Lease.End] was given. It is not called for a Stop or Close. It runs on a goroutine
	// of the scheduler without any lock held, and must not block: it would hold up the news of other losses,
	// though no renewal and no deadline. It may call any method of the lease, and must not call Close. Nobody waits for
	// it, so a panic is recovered, and told to slog's default logger with its stack.
	Ended func(err error)
}

// longestTrust keeps sums of times from overflowing.
const longestTrust = 10 * 365 * 24 * time.Hour

func (c *Config) validate() error {
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("heartbeat: Config.%s is %v, want %s", field, value, allowed))
	}
	if c.Trust <= 0 || c.Trust > longestTrust {
		bad("Trust", c.Trust, fmt.Sprintf("more than 0, at most %v", longestTrust))
	}
	if c.Period < 0 || c.Period > 0 && c.Period >= c.Trust {
		bad("Period", c.Period, fmt.Sprintf("0 (static) or less than Trust (%v)", c.Trust))
	}
	if c.Period > 0 && c.Renew == nil {
		bad("Renew", "nil", "a function unless Period is 0")
	}
	if c.AttemptTimeout < 0 {
		bad("AttemptTimeout", c.AttemptTimeout, "0 (Period) or more")
	}
	if c.Limit < 0 {
		bad("Limit", c.Limit, "0 (none) or more")
	}
	return errors.Join(errs...)
}

// credit is what the last acknowledgement is worth.
type credit struct {
	sent Reading
	// denied is set when the clocks first spoke against this credit: it was used up, or they disagree. From then
	// on it is never valid again, whatever a clock that is set back may say; only a later credit is.
	denied atomic.Pointer[Reading]
}

// deny reports whether the credit had been good until now.
func (c *credit) deny(now Reading) bool { return c.denied.CompareAndSwap(nil, &now) }

type phase uint8

const (
	resting phase = iota // until the next renewal is due
	queued               // due, waiting for a slot
	sending              // Renew runs and has a slot
	overdue              // Renew runs beyond its time and has none
)

// Lease is one lease that a [Scheduler] keeps. All methods are safe for concurrent use.
type Lease struct {
	s      *Scheduler
	cfg    Config
	credit atomic.Pointer[credit]
	over   atomic.Bool // lost or stopped; never taken back

	// The rest is guarded by s.mu. Times are on s.now.
	phase    phase
	stopped  bool
	attempts int           // since the last acknowledgement
	lastErr  error         // of the last attempt since then
	due      time.Duration // when the next renewal should start
	alarm    time.Duration // what comes next: due, or the end of the attempt's time, or never
	deadline time.Duration
	eventPos int
	duePos   int
	cancel   context.CancelCauseFunc // of the attempt in flight; nil: none
	returned chan struct{}           // made by who waits for the attempt in flight, closed when it has returned
}

// next is when something is to be done for l.
func (l *Lease) next() time.Duration { return min(l.alarm, l.deadline) }

// Valid reports whether the holder may still act. It looks at the clocks alone: it takes no lock and does not wait.
// It is false once Trust or Limit has been used up by any clock, after Stop or End, and, when the clocks show a
// suspension or a step, until a renewal that was sent after it has been acknowledged; noticing that, it has the
// scheduler renew at once.
func (l *Lease) Valid() bool {
	if l.over.Load() {
		return false
	}
	c := l.credit.Load()
	now := l.s.clock.Now()
	left, _ := l.leftAt(c, now)
	switch {
	case left <= 0:
		seen := now // or now would be on the heap every time
		c.denied.Store(&seen)
		l.s.doubt()
		return false
	case unexplained(now.Since(c.sent)):
		if c.deny(now) {
			l.s.doubt()
		}
		return false
	default:
		return c.denied.Load() == nil
	}
}

// leftAt is what was left of the credit at now, and the error that describes its end.
func (l *Lease) leftAt(c *credit, now Reading) (time.Duration, error) {
	elapsed, _ := now.Since(c.sent)
	left := l.cfg.Trust - elapsed
	if l.cfg.Limit > 0 {
		age, _ := now.Since(l.cfg.Acked)
		if limit := l.cfg.Limit - age; limit <= left {
			return limit, ErrLimit
		}
	}
	return left, ErrDeadline
}

// left is leftAt, except that a credit once seen used up stays so.
func (l *Lease) left(c *credit, now Reading) (time.Duration, error) {
	if denied := c.denied.Load(); denied != nil {
		if left, err := l.leftAt(c, *denied); left <= 0 {
			return left, err
		}
	}
	return l.leftAt(c, now)
}

// Remaining is the time until the deadline, by the clock that says least is left: 0 or less when the lease is over.
// While a gap between the clocks makes Valid false, it still counts down to the loss of the lease.
func (l *Lease) Remaining() time.Duration {
	left, _ := l.remaining()
	return left
}

// Deadline is the wall time until which Valid stays true if nothing is acknowledged any more, with Go's monotonic
// reading where the clock is real; not in the future once the lease is over.
func (l *Lease) Deadline() time.Time {
	left, now := l.remaining()
	return now.Wall.Add(left)
}

func (l *Lease) remaining() (time.Duration, Reading) {
	c, now := l.credit.Load(), l.s.clock.Now()
	left, _ := l.left(c, now)
	if l.over.Load() {
		left = min(left, 0)
	}
	return left, now
}

// Acknowledge credits a renewal that somebody else than the scheduler made and that was acknowledged, such as a
// write of data that also renews: sent is the scheduler's clock before the request was first sent. It moves the
// next renewal. It is ignored when an acknowledgement of a later send is known, and when the lease is over.
func (l *Lease) Acknowledge(sent Reading) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if !l.over.Load() && sent.after(l.credit.Load().sent) {
		s.acknowledge(l, sent, s.look())
		s.dispatch()
	}
}

// End tells that the lease was learned to be lost: it ends with err (nil: ErrGone), and Ended is called unless it
// has been before. It does not wait.
func (l *Lease) End(err error) {
	if err == nil {
		err = ErrGone
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.end(l, err, true)
	l.s.dispatch()
}

// Kick asks for a renewal as soon as possible. One that is in flight or waits for a slot is taken for it. A static
// lease is not renewed.
func (l *Lease) Kick() {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.over.Load() || l.phase != resting || l.cfg.Period == 0 {
		return
	}
	s.look()
	l.due = s.now
	s.enqueue(l)
	s.dispatch()
}

// Stop ends the lease for its owner: from its begin on Valid is false, no renewal starts and Ended is not called.
// It cancels the renewal in flight and waits until that has returned, or ctx is done: then it returns ctx's cause,
// and may be called again to wait. It is idempotent.
//
// Ended may call Stop, because Stop does not wait for an Ended that had begun before. Renew may call Stop with its
// own context or one made from it, even by context.WithoutCancel; there is nothing to wait for then but the caller,
// so it returns ErrStopped at once.
func (l *Lease) Stop(ctx context.Context) error {
	s := l.s
	s.mu.Lock()
	l.stopped = true
	s.end(l, ErrStopped, false)
	s.dispatch()
	if l.cancel == nil {
		s.mu.Unlock()
		return nil
	}
	if l.returned == nil {
		l.returned = make(chan struct{})
	}
	returned := l.returned
	s.mu.Unlock()

	if ctx.Value(renewing{}) == l {
		return ErrStopped
	}
	select {
	case <-returned:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// renewing is the key under which an attempt's context bears its lease.
type renewing struct{}

// plan sets when the next renewal is due: a period after the acknowledged send, less a jitter that keeps leases from
// falling into step; after a failure soon, then less and less often.
func (l *Lease) plan(spread time.Duration, now Reading) {
	s, c := l.s, l.credit.Load()
	l.phase, l.due, l.alarm = resting, never, never
	if l.cfg.Period == 0 {
		return
	}
	base := min(max(l.cfg.Period/20, 5*time.Millisecond), 250*time.Millisecond)
	switch {
	case l.attempts > 0:
		longest := max(base, min(base<<min(l.attempts-1, 16), l.cfg.Period/2))
		left, _ := l.left(c, now)
		// Never beyond half of what is left, so that there is always one more attempt before the deadline.
		wait := max(base/2, min(base/2+rand.N(longest), left/2))
		if wait >= left {
			return
		}
		l.due = s.now + wait
	case c.denied.Load() != nil:
		l.due = s.now + rand.N(base)
	default:
		elapsed, _ := now.Since(c.sent)
		l.due = s.now + max(l.cfg.Period-rand.N(spread+1)-elapsed, 0)
	}
	l.alarm = l.due
}
