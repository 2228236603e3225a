// Package migrate keeps migrations of github.com/golang-migrate/migrate/v4 from running twice at once, with a lock
// outside the database. It is for drivers that have no lock of their own, or whose lock is lost with the connection.
//
// Migrate waits for the Lock of a driver for its LockTimeout, 15 s by default, and then leaves it. A lock that is won
// later would be held forever, because no caller knows of it. Migrate does not tell a driver the LockTimeout. So the
// driver goes by the variable migrate.DefaultLockTimeout: it waits for at most nine tenths of that time, and releases a
// lock that it won later. To wait longer, raise that variable before migrate.New... is called. Do not set the field
// LockTimeout of a Migrate to less than wait: a lock that is won after LockTimeout is held until Close.
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

// Wrap makes a driver that locks key before it locks d itself. It waits for key at most for wait. 0 or less makes one
// attempt without waiting; the longest wait is nine tenths of migrate.DefaultLockTimeout. The driver is for
// migrate.NewWithInstance and migrate.NewWithDatabaseInstance.
//
// The error of its Lock matches
//
//   - database.ErrLocked and dynalock.ErrHeld, if another process migrates;
//   - database.ErrLocked, if locking took too long;
//   - dynalock.ErrInvalid, if wait is out of range;
//   - or else it is one of [dynalock.Client.Acquire], or of d's Lock.
//
// The error of its Unlock matches dynalock.ErrLost if the lock was lost while migrations ran. Its Close ends a wait,
// closes d, and then releases a lock that is still held.
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

// keep refuses a lock that migrate does not wait for any more.
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

// take gives the lock to the call that releases it.
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
