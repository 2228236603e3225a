package model

import (
	"fmt"
	"hash/maphash"
	"strings"
)

// Result of a search.
type Result struct {
	States      int
	Transitions int
	Depth       int  // steps to the state that is farthest away
	Ghosts      int  // transitions in which an acquire that its client gave up on began a tenure that nobody holds
	Complete    bool // every state was seen
	Violation   *Violation
	Path        []Step // that breaks a rule; none is shorter
}

func (r *Result) String() string {
	return fmt.Sprintf("%d states, %d transitions, depth %d, %d ghosts", r.States, r.Transitions, r.Depth, r.Ghosts)
}

// search is a search under way. States are told apart by 64 bits of hash: that two of ten million share theirs, so
// that one is missed, has a chance of one in 400,000.
type search struct {
	*Model
	seed    maphash.Seed
	swaps   [][MaxClients]int // of clients with equal clocks
	parents map[uint64]uint64
}

type node struct {
	state State
	hash  uint64
}

// Search visits every state that can be reached, breadth first, until one breaks a rule or, if limit is not 0, so
// many have been seen.
func (m *Model) Search(limit int) (r Result) {
	if len(m.Rates) == 0 || len(m.Rates) > MaxClients {
		panic(fmt.Sprintf("Rates has %d entries, allowed: 1 to %d", len(m.Rates), MaxClients))
	}
	x := &search{Model: m, seed: maphash.MakeSeed(), swaps: m.swaps(), parents: map[uint64]uint64{}}
	start := x.least(m.Start())
	x.parents[start.hash] = start.hash
	level, next := []node{start}, []node(nil)
	var steps []Step
	defer func() { r.States = len(x.parents) }()
	for {
		for i := range level {
			from := &level[i]
			steps = m.Enabled(&from.state, steps[:0])
			for _, step := range steps {
				r.Transitions++
				state := from.state
				if r.Violation = m.Do(&state, step); r.Violation != nil {
					r.Depth++
					r.Path = x.path(from.hash)
					return r
				}
				if m.ghost(&from.state, &state, step) {
					r.Ghosts++
				}
				to := x.least(state)
				if _, seen := x.parents[to.hash]; !seen {
					x.parents[to.hash] = from.hash
					next = append(next, to)
				}
			}
			if limit > 0 && len(x.parents) >= limit {
				return r
			}
		}
		if len(next) == 0 {
			r.Complete = true
			return r
		}
		r.Depth++
		level, next = next, level[:0]
	}
}

// least is the canonical form of a state: of those that clients with equal clocks could change places in, the one
// with the smallest hash.
func (x *search) least(s State) (best node) {
	for i, swap := range x.swaps {
		t := s
		for j, from := range swap {
			t.Clients[j] = s.Clients[from]
		}
		t.canonical(x.Model)
		if h := maphash.Comparable(x.seed, t); i == 0 || h < best.hash {
			best = node{t, h}
		}
	}
	return best
}

// swaps are the permutations of the clients that leave the rates as they are.
func (m *Model) swaps() (all [][MaxClients]int) {
	rate := func(i int) int {
		if i < len(m.Rates) {
			return m.rate(i)
		}
		return -i // there is no such client: it stays where it is
	}
	for _, p := range [][MaxClients]int{{0, 1, 2}, {1, 0, 2}, {0, 2, 1}, {2, 1, 0}, {1, 2, 0}, {2, 0, 1}} {
		if rate(p[0]) == rate(0) && rate(p[1]) == rate(1) && rate(p[2]) == rate(2) {
			all = append(all, p)
		}
	}
	return all
}

// path goes the way to a state once more, without renaming, and one step on, to the violation.
func (x *search) path(to uint64) (path []Step) {
	var way []uint64
	for h := to; ; h = x.parents[h] {
		way = append(way, h)
		if h == x.parents[h] {
			break
		}
	}
	s := x.Start()
	for i := len(way) - 2; i >= -1; i-- {
		for _, step := range x.Enabled(&s, nil) {
			t := s
			if v := x.Do(&t, step); v != nil && i < 0 || v == nil && i >= 0 && x.least(t).hash == way[i] {
				path, s = append(path, step), t
				break
			}
		}
	}
	if len(path) != len(way) {
		panic("the path to a violation cannot be gone again: " + x.Trace(path))
	}
	return path
}

// ghost reports whether an acquire has begun a tenure that came late, and the acquisition is over.
func (m *Model) ghost(from, to *State, step Step) bool {
	if step.Act != StrayArrives || from.Stray[step.Who].Kind != Acquire || from.Item.Token == to.Item.Token {
		return false
	}
	for i := range m.Rates {
		if c := &to.Clients[i]; c.ID == to.Item.Version.ID && (c.Phase == Acquiring || c.Phase == Confirming) {
			return false
		}
	}
	return true
}

// Trace tells a path as a story.
func (m *Model) Trace(path []Step) string {
	var b strings.Builder
	s := m.Start()
	now := 0
	for _, step := range path {
		if step.Act == Tick {
			now++
		}
		was := s
		v := m.Do(&s, step)
		fmt.Fprintf(&b, "%3d  %s\n", now, tell(&was, &s, step))
		if v != nil {
			fmt.Fprintf(&b, "     %v\n", v)
		}
	}
	return b.String()
}

// tell says what a step did.
func tell(was, is *State, step Step) string {
	i := step.Who
	decided := func(w Write) string {
		if was.Item == is.Item {
			return fmt.Sprintf("%v is refused: the item is %s", w, is.Item)
		}
		return fmt.Sprintf("%v is applied: the item is %s", w, is.Item)
	}
	switch step.Act {
	case Tick:
		return "-- tick --"
	case StrayArrives, StrayArrivesOld:
		return "late: " + decided(was.Stray[i])
	case Overrule:
		return "an operator frees the lock: the item is " + is.Item.String()
	}
	c, r := &is.Clients[i], &was.Clients[i].Request
	text := ""
	switch step.Act {
	case Call, Retry, Heartbeat:
		text = fmt.Sprintf("sends %v", c.Request.Write)
	case LookAgain:
		if text = "looks: the item is " + is.Item.String(); c.Request.Kind != 0 {
			text += fmt.Sprintf("; it sends %v", c.Request.Write)
		}
	case LetGo:
		if text = "is told that the lock is lost"; c.Request.Kind != 0 {
			text = fmt.Sprintf("sends %v", c.Request.Write)
		}
	case GiveUp:
		text = "gives up"
	case Drop:
		text = "forgets the lock"
	case Guard:
		text = "reads the register and sends a guarded write"
	case Arrive, ArriveOld:
		text = decided(r.Write)
	case ArriveTwice:
		text = decided(r.Write) + ", and a copy stays behind"
	case Answer:
		text = fmt.Sprintf("hears of %v: %s", r.Write, c)
	case InDoubt:
		text = fmt.Sprintf("gets no answer to %v: %s", r.Write, c)
	case GuardedArrive:
		text = fmt.Sprintf("guarded write of token %d arrives", was.Clients[i].Guarded.Token)
	case Crash:
		text = "crashes"
	}
	return "client " + name(i) + " " + text
}

// String tells what a client is about.
func (c *Client) String() string {
	switch {
	case c.Phase == Idle:
		return "it is done"
	case c.Phase == Holding && c.Over:
		return "its lock is lost"
	case c.Phase == Holding:
		return fmt.Sprintf("it holds the lock with token %d, credited from %d ticks ago", c.Token, c.Credit)
	case c.Phase == Confirming:
		return fmt.Sprintf("late, it sends %v", c.Request.Write)
	case c.Phase == Acquiring && c.Looks:
		return "it will look"
	case c.Phase == Acquiring:
		return "it will write"
	}
	return "it will try again"
}
