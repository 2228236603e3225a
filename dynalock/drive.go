package dynalock

import (
	"context"
	"fmt"
	"time"
)

// manner is what sets one call that begins a tenure apart from the others; see drive.
type manner struct {
	op    string // as errors and events name it
	tries int    // the number of failed requests that ends the call; 0: only ctx ends it
	// turn blocks until the next request is due, or there is an offer. freed says that the key has just become free.
	turn func(ctx context.Context, due time.Duration) (o *offer, freed bool, err error)
	// judge says what to do next, and after which pause, if the row is not this tenure's. stepFail: the call ends with
	// a.lastErr.
	judge func(got *answer) (step, time.Duration)
	// won, which may be nil, is called with the tenure before any event reports it.
	won func(l *Lock)
	// ended is the error of a call that ctx or the client's Close ends.
	ended func(err error) error
}

// drive makes attempts, and looks between them, until one begins the tenure, or the call has to end without a lock.
func (a *acquisition) drive(ctx context.Context, m *manner) (*Lock, error) {
	next, failures, due := stepWrite, 0, a.c.now()
	for {
		o, freed, err := m.turn(ctx, due)
		if err != nil {
			return nil, m.ended(err)
		}
		var out outcome
		if o != nil || freed || next == stepWrite {
			out, err = a.attemptWhereAllowed(ctx, o)
		} else {
			out.answer = a.look(ctx, a.key, false)
		}
		switch {
		case err != nil:
			return nil, m.ended(err)
		case out.lock != nil:
			if m.won != nil {
				m.won(out.lock)
			}
			return a.acquired(out.lock), nil
		}
		switch out.verdict {
		case applied, refused:
			if m.tries == 0 {
				failures = 0
			}
			var pause time.Duration
			if next, pause = m.judge(&out.answer); next == stepFail {
				return nil, a.lastErr
			}
			due = a.c.now() + pause
		case declined:
			return nil, out.err
		case fatal:
			return nil, a.c.store.diagnose(ctx, a.key, out.err)
		default:
			failures++
			a.lastErr = a.c.store.storeError(m.op, a.key, out.err)
			a.failed(ctx, m.op, &out.answer)
			if failures == m.tries {
				return nil, a.lastErr
			}
			due = a.c.now() + backoff(failures)
		}
	}
}

// attemptWhereAllowed asks the kind, unless the call has only just begun, and then makes an attempt. An error of the
// kind's is the answer declined.
func (a *acquisition) attemptWhereAllowed(ctx context.Context, o *offer) (outcome, error) {
	if a.asked || a.c.now()-a.began >= a.c.opt.MinPoll {
		may, err := a.kind.allows(ctx, a)
		if err != nil {
			may.verdict, may.err = declined, err
		}
		if may.verdict != applied {
			if o != nil {
				o.done <- declined
			}
			return outcome{answer: may}, nil
		}
	}
	return a.attempt(ctx, o)
}

// impatient is the manner of a call that does not wait for a holder. doing names the call in errors.
func (a *acquisition) impatient(op, doing string) *manner {
	return &manner{
		op: op, tries: 3,
		turn: func(ctx context.Context, due time.Duration) (_ *offer, _ bool, err error) {
			if pause := due - a.c.now(); pause > 0 {
				err = a.c.tasks.sleep(ctx, pause)
			}
			return nil, false, err
		},
		ended: func(err error) error {
			if a.lastErr != nil {
				return fmt.Errorf("%w: %w", err, a.lastErr)
			}
			return fmt.Errorf("dynalock: %s %q: %w", doing, a.key, err)
		},
	}
}

// look reads an item once. It ends when Close begins.
func (a *acquisition) look(ctx context.Context, key string, consistent bool) answer {
	got := a.c.tasks.heed(ctx, a.c.tasks.closing,
		func(ctx context.Context) answer { return a.c.store.read(ctx, a.timing.attempt, key, consistent) })
	if got.verdict == inDoubt {
		got.verdict = rejected // a read is in no doubt
	}
	return got
}
