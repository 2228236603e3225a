package dynalock

import (
	"sync"
	"time"
)

// roster is the tenures of a client: those that are held, and those whose release has failed and may be tried again.
type roster struct {
	tasks *tasks

	mu      sync.Mutex              // guards what follows; never held over I/O or a wait
	tenures map[string]*Lock        // by acquisition id, not by key: two tenures of one key are two locks
	undone  map[*Lock]time.Duration // tenures whose release failed, and when their leases are over
	tidying bool                    // a goroutine waits for that
}

func newRoster(t *tasks) *roster {
	return &roster{tasks: t, tenures: map[string]*Lock{}, undone: map[*Lock]time.Duration{}}
}

// apart are the tenures that Close may release and has not tried yet, and those that it must not release because a
// function runs under them. A tenure whose release failed and whose lease is over is neither.
func (r *roster) apart(tried map[*Lock]bool) (held, busy []*Lock) {
	now := r.tasks.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.tenures {
		until, failed := r.undone[l]
		switch {
		case tried[l] || failed && until <= now:
		case r.tasks.serves(l.ctx):
			busy = append(busy, l)
		default:
			held, tried[l] = append(held, l), true
		}
	}
	return held, busy
}

// enter notes a tenure that has begun.
func (r *roster) enter(l *Lock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tenures[l.id()] = l
}

// tenure finds the lock of an acquisition id in this client.
func (r *roster) tenure(id string) *Lock {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tenures[id]
}

// forget drops the bookkeeping of a tenure that is over for good. Bookkeeping is by tenure: a successor of the same
// key is not touched.
func (r *roster) forget(l *Lock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.tenures, l.id())
	delete(r.undone, l)
}

// outlast keeps a tenure whose release failed, for Close to try again, until its lease is over: then it is nobody's.
func (r *roster) outlast(l *Lock, until time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.tenures[l.id()] != l: // lost before
	case until <= r.tasks.now():
		delete(r.tenures, l.id())
	default:
		r.undone[l] = until
		if !r.tidying {
			r.tidying = r.tasks.spawn(r.tidy, nil)
		}
	}
}

// tidy drops the tenures whose release failed once their leases are over, a second late at most.
func (r *roster) tidy() {
	for {
		r.mu.Lock()
		now := r.tasks.now()
		wait := maxLease
		for l, until := range r.undone {
			if wait = min(wait, until-now); until <= now {
				delete(r.tenures, l.id())
				delete(r.undone, l)
			}
		}
		if len(r.undone) == 0 {
			r.tidying = false
		}
		more := r.tidying
		r.mu.Unlock()
		if !more || r.tasks.rest(r.tasks.ctx, max(wait, time.Second)) != nil {
			return
		}
	}
}
