package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// longestSleep bounds the time between two looks at the clocks. Timers do not count suspension, so a loss that
	// happened while the machine slept is announced at most this late.
	longestSleep = time.Second
	// never is later than every time.
	never time.Duration = math.MaxInt64
)

// Options of a [Scheduler]. Zero fields take the defaults.
type Options struct {
	// Parallelism is how many renewals are in flight at most. An attempt beyond its timeout does not count. Default 64.
	Parallelism int
	// Clock is for simulations. Default SystemClock().
	Clock Clock
}

// Scheduler keeps any number of leases. It renews each before its period is over, and announces a loss at the deadline.
// All methods are safe for concurrent use.
type Scheduler struct {
	clock    Clock
	wake     chan struct{} // wakes the loop; holds one, so that no sender waits
	doubtful atomic.Bool   // clocks were seen to disagree, or a credit used up: look at every lease
	joined   chan struct{} // closed when it is closed and the last goroutine ends

	mu         sync.Mutex
	now        time.Duration // the scheduler's own time, see look
	looked     Reading       // at the time now
	asleep     time.Duration // until when the loop sleeps, unless woken
	events     queue         // every lease, by the time at which something is to be done for it
	due        queue         // leases that wait for a slot, by deadline
	slots      int           // slots that are free
	losses     []loss        // not yet announced
	looping    bool
	announcing bool
	closed     bool
	goroutines int
}

type loss struct {
	lease *Lease
	err   error
}

// New makes a scheduler. No goroutine runs until the first lease is added.
func New(optFns ...func(*Options)) *Scheduler {
	var o Options
	for _, fn := range optFns {
		if fn != nil {
			fn(&o)
		}
	}
	if o.Parallelism <= 0 {
		o.Parallelism = 64
	}
	if o.Clock == nil {
		o.Clock = SystemClock()
	}
	return &Scheduler{
		clock:  o.Clock,
		wake:   make(chan struct{}, 1),
		joined: make(chan struct{}),
		looked: o.Clock.Now(),
		slots:  o.Parallelism,
		events: queue{
			key:   (*Lease).next,
			place: func(l *Lease) *int { return &l.eventPos },
		},
		due: queue{
			key:   func(l *Lease) time.Duration { return l.deadline },
			place: func(l *Lease) *int { return &l.duePos },
		},
	}
}

// Add has the scheduler keep a lease that was won by a request sent at cfg.Acked. The first renewal comes at a random
// point in the second half of the first period. A lease whose trust is used up already is accepted, and ends at once.
// Renew and Ended may be called before Add has returned: if they need the lease, use Bind. The error is ErrClosed after
// Close, or names every bad field of cfg.
func (s *Scheduler) Add(cfg Config) (*Lease, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.AttemptTimeout == 0 {
		cfg.AttemptTimeout = cfg.Period
	}
	cfg.AttemptTimeout = min(cfg.AttemptTimeout, cfg.Trust)
	l := &Lease{s: s, cfg: cfg, eventPos: -1, duePos: -1}
	l.credit.Store(&credit{sent: cfg.Acked})
	l.over.Store(true) // until it is in the queue
	if cfg.Bind != nil {
		cfg.Bind(l)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if l.stopped {
		return l, nil
	}
	l.over.Store(false)
	now := s.look()
	l.alarm, l.deadline = never, never
	s.events.put(l)
	if s.check(l, now) {
		l.plan(cfg.Period/2, now)
		s.settle(l, now)
	}
	if !s.looping {
		s.looping = true
		s.start(s.loop)
	}
	return l, nil
}

// Close stops every lease without calling Ended, cancels the renewals in flight, and waits until every goroutine of the
// scheduler has ended. It also waits for a Renew that ignores its context; see [Scheduler.Shutdown]. Renew and Ended
// must not call it.
func (s *Scheduler) Close() { _ = s.Shutdown(context.Background()) }

// Shutdown is Close with a bound on the wait. nil means that every goroutine has ended. If ctx is done first, the error
// is ctx's cause. Then the scheduler is closed all the same, and the remaining goroutines are those in which Renew
// ignores its context or Ended blocks.
func (s *Scheduler) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.losses = nil
		for len(s.events.leases) > 0 {
			s.end(s.events.first(), ErrClosed, false)
		}
		if s.goroutines == 0 {
			close(s.joined)
		}
	}
	s.mu.Unlock()
	select {
	case <-s.joined:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// start runs fn on a goroutine that Close joins. s.mu is held.
func (s *Scheduler) start(fn func()) {
	s.goroutines++
	go func() {
		defer func() { // also after a Renew that called runtime.Goexit, as a failing test does
			s.mu.Lock()
			defer s.mu.Unlock()
			s.goroutines--
			if s.closed && s.goroutines == 0 {
				close(s.joined)
			}
		}()
		fn()
	}()
}

// look reads the clocks, and moves the scheduler's own time on by the clock that moved most. So no deadline comes later
// on the scheduler's time than on any of the clocks, and one queue is enough for all three. A deadline may come earlier
// on it, so what is due is always decided by the clocks themselves. s.mu is held.
func (s *Scheduler) look() Reading {
	now := s.clock.Now()
	elapsed, gap := now.Since(s.looked)
	s.now += elapsed
	s.looked = now
	if unexplained(elapsed, gap) {
		s.doubt()
	}
	return now
}

// doubt has the loop look at every lease at once. It takes no lock.
func (s *Scheduler) doubt() {
	s.doubtful.Store(true)
	s.poke()
}

func (s *Scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// loop does what is due, and sleeps until something is due again, as long as there is a lease.
func (s *Scheduler) loop() {
	timer := s.clock.NewTimer(0)
	defer timer.Stop()
	for {
		sleep, ok := s.step()
		if !ok {
			return
		}
		timer.Reset(sleep)
		select {
		case <-timer.C():
		case <-s.wake:
		}
	}
}

func (s *Scheduler) step() (sleep time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.look()
	if s.doubtful.Swap(false) {
		// A copy, because a lease that is over leaves the queue.
		for _, l := range slices.Clone(s.events.leases) {
			if !s.check(l, now) {
				continue
			}
			if l.credit.Load().denied.Load() != nil && l.phase == resting && l.attempts == 0 && l.cfg.Period > 0 {
				l.due, l.alarm = s.now, s.now
			}
			s.settle(l, now)
		}
	}
	for len(s.events.leases) > 0 {
		l := s.events.first()
		if l.next() > s.now {
			break
		}
		s.fire(l, now)
	}
	s.dispatch()
	if len(s.events.leases) == 0 {
		s.looping = false
		return 0, false
	}
	sleep = s.events.first().next() - s.now
	if sleep > 10*time.Millisecond {
		sleep -= sleep / 8 // another clock may be faster than that of the timer
	}
	sleep = min(sleep, longestSleep)
	s.asleep = s.now + sleep
	return sleep, true
}

// fire does what is due for l. s.mu is held.
func (s *Scheduler) fire(l *Lease, now Reading) {
	if !s.check(l, now) {
		return
	}
	if l.alarm <= s.now {
		switch l.phase {
		case resting:
			s.enqueue(l)
		case sending:
			l.phase, l.alarm = overdue, never
			s.slots++
			l.cancel(context.DeadlineExceeded)
		}
	}
	s.settle(l, now)
}

// check ends l if the clocks say that it is over, and denies its credit if they disagree. s.mu is held.
func (s *Scheduler) check(l *Lease, now Reading) (alive bool) {
	c := l.credit.Load()
	if left, err := l.left(c, now); left <= 0 {
		switch {
		case l.lastErr != nil:
			err = fmt.Errorf("%w (the last attempt: %w)", err, l.lastErr)
		case l.cancel != nil:
			err = fmt.Errorf("%w (the attempt to renew it has not returned)", err)
		}
		s.end(l, err, true)
		return false
	}
	if unexplained(now.Since(c.sent)) {
		c.deny(now)
	}
	return true
}

// settle puts l into the queues where its times belong. s.mu is held.
func (s *Scheduler) settle(l *Lease, now Reading) {
	left, _ := l.left(l.credit.Load(), now)
	l.deadline = s.now + left
	s.events.put(l)
	if l.phase == queued {
		s.due.put(l)
	}
	if l.next() < s.asleep {
		s.poke()
	}
}

// enqueue has a resting l wait for a slot. s.mu is held.
func (s *Scheduler) enqueue(l *Lease) {
	l.phase, l.alarm = queued, never
	s.events.put(l)
	s.due.put(l)
}

// dispatch gives the free slots to the leases with the earliest deadlines. s.mu is held.
func (s *Scheduler) dispatch() {
	for s.slots > 0 && len(s.due.leases) > 0 {
		looked := s.look()
		l := s.due.first()
		s.due.remove(l)
		if !s.check(l, looked) { // its deadline passed while it waited
			continue
		}
		s.slots--
		ctx, cancel := context.WithCancelCause(context.WithValue(context.Background(), renewing{}, l))
		l.phase, l.cancel = sending, cancel
		l.alarm = s.now + l.cfg.AttemptTimeout
		l.attempts++
		s.events.put(l)
		a := Attempt{N: l.attempts, Late: s.now - l.due, Sent: looked}
		s.start(func() { s.renew(ctx, l, a) })
	}
}

// errLeft stands for the answer of a Renew that did not return.
var errLeft = errors.New("heartbeat: Renew left by runtime.Goexit")

// PanicError stands for the answer of a Renew that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error shows the value.
func (e *PanicError) Error() string { return fmt.Sprintf("heartbeat: Renew panicked: %v", e.Value) }

// renew makes one attempt.
func (s *Scheduler) renew(ctx context.Context, l *Lease, a Attempt) {
	dispatched := a.Sent
	a.Sent = s.clock.Now()
	waited, _ := a.Sent.Since(dispatched)
	a.Late += waited
	err := context.Cause(ctx)
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
		s.conclude(l, a, err)
	}()
	if err == nil { // not stopped since it was given its slot
		err = errLeft
		err = l.cfg.Renew(ctx, a)
	}
}

// conclude does what follows from an attempt.
func (s *Scheduler) conclude(l *Lease, a Attempt, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.cancel(nil)
	l.cancel = nil
	if l.returned != nil {
		close(l.returned)
		l.returned = nil
	}
	if l.over.Load() {
		return
	}
	if l.phase == sending {
		s.slots++
	}
	l.phase = resting
	now := s.look()
	switch {
	case err == nil:
		s.acknowledge(l, a.Sent, now)
	case errors.Is(err, ErrGone):
		s.end(l, err, true)
	default:
		l.lastErr = err
		if s.check(l, now) {
			l.plan(l.cfg.Period/10, now)
			s.settle(l, now)
		}
	}
	s.dispatch()
}

// acknowledge credits a renewal sent at sent, unless l is over by now: a lease that was lost does not come back, and an
// answer that comes too late does not count. s.mu is held.
func (s *Scheduler) acknowledge(l *Lease, sent, now Reading) {
	if !s.check(l, now) {
		return
	}
	old := l.credit.Load()
	if sent.after(old.sent) {
		c := &credit{sent: sent}
		// A gap that lies after the send is not explained by its acknowledgement.
		if denied := old.denied.Load(); denied != nil && denied.after(sent) && unexplained(denied.Since(sent)) {
			c.deny(*denied)
		}
		l.credit.Store(c)
		l.attempts, l.lastErr = 0, nil
	}
	if l.cancel == nil {
		s.due.remove(l)
		l.plan(l.cfg.Period/10, now)
	}
	if s.check(l, now) {
		s.settle(l, now)
	}
}

// end removes l from the queues, and its renewal in flight does not count any more. s.mu is held. To cancel a context
// under it is safe, because that runs no code of the owner.
func (s *Scheduler) end(l *Lease, err error, announce bool) {
	if l.over.Swap(true) {
		return
	}
	s.events.remove(l)
	s.due.remove(l)
	if l.phase == sending {
		s.slots++
	}
	if l.cancel != nil {
		l.cancel(err)
	}
	if announce && l.cfg.Ended != nil {
		s.losses = append(s.losses, loss{l, err})
		if !s.announcing {
			s.announcing = true
			s.start(s.announce)
		}
	}
	if len(s.events.leases) == 0 {
		s.poke() // the loop's work is done
	}
}

// announce tells the owners of lost leases. It has a goroutine of its own, not that of the loop, so that an Ended that
// blocks delays no renewal and no deadline.
func (s *Scheduler) announce() {
	left := true // by a panic or runtime.Goexit, in an Ended; another goroutine goes on then
	defer func() {
		if v := recover(); v != nil {
			slog.Error("heartbeat: Ended panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
		if left {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.start(s.announce)
		}
	}()
	for {
		s.mu.Lock()
		if len(s.losses) == 0 {
			s.announcing, left = false, false
			s.mu.Unlock()
			return
		}
		next := s.losses[0]
		s.losses[0] = loss{} // or the slice keeps the lease, and what it leads to, alive
		s.losses = s.losses[1:]
		silent := next.lease.stopped
		s.mu.Unlock()
		if !silent {
			next.lease.cfg.Ended(next.err)
		}
	}
}
