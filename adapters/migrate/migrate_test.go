package migrate_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/golang-migrate/migrate/v4/database/stub"

	"github.com/dynalock/dynalock/adapters/migrate"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func TestASecondMigrationIsToldThatTheDatabaseIsLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dynalocktest.NewServer()
		t.Cleanup(srv.Close)
		if err := dynalock.CreateTable(t.Context(), srv.Client(), "locks"); err != nil {
			t.Fatal(err)
		}
		c, err := dynalock.New(srv.Client(), "locks")
		if err != nil {
			t.Fatal(err)
		}
		open := func() database.Driver {
			d, err := (&stub.Stub{}).Open("stub://")
			if err != nil {
				t.Fatal(err)
			}
			return migrate.Wrap(d, c, "migrations", 5*time.Second)
		}
		first, second := open(), open()
		if err := first.Lock(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		err = second.Lock()
		if !errors.Is(err, database.ErrLocked) || !errors.Is(err, dynalock.ErrHeld) {
			t.Errorf("error is %v, want one that matches database.ErrLocked and dynalock.ErrHeld", err)
		}
		if waited := time.Since(start); waited < 5*time.Second {
			t.Errorf("gave up after %v", waited)
		}
		if err := second.Unlock(); !errors.Is(err, database.ErrNotLocked) {
			t.Error(err)
		}
		if err := first.Unlock(); err != nil {
			t.Error(err)
		}
		if err := second.Lock(); err != nil {
			t.Error(err)
		}
		if err := second.Unlock(); err != nil {
			t.Error(err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
