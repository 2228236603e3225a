package dynalock_test

import (
	goflag "flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
)

var (
	simSeed      = goflag.Uint64("sim.seed", 0, "simulate the schedule of this seed alone, and make it smaller when it fails")
	simTries     = goflag.Int("sim.tries", 50, "how often to run the schedule of -sim.seed: the jitter of the library itself is not in the seed")
	simFirst     = goflag.Uint64("sim.first", 1, "the first seed")
	simSchedules = goflag.Int("sim.schedules", defaultSchedules, "how many schedules TestSimulation runs")
)

// The clients of a schedule run the real library over the real SDK against the embedded server, in virtual time, with
// clocks of their own. Every request may meet a fault. What holders and callers believe is compared with the server's own
// order of writes; the sentences that must hold are those of the rules in sim_check_test.go.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		repeat(t, *simSeed)
		return
	}
	total := runSchedules(t, newPlan, *simFirst, *simSchedules)
	t.Logf("%d schedules from seed %d:\n%s", *simSchedules, *simFirst, total)
	if *simSchedules < coveringSchedules {
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

// What follows shows that the checker can see failures: where clocks or pauses go beyond what a lease can bear, locks are
// held twice and updates are lost, and the guard of the writes still holds.

func TestDriftBeyondTheAssumptionBreaksExclusionAndGuardedWritesStillLoseNothing(t *testing.T) {
	total := runSchedules(t, newDriftPlan, *simFirst, max(*simSchedules/20, 50))
	t.Logf("%d locks were held while another one was; %d of %d unguarded updates were lost, none of %d guarded ones, %d more of which were refused",
		total.Overlaps, total.LostUpdates, total.Unfenced, total.Fenced, total.Refused)
	check(t, total.Overlaps > 0, "no two were ever seen to hold at once: the checker is blind")
	check(t, total.Fenced > 0 && total.Refused > 0, "%d guarded writes, %d refused", total.Fenced, total.Refused)
}

func TestAPauseThatNoClockShowsBreaksExclusionAndGuardedWritesStillLoseNothing(t *testing.T) {
	total := runSchedules(t, newUntracedPlan, *simFirst, max(*simSchedules/20, 50))
	t.Logf("%d locks were held while another one was; %d of %d unguarded updates were lost, none of %d guarded ones, %d more of which were refused",
		total.Overlaps, total.LostUpdates, total.Unfenced, total.Fenced, total.Refused)
	check(t, total.Overlaps > 0, "no two were ever seen to hold at once: the checker is blind")
	check(t, total.LostUpdates > 0, "no unguarded update was lost: the check is blind")
	check(t, total.Fenced > 0 && total.Refused > 0, "%d guarded writes, %d refused", total.Fenced, total.Refused)
}

func TestPausesBetweenCheckAndUseLoseUpdatesAndGuardedWritesLoseNone(t *testing.T) {
	total := runSchedules(t, newPausePlan, *simFirst, max(*simSchedules/20, 50))
	t.Logf("%d of %d unguarded updates were lost, none of %d guarded ones, %d more of which were refused",
		total.LostUpdates, total.Unfenced, total.Fenced, total.Refused)
	check(t, total.LostUpdates > 0, "no unguarded update was lost: the check is blind")
	check(t, total.Fenced > 0 && total.Refused > 0, "%d guarded writes, %d refused", total.Fenced, total.Refused)
}

// runSchedules simulates n schedules on all processors and reports those that fail, the first one made smaller.
func runSchedules(t *testing.T, plan func(seed uint64) *simPlan, first uint64, n int) *counts {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	const enough = 3 // failing schedules
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
						p, res = shrink(t, p, res)
					}
					report(t, p, res)
				}
			})
		}
	})
	return &total
}

// repeat runs the schedule of one seed until it fails.
func repeat(t *testing.T, seed uint64) {
	t.Helper()
	p := newPlan(seed)
	for range *simTries {
		if res := simulate(t, p); len(res.violations) > 0 {
			report(t, p, res)
			t.Log("made smaller:")
			p, res = shrink(t, p, res)
			report(t, p, res)
			return
		}
	}
}

// report fails the test with the time line of a schedule that broke a rule.
func report(t *testing.T, p *simPlan, res result) {
	t.Helper()
	if len(res.violations) == 0 {
		return
	}
	var b strings.Builder
	for _, v := range res.violations {
		fmt.Fprintf(&b, "  after %v, %s: %s: %s\n", v.At, v.Key, v.Rule, v.Text)
	}
	t.Errorf("seed %d\n%s\n%s\nagain: go test ./dynalock -run '%s' -sim.seed=%d",
		p.Seed, b.String(), res.history.print(res.violations[0].Key, 120), "TestSimulation$", p.Seed)
}

// String is the table of what was met.
func (c *counts) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests, %d writes of locks, %d locks held, %d taken over, %d handed over, %d resumed\n",
		c.Requests, c.Writes, c.Locks, c.TakeOvers, c.HandOvers, c.Resumes)
	fmt.Fprintf(&b, "%d guarded writes, %d refused; %d unguarded, %d updates lost by them\n", c.Fenced, c.Refused, c.Unfenced, c.LostUpdates)
	fmt.Fprintf(&b, "%d ghosts (a late copy of an acquire behind another tenure or a deletion) of %d late copies, %d late writes to them; "+
		"%d tokens not above the one before a deletion, within what clocks allow\n", c.Ghosts, c.LateAcquires, c.GhostWrites, c.TokensBack)
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', tabwriter.AlignRight)
	for _, f := range faults {
		fmt.Fprintf(w, "\t%s", strings.ReplaceAll(string(f), " ", "-"))
	}
	fmt.Fprintln(w, "\t")
	for _, s := range sites {
		fmt.Fprint(w, s)
		for _, f := range faults {
			if possible(s, f) {
				fmt.Fprintf(w, "\t%d", c.Met[s][f])
			} else {
				fmt.Fprint(w, "\t.")
			}
		}
		fmt.Fprintln(w, "\t")
	}
	_ = w.Flush() // to memory
	return b.String()
}
