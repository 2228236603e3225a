package dynalock_test

import (
	"errors"
	"testing"

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
		{&dynalock.LostError{Key: "key", By: &dynalock.Record{State: dynalock.Held, Owner: "me"}}, dynalock.ErrLost, `dynalock: lock was lost: "key"; now held by "me"`},
		{&dynalock.LostError{Key: "key", Reason: errors.New("cause")}, dynalock.ErrLost, `dynalock: lock was lost: "key": cause`},
		{&dynalock.ForeignError{}, dynalock.ErrForeign, `dynalock: item is not a lock: "": `},
		{&dynalock.StoreError{}, dynalock.ErrStore, `dynalock:  on table ""`},
		{&dynalock.StoreError{Op: "acquire", Table: "locks", Key: "key", Hint: "do it"}, dynalock.ErrStore, `dynalock: acquire "key" on table "locks": do it`},
		{&dynalock.StoreError{Op: "acquire", Table: "locks", Hint: "do it", Err: errors.New("cause")}, dynalock.ErrStore, `dynalock: acquire on table "locks": do it: cause`},
	} {
		wantErr(t, tt.err, tt.is)
		check(t, tt.err.Error() == tt.says, "%T says %q, want %q", tt.err, tt.err, tt.says)
	}
}
