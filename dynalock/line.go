package dynalock

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// queue is the line of goroutines of this process that wait for one key. To DynamoDB they are one waiter: only the
// first looks at the table, and while this process itself holds the lock nobody does.
//
// A process has the lock for a turn: from the tenure that found it free, over those that its goroutines hand to one
// another, to the release for everybody. The item counts the turns of all processes.
type queue struct {
	waiting list.List            // of *waiter; the first looks
	choosy  map[*waiter]struct{} // those whose kind may be named as the next holder

	turn    uint64 // of this process, the latest; before there was one, the turn that it saw first
	seen    uint64 // the latest turn of anybody
	waiters int    // how many other processes wait, as the item of this turn says

	streak int           // hand-overs of this turn
	began  time.Duration // when it did
	looked time.Duration // by when each other process that waits has sent another look
	trip   time.Duration // how long the last request took that began a tenure

	yielding  bool          // the turn is over: the first waits until notBefore, to give other processes a chance
	pause     time.Duration // how long they need for it
	notBefore time.Duration
	freed     bool // the local holder gave the lock back: the next step is a write, not a look
}

// line is the queues of a client, and which keys it holds.
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

// waits tells whether a call waits for the key, or has while it is held here.
func (ln *line) waits(key string) bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return ln.queues[key] != nil
}

// holder is the tenure of this client that holds the key; nil: none does.
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

// offer is a releasing holder's proposal to hand the lock over in one write.
type offer struct {
	versions []string      // what the item's version may be
	hold     time.Duration // the new average
	waiters  int           // other processes that wait
	dialect  Dialect       // of the item
	stamp    int64         // the latest that the row may have: the write is stamped no earlier
	made     int64         // the latest of the requests for the tenure so far: what ends the new one is stamped later
	done     chan verdict  // cap 1: what became of the first write of the new tenure
}

// Hand-over within a process costs one request in place of two and needs no poll, but other processes wait too, and
// nothing in the item says so. A turn ends after handOvers of them, but not before it has lasted turnPauses times as
// long as the others then need to find the lock free: a process that is alone idles for a thirtieth of the time, and
// one that comes waits for no more than such a turn.
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

// first is who looks, nil in an empty line.
func (q *queue) first() *waiter {
	if e := q.waiting.Front(); e != nil {
		return e.Value.(*waiter) //nolint:forcetypeassert // nothing else is in the list
	}
	return nil
}

// wakeFirst has whoever is first see what has changed.
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

// promote puts the waiter first to whom the holder means to hand over, if it waits in this line: only the first looks.
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

// leave gives the place up and declines an offer that was not looked at.
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

// await blocks until this waiter is to do something: take up an offer (returned), or look at the table, because it
// is the first in line, no tenure of this process is in the way and its due time has come. freed says that the
// local holder has just given the lock back.
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

// before tells whether somebody of this process is before w, and who holds the lock then: a record of the key alone
// where that is not known yet.
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

// waiters is how many other processes wait for key, as far as is known: those that had a turn since this one had its
// last. The goroutines of this one are no matter of theirs.
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

// offerTo proposes the lock to the first local waiter; false when there is none, or when it is the turn of others.
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
	// Who looked during this tenure looks again at most this long after it, who looked earlier by q.looked.
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

// vacate notes that a tenure is out of the way of the local waiters: released, lost, or about to end with its lease.
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
