package dynalock_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
)

func TestAnErrorThatAUserMadeSaysWhatItKnows(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err, is error
		says    string
	}{
		{&dynalock.HeldError{}, dynalock.ErrHeld, `dynalock: lock is held: "" by ""`},
		{&dynalock.LostError{}, dynalock.ErrLost, `dynalock: lock was lost: ""`},
		{
			&dynalock.LostError{Key: "key", By: &dynalock.Record{State: dynalock.Held, Owner: "me"}}, dynalock.ErrLost,
			`dynalock: lock was lost: "key"; now held by "me"`,
		},
		{
			&dynalock.LostError{Key: "key", Reason: errors.New("cause")}, dynalock.ErrLost,
			`dynalock: lock was lost: "key": cause`,
		},
		{&dynalock.ForeignError{}, dynalock.ErrForeign, `dynalock: item is not a lock: "": `},
		{&dynalock.StoreError{}, dynalock.ErrStore, `dynalock:  on table ""`},
		{
			&dynalock.StoreError{Op: "acquire", Table: "locks", Key: "key", Hint: "do it"}, dynalock.ErrStore,
			`dynalock: acquire "key" on table "locks": do it`,
		},
		{
			&dynalock.StoreError{Op: "acquire", Table: "locks", Hint: "do it", Err: errors.New("cause")}, dynalock.ErrStore,
			`dynalock: acquire on table "locks": do it: cause`,
		},
	} {
		wantErr(t, tt.err, tt.is)
		check(t, tt.err.Error() == tt.says, "%T says %q, want %q", tt.err, tt.err, tt.says)
	}
}

func TestAHeldErrorSaysSinceWhenAndWhyWhereThatIsKnown(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		record dynalock.Record
		says   []string
		not    string
	}{
		{dynalock.Record{Key: "key", Owner: "me"}, []string{"key", "me"}, "since"},
		{dynalock.Record{Key: "key", AcquiredAt: since}, []string{"since 2026-11-30T12:00:00Z"}, "("},
		{dynalock.Record{AcquiredAt: since, Reason: "nightly"}, []string{"since 2026-11-30T12:00:00Z", "nightly"}, "0001"},
	} {
		text := (&dynalock.HeldError{Record: tt.record}).Error()
		for _, part := range tt.says {
			check(t, strings.Contains(text, part), "%q is not in %q", part, text)
		}
		check(t, !strings.Contains(text, tt.not), "%q is in %q", tt.not, text)
	}
}
