package dynalock

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/dynalock/dynalock/heartbeat"
)

// tasks are the calls, the goroutines and the functions of users that Close waits for.
type tasks struct {
	clock   heartbeat.Clock
	logger  *slog.Logger
	ctx     context.Context // of work in the background; ends with Close
	stop    context.CancelCauseFunc
	closing chan struct{} // closed when Close begins
	idle    chan struct{} // closed when closing is closed and nothing is under way any more

	mu     sync.Mutex         // guards what follows; never held over I/O or a wait
	n      int                // calls and goroutines under way
	duties map[*duty]struct{} // functions that Close waits for
}

func newTasks(o *Options) *tasks {
	t := &tasks{
		clock: o.clock, logger: o.Logger,
		closing: make(chan struct{}), idle: make(chan struct{}), duties: map[*duty]struct{}{},
	}
	t.ctx, t.stop = context.WithCancelCause(context.Background())
	return t
}

// now reads the monotonic clock, the only clock that a waiter trusts.
func (t *tasks) now() time.Duration { return t.clock.Now().Mono }

// beginClosing lets no further call begin, and excuses inside and the functions in which it was begun: this Close does
// not wait for them. The caller calls done when this Close is done. first is false if another Close is under way;
// awaited then reports whether that waits for one of these functions.
func (t *tasks) beginClosing(inside *duty) (duties []*duty, done func(), awaited, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.closing:
		return nil, nil, t.awaited(inside), false
	default:
	}
	close(t.closing)
	t.n++ // this Close: until it is done, work in the background can begin
	done = t.excuse(inside)
	return slices.Collect(maps.Keys(t.duties)), done, false, true
}

// busy reports whether anything is under way besides the functions that Close waits for.
func (t *tasks) busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n > len(t.duties)
}

// serves reports whether ctx is that of a function that Close waits for.
func (t *tasks) serves(ctx context.Context) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.awaited(t.dutyOf(ctx))
}

// enter begins a call that Close waits for. It reports false, and begins none, if the client is closing.
func (t *tasks) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.closing:
		return false
	default:
		t.n++
		return true
	}
}

// exit ends a call or a goroutine that Close waits for.
func (t *tasks) exit() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n--
	select {
	case <-t.closing:
		if t.n == 0 {
			close(t.idle)
		}
	default:
	}
}

// background runs f in a goroutine that Close joins, on a context with the values of ctx that ends with the client. It
// reports false, and does nothing, if the client is closed.
func (t *tasks) background(ctx context.Context, f func(ctx context.Context)) bool {
	return t.sheltered(ctx, f, nil)
}

// sheltered is background for the caller's own code: failed is called with its panic.
func (t *tasks) sheltered(ctx context.Context, f func(ctx context.Context), failed func(*PanicError)) bool {
	return t.spawn(func() {
		ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		defer cancel(nil)
		defer context.AfterFunc(t.ctx, func() { cancel(context.Cause(t.ctx)) })()
		f(ctx)
	}, failed)
}

// spawn runs f in a goroutine that Close joins; see shelter for failed. It reports false, and does nothing, if the
// client is closed.
func (t *tasks) spawn(f func(), failed func(*PanicError)) bool {
	f = t.shelter(f, failed)
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.idle:
		return false
	case <-t.ctx.Done(): // Close has given up
		return false
	default:
	}
	t.n++
	go func() {
		defer t.exit()
		f()
	}()
	return true
}

// heed makes a request for a caller. When ctx ends, the caller gets its error, even if the store does not heed ctx (a
// wrapper that sleeps, for example). The request also ends with the client, and when stop, which may be nil, is closed.
// A panic of the store goes on here.
func (t *tasks) heed(ctx context.Context, stop <-chan struct{}, request func(ctx context.Context) answer) answer {
	done := make(chan answer, 1)
	bound, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !t.spawn(func() {
		defer context.AfterFunc(t.ctx, func() { cancel(context.Cause(t.ctx)) })()
		done <- request(bound)
	}, func(p *PanicError) { done <- answer{err: p, crash: p} }) {
		return request(ctx) // a closed client still reads
	}
	select {
	case a := <-done:
		a.crash.raise()
		return a
	case <-ctx.Done():
	case <-stop:
		cancel(ErrClosed)
	}
	grace := time.NewTimer(closeGrace / 2) // a store that heeds ctx says more
	defer grace.Stop()
	select {
	case a := <-done:
		a.crash.raise()
		return a
	case <-grace.C:
		return answer{verdict: inDoubt, err: bound.Err(), got: t.clock.Now()}
	}
}

// sleep waits on the client's clock; the end of ctx ends it with its error.
func (t *tasks) sleep(ctx context.Context, d time.Duration) error { return t.sleepOr(ctx, d, nil) }

// rest is a sleep that also ends when Close begins, with ErrClosed.
func (t *tasks) rest(ctx context.Context, d time.Duration) error {
	return t.sleepOr(ctx, d, t.closing)
}

func (t *tasks) sleepOr(ctx context.Context, d time.Duration, closing <-chan struct{}) error {
	timer := t.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-closing:
		return ErrClosed
	}
}

// retry makes an attempt again, with backoff between, until one says that it is done. pause, which is sleep or rest for
// most, ends it with its error. Attempts count from 1.
func retry(pause func(d time.Duration) error, attempt func(n int) (done bool)) error {
	for n := 1; !attempt(n); n++ {
		if err := pause(backoff(n)); err != nil {
			return err
		}
	}
	return nil
}

// backoff is the wait before attempt n+1: 20 ms doubling to 1 s, with jitter over its upper half.
func backoff(n int) time.Duration {
	d := min(20*time.Millisecond<<min(n-1, 10), time.Second)
	return d/2 + rand.N(d/2)
}

// sleeping and resting are sleep and rest for retry.
func (t *tasks) sleeping(ctx context.Context) func(time.Duration) error {
	return func(d time.Duration) error { return t.sleep(ctx, d) }
}

func (t *tasks) resting(ctx context.Context) func(time.Duration) error {
	return func(d time.Duration) error { return t.rest(ctx, d) }
}
