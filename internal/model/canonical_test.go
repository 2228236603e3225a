package model

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"testing"
)

// What a state leads to, its canonical form leads to: so it is enough to search those.
func TestTheCanonicalFormOfAStateBehavesLikeTheState(t *testing.T) {
	t.Parallel()
	walks := 5
	if *full {
		walks = 1000
	}
	models := []*Model{
		{Rates: []uint8{90, 110}, Attempt: 2, Faults: 2, Crashes: 1, Operators: 1, Guarded: true},
		{Rates: []uint8{100, 100, 110}, Attempt: 1, Faults: 2, Crashes: 1, Operators: 1, Guarded: true},
	}
	for _, mistake := range Mistakes() {
		models = append(models, &mistake.Model)
	}
	for _, m := range models {
		t.Run(fmt.Sprintf("mistake %d, %v", m.Break, m), func(t *testing.T) {
			x := &search{Model: m, seed: maphash.MakeSeed(), swaps: m.swaps()}
			rnd := rand.New(rand.NewPCG(1, uint64(m.Break)))
			for range walks {
				s := m.Start()
				var path []Step
				for range 60 {
					least := x.least(s)
					known := map[uint64]bool{least.hash: true} // a step that decides nothing any more
					rules := map[string]bool{}
					for _, step := range m.Enabled(&least.state, nil) {
						to := least.state
						if v := m.Do(&to, step); v != nil {
							rules[v.Rule] = true
						} else {
							known[x.least(to).hash] = true
						}
					}
					steps := m.Enabled(&s, nil)
					for _, step := range steps {
						to := s
						v := m.Do(&to, step)
						if v == nil && !known[x.least(to).hash] || v != nil && !rules[v.Rule] {
							t.Fatalf("%sits canonical form %+v does not lead to\n%+v, %v", m.Trace(append(path, step)), least.state,
								x.least(to).state, v)
						}
					}
					step := steps[rnd.IntN(len(steps))]
					if path = append(path, step); m.Do(&s, step) != nil {
						break
					}
				}
			}
		})
	}
}
