package dynalock

import (
	"sync"
	"time"
)

// roster is the tenures of a client: those that are held, and those whose release has failed and may be retried.
type roster struct {
	tasks *tasks

	mu      sync.Mutex              // guards what follows; never held over I/O or a wait
	tenures map[string]*Lock        // by acquisition id, not by key: two tenures of one key are two locks
	undone  map[*Lock]time.Duration // tenures whose release failed, and when their leases expire
	tidying bool                    // a goroutine waits for the leases to expire
}

func newRoster(t *tasks) *roster {
	return &roster{tasks: t, tenures: map[string]*Lock{}, undone: map[*Lock]time.Duration{}}
}

// apart lists the tenures that Close may release and has not tried to, and those that it must not release because a
// function runs under them. A tenure whose release failed and whose lease has expired is in neither list.
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

// forget removes a tenure that is over. A successor of the same key is not touched, because tenures are kept by
// acquisition id.
func (r *roster) forget(l *Lock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.tenures, l.id())
	delete(r.undone, l)
}

// outlast keeps a tenure whose release failed, for Close to retry, until its lease has expired.
func (r *roster) outlast(l *Lock, until time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.tenures[l.id()] != l: // it was lost before
	case until <= r.tasks.now():
		delete(r.tenures, l.id())
	default:
		r.undone[l] = until
		if !r.tidying {
			r.tidying = r.tasks.spawn(r.tidy, nil)
		}
	}
}

// tidy removes the tenures whose release failed when their leases have expired, at most a second later.
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
