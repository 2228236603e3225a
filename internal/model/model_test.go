package model

import (
	"flag"
	"fmt"
	"testing"
	"time"
)

var full = flag.Bool("model.full", false, "search the full scope: ten minutes or more, and gigabytes of memory")

// rates are those of the clients' clocks: those that the default margin is made for.
var rates = []uint8{90, 100, 110}

// combinations of n rates. Which client has which does not matter.
func combinations(n int) (all [][]uint8) {
	if n == 0 {
		return [][]uint8{nil}
	}
	for _, tail := range combinations(n - 1) {
		for _, r := range rates {
			if len(tail) == 0 || r <= tail[0] {
				all = append(all, append([]uint8{r}, tail...))
			}
		}
	}
	return all
}

func (m *Model) String() string {
	s := fmt.Sprintf("rates %v, %d faults, %d crashes, %d operators, answers within %d ticks", m.Rates, m.Faults,
		m.Crashes, m.Operators, m.Attempt)
	if m.Guarded {
		s += ", guarded writes"
	}
	return s
}

func TestWithinTheScopeNoRuleIsEverBroken(t *testing.T) {
	t.Parallel()
	worst := []uint8{90, 110}
	for _, m := range []*Model{
		{Rates: worst, Attempt: 1, Crashes: 1, Guarded: true},
		{Rates: worst, Attempt: 2},
		{Rates: []uint8{100}, Attempt: 1, Faults: 2, Operators: 1},
	} {
		explore(t, m, 0)
	}
	// Not to their end.
	explore(t, &Model{Rates: worst, Attempt: 1, Faults: 2, Crashes: 1, Operators: 1, Guarded: true}, 10_000)
	explore(t, &Model{Rates: rates, Attempt: 1, Faults: 2, Crashes: 1, Operators: 1, Guarded: true}, 10_000)
}

// With -model.full. Each line is a search to its end.
func TestWithinTheFullScopeNoRuleIsEverBroken(t *testing.T) {
	if !*full {
		t.Skip("minutes and gigabytes: -model.full")
	}
	for _, r := range combinations(2) {
		explore(t, &Model{Rates: r, Attempt: 1, Faults: 2, Crashes: 1}, 0)
	}
	for _, r := range combinations(3) {
		explore(t, &Model{Rates: r, Attempt: 1, Crashes: 1}, 0)
	}
	for _, r := range combinations(2) {
		explore(t, &Model{Rates: r, Attempt: 3, Faults: 1, Crashes: 1}, 0)
		explore(t, &Model{Rates: r, Attempt: 1, Faults: 1, Crashes: 1, Operators: 1, Guarded: true}, 0)
	}
	explore(t, &Model{Rates: []uint8{90, 110, 110}, Attempt: 1, Faults: 1}, 0)
}

// What is not promised: where the clocks are wrong, an acquire that was given up on may come late and find the lock
// free. What it begins, nobody holds, and its lease ends it.
func TestAnAcquireThatWasGivenUpOnMayBeginATenureThatNobodyHolds(t *testing.T) {
	t.Parallel()
	r := (&Model{Rates: []uint8{100, 100}, Faults: 1}).Search(0)
	if r.Violation != nil || r.Ghosts == 0 {
		t.Errorf("%v after %v, want some ghosts, and no violation", r.Violation, &r)
	}
	t.Log(&r)
}

// explore searches a model, up to so many states if limit is not 0, and says what it has seen.
func explore(t *testing.T, m *Model, limit int) {
	t.Helper()
	t.Run(m.String(), func(t *testing.T) {
		start := time.Now()
		r := m.Search(limit)
		t.Logf("%v, %v", &r, time.Since(start).Round(time.Millisecond))
		if r.Violation != nil || !r.Complete && limit == 0 {
			t.Errorf("complete %v, %v\n%s", r.Complete, r.Violation, m.Trace(r.Path))
		}
	})
}

func TestEveryMistakeIsFoundOutAndItsShortestStoryTold(t *testing.T) {
	t.Parallel()
	for _, mistake := range Mistakes() {
		m, rule := mistake.Model, mistake.Rule
		r := m.Search(0)
		if r.Violation == nil || r.Violation.Rule != rule {
			t.Errorf("%s: %v after %v, want a violation of %q", mistake.Name, r.Violation, &r, rule)
			continue
		}
		t.Logf("%s: %d steps, found after %v\n%s", mistake.Name, len(r.Path), &r, m.Trace(r.Path))
	}
}
