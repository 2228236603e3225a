package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// modelled is a lease beside the plain list of what happened to it, from which it can be said what it must be.
type modelled struct {
	*Lease
	cfg Config

	mu      sync.Mutex
	rnd     *rand.Rand
	credits []Reading // sends that were acknowledged in time, the last one counting
	dead    bool      // over by the clocks, at an instant when somebody looked
	gone    bool      // ended by ErrGone or End
	stopped bool
	silent  bool // stopped before it was lost
	running bool
	ended   []error
}

func (m *modelled) lastCredit() Reading { return m.credits[len(m.credits)-1] }

// left is computed anew here, from the rule.
func (m *modelled) left(now Reading) time.Duration {
	longest := func(from Reading) time.Duration {
		return max(now.Mono-from.Mono, now.Boot-from.Boot, now.Wall.Sub(from.Wall))
	}
	left := m.cfg.Trust - longest(m.lastCredit())
	if m.cfg.Limit > 0 {
		left = min(left, m.cfg.Limit-longest(m.cfg.Acked))
	}
	return left
}

// look is what every look at the clocks does: what is over then, stays so.
func (m *modelled) look(now Reading) {
	if m.left(now) <= 0 {
		m.dead = true
	}
}

func (m *modelled) acknowledged(sent, now Reading) {
	m.look(now)
	if !m.dead && !m.gone && !m.stopped && sent.after(m.lastCredit()) {
		m.credits = append(m.credits, sent)
	}
}

func TestWhateverHappensALeaseIsWhatItsHistorySays(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { runModel(t, rand.New(rand.NewPCG(seed, 3))) })
		})
	}
}

func runModel(t *testing.T, rnd *rand.Rand) {
	t.Helper()
	clock := newSkewedClock()
	clock.slew = []time.Duration{0, time.Second / 12, -time.Second / 12}[rnd.IntN(3)]
	parallelism := 1 + rnd.IntN(3)
	s := New(func(o *Options) { o.Clock, o.Parallelism = clock, parallelism })

	var mu sync.Mutex
	running := map[context.Context]bool{}
	leases := make([]*modelled, 1+rnd.IntN(6))
	for i := range leases {
		m := &modelled{rnd: rand.New(rand.NewPCG(rnd.Uint64(), 4))}
		p := between(rnd, 100*time.Millisecond, 3*time.Second)
		m.cfg = Config{
			Period: p, Trust: p + between(rnd, p/2, 4*p), AttemptTimeout: between(rnd, p/5, p), Acked: clock.Now(),
			Bind: func(l *Lease) { m.Lease = l },
		}
		if rnd.IntN(4) == 0 {
			m.cfg.Limit = between(rnd, p, 30*p)
		}
		if rnd.IntN(6) == 0 {
			m.cfg.Period = 0
		}
		m.credits = []Reading{m.cfg.Acked}
		m.cfg.Renew = func(ctx context.Context, a Attempt) error {
			m.mu.Lock()
			if m.running || m.stopped {
				t.Errorf("a renewal began: another one running %v, lease stopped %v", m.running, m.stopped)
			}
			m.running = true
			latency, deaf, fate := between(m.rnd, 0, p/4), m.rnd.IntN(8) == 0, m.rnd.IntN(40)
			if m.rnd.IntN(4) == 0 {
				latency *= 8
			}
			m.mu.Unlock()
			mu.Lock()
			running[ctx] = true
			inTime := 0
			for ctx := range running {
				if ctx.Err() == nil {
					inTime++
				}
			}
			if inTime > parallelism {
				t.Errorf("%d renewals within their time, want at most %d", inTime, parallelism)
			}
			mu.Unlock()
			answer := time.NewTimer(latency)
			err := error(nil)
			select {
			case <-answer.C:
			case <-ctx.Done():
				if err = context.Cause(ctx); deaf {
					<-answer.C
					err = nil
				}
			}
			mu.Lock()
			delete(running, ctx)
			mu.Unlock()
			m.mu.Lock()
			defer m.mu.Unlock()
			m.running = false
			switch now := clock.Now(); {
			case err != nil:
			case fate == 0:
				m.look(now)
				m.gone = true
				err = fmt.Errorf("taken over: %w", ErrGone)
			case fate < 15:
				err = errStore
			default:
				m.acknowledged(a.Sent, now)
			}
			return err
		}
		m.cfg.Ended = func(err error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.look(clock.Now())
			if m.silent {
				t.Error("Ended was called after Stop")
			}
			m.ended = append(m.ended, err)
		}
		if _, err := s.Add(m.cfg); err != nil {
			t.Fatal(err)
		}
		leases[i] = m
	}

	var jump Reading // after the last time that clocks jumped apart
	jumped := false
	for range 300 {
		m := leases[rnd.IntN(len(leases))]
		switch rnd.IntN(14) {
		case 0:
			clock.suspend(between(rnd, 0, m.cfg.Trust/2))
			jumped, jump = true, clock.Now()
		case 1:
			clock.step(between(rnd, -time.Second, time.Second))
			jumped, jump = true, clock.Now()
		case 2:
			now := clock.Now()
			m.mu.Lock()
			m.acknowledged(now, now)
			m.mu.Unlock()
			m.Acknowledge(now)
		case 3:
			m.Acknowledge(m.cfg.Acked) // an old one counts for nothing
		case 4:
			m.Kick()
		case 5:
			if rnd.IntN(20) == 0 {
				m.mu.Lock()
				m.look(clock.Now())
				m.gone = true
				m.mu.Unlock()
				m.End(ErrGone)
			}
		case 6:
			if rnd.IntN(20) == 0 {
				stop(t, m)
			}
		default:
			time.Sleep(between(rnd, 0, m.cfg.Trust/4))
		}
		synctest.Wait()
		for _, m := range leases {
			m.judge(t, clock.Now(), jumped, jump)
		}
	}

	time.Sleep(longestSleep + time.Millisecond)
	for _, m := range leases {
		m.judge(t, clock.Now(), jumped, jump)
		m.mu.Lock()
		lost := (m.dead || m.gone) && !m.silent
		if want := map[bool]int{true: 1}[lost]; len(m.ended) != want {
			t.Errorf("lost: %v, and Ended was called %d times", lost, len(m.ended))
		}
		m.mu.Unlock()
	}
	s.Close()
}

func stop(t *testing.T, m *modelled) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), m.cfg.Trust/8)
	defer cancel()
	m.mu.Lock()
	m.stopped = true
	m.silent = m.silent || len(m.ended) == 0
	m.mu.Unlock()
	err := m.Stop(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running != (err != nil) {
		t.Errorf("Stop returned %v, a renewal running: %v", err, m.running)
	}
}

// judge compares the lease to its history.
func (m *modelled) judge(t *testing.T, now Reading, jumped bool, jump Reading) {
	t.Helper()
	valid := m.Valid()
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.look(now)
	over := m.dead || m.gone || m.stopped
	disagree := unexplained(now.Since(m.lastCredit()))
	switch {
	case valid && (over || disagree):
		t.Errorf("valid, though dead %v, gone %v, stopped %v, clocks disagree %v", m.dead, m.gone, m.stopped, disagree)
	case !valid && !over && !disagree && (!jumped || m.lastCredit().after(jump)):
		t.Errorf("not valid, though acknowledged %v ago and no clock jumped since", now.Mono-m.lastCredit().Mono)
	}
	if !valid && m.dead && !m.stopped && len(m.ended) == 0 {
		t.Error("seen to be over, and not announced")
	}
	if len(m.ended) > 1 || len(m.ended) > 0 && !over {
		t.Errorf("ended: %v, though dead %v, gone %v", m.ended, m.dead, m.gone)
	}
	for _, err := range m.ended {
		if errors.Is(err, ErrGone) && !m.gone || !errors.Is(err, ErrGone) && !m.dead {
			t.Errorf("ended with %v, though dead %v, gone %v", err, m.dead, m.gone)
		}
	}
	if !over && m.Remaining() != m.left(now) {
		t.Errorf("%v remaining, want %v", m.Remaining(), m.left(now))
	}
}

func between(rnd *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rnd.Int64N(int64(to-from)))
}
