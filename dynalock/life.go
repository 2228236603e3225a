package dynalock

import "time"

// phase is where a tenure stands, as its holder has it:
//
//	        end                release               finished
//	held ─────────▶ ended ─────────────▶ releasing ─────────────▶ released
//	  │               ▲                   ▲     │
//	  │               └───────────────────│─────┘ failed
//	  └───────────────────────────────────┘ release
//
// Each arrow is a method of life, and there are no others. While the tenure is held, heartbeats keep the lease. Once it
// has ended, its caller knows why, and the row may still be its own. While it is releasing, the row is being freed or
// handed over. Once it is released, nobody writes to the row for it any more.
type phase int

const (
	phaseHeld phase = iota
	phaseEnded
	phaseReleasing
	phaseReleased
)

// life is the phases of a tenure. It does no I/O and has no lock: the tenure's guards it.
type life struct {
	phase phase
	err   error         // what Err says: nil, then ErrReleased or a *LostError, which stays
	until time.Duration // when the lease is over at the latest, by the monotonic clock; 0 while it is held
	gone  bool          // the row is known not to be this tenure's
	final func(*write)  // what ends the tenure instead of a plain release
	last  *release      // the one under way, or done
}

// release is a release under way, or done.
type release struct {
	done chan struct{}
	err  error // valid when done is closed
}

// end ends the tenure for its caller, whose lease is over at until at the latest. It reports false where that has
// happened before.
func (v *life) end(err error, until time.Duration) bool {
	if v.err != nil {
		return false
	}
	v.err = err
	if v.phase == phaseHeld {
		v.phase, v.until = phaseEnded, until
	}
	return true
}

// vanish notes that the row is not this tenure's any more: a release has nothing to write.
func (v *life) vanish() { v.gone = true }

// release begins a release, from here on nothing renews the lease, which is over at until at the latest. first is false
// where one is under way or done: it is returned.
func (v *life) release(until time.Duration) (r *release, first bool) {
	switch v.phase {
	case phaseReleasing, phaseReleased:
		return v.last, false
	case phaseHeld:
		v.until = until
	case phaseEnded:
	}
	v.phase, v.last = phaseReleasing, &release{done: make(chan struct{})}
	return v.last, true
}

// endWith makes the release write final. It reports false, and does nothing, where a release has begun.
func (v *life) endWith(final func(*write)) bool {
	if v.phase == phaseReleasing || v.phase == phaseReleased {
		return false
	}
	v.final = final
	return true
}

// failed ends a release that may be tried again, finished one that needs not.
func (v *life) failed()   { v.phase, v.last = phaseEnded, nil }
func (v *life) finished() { v.phase = phaseReleased }
