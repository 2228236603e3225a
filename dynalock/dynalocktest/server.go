package dynalocktest

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/engine"
)

// ServerOptions of NewServer. The zero value is a server that answers at once and without faults.
type ServerOptions struct {
	// Latency is the round trip of every request: half of it passes before the request is applied, and half after. Default
	// 0.
	Latency time.Duration
	// Jitter is added to each half of the round trip, evenly distributed between 0 and Jitter. Default 0.
	Jitter time.Duration
	// Seed of everything random: jitter and Fault.Probability. Default 0, which is a seed like any other.
	Seed uint64
	// History is how many of the last requests Requests remembers. Default 10,000; negative: none. Each remembered write
	// keeps its item, as it was before and after, in memory: 10,000 writes of 390 KB keep 4 GB. If items are
	// large, remember fewer or none.
	History int
	// ClockOffset sets the server's clock apart from that of its clients: ahead of time.Now, or behind it. Default 0. By
	// its own clock the server dates its answers, checks signatures, tokens and times to live, and stamps tables. To a
	// client it looks as if its machine's clock were wrong by as much, the other way. SetClockOffset changes it.
	ClockOffset time.Duration
	// LeaveLocks lets a test of Start end with locks that are held, for example because their holder has died.
	LeaveLocks bool
	// OnRequest, if set, is called for every request, in the order in which requests were applied, one call at a time and
	// before the answer leaves. It runs with the server's mutex held: it must be short, and must not use the server or a
	// client of it.
	OnRequest func(Request)
}

// Server is an embedded DynamoDB. It is safe for concurrent use. A server for a testing/synctest bubble has to be made
// in the bubble.
type Server struct {
	opts   ServerOptions
	engine *engine.Engine
	closed chan struct{}
	offset atomic.Int64 // of the server's clock, in nanoseconds

	mu      sync.Mutex // guards what follows; never held over a wait or a call of the engine
	faults  []*injected
	usage   Usage
	history history
	random  *rand.Rand
	sent    int64
	shut    bool
	held    map[string]heldLock // by the item's id; nil: not recorded
	running sync.WaitGroup
}

const defaultHistory = 10_000

// NewServer makes a server without tables. It starts no goroutine and opens no socket.
func NewServer(optFns ...func(*ServerOptions)) *Server {
	opts := ServerOptions{History: defaultHistory}
	for _, fn := range optFns {
		if fn != nil {
			fn(&opts)
		}
	}
	if opts.History == 0 {
		opts.History = defaultHistory
	}
	s := &Server{
		opts:    opts,
		closed:  make(chan struct{}),
		history: history{limit: max(0, opts.History)},
		random:  rand.New(rand.NewPCG(opts.Seed, opts.Seed)),
	}
	s.SetClockOffset(opts.ClockOffset)
	s.engine = engine.New(s.now)
	return s
}

// SetClockOffset sets the server's clock ahead of time.Now by offset, or behind it if offset is negative: see
// ServerOptions.ClockOffset. To a client that is running it looks as if its machine's clock had jumped the other way,
// as after a suspension.
func (s *Server) SetClockOffset(offset time.Duration) { s.offset.Store(int64(offset)) }

// now is the time by the server's clock.
func (s *Server) now() time.Time { return time.Now().Add(time.Duration(s.offset.Load())) }

// ExpireItems deletes the items whose time to live is over, in the tables for which TTL is enabled, and returns how
// many. DynamoDB does that by itself some time after the expiry, usually within two days. The server does it only here.
// Deletions are requests of the operation "TimeToLive" without a client.
func (s *Server) ExpireItems() int {
	return s.engine.Expire(func(a engine.Applied) { s.noteApplied(&message{name: "TimeToLive"}, a) })
}

// Close ends every wait of the server and joins its goroutines: requests under way, late and duplicated writes. A
// request that has not been applied by then never is. Later requests fail like those to a host that is gone. Close may
// be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.shut {
		s.shut = true
		close(s.closed)
	}
	s.mu.Unlock()
	s.running.Wait()
}

// begin registers work that Close has to join; false: the server is closed.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return false
	}
	s.running.Add(1)
	return true
}

// sleep waits for d; false: the server was closed meanwhile.
func (s *Server) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.closed:
		return false
	}
}

// reply is the answer to a request on its way back.
type reply struct {
	outcome  outcome
	status   int
	body     []byte
	id       string
	date     time.Time
	stranger bool // not the server's own
	stripped bool // without the headers that only DynamoDB's answers have
}

type outcome uint8

const (
	answered outcome = iota
	lost             // no answer, ever
	reset            // the connection breaks
	timedOut         // the caller is told that its time is over
)

// exchange carries one request there and its answer back. If the server is closed meanwhile, there is no answer.
func (s *Server) exchange(m *message) reply {
	if !s.sleep(m.plan.before) {
		return reply{outcome: lost}
	}
	r := reply{outcome: m.plan.outcome, id: m.id, stranger: m.plan.stranger, stripped: m.plan.stripped}
	if m.plan.apply {
		r.status, r.body = s.apply(m)
	} else {
		s.note(m.request(m.plan.code))
	}
	if m.plan.again {
		s.later(m)
	}
	switch {
	case m.plan.stranger:
		r.status, r.body = m.plan.status, []byte(m.plan.body)
	case m.plan.code != "":
		r.status, r.body = m.failure()
	}
	if !s.sleep(m.plan.after) {
		return reply{outcome: lost}
	}
	r.date = s.now().Add(m.plan.date)
	return r
}

// apply executes the request and takes notes in the order of execution.
func (s *Server) apply(m *message) (int, []byte) {
	refused := m.signature.check(s.now())
	if refused == nil {
		refused = m.invalid
	}
	if refused != nil {
		s.note(m.request(refused.Code))
		return refused.Status, refused.Body()
	}
	return m.call.Apply(func(a engine.Applied) { s.noteApplied(m, a) })
}

// later applies the request a second time.
func (s *Server) later(m *message) {
	if !s.begin() {
		return
	}
	go func() {
		defer s.running.Done()
		if s.sleep(m.plan.delay) {
			s.apply(m)
		}
	}()
}

// message is a request on its way.
type message struct {
	id        string
	client    string
	signature signature
	name      string // of the operation
	targets   []engine.Target
	call      *engine.Call
	invalid   *engine.Error // why there is no call
	plan      plan
}

const targetPrefix = "DynamoDB_20120810."

// receive reads a request, and decides what happens to it.
func (s *Server) receive(client string, header http.Header, body []byte) *message {
	name := strings.TrimPrefix(header.Get("X-Amz-Target"), targetPrefix)
	m := &message{client: client, signature: signatureOf(header), name: name}
	m.call, m.invalid = s.engine.Prepare(m.name, body)
	if m.call != nil {
		m.targets = m.call.Targets()
	}
	m.plan = s.plan(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	m.id = fmt.Sprintf("DYNALOCKTEST%014d", s.sent)
	s.usage.count(m.name)
	return m
}

// ServeHTTP serves the protocol on a socket. The client's name is the access key id of its signature. Of a signature
// only the time is checked. A lost answer holds the connection until the client closes it or the server is closed. A
// reset closes it at once, and so does the fault TimedOut.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		hangUp(w)
	}
	defer s.running.Done()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		hangUp(w)
	}
	if r.Method == http.MethodGet {
		_, _ = io.WriteString(w, "healthy: dynalocktest\n") // as the service answers health checks
		return
	}
	m := s.receive(accessKey(r.Header.Get("Authorization")), r.Header, body)
	reply := s.exchange(m)
	switch reply.outcome {
	case lost:
		select {
		case <-r.Context().Done():
		case <-s.closed:
		}
		hangUp(w)
	case reset, timedOut:
		hangUp(w)
	}
	reply.header(w.Header())
	w.WriteHeader(reply.status)
	_, _ = w.Write(reply.body) // the client may be gone
}

// hangUp breaks the connection without an answer, with a TCP reset if it can get at the connection. It does not return.
func hangUp(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler) // the documented way to end a handler without an answer
}

func (r reply) header(h http.Header) {
	h.Set("Content-Length", strconv.Itoa(len(r.body)))
	h.Set("Date", r.date.UTC().Format(http.TimeFormat))
	if r.stranger {
		h.Set("Content-Type", "text/html")
		return
	}
	h.Set("Content-Type", "application/x-amz-json-1.0")
	if !r.stripped {
		h.Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(r.body)), 10))
		h.Set("X-Amzn-Requestid", r.id)
	}
}

// accessKey takes the access key id out of a signature's header.
func accessKey(authorization string) string {
	_, credential, _ := strings.Cut(authorization, "Credential=")
	id, _, _ := strings.Cut(credential, "/")
	return id
}
