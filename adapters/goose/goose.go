// Package goose keeps migrations of github.com/pressly/goose/v3 from running twice at once, with a lock outside the
// database. It is for databases without advisory locks, and for migrations of several databases under one lock.
package goose

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/pressly/goose/v3/lock"

	"github.com/dynalock/dynalock/dynalock"
)

// Locker is goose's lock.Locker, for goose.WithLocker. Several providers that share one take turns, each from its Lock
// to its Unlock, also if the lock is lost meanwhile.
type Locker struct {
	c       *dynalock.Client
	key     string
	options []func(*dynalock.AcquireOptions)
	turn    chan struct{} // holds one from Lock to Unlock

	mu     sync.Mutex
	held   *dynalock.Lock
	failed bool // an Unlock failed, which has passed the turn on; the next Unlock releases held
}

var _ lock.Locker = (*Locker)(nil)

// NewLocker makes a locker for a key.
func NewLocker(c *dynalock.Client, key string, optFns ...func(*dynalock.AcquireOptions)) *Locker {
	return &Locker{c: c, key: key, options: optFns, turn: make(chan struct{}, 1)}
}

// Lock waits until the lock is held or ctx is done. Errors are those of [dynalock.Client.Acquire].
func (l *Locker) Lock(ctx context.Context, _ *sql.DB) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("goose: %w: by another user of the locker: %w", dynalock.ErrHeld, ctx.Err())
	}
	held, err := l.c.Acquire(ctx, l.key, l.options...)
	if err != nil {
		<-l.turn
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held, l.failed = held, false
	return nil
}

// Unlock releases the lock. The error matches dynalock.ErrLost if the lock was lost while migrations ran: another
// process may have migrated at the same time. After another error, which is one of [dynalock.Lock.Release], Unlock may
// be called again until the next Lock. If it is not, others can take the lock when its lease has expired.
func (l *Locker) Unlock(ctx context.Context, _ *sql.DB) error {
	l.mu.Lock()
	held, again := l.held, l.failed
	l.held = nil
	l.mu.Unlock()
	if held == nil {
		return errors.New("goose: Unlock was called without a Lock")
	}
	lost := held.Err()
	err := held.Release(ctx)
	switch {
	case errors.Is(lost, dynalock.ErrLost):
		err = lost
	case err != nil && !errors.Is(err, dynalock.ErrLost):
		l.mu.Lock()
		if l.held == nil {
			l.held, l.failed = held, true
		}
		l.mu.Unlock()
	}
	if !again {
		<-l.turn
	}
	return err
}
