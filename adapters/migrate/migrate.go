// Package migrate keeps migrations of github.com/golang-migrate/migrate/v4 from running twice at once, with a lock
// outside the database: for drivers whose own lock is missing, or is lost with the connection.
//
// Migrate gives a driver LockTimeout to lock, 15 s unless set, and then leaves it: a lock that is won later would be
// nobody's, and held for ever. It does not tell a driver its LockTimeout. So the driver goes by the variable
// migrate.DefaultLockTimeout, waits for at most nine tenths of it, and gives back what it got later than that. To wait
// longer, raise that variable before migrate.New... is called. Do not set the field LockTimeout of a Migrate to less
// than wait: a lock that is won after it is held until Close.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"

	"github.com/dynalock/dynalock/dynalock"
)

// driver is a database driver whose lock is ours.
type driver struct {
	database.Driver
	c       *dynalock.Client
	key     string
	wait    time.Duration
	options []func(*dynalock.AcquireOptions)
	ctx     context.Context // of waits; ends with Close
	cancel  context.CancelFunc

	mu     sync.Mutex
	held   *dynalock.Lock
	closed bool
}

// Wrap gives a driver that locks key before it locks d itself, and waits for it at most wait: 0 or less asks once,
// and nine tenths of migrate.DefaultLockTimeout are the longest. Give it to migrate.NewWithInstance or
// migrate.NewWithDatabaseInstance.
//
// The error of its Lock matches database.ErrLocked and dynalock.ErrHeld where another process migrates,
// database.ErrLocked where locking took too long, dynalock.ErrInvalid for a wait out of range, or is one of
// [dynalock.Client.Acquire]. The error of its Unlock matches dynalock.ErrLost if the lock was lost while migrations
// ran. Its Close ends a wait, closes d, and then releases a lock that is still held.
func Wrap(
	d database.Driver, c *dynalock.Client, key string, wait time.Duration, optFns ...func(*dynalock.AcquireOptions),
) database.Driver {
	ctx, cancel := context.WithCancel(context.Background())
	return &driver{Driver: d, c: c, key: key, wait: wait, options: optFns, ctx: ctx, cancel: cancel}
}

// Lock implements database.Driver.
func (d *driver) Lock() error {
	start, patience := time.Now(), migrate.DefaultLockTimeout*9/10
	if d.wait > patience {
		return fmt.Errorf("%w: migrate: wait is %v, allowed: at most %v (nine tenths of migrate.DefaultLockTimeout)",
			dynalock.ErrInvalid, d.wait, patience)
	}
	held, err := d.acquire()
	if errors.Is(err, dynalock.ErrHeld) {
		return fmt.Errorf("%w: %w", database.ErrLocked, err)
	}
	if err != nil {
		return err
	}
	if err := d.Driver.Lock(); err != nil {
		return errors.Join(err, held.Release(context.Background()))
	}
	if err := d.keep(held, time.Since(start), patience); err != nil {
		return errors.Join(err, d.Driver.Unlock(), held.Release(context.Background()))
	}
	return nil
}

func (d *driver) acquire() (*dynalock.Lock, error) {
	if d.wait <= 0 {
		return d.c.TryAcquire(d.ctx, d.key, d.options...)
	}
	ctx, cancel := context.WithTimeout(d.ctx, d.wait)
	defer cancel()
	return d.c.Acquire(ctx, d.key, d.options...)
}

// keep refuses a lock that migrate no longer waits for.
func (d *driver) keep(held *dynalock.Lock, took, patience time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return fmt.Errorf("%w: the driver was closed", database.ErrLocked)
	case took > patience:
		return fmt.Errorf("%w: it took %v, allowed: up to %v (nine tenths of migrate.DefaultLockTimeout)", database.ErrLocked,
			took, patience)
	}
	d.held = held
	return nil
}

// take gives the lock to whoever releases it.
func (d *driver) take(closed bool) *dynalock.Lock {
	d.mu.Lock()
	defer d.mu.Unlock()
	held := d.held
	d.held, d.closed = nil, d.closed || closed
	return held
}

// Unlock implements database.Driver.
func (d *driver) Unlock() error {
	held := d.take(false)
	if held == nil {
		return database.ErrNotLocked
	}
	err := d.Driver.Unlock()
	lost := held.Err()
	released := held.Release(context.Background())
	if errors.Is(lost, dynalock.ErrLost) {
		released = lost
	}
	return errors.Join(err, released)
}

// Close implements database.Driver.
func (d *driver) Close() error {
	d.cancel()
	held := d.take(true)
	err := d.Driver.Close() // first, because it may wait for statements under way
	if held == nil {
		return err
	}
	return errors.Join(err, held.Release(context.Background()))
}
