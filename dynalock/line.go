package dynalock

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// queue is the line of goroutines of this process that wait for one key. To DynamoDB they are one waiter: only the
// first looks at the table, and none does while this process holds the lock.
//
// A process has the lock for a turn: from the tenure that found the lock free, over those that its goroutines hand to
// one another, to the release for everybody. The item counts the turns of all processes.
type queue struct {
	waiting list.List            // of *waiter; the first looks
	choosy  map[*waiter]struct{} // the waiters whose kind may be named as the next holder

	turn    uint64 // the latest turn of this process; before there was one, the turn that it saw first
	seen    uint64 // the latest turn of any process
	waiters int    // how many other processes wait, as the item of this turn says

	streak int           // hand-overs of this turn
	began  time.Duration // when this turn began
	looked time.Duration // by when each other process that waits has sent another look
	trip   time.Duration // how long the last request took that began a tenure

	yielding  bool          // the turn is over: the first waits until notBefore, to give other processes a chance
	pause     time.Duration // how long they need for it
	notBefore time.Duration
	freed     bool // the local holder released the lock: the next step is a write, not a look
}

// line is the queues of a client, and the keys that it holds.
type line struct {
	opt       *Options
	tasks     *tasks
	sightings *sightings

	mu      sync.Mutex       // guards what follows; never held over I/O or a wait
	holders map[string]*Lock // by key: the latest tenure of this client, for local hand-over
	queues  map[string]*queue
}

func newLine(o *Options, t *tasks, g *sightings) *line {
	ln := &line{opt: o, tasks: t, sightings: g, holders: map[string]*Lock{}, queues: map[string]*queue{}}
	g.waits = ln.waits
	return ln
}

func (ln *line) now() time.Duration { return ln.tasks.now() }

// waits reports whether a call waits for the key, or waited while this client holds it.
func (ln *line) waits(key string) bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return ln.queues[key] != nil
}

// holder is the tenure of this client that holds the key; nil if none does.
func (ln *line) holder(key string) *Lock {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return ln.holders[key]
}

// saw notes whose turn it is.
func (ln *line) saw(r *Record) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if q := ln.queues[r.Key]; q != nil && r.turn > 0 {
		if q.seen = r.turn; q.turn == 0 {
			q.turn = r.turn
		}
	}
}

// waiter is one place in the line.
type waiter struct {
	key   string
	kind  kind
	wake  chan struct{} // something changed: look again
	place *list.Element // guarded, like offer, by line.mu
	offer *offer
}

// offer is the proposal of a holder that releases: to hand the lock over in one write.
type offer struct {
	versions []string      // what the item's version may be
	hold     time.Duration // the new average
	waiters  int           // other processes that wait
	dialect  Dialect       // of the item
	stamp    int64         // the latest that the row may have: the write is stamped no earlier
	made     int64         // the latest of the requests for the tenure so far: what ends the new one is stamped later
	done     chan verdict  // cap 1: the verdict on the first write of the new tenure
}

// A hand-over within a process costs one request instead of two, and needs no poll. But other processes may wait, too,
// and nothing in the item says so. A turn ends after handOvers hand-overs, but not before it has lasted turnPauses
// times as long as the others then need to find the lock free. So a process that is alone idles for a thirtieth of the
// time, and another process waits for no more than one such turn.
const (
	handOvers  = 16
	turnPauses = 32
)

func (w *waiter) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// first is the waiter that looks; nil if the line is empty.
func (q *queue) first() *waiter {
	if e := q.waiting.Front(); e != nil {
		return e.Value.(*waiter) //nolint:forcetypeassert // nothing else is in the list
	}
	return nil
}

// wakeFirst has the first waiter see what has changed.
func (q *queue) wakeFirst() {
	if w := q.first(); w != nil {
		w.signal()
	}
}

// enqueue takes a place in the line.
func (ln *line) enqueue(key string, k kind) *waiter {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	q := ln.queues[key]
	if q == nil {
		q = &queue{began: ln.now(), looked: ln.now(), choosy: map[*waiter]struct{}{}}
		ln.queues[key] = q
	}
	w := &waiter{key: key, kind: k, wake: make(chan struct{}, 1)}
	w.place = q.waiting.PushBack(w)
	if k != kind(plain{}) {
		q.choosy[w] = struct{}{}
	}
	return w
}

// promote moves the waiter to which the holder means to hand over to the front, if it waits in this line: only the
// first looks.
func (ln *line) promote(key string, r *Record) {
	if r.extra == nil {
		return
	}
	ln.mu.Lock()
	defer ln.mu.Unlock()
	q := ln.queues[key]
	if q == nil {
		return
	}
	for w := range q.choosy {
		if w.kind.intended(r) {
			q.waiting.MoveToFront(w.place)
			w.signal()
			return
		}
	}
}

// leave gives up the place, and declines an offer that was not looked at.
func (ln *line) leave(w *waiter) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	q := ln.queues[w.key]
	wasFirst := q.first() == w
	q.waiting.Remove(w.place)
	delete(q.choosy, w)
	if w.offer != nil {
		w.offer.done <- declined
		w.offer = nil
	}
	switch {
	case q.waiting.Len() == 0 && ln.holders[w.key] == nil:
		delete(ln.queues, w.key)
	case wasFirst:
		q.wakeFirst()
	}
}

// await blocks until this waiter is to do something: to take up an offer, which is returned, or to look at the table,
// because it is the first in line, no tenure of this process is in the way and its due time has come. freed reports
// that the local holder has just released the lock.
func (ln *line) await(ctx context.Context, w *waiter, due time.Duration) (o *offer, freed bool, err error) {
	for {
		ln.mu.Lock()
		q := ln.queues[w.key]
		if o, w.offer = w.offer, nil; o != nil {
			ln.mu.Unlock()
			return o, false, nil
		}
		ready := q.first() == w && ln.holders[w.key] == nil
		at := due
		if q.freed {
			at = ln.now()
			if q.yielding {
				at = q.notBefore
			}
		}
		rest := at - ln.now()
		if ready && rest <= 0 {
			freed, q.freed = q.freed, false
			ln.mu.Unlock()
			return nil, freed, nil
		}
		ln.mu.Unlock()

		var expired <-chan time.Time
		stop := func() bool { return false }
		if ready {
			t := ln.opt.clock.NewTimer(rest)
			expired, stop = t.C(), t.Stop
		}
		select {
		case <-expired:
		case <-w.wake:
		case <-ctx.Done():
			err = ctx.Err()
		case <-ln.tasks.closing:
			err = ErrClosed
		}
		stop()
		if err != nil {
			return nil, false, err
		}
	}
}

// before reports whether another goroutine of this process is before w, and which tenure then holds the lock: a record
// with the key alone if that is not known yet.
func (ln *line) before(w *waiter) (by *Record, behind bool) {
	ln.mu.Lock()
	holder, first := ln.holders[w.key], ln.queues[w.key].waiting.Front() == w.place
	ln.mu.Unlock()
	watched, seen := ln.sightings.of(w.key)
	switch {
	case holder != nil:
		return holder.record(), true
	case first:
		return nil, false
	case seen:
		return &watched.record, true
	}
	return &Record{Key: w.key}, true
}

// waiters is how many other processes wait for key, as far as is known: as many as had a turn since this process had
// its last one. The goroutines of this process do not count.
func (ln *line) waiters(key string) int {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if q := ln.queues[key]; q != nil && q.seen > q.turn {
		return int(min(q.seen-q.turn, 1000))
	}
	return 0
}

// holds notes a tenure that has begun, and what its item says.
func (ln *line) holds(l *Lock, r *Record) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.holders[l.key] = l
	if q := ln.queues[l.key]; q != nil {
		now := ln.now()
		q.freed, q.yielding, q.trip = false, false, min(now-l.began.Mono, ln.opt.MaxPoll)
		if q.turn != r.turn { // it was not handed over
			q.turn, q.seen, q.waiters, q.streak, q.began, q.looked = r.turn, r.turn, r.Waiters, 0, now, now
		}
	}
}

// offerTo proposes the lock to the first local waiter. It reports false if there is none, or if it is the turn of other
// processes.
func (ln *line) offerTo(l *Lock, o *offer) bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	q := ln.queues[l.key]
	if q == nil || q.waiting.Len() == 0 || ln.holders[l.key] != l {
		return false
	}
	select {
	case <-ln.tasks.closing:
		return false
	default:
	}
	// A process that looked during this tenure looks again at most this long after it; one that looked earlier, by
	// q.looked.
	now := ln.now()
	q.looked = max(q.looked, now+ln.opt.pollBound(l.hold, now-l.began.Mono, q.waiters))
	pause := q.looked - now + 2*q.trip // for such a look, and the write that follows
	if q.streak++; q.streak > handOvers && now-q.began >= turnPauses*pause {
		q.yielding, q.pause = true, pause
		return false
	}
	o.waiters = q.waiters
	w := q.first()
	w.offer = o
	w.signal()
	return true
}

// vacate notes that a tenure is not in the way of the local waiters any more: it was released or lost, or is about to
// end with its lease.
func (ln *line) vacate(l *Lock, released bool) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.holders[l.key] != l {
		return
	}
	delete(ln.holders, l.key)
	q := ln.queues[l.key]
	switch {
	case q == nil:
	case q.waiting.Len() == 0:
		delete(ln.queues, l.key)
	default:
		q.freed, q.notBefore = released, ln.now()+q.pause
		q.wakeFirst()
	}
}
