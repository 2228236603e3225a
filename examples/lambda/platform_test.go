//go:build linux

package lambda_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// instance is one execution environment: a process that runs a function's bootstrap against a runtime API of its own.
// As on Lambda it is made by the first invocation, frozen between invocations, killed when one takes too long, and
// made anew by the next.
type instance struct {
	t       *testing.T
	name    string
	program string
	env     []string
	wire    *wire

	mu      sync.Mutex
	process *process
	patient bool // the platform lets the next invocation run past its deadline
	log     logBuffer
	starts  int
}

// outcome of an invocation.
type outcome struct {
	Payload   []byte
	ErrorType string // of an error that the function returned
	Error     string
	Killed    bool // the process was gone before it answered: at its deadline, or by the test
}

func (o outcome) String() string {
	if o.Killed {
		return "killed"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", o.Payload, o.ErrorType, o.Error))
}

// newInstance makes an instance of a program, whose way to DynamoDB is a wire of its own.
func newInstance(t *testing.T, name, program, endpoint string, env ...string) *instance {
	t.Helper()
	i := &instance{t: t, name: name, program: program, wire: newWire(t, endpoint)}
	i.env = append([]string{
		"AWS_LAMBDA_FUNCTION_NAME=function", "AWS_LAMBDA_FUNCTION_VERSION=$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128",
		"AWS_LAMBDA_LOG_STREAM_NAME=" + name, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=" + name,
		"AWS_SECRET_ACCESS_KEY=secret",
		"AWS_ENDPOINT_URL_DYNAMODB=" + i.wire.server.URL, "TZ=:UTC", "_HANDLER=bootstrap",
	}, env...)
	t.Cleanup(func() {
		i.kill()
		if t.Failed() {
			t.Logf("%s, started %d times, said:\n%s", name, i.starts, i.log.String())
		}
	})
	return i
}

// invoke runs one invocation, which has limit of time, and freezes the instance after it.
func (i *instance) invoke(event string, limit time.Duration) outcome {
	i.t.Helper()
	p := i.warm()
	if p == nil {
		return outcome{Killed: true}
	}
	i.mu.Lock()
	i.patient = false
	i.mu.Unlock()
	select {
	case p.work <- invocationRequest{event, time.Now().Add(limit)}:
	case <-p.exited:
		return outcome{Killed: true}
	}
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		select {
		case out := <-p.done:
			select { // frozen when it asks for more work, not before
			case <-p.idle:
				p.idle <- struct{}{}
				p.freeze()
			case <-p.exited:
			}
			return out
		case <-p.exited:
			return outcome{Killed: true}
		case <-deadline.C:
			i.mu.Lock()
			patient := i.patient
			i.mu.Unlock()
			if !patient {
				i.kill()
			}
		}
	}
}

// warm returns a process that waits for work; nil where it was killed meanwhile.
func (i *instance) warm() *process {
	i.t.Helper()
	i.mu.Lock()
	p := i.process
	if p == nil || p.gone() {
		i.starts++
		p = i.start()
		i.process = p
	}
	i.mu.Unlock()
	p.signal(syscall.SIGCONT)
	select {
	case <-p.idle:
		return p
	case <-p.exited:
		return nil
	}
}

func (i *instance) current() *process {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.process
}

// kill ends the process as Lambda does, without a word to it.
func (i *instance) kill() {
	if p := i.current(); p != nil {
		p.signal(syscall.SIGKILL)
		<-p.exited
	}
}

// freeze stops the process in the middle of an invocation, which from now on may outlast its deadline.
func (i *instance) freeze() {
	i.mu.Lock()
	i.patient = true
	i.mu.Unlock()
	i.current().freeze()
}

func (i *instance) thaw() { i.current().signal(syscall.SIGCONT) }

// process is one life of an instance.
type process struct {
	cmd    *exec.Cmd
	api    *httptest.Server
	idle   chan struct{} // full while the function asks for work
	work   chan invocationRequest
	done   chan outcome
	exited chan struct{}
}

type invocationRequest struct {
	event    string
	deadline time.Time
}

var requests atomic.Int64

// start runs the program. The caller has i.mu.
func (i *instance) start() *process {
	i.t.Helper()
	p := &process{
		idle: make(chan struct{}, 1), work: make(chan invocationRequest), done: make(chan outcome, 1),
		exited: make(chan struct{}),
	}
	p.api = httptest.NewServer(p.runtimeAPI())
	p.cmd = exec.Command(i.program)
	p.cmd.Env = append(i.env, "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(p.api.URL, "http://"))
	p.cmd.Stdout, p.cmd.Stderr = &i.log, &i.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a frozen one would outlive the tests
	if err := p.cmd.Start(); err != nil {
		p.api.Close()
		i.t.Errorf("%s: %v", i.name, err)
		close(p.exited)
		return p
	}
	go func() { // ends with the process, which the instance's cleanup kills
		_ = p.cmd.Wait()
		close(p.exited)
		p.api.Close()
	}()
	return p
}

func (p *process) signal(s syscall.Signal) {
	if p.cmd.Process != nil {
		_ = p.cmd.Process.Signal(s) // it may have ended
	}
}

// freeze stops the process and returns when it stands still: on a busy machine its threads run on for a while after the
// signal was sent.
func (p *process) freeze() {
	p.signal(syscall.SIGSTOP)
	for !p.gone() && !p.still() {
		time.Sleep(time.Millisecond)
	}
}

// still tells whether all threads are stopped.
func (p *process) still() bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	if err != nil {
		return false
	}
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // the thread has ended
		}
		_, state, _ := bytes.Cut(text, []byte(") "))
		if !bytes.HasPrefix(state, []byte("T")) {
			return false
		}
	}
	return len(stats) > 0
}

func (p *process) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// runtimeAPI is what a function sees of Lambda:
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html.
func (p *process) runtimeAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
		p.idle <- struct{}{}
		select {
		case in := <-p.work:
			h := w.Header()
			h.Set("Content-Type", "application/json")
			h.Set("Lambda-Runtime-Aws-Request-Id", fmt.Sprintf("00000000-0000-4000-8000-%012d", requests.Add(1)))
			h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(in.deadline.UnixMilli(), 10))
			h.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:function")
			h.Set("Lambda-Runtime-Trace-Id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0")
			fmt.Fprint(w, in.event)
		case <-r.Context().Done():
		case <-p.exited:
		}
	})
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // it died over it
		}
		w.WriteHeader(http.StatusAccepted)
		p.done <- outcome{Payload: body}
	})
	failed := func(w http.ResponseWriter, r *http.Request) {
		var e struct{ ErrorMessage, ErrorType string }
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			return
		}
		w.WriteHeader(http.StatusAccepted)
		p.done <- outcome{ErrorType: e.ErrorType, Error: e.ErrorMessage}
	}
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", failed)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", failed)
	return mux
}

// logBuffer keeps the last of what an instance writes.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > 1<<16 {
		l.b.Next(1 << 15)
	}
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.b.String()
	return text[max(0, len(text)-4000):]
}

// wire is the way from an instance to DynamoDB. Its hook decides what becomes of a request.
type wire struct {
	server *httptest.Server
	client *http.Client
	to     string

	mu   sync.Mutex
	hook func(*request) *answer // nil: every request passes
	log  []*request
}

// request is one request of an instance.
type request struct {
	Op     string // "UpdateItem"
	Body   string
	Status int    // of the answer; 0: none yet
	Answer string // its body
	header http.Header
	wire   *wire
}

// answer is what the instance gets. Without one it hears nothing.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func newWire(t *testing.T, endpoint string) *wire {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 10}
	w := &wire{to: endpoint, client: &http.Client{Transport: transport}}
	w.server = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(transport.CloseIdleConnections)
	t.Cleanup(w.server.Close)
	return w
}

func (w *wire) serve(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the instance is gone
	}
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	req := &request{Op: op, Body: string(body), header: r.Header.Clone(), wire: w}
	w.mu.Lock()
	w.log = append(w.log, req)
	hook := w.hook
	w.mu.Unlock()
	if hook == nil {
		hook = (*request).send
	}
	a := hook(req)
	if a == nil {
		<-r.Context().Done()
		return
	}
	for name, values := range a.header {
		rw.Header()[name] = values
	}
	rw.WriteHeader(a.status)
	_, _ = rw.Write(a.body) // the instance may be gone
}

// send brings the request to DynamoDB, whether its instance still lives or not.
func (r *request) send() *answer {
	req, err := http.NewRequest(http.MethodPost, r.wire.to, strings.NewReader(r.Body)) //nolint:usetesting // also after the test's context
	if err != nil {
		return nil
	}
	req.Header = r.header
	resp, err := r.wire.client.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil
	}
	r.wire.mu.Lock()
	r.Status, r.Answer = resp.StatusCode, string(body)
	r.wire.mu.Unlock()
	return &answer{resp.StatusCode, resp.Header, body}
}

// refused tells that DynamoDB answered that a condition does not hold.
func (r *request) refused() bool {
	return r.Status == http.StatusBadRequest && strings.Contains(r.Answer, "ConditionalCheckFailed")
}

func (w *wire) intercept(hook func(*request) *answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hook = hook
}

// sent lists the requests since the nth, of the operations named.
func (w *wire) sent(from int, ops ...string) []request {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []request
	for _, r := range w.log[from:] {
		for _, op := range ops {
			if r.Op == op {
				found = append(found, *r)
			}
		}
	}
	return found
}

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.log)
}
