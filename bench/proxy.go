package main

import (
	"net"
	"runtime"
	"slices"
	"sync"
	"time"
)

// proxy hands on TCP connections and holds back every byte for the same time, each way. It delays and does not slow
// down: what arrives while earlier bytes wait is sent as much later as it came later. (toxiproxy counts its delays in
// whole milliseconds, and half a round trip of 5 ms is 2.5 of them.)
type proxy struct {
	listener          net.Listener
	network, upstream string
	delay             time.Duration
	waiting           chan piece // of all connections: the delay is the same, so the first to come is the first to go

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
	joined sync.WaitGroup // of all goroutines but the line, which has to outlast them
	lined  sync.WaitGroup
	once   sync.Once
}

// newProxy listens on a free port of the loopback interface for connections to upstream.
func newProxy(network, upstream string, delay time.Duration) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{
		listener: listener, network: network, upstream: upstream, delay: delay,
		waiting: make(chan piece, 4096), open: map[net.Conn]struct{}{},
	}
	p.lined.Go(p.line)
	p.joined.Go(p.accept)
	return p, nil
}

// piece is what was read at once from a connection.
type piece struct {
	due  time.Time
	data []byte
	to   chan<- []byte // of the connection's other side; nil data closes it
}

// line hands on what is due. It waits on a thread of its own, because the runtime's timers are rounded up to whole
// milliseconds where nothing else is to be done: 2.5 ms would take 3.3.
func (p *proxy) line() {
	runtime.LockOSThread()
	for next := range p.waiting {
		pause(time.Until(next.due))
		if next.data == nil {
			close(next.to)
			continue
		}
		next.to <- next.data
	}
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.joined.Go(func() { p.link(client) })
	}
}

// link connects a client to the server until both directions have ended.
func (p *proxy) link(client net.Conn) {
	defer client.Close() //nolint:errcheck // it may be closed already
	server, err := net.Dial(p.network, p.upstream)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // it may be closed already
	if !p.keep(client, server) {
		return
	}
	defer p.forget(client, server)
	var both sync.WaitGroup
	both.Go(func() { p.pipe(server, client) })
	both.Go(func() { p.pipe(client, server) })
	both.Wait()
}

// keep notes connections that close has to close; false: it has been called.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.open[c] = struct{}{}
	}
	return !p.closed
}

func (p *proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.open, c)
	}
}

// pipe copies from one connection to the other, each piece at its time, and passes the end on.
func (p *proxy) pipe(to, from net.Conn) {
	due := make(chan []byte, 1024) // the line waits for nobody who reads slowly, within reason
	var reader sync.WaitGroup
	reader.Go(func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if n > 0 {
				p.waiting <- piece{time.Now().Add(p.delay), slices.Clone(buffer[:n]), due}
			}
			if err != nil {
				p.waiting <- piece{time.Now().Add(p.delay), nil, due}
				return
			}
		}
	})
	broken := false
	for data := range due {
		if broken {
			continue // the line must not be left waiting
		}
		if _, err := to.Write(data); err != nil {
			broken = true
			_ = from.Close()
		}
	}
	reader.Wait()
	if half, ok := to.(interface{ CloseWrite() error }); ok && !broken {
		_ = half.CloseWrite()
		return
	}
	_ = to.Close()
}

// close ends every connection and returns when all goroutines have.
func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	var open []net.Conn
	for c := range p.open {
		open = append(open, c)
	}
	p.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
	p.joined.Wait()
	p.once.Do(func() { close(p.waiting) })
	p.lined.Wait()
}
