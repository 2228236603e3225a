// Package migrate keeps migrations of github.com/golang-migrate/migrate/v4 from running twice at once, with a lock
// outside the database: for drivers whose own lock is missing, or is lost with the connection.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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
	mu      sync.Mutex
	held    *dynalock.Lock
}

// Wrap gives a driver that locks key before it locks d itself, and waits for it at most wait. Give it to
// migrate.NewWithInstance or migrate.NewWithDatabaseInstance.
func Wrap(d database.Driver, c *dynalock.Client, key string, wait time.Duration, optFns ...func(*dynalock.AcquireOptions)) database.Driver {
	return &driver{Driver: d, c: c, key: key, wait: wait, options: optFns}
}

// Lock implements database.Driver. Its error matches database.ErrLocked and dynalock.ErrHeld where another process
// migrates.
func (d *driver) Lock() error {
	ctx, cancel := context.WithTimeout(context.Background(), d.wait)
	defer cancel()
	held, err := d.c.Acquire(ctx, d.key, d.options...)
	if errors.Is(err, dynalock.ErrHeld) {
		return fmt.Errorf("%w: %w", database.ErrLocked, err)
	}
	if err != nil {
		return err
	}
	if err := d.Driver.Lock(); err != nil {
		return errors.Join(err, held.Release(context.Background()))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = held
	return nil
}

// Unlock implements database.Driver. Its error matches dynalock.ErrLost if the lock was lost while migrations ran.
func (d *driver) Unlock() error {
	d.mu.Lock()
	held := d.held
	d.held = nil
	d.mu.Unlock()
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
