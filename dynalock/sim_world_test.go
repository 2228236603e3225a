package dynalock_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

const (
	lockTable = "locks"
	dataTable = "registers"
	operator  = "ops"
)

// world is one schedule while it runs.
type world struct {
	t        *testing.T
	plan     *simPlan
	keys     []string // of all locks
	began    time.Time
	server   *dynalocktest.Server
	raw      *dynamodb.Client
	clients  []*simClient
	ctx      context.Context
	underway sync.WaitGroup // requests on the network

	mu       sync.Mutex // guards what follows; never held over a request
	history  history
	check    checker
	exporter exporter
	waiting  []*waitingCall
	hits     []string // names of the requests that a fault hit
	writes   int      // names the elements of the registers
	acked    map[string][]string
	refused  []string
}

// waitingCall is a call under way that asks for a lock, or one that has ended.
type waitingCall struct {
	client   *simClient
	key      string
	waits    bool // until it has the lock
	since    time.Duration
	over     time.Duration // 0: under way
	worked   time.Duration // when the function that it runs returned last; 0: never
	reported bool
	stopped  bool // that function failed after the end of its context

	asks    bool // it does other things first, and waits from its first write of the lock on
	asked   bool
	patient bool // it may wait for others to go first
	spaced  bool // it looks at its period first
	looked  bool
}

// callTag is the key under which the context of a request names its call.
type callTag struct{}

// simClient is one process.
type simClient struct {
	w         *world
	name      string
	plan      clientPlan
	clock     *simClock
	db        *dynamodb.Client
	lock      *dynalock.Client
	requests  map[site]int
	campaigns map[string]*campaign // by key and candidate
	closing   bool
	cuts      []partition   // that its plan tells, and the one that has begun with a request
	died      atomic.Bool   // with a request
	disturbed time.Duration // until when a fault may still be felt
	held      []*tenure
	answered  bool          // its lock requests have had an answer: it knows the server's time
	trip      time.Duration // of the quickest of them
	heard     time.Duration // when the last quick one came
}

// vague is how far its idea of the service's time may be off for what it has heard: half of what the quickest answer
// took, and what its clock has drifted since the last quick one.
func (c *simClient) vague(now time.Duration) time.Duration {
	return c.trip/2 + scale(now-c.heard, math.Abs(c.plan.Clock.Wall-1))
}

func (c *simClient) crashed() bool {
	return c.plan.Crash > 0 && c.w.now() >= c.plan.Crash || c.died.Load()
}

// disturb notes that a fault has hit the client; it may be felt until an attempt has timed out.
func (c *simClient) disturb() {
	c.disturbed = max(c.disturbed, c.w.now()+max(time.Second, c.w.plan.Lease))
}

// unreachable tells whether an answer reaches the client now.
func (c *simClient) unreachable(now time.Duration) fault {
	if c.crashed() {
		return dead
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	for _, p := range c.cuts {
		if p.At <= now && now < p.At+p.For {
			return cutOff
		}
	}
	return healthy
}

// result is what became of a schedule.
type result struct {
	violations []violation
	history    history
	hits       []string
	counts     counts
}

// simulate runs a schedule in a bubble of virtual time.
func simulate(t *testing.T, p *simPlan) (res result) {
	t.Helper()
	var w *world
	defer watchdog(t, p.Seed)()
	defer func() {
		if r := recover(); r != nil { // the bubble's: goroutines are left that nothing will wake
			w.check.fail(ruleBroken, "", "%v", r)
		}
		res = result{w.check.violations, w.history, w.hits, w.check.count}
	}()
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, p)
		w.run()
	})
	return res
}

func newWorld(t *testing.T, p *simPlan) *world {
	t.Helper()
	w := &world{t: t, plan: p, keys: p.keys(), began: time.Now(), ctx: t.Context(), acked: map[string][]string{}}
	w.check = checker{
		w: w, keys: map[string]*keyState{}, tenures: map[string]*tenure{}, sent: map[string]*sentWrite{},
		last: map[string][]string{}, freed: map[string]bool{}, jobs: map[string]*jobState{},
	}
	w.server = dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.OnRequest, o.History = w.observe, -1 })
	w.raw = w.server.ClientFor(operator)
	for _, table := range []string{lockTable, dataTable} {
		_, err := w.raw.CreateTable(w.ctx, &dynamodb.CreateTableInput{
			TableName: &table, BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{{
				AttributeName: aws.String("key"),
				AttributeType: types.ScalarAttributeTypeS,
			}},
			KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("key"), KeyType: types.KeyTypeHash}},
		})
		must(t, err)
	}
	for i, cp := range p.Clients {
		w.clients = append(w.clients, w.newClient("c"+strconv.Itoa(i), cp))
	}
	w.clients = append(w.clients, w.newClient(operator, p.Operator))
	return w
}

func (w *world) newClient(name string, cp clientPlan) *simClient {
	c := &simClient{
		w: w, name: name, plan: cp, clock: &simClock{cp.Clock, w.began}, requests: map[site]int{},
		campaigns: map[string]*campaign{}, cuts: cp.Partitions,
	}
	direct := w.server.ClientFor(name).Options()
	c.db = dynamodb.New(direct, func(o *dynamodb.Options) {
		o.HTTPClient = &simWire{w, c, direct.HTTPClient}
		o.Credentials = aws.AnonymousCredentials{} // signatures cost much and show nothing
	})
	var err error
	c.lock, err = dynalock.New(c.db, lockTable, dynalock.WithClock(c.clock), func(o *dynalock.Options) {
		o.Owner, o.Lease, o.Heartbeat, o.AttemptTimeout, o.SafetyMargin = name, w.plan.Lease, cp.Heartbeat, cp.Attempt,
			cp.Margin
		o.MinPoll, o.MaxPoll, o.MaxClockSkew = cp.MinPoll, cp.MaxPoll, w.plan.Skew
		if cp.Dynamolock {
			o.Dialect = dynalock.DialectDynamolock
		}
		o.Retention = cp.Retention
	})
	must(w.t, err)
	return c
}

// now is the real time since the schedule began.
func (w *world) now() time.Duration { return time.Since(w.began) }

func (w *world) note(who, key, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.add(w.now(), who, key, format, args...)
}

func (w *world) fail(rule, key, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.check.fail(rule, key, format, args...)
}

// run lets everybody act, and then ends it.
func (w *world) run() {
	ctx, cancel := context.WithTimeout(w.ctx, 3*w.plan.horizon())
	defer cancel()
	var actors sync.WaitGroup
	for _, c := range w.clients {
		for i, actions := range c.plan.Actors {
			actors.Go(func() { (&actor{w, c, fmt.Sprintf("%s.%d", c.name, i)}).run(ctx, actions) })
		}
		if c.plan.Close > 0 {
			actors.Go(func() {
				time.Sleep(c.plan.Close)
				w.close(c)
			})
		}
	}
	over := make(chan struct{})
	var monitor sync.WaitGroup
	if w.plan.Monitor > 0 {
		monitor.Go(func() { w.monitor(over) })
	}
	if w.plan.Gates > 0 {
		monitor.Go(func() { w.gates(over) })
	}
	actors.Wait()
	for _, c := range w.clients {
		actors.Go(func() { w.close(c) })
	}
	actors.Wait()
	if w.plan.Seed%16 == 0 { // it looks at all goroutines of the process, which costs
		w.leftOver()
	}
	close(over)
	monitor.Wait()
	w.underway.Wait() // late requests still arrive
	w.settle()
	w.export()
	w.server.Close()
}

// monitor looks at every lock now and then.
func (w *world) monitor(over <-chan struct{}) {
	tick := time.NewTicker(w.plan.Monitor)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.mu.Lock()
			for _, key := range w.keys {
				w.check.look(key)
			}
			w.mu.Unlock()
		case <-over:
			return
		}
	}
}

// close closes a client, within a time.
func (w *world) close(c *simClient) {
	ctx, cancel := context.WithTimeout(w.ctx, 2*w.plan.Lease)
	defer cancel()
	w.mu.Lock()
	first := !c.closing
	c.closing = true
	w.mu.Unlock()
	err := w.call(ctx, c, c.name, "", "Close", func(ctx context.Context) error { return c.lock.Close(ctx) })
	if err != nil && !errors.Is(err, dynalock.ErrStore) && !errors.Is(err, context.DeadlineExceeded) {
		w.fail(ruleErrors, "", "%s: Close: %v", c.name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range c.held { // one that reached its MaxHold is lost, whatever its release says
		if t.acked != nil && t.left(c.clock.Now()) <= 0 { // its release failed or was never sent, and its lease is over
			continue
		}
		if first && t.limit == 0 && err == nil && t.ended == "" && !errors.Is(t.lock.Err(), dynalock.ErrLost) &&
			!c.crashed() {
			w.check.fail(ruleNil, t.key, "%s: Close returned nil, but the item shows %s", c.name, w.check.key(t.key))
		}
	}
}

// leftOver looks for goroutines of the library after every client was closed.
func (w *world) leftOver() {
	synctest.Wait()
	own := make([]byte, 200)
	own = own[:runtime.Stack(own, false)]
	_, bubble, _ := strings.Cut(strings.SplitN(string(own), "]", 2)[0], "synctest bubble ")
	all := make([]byte, 1<<20)
	n := runtime.Stack(all, true)
	for ; n == len(all); n = runtime.Stack(all, true) {
		all = make([]byte, 2*n)
	}
	all = all[:n]
	for g := range strings.SplitSeq(string(all), "\n\n") {
		head, _, _ := strings.Cut(g, "\n")
		if strings.Contains(head, "synctest bubble "+bubble+"]") &&
			(strings.Contains(g, "dynalock/dynalock.(") || strings.Contains(g, "dynalock/heartbeat.(")) {
			w.fail(ruleBroken, "", "left after Close: %s", g)
		}
	}
}

// call makes a call and checks that it obeys its context.
func (w *world) call(
	ctx context.Context, c *simClient, who, key, what string, f func(ctx context.Context) error,
) error {
	w.note(who, key, "%s ...", what)
	begin := w.now()
	var ended atomic.Int64 // when ctx did
	stop := context.AfterFunc(ctx, func() { ended.Store(int64(max(w.now(), 1))) })
	err := f(ctx)
	stop()
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.add(now, who, key, "... %s after %v: %s", what, now-begin, outcomeText{err})
	w.exporter.called(who, key, what, begin, now, err)
	if end := time.Duration(ended.Load()); end > 0 && !c.crashed() {
		if call, ok := ctx.Value(callTag{}).(*waitingCall); ok {
			end = max(end, call.worked)
		}
		if late := now - end - c.clock.paused(end, now); late > 50*time.Millisecond {
			w.check.fail(ruleReturns, key, "%s: %s returned %v after its context's end", who, what, late)
		}
	}
	if key != "" {
		w.check.look(key)
	}
	return err
}

// outcomeText is an error in a few words.
type outcomeText struct{ err error }

func (o outcomeText) String() string {
	if o.err == nil {
		return "ok"
	}
	return strings.NewReplacer("operation error DynamoDB: ", "", "https response error ", "").Replace(o.err.Error())
}

// observe sees every request in the order in which the server applied them.
func (w *world) observe(r dynalocktest.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wr := range r.Writes {
		if wr.Table == lockTable {
			w.check.wrote(wr, r.Client)
		} else {
			w.check.stored(wr, r)
		}
	}
}

// send decides the fate of a request and takes note of it.
func (w *world) send(c *simClient, q *request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	k := &w.check
	if q.site == sitePoll && q.call != nil && q.call.spaced && !q.call.looked {
		q.site = sitePeriod
	}
	if call := q.call; call != nil {
		call.looked = true
		if call.asks && !call.asked && call.over == 0 && q.site.begins() {
			// an attempt may begin when its call has just ended
			call.asked, call.since = true, now
			if call.waits {
				w.waiting = append(w.waiting, call)
			}
		}
	}
	q.fate = w.plan.fate(c.name, q.site, c.requests[q.site])
	if c.plan.CutSite == q.site && c.requests[q.site] == c.plan.CutNth {
		cut := c.plan.Cut
		cut.At = now
		c.cuts = append(slices.Clip(c.cuts), cut)
	}
	for _, p := range c.cuts {
		if p.At <= now && now < p.At+p.For && !p.Answers {
			q.fate.fault = cutOff
		}
	}
	if c.plan.CrashSite == q.site && c.requests[q.site] == c.plan.CrashNth && !c.crashed() {
		c.died.Store(true)
		w.history.add(now, c.name, "", "crashes, its last request was sent: %v", c.plan.CrashSent)
		if q.fate.fault = dead; c.plan.CrashSent {
			q.fate.fault = lostAnswer
			k.count.meet(q.site, dead, 1)
		}
	} else if c.crashed() {
		q.fate.fault = dead
	}
	c.requests[q.site]++
	k.count.Requests++
	if f := q.fate.fault; f != healthy {
		if f != dead && f != cutOff {
			w.hits = append(w.hits, q.fate.name)
		}
		k.count.meet(q.site, f, 1)
		c.disturb()
	}
	if t := k.tenures[idOf(cmp.Or(q.version, first(q.seen)))]; q.site.ends() && t != nil && t.working != nil &&
		!c.crashed() {
		k.fail(ruleFunction, q.key, "%s %s while the function under it runs", q.site, t.id)
	}
	if s := k.sent[q.version]; s != nil {
		s.last = now
	}
	if q.version != "" && k.sent[q.version] == nil {
		k.sent[q.version] = &sentWrite{request: *q, client: c, at: now, last: now, informed: c.answered, vague: c.vague(now)}
		t := k.tenure(idOf(q.version), q.key, c)
		t.call = cmp.Or(t.call, q.call)
		t.givenBack = t.givenBack || q.site.ends() || q.site == siteCleanUp
		if q.site.begins() {
			t.pending++
		}
	}
	admits := ""
	if q.site.begins() && len(q.seen) > 0 {
		admits = " over " + strings.Join(q.seen, ", ")
	}
	switch f := q.fate.fault; f {
	case healthy:
		w.history.add(now, c.name, q.key, "%s %s%s", q.site, q.version, admits)
	case lateRequest, lateAnswer:
		w.history.add(now, c.name, q.key, "%s %s%s [%s, %v and %v]", q.site, q.version, admits, f, q.fate.there, q.fate.back)
	case duplicated:
		w.history.add(now, c.name, q.key, "%s %s%s [%s after %v]", q.site, q.version, admits, f, q.fate.again)
	default:
		w.history.add(now, c.name, q.key, "%s %s%s [%s]", q.site, q.version, admits, f)
	}
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// answered takes note of an answer that reaches its client.
func (w *world) answered(c *simClient, q *request, a *http.Response) {
	body, err := io.ReadAll(a.Body)
	if err != nil {
		w.t.Errorf("the answer: %v", err)
	}
	a.Body = io.NopCloser(bytes.NewReader(body))
	w.mu.Lock()
	defer w.mu.Unlock()
	if q.fate.fault != estranged && q.site != siteList && q.site != siteRuns && q.site != siteApp {
		trip := q.fate.there + q.fate.back
		if !c.answered || trip < c.trip {
			c.answered, c.trip = true, trip
		}
		if trip < time.Second {
			c.heard = w.now()
		}
	}
	switch {
	case a.StatusCode == http.StatusOK && q.version != "":
		w.check.acknowledged(q.version)
	case a.StatusCode == http.StatusOK && q.site == sitePoll:
		var look struct {
			Item map[string]wireValue
		}
		if json.Unmarshal(body, &look) == nil {
			if t := w.check.tenures[idOf(look.Item["recordVersionNumber"].S)]; t != nil && t.call == q.call {
				t.read = true
			}
		}
	case a.StatusCode == http.StatusBadRequest:
		var refusal struct {
			Item map[string]wireValue
		}
		if json.Unmarshal(body, &refusal) == nil {
			if v := refusal.Item["recordVersionNumber"].S; v != "" && idOf(v) == idOf(q.version) {
				w.check.acknowledged(v)
			} else if q.site.begins() {
				w.check.tenures[idOf(q.version)].pending--
			}
		}
		w.history.add(w.now(), c.name, q.key, "  %s %s: refused by %s", q.site, q.version,
			refusal.Item["recordVersionNumber"].S)
	}
}

// lost takes note of an answer that does not reach its client, which is cut off or has crashed.
func (w *world) lost(c *simClient, q *request, f fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.disturb()
	w.check.count.meet(q.site, f, 1)
	w.history.add(w.now(), c.name, q.key, "  %s %s: answer lost, %s", q.site, q.version, f)
}

// staleAnswer is what an eventually consistent read may show: the item as it was a moment ago.
func (w *world) staleAnswer(q *request) *http.Response {
	w.mu.Lock()
	defer w.mu.Unlock()
	past := w.check.key(q.key).past
	if len(past) == 0 || w.now()-past[len(past)-1].until > w.plan.Lease {
		return nil
	}
	it := past[int(q.fate.there)%len(past)].item
	body := map[string]any{}
	if it != nil {
		attrs := map[string]any{}
		for name, v := range it {
			switch v := v.(type) {
			case *types.AttributeValueMemberS:
				attrs[name] = map[string]any{"S": v.Value}
			case *types.AttributeValueMemberN:
				attrs[name] = map[string]any{"N": v.Value}
			case *types.AttributeValueMemberB:
				attrs[name] = map[string]any{"B": v.Value}
			}
		}
		body["Item"] = attrs
	}
	b, err := json.Marshal(body)
	if err != nil {
		return nil
	}
	return response(http.StatusOK, b)
}
