package goose_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dynalock/dynalock/adapters/goose"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func TestMigrationsRunOneAfterTheOther(t *testing.T) {
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
		first, second := goose.NewLocker(c, "migrations"), goose.NewLocker(c, "migrations")
		if err := first.Lock(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			err := second.Lock(t.Context(), nil)
			done <- errors.Join(err, second.Unlock(t.Context(), nil))
		}()
		time.Sleep(time.Minute)
		if len(done) != 0 {
			t.Fatal("two migrations at once")
		}
		if err := first.Unlock(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestUnlockSaysThatTheLockWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dynalocktest.NewServer()
		t.Cleanup(srv.Close)
		if err := dynalock.CreateTable(t.Context(), srv.Client(), "locks"); err != nil {
			t.Fatal(err)
		}
		c, err := dynalock.New(srv.ClientFor("migrator"), "locks")
		if err != nil {
			t.Fatal(err)
		}
		l := goose.NewLocker(c, "migrations")
		if err := l.Lock(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		heal := srv.Inject(dynalocktest.Fault{Kind: dynalocktest.LostRequest, Client: "migrator"})
		time.Sleep(time.Minute)
		heal()
		if err := l.Unlock(t.Context(), nil); !errors.Is(err, dynalock.ErrLost) {
			t.Errorf("error is %v, want one that matches ErrLost", err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
