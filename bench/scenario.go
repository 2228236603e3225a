package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// scenario is what clients do with one key.
type scenario struct {
	name    string
	clients int
	hold    time.Duration
	turns   int           // of each client; 0: as many as length has room for
	length  time.Duration // of a scenario without turns
}

const (
	sceneAlone  = "alone"
	sceneGreedy = "greedy"
)

// scenarios are those that compare plays by default, but for the greedy pair.
var scenarios = []scenario{
	{name: sceneAlone, clients: 1, turns: 200},
	{name: "8x20ms", clients: 8, hold: 20 * time.Millisecond, turns: 10},
	{name: "32x20ms", clients: 32, hold: 20 * time.Millisecond, turns: 5},
	{name: "8x1ms", clients: 8, hold: time.Millisecond, turns: 20},
	{name: "4x500ms", clients: 4, hold: 500 * time.Millisecond, turns: 5},
	{name: "2x5s", clients: 2, hold: 5 * time.Second, turns: 3},
}

// greedy is two workers of which each asks for the lock again as soon as it has released it.
func greedy(length time.Duration) scenario {
	return scenario{name: sceneGreedy, clients: 2, hold: time.Second, length: length}
}

var scenarioForm = regexp.MustCompile(`^(\d+)x(\d+(?:\.\d+)?(?:us|ms|s))$`)

// parseScenarios reads a comma-separated list of names.
func parseScenarios(list string, greedyFor time.Duration) ([]scenario, error) {
	var all []scenario
	for _, name := range strings.Split(list, ",") {
		s, err := parseScenario(name, greedyFor)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other scenario) bool { return other.name == s.name }) {
			return nil, fmt.Errorf("-scenarios: %s is named twice", name)
		}
		all = append(all, s)
	}
	return all, nil
}

func parseScenario(name string, greedyFor time.Duration) (scenario, error) {
	if name == sceneGreedy {
		return greedy(greedyFor), nil
	}
	if i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name }); i >= 0 {
		return scenarios[i], nil
	}
	bad := fmt.Errorf("-scenarios: %q is not alone, greedy, or CLIENTSxHOLD with 1 to 256 clients and a hold below 10s, "+
		"such as 8x20ms", name)
	parts := scenarioForm.FindStringSubmatch(name)
	if parts == nil {
		return scenario{}, bad
	}
	clients, err := strconv.Atoi(parts[1])
	hold, err2 := time.ParseDuration(parts[2])
	// The lease is 10 s, and redislock does not renew it.
	if err != nil || err2 != nil || clients < 1 || clients > 256 || hold >= lease {
		return scenario{}, bad
	}
	return scenario{name: name, clients: clients, hold: hold, turns: 5}, nil
}

// fairRatio is the longest wait through the mean one where the lock is first come, first served and always held: each
// client's first wait is as long as its place in the line, all others are a round of everybody else.
func (s scenario) fairRatio() float64 {
	if s.clients < 2 || s.turns < 1 {
		return 1
	}
	return float64(s.turns) / (float64(s.turns) - 0.5)
}

func (s scenario) String() string {
	switch s.name {
	case sceneAlone:
		return fmt.Sprintf("One client, %d turns that hold nothing up", s.turns)
	case sceneGreedy:
		return fmt.Sprintf("Two greedy workers, %s of work, for %s", spelt(s.hold), spelt(s.length))
	}
	return fmt.Sprintf("%d clients hold for %s, %d turns each", s.clients, spelt(s.hold), s.turns)
}

// spelt writes a duration as texts have it: 20 ms, 5 s, 3 min.
func spelt(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%v ms", ms(d))
	case d < time.Minute:
		return fmt.Sprintf("%v s", d.Seconds())
	}
	return fmt.Sprintf("%v min", d.Minutes())
}

// outcome is what was seen of one run of a scenario.
type outcome struct {
	total time.Duration   // from the first request to the end of the last release
	waits []time.Duration // of every turn, in the order in which they began
	cut   []time.Duration // waits that the end of the scenario cut short
	turns []int           // by client
}

// errTwoHolders ends a run: its figures would be those of no lock.
var errTwoHolders = errors.New("two clients held the lock at once")

// play lets the clients take turns on a key. All begin at once.
func (s scenario) play(ctx context.Context, clients []client, key string) (outcome, error) {
	out := outcome{turns: make([]int, len(clients))}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	asking := ctx // ends with the scenario, while the last turn may still be under way
	if s.turns == 0 {
		var stop context.CancelFunc
		asking, stop = context.WithTimeout(ctx, s.length)
		defer stop()
	}
	var (
		mu      sync.Mutex
		wg      sync.WaitGroup
		holders atomic.Int32
	)
	turn := func(i int) (ended bool) {
		asked := time.Now()
		l, err := clients[i].acquire(asking, key)
		wait := time.Since(asked)
		if err != nil {
			if asking.Err() != nil && ctx.Err() == nil {
				mu.Lock()
				out.cut = append(out.cut, wait)
				mu.Unlock()
			} else {
				fail(fmt.Errorf("acquire, after %v: %w", wait.Round(time.Millisecond), err))
			}
			return true
		}
		if holders.Add(1) > 1 {
			fail(errTwoHolders)
		}
		mu.Lock()
		out.waits, out.turns[i] = append(out.waits, wait), out.turns[i]+1
		mu.Unlock()
		sleep(ctx, s.hold)
		holders.Add(-1)
		// Also where the run has been given up: a lock that is left behind would cost the next run a lease.
		releasing, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer done()
		if err := l.release(releasing); err != nil {
			fail(fmt.Errorf("release: %w", err))
		}
		return ctx.Err() != nil
	}
	began := time.Now()
	for i := range clients {
		wg.Go(func() {
			for n := 0; s.turns == 0 && asking.Err() == nil || n < s.turns; n++ {
				if turn(i) {
					return
				}
			}
		})
	}
	wg.Wait()
	out.total = time.Since(began)
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	return out, nil
}

// sleep returns when the time or ctx is over.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
