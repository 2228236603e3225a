package dynalock

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/dynalock/dynalock/heartbeat"
)

// Client takes, keeps and releases locks in one table. It is safe for concurrent use; a process needs one per
// table and namespace. It runs a constant number of goroutines while it holds locks, however many, or may still try
// again to release some, and none otherwise.
type Client struct {
	db      DynamoDB
	table   string
	opt     Options
	sched   *heartbeat.Scheduler
	service serviceClock
	known   service

	credentials aws.CredentialsProvider // of the SDK's client; nil: it finds them itself

	ctx  context.Context // of work in the background; ends with Close
	stop context.CancelCauseFunc

	mu       sync.Mutex       // guards what follows; never held over I/O or a wait
	closing  chan struct{}    // closed when Close begins
	tasks    int              // calls and goroutines that Close waits for
	idle     chan struct{}    // closed when closing and tasks has come to 0
	tenures  map[string]*Lock // by acquisition id, not by key: two tenures of one key are two locks
	holders  map[string]*Lock // by key: the latest tenure of this client, for local hand-over
	queues   map[string]*queue
	watches  map[string]watch
	duties   map[*duty]struct{}      // functions that Close waits for
	undone   map[*Lock]time.Duration // tenures whose release failed, and when their leases are over
	tidying  bool                    // a goroutine waits for that
	isClosed chan struct{}           // Close is done
}

// New makes a client for a table. It does no I/O. A bad option is an error that names every bad field and matches
// [ErrInvalid].
func New(db DynamoDB, table string, optFns ...func(*Options)) (*Client, error) {
	var o Options
	apply(&o, optFns)
	var errs []error
	if client, ok := db.(*dynamodb.Client); db == nil || ok && client == nil {
		errs = append(errs, errors.New("db is nil, allowed: a DynamoDB client"))
	}
	if table == "" {
		errs = append(errs, errors.New("table is empty, allowed: the name or ARN of a table"))
	}
	if err := o.validate(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 1 && errors.Is(errs[0], ErrInvalid) {
		return nil, errs[0]
	}
	if err := invalid(errs); err != nil {
		return nil, err
	}
	if o.Owner == "" {
		o.Owner = defaultOwner()
	}
	c := &Client{
		db: db, table: table, opt: o,
		credentials: credentialsOf(db),
		sched:       heartbeat.New(func(h *heartbeat.Options) { h.Clock = o.clock }),
		closing:     make(chan struct{}),
		idle:        make(chan struct{}),
		isClosed:    make(chan struct{}),
		tenures:     map[string]*Lock{},
		holders:     map[string]*Lock{},
		queues:      map[string]*queue{},
		watches:     map[string]watch{},
		duties:      map[*duty]struct{}{},
		undone:      map[*Lock]time.Duration{},
	}
	c.ctx, c.stop = context.WithCancelCause(context.Background())
	return c, nil
}

// defaultOwner is host/pid/random.
func defaultOwner() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "unknown-host"
	}
	var b [3]byte
	rand.Read(b[:]) //nolint:errcheck // never fails: it aborts the process
	return fmt.Sprintf("%.200s/%d/%s", host, os.Getpid(), hex.EncodeToString(b[:]))
}

// Options are the client's options with their defaults filled in.
func (c *Client) Options() Options { return c.opt }

// Table is the name of the client's table.
func (c *Client) Table() string { return c.table }

// now is the client's monotonic clock, the only one that a waiter trusts.
func (c *Client) now() time.Duration { return c.opt.clock.Now().Mono }

// enter begins a call that Close waits for; false when the client is closing.
func (c *Client) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closing:
		return false
	default:
		c.tasks++
		return true
	}
}

// exit ends a call or a goroutine that Close waits for.
func (c *Client) exit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tasks--
	select {
	case <-c.closing:
		if c.tasks == 0 {
			close(c.idle)
		}
	default:
	}
}

// background runs f in a goroutine that Close joins, on a context with the values of ctx that ends with the client.
// It reports false, and does nothing, when the client is closed.
func (c *Client) background(ctx context.Context, f func(ctx context.Context)) bool {
	return c.sheltered(ctx, f, nil)
}

// sheltered is background for code of the caller: failed is told of its panics.
func (c *Client) sheltered(ctx context.Context, f func(ctx context.Context), failed func(*PanicError)) bool {
	return c.spawn(func() {
		ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		defer cancel(nil)
		defer context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })()
		f(ctx)
	}, failed)
}

// spawn runs f in a goroutine that Close joins; see shelter for failed. It reports false, and does nothing, when the
// client is closed.
func (c *Client) spawn(f func(), failed func(*PanicError)) bool {
	f = c.shelter(f, failed)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spawnLocked(f)
}

// spawnLocked is spawn for a caller that has c.mu.
func (c *Client) spawnLocked(f func()) bool {
	select {
	case <-c.idle:
		return false
	case <-c.ctx.Done(): // Close has given up
		return false
	default:
	}
	c.tasks++
	go func() {
		defer c.exit()
		f()
	}()
	return true
}

// heed makes a request for a caller, who gets the end of ctx for an answer where the store does not heed it: a
// wrapper that sleeps, for one. The request also ends with the client, and when stop, which may be nil, is closed. A
// panic of the store's goes on here.
func (c *Client) heed(ctx context.Context, stop <-chan struct{}, request func(ctx context.Context) answer) answer {
	done := make(chan answer, 1)
	bound, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !c.spawn(func() {
		defer context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })()
		done <- request(bound)
	}, func(p *PanicError) { done <- answer{err: p, crash: p} }) {
		return request(ctx) // a closed client still reads
	}
	select {
	case a := <-done:
		a.crash.raise()
		return a
	case <-ctx.Done():
	case <-stop:
		cancel(ErrClosed)
	}
	grace := time.NewTimer(closeGrace / 2) // one that heeds it says more
	defer grace.Stop()
	select {
	case a := <-done:
		a.crash.raise()
		return a
	case <-grace.C:
		return answer{verdict: inDoubt, err: bound.Err(), got: c.opt.clock.Now()}
	}
}

// Get reads one record, strongly consistent: one read unit. A key that was never locked is Record{State: Free}, an
// item that is no lock is Record{State: Foreign}; neither is an error. Errors match ErrInvalid, ErrStore or ctx.Err().
func (c *Client) Get(ctx context.Context, key string) (Record, error) {
	if err := invalid(c.checkKey(key)); err != nil {
		return Record{}, err
	}
	a := c.look(ctx, key, true)
	if a.err != nil {
		return Record{}, c.storeError("get", key, a.err)
	}
	return c.decode(key, a.item), nil
}

// patience bounds a request that is not part of keeping a lock.
func (c *Client) patience() time.Duration { return max(10*time.Second, c.opt.AttemptTimeout) }

// look reads an item for a caller. A read that fails is repeated, twice at most and within the patience.
func (c *Client) look(ctx context.Context, key string, consistent bool) answer {
	patient, cancel := context.WithTimeout(ctx, c.patience())
	defer cancel()
	for n := 1; ; n++ {
		a := c.heed(patient, nil, func(ctx context.Context) answer { return c.read(ctx, c.patience(), key, consistent) })
		if a.verdict == applied || a.verdict == fatal || n == 3 || c.sleep(patient, backoff(n)) != nil {
			return a
		}
	}
}

// ask makes one attempt of an update for a caller.
func (c *Client) ask(ctx context.Context, key string, w *write) answer {
	in := c.updateInput(key, w)
	return c.heed(ctx, nil, func(ctx context.Context) answer { return c.update(ctx, c.patience(), key, in) })
}

// Records yields every record of the table, or of the namespace where the client has one, page by page: a scan of
// the whole table, strongly consistent. It ends after the first error, which matches ErrStore or ctx.Err().
func (c *Client) Records(ctx context.Context) iter.Seq2[Record, error] { return c.scan(ctx, "") }

// scan yields the records whose key begins with prefix.
func (c *Client) scan(ctx context.Context, prefix string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		in := c.scanInput(prefix)
		for {
			var out *dynamodb.ScanOutput
			a := c.heed(ctx, nil, func(ctx context.Context) (a answer) {
				if out, a.err = c.db.Scan(ctx, in); a.err == nil && isStranger(out.ResultMetadata) {
					a.err = errStranger
				} else if a.err == nil {
					c.known.serves(opScan)
				}
				return a
			})
			if a.err != nil {
				yield(Record{}, c.storeError("list", "", a.err))
				return
			}
			for _, it := range out.Items {
				p := parser{it: it}
				key := p.str(c.opt.PartitionKey)
				if !yield(c.decode(strings.TrimPrefix(key, c.opt.Namespace), it), nil) {
					return
				}
			}
			if len(out.LastEvaluatedKey) == 0 {
				return
			}
			in.ExclusiveStartKey = out.LastEvaluatedKey
		}
	}
}

// scanInput asks for the items of this client's namespace and sort value.
func (c *Client) scanInput(prefix string) *dynamodb.ScanInput {
	consistent := true
	in := &dynamodb.ScanInput{TableName: &c.table, ConsistentRead: &consistent}
	prefix = c.opt.Namespace + prefix
	var conds []string
	if prefix != "" {
		conds = append(conds, "begins_with(#key, :prefix)")
	}
	if c.opt.SortKey != "" {
		conds = append(conds, "#sort = :sort")
	}
	if len(conds) == 0 {
		return in
	}
	w := write{cond: strings.Join(conds, " AND "), values: item{":prefix": str(prefix), ":sort": str(c.opt.SortValue)}}
	in.FilterExpression = &w.cond
	in.ExpressionAttributeNames, in.ExpressionAttributeValues = w.placeholders(c.opt.PartitionKey, c.opt.SortKey)
	return in
}

// ForceRelease frees exactly the tenure seen in r, whoever holds it: for operators, after they made sure that the
// holder is dead or may be overruled. A live holder learns of it at its next heartbeat at the latest, one of this
// client at once, and its guarded writes ([Lock.ConditionCheck]) are refused from now on.
//
// The condition is the tenure, not the version, which a live holder bumps with every heartbeat; for a row of
// another library, which has no acquisition id, it is the owner and the version. Where the lock has changed hands
// or was released since, the error matches [ErrChanged]; a foreign item is [ErrForeign], a record that shows no
// tenure [ErrInvalid]. Other errors match ErrStore or ctx.Err(): then the lock may have been freed, or be freed yet.
func (c *Client) ForceRelease(ctx context.Context, r Record) error {
	switch {
	case r.State == Foreign:
		return &ForeignError{Key: r.Key, Problem: r.Problem}
	case r.State != Held || r.Version == "":
		return invalid([]error{fmt.Errorf("record of %q is %v, allowed: held, as Get or Records gave it", r.Key, r.State)})
	}
	if err := invalid(c.checkKey(r.Key)); err != nil {
		return err
	}
	id := newID()
	w := &write{update: updRelease + setBy, values: item{
		":next": str(versionOf(id, 1)), ":by": str(c.opt.Owner),
		":now": num(c.service.stamp(r.Key, c.opt.clock.Now().Wall, r.stamp()+1)),
	}}
	if seen := r.id(); seen != "" {
		w.cond, w.values[":id"] = condTenure, str(seen+"-")
	} else {
		w.cond = condForeignTenure + condSameOwner
		if r.Owner == "" {
			w.cond = condForeignTenure + condNoOwner
		}
		w.values[":seenOwner"], w.values[":seen0"] = str(r.Owner), str(r.Version)
	}
	if !lasting(&r) {
		c.retain(w, 0)
	}
	w.update += updReleaseRemove
	err := c.persist(ctx, func() (bool, error) {
		a := c.ask(ctx, r.Key, w)
		switch a.verdict {
		case applied:
			return true, nil
		case refused:
			now := c.decode(r.Key, a.item)
			if now.id() == id { // an attempt whose answer was lost
				return true, nil
			}
			if now.State == Held {
				return true, fmt.Errorf("%w: %q is held by %q", ErrChanged, r.Key, now.Owner)
			}
			return true, fmt.Errorf("%w: %q is %v", ErrChanged, r.Key, now.State)
		}
		return a.verdict == fatal, c.storeError("force release", r.Key, a.err)
	})
	if err == nil {
		if own := c.tenure(r.id()); own != nil { // local waiters need not wait for its heartbeat, or its deadline
			_ = own.revoke(fmt.Errorf("%w: it was freed by an operator", heartbeat.ErrGone), nil)
		}
		c.opt.Logger.WarnContext(ctx, "lock freed by an operator", "key", r.Key, "owner", c.opt.Owner, "heldBy", r.Owner, "heldByToken", r.Token)
	}
	return err
}

// retain gives a released item its TTL: keep, or the retention of the client where one is asked for.
func (c *Client) retain(w *write, keep time.Duration) {
	if keep = cmp.Or(keep, c.opt.Retention); keep > 0 {
		w.update += setTTL
		w.values[":ttl"] = num(c.ttl(keep))
	}
}

// ttl is when DynamoDB may delete an item that is to stay for keep, in unix seconds of its own time.
func (c *Client) ttl(keep time.Duration) int64 {
	return c.service.millis(c.opt.clock.Now().Wall)/1000 + int64(keep/time.Second)
}

// persist repeats an operation, at most 5 times, until it is done or ctx ends.
func (c *Client) persist(ctx context.Context, op func() (done bool, err error)) error {
	for n := 1; ; n++ {
		done, err := op()
		if done || n == 5 {
			return err
		}
		if e := c.sleep(ctx, backoff(n)); e != nil {
			return fmt.Errorf("%w: %w", e, err)
		}
	}
}

// sleep waits on the client's clock; the end of ctx ends it with its error.
func (c *Client) sleep(ctx context.Context, d time.Duration) error { return c.sleepOr(ctx, d, nil) }

// rest is a sleep that the beginning of Close ends, too, with ErrClosed.
func (c *Client) rest(ctx context.Context, d time.Duration) error {
	return c.sleepOr(ctx, d, c.closing)
}

func (c *Client) sleepOr(ctx context.Context, d time.Duration, closing <-chan struct{}) error {
	t := c.opt.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-closing:
		return ErrClosed
	}
}

// Close stops the waiters (their calls return [ErrClosed]), tells the functions of [Client.Do], [Client.Once] and
// [Election.Run] to stop (the cause of their contexts is ErrClosed) and waits for them, releases every lock that is
// held, all of them even when some fail, and joins every goroutine of the client. A lock that is held while such a
// function runs, its own and what it acquired with its context, is kept until the function has returned, and then
// released.
//
// The error joins what could not be done before ctx ended, of many the first few and a count: a lock that could not be
// released, and a function that has not returned. Such a lock is not renewed any more and ends with its lease. A lock
// whose release failed before is tried again, unless its lease is over. A second Close waits for the first.
//
// A function that calls Close itself has to pass a context derived from its own: then Close does not wait for that
// function, or for those in which it was called in turn, and releases their locks at once. With any other context it
// waits for the very function that waits for it, until that context ends. Called so while another Close is under way
// and waits for the function, it does nothing and returns ErrClosed.
//
// An [Observer] must not call Close.
func (c *Client) Close(ctx context.Context) error {
	inside := c.dutyOf(ctx)
	c.mu.Lock()
	select {
	case <-c.closing:
		awaited := c.awaited(inside)
		c.mu.Unlock()
		if awaited {
			return fmt.Errorf("%w: another Close is under way and waits for the function that calls this one", ErrClosed)
		}
		select {
		case <-c.isClosed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	default:
	}
	close(c.closing)
	c.tasks++ // this call: until it is done, work in the background can begin
	defer c.excuse(inside)()
	duties := slices.Collect(maps.Keys(c.duties))
	tried := map[*Lock]bool{}
	held, _ := c.heldApart(tried)
	c.mu.Unlock()

	for _, d := range duties {
		d.cancel(ErrClosed)
	}
	late, done := linger(ctx, closeGrace*3/4) // the releases are sent, and a healthy store heard, also when ctx was over before
	defer done()
	errs := c.releaseAll(late, held)
	for _, d := range duties {
		select {
		case <-d.over:
			continue
		default:
		}
		select {
		case <-d.over:
		case <-late.Done():
			errs = append(errs, fmt.Errorf("dynalock: the function that holds %q has not returned: its lock ends with its lease", d.key))
		}
	}
	c.mu.Lock()
	rest, left := c.heldApart(tried)
	c.mu.Unlock()
	for _, l := range left { // released while its function runs, it could be another one's at the same time
		_ = l.revoke(ErrClosed, nil)
	}
	err := few(append(errs, c.releaseAll(late, rest)...))
	c.exit()
	go func() { // ends when everything is joined; requests obey their contexts
		<-c.idle
		c.sched.Close()
		c.stop(ErrClosed)
		close(c.isClosed)
	}()
	select {
	case <-c.isClosed:
		return err
	case <-late.Done():
	}
	c.stop(ErrClosed) // what is still under way gives up now
	grace := time.NewTimer(closeGrace / 4)
	defer grace.Stop()
	select {
	case <-c.isClosed:
		return errors.Join(err, ctx.Err())
	case <-grace.C:
	}
	c.mu.Lock()
	requests := c.tasks > len(c.duties)
	c.mu.Unlock()
	if requests {
		err = errors.Join(err, errors.New("dynalock: requests that ignore their context are still under way"))
	}
	return errors.Join(err, ctx.Err())
}

// heldApart are the tenures that Close may release and has not tried yet, and those that it must not release because a
// function runs under them. A tenure whose release failed and whose lease is over is neither. The caller has c.mu.
func (c *Client) heldApart(tried map[*Lock]bool) (held, busy []*Lock) {
	now := c.now()
	for _, l := range c.tenures {
		until, failed := c.undone[l]
		switch {
		case tried[l] || failed && until <= now:
		case c.awaited(c.dutyOf(l.ctx)):
			busy = append(busy, l)
		default:
			held, tried[l] = append(held, l), true
		}
	}
	return held, busy
}

// maxTold is how many errors of locks and functions Close tells one by one.
const maxTold = 10

// few joins errors, of many the first few and how many more there are.
func few(errs []error) error {
	if more := len(errs) - maxTold; more > 0 {
		errs = append(errs[:maxTold:maxTold], fmt.Errorf("dynalock: and %d more locks that were not released, or functions that have not returned", more))
	}
	return errors.Join(errs...)
}

// closeGrace is how long after the end of its context a call waits for what it has just cancelled or is about to hear.
const closeGrace = 40 * time.Millisecond

// linger makes a context that ends d after ctx does.
func linger(ctx context.Context, d time.Duration) (context.Context, func()) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, func() { cancel(ctx.Err()) }) })
	return late, func() {
		stop()
		cancel(nil)
	}
}

// releaseAll releases many locks, a bounded number at a time, until ctx ends.
func (c *Client) releaseAll(ctx context.Context, held []*Lock) []error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
		next = make(chan *Lock)
	)
	for range min(len(held), 64) {
		wg.Go(func() {
			for l := range next {
				err := context.Cause(ctx)
				if err == nil {
					r := l.startRelease()
					select {
					case <-r.done:
						err = r.err
					case <-ctx.Done():
						err = c.storeError("release", l.key, context.Cause(ctx))
					}
				} else { // no time is left: it is not renewed any more either
					l.end(ErrReleased)
					l.lease.End(ErrReleased)
					err = c.storeError("release", l.key, err)
					l.emit(l.ctx, Event{Kind: EventReleased, Err: err})
				}
				if err != nil && !errors.Is(err, ErrLost) {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, l := range held {
		next <- l
	}
	close(next)
	wg.Wait()
	return errs
}
