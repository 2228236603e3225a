package dynalock_test

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// counts are what schedules met.
type counts struct {
	Requests, Writes, Locks, TakeOvers, HandOvers, Resumes  int
	Ghosts, GhostWrites, LateAcquires, TokensBack, Overlaps int
	Raised                                                  int // tokens before they were given to somebody
	// deleted under their holders, and made anew by a late copy of their acquires
	Revived                                       int
	Fenced, Refused, Gated, Unfenced, LostUpdates int
	// refused to a holder that believed that it held what another one had taken
	Caught                              int
	Runs, Repeated, Finished, Told      int
	Exhausted, Paused, TooSoon, Stopped int
	Terms, Yields, Resigned, Observed   int
	Met                                 map[site]map[fault]int
}

func (c *counts) add(o *counts) {
	for to, from := range map[*int]int{
		&c.Requests: o.Requests, &c.Writes: o.Writes, &c.Locks: o.Locks, &c.TakeOvers: o.TakeOvers,
		&c.HandOvers: o.HandOvers, &c.Resumes: o.Resumes, &c.Ghosts: o.Ghosts, &c.GhostWrites: o.GhostWrites,
		&c.TokensBack: o.TokensBack, &c.Raised: o.Raised, &c.Revived: o.Revived, &c.Overlaps: o.Overlaps, &c.Fenced: o.Fenced,
		&c.Refused: o.Refused, &c.Gated: o.Gated, &c.Unfenced: o.Unfenced, &c.LostUpdates: o.LostUpdates, &c.Caught: o.Caught,
		&c.Runs: o.Runs, &c.Repeated: o.Repeated, &c.Finished: o.Finished, &c.Told: o.Told,
		&c.Exhausted: o.Exhausted, &c.Paused: o.Paused, &c.TooSoon: o.TooSoon, &c.Stopped: o.Stopped,
		&c.Terms: o.Terms, &c.Yields: o.Yields, &c.Resigned: o.Resigned, &c.Observed: o.Observed,
	} {
		*to += from
	}
	for s, met := range o.Met {
		for f, n := range met {
			c.meet(s, f, n) // counts the late ones, too
		}
	}
}

func (c *counts) meet(s site, f fault, n int) {
	if c.Met == nil {
		c.Met = map[site]map[fault]int{}
	}
	if c.Met[s] == nil {
		c.Met[s] = map[fault]int{}
	}
	c.Met[s][f] += n
	if (f == lateRequest || f == duplicated) && s.begins() {
		c.LateAcquires += n
	}
}

// String is the table of what was met.
func (c *counts) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests, %d writes of locks, %d locks held, %d taken over, %d handed over, %d resumed\n",
		c.Requests, c.Writes, c.Locks, c.TakeOvers, c.HandOvers, c.Resumes)
	fmt.Fprintf(&b, "%d guarded writes, %d refused, %d by the caller's own condition; %d unguarded, %d updates lost by them\n",
		c.Fenced, c.Refused, c.Gated, c.Unfenced, c.LostUpdates)
	fmt.Fprintf(&b, "%d runs of periods begun, %d of them again, %d periods finished, %d calls told of it; %d told to stop, %d exhausted, %d paused, %d too soon\n",
		c.Runs, c.Repeated, c.Finished, c.Told, c.Stopped, c.Exhausted, c.Paused, c.TooSoon)
	fmt.Fprintf(&b, "%d terms of leaders, %d went to the candidate named, %d resigned; %d changes observed\n", c.Terms,
		c.Yields, c.Resigned, c.Observed)
	fmt.Fprintf(&b, "%d ghosts (an acquire that was late after a deletion, or by clocks that are off) of %d late copies, %d late heartbeats of them; "+
		"%d made anew under their holders after a deletion; %d tokens not above the one before a deletion, within what clocks allow; %d raised\n",
		c.Ghosts, c.LateAcquires, c.GhostWrites, c.Revived, c.TokensBack, c.Raised)
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
