package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/proof/history"
)

// options of a run.
type options struct {
	workload
	Workers     int           // processes at a time; the first is never disturbed, so that somebody always waits
	Steady      int           // of the others: stopped and cut off, but never killed
	Kills       int           // in all
	Stops       int           // in all
	For         time.Duration // the run ends after this long, or when all kills and stops have been; 0: then
	Namespaces  bool
	Binary      string // of the workers
	Plain       string // of every other steady one; "": the same
	Out         io.Writer
	KeepHistory bool
}

// outcome of a run.
type outcome struct {
	history.Result
	Orphans   orphanage
	Kills     int
	Stops     int
	Faults    map[string]int
	Processes int
	Rounds    int
	Took      time.Duration
	Bound     time.Duration // of an undisturbed wait for the lock of a dead process
}

func (o outcome) String() string {
	var faults []string
	total := 0
	for _, name := range slices.Sorted(maps.Keys(o.Faults)) {
		faults = append(faults, fmt.Sprintf("%s %d", name, o.Faults[name]))
		total += o.Faults[name]
	}
	return fmt.Sprintf(`%d kills, %d stops, %d faults of networks (%s); %d processes, %d rounds, %v
%s
orphans: %d versions of locks were held by a dead process, %d of them while an undisturbed one waited all the time; it waited at most %v, of which %v at most were not its own measured lateness (allowed: %v); %d longer than allowed`,
		o.Kills, o.Stops, total, strings.Join(faults, ", "), o.Processes, o.Rounds, o.Took.Round(time.Second),
		o.Result, o.Orphans.Orphans, o.Orphans.Judged, o.Orphans.Longest.Round(time.Millisecond),
		o.Orphans.Net.Round(time.Millisecond), o.Bound, len(o.Orphans.Violations))
}

// harness runs the processes, harms them, and watches the table.
type harness struct {
	options
	server string // direct, without faults
	db     *dynamodb.Client
	locks  *dynalock.Client

	mu       sync.Mutex // guards what follows; never held over I/O or a wait
	out      outcome
	fleet    fleet
	stands   map[int][]stand // by round
	harmDice *rand.Rand      // of the order of kills and stops
	kills    int             // to come, as are stops
	stops    int
}

// run runs the processes until all kills and stops have been, or time is over.
func run(ctx context.Context, o options) (outcome, error) {
	h := &harness{
		options: o, fleet: fleet{map[string]int64{}, map[string]int64{}, map[string][]span{}}, stands: map[int][]stand{},
		harmDice: rand.New(rand.NewPCG(o.Seed, 0)), kills: o.Kills, stops: o.Stops,
	}
	h.out.Faults, h.out.Bound = map[string]int{}, h.bound()
	if err := os.MkdirAll(h.Dir, 0o755); err != nil {
		return h.out, err
	}
	stop, err := h.serve(ctx)
	if err != nil {
		return h.out, err
	}
	defer stop()
	begin := time.Now()
	h.Began = monotonic()
	err = h.everything(ctx)
	h.out.Took = time.Since(begin)
	h.out.Violations = append(h.out.Violations, h.out.Orphans.Violations...)
	return h.out, err
}

// serve finds the server, or starts the embedded one, and makes the tables.
func (h *harness) serve(ctx context.Context) (stop func(), err error) {
	h.server = h.Endpoint
	stopServer := func() {}
	if h.server == "" {
		// Namespaces reach it through a proxy of the harness, so that loopback will do.
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		embedded := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.History = -1 })
		server := &http.Server{Handler: embedded}
		var served sync.WaitGroup
		served.Go(func() { _ = server.Serve(listener) }) // until it is closed
		stopServer = func() {
			_ = server.Close()
			served.Wait()
			embedded.Close()
		}
		h.server = "http://" + listener.Addr().String()
	}
	h.db = dynamodb.New(dynamodb.Options{
		BaseEndpoint: &h.server, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("proof", "proof", ""),
	})
	h.Table = fmt.Sprintf("proof-%d-%d", os.Getpid(), monotonic())
	tables := []string{h.Table, h.registers()}
	stop = func() {
		over, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		for _, table := range tables {
			_, _ = h.db.DeleteTable(over, &dynamodb.DeleteTableInput{TableName: &table}) // the server may be gone
		}
		stopServer()
	}
	for _, table := range tables {
		if err := dynalock.CreateTable(ctx, h.db, table); err != nil {
			stop()
			return nil, err
		}
	}
	h.locks, err = dynalock.New(h.db, h.Table) // it only looks
	if err != nil {
		stop()
	}
	return stop, err
}

// everything runs the fleet, and checks each round when it is over.
func (h *harness) everything(parent context.Context) error {
	// The faults end first, then the processes, then the watch over the table.
	watching, unwatch := context.WithCancel(context.WithoutCancel(parent))
	defer unwatch()
	failing, fail := context.WithCancelCause(parent)
	defer fail(nil)
	faulty, heal := context.WithCancel(failing)
	defer heal()
	if h.For > 0 {
		timer := time.AfterFunc(h.For, heal)
		defer timer.Stop()
	}
	var watch, fleet, harm sync.WaitGroup
	watch.Go(func() {
		if err := h.watch(watching); err != nil {
			fail(err)
		}
	})
	fleet.Go(func() { h.progress(faulty) })
	over := make(chan struct{})
	for i := range h.Workers {
		s, err := h.newSlot(failing, i)
		if err != nil {
			fail(err)
			break
		}
		harm.Add(1)
		fleet.Go(func() {
			if err := s.live(faulty, over, harm.Done); err != nil {
				fail(fmt.Errorf("%s: %w", s.name, err))
			}
		})
	}
	checked := make(chan error, 1)
	go func() { checked <- h.checkRounds(faulty) }()
	harm.Wait() // no kill or stop is left
	heal()
	if failing.Err() == nil {
		sleep(failing, 3*h.Lease)
	}
	close(over)
	fleet.Wait()
	unwatch()
	watch.Wait()
	err := <-checked
	if cause := context.Cause(failing); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	for r := h.out.Rounds; r <= h.round(); r++ {
		if err := h.checkRound(context.WithoutCancel(parent), r); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// progress says now and then how far it is.
func (h *harness) progress(ctx context.Context) {
	for sleep(ctx, 30*time.Second) {
		h.mu.Lock()
		line := fmt.Sprintf("%v: %d kills, %d stops, %d tenures checked, %d violations",
			time.Duration(monotonic()-h.Began).Round(time.Second),
			h.out.Kills, h.out.Stops, h.out.Tenures, len(h.out.Violations)+len(h.out.Orphans.Violations))
		h.mu.Unlock()
		fmt.Fprintln(h.Out, line)
	}
}

// look is how often the table is looked at.
const look = 50 * time.Millisecond

// watch follows the locks of this round in the table, and those of the one before while somebody may still wait for
// them.
func (h *harness) watch(ctx context.Context) error {
	last, answered := map[string]dynalock.Record{}, monotonic()
	for sleep(ctx, look) {
		now := h.round()
		for round := max(0, now-1); round <= now; round++ {
			if monotonic() > h.Began+int64(round+1)*int64(h.Round)+10*int64(h.Lease) {
				continue
			}
			for i := range h.Keys {
				from := monotonic()
				r, err := h.locks.Get(ctx, h.key(round, i))
				to := monotonic()
				if ctx.Err() != nil {
					return nil
				}
				if err != nil {
					if time.Duration(to-answered) > time.Minute {
						return fmt.Errorf("the table: %w", err)
					}
					continue // a busy server; what was not seen is not held against anybody
				}
				answered = to
				h.saw(round, r, last[r.Key], from, to)
				last[r.Key] = r
			}
		}
		maps.DeleteFunc(last, func(key string, _ dynalock.Record) bool {
			round, _, _ := strings.Cut(key[1:], "-")
			n, err := strconv.Atoi(round)
			return err != nil || n < now-1
		})
	}
	return nil
}

// saw takes note of a record. What was seen was true at some time between the two.
func (h *harness) saw(round int, r, before dynalock.Record, from, to int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Token < before.Token {
		h.out.Violations = append(h.out.Violations,
			fmt.Errorf("the token of %s went back from %d to %d", r.Key, before.Token, r.Token))
	}
	if r.State != dynalock.Held {
		return
	}
	all := h.stands[round]
	if i := slices.IndexFunc(all, func(s stand) bool { return s.version == r.Version }); i >= 0 {
		all[i].last = from
		return
	}
	h.stands[round] = append(all, stand{r.Key, r.Owner, r.Version, to, from})
}

// checkRounds checks each round one round after its end, when hardly anybody works on it any more.
func (h *harness) checkRounds(ctx context.Context) error {
	for r := 0; ; r++ {
		due := time.Duration(h.Began + int64(r+2)*int64(h.Round) - monotonic())
		if !sleep(ctx, due) {
			return nil
		}
		if err := h.checkRound(context.WithoutCancel(ctx), r); err != nil {
			return err
		}
	}
}

// checkRound reads the registers, and then the histories: what was acknowledged before is there.
func (h *harness) checkRound(ctx context.Context, round int) error {
	var reads []history.Event
	for i := range h.Keys {
		for _, guarded := range []bool{true, false} {
			e := history.Event{
				Op: history.Read, Client: "end", ID: len(reads), Key: h.key(round, i), Guarded: guarded,
				Call: monotonic(), Outcome: history.OK,
			}
			var err error
			if e.Read, err = readRegister(ctx, h.db, h.registers(), e.Key, guarded); err != nil {
				return err
			}
			e.Return = monotonic()
			reads = append(reads, e)
		}
	}
	var lines bytes.Buffer
	for _, e := range reads {
		if err := json.NewEncoder(&lines).Encode(e); err != nil {
			return err
		}
	}
	dir := h.roundDir(round)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "end.jsonl"), lines.Bytes(), 0o644); err != nil {
		return err
	}
	events, err := history.Load(dir)
	if err != nil {
		return err
	}
	r := history.Check(events)
	for _, e := range reads {
		if e.Guarded {
			r.Violations = append(r.Violations, checkLedger(e, events)...)
		}
	}
	next, err := history.Load(h.roundDir(round + 1)) // whoever waited longer was late there
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range next {
		if e.Op == history.Late {
			events = append(events, e)
		}
	}
	h.mu.Lock()
	stands, f := h.stands[round], fleet{maps.Clone(h.fleet.killed), maps.Clone(h.fleet.died), map[string][]span{}}
	for slot, spans := range h.fleet.trouble {
		f.trouble[slot] = slices.Clone(spans)
	}
	delete(h.stands, round)
	for slot, spans := range h.fleet.trouble {
		h.fleet.trouble[slot] = slices.DeleteFunc(spans,
			func(s span) bool { return s.to < h.Began+int64(round-1)*int64(h.Round) })
	}
	h.mu.Unlock()
	o := orphans(stands, f, events, h.out.Bound, h.attempt()-slow)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.out.Add(r)
	h.out.Orphans.add(o)
	h.out.Rounds = round + 1
	if !h.KeepHistory && len(r.Violations)+len(o.Violations) == 0 && round > 0 {
		return os.RemoveAll(h.roundDir(round - 1))
	}
	return nil
}

// bound is how long an undisturbed waiter may wait for the lock of a dead process: its lease, one poll, and two
// requests and the timers between them, as far as they are not slow enough for the worker to write them down.
func (h *harness) bound() time.Duration { return h.Lease + h.maxPoll() + 5*slow }

// checkLedger reads the register's elements: what was added, under which token.
func checkLedger(read history.Event, events []history.Event) []error {
	var ledger []history.Entry
	for _, element := range read.Read {
		_, token, _ := strings.Cut(element, "@")
		n, err := strconv.ParseUint(token, 10, 64)
		if err != nil {
			return []error{fmt.Errorf("ledger %s: %q has no token", read.Key, element)}
		}
		ledger = append(ledger, history.Entry{Add: element, Token: n})
	}
	var own []history.Event
	for _, e := range events {
		if e.Key == read.Key {
			own = append(own, e)
		}
	}
	return history.CheckLedger("ledger "+read.Key, ledger, read.Call, own)
}
