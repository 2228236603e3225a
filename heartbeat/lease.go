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
	// ErrGone is for Renew to return, wrapped or not: the lease is lost for certain, and a retry is of no use.
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

// Attempt describes one attempt of a renewal.
type Attempt struct {
	N    int           // 1 for the first attempt since the last acknowledgement, 2 for the first retry, and so on
	Late time.Duration // how much later than planned it started, because there was no slot or no CPU
	Sent Reading       // taken just before Renew was called: an acknowledgement counts from here
}

// Config says how one lease is kept. It is validated by [Scheduler.Add].
type Config struct {
	// Period is the longest time from one acknowledged send to the next renewal, as long as a slot is free. 0 makes a
	// static lease, which is never renewed, only watched until its deadline.
	Period time.Duration
	// Trust is how long one acknowledgement is trusted, counted from the Reading before its request was sent, by the clock
	// that says that most time has passed. Greater than Period, at most ten years.
	Trust time.Duration
	// AttemptTimeout is the time after which an attempt's context is cancelled (the cause is context.DeadlineExceeded) and
	// its slot is given to another lease. That happens at the lease's deadline at the latest. Default (0): Period.
	AttemptTimeout time.Duration
	// Limit is the age, counted from Acked, at which the lease ends even if its renewals succeed. Default (0): none.
	Limit time.Duration
	// Acked is the Reading from before the request that won the lease was first sent.
	Acked Reading
	// Bind, if not nil, is called by Add with the lease that it makes, before Renew or Ended can be called. It stores the
	// lease where those two find it. Until Add keeps it, the lease is not valid, and only Stop has an effect. If Add
	// returns an error, the lease is never valid.
	Bind func(l *Lease)
	// Renew makes one renewal, and returns nil once it has been acknowledged. An error that matches ErrGone ends the
	// lease. After any other error it is retried while the lease lasts, and so it is after a runtime.Goexit and after a
	// panic, which counts as a *PanicError. The error of a loss contains that of the last attempt.
	//
	// Renew should return soon after ctx is done. ctx has no deadline, because the scheduler cancels it by its own clock.
	// No two calls for one lease run at once: a Renew that ignores ctx keeps its own lease from being renewed, and no
	// other.
	Renew func(ctx context.Context, a Attempt) error
	// Ended, if not nil, is called once when the lease is lost. err matches ErrDeadline or ErrLimit, or is the error that
	// Renew returned or that [Lease.End] was given. Ended is not called for a Stop or Close.
	//
	// Ended runs on a goroutine of the scheduler, without any mutex held, and must not block: it would delay the
	// announcement of other losses, although no renewal and no deadline. It may call any method of the lease, and must not
	// call Close. Its caller does not hear of a panic, so a panic is recovered and logged by slog's default logger, with
	// its stack.
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

// credit is the trust in the last acknowledgement.
type credit struct {
	sent Reading
	// denied is set when the clocks first spoke against this credit: it was used up, or they disagree. From then on it is
	// never valid again, whatever a clock that is set back may say. Only a later credit can be.
	denied atomic.Pointer[Reading]
}

// deny reports whether the credit had been good until now.
func (c *credit) deny(now Reading) bool { return c.denied.CompareAndSwap(nil, &now) }

type phase uint8

const (
	resting phase = iota // the next renewal is not due
	queued               // a renewal is due, and waits for a slot
	sending              // Renew runs and has a slot
	overdue              // Renew runs beyond its timeout and has no slot
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
	returned chan struct{}           // made by a call that waits for the attempt in flight; closed when it returns
}

// next is the time at which something is to be done for l.
func (l *Lease) next() time.Duration { return min(l.alarm, l.deadline) }

// Valid reports whether the holder may still act. It only looks at the clocks: it takes no mutex and does not wait. It
// is false
//
//   - once any clock says that Trust or Limit has been used up,
//   - after Stop or End,
//   - when the clocks show a suspension or a step, until a renewal that was sent after it has been acknowledged. Valid
//     then has the scheduler renew at once.
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

// left is leftAt, except that a credit that was once seen used up stays used up.
func (l *Lease) left(c *credit, now Reading) (time.Duration, error) {
	if denied := c.denied.Load(); denied != nil {
		if left, err := l.leftAt(c, *denied); left <= 0 {
			return left, err
		}
	}
	return l.leftAt(c, now)
}

// Remaining is the time until the deadline, by the clock that says that least is left. It is 0 or less when the lease
// is over. While a gap between the clocks makes Valid false, it still counts down to the loss of the lease.
func (l *Lease) Remaining() time.Duration {
	left, _ := l.remaining()
	return left
}

// Deadline is the wall time until which Valid stays true if no renewal is acknowledged any more. With a real clock it
// has Go's monotonic reading. It is not in the future once the lease is over.
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

// Acknowledge credits a renewal that was acknowledged and that the scheduler did not make, such as a write of data that
// also renews. sent is the scheduler's clock before the request was first sent. The next renewal moves accordingly. The
// call is ignored if an acknowledgement of a later send is known, or if the lease is over.
func (l *Lease) Acknowledge(sent Reading) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if !l.over.Load() && sent.after(l.credit.Load().sent) {
		s.acknowledge(l, sent, s.look())
		s.dispatch()
	}
}

// End tells the scheduler that the lease is lost. It ends with err (nil: ErrGone), and Ended is called unless it has
// been called before. End does not wait.
func (l *Lease) End(err error) {
	if err == nil {
		err = ErrGone
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.end(l, err, true)
	l.s.dispatch()
}

// Kick asks for a renewal as soon as possible. A renewal that is in flight or waits for a slot counts as that one. A
// static lease is not renewed.
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

// Stop ends the lease for its owner. From the moment of the call Valid is false, no renewal starts and Ended is not
// called. Stop cancels the renewal in flight, and waits until that has returned or ctx is done. It is idempotent.
//
// nil means that no renewal is in flight any more. The error is ctx's cause if ctx was done first: then Stop may be
// called again, to wait. It is ErrStopped if Renew itself calls Stop, with its own context or one made from it, even by
// context.WithoutCancel: then there is nothing to wait for but the caller.
//
// Ended may call Stop, because Stop does not wait for an Ended that had begun before.
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
// falling into step. After a failure it is due soon, and after further ones less and less often.
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
