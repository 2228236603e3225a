package dynalock

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/heartbeat"
)

// WithClock gives a client clocks of its own.
func WithClock(c heartbeat.Clock) func(*Options) {
	return func(o *Options) { o.clock = c }
}

// CountByOne makes the counters of a client's versions those of a model.
func CountByOne(o *Options) { o.bump = func() uint64 { return 1 } }

// Watch has c see a version of a key, as a waiter in line or as TryAcquire does. ended, called a lease later, tells
// whether c takes its holder for dead, and leaves the line.
func Watch(c *Client, key string, waiting bool) (ended func() (dead bool)) {
	leave := func() {}
	if waiting {
		w := c.line.enqueue(key, plain{})
		leave = func() { c.line.leave(w) }
	}
	c.sightings.observe(&Record{Key: key, Version: "v", Lease: minLease}, c.now())
	return func() bool {
		defer leave()
		_, dead := c.sightings.dead(key)
		return dead
	}
}

// Watches is how many keys are watched.
func Watches(c *Client) int {
	c.sightings.mu.Lock()
	defer c.sightings.mu.Unlock()
	return len(c.sightings.watches)
}

// Waiting is how many goroutines of c wait for key.
func Waiting(c *Client, key string) int {
	c.line.mu.Lock()
	defer c.line.mu.Unlock()
	if q := c.line.queues[key]; q != nil {
		return q.waiting.Len()
	}
	return 0
}

// Tenures is how many tenures c keeps.
func Tenures(c *Client) int {
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	return len(c.roster.tenures)
}

// Tokens is of how many keys the largest token is remembered.
func Tokens(c *Client) int {
	c.store.service.mu.Lock()
	defer c.store.service.mu.Unlock()
	return len(c.store.service.keys)
}

// Tenure is what a lock knows of its tenure.
type Tenure struct {
	ID    string
	Sent  uint64 // counter of the last version sent
	Open  []uint64
	Token uint64
}

// What follows sends one write each, just as the library does, for a client that knows what the arguments say. What
// became of it is in the table.

// SendAcquire sends attempt n of an acquisition.
func SendAcquire(ctx context.Context, c *Client, key, id string, n uint64, admit []string) {
	a := &acquisition{
		c: c, key: key, kind: plain{}, ledger: ledger{id: id, last: n},
		row: row{dialect: c.opt.Dialect, admit: admit}, options: AcquireOptions{Lease: c.opt.Lease},
	}
	c.store.update(ctx, lease(c).attempt, c.store.updateInput(key, a.expressions(nil)))
}

// SendCleanUp sends the releases of an acquisition that gave up after attempt n.
func SendCleanUp(ctx context.Context, c *Client, key, id string, n uint64) {
	a := &acquisition{
		c: c, key: key, kind: plain{}, ledger: ledger{id: id, last: n, open: []entry{{n: n}}},
		timing: lease(c),
	}
	a.cleanUp(ctx)
}

// SendBeat sends a heartbeat.
func SendBeat(ctx context.Context, c *Client, key string, t Tenure) { t.lock(c, key).renew(ctx, nil) }

// SendRelease sends a release.
func SendRelease(ctx context.Context, c *Client, key string, t Tenure) {
	_ = t.lock(c, key).writeRelease(ctx, 0, nil)
}

// CheckOf is the condition check of a tenure.
func CheckOf(c *Client, key string, t Tenure) types.TransactWriteItem {
	return t.lock(c, key).ConditionCheck()
}

func (t Tenure) lock(c *Client, key string) *Lock {
	return &Lock{
		c: c, key: key, kind: plain{}, ledger: t.ledger(), token: t.Token, timing: lease(c), dialect: c.opt.Dialect,
		ctx: context.Background(), life: life{err: ErrReleased},
	}
}

func (t Tenure) ledger() ledger {
	g := ledger{id: t.ID, last: t.Sent}
	for _, n := range t.Open {
		g.open = append(g.open, entry{n: n})
	}
	return g
}

func lease(c *Client) timing {
	t, _ := c.opt.timing(c.opt.Lease)
	return t
}

// LocalWaiters is how many goroutines of a client wait for a key.
func LocalWaiters(c *Client, key string) int {
	c.line.mu.Lock()
	defer c.line.mu.Unlock()
	if q := c.line.queues[key]; q != nil {
		return q.waiting.Len()
	}
	return 0
}

// ForgetKeys has a client forget what it has seen of keys.
func ForgetKeys(c *Client) {
	c.store.service.mu.Lock()
	defer c.store.service.mu.Unlock()
	clear(c.store.service.keys)
}
