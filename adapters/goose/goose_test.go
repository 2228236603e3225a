package goose_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/dynalock/dynalock/adapters/goose"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// world is a process in a bubble of virtual time, whose requests the server can lose.
type world struct {
	*testing.T
	*dynalock.Client
	srv *dynalocktest.Server
}

func inBubble(t *testing.T, fn func(w *world)) {
	t.Helper()
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
		fn(&world{t, c, srv})
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

var lostRequests = dynalocktest.Fault{Kind: dynalocktest.LostRequest, Client: "migrator"}

func TestUnlockSaysThatTheLockWasLost(t *testing.T) {
	inBubble(t, func(w *world) {
		l := goose.NewLocker(w.Client, "migrations")
		if err := l.Lock(w.Context(), nil); err != nil {
			w.Fatal(err)
		}
		heal := w.srv.Inject(lostRequests)
		time.Sleep(time.Minute)
		heal()
		if err := l.Unlock(w.Context(), nil); !errors.Is(err, dynalock.ErrLost) {
			w.Errorf("error is %v, want one that matches ErrLost", err)
		}
		if err := l.Unlock(w.Context(), nil); err == nil {
			w.Error("the second Unlock of one Lock is no error")
		}
	})
}

func TestTheUsersOfOneLockerTakeTurnsAlsoIfTheLockIsLost(t *testing.T) {
	inBubble(t, func(w *world) {
		l := goose.NewLocker(w.Client, "migrations")
		if err := l.Lock(w.Context(), nil); err != nil {
			w.Fatal(err)
		}
		heal := w.srv.Inject(lostRequests)
		time.Sleep(time.Minute)
		heal()
		second := make(chan error, 1)
		go func() { second <- l.Lock(w.Context(), nil) }()
		time.Sleep(time.Minute)
		if len(second) != 0 {
			w.Fatal("the second user has the lock while the first still migrates")
		}
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if err := l.Lock(ctx, nil); !errors.Is(err, dynalock.ErrHeld) || !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("error is %v, want one that matches ErrHeld and context.DeadlineExceeded", err)
		}
		if err := l.Unlock(w.Context(), nil); !errors.Is(err, dynalock.ErrLost) {
			w.Errorf("error is %v, want one that matches ErrLost", err)
		}
		if err := <-second; err != nil {
			w.Fatal(err)
		}
		if r, err := w.Get(w.Context(), "migrations"); err != nil || r.State != dynalock.Held {
			w.Errorf("the lock of the second user is %v, %v", r.State, err)
		}
		if err := l.Unlock(w.Context(), nil); err != nil {
			w.Error(err)
		}
	})
}

func TestAnUnlockThatFailedMayBeRepeatedUntilTheNextLock(t *testing.T) {
	inBubble(t, func(w *world) {
		l := goose.NewLocker(w.Client, "migrations")
		for _, repeat := range []bool{true, false} {
			if err := l.Lock(w.Context(), nil); err != nil {
				w.Fatal(err)
			}
			heal := w.srv.Inject(lostRequests)
			for range 2 {
				if err := l.Unlock(w.Context(), nil); !errors.Is(err, dynalock.ErrStore) {
					w.Errorf("error is %v, want one that matches ErrStore", err)
				}
			}
			heal()
			if repeat {
				if err := l.Unlock(w.Context(), nil); err != nil {
					w.Error(err)
				}
				if err := l.Unlock(w.Context(), nil); err == nil {
					w.Error("an Unlock after one that succeeded is no error")
				}
			}
		}
		if err := l.Lock(w.Context(), nil); err != nil {
			w.Fatal(err)
		}
		if err := l.Unlock(w.Context(), nil); err != nil {
			w.Error(err)
		}
		if err := l.Unlock(w.Context(), nil); err == nil {
			w.Error("the second Unlock of one Lock is no error")
		}
	})
}
