package dynalock_test

import (
	goflag "flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

var (
	simSeed      = goflag.Uint64("sim.seed", 0, "simulate the schedule of this seed alone")
	simTries     = goflag.Int("sim.tries", 20, "how often to run the schedule of -sim.seed: the library's own jitter is not in the seed")
	simFirst     = goflag.Uint64("sim.first", 1, "first seed")
	simSchedules = goflag.Int("sim.schedules", 500, "how many schedules to simulate")
)

func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		for range *simTries {
			if reported(t, *simSeed, simulate(t, newPlan(*simSeed))) {
				return
			}
		}
		return
	}
	var (
		mu     sync.Mutex
		next   = *simFirst
		total  counts
		failed int
	)
	t.Run("schedules", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for {
					mu.Lock()
					seed := next
					next++
					over := seed >= *simFirst+uint64(*simSchedules) || failed >= 5
					mu.Unlock()
					if over {
						return
					}
					res := simulate(t, newPlan(seed))
					mu.Lock()
					total.add(res.counts)
					if reported(t, seed, res) {
						failed++
					}
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("%+v", total)
}

func reported(t *testing.T, seed uint64, res result) bool {
	t.Helper()
	if len(res.violations) == 0 {
		return false
	}
	v := res.violations[0]
	var all strings.Builder
	for _, v := range res.violations {
		fmt.Fprintf(&all, "  %v %s: %s: %s\n", v.At, v.Key, v.Rule, v.Text)
	}
	t.Errorf("seed %d:\n%s\n%s\nagain: go test ./dynalock -run 'TestSimulation$' -sim.seed=%d", seed, all.String(), res.history.print(v.Key, 120), seed)
	return true
}

func (c *counts) add(o counts) {
	c.Requests += o.Requests
	c.Writes += o.Writes
	c.Locks += o.Locks
	c.TakeOvers += o.TakeOvers
	c.HandOvers += o.HandOvers
	c.Resumes += o.Resumes
	c.Ghosts += o.Ghosts
	c.Overlaps += o.Overlaps
	c.TokensBack += o.TokensBack
	c.Fenced += o.Fenced
	c.Refused += o.Refused
	c.Unfenced += o.Unfenced
	c.LostUpdates += o.LostUpdates
	c.UpdatesFenced += o.UpdatesFenced
	if c.Met == nil {
		c.Met = map[site]map[fault]int{}
	}
	for s, met := range o.Met {
		if c.Met[s] == nil {
			c.Met[s] = map[fault]int{}
		}
		for f, n := range met {
			c.Met[s][f] += n
		}
	}
}
