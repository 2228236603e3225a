// Package gocron lets schedulers of github.com/go-co-op/gocron/v2 in many processes share their jobs through dynalock.
//
//   - [NewElector] is usually the better choice: one process schedules, and the others stand by.
//   - [NewLocker] locks each run of a job while it runs. Two schedulers whose clocks differ by more than that both run
//     it.
//   - To run a job once per tick, whatever the clocks say, call [dynalock.Client.Once] inside the job, with the tick as
//     its period.
package gocron

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-co-op/gocron/v2"

	"github.com/dynalock/dynalock/dynalock"
)

type locker struct {
	c       *dynalock.Client
	prefix  string
	options []func(*dynalock.AcquireOptions)
}

// NewLocker makes a gocron.Locker. A job whose lock is held elsewhere does not run: that takes one request, and no
// waiting. The lock's key is prefix and the job's name.
func NewLocker(c *dynalock.Client, prefix string, optFns ...func(*dynalock.AcquireOptions)) gocron.Locker {
	return &locker{c, prefix, optFns}
}

// Lock implements gocron.Locker. Its error matches dynalock.ErrHeld if another scheduler runs the job.
func (l *locker) Lock(ctx context.Context, key string) (gocron.Lock, error) {
	held, err := l.c.TryAcquire(ctx, l.prefix+key, l.options...)
	if err != nil {
		return nil, err
	}
	return lock{held}, nil
}

type lock struct{ *dynalock.Lock }

// Unlock implements gocron.Lock.
func (l lock) Unlock(ctx context.Context) error { return l.Release(ctx) }

// ErrNotLeader says that another process schedules the jobs.
var ErrNotLeader = errors.New("gocron: another process is the leader")

// Elector is a gocron.Elector. Run has to run as long as the scheduler does.
type Elector struct {
	election *dynalock.Election
	mu       sync.Mutex
	term     *dynalock.Lock
}

// NewElector makes a candidate of an election.
func NewElector(e *dynalock.Election) *Elector { return &Elector{election: e} }

// Run campaigns until ctx is done, and then gives up the leadership. Errors are those of [dynalock.Election.Run].
func (e *Elector) Run(ctx context.Context) error {
	return e.election.Run(ctx, func(ctx context.Context, l *dynalock.Lock) error {
		e.set(l)
		defer e.set(nil)
		<-ctx.Done()
		return context.Cause(ctx)
	})
}

func (e *Elector) set(l *dynalock.Lock) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.term = l
}

// IsLeader implements gocron.Elector. It goes by this process's clocks: it sends no request and does not wait. The
// error matches ErrNotLeader.
func (e *Elector) IsLeader(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.term == nil || !e.term.Held() {
		return fmt.Errorf("%w", ErrNotLeader)
	}
	return nil
}
