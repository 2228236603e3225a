package migrate_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	upstream "github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	"github.com/golang-migrate/migrate/v4/database/stub"
	file "github.com/golang-migrate/migrate/v4/source"
	source "github.com/golang-migrate/migrate/v4/source/stub"
	"go.uber.org/goleak"

	"github.com/dynalock/dynalock/adapters/migrate"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a process whose migrations run in a bubble of virtual time.
type world struct {
	*testing.T
	srv *dynalocktest.Server
	*dynalock.Client
}

func inBubble(t *testing.T, fn func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := dynalocktest.NewServer()
		t.Cleanup(srv.Close)
		if err := dynalock.CreateTable(t.Context(), srv.Client(), "locks"); err != nil {
			t.Fatal(err)
		}
		w := &world{T: t, srv: srv}
		w.Client = w.client()
		fn(w)
	})
}

func (w *world) client() *dynalock.Client {
	w.Helper()
	c, err := dynalock.New(w.srv.Client(), "locks")
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(w.Context())); err != nil {
			w.Error(err)
		}
	})
	return c
}

// open opens a database whose own lock takes a while.
func (w *world) open(wait, own time.Duration) database.Driver {
	w.Helper()
	d, err := (&stub.Stub{}).Open("stub://")
	if err != nil {
		w.Fatal(err)
	}
	return migrate.Wrap(slow{d, own}, w.Client, "migrations", wait)
}

type slow struct {
	database.Driver
	own time.Duration
}

func (s slow) Lock() error {
	time.Sleep(s.own)
	return s.Driver.Lock()
}

// migrations are those of a program with one migration.
func (w *world) migrations(d database.Driver) *upstream.Migrate {
	w.Helper()
	files, err := (&source.Stub{}).Open("stub://")
	if err != nil {
		w.Fatal(err)
	}
	files.(*source.Stub).Migrations.Append(&file.Migration{Version: 1, Identifier: "CREATE 1", Direction: file.Up})
	m, err := upstream.NewWithInstance("stub", files, "stub", d)
	if err != nil {
		w.Fatal(err)
	}
	return m
}

// wantFree checks that nobody holds the lock, now and later.
func (w *world) wantFree() {
	w.Helper()
	time.Sleep(time.Minute)
	synctest.Wait()
	r, err := w.Get(w.Context(), "migrations")
	if err != nil || r.State != dynalock.Free {
		w.Errorf("the lock is %v of %q, %v; want it free", r.State, r.Owner, err)
	}
}

func TestMigrationsRunUnderTheLock(t *testing.T) {
	inBubble(t, func(w *world) {
		d := w.open(5*time.Second, time.Second)
		if err := w.migrations(d).Up(); err != nil {
			w.Fatal(err)
		}
		if v, dirty, err := d.Version(); v != 1 || dirty || err != nil {
			w.Errorf("version %d, dirty %v, %v", v, dirty, err)
		}
		if r, err := w.Get(w.Context(), "migrations"); err != nil || r.Token == 0 || r.State != dynalock.Free {
			w.Errorf("the lock is %v with token %d, %v; want it free after a tenure", r.State, r.Token, err)
		}
	})
}

func TestAWaitBeyondThePatienceOfMigrateIsRefused(t *testing.T) {
	inBubble(t, func(w *world) {
		longest := upstream.DefaultLockTimeout * 9 / 10
		for _, wait := range []time.Duration{longest + 1, time.Minute} {
			start := time.Now()
			err := w.migrations(w.open(wait, 0)).Up()
			if !errors.Is(err, dynalock.ErrInvalid) || time.Since(start) != 0 {
				w.Errorf("a wait of %v gives %v after %v, want an error that matches dynalock.ErrInvalid at once", wait, err,
					time.Since(start))
			}
			w.wantFree()
		}
		if err := w.migrations(w.open(longest, 0)).Up(); err != nil {
			w.Error(err)
		}
	})
}

func TestALockThatMigrateNoLongerWaitsForIsGivenBack(t *testing.T) {
	inBubble(t, func(w *world) {
		d := w.open(5*time.Second, 20*time.Second)
		if err := w.migrations(d).Up(); !errors.Is(err, upstream.ErrLockTimeout) {
			w.Errorf("error is %v, want one that matches ErrLockTimeout", err)
		}
		w.wantFree()
		if err := d.Lock(); !errors.Is(err, database.ErrLocked) {
			w.Errorf("the lock of the database is still held, or Lock says %v", err)
		}
		if err := d.Unlock(); !errors.Is(err, database.ErrNotLocked) {
			w.Error(err)
		}
	})
}

func TestCloseReleasesALockThatMigrateLeft(t *testing.T) {
	for name, own := range map[string]time.Duration{"waiting for it": 0, "won": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				held, err := w.client().Acquire(w.Context(), "migrations")
				if err != nil {
					w.Fatal(err)
				}
				m := w.migrations(w.open(10*time.Second, own))
				m.LockTimeout = 2 * time.Second
				release := time.AfterFunc(time.Second, func() {
					if err := held.Release(w.Context()); err != nil {
						w.Error(err)
					}
				})
				if own == 0 { // the other process migrates on
					release.Reset(5 * time.Second)
				}
				if err := m.Up(); !errors.Is(err, upstream.ErrLockTimeout) {
					w.Errorf("error is %v, want one that matches ErrLockTimeout", err)
				}
				if own != 0 {
					time.Sleep(own + time.Second) // it is won and kept
				}
				if err1, err2 := m.Close(); err1 != nil || err2 != nil {
					w.Error(err1, err2)
				}
				w.wantFree()
			})
		})
	}
}

func TestWithoutAWaitAFreeLockIsTakenAndAHeldOneIsToldAtOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		for _, wait := range []time.Duration{0, -time.Second} {
			first, second := w.open(wait, 0), w.open(wait, 0)
			if err := first.Lock(); err != nil {
				w.Fatal(err)
			}
			start := time.Now()
			if err := second.Lock(); !errors.Is(err, database.ErrLocked) || !errors.Is(err, dynalock.ErrHeld) ||
				time.Since(start) != 0 {
				w.Errorf("error is %v after %v, want one that matches database.ErrLocked and dynalock.ErrHeld at once", err,
					time.Since(start))
			}
			if err := first.Unlock(); err != nil {
				w.Error(err)
			}
		}
	})
}

func TestASecondMigrationIsToldThatTheDatabaseIsLocked(t *testing.T) {
	inBubble(t, func(w *world) {
		first, second := w.open(5*time.Second, 0), w.open(5*time.Second, 0)
		if err := first.Lock(); err != nil {
			w.Fatal(err)
		}
		start := time.Now()
		err := second.Lock()
		if !errors.Is(err, database.ErrLocked) || !errors.Is(err, dynalock.ErrHeld) {
			w.Errorf("error is %v, want one that matches database.ErrLocked and dynalock.ErrHeld", err)
		}
		if waited := time.Since(start); waited < 5*time.Second {
			w.Errorf("gave up after %v", waited)
		}
		if err := second.Unlock(); !errors.Is(err, database.ErrNotLocked) {
			w.Error(err)
		}
		if err := first.Unlock(); err != nil {
			w.Error(err)
		}
		if err := second.Lock(); err != nil {
			w.Error(err)
		}
		if err := second.Unlock(); err != nil {
			w.Error(err)
		}
	})
}
