package dynalock_test

import (
	"fmt"
	"testing"

	"github.com/dynalock/dynalock/dynalock"
)

func TestTheTextsOfStatesAndKindsAreWhatTheySay(t *testing.T) {
	t.Parallel()
	for state, want := range map[fmt.Stringer]string{
		dynalock.Free: "free", dynalock.Held: "held", dynalock.Foreign: "foreign",
		dynalock.State(3): "State(3)", dynalock.State(-1): "State(-1)",
		dynalock.EventAcquired: "acquired", dynalock.EventReleased: "released",
		dynalock.EventKind(1000): "EventKind(1000)", dynalock.EventKind(-1): "EventKind(-1)",
	} {
		check(t, state.String() == want, "%d is %q, want %q", state, state, want)
	}
}
