package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// slot is the place of one process in the fleet: a way to the server, and one process after the other.
type slot struct {
	*harness
	name    string
	index   int
	network *network
	dice    *rand.Rand // of its kills and stops
	starts  int
}

func (h *harness) newSlot(ctx context.Context, i int) (*slot, error) {
	n, err := newNetwork(ctx, i, h.server, h.Namespaces)
	if err != nil {
		return nil, err
	}
	return &slot{
		harness: h, name: fmt.Sprint("w", i), index: i, network: n,
		dice: rand.New(rand.NewPCG(h.Seed, uint64(2*i+1))),
	}, nil
}

// calm: nothing is done to the first.
func (s *slot) calm() bool { return s.index == 0 }

// steady: it is not killed.
func (s *slot) steady() bool { return s.index <= s.Steady }

// upTo is a time of 0 to n leases.
func upTo(d *rand.Rand, n int, lease time.Duration) time.Duration {
	return time.Duration(d.Int64N(int64(n) * int64(lease)))
}

// live runs the processes of the slot: they are harmed until there are no kills and stops left, or faulty ends, and
// told to end when over is closed. unharmed is called when no more is done to them.
func (s *slot) live(faulty context.Context, over <-chan struct{}, unharmed func()) error {
	defer s.network.close()
	healing, heal := context.WithCancel(faulty)
	defer heal()
	faults := make(chan error, 1)
	go func() { faults <- s.harmNetwork(healing) }()
	p, err := s.start()
	if err == nil && !s.calm() {
		p, err = s.harm(faulty, p)
	}
	unharmed()
	if err == nil {
		select {
		case <-over:
			err = p.end()
		case <-p.ended:
			err = fmt.Errorf("%s ended by itself: %w", p.name, p.err)
		}
	}
	heal()
	return errors.Join(err, <-faults)
}

// harm kills and stops processes, and returns the one that runs in the end.
func (s *slot) harm(faulty context.Context, p *process) (*process, error) {
	for p.runs(faulty, s.Lease/2+upTo(s.dice, 3, s.Lease)) {
		kill, some := s.next()
		if !some {
			break
		}
		if !kill {
			if err := s.stopFor(faulty, p, upTo(s.dice, 3, s.Lease)); err != nil {
				return p, err
			}
			continue
		}
		err := p.kill()
		if err == nil {
			sleep(faulty, upTo(s.dice, 3, s.Lease))
			p, err = s.start()
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// next draws the next harm: a kill or a stop; false: there are none left for this slot.
func (s *slot) next() (kill, some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kills := s.kills
	if s.steady() {
		kills = 0
	}
	if kills+s.stops == 0 {
		return false, false
	}
	if kill = s.harmDice.IntN(kills+s.stops) < kills; kill {
		s.kills--
		s.out.Kills++
	} else {
		s.stops--
		s.out.Stops++
	}
	return kill, true
}

// stopFor stops the process for a while.
func (s *slot) stopFor(ctx context.Context, p *process, d time.Duration) error {
	from := monotonic()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	sleep(ctx, d)
	err := p.cmd.Process.Signal(syscall.SIGCONT)
	s.troubled(from)
	return err
}

// troubled takes note of a trouble that is over. It is felt for a while: an attempt has to time out, and there is a
// pause after failures.
func (s *slot) troubled(from int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fleet.trouble[s.name] = append(s.fleet.trouble[s.name], span{from, monotonic() + int64(s.attempt()+afterFailure)})
}

// harmNetwork lets faults happen on the slot's network.
func (s *slot) harmNetwork(ctx context.Context) error {
	if s.calm() {
		return nil
	}
	dice := rand.New(rand.NewPCG(s.Seed, uint64(2*s.index+2)))
	for sleep(ctx, s.Lease+upTo(dice, 5, s.Lease)) {
		f := networkFaults[dice.IntN(len(networkFaults))]
		from := monotonic()
		end, err := s.network.begin(f, dice, s.Lease)
		if err != nil {
			return err
		}
		sleep(ctx, upTo(dice, 2, s.Lease))
		err = end()
		s.troubled(from)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.out.Faults[f.name]++
		s.mu.Unlock()
	}
	return nil
}

// process is one worker.
type process struct {
	s     *slot
	name  string
	cmd   *exec.Cmd
	input io.Closer
	ended chan struct{} // closed when it has ended
	err   error         // of its end; to be read then
}

func (s *slot) start() (*process, error) {
	s.starts++
	p := &process{s: s, name: fmt.Sprintf("%s.%d", s.name, s.starts), ended: make(chan struct{})}
	load := s.workload
	load.Endpoint = s.network.endpoint()
	if !s.steady() {
		load.Sample = 0
	}
	text, err := json.Marshal(load)
	if err != nil {
		return nil, err
	}
	args := []string{"worker", "-name", p.name, "-load", string(text)}
	if s.calm() {
		args = append(args, "-sweep")
	}
	binary := s.Binary
	if s.Plain != "" && s.steady() && s.index%2 == 0 {
		binary = s.Plain
	}
	p.cmd = s.network.command(binary, args...)
	p.cmd.Stdout, p.cmd.Stderr = os.Stderr, os.Stderr
	p.cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // an interrupt is for the harness
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.out.Processes++
	s.mu.Unlock()
	go func() { // joined by kill and end
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// runs waits while the process runs; false: it has ended by itself, or ctx has ended.
func (p *process) runs(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-p.ended:
	}
	return false
}

func (p *process) kill() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended before it was killed: %w", p.name, p.err)
	default:
	}
	killed := monotonic()
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.ended
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.fleet.killed[p.name], p.s.fleet.died[p.name] = killed, monotonic()
	return nil
}

// end tells the process to end.
func (p *process) end() error {
	_ = p.input.Close() // its end says whether it was heard
	t := time.NewTimer(30 * time.Second)
	defer t.Stop()
	select {
	case <-p.ended:
	case <-t.C:
		_ = p.kill()
		return fmt.Errorf("%s did not end", p.name)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w", p.name, p.err)
	}
	return nil
}
