package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sys/unix"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/proof/history"
)

// monotonic is the clock of all processes of this machine, in nanoseconds.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // Linux has it
	}
	return ts.Nano()
}

// workload is what harness and workers have to agree on.
type workload struct {
	Endpoint string
	Table    string // of the locks; that of the registers is named after it
	Dir      string
	Lease    time.Duration
	Keys     int
	Began    int64         // monotonic
	Round    time.Duration // after which all go on to new keys, so that no history grows without end
	Sample   time.Duration // between two looks at the worker's own memory; 0: none
	Seed     uint64
}

func (w workload) round() int { return int((monotonic() - w.Began) / int64(w.Round)) }

func (w workload) roundDir(round int) string {
	return filepath.Join(w.Dir, fmt.Sprintf("r%05d", round))
}

func (w workload) key(round, i int) string { return fmt.Sprintf("r%d-k%d", round, i) }

func (w workload) registers() string { return w.Table + "-registers" }

// maxPoll is short beside the lease, so that a wait of a poll and one of a lease can be told apart.
func (w workload) maxPoll() time.Duration { return w.Lease / 4 }

// attempt bounds a request. Half of it would do on a machine that has nothing else to do.
func (w workload) attempt() time.Duration { return w.Lease * 3 / 10 }

// register is the key of a register's item.
func register(key string, guarded bool) string {
	if guarded {
		return "guarded " + key
	}
	return "unguarded " + key
}

// worker is one process: goroutines that take locks and add to the registers, until it is told to stop, or killed.
type worker struct {
	workload
	name string
	log  *journal
	db   *dynamodb.Client
	lock *dynalock.Client
}

func workerCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("worker", flag.ContinueOnError)
	name := flags.String("name", "", "of this process")
	load := flags.String("load", "", "the workload")
	actors := flags.Int("actors", 2, "goroutines")
	sweep := flags.Bool("sweep", false, "one goroutine for each key, which stays with it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	w := &worker{name: *name}
	if err := json.Unmarshal([]byte(*load), &w.workload); err != nil {
		return fmt.Errorf("-load: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // for as long as the process lives: it ends with the harness
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	w.log = &journal{workload: w.workload, name: w.name, files: map[int]*os.File{}}
	w.db = dynamodb.New(dynamodb.Options{
		BaseEndpoint: &w.Endpoint, Region: "us-east-1", Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("proof", "proof", ""),
		HTTPClient:  &http.Client{Transport: slowLog{transport, w.log}},
	})
	var err error
	w.lock, err = dynalock.New(w.db, w.Table, func(o *dynalock.Options) {
		o.Owner, o.Lease, o.AttemptTimeout, o.MaxPoll = w.name, w.Lease, w.attempt(), w.maxPoll()
	})
	if err != nil {
		return err
	}
	seed := fnv.New64()
	fmt.Fprint(seed, w.Seed, w.name)
	var all sync.WaitGroup
	n := *actors
	if *sweep {
		n = w.Keys
	}
	for i := range n {
		a := &actor{
			worker: w, name: fmt.Sprintf("%s.%d", w.name, i), rand: rand.New(rand.NewPCG(seed.Sum64(), uint64(i))),
			key: -1,
		}
		if *sweep {
			a.key = i
		}
		all.Go(func() { a.run(ctx) })
	}
	all.Go(func() { w.watchClock(ctx) })
	if w.Sample > 0 {
		all.Go(func() { w.sample(ctx) })
	}
	all.Wait()
	over, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*w.Lease)
	defer cancel()
	if err := w.lock.Close(over); err != nil && !errors.Is(err, dynalock.ErrStore) &&
		!errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, dynalock.ErrLost) {
		return err
	}
	return w.log.err()
}

// journal writes events down, one write each, so that what was written before a SIGKILL stays written.
type journal struct {
	workload
	name string

	mu    sync.Mutex // guards what follows, and the order of the lines
	files map[int]*os.File
	n     int
	wrong error
}

// id numbers the calls.
func (j *journal) id() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.n++
	return j.n
}

func (j *journal) write(round int, e history.Event) {
	line, err := json.Marshal(e)
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.files[round]
	if f == nil && err == nil {
		dir := j.roundDir(round)
		if err = os.MkdirAll(dir, 0o755); err == nil {
			f, err = os.OpenFile(filepath.Join(dir, j.name+".jsonl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		}
		j.files[round] = f
		for old, file := range j.files {
			if old < round-2 {
				err = errors.Join(err, file.Close())
				delete(j.files, old)
			}
		}
	}
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	j.wrong = errors.Join(j.wrong, err)
}

func (j *journal) err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.wrong
}

// slow is how late an answer or a timer has to be for it to be written down.
const slow = 20 * time.Millisecond

func (j *journal) late(from int64) {
	now := monotonic()
	if time.Duration(now-from) > slow {
		j.write(j.round(), history.Event{Op: history.Late, Client: j.name, ID: j.id(), Call: from, Return: now})
	}
}

// slowLog writes slow requests down.
type slowLog struct {
	http.RoundTripper
	log *journal
}

func (s slowLog) RoundTrip(r *http.Request) (*http.Response, error) {
	defer s.log.late(monotonic())
	return s.RoundTripper.RoundTrip(r)
}

// watchClock writes down when the process did not run.
func (w *worker) watchClock(ctx context.Context) {
	tick := time.NewTicker(slow)
	defer tick.Stop()
	for {
		due := monotonic() + int64(slow)
		select {
		case <-tick.C:
			w.log.late(due)
		case <-ctx.Done():
			return
		}
	}
}

// memory is what a worker says of itself now and then.
type memory struct {
	At         int64
	Heap, RSS  uint64 // bytes, the heap after a collection
	Goroutines int
	Race       bool // with the race detector
}

func (w *worker) sample(ctx context.Context) {
	f, err := os.OpenFile(filepath.Join(w.Dir, "memory-"+w.name+".jsonl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, w.name, err)
		return
	}
	defer func() { _ = f.Close() }() // every line is a write of its own, whose error was looked at
	tick := time.NewTicker(w.Sample)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		stat, err := os.ReadFile("/proc/self/statm")
		var pages uint64
		if err == nil {
			pages, err = strconv.ParseUint(strings.Fields(string(stat))[1], 10, 64)
		}
		if err == nil {
			err = json.NewEncoder(f).Encode(
				memory{monotonic(), m.HeapAlloc, pages * uint64(os.Getpagesize()), runtime.NumGoroutine(), raceDetector})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, w.name, err)
			return
		}
	}
}

// actor is one goroutine.
type actor struct {
	*worker
	name string
	rand *rand.Rand
	key  int // that it stays with; -1: any
}

// tenure is a lock that an actor was given.
type tenure struct {
	*dynalock.Lock
	round int
	id    string
}

func (a *actor) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (a *actor) upTo(d time.Duration) time.Duration { return time.Duration(a.rand.Int64N(int64(d))) }

func (a *actor) run(ctx context.Context) {
	for ctx.Err() == nil {
		t := a.acquire(ctx)
		if t == nil {
			continue
		}
		over := make(chan struct{})
		var watch sync.WaitGroup
		watch.Go(func() { a.watch(t, over) })
		for range 1 + a.rand.IntN(4) {
			if !a.held(t) || ctx.Err() != nil || !a.add(ctx, t, a.rand.IntN(2) == 0) {
				break
			}
		}
		close(over)
		watch.Wait()
		a.release(ctx, t)
		a.sleep(ctx, a.upTo(a.Lease/4))
	}
}

// begin writes a call down before it is made, and returns what writes down its end.
func (a *actor) begin(round int, e history.Event) func(out history.Outcome) {
	e.Client, e.ID = a.name, a.log.id()
	if e.Call == 0 {
		e.Call = monotonic()
	}
	a.log.write(round, e)
	return func(out history.Outcome) {
		e.Return, e.Outcome = monotonic(), out
		a.log.write(round, e)
	}
}

func (a *actor) acquire(ctx context.Context) *tenure {
	round, k := a.round(), a.key
	if k < 0 {
		k = a.rand.IntN(a.Keys)
	}
	key := a.workload.key(round, k)
	within, cancel := context.WithTimeout(ctx, 8*a.Lease)
	defer cancel()
	e := history.Event{Op: history.Acquire, Client: a.name, ID: a.log.id(), Key: key, Call: monotonic()}
	a.log.write(round, e)
	l, err := a.lock.Acquire(within, key)
	e.Return = monotonic()
	var t *tenure
	if err == nil {
		t = &tenure{l, round, fmt.Sprintf("%s/%d", a.name, e.ID)}
		e.Outcome, e.Tenure, e.Token = history.OK, t.id, l.Token()
	}
	a.log.write(round, e)
	if err != nil && !errors.Is(err, dynalock.ErrHeld) {
		a.sleep(ctx, a.upTo(a.Lease/4))
	}
	return t
}

func (a *actor) release(ctx context.Context, t *tenure) {
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.Lease)
	defer cancel()
	done := a.begin(t.round, history.Event{Op: history.Release, Key: t.Key(), Tenure: t.id})
	switch err := t.Release(within); {
	case err == nil:
		done(history.OK)
	case errors.Is(err, dynalock.ErrLost):
		done(history.Lost)
	default:
		done("")
	}
}

// held asks the lock, and writes down what it says. Held may be false for a while and true again; Done does not open
// again.
func (a *actor) held(t *tenure) bool {
	e := history.Event{Op: history.Held, Client: a.name, ID: a.log.id(), Key: t.Key(), Tenure: t.id, Call: monotonic()}
	held := t.Held()
	select {
	case <-t.Done():
		e.Outcome = history.Lost
	default:
	}
	e.Return = monotonic()
	if held && e.Outcome == "" {
		e.Outcome = history.OK
	}
	if e.Outcome != "" {
		a.log.write(t.round, e)
	}
	return held
}

// watch writes down every now and then whether the lock is held, whatever its holder is waiting for.
func (a *actor) watch(t *tenure, over <-chan struct{}) {
	tick := time.NewTicker(a.Lease / 20)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.held(t)
		case <-t.Done():
			a.held(t)
			return
		case <-over:
			return
		}
	}
}

// add is the read-modify-write of a register: it reads, thinks, and writes back what was read with an element more. The
// guarded register is written through Transact; for the other one, that the lock was held before the read has to do.
// false: what became of it is not known, or the lock is lost; then nothing more is built on this tenure.
func (a *actor) add(ctx context.Context, t *tenure, guarded bool) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 4*a.Lease)
	defer cancel()
	began := monotonic()
	set, err := readRegister(ctx, a.db, a.registers(), t.Key(), guarded)
	if err != nil {
		return false
	}
	a.sleep(ctx, a.upTo(a.Lease/2))
	item, e := a.update(t, guarded, began, set)
	done := a.begin(t.round, e)
	put := &types.Put{TableName: aws.String(a.registers()), Item: item}
	if !guarded {
		_, err = a.db.PutItem(ctx, &dynamodb.PutItemInput{TableName: put.TableName, Item: put.Item})
		if err != nil {
			done("")
			return false
		}
		done(history.OK)
		return true
	}
	err = t.Transact(ctx, types.TransactWriteItem{Put: put})
	switch {
	case err == nil:
		done(history.OK)
		return true
	case !errors.Is(err, dynalock.ErrLost):
		done("")
		return false
	}
	done(history.Lost)
	a.force(ctx, t, began, set)
	return false
}

// force sends a write in spite of everything that the library said, with the check that Transact would have added:
// what refuses it now is DynamoDB.
func (a *actor) force(ctx context.Context, t *tenure, began int64, set []string) {
	item, e := a.update(t, true, began, set)
	e.Forced = true
	done := a.begin(t.round, e)
	items := []types.TransactWriteItem{
		{Put: &types.Put{TableName: aws.String(a.registers()), Item: item}},
		t.ConditionCheck(),
	}
	_, err := a.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: items})
	switch {
	case err == nil:
		done(history.OK)
	case refusedBy(err, len(items)-1):
		done(history.Lost)
	default:
		done("")
	}
}

// refusedBy: the condition of the i-th item failed. A transaction may be cancelled for other reasons, conflicts for
// one, which say nothing of the lock.
func refusedBy(err error, i int) bool {
	var cancelled *types.TransactionCanceledException
	return errors.As(err, &cancelled) && i < len(cancelled.CancellationReasons) &&
		aws.ToString(cancelled.CancellationReasons[i].Code) == "ConditionalCheckFailed"
}

// update makes the item of a register with one more element, and the event that says so.
func (a *actor) update(
	t *tenure, guarded bool, began int64, set []string,
) (map[string]types.AttributeValue, history.Event) {
	e := history.Event{
		Op: history.Write, Key: t.Key(), Tenure: t.id, Token: t.Token(), Guarded: guarded, Call: began,
		Read: set, Add: fmt.Sprintf("%s-%d@%d", a.name, a.log.id(), t.Token()),
	}
	list := &types.AttributeValueMemberL{}
	for _, element := range append(slices.Clone(set), e.Add) {
		list.Value = append(list.Value, &types.AttributeValueMemberS{Value: element})
	}
	return map[string]types.AttributeValue{
		"key": &types.AttributeValueMemberS{Value: register(t.Key(), guarded)}, "set": list,
	}, e
}

func readRegister(ctx context.Context, db *dynamodb.Client, table, key string, guarded bool) ([]string, error) {
	out, err := db.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: &table, ConsistentRead: aws.Bool(true),
		Key: map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: register(key, guarded)}},
	})
	if err != nil {
		return nil, err
	}
	var set []string
	if list, ok := out.Item["set"].(*types.AttributeValueMemberL); ok {
		for _, v := range list.Value {
			if s, ok := v.(*types.AttributeValueMemberS); ok {
				set = append(set, s.Value)
			}
		}
	}
	return set, nil
}
