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
// Each arrow is a method of life, and there are no others:
//
//   - held: heartbeats keep the lease.
//   - ended: the caller can learn why, and the row may still be the tenure's.
//   - releasing: the row is being freed or handed over.
//   - released: no request for this tenure is sent any more.
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

// end ends the tenure for its caller. Its lease has expired at until, at the latest. It reports false if the tenure had
// ended before.
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

// release begins a release. From here on nothing renews the lease, which has expired at until, at the latest. first is
// false if a release is under way or done: that one is returned.
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

// endWith makes the release write final. It reports false, and does nothing, if a release has begun.
func (v *life) endWith(final func(*write)) bool {
	if v.phase == phaseReleasing || v.phase == phaseReleased {
		return false
	}
	v.final = final
	return true
}

// failed ends a release that may be retried. finished ends one that is done.
func (v *life) failed()   { v.phase, v.last = phaseEnded, nil }
func (v *life) finished() { v.phase = phaseReleased }
