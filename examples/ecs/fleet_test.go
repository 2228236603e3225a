package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/internal/testserver"
)

// The test binary is the worker, too: started with this variable it runs main.
const workerEnv = "DYNALOCK_TEST_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		main()
		return
	}
	testserver.Main(m)
}

const (
	tick      = 20 * time.Millisecond
	namespace = "ecs/"
	patience  = 30 * time.Second // of the tests, for what comes sooner or later
)

// fleet is a table and the workers that use it.
type fleet struct {
	*testing.T
	srv   *testserver.Server
	table string
	lease time.Duration
	poll  time.Duration // the worker's MaxPoll

	mu      sync.Mutex
	records []record // of all workers, in the order in which they were read
	grew    chan struct{}
}

// record is a line of a worker's log.
type record struct {
	worker string
	Time   time.Time
	Msg    string
	Token  uint64
	N      int
	Addr   string `json:"address"`
	text   string
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	t.Parallel()
	srv := testserver.New(t)
	f := &fleet{T: t, srv: srv, table: srv.Table(t, "key", ""), lease: 3 * time.Second, grew: make(chan struct{})}
	if srv.Embedded() == nil {
		f.lease = 8 * time.Second // a server that has just started answers late
	}
	f.poll = f.lease / 10
	return f
}

// task is a worker's process.
type task struct {
	f       *fleet
	name    string
	cmd     *exec.Cmd
	address string // of its health check
	ended   chan struct{}
	err     error // valid when ended is closed
}

// command prepares a worker process.
func (f *fleet) command(endpoint, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(f.Context(), os.Args[0], args...)
	cmd.Env = []string{
		workerEnv + "=1", "DYNALOCK_TABLE=" + f.table, "DYNALOCK_NAMESPACE=" + namespace,
		"AWS_ENDPOINT_URL_DYNAMODB=" + endpoint, "AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=worker" + strings.ReplaceAll(name, "-", ""), "AWS_SECRET_ACCESS_KEY=secret",
		"GORACE=atexit_sleep_ms=0", // a race build would wait for 1 s at its end
	}
	return cmd
}

// start starts a worker on an endpoint and waits until it is well.
func (f *fleet) start(endpoint, name string) *task {
	f.Helper()
	k := &task{f: f, name: name, ended: make(chan struct{})}
	k.cmd = f.command(endpoint, name, "-listen=127.0.0.1:0", "-lease="+f.lease.String(), "-tick="+tick.String())
	k.cmd.Stderr = os.Stderr
	out, err := k.cmd.StdoutPipe()
	must(f, err)
	must(f, k.cmd.Start())
	go func() {
		defer close(k.ended)
		f.read(name, out)
		k.err = k.cmd.Wait()
	}()
	f.Cleanup(func() {
		_ = k.cmd.Process.Kill()
		<-k.ended
	})
	k.address = f.await("the start of "+name,
		func(r record) bool { return r.worker == name && r.Msg == "worker started" }).Addr
	must(f, k.health())
	return k
}

// read keeps the log of a worker.
func (f *fleet) read(worker string, out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		r := record{worker: worker, text: lines.Text()}
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			r.Msg = lines.Text() // a panic, say
		}
		f.mu.Lock()
		f.records = append(f.records, r)
		close(f.grew)
		f.grew = make(chan struct{})
		f.mu.Unlock()
	}
}

// await waits for a record and returns the first.
func (f *fleet) await(what string, is func(record) bool) record {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	for {
		f.mu.Lock()
		i, grew := slices.IndexFunc(f.records, is), f.grew
		if i >= 0 {
			defer f.mu.Unlock()
			return f.records[i]
		}
		f.mu.Unlock()
		select {
		case <-grew:
		case <-ctx.Done():
			f.dump()
			f.Fatalf("%s was not seen within %v", what, patience)
		}
	}
}

// log is what was read so far, in the order of its times.
func (f *fleet) log() []record {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.Clone(f.records)
	slices.SortStableFunc(all, func(a, b record) int { return a.Time.Compare(b.Time) })
	return all
}

// dump shows the log, without the work.
func (f *fleet) dump() {
	for _, r := range f.log() {
		if r.Msg != "worked" {
			f.Logf("%s: %s", r.worker, r.text)
		}
	}
}

// leader waits for the first leader after a term and returns its record.
func (f *fleet) leader(after uint64) record {
	f.Helper()
	return f.await(fmt.Sprintf("a leader after term %d", after),
		func(r record) bool { return r.Msg == "leading" && r.Token > after })
}

// health runs the health check as ECS does.
func (k *task) health() error {
	out, err := k.f.command("http://127.0.0.1:1", "health", "-health", "-listen="+k.address).Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// well asks the same without starting a process, for those who ask often.
func (k *task) well() bool {
	resp, err := http.Get("http://" + k.address + "/health")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// stop stops a worker as ECS does, and returns how long that took.
func (k *task) stop() time.Duration {
	k.f.Helper()
	began := time.Now()
	must(k.f, k.cmd.Process.Signal(syscall.SIGTERM))
	k.await()
	return time.Since(began)
}

// await waits for the end of the process.
func (k *task) await() {
	k.f.Helper()
	select {
	case <-k.ended:
	case <-time.After(patience):
		k.f.dump()
		k.f.Fatalf("%s did not end within %v", k.name, patience)
	}
}

// handOver is the time without a leader between two terms.
type handOver struct {
	from, to record // the end of a term, the beginning of the next
	gap      time.Duration
}

// handOvers checks that no two terms overlap, as far as the log tells, and that each piece of work was done once and in
// the order of the terms. The last piece of a term may be done without a word: the stop ended the wait for its answer.
func (f *fleet) handOvers() []handOver {
	f.Helper()
	var (
		all     []handOver
		leading string // the worker that leads
		stopped record
		term    uint64
		work    []record
	)
	for _, r := range f.log() {
		switch r.Msg {
		case "leading":
			if leading != "" || r.Token <= term {
				f.Errorf("%s leads in term %d, after or beside term %d of %q", r.worker, r.Token, term, leading)
			}
			if !stopped.Time.IsZero() {
				all = append(all, handOver{stopped, r, r.Time.Sub(stopped.Time)})
			}
			term, leading = r.Token, r.worker
		case "stopped leading", "killed":
			if leading == r.worker {
				leading, stopped = "", r
			}
		case "worked":
			work = append(work, r)
		}
	}
	slices.SortFunc(work, func(a, b record) int { return a.N - b.N })
	done := record{Token: term}
	done.N, done.Token = f.ledger()
	before := record{}
	for _, r := range append(work, done) {
		unseen := r.N - before.N - 1
		if r == done {
			unseen++
		}
		ended := 1 // terms since, each of which may have ended before it heard of its last work
		if before.N > 0 && r.Token > before.Token {
			ended = int(r.Token - before.Token)
		}
		if r.Token < before.Token || unseen < 0 || unseen > ended || unseen > 0 && before.Token == r.Token && r != done {
			f.Errorf("work %d of term %d by %q comes after work %d of term %d by %q", r.N, r.Token, r.worker, before.N,
				before.Token, before.worker)
		}
		before = r
	}
	if len(work) == 0 {
		f.Error("nobody worked")
	}
	if f.Failed() {
		f.dump()
	}
	return all
}

// kill ends a worker at once.
func (k *task) kill() time.Time {
	k.f.Helper()
	must(k.f, k.cmd.Process.Kill())
	k.await()
	at := time.Now()
	k.f.mu.Lock()
	defer k.f.mu.Unlock()
	k.f.records = append(k.f.records, record{worker: k.name, Msg: "killed", Time: at})
	return at
}

// ledger reads what the leaders wrote.
func (f *fleet) ledger() (n int, term uint64) {
	f.Helper()
	out, err := f.srv.Client().GetItem(f.Context(), &dynamodb.GetItemInput{
		TableName: &f.table, Key: map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: namespace +
			"ledger"}}, ConsistentRead: new(true),
	})
	must(f, err)
	for name, to := range map[string]any{"n": &n, "term": &term} {
		v, _ := out.Item[name].(*types.AttributeValueMemberN)
		if v == nil {
			f.Fatalf("the ledger has no %s", name)
		}
		_, err := fmt.Sscan(v.Value, to)
		must(f, err)
	}
	return n, term
}

// network is a worker's way to DynamoDB. While it is cut it keeps the requests: their senders hear nothing, and mend
// brings them to the server, late.
type network struct {
	f   *fleet
	url string

	mu      sync.Mutex
	cutAt   string        // the operation that cuts it
	severed chan struct{} // closed when it has come
	cut     bool
	kept    []*http.Request
}

func (f *fleet) network() *network {
	f.Helper()
	n := &network{f: f}
	proxy := httptest.NewServer(n)
	f.Cleanup(proxy.Close)
	f.Cleanup(proxy.CloseClientConnections)
	n.url = proxy.URL
	return n
}

// ServeHTTP passes a request on.
func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // its sender is gone
	}
	out, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, n.f.srv.Endpoint()+r.URL.Path,
		bytes.NewReader(body))
	if err != nil {
		n.f.Error(err)
		return
	}
	out.Header = r.Header.Clone()
	n.mu.Lock()
	if !n.cut && n.cutAt == operation(r) && n.cutAt != "" {
		n.cut = true
		close(n.severed)
	}
	cut := n.cut
	if cut {
		n.kept = append(n.kept, out)
	}
	n.mu.Unlock()
	if cut {
		<-r.Context().Done()
		return
	}
	resp, err := http.DefaultClient.Do(out)
	if err != nil {
		return
	}
	defer resp.Body.Close() //nolint:errcheck // of a test
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// sever cuts the network with the next request of an operation, and returns when that has come.
func (n *network) sever(op string) {
	n.f.Helper()
	n.mu.Lock()
	n.cutAt, n.severed = op, make(chan struct{})
	severed := n.severed
	n.mu.Unlock()
	select {
	case <-severed:
	case <-time.After(patience):
		n.f.Fatalf("no %s came to cut the network at", op)
	}
}

// mend delivers what was kept, and lets everything through again. It returns the errors that kept transactions were
// answered with: for each its reasons, the lock's check last.
func (n *network) mend() (late [][]string) {
	n.f.Helper()
	n.mu.Lock()
	kept := n.kept
	n.kept, n.cut, n.cutAt = nil, false, ""
	n.mu.Unlock()
	for _, r := range kept {
		resp, err := http.DefaultClient.Do(r)
		must(n.f, err)
		var answer struct{ CancellationReasons []struct{ Code string } }
		err = json.NewDecoder(resp.Body).Decode(&answer)
		_ = resp.Body.Close()
		must(n.f, err)
		if operation(r) == "TransactWriteItems" {
			codes := []string{}
			for _, reason := range answer.CancellationReasons {
				codes = append(codes, reason.Code)
			}
			late = append(late, codes)
		}
	}
	return late
}

func operation(r *http.Request) string {
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	return op
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
