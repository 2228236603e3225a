package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// network is the way of one worker to the server, and what can go wrong on it.
type network struct {
	server string
	proxy  *toxiproxy.Proxy
	space  *namespace // nil: the worker shares the network of the harness
}

// newNetwork starts the proxy of one worker. In a namespace of its own the worker reaches it over a pair of virtual
// devices.
func newNetwork(ctx context.Context, slot int, server string, own bool) (*network, error) {
	n := &network{server: strings.TrimPrefix(server, "http://")}
	host := "127.0.0.1"
	if own {
		var err error
		if n.space, err = newNamespace(ctx, slot); err != nil {
			return nil, err
		}
		host = n.space.host
	}
	if err := n.start(net.JoinHostPort(host, "0")); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *network) start(address string) error {
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n.proxy = toxiproxy.NewProxy(api, address, address, n.server)
	return n.proxy.Start()
}

// renew stops the proxy with all its connections and faults, and starts another one at its address. toxiproxy can
// remove a fault from a living connection, but hangs when the client is killed at that moment.
func (n *network) renew() error {
	address := n.proxy.Listen
	bounded(n.proxy.Stop)
	var err error
	for range 100 { // its listener may take a moment to be gone
		if err = n.start(address); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// bounded waits for f, but not for ever: what hangs in toxiproxy is left behind.
func bounded(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
}

func (n *network) endpoint() string { return "http://" + n.proxy.Listen }

// command is a command that runs in the worker's network.
func (n *network) command(name string, args ...string) *exec.Cmd {
	if n.space == nil {
		return exec.Command(name, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", n.space.name, name}, args...)...)
}

func (n *network) close() {
	bounded(n.proxy.Stop)
	if n.space != nil {
		n.space.close()
	}
}

// toxic is what toxiproxy calls a fault.
type toxic struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`
	Attributes map[string]any `json:"attributes"`
}

func onRequests(kind string, attributes map[string]any) toxic {
	return toxic{kind + " up", kind, "upstream", attributes}
}

func onAnswers(kind string, attributes map[string]any) toxic {
	return toxic{kind + " down", kind, "downstream", attributes}
}

// networkFault is something that goes wrong on the way of one worker for a while.
type networkFault struct {
	name   string
	link   bool // the link is taken down, where there is one
	toxics func(d *rand.Rand, lease time.Duration) []toxic
}

var networkFaults = []networkFault{
	{"cut off", true, func(*rand.Rand, time.Duration) []toxic {
		return []toxic{onRequests("timeout", nil), onAnswers("timeout", nil)} // 0: silence
	}},
	{"answers lost", false, func(*rand.Rand, time.Duration) []toxic { return []toxic{onAnswers("timeout", nil)} }},
	{"slow", false, func(d *rand.Rand, lease time.Duration) []toxic {
		late := map[string]any{"latency": d.Int64N(lease.Milliseconds() / 3), "jitter": d.Int64N(lease.Milliseconds()/10 + 1)}
		return []toxic{onRequests("latency", late), onAnswers("latency", late)}
	}},
	{"reset", false, func(d *rand.Rand, _ time.Duration) []toxic {
		return []toxic{onAnswers("reset_peer", map[string]any{"timeout": d.IntN(50)})}
	}},
	{"cut short", false, func(d *rand.Rand, _ time.Duration) []toxic {
		return []toxic{onAnswers("limit_data", map[string]any{"bytes": 1 + d.IntN(1500)})}
	}},
	{"sliced", false, func(*rand.Rand, time.Duration) []toxic {
		slices := map[string]any{"average_size": 64, "size_variation": 32, "delay": 2000}
		return []toxic{onRequests("slicer", slices), onAnswers("slicer", slices)}
	}},
}

// begin lets a fault happen; end ends it.
func (n *network) begin(f networkFault, d *rand.Rand, lease time.Duration) (end func() error, err error) {
	if f.link && n.space != nil {
		if err := n.space.link("down"); err != nil {
			return nil, err
		}
		return func() error { return n.space.link("up") }, nil
	}
	var bodies [][]byte
	for _, t := range f.toxics(d, lease) {
		body, err := json.Marshal(t)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		bodies = append(bodies, body)
	}
	added := make(chan error, 1)
	proxy := n.proxy
	bounded(func() {
		var err error
		for _, body := range bodies {
			if err == nil {
				_, err = proxy.Toxics.AddToxicJson(bytes.NewReader(body))
			}
		}
		added <- err
	})
	select {
	case err = <-added:
	default:
	}
	return n.renew, err
}

// namespace is a network namespace with one link to the harness.
type namespace struct{ name, device, host string }

func newNamespace(ctx context.Context, slot int) (*namespace, error) {
	id := os.Getpid() % 10000
	net := fmt.Sprintf("10.%d.%d", 64+id%128, slot)
	s := &namespace{fmt.Sprintf("proof-%d-%d", id, slot), fmt.Sprintf("pf%dh%d", id, slot), net + ".1"}
	inside := fmt.Sprintf("pf%dw%d", id, slot)
	for _, args := range []string{
		"netns add " + s.name,
		"link add " + s.device + " type veth peer name " + inside,
		"link set " + inside + " netns " + s.name,
		"addr add " + s.host + "/30 dev " + s.device,
		"link set " + s.device + " up",
		"-n " + s.name + " addr add " + net + ".2/30 dev " + inside,
		"-n " + s.name + " link set " + inside + " up",
	} {
		if err := ip(ctx, strings.Fields(args)...); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *namespace) link(state string) error {
	return ip(context.Background(), "link", "set", s.device, state)
}

func (s *namespace) close() {
	_ = ip(context.Background(), "link", "del", s.device) // may not exist yet
	_ = ip(context.Background(), "netns", "del", s.name)
}

func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
