package model

import (
	"flag"
	"fmt"
	"testing"
	"time"
)

var full = flag.Bool("model.full", false, "search the full scope: hours of one processor, and gigabytes of memory")

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
	s := fmt.Sprintf("rates %v, %d faults, %d crashes, %d operators, answers within %d ticks", m.Rates, m.Faults, m.Crashes, m.Operators, m.Attempt)
	if m.Guarded {
		s += ", guarded writes"
	}
	return s
}

func TestWithinTheScopeNoRuleIsEverBroken(t *testing.T) {
	t.Parallel()
	var models []*Model
	for _, r := range combinations(2) {
		if models = append(models, &Model{Rates: r, Attempt: 1, Crashes: 1, Operators: 1, Guarded: true}); *full {
			models = append(models,
				&Model{Rates: r, Attempt: 1, Faults: 2, Crashes: 1},
				&Model{Rates: r, Attempt: 3, Faults: 1, Crashes: 1},
				&Model{Rates: r, Attempt: 1, Faults: 1, Crashes: 1, Operators: 1, Guarded: true})
		}
	}
	if *full {
		for _, r := range combinations(3) {
			models = append(models, &Model{Rates: r, Attempt: 1, Crashes: 1})
		}
	} else {
		models = append(models, &Model{Rates: []uint8{100, 100}, Attempt: 1, Faults: 1})
	}
	for _, m := range models {
		start := time.Now()
		r := m.Search(0)
		t.Logf("%v: %v, %v", m, &r, time.Since(start).Round(time.Millisecond))
		if r.Violation != nil {
			t.Errorf("%v\n%s", m, m.Trace(r.Path))
		}
	}
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
