package dynalock

import (
	"sync"
	"time"
)

// sightings is what a client has seen of locks that others hold.
type sightings struct {
	now   func() time.Duration  // the monotonic clock
	waits func(key string) bool // reports whether a call waits for the key

	mu      sync.Mutex // guards what follows; never held over I/O or a wait
	watches map[string]watch
}

// of is the last sighting of a key.
func (g *sightings) of(key string) (w watch, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w, known = g.watches[key]
	return w, known
}

// drop forgets a key, because this client holds its lock.
func (g *sightings) drop(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.watches, key)
}

// watch is what is known of a lock that another client holds. It outlives the call that saw it, so that a process whose
// calls are shorter than a lease still takes a dead holder's lock.
type watch struct {
	record Record        // without its data
	since  time.Duration // the monotonic clock after the first answer with this version
	began  time.Duration // the same, with this tenure
	used   time.Duration
}

// maxWatches bounds the memory for locks that others hold and no call waits for.
const maxWatches = 10_000

// observe notes an answer that shows r. It returns for how long the version has stood still, and for how long this
// tenure has been seen.
func (g *sightings) observe(r *Record, got time.Duration) (still, tenure time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w, ok := g.watches[r.Key]
	if !ok || w.record.tenure() != r.tenure() {
		w.began = got
	}
	if !ok || w.record.Version != r.Version {
		w.since = got
	}
	w.record, w.used = *r, got
	w.record.Data = nil
	if !ok && len(g.watches) >= maxWatches {
		g.evictWatch()
	}
	g.watches[r.Key] = w
	return got - w.since, got - w.began
}

// evictWatch drops the least recently used of a few watches, and never one that a call waits with. Otherwise many
// waiters would evict one another's watches, and none would see a whole lease.
func (g *sightings) evictWatch() {
	oldest, n := "", 0
	for key, w := range g.watches {
		if !g.waits(key) && (oldest == "" || w.used < g.watches[oldest].used) {
			oldest = key
		}
		if n++; n == 32 {
			break
		}
	}
	if oldest != "" {
		delete(g.watches, oldest)
	}
}

// dead returns the watch of key, and reports whether its version has stood still for the whole lease stored in the
// item: then the lock may be taken over, on condition of that version.
func (g *sightings) dead(key string) (watch, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w, ok := g.watches[key]
	return w, ok && g.now()-w.since >= w.record.Lease
}
