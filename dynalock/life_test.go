package dynalock

import (
	"errors"
	"testing"
	"time"
)

func TestALifeHasTheseArrowsAndNoOthers(t *testing.T) {
	t.Parallel()
	lost := &LostError{Key: "k"}
	arrows := []struct {
		name  string
		take  func(v *life) bool
		leads map[phase]phase
	}{
		{"end", func(v *life) bool { return v.end(lost, time.Second) }, map[phase]phase{phaseHeld: phaseEnded}},
		{"release", func(v *life) bool { _, first := v.release(time.Minute); return first }, map[phase]phase{
			phaseHeld: phaseReleasing, phaseEnded: phaseReleasing,
		}},
		{"endWith", func(v *life) bool { return v.endWith(func(*write) {}) }, map[phase]phase{
			phaseHeld: phaseHeld, phaseEnded: phaseEnded,
		}},
	}
	for _, a := range arrows {
		for _, from := range []phase{phaseHeld, phaseEnded, phaseReleasing, phaseReleased} {
			v := at(from)
			was := v.last
			to, allowed := a.leads[from]
			if !allowed {
				to = from
			}
			if took := a.take(&v); took != allowed || v.phase != to {
				t.Errorf("%s from phase %d: %v and phase %d, want %v and phase %d", a.name, from, took, v.phase, allowed, to)
			}
			if !allowed && v.last != was {
				t.Errorf("%s from phase %d replaces the release that is under way", a.name, from)
			}
		}
	}
}

// at is a life in a phase.
func at(p phase) life {
	var v life
	switch p {
	case phaseHeld:
	case phaseEnded:
		v.end(ErrReleased, time.Second)
	case phaseReleasing, phaseReleased:
		v.release(time.Second)
		v.end(ErrReleased, time.Second)
		if p == phaseReleased {
			v.finished()
		}
	}
	return v
}

func TestAReleaseThatFailedCanBeTriedAgainAndTheLeaseIsNoLonger(t *testing.T) {
	t.Parallel()
	var v life
	first, _ := v.release(time.Second)
	v.end(ErrReleased, 5*time.Second)
	v.failed()
	second, again := v.release(9 * time.Second)
	if !again || second == first || v.phase != phaseReleasing {
		t.Errorf("another release: %v, phase %d", again, v.phase)
	}
	if v.until != time.Second {
		t.Errorf("the lease is over at %v, want as when its renewals ended: 1s", v.until)
	}
	if !errors.Is(v.err, ErrReleased) {
		t.Errorf("Err is %v", v.err)
	}
}

func TestWhyATenureEndedStays(t *testing.T) {
	t.Parallel()
	v := at(phaseEnded)
	if v.end(&LostError{}, 0) || v.err != ErrReleased { //nolint:errorlint // the very error
		t.Errorf("it is %v now", v.err)
	}
}
