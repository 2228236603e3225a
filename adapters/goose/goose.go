// Package goose keeps migrations of github.com/pressly/goose/v3 from running twice at once, with a lock outside the
// database: for databases without advisory locks, or migrations of several databases under one lock.
package goose

import (
	"context"
	"database/sql"
	"errors"
	"sync"

	"github.com/pressly/goose/v3/lock"

	"github.com/dynalock/dynalock/dynalock"
)

// Locker is goose's lock.Locker; give it to goose.WithTableLocker.
type Locker struct {
	c       *dynalock.Client
	key     string
	options []func(*dynalock.AcquireOptions)
	mu      sync.Mutex
	held    *dynalock.Lock
}

var _ lock.Locker = (*Locker)(nil)

// NewLocker makes a locker on a key.
func NewLocker(c *dynalock.Client, key string, optFns ...func(*dynalock.AcquireOptions)) *Locker {
	return &Locker{c: c, key: key, options: optFns}
}

// Lock waits until the lock is held or ctx is done. Errors are those of [dynalock.Client.Acquire].
func (l *Locker) Lock(ctx context.Context, _ *sql.DB) error {
	held, err := l.c.Acquire(ctx, l.key, l.options...)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
	return nil
}

// Unlock releases it. The error matches dynalock.ErrLost if the lock was lost while migrations ran: another process
// may have migrated at the same time.
func (l *Locker) Unlock(ctx context.Context, _ *sql.DB) error {
	l.mu.Lock()
	held := l.held
	l.mu.Unlock()
	if held == nil {
		return errors.New("goose: unlocked without a lock")
	}
	lost := held.Err()
	err := held.Release(ctx)
	if errors.Is(lost, dynalock.ErrLost) {
		return lost
	}
	return err
}
