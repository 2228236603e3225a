package dynalock_test

import (
	goflag "flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	simSeed = goflag.Uint64("sim.seed", 0,
		"simulate the schedule of this seed alone, and make it smaller when it fails")
	simTries = goflag.Int("sim.tries", 50,
		"how often to run the schedule of -sim.seed: the jitter of the library itself is not in the seed")
	simFirst     = goflag.Uint64("sim.first", 1, "the first seed")
	simSchedules = goflag.Int("sim.schedules", defaultSchedules, "how many schedules TestSimulation runs")
)

// The clients of a schedule run the real library over the real SDK against the embedded server, in virtual time, with
// clocks of their own. Every request may meet a fault. What holders and callers believe is compared with the server's
// own order of writes; the sentences that must hold are those of the rules in sim_check_test.go.
func TestSimulation(t *testing.T) {
	n := schedules()
	total := runSchedules(t, newPlan, n)
	t.Logf("%d schedules from seed %d:\n%s", n, *simFirst, total)
	if n < coveringSchedules || *simSeed != 0 {
		return
	}
	for _, s := range sites {
		for _, f := range faults {
			if possible(s, f) && total.Met[s][f] == 0 {
				t.Errorf("%s never met %s", s, f)
			}
		}
	}
}

// coveringSchedules are enough for every call site to meet every fault.
const coveringSchedules = 2000

// What follows shows that the checker can see failures: where clocks or pauses go beyond what a lease can bear, locks
// are held twice and updates are lost, and the guard of the writes still holds.

func TestDriftBeyondTheAssumptionBreaksExclusionAndGuardedWritesStillLoseNothing(t *testing.T) {
	beyond(t, newDriftPlan, func(c *counts) {
		check(t, c.Overlaps > 0, "no two were ever seen to hold at once: the checker is blind")
		check(t, c.Caught > 0 || schedules() < coveringSchedules,
			"no guarded write of one that believed to hold was refused: the guard was not needed")
	})
}

func TestAPauseThatNoClockShowsBreaksExclusionAndGuardedWritesStillLoseNothing(t *testing.T) {
	beyond(t, newUntracedPlan, func(c *counts) {
		check(t, c.Overlaps > 0, "no two were ever seen to hold at once: the checker is blind")
		check(t, c.Caught > 0, "no guarded write of one that believed to hold was refused: the guard was not needed")
		check(t, c.LostUpdates > 0, "no unguarded update was lost: the check is blind")
	})
}

func TestPausesBetweenCheckAndUseLoseUpdatesAndGuardedWritesLoseNone(t *testing.T) {
	beyond(t, newPausePlan, func(c *counts) {
		check(t, c.Overlaps == 0, "%d locks were held while another one was", c.Overlaps)
		check(t, c.LostUpdates > 0, "no unguarded update was lost: the check is blind")
	})
}

// The same clocks, without the allowance for them, fail the schedules.
func TestAFailingScheduleIsMadeSmallerAndToldAsATimeLine(t *testing.T) {
	first := max(*simSeed, *simFirst)
	for seed := first; ; seed++ {
		p := newDriftPlan(seed)
		p.Beyond = false
		res := simulate(t, p)
		if len(res.violations) == 0 {
			check(t, seed < first+50, "no schedule of 50 fails")
			if t.Failed() {
				return
			}
			continue
		}
		small, now := shrink(t, p, res, 60)
		rule := res.violations[0].Rule
		check(t, slices.ContainsFunc(now.violations, func(v violation) bool { return v.Rule == rule }),
			"the small one broke %+v", now.violations)
		size := func(p *simPlan) (calls int) {
			for _, c := range p.Clients {
				for _, actor := range c.Actors {
					calls += len(actor)
				}
			}
			return calls
		}
		check(t, size(small) < size(p), "%d calls of %d are left", size(small), size(p))
		text := story(t.Name(), small, now)
		for _, part := range []string{rule, violated, fmt.Sprintf("-run '^%s$' -sim.seed=%d", t.Name(), seed)} {
			check(t, strings.Contains(text, part), "%q is not in:\n%s", part, text)
		}
		held := strings.Contains(text, "table acquire by c") || strings.Contains(text, "table take-over by c")
		check(t, held, "nobody comes to hold the lock in:\n%s", text)
		t.Logf("%d of %d calls left:\n%s", size(small), size(p), text)
		return
	}
}

// beyond runs a twentieth of the schedules and says what they broke. That a guarded write loses an update fails them by
// itself.
func beyond(t *testing.T, plan func(seed uint64) *simPlan, broke func(c *counts)) {
	t.Helper()
	n := max(schedules()/20, 50)
	c := runSchedules(t, plan, n)
	t.Logf("%d schedules: %d locks were held while another one was; %d of %d unguarded updates were lost, none of %d guarded ones; %d more of these were refused, %d to a holder that believed to hold what another one had taken",
		n, c.Overlaps, c.LostUpdates, c.Unfenced, c.Fenced, c.Refused, c.Caught)
	if *simSeed != 0 {
		return
	}
	check(t, c.Fenced > 0 && c.Refused > 0, "%d guarded writes, %d refused", c.Fenced, c.Refused)
	broke(c)
}

// schedules is how many to simulate, a tenth with -short.
func schedules() int {
	if testing.Short() {
		return *simSchedules / 10
	}
	return *simSchedules
}

// runSchedules simulates n schedules on all processors and reports those that fail, the first one made smaller. With
// -sim.seed it runs that one alone until it fails.
func runSchedules(t *testing.T, plan func(seed uint64) *simPlan, n int) *counts {
	t.Helper()
	first := *simFirst
	if *simSeed != 0 {
		of := plan
		plan, n = func(uint64) *simPlan { return of(*simSeed) }, *simTries
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	enough := 3 // failing schedules
	if *simSeed != 0 {
		enough = 1
	}
	var (
		mu     sync.Mutex
		next   = first
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
					over := seed >= first+uint64(n) || failed >= enough
					mu.Unlock()
					if over {
						return
					}
					p := plan(seed)
					res := simulate(t, p)
					mu.Lock()
					total.add(&res.counts)
					small := len(res.violations) > 0 && failed == 0
					if len(res.violations) > 0 {
						failed++
					}
					mu.Unlock()
					if small {
						p, res = shrink(t, p, res, 600)
					}
					report(t, p, res)
				}
			})
		}
	})
	return &total
}

// report fails the test with the time line of a schedule that broke a rule.
func report(t *testing.T, p *simPlan, res result) {
	t.Helper()
	if len(res.violations) == 0 {
		return
	}
	root, _, _ := strings.Cut(t.Name(), "/")
	t.Error(story(root, p, res))
}

// story tells how a schedule broke a rule.
func story(test string, p *simPlan, res result) string {
	var b strings.Builder
	told := map[string]bool{}
	for _, v := range res.violations {
		if told[v.Rule] {
			continue
		}
		told[v.Rule] = true
		fmt.Fprintf(&b, "  after %v, %s: %s: %s\n", v.At, v.Key, v.Rule, v.Text)
	}
	return fmt.Sprintf("seed %d\n%s\n%s\nagain: go test ./dynalock -run '^%s$' -sim.seed=%d",
		p.Seed, b.String(), res.history.print(res.violations[0].Key, 120), test, p.Seed)
}
