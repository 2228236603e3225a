package dynalock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/model"
)

const (
	modelTick  = 10 * time.Second
	modelLease = modelTick * model.Lease / 100

	// modelDrift is how far into a tick the library's own backoff may move what the model does at its begin: less than
	// any age differs from what it is compared with.
	modelDrift = 150 * time.Millisecond
)

// The clients of a replay are the library's, their network and their clocks the model's: a request arrives, and its
// answer does, when the model says so, and a pause before an attempt or a look ends no earlier. After every step the
// requests that the library has sent, what is stored, who holds the lock, its token and what calls have returned are
// compared with the model's.

func TestTheLibraryGoesThePathsOfTheModel(t *testing.T) {
	t.Parallel()
	paths := 60
	if *modelFull {
		paths = 20_000
	}
	var went, steps int
	acts := map[model.Act]int{}
	for seed := range uint64(paths) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		m := &model.Model{Attempt: uint8(1 + rnd.IntN(3)), Faults: 2, Crashes: 1, Operators: 1, Guarded: true}
		for range 2 + rnd.IntN(2) {
			m.Rates = append(m.Rates, []uint8{90, 100, 110}[rnd.IntN(3)])
		}
		path := replayed(t, m, func(enabled []model.Step) (model.Step, bool) {
			return choose(rnd, enabled), true
		}, 80)
		if t.Failed() {
			t.Fatalf("seed %d, rates %v", seed, m.Rates)
		}
		went++
		steps += len(path)
		for _, step := range path {
			acts[step.Act]++
		}
	}
	t.Logf("%d paths of %d steps", went, steps)
	for act := model.Tick; act <= model.Overrule; act++ {
		check(t, acts[act] > 0, "no path had the act %d", act)
	}
}

func TestTheLibraryGoesThePathsThatBreakEveryMistakeAndBreaksNothing(t *testing.T) {
	t.Parallel()
	for _, mistake := range model.Mistakes() {
		r := mistake.Model.Search(0)
		if r.Violation == nil {
			t.Fatalf("%s: not found", mistake.Name)
		}
		sound := mistake.Model
		sound.Break = model.Sound
		n, most := 0, common(&sound, r.Path)
		path := replayed(t, &sound, func(enabled []model.Step) (model.Step, bool) {
			n++
			return r.Path[n-1], slices.Contains(enabled, r.Path[n-1])
		}, most)
		t.Logf("%s: %d of %d steps", mistake.Name, len(path), len(r.Path))
		check(t, len(path) == most, "%d steps, and without the mistake the model goes %d", len(path), most)
		check(t, most >= len(r.Path)-1,
			"without the mistake the model goes %d of %d steps, want all but the one that breaks a rule", most, len(r.Path))
		if t.Failed() {
			t.Fatal(mistake.Name)
		}
	}
}

// common is how many steps of a path a model goes before it disagrees: the next one it does not do, or it breaks a
// rule.
func common(m *model.Model, path []model.Step) int {
	s := m.Start()
	for n, step := range path {
		if !slices.Contains(m.Enabled(&s, nil), step) || m.Do(&s, step) != nil {
			return n
		}
	}
	return len(path)
}

// choose prefers what moves on.
func choose(rnd *rand.Rand, steps []model.Step) model.Step {
	weight := func(s model.Step) int {
		switch s.Act {
		case model.Arrive, model.Answer, model.Call:
			return 8
		case model.Tick, model.Retry, model.LookAgain:
			return 6
		case model.InDoubt, model.ArriveTwice, model.GuardedArrive, model.StrayArrives, model.Guard, model.Heartbeat:
			return 4
		case model.Crash, model.Overrule, model.GiveUp:
			return 1
		}
		return 2
	}
	total := 0
	for _, s := range steps {
		total += weight(s)
	}
	n := rnd.IntN(total)
	for _, s := range steps {
		if n -= weight(s); n < 0 {
			return s
		}
	}
	panic("unreachable")
}

// replay is a path under way.
type replay struct {
	t        *testing.T
	m        *model.Model
	s        model.State
	path     []model.Step
	began    time.Time
	ticks    int
	raw      *dynamodb.Client
	operator *dynalock.Client
	clients  []*replayClient
	ids      map[uint8]string // acquisition ids of the library, by those of the model
	base     uint64           // the token before the first, of what is there when the model has no item
	writes   int              // guarded ones that were applied
}

type replayClient struct {
	lock  *dynalock.Client
	clock *gatedClock
	next  aws.HTTPClient

	mu       sync.Mutex
	over     bool // requests fail from now on
	requests []*heldRequest

	cancel    context.CancelFunc // of the call under way
	acquired  chan outcome[*dynalock.Lock]
	done      chan error // of Renew or Release
	guarded   chan error
	guard     *dynalock.Lock // of that transaction
	held      *dynalock.Lock
	releasing int // for so many ticks
	guarding  int
}

type outcome[T any] struct {
	value T
	err   error
}

// heldRequest is a request on the network.
type heldRequest struct {
	request
	known  bool // to the model
	twice  bool // a clean-up that has arrived once
	reply  *http.Response
	answer chan *http.Response // nil: the connection breaks
}

// Do is the network: a request goes nowhere by itself.
func (c *replayClient) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	q := &heldRequest{request: describe(r.Context(), r, body), answer: make(chan *http.Response, 1)}
	c.mu.Lock()
	if c.over {
		q.answer <- nil
	} else {
		c.requests = append(c.requests, q)
	}
	c.mu.Unlock()
	select {
	case a := <-q.answer:
		if a == nil {
			return nil, &net.OpError{Op: "read", Net: "simulated", Err: syscall.ECONNRESET}
		}
		a.Request = r
		return a, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// find is the latest request that fits.
func (c *replayClient) find(fits func(q *heldRequest) bool) *heldRequest {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range slices.Backward(c.requests) {
		if fits(q) {
			return q
		}
	}
	return nil
}

func (c *replayClient) deliver(t *testing.T, q *heldRequest) {
	t.Helper()
	r := &http.Request{Method: http.MethodPost, Header: q.header, Body: io.NopCloser(bytes.NewReader(q.body))}
	a, err := c.next.Do(r)
	must(t, err)
	if q.reply == nil {
		q.reply = a
	}
}

// replayed goes a path, which next chooses, for so many steps at most, and returns it.
func replayed(t *testing.T, m *model.Model, next func(enabled []model.Step) (model.Step, bool), most int) []model.Step {
	t.Helper()
	var r *replay
	synctest.Test(t, func(t *testing.T) {
		r = newReplay(t, m)
		defer r.close()
		defer func() {
			if t.Failed() {
				t.Logf("rates %v\n%s", m.Rates, m.Trace(r.path))
			}
		}()
		for len(r.path) < most {
			enabled := slices.DeleteFunc(m.Enabled(&r.s, nil), func(s model.Step) bool { return !r.possible(s) })
			step, ok := next(enabled)
			if !ok {
				return
			}
			r.path = append(r.path, step)
			if !r.step(step) {
				r.path = r.path[:len(r.path)-1]
				return
			}
			if r.compare(); t.Failed() {
				return
			}
		}
	})
	return r.path
}

func newReplay(t *testing.T, m *model.Model) *replay {
	t.Helper()
	r := &replay{t: t, m: m, s: m.Start(), ids: map[uint8]string{}}
	srv := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.History = -1 })
	r.raw = srv.Client()
	for _, table := range []string{lockTable, dataTable} {
		must(t, dynalock.CreateTable(t.Context(), r.raw, table))
	}
	var err error
	r.operator, err = dynalock.New(r.raw, lockTable)
	must(t, err)
	l, err := r.operator.TryAcquire(t.Context(), "key") // where there is no item, tokens are made of time
	must(t, err)
	must(t, l.Release(t.Context()))
	r.base = l.Token()
	time.Sleep(time.Second)
	r.began = time.Now()
	for _, rate := range m.Rates {
		plan := clockPlan{Mono: float64(rate) / 100, Wall: float64(rate) / 100}
		c := &replayClient{clock: &gatedClock{simClock: simClock{plan, r.began}}, next: r.raw.Options().HTTPClient}
		db := dynamodb.New(r.raw.Options(), func(o *dynamodb.Options) { o.HTTPClient = c })
		c.lock, err = dynalock.New(db, lockTable, dynalock.WithClock(c.clock), dynalock.CountByOne,
			func(o *dynalock.Options) {
				o.Lease, o.AttemptTimeout = modelLease, modelLease*4/5-time.Second
				o.MinPoll, o.MaxPoll = time.Millisecond, time.Millisecond
			})
		must(t, err)
		r.clients = append(r.clients, c)
	}
	return r
}

// close ends what is under way. It may fail: nothing gets through any more.
func (r *replay) close() {
	var wg sync.WaitGroup
	for _, c := range r.clients {
		c.mu.Lock()
		c.over = true
		for _, q := range c.requests {
			select {
			case q.answer <- nil:
			default:
			}
		}
		c.mu.Unlock()
		if c.cancel != nil {
			c.cancel()
		}
		c.clock.free()
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = c.lock.Close(ctx)
		})
	}
	wg.Wait()
	must(r.t, r.operator.Close(context.Background()))
}

// possible leaves out what the library's own limits of time do not allow, and what a program cannot ask of it: to
// give a release up, or to repeat a clean-up at once.
func (r *replay) possible(step model.Step) bool {
	switch step.Act {
	case model.Tick:
		return !slices.ContainsFunc(r.clients, func(c *replayClient) bool { return c.releasing > 7 })
	case model.Drop:
		return r.s.Clients[step.Who].Phase == model.Holding
	case model.GuardedArrive:
		return r.clients[step.Who].guarding < 4
	case model.StrayArrives, model.StrayArrivesOld:
		_, q := r.stray(r.s.Stray[step.Who])
		return !q.twice && r.fits(q, r.s.Stray[step.Who], step.Act == model.StrayArrivesOld)
	case model.Arrive, model.ArriveTwice, model.ArriveOld:
		w := r.s.Clients[step.Who].Request.Write
		q := r.clients[step.Who].find(func(q *heldRequest) bool { return q.version == r.version(w.Version) })
		return r.fits(q, w, step.Act == model.ArriveOld)
	}
	return true
}

// fits tells whether a request is as old as a step takes it for, where that decides. The model's clocks are arbitrary,
// the library's stamps are what they are.
func (r *replay) fits(q *heldRequest, w model.Write, old bool) bool {
	if w.Kind != model.Acquire || !r.s.Item.Released || w.Admit == r.s.Item.Version || w.Used {
		return !old
	}
	return q.made < int64(stored(r.item(), "renewedAt")) == old
}

func stored(it map[string]types.AttributeValue, name string) uint64 {
	n, _ := strconv.ParseUint(text(it[name]), 10, 64) // 0 where it is not there
	return n
}

// step does what the model does; false: the library's backoff would take too long.
func (r *replay) step(step model.Step) bool {
	t, i := r.t, step.Who
	before := r.s
	time.Sleep(time.Millisecond) // stamps count milliseconds
	if v := r.m.Do(&r.s, step); v != nil {
		t.Errorf("the model: %v", v)
		return true
	}
	switch step.Act {
	case model.Tick:
		r.tick()
		return true
	case model.Overrule:
		seen, err := r.operator.Get(t.Context(), "key")
		must(t, err)
		must(t, r.operator.ForceRelease(t.Context(), seen))
		r.learn(r.s.Item.Version.ID, text(r.item()["recordVersionNumber"]))
		return true
	case model.StrayArrives, model.StrayArrivesOld:
		c, q := r.stray(before.Stray[i])
		q.twice = q.site == siteCleanUp
		c.deliver(t, q)
		return true
	}
	c, was, is := r.clients[i], &before.Clients[i], &r.s.Clients[i]
	q := c.find(func(q *heldRequest) bool { return was.Request.Kind > 0 && q.version == r.version(was.Request.Version) })
	switch step.Act {
	case model.Call:
		r.call(c)
		r.sent(c, is.Request.Write)
	case model.Retry:
		if !r.awaits(c, siteAcquire, siteTakeOver, siteRelease) {
			return false
		}
		r.sent(c, is.Request.Write)
	case model.LookAgain:
		if !r.awaits(c, sitePoll) {
			return false
		}
		look := c.find(func(q *heldRequest) bool { return !q.known })
		look.known = true
		c.deliver(t, look)
		look.answer <- look.reply
		r.sent(c, is.Request.Write)
	case model.GiveUp:
		c.cancel()
		synctest.Wait()
		got := <-c.acquired
		check(t, errors.Is(got.err, context.Canceled), "Acquire that was given up: %v", got.err)
		if was.Unclear {
			r.sent(c, model.Write{Kind: model.CleanUp, Version: model.Version{ID: was.ID, N: was.N + 1}})
		}
	case model.Heartbeat:
		r.run(c, &c.done, c.held.Renew)
		r.sent(c, is.Request.Write)
	case model.LetGo:
		r.run(c, &c.done, c.held.Release)
		if c.held = nil; was.Gone {
			wantErr(t, <-c.done, dynalock.ErrLost)
		}
		r.sent(c, is.Request.Write)
	case model.Drop:
		c.held = nil
	case model.Guard:
		c.guarding = 0
		r.guard(c)
	case model.GuardedArrive:
		r.guardedArrives(c, before.Item, was)
	case model.Arrive, model.ArriveTwice, model.ArriveOld:
		c.deliver(t, q)
	case model.Answer:
		q.answer <- q.reply
		r.heard(c, was, is)
	case model.InDoubt:
		q.answer <- nil
		synctest.Wait()
		if was.Phase == model.Holding { // Renew would try again
			c.cancel()
			check(t, <-c.done != nil, "Renew in doubt returned nil")
		} else {
			r.heard(c, was, is)
		}
	}
	return true
}

// tick lets time pass until the begin of the next tick.
func (r *replay) tick() {
	r.ticks++
	time.Sleep(time.Duration(r.ticks)*modelTick - time.Since(r.began))
	for i, c := range r.clients {
		if c.guarding++; r.s.Clients[i].Phase == model.Releasing {
			c.releasing++
		} else {
			c.releasing = 0
		}
	}
}

// heard compares what a call has returned, or the library sent, when an answer came or did not.
func (r *replay) heard(c *replayClient, was, is *model.Client) {
	r.t.Helper()
	synctest.Wait()
	switch {
	case is.Phase == model.Holding && was.Phase != model.Holding:
		select {
		case got := <-c.acquired:
			must(r.t, got.err)
			c.held = got.value
			check(r.t, r.token(is.Token) == c.held.Token(), "token %d, want %d", c.held.Token(), r.token(is.Token))
		default:
			r.t.Error("Acquire has not returned")
		}
	case is.Phase == model.Acquiring || is.Phase == model.Confirming:
		check(r.t, len(c.acquired) == 0, "Acquire has returned")
		r.sent(c, is.Request.Write)
	case was.Phase == model.Holding && is.Over:
		wantErr(r.t, <-c.done, dynalock.ErrLost)
	case was.Phase == model.Holding:
		must(r.t, <-c.done)
	case was.Phase == model.Releasing && is.Phase == model.Idle:
		if err := <-c.done; was.Released(was.Request) {
			must(r.t, err)
		} else {
			wantErr(r.t, err, dynalock.ErrLost)
		}
	}
}

func (r *replay) call(c *replayClient) {
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(r.t.Context())
	acquired := make(chan outcome[*dynalock.Lock], 1)
	c.acquired = acquired
	go func() {
		l, err := c.lock.Acquire(ctx, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		acquired <- outcome[*dynalock.Lock]{l, err}
	}()
}

func (r *replay) run(c *replayClient, done *chan error, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(r.t.Context())
	c.cancel = cancel
	ended := make(chan error, 1)
	*done = ended
	go func() { ended <- f(ctx) }()
}

// guard reads the register and writes it under the lock.
func (r *replay) guard(c *replayClient) {
	value := r.register() + 1
	ended := make(chan error, 1)
	c.guarded = ended
	l := c.held
	c.guard = l
	go func() {
		ended <- l.Transact(r.t.Context(), types.TransactWriteItem{Put: &types.Put{
			TableName: aws.String(dataTable),
			Item:      map[string]types.AttributeValue{"key": s("register"), "value": s(strconv.Itoa(value))},
		}})
	}()
	q := c.find(func(q *heldRequest) bool { return q.site == siteTransact && !q.known })
	if q == nil {
		r.t.Fatal("Transact sent nothing")
	}
	q.known = true
}

func (r *replay) guardedArrives(c *replayClient, item model.Item, was *model.Client) {
	r.t.Helper()
	_, ok := r.m.Decide(item, model.Write{Kind: model.Check, Tenure: was.Guarded.ID, Token: was.Guarded.Token})
	q := c.find(func(q *heldRequest) bool { return q.site == siteTransact && q.known })
	c.deliver(r.t, q)
	if ok {
		r.writes++
	}
	if was.Phase == model.Crashed {
		return
	}
	refusal := dynalock.ErrLost
	if errors.Is(c.guard.Err(), dynalock.ErrReleased) { // by its holder, meanwhile
		refusal = dynalock.ErrReleased
	}
	q.answer <- q.reply
	if err := <-c.guarded; ok {
		must(r.t, err)
	} else {
		wantErr(r.t, err, refusal)
	}
}

// register counts the guarded writes, unless one of them was lost.
func (r *replay) register() int {
	out, err := r.raw.GetItem(r.t.Context(),
		&dynamodb.GetItemInput{TableName: aws.String(dataTable), Key: map[string]types.AttributeValue{"key": s("register")}})
	must(r.t, err)
	n, _ := strconv.Atoi(text(out.Item["value"])) // 0 where there is none
	return n
}

// sent compares the request that the model's client has sent with the library's.
func (r *replay) sent(c *replayClient, w model.Write) {
	r.t.Helper()
	q := c.find(func(q *heldRequest) bool {
		return !q.known && q.site != siteTransact && (q.site == siteCleanUp) == (w.Kind == model.CleanUp)
	})
	if q == nil || w.Kind == 0 {
		check(r.t, q == nil && w.Kind == 0, "the library sent %+v, want %v", q, w)
		return
	}
	q.known = true
	r.learn(w.Version.ID, q.version)
	check(r.t, q.version == r.version(w.Version), "%s %s, want %v", q.site, q.version, w)
	want := map[site]model.Kind{
		siteAcquire: model.Acquire, siteTakeOver: model.Acquire, siteBeat: model.Beat, siteRelease: model.Release,
		siteCleanUp: model.CleanUp,
	}[q.site]
	check(r.t, want == w.Kind, "a %s, want %v", q.site, w)
	var seen []string
	if w.Admit.ID > 0 {
		seen = append(seen, r.version(w.Admit))
	}
	for _, n := range w.Open {
		if n > 0 {
			seen = append(seen, r.version(model.Version{ID: w.Version.ID, N: n}))
		}
	}
	slices.Sort(seen)
	got := slices.Sorted(slices.Values(q.seen))
	check(r.t, slices.Equal(got, seen), "%s %s admits %v, want %v", q.site, q.version, got, seen)
}

// awaits lets a client go on after a pause, until it sends a request from one of the sites.
func (r *replay) awaits(c *replayClient, from ...site) bool {
	for c.find(func(q *heldRequest) bool { return !q.known && slices.Contains(from, q.site) }) == nil {
		if !c.clock.wake() {
			r.t.Fatalf("a client waits for nothing, want a request of %v", from)
		}
		if time.Since(r.began)-time.Duration(r.ticks)*modelTick > modelDrift {
			return false
		}
	}
	return true
}

// stray is a request adrift.
func (r *replay) stray(w model.Write) (*replayClient, *heldRequest) {
	for _, c := range r.clients {
		if q := c.find(func(q *heldRequest) bool { return q.version == r.version(w.Version) }); q != nil {
			return c, q
		}
	}
	r.t.Fatalf("the library never sent %v", w)
	return nil, nil
}

// learn notes which acquisition of the library is which of the model.
func (r *replay) learn(id uint8, version string) {
	if _, known := r.ids[id]; !known {
		r.ids[id], _, _ = strings.Cut(version, "-")
	}
}

func (r *replay) version(v model.Version) string {
	if r.ids[v.ID] == "" {
		return "none"
	}
	return fmt.Sprintf("%s-%d", r.ids[v.ID], v.N)
}

func (r *replay) token(t uint8) uint64 { return r.base + uint64(t) }

func (r *replay) item() map[string]types.AttributeValue {
	out, err := r.raw.GetItem(r.t.Context(),
		&dynamodb.GetItemInput{TableName: aws.String(lockTable), Key: map[string]types.AttributeValue{"key": s("key")}})
	must(r.t, err)
	return out.Item
}

// compare looks at what is stored, and at who holds the lock.
func (r *replay) compare() {
	r.t.Helper()
	synctest.Wait()
	got, want := r.item(), r.s.Item
	if want.Version.ID == 0 {
		check(r.t, stored(got, "fencingToken") == r.base, "there is another item: %v", got)
	} else {
		token := stored(got, "fencingToken")
		check(r.t, text(got["recordVersionNumber"]) == r.version(want.Version), "version %s, want %s",
			text(got["recordVersionNumber"]), r.version(want.Version))
		check(r.t, token == r.token(want.Token), "token %d, want %d", token, r.token(want.Token))
		check(r.t, (text(got["isReleased"]) == "1") == want.Released, "released %q, want %v", text(got["isReleased"]),
			want.Released)
	}
	for i, c := range r.clients {
		if r.s.Clients[i].Phase == model.Crashed {
			continue
		}
		held := c.held != nil && c.held.Held()
		check(r.t, held == r.m.Held(&r.s, i), "client %d: held %v, want %v", i, held, !held)
		if c.held != nil && !held {
			wantErr(r.t, c.held.Err(), dynalock.ErrLost)
		}
	}
	check(r.t, r.register() == r.writes, "the register is %d after %d guarded writes", r.register(), r.writes)
}

// gatedClock is a client's clock whose timers wait to be told: all but those of the heartbeat's scheduler, which
// makes its timer with no time on it.
type gatedClock struct {
	simClock
	mu      sync.Mutex
	open    bool
	waiting []*gatedTimer
}

type gatedTimer struct {
	clock *gatedClock
	due   time.Time
	c     chan time.Time
}

func (c *gatedClock) NewTimer(d time.Duration) heartbeat.Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d == 0 || c.open {
		return c.simClock.NewTimer(d)
	}
	t := &gatedTimer{c, time.Now().Add(c.until(d)), make(chan time.Time, 1)}
	c.waiting = append(c.waiting, t)
	return t
}

// wake ends the wait that is over first, when it is; false: there is none.
func (c *gatedClock) wake() bool {
	c.mu.Lock()
	if len(c.waiting) == 0 {
		c.mu.Unlock()
		return false
	}
	t := slices.MinFunc(c.waiting, func(a, b *gatedTimer) int { return a.due.Compare(b.due) })
	c.mu.Unlock()
	time.Sleep(time.Until(t.due))
	t.Stop()
	t.c <- time.Now()
	return true
}

// free ends all waits, and lets later ones end by themselves.
func (c *gatedClock) free() {
	c.mu.Lock()
	c.open = true
	c.mu.Unlock()
	for c.wake() {
	}
}

func (t *gatedTimer) C() <-chan time.Time { return t.c }

func (t *gatedTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	n := len(t.clock.waiting)
	t.clock.waiting = slices.DeleteFunc(t.clock.waiting, func(other *gatedTimer) bool { return other == t })
	return len(t.clock.waiting) < n
}

func (t *gatedTimer) Reset(d time.Duration) bool {
	was := t.Stop()
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	t.due = time.Now().Add(t.clock.until(d))
	t.clock.waiting = append(t.clock.waiting, t)
	return was
}
