package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/heartbeat"
)

func TestEveryErrorHasItsExitCode(t *testing.T) {
	t.Parallel()
	held := &dynalock.HeldError{Record: dynalock.Record{Key: "k", State: dynalock.Held}}
	store := &dynalock.StoreError{Op: "get", Table: "t", Err: context.DeadlineExceeded}
	lost := &dynalock.LostError{Key: "k", Reason: fmt.Errorf("%w: %w", heartbeat.ErrDeadline, store)}
	for _, tt := range []struct {
		name string
		err  error
		want int
	}{
		{"none", nil, 0},
		{"any", errors.New("any"), 1},
		{"usage", usagef("bad"), 64},
		{"bad input", fmt.Errorf("%w: x", dynalock.ErrInvalid), 64},
		{"foreign", &dynalock.ForeignError{Key: "k"}, 65},
		{"store", store, 69},
		{"no answer in time", fmt.Errorf("asking: %w", context.DeadlineExceeded), 69},
		{"the wait is over and the store did not answer", fmt.Errorf("%w: %w", context.DeadlineExceeded, store), 69},
		{"held", held, 75},
		{"the wait is over and the lock is held", fmt.Errorf("%w: %w", held, context.DeadlineExceeded), 75},
		{"lost, for the store's sake", lost, 76},
		{"changed", fmt.Errorf("%w: k", dynalock.ErrChanged), 77},
		{"one of its own, whatever is in it", &exitError{33, held}, 33},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestAMessageIsOneLineThatTellsTheLockBeforeTheStore(t *testing.T) {
	t.Parallel()
	store := &dynalock.StoreError{Op: "heartbeat", Table: "t", Key: "k", Err: errors.New("first\n\tsecond")}
	successor := &dynalock.Record{Key: "k", State: dynalock.Held, Owner: "evil\n\x1b[0m"}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{store, `heartbeat "k" on table "t": first second`},
		{
			&dynalock.LostError{Key: "k", Reason: fmt.Errorf("%w: %w", heartbeat.ErrDeadline, store)},
			`lost "k": no heartbeat was acknowledged in time: first second`,
		},
		{&dynalock.LostError{Key: "k", Reason: heartbeat.ErrDeadline}, `lost "k": no heartbeat was acknowledged in time`},
		{&dynalock.LostError{Key: "k", Reason: heartbeat.ErrLimit}, `lost "k": it was held for as long as --max-hold allows`},
		{
			&dynalock.LostError{Key: "k", Reason: fmt.Errorf("%w: it was taken over", heartbeat.ErrGone), By: successor},
			`lost "k": it was taken over; now held by "evil\n\x1b[0m"`,
		},
		{&dynalock.HeldError{Record: dynalock.Record{Key: "k"}}, `"k" is held`},
		{fmt.Errorf("%w: gone", dynalock.ErrChanged), `lock has changed since it was shown: gone`},
	} {
		if got := message(tt.err); got != tt.want {
			t.Errorf("message(%v) = %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestAHeldLockIsToldWithWhoSinceWhenAndWhy(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	r := dynalock.Record{Key: "k", State: dynalock.Held, Owner: "w", Version: "v", Lease: 10 * time.Second}
	if got, want := heldMessage(r, now), `"k" is held by "w"`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.AcquiredAt, r.ExpiresAt, r.Reason = now.Add(-time.Minute), now.Add(time.Second), "deploy"
	if got, want := heldMessage(r, now),
		`"k" is held by "w" since 2026-11-22T11:59:00Z (1m ago), reason "deploy"`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestOnlyThisMachineIsLoopback(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]bool{
		"http://localhost:8000": true, "http://127.0.0.1": true, "http://127.1.2.3:1": true, "http://[::1]:8000": true,
		"http://db.localhost": true, "HTTP://LocalHost": true,
		"": false, "http://": false, "http://localhost.example.com": false, "https://dynamodb.us-east-1.amazonaws.com": false,
		"http://10.0.0.1": false, "http://0.0.0.0:1": false, "http://%zz": false,
	} {
		if got := isLoopback(endpoint); got != want {
			t.Errorf("isLoopback(%q) = %v", endpoint, got)
		}
	}
}
