package dynalock_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"
)

// shrink makes a failing schedule smaller as long as the same sentence fails, by leaving out clients, goroutines,
// calls, faults and what happens to clocks. A schedule does not always fail, since the library's own jitter is not in
// it: each smaller one gets a few tries. (A shrinking library for properties would need it to fail each time.) It takes
// at most as many runs as told.
func shrink(t *testing.T, p *simPlan, res result, runs int) (*simPlan, result) {
	t.Helper()
	const tries = 6
	rule, spent := res.violations[0].Rule, 0
	fails := func(p *simPlan) (result, bool) {
		for range tries {
			if spent++; spent > runs {
				break
			}
			r := simulate(t, p)
			if slices.ContainsFunc(r.violations, func(v violation) bool { return v.Rule == rule }) {
				return r, true
			}
		}
		return result{}, false
	}
	for again := true; again; {
		again = false
		for _, change := range changes(p, res) {
			q := clonePlan(p)
			change(q)
			if r, ok := fails(q); ok {
				p, res, again = q, r, true
				break
			}
			if spent > runs {
				return p, res
			}
		}
	}
	return p, res
}

// changes lists what can be left out, the large things first.
func changes(p *simPlan, res result) (list []func(*simPlan)) {
	add := func(change func(*simPlan)) { list = append(list, change) }
	clients := func(p *simPlan) []*clientPlan {
		all := []*clientPlan{&p.Operator}
		for i := range p.Clients {
			all = append(all, &p.Clients[i])
		}
		return all
	}
	for i, c := range clients(p) {
		at := func(p *simPlan) *clientPlan { return clients(p)[i] }
		if len(c.Actors) > 0 {
			add(func(p *simPlan) { at(p).Actors, at(p).Close = nil, 0 })
		}
	}
	if p.Faults.Rate > 0 {
		add(func(p *simPlan) { p.Faults.Rate = 0 })
	}
	for i, c := range clients(p) {
		at := func(p *simPlan) *clientPlan { return clients(p)[i] }
		for j, actor := range c.Actors {
			if len(c.Actors) > 1 && len(actor) > 0 {
				add(func(p *simPlan) { at(p).Actors[j] = nil })
			}
			for k := range actor {
				add(func(p *simPlan) { at(p).Actors[j] = slices.Delete(at(p).Actors[j], k, k+1) })
			}
		}
		if len(c.Partitions) > 0 || c.CutSite != "" {
			add(func(p *simPlan) { at(p).Partitions, at(p).CutSite = nil, "" })
		}
		if (c.Crash > 0 || c.CrashSite != "") && len(c.Actors) > 0 {
			add(func(p *simPlan) { at(p).Crash, at(p).CrashSite = 0, "" })
		}
		if len(c.Sick) > 0 {
			add(func(p *simPlan) { at(p).Sick = nil })
		}
		if len(c.Clock.Pauses) > 0 {
			add(func(p *simPlan) { at(p).Clock.Pauses = nil })
		}
		if len(c.Clock.Steps) > 0 {
			add(func(p *simPlan) { at(p).Clock.Steps = nil })
		}
		if c.Clock.Mono != 1 || c.Clock.Wall != 1 || c.Clock.Offset != 0 {
			add(func(p *simPlan) {
				clock := &at(p).Clock
				clock.Mono, clock.Wall, clock.Offset = 1, 1, 0
			})
		}
	}
	for n := len(res.hits); n > 0; n /= 2 { // halves of the faults, then quarters, down to single ones
		for i := 0; i < len(res.hits); i += n {
			add(func(p *simPlan) {
				for _, name := range res.hits[i:min(i+n, len(res.hits))] {
					p.Faults.Spare[name] = true
				}
			})
		}
	}
	for i, c := range clients(p) {
		at := func(p *simPlan) *clientPlan { return clients(p)[i] }
		for j, actor := range c.Actors {
			for k, act := range actor {
				for m := range act.Hold {
					if act.Op != opForce {
						add(func(p *simPlan) {
							a := &at(p).Actors[j][k]
							a.Hold = slices.Delete(a.Hold, m, m+1)
						})
					}
				}
			}
		}
	}
	return list
}

// clonePlan copies a plan by way of its text.
func clonePlan(p *simPlan) *simPlan {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // numbers and strings
	}
	q := new(simPlan)
	if err := json.Unmarshal(b, q); err != nil {
		panic(err)
	}
	if q.Faults.Spare == nil {
		q.Faults.Spare = map[string]bool{}
	}
	return q
}

// watchdog names the schedule under way, just before the time of the test is over: one that hangs in real time, which
// virtual time cannot notice.
func watchdog(t *testing.T, seed uint64) (stop func() bool) {
	t.Helper()
	end, ok := t.Deadline()
	if !ok {
		return func() bool { return true }
	}
	return time.AfterFunc(time.Until(end)-5*time.Second,
		func() { panic(fmt.Sprintf("time is over in the schedule of seed %d", seed)) }).Stop
}
