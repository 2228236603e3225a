//go:build linux

package lambda_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
)

var firstTick = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// period is the nth tick as the schedule writes it, and as the job names it.
func period(n int) string { return firstTick.Add(time.Duration(n) * time.Minute).Format(time.RFC3339) }

func tickEvent(n int) string { return fmt.Sprintf(`{"time":%q}`, period(n)) }

// runOf is what the job answered.
func runOf(t *testing.T, o outcome) dynalock.Run {
	t.Helper()
	var run dynalock.Run
	if o.Killed || o.Error != "" {
		t.Fatalf("the job answered %v", o)
	}
	must(t, json.Unmarshal(o.Payload, &run))
	return run
}

// schedule delivers ticks to instances of the job, as many at a time as there are instances, and a delivery that
// failed again after a while, as Lambda does. It ends when all deliveries have succeeded.
type schedule struct {
	*place
	limit time.Duration // of one invocation
	queue chan int

	mu      sync.Mutex
	open    int
	ran     map[int]int // runs that reported success, by tick
	learned int         // deliveries that were told of the run of another
	held    int         // deliveries that met a run under way
	killed  int
	stale   int // deliveries whose run was lost while it was under way
	slow    int // deliveries that ran out of time without harm, on a busy machine
}

func newSchedule(p *place, limit time.Duration) *schedule {
	return &schedule{place: p, limit: limit, queue: make(chan int, 100_000), ran: map[int]int{}}
}

func (s *schedule) deliver(tick int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	s.queue <- tick
}

func (s *schedule) run(instances []*instance) {
	var wg sync.WaitGroup
	for _, i := range instances {
		wg.Go(func() {
			for tick := range s.queue {
				s.note(tick, i.invoke(tickEvent(tick), s.limit))
			}
		})
	}
	wg.Wait()
}

func (s *schedule) note(tick int, o outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	again := true
	switch {
	case o.Killed:
		s.killed++
	case o.ErrorType == "HeldError":
		s.held++
	case strings.Contains(o.Error, dynalock.ErrLost.Error()):
		s.stale++
	case strings.Contains(o.Error, context.DeadlineExceeded.Error()), strings.Contains(o.Error, dynalock.ErrStore.Error()):
		s.slow++
	case o.Error != "":
		s.Errorf("tick %s: %v", period(tick), o)
		again = false
	default:
		again = false
		var run dynalock.Run
		if err := json.Unmarshal(o.Payload, &run); err != nil || run.Err != "" || run.FinishedAt.IsZero() {
			s.Errorf("tick %s: %v, %v", period(tick), o, err)
		}
		if run.Ran {
			s.ran[tick]++
		} else {
			s.learned++
		}
	}
	if again && s.Context().Err() == nil {
		time.AfterFunc(200*time.Millisecond, func() { s.queue <- tick })
		return
	}
	if s.open--; s.open == 0 {
		close(s.queue)
	}
}

func instances(p *place, function string, n int, env ...string) []*instance {
	p.Helper()
	all := make([]*instance, n)
	for i := range all {
		all[i] = p.instance(function, fmt.Sprintf("instance%d", i+1), env...)
	}
	return all
}

func TestEightInstancesRunEachOf200TicksOnceHoweverOftenAndLateItIsDelivered(t *testing.T) {
	p := newPlace(t)
	const ticks = 200
	random := rand.New(rand.NewPCG(1, 2))
	type delivery struct{ tick, at int }
	var deliveries []delivery
	for n := range ticks {
		for range 1 + random.IntN(4) { // duplicates, at the same time
			deliveries = append(deliveries, delivery{n, n})
		}
		if random.IntN(4) == 0 { // late, among much newer ticks
			deliveries = append(deliveries, delivery{n, n + 10 + random.IntN(100)})
		}
	}
	slices.SortStableFunc(deliveries, func(a, b delivery) int { return a.at - b.at })
	s := newSchedule(p, 30*time.Second) // no instance comes near its deadline
	for _, d := range deliveries {
		s.deliver(d.tick)
	}
	all := instances(p, "job", 8)
	s.run(all)

	reports, writes := 0, map[string]bool{} // by client token: a request that a busy machine delayed is sent again
	for _, i := range all {
		for _, r := range i.wire.sent(0, "TransactWriteItems") {
			writes[clientToken.FindString(r.Body)] = true
		}
		check(t, i.starts == 1, "%s was started %d times", i.name, i.starts)
	}
	for n := range ticks {
		check(t, s.ran[n] == 1, "tick %s ran %d times", period(n), s.ran[n])
		row := p.row("report", period(n))
		check(t, row["runs"] == "1", "tick %s wrote %v", period(n), row)
		if row != nil {
			reports++
		}
	}
	check(t, len(writes) == ticks, "%d guarded writes for %d ticks", len(writes), ticks)
	check(t, s.held > 0 && s.learned > ticks/2,
		"%d deliveries met a run under way, %d were late: the test did not reach its cases", s.held, s.learned)
	t.Logf("%d deliveries of %d ticks to 8 instances: %d ticks ran once, %d reports; %d deliveries were told the result, %d met a run under way and came again",
		len(deliveries), ticks, len(s.ran), reports, s.learned, s.held)
}

// What befalls the first run of a tick.
type fate int

const (
	spared       fate = iota
	killedBefore      // killed while it holds the lock, before its write was sent
	killedAfter       // killed when its write has been applied, before its run is finished
	killedDuring      // killed while its write is under way; the network delivers it while the successor holds the lock
	frozen            // frozen while it holds the lock, until another instance has run the tick
	fates
)

var clientToken = regexp.MustCompile(`"ClientRequestToken":"[^"]+"`)

var tickOf = regexp.MustCompile(`once/report/(20[0-9T:Z-]+)"`)

// fateful breaks the first run of each tick as planned.
type fateful struct {
	*schedule
	mu     sync.Mutex
	plan   map[string]fate     // by period; taken out by the run that meets it
	kept   map[string]*request // writes that are under way although their sender is dead
	wakes  map[string]func()   // thaws the instance that was frozen over this tick
	late   int                 // writes that reached DynamoDB when their sender had been succeeded
	refuse int                 // those of them that DynamoDB refused
	from   map[string]stopped  // by period
	met    map[fate]int        // how often
}

// stopped is an instance, and how many requests it had sent when it was frozen.
type stopped struct {
	instance *instance
	requests int
}

func (f *fateful) take(period string, at ...fate) fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	met := f.plan[period]
	if !slices.Contains(at, met) {
		return spared
	}
	delete(f.plan, period)
	f.met[met]++
	return met
}

func (f *fateful) hook(i *instance) func(*request) *answer {
	var holding atomic.Value // the tick that the instance has begun
	holding.Store("")
	return func(r *request) *answer {
		named := ""
		if m := tickOf.FindStringSubmatch(r.Body); m != nil {
			named = m[1]
		}
		switch r.Op {
		case "UpdateItem":
			a := r.send()
			if a != nil && a.status == 200 && strings.Contains(r.Body, `":max"`) {
				holding.Store(named)
			}
			return a
		case "Query": // it has the lock and reads
			a := r.send()
			if tick := holding.Load().(string); f.take(tick, frozen) != spared {
				f.freeze(i, tick)
			}
			return a
		case "TransactWriteItems":
			switch f.take(named, killedBefore, killedAfter, killedDuring) {
			case killedAfter:
				r.send()
				fallthrough
			case killedBefore:
				i.current().signal(syscall.SIGKILL)
				return nil
			case killedDuring:
				f.mu.Lock()
				f.kept[named] = r
				f.mu.Unlock()
				i.current().signal(syscall.SIGKILL)
				return nil
			}
			f.mu.Lock()
			old := f.kept[named]
			delete(f.kept, named)
			f.mu.Unlock()
			if old != nil { // the successor is about to write: now the network delivers the old write
				a := old.send()
				f.mu.Lock()
				f.late++
				if a != nil && old.refused() {
					f.refuse++
				}
				f.mu.Unlock()
			}
		}
		return r.send()
	}
}

// freeze stops the instance over a tick, and has the tick delivered once more.
func (f *fateful) freeze(i *instance, period string) {
	i.freeze()
	f.mu.Lock()
	f.from[period] = stopped{i, i.wire.count()}
	f.wakes[period] = i.thaw
	f.mu.Unlock()
	n := int(must1(time.Parse(time.RFC3339, period)).Sub(firstTick) / time.Minute)
	f.deliver(n)
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestWithInstancesKilledAndFrozenEachTickRunsAndWhatAStaleOneWritesIsRefused(t *testing.T) {
	p := newPlace(t)
	ticks, workers := 60, 6
	if *full {
		ticks, workers = 200, 8
	}
	f := &fateful{
		schedule: newSchedule(p, 3*time.Second), plan: map[string]fate{}, kept: map[string]*request{},
		wakes: map[string]func(){}, from: map[string]stopped{}, met: map[fate]int{},
	}
	planned := map[fate]int{}
	for n := range ticks {
		if n%2 == 0 {
			at := fate(1 + n/2%int(fates-1))
			f.plan[period(n)] = at
			planned[at]++
		}
	}
	want := maps.Clone(f.plan)
	var later []int // half of the instances may be frozen at a time, or nobody would be left to succeed them
	for n := range ticks {
		if want[period(n)] == frozen {
			later = append(later, n)
		} else {
			f.deliver(n)
		}
	}
	next := func() {
		if len(later) > 0 {
			f.deliver(later[0])
			later = later[1:]
		}
	}
	for range workers / 2 {
		next()
	}
	all := instances(p, "job", workers)
	for _, i := range all {
		i.wire.intercept(f.hook(i))
	}
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { // thaws an instance when its tick has been run by another
		every := time.NewTicker(20 * time.Millisecond)
		defer every.Stop()
		for {
			select {
			case <-stop:
				return
			case <-every.C:
			}
			f.mu.Lock()
			wakes := maps.Clone(f.wakes)
			f.mu.Unlock()
			for period, wake := range wakes {
				n := int(must1(time.Parse(time.RFC3339, period)).Sub(firstTick) / time.Minute)
				f.schedule.mu.Lock()
				ran := f.ran[n] > 0
				f.schedule.mu.Unlock()
				if ran {
					f.mu.Lock()
					delete(f.wakes, period)
					f.mu.Unlock()
					next()
					wake()
				}
			}
		}
	})
	start := time.Now()
	f.run(all)
	took := time.Since(start)
	close(stop)
	watch.Wait()

	lateOfFrozen, refusedOfFrozen := 0, 0
	for period, at := range f.from {
		for _, r := range at.instance.wire.sent(at.requests, "UpdateItem", "TransactWriteItems") {
			m := tickOf.FindStringSubmatch(r.Body)
			if m == nil || m[1] != period || strings.Contains(r.Body, `":max"`) { // a later delivery asks for the tick again
				continue
			}
			if r.Status == 0 { // cut short when its instance was killed or frozen again
				continue
			}
			lateOfFrozen++
			if r.refused() {
				refusedOfFrozen++
			}
		}
	}
	// What nobody planned: on a busy machine an invocation may come to its deadline.
	accidents := f.slow + f.killed - planned[killedBefore] - planned[killedAfter] - planned[killedDuring] +
		f.stale - planned[frozen]
	writes, wanted := 0, ticks+planned[killedAfter]
	for n := range ticks {
		row := p.row("report", period(n))
		runs, err := strconv.Atoi(row["runs"])
		least := 1
		if want[period(n)] == killedAfter {
			least = 2
		}
		check(t, err == nil && runs >= least, "tick %s, fate %d: wrote %v, want %d runs", period(n), want[period(n)], row,
			least)
		writes += runs
		check(t, f.ran[n] == 1 || f.ran[n] == 0 && accidents > 0, "tick %s finished %d times", period(n), f.ran[n])
	}
	check(t, accidents >= 0 && writes <= wanted+accidents, "%d reports written, want %d and at most %d by accident",
		writes, wanted, accidents)
	check(t, maps.Equal(f.met, planned), "the runs met %v, planned were %v", f.met, planned)
	check(t, f.late == planned[killedDuring] && f.refuse == f.late, "%d late writes of killed instances, %d refused",
		f.late, f.refuse)
	check(t, f.stale+f.slow >= planned[frozen], "%d of %d frozen runs noticed that they were lost", f.stale,
		planned[frozen])
	check(t, refusedOfFrozen == lateOfFrozen && lateOfFrozen > 0, "%d late writes of frozen instances, %d refused",
		lateOfFrozen, refusedOfFrozen)
	t.Logf("%d ticks, %d instances, %.1f s: killed before the write %d, after it %d, with the write under way %d; frozen until succeeded %d",
		ticks, workers, took.Seconds(), f.met[killedBefore], f.met[killedAfter], f.met[killedDuring], f.met[frozen])
	t.Logf("each tick finished once, %d reports written; late guarded writes of killed instances: %d, refused %d; %d thawed runs noticed their loss, writes of theirs: %d, refused %d; %d deliveries met a run under way; %d accidents",
		writes, f.late, f.refuse, f.stale, lateOfFrozen, refusedOfFrozen, f.held, accidents)
}

func TestAnInstanceThatWasFrozenForLongerThanItsLeaseKnowsThatItHoldsNoLonger(t *testing.T) {
	p := newPlace(t)
	a, b := p.instance("job", "a"), p.instance("job", "b")
	reading := make(chan struct{})
	goOn := make(chan struct{})
	a.wire.intercept(func(r *request) *answer {
		answer := r.send()
		if r.Op == "Query" {
			a.freeze()
			close(reading)
			<-goOn
		}
		return answer
	})
	const limit = 1200 * time.Millisecond // so the lease is 1.5 s
	late := make(chan outcome, 1)
	go func() { late <- a.invoke(tickEvent(1), limit) }()
	<-reading
	frozenAt, before := time.Now(), a.wire.count()
	var won outcome
	for won.Payload == nil {
		if won = b.invoke(tickEvent(1), limit); won.Payload == nil {
			// or came to its deadline on a busy machine
			check(t, won.ErrorType == "HeldError" || won.Killed, "the other instance answered %v", won)
			if t.Failed() {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	after := time.Since(frozenAt)
	close(goOn)
	a.thaw()
	o := <-late
	run := runOf(t, won)
	check(t, run.Ran && run.Attempt == 2 && run.By == "b", "run %+v", run)
	check(t, strings.Contains(o.Error, dynalock.ErrLost.Error()), "the thawed instance answered %v", o)
	check(t, len(a.wire.sent(before, "TransactWriteItems")) == 0, "the thawed instance sent its report")
	writes := a.wire.sent(before, "UpdateItem")
	for _, r := range writes { // one that runs on in the background may have no answer yet
		check(t, r.Status == 0 || r.refused(), "a write of the thawed instance was answered with %d: %s", r.Status, r.Answer)
	}
	row := p.row("report", period(1))
	check(t, row["runs"] == "1" && row["token"] == fmt.Sprint(run.Token), "report %v, token of the run %d", row, run.Token)
	again := runOf(t, a.invoke(tickEvent(1), limit)) // and it is none the worse for it
	check(t, !again.Ran && again.By == "b" && a.starts == 1, "run %+v after %d starts", again, a.starts)
	t.Logf("lease 1.5 s: taken over %v after the freeze; the thawed run said %q and sent %d write, refused",
		after.Round(10*time.Millisecond), o.Error, len(writes))
}

func TestALockKeptBetweenInvocationsIsNotBelievedInAfterAFreezeAndItsLateWriteIsRefused(t *testing.T) {
	p := newPlace(t)
	a, b := p.instance("careless", "a"), p.instance("careless", "b")
	const lease = time.Second
	take := fmt.Sprintf(`{"Take":"key","Lease":%d}`, lease)
	tell := func(o outcome) told {
		var s told
		if o.Killed || o.Error != "" {
			t.Fatalf("it answered %v", o)
		}
		must(t, json.Unmarshal(o.Payload, &s))
		return s
	}
	const limit = 10 * time.Second
	tell(a.invoke(take, limit)) // and is frozen
	var won told
	for won.Token == 0 {
		if o := b.invoke(take, limit); o.Error == "" {
			won = tell(o)
		} else {
			check(t, o.ErrorType == "HeldError", "%v", o)
			time.Sleep(50 * time.Millisecond)
		}
	}
	late := tell(a.invoke(`{}`, limit))
	check(t, !late.Held && strings.Contains(late.Err, dynalock.ErrLost.Error()), "the thawed instance believes %+v", late)
	check(t, strings.Contains(late.Transact, dynalock.ErrLost.Error()), "the guarded write: %q", late.Transact)
	check(t, strings.Contains(late.Raw, "ConditionalCheckFailed"), "the write past the library: %q", late.Raw)
	check(t, won.Token == late.Token+1, "tokens %d and %d", late.Token, won.Token)
	for _, how := range []string{"raw", "guarded"} {
		check(t, p.row(how, fmt.Sprint(late.Token)) == nil, "the %s write is in the table", how)
	}
	row := p.row("guarded", fmt.Sprint(won.Token))
	now := tell(b.invoke(`{}`, limit)) // its lease is a second, too, and may be over by now
	check(t, row == nil && now.Token == won.Token, "the successor: %+v", now)
	check(t, !now.Held || now.Raw == "", "the successor, which holds the lock, was refused: %+v", now)
}

func TestAFunctionThatLivesShorterThanTheLeaseTakesADeadHoldersLock(t *testing.T) {
	lease, life := 5*time.Second, 2500*time.Millisecond // on a busy machine, too
	if *full {
		lease, life = 10*time.Second, 2*time.Second
	}
	// dead leaves the lock of a tick behind, by an instance that was killed.
	dead := func(p *place) time.Time {
		i := p.instance("job", "dead")
		runOf(p.T, i.invoke(tickEvent(0), 30*time.Second)) // a server that has just been started is slow at first
		i.wire.intercept(func(r *request) *answer {
			if r.Op == "Query" {
				i.current().signal(syscall.SIGKILL)
				return nil
			}
			return r.send()
		})
		o := i.invoke(tickEvent(1), lease*4/5) // so much time makes such a lease
		check(p.T, o.Killed, "it answered %v", o)
		return time.Now()
	}

	t.Run("after warm invocations over the time of the lease, by what it has seen alone", func(t *testing.T) {
		p := newPlace(t)
		died := dead(p)
		i := p.instance("job", "warm", "DYNALOCK_MAX_CLOCK_SKEW=0s")
		var run dynalock.Run
		invocations := 0
		for ; !run.Ran && time.Since(died) < 5*lease; invocations++ {
			if o := i.invoke(tickEvent(1), life); o.Error == "" && !o.Killed {
				run = runOf(t, o)
			} else if o.ErrorType != "HeldError" {
				t.Fatalf("it answered %v", o)
			}
			if !run.Ran {
				time.Sleep(life / 5) // frozen
			}
		}
		took := time.Since(died)
		check(t, run.Ran && run.Attempt == 2, "run %+v", run)
		check(t, took >= lease*9/10, "taken over %v after the death, with a lease of %v", took, lease)
		check(t, i.starts == 1, "%d starts", i.starts)
		t.Logf("lease %v, function of %v: taken over %v after the holder's death, in invocation %d of one instance", lease,
			life, took.Round(10*time.Millisecond), invocations)
	})

	t.Run("at first sight once the expiry lies further back than MaxClockSkew", func(t *testing.T) {
		p := newPlace(t)
		died := dead(p)
		const skew = "500ms"
		early := p.instance("job", "early", "DYNALOCK_MAX_CLOCK_SKEW="+skew)
		o := early.invoke(tickEvent(1), life)
		check(t, o.ErrorType == "HeldError", "before the expiry it answered %v", o)
		time.Sleep(time.Until(died.Add(lease + 600*time.Millisecond)))
		i := p.instance("job", "cold", "DYNALOCK_MAX_CLOCK_SKEW="+skew)
		run := runOf(t, i.invoke(tickEvent(1), life))
		check(t, run.Ran && run.Attempt == 2, "run %+v", run)
		t.Logf("lease %v, MaxClockSkew %s, function of %v: taken over in the first invocation of a new instance", lease, skew,
			life)
	})
}

func TestTheJobRefusesAnEventWithoutATick(t *testing.T) {
	p := newPlace(t)
	i := p.instance("job", "a")
	for _, event := range []string{`{}`, `{"time":"<aws.scheduler.scheduled-time>"}`} {
		o := i.invoke(event, 10*time.Second)
		check(t, strings.Contains(o.Error, "time"), "%s: %v", event, o)
	}
	check(t, i.wire.count() == 0, "%d requests", i.wire.count())
	// The same tick in another zone is the same tick.
	check(t, runOf(t, i.invoke(`{"time":"2026-11-21T12:00:00Z"}`, 10*time.Second)).Ran, "it did not run")
	run := runOf(t, i.invoke(`{"time":"2026-11-21T13:00:00+01:00"}`, 10*time.Second))
	check(t, !run.Ran && run.Period == period(0), "run %+v", run)
}

func TestAFunctionThatIsNotToldItsTablesEndsAndSaysWhatIsMissing(t *testing.T) {
	p := newPlace(t)
	for function, name := range map[string]string{"job": "ORDERS_TABLE", "consumer": "QUEUE_URL"} {
		env := []string{name + "="}
		i := p.instance(function, "a", env...)
		o := i.invoke(`{}`, 10*time.Second)
		check(t, o.Killed && strings.Contains(i.log.String(), name+" is empty, allowed: "), "%s: %v, log %q", function, o,
			i.log.String())
	}
}
