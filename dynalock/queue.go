package dynalock

import (
	"container/list"
	"context"
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

// waiter is one place in the line.
type waiter struct {
	key   string
	kind  kind
	wake  chan struct{} // something changed: look again
	place *list.Element // guarded, like offer, by Client.mu
	offer *offer
}

// offer is a releasing holder's proposal to hand the lock over in one write.
type offer struct {
	versions []string      // what the item's version may be
	hold     time.Duration // the new average
	waiters  int           // other processes that wait
	dialect  Dialect       // of the item
	made     int64         // stamp that the new tenure must not be before
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
func (c *Client) enqueue(key string, k kind) *waiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[key]
	if q == nil {
		q = &queue{began: c.now(), looked: c.now(), choosy: map[*waiter]struct{}{}}
		c.queues[key] = q
	}
	w := &waiter{key: key, kind: k, wake: make(chan struct{}, 1)}
	w.place = q.waiting.PushBack(w)
	if k != kind(plain{}) {
		q.choosy[w] = struct{}{}
	}
	return w
}

// promote puts the waiter first to whom the holder means to hand over, if it waits in this line: only the first looks.
func (c *Client) promote(key string, r *Record) {
	if r.extra == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[key]
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
func (c *Client) leave(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[w.key]
	wasFirst := q.first() == w
	q.waiting.Remove(w.place)
	delete(q.choosy, w)
	if w.offer != nil {
		w.offer.done <- declined
		w.offer = nil
	}
	switch {
	case q.waiting.Len() == 0 && c.holders[w.key] == nil:
		delete(c.queues, w.key)
	case wasFirst:
		q.wakeFirst()
	}
}

// await blocks until this waiter is to do something: take up an offer (returned), or look at the table, because it
// is the first in line, no tenure of this process is in the way and its due time has come. freed says that the
// local holder has just given the lock back.
func (c *Client) await(ctx context.Context, w *waiter, due time.Duration) (o *offer, freed bool, err error) {
	for {
		c.mu.Lock()
		q := c.queues[w.key]
		if o, w.offer = w.offer, nil; o != nil {
			c.mu.Unlock()
			return o, false, nil
		}
		ready := q.first() == w && c.holders[w.key] == nil
		at := due
		if q.freed {
			at = c.now()
			if q.yielding {
				at = q.notBefore
			}
		}
		rest := at - c.now()
		if ready && rest <= 0 {
			freed, q.freed = q.freed, false
			c.mu.Unlock()
			return nil, freed, nil
		}
		c.mu.Unlock()

		var expired <-chan time.Time
		stop := func() bool { return false }
		if ready {
			t := c.opt.clock.NewTimer(rest)
			expired, stop = t.C(), t.Stop
		}
		select {
		case <-expired:
		case <-w.wake:
		case <-ctx.Done():
			err = ctx.Err()
		case <-c.closing:
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
func (c *Client) before(w *waiter) (by *Record, behind bool) {
	c.mu.Lock()
	holder, first := c.holders[w.key], c.queues[w.key].waiting.Front() == w.place
	watched, seen := c.watches[w.key]
	c.mu.Unlock()
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
func (c *Client) waiters(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q := c.queues[key]; q != nil && q.seen > q.turn {
		return int(min(q.seen-q.turn, 1000))
	}
	return 0
}

// holds notes a tenure that has begun, and what its item says.
func (c *Client) holds(l *Lock, r *Record) {
	c.service.saw(l.key, l.token, l.id(), l.made)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tenures[l.id()] = l
	c.holders[l.key] = l
	if q := c.queues[l.key]; q != nil {
		now := c.now()
		q.freed, q.yielding, q.trip = false, false, min(now-l.began.Mono, c.opt.MaxPoll)
		if q.turn != r.turn { // it was not handed over
			q.turn, q.seen, q.waiters, q.streak, q.began, q.looked = r.turn, r.turn, r.Waiters, 0, now, now
		}
	}
	delete(c.watches, l.key)
}

// offerTo proposes the lock to the first local waiter; false when there is none, or when it is the turn of others.
func (c *Client) offerTo(l *Lock, o *offer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[l.key]
	if q == nil || q.waiting.Len() == 0 || c.holders[l.key] != l {
		return false
	}
	select {
	case <-c.closing:
		return false
	default:
	}
	// Who looked during this tenure looks again at most this long after it, who looked earlier by q.looked.
	now := c.now()
	q.looked = max(q.looked, now+c.pollBound(l.hold, now-l.began.Mono, q.waiters))
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
func (c *Client) vacate(l *Lock, released bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holders[l.key] != l {
		return
	}
	delete(c.holders, l.key)
	q := c.queues[l.key]
	switch {
	case q == nil:
	case q.waiting.Len() == 0:
		delete(c.queues, l.key)
	default:
		q.freed, q.notBefore = released, c.now()+q.pause
		q.wakeFirst()
	}
}

// forget drops the bookkeeping of a tenure that is over for good. Bookkeeping is by tenure: a successor of the same
// key is not touched.
func (c *Client) forget(l *Lock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tenures, l.id())
	delete(c.undone, l)
}

// outlast keeps a tenure whose release failed, for Close to try again, until its lease is over: then it is nobody's.
func (c *Client) outlast(l *Lock, until time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.tenures[l.id()] != l: // lost before
	case until <= c.now():
		delete(c.tenures, l.id())
	default:
		c.undone[l] = until
		if !c.tidying {
			c.tidying = c.spawnLocked(c.tidy)
		}
	}
}

// tidy drops the tenures whose release failed once their leases are over, a second late at most.
func (c *Client) tidy() {
	for {
		c.mu.Lock()
		now := c.now()
		wait := maxLease
		for l, until := range c.undone {
			if wait = min(wait, until-now); until <= now {
				delete(c.tenures, l.id())
				delete(c.undone, l)
			}
		}
		if len(c.undone) == 0 {
			c.tidying = false
		}
		more := c.tidying
		c.mu.Unlock()
		if !more || c.rest(c.ctx, max(wait, time.Second)) != nil {
			return
		}
	}
}

// watch is what is known of a lock that somebody else holds. It outlives the call that saw it, so that a process
// whose calls are shorter than a lease still takes a dead holder's lock.
type watch struct {
	record Record        // without its data
	since  time.Duration // the monotonic clock after the first answer with this version
	began  time.Duration // the same, with this tenure
	used   time.Duration
}

// maxWatches bounds the memory for locks that others hold and nobody waits for.
const maxWatches = 10_000

// observe notes an answer that shows r, and returns for how long the version has stood still since and for how long
// this tenure has been seen.
func (c *Client) observe(r *Record, got time.Duration) (still, tenure time.Duration) {
	c.service.saw(r.Key, r.Token, r.id(), r.stamp())
	c.mu.Lock()
	defer c.mu.Unlock()
	if q := c.queues[r.Key]; q != nil && r.turn > 0 {
		if q.seen = r.turn; q.turn == 0 {
			q.turn = r.turn
		}
	}
	w, ok := c.watches[r.Key]
	if !ok || w.record.tenure() != r.tenure() {
		w.began = got
	}
	if !ok || w.record.Version != r.Version {
		w.since = got
	}
	w.record, w.used = *r, got
	w.record.Data = nil
	if !ok && len(c.watches) >= maxWatches {
		c.evictWatch()
	}
	c.watches[r.Key] = w
	return got - w.since, got - w.began
}

// evictWatch drops the least recently used of a few, and never one that somebody waits with: many would take one
// another's, and none see a whole lease.
func (c *Client) evictWatch() {
	oldest, n := "", 0
	for key, w := range c.watches {
		if c.queues[key] == nil && (oldest == "" || w.used < c.watches[oldest].used) {
			oldest = key
		}
		if n++; n == 32 {
			break
		}
	}
	if oldest != "" {
		delete(c.watches, oldest)
	}
}

// dead returns what is known of key when its version has been watched standing still for the whole lease stored in
// the item: the lock may be taken over, on condition of that version.
func (c *Client) dead(key string) (watch, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, ok := c.watches[key]
	return w, ok && c.now()-w.since >= w.record.Lease
}
