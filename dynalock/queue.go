package dynalock

import (
	"context"
	"slices"
	"time"
)

// queue is the line of goroutines of this process that wait for one key. To DynamoDB they are one waiter: only the
// first looks at the table, and while this process itself holds the lock nobody does.
type queue struct {
	waiting   []*waiter
	streak    int    // hand-overs since other processes last had a chance
	limit     int    // how many of those there may be
	lastToken uint64 // of the tenure that ended the last streak
	yielding  bool   // the streak has ended: the first waits until notBefore, to give other processes that chance
	notBefore time.Duration
	freed     bool // the local holder gave the lock back: the next step is a write, not a look
}

// waiter is one place in the line.
type waiter struct {
	key       string
	candidate string        // in an election
	wake      chan struct{} // something changed: look again
	offer     *offer        // guarded by Client.mu
}

// offer is a releasing holder's proposal to hand the lock over in one write.
type offer struct {
	versions []string      // what the item's version may be
	hold     time.Duration // the new average
	dialect  Dialect       // of the item
	made     int64         // stamp that the new tenure must not be before
	done     chan verdict  // cap 1: what became of the first write of the new tenure
}

// Hand-over within a process costs one request in place of two and needs no poll, but other processes wait too.
// After handoverLimit tenures the lock is released for everybody; when nobody else took it in the meantime (the
// tokens have no gap) the limit doubles.
const (
	handoverLimit    = 16
	maxHandoverLimit = 1024
)

func (w *waiter) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// enqueue takes a place in the line.
func (c *Client) enqueue(key, candidate string) *waiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[key]
	if q == nil {
		q = &queue{limit: handoverLimit}
		c.queues[key] = q
	}
	w := &waiter{key: key, candidate: candidate, wake: make(chan struct{}, 1)}
	q.waiting = append(q.waiting, w)
	return w
}

// promote puts the candidate first to whom a leader hands over, if it waits in this line: only the first one looks.
func (c *Client) promote(key, candidate string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[key]
	if q == nil {
		return
	}
	if i := slices.IndexFunc(q.waiting, func(w *waiter) bool { return w.candidate == candidate }); i > 0 {
		w := q.waiting[i]
		q.waiting = slices.Insert(slices.Delete(q.waiting, i, i+1), 0, w)
		w.signal()
	}
}

// leave gives the place up and declines an offer that was not looked at.
func (c *Client) leave(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[w.key]
	q.waiting = slices.DeleteFunc(q.waiting, func(x *waiter) bool { return x == w })
	if w.offer != nil {
		w.offer.done <- declined
		w.offer = nil
	}
	if len(q.waiting) > 0 {
		q.waiting[0].signal()
	} else if c.holders[w.key] == nil {
		delete(c.queues, w.key)
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
		ready := q.waiting[0] == w && c.holders[w.key] == nil
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

// waiters is how many goroutines of this process wait for key.
func (c *Client) waiters(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q := c.queues[key]; q != nil {
		return len(q.waiting)
	}
	return 0
}

// holds notes a tenure that has begun.
func (c *Client) holds(l *Lock) {
	c.service.saw(l.key, l.token, l.id, l.made)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tenures[l] = struct{}{}
	c.holders[l.key] = l
	if q := c.queues[l.key]; q != nil {
		q.freed = false
		if q.yielding { // others had their chance: did they use it?
			q.yielding = false
			if l.token == q.lastToken+1 {
				q.limit = min(2*q.limit, maxHandoverLimit)
			} else {
				q.limit = handoverLimit
			}
		}
	}
	delete(c.watches, l.key)
}

// offerTo proposes the lock to the first local waiter; nil when there is none, or when it is the turn of others.
func (c *Client) offerTo(l *Lock, o *offer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[l.key]
	if q == nil || len(q.waiting) == 0 || c.holders[l.key] != l {
		return false
	}
	select {
	case <-c.closing:
		return false
	default:
	}
	if q.streak++; q.streak > q.limit { // for as long as others may wait between two looks, and their requests take
		q.streak, q.lastToken = 0, l.token
		q.yielding, q.notBefore = true, c.now()+2*c.pollBound(l.hold, 0, len(q.waiting))
		return false
	}
	q.waiting[0].offer = o
	q.waiting[0].signal()
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
	case len(q.waiting) == 0:
		delete(c.queues, l.key)
	default:
		q.freed = released
		q.waiting[0].signal()
	}
}

// forget drops the bookkeeping of a tenure that is over for good. Bookkeeping is by tenure: a successor of the same
// key is not touched.
func (c *Client) forget(l *Lock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tenures, l)
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
