package model

import (
	"fmt"
	"math/bits"
	"slices"
)

// MaxClients is how many clients a model has at most.
const MaxClients = 3

// maxDoubt is how many attempts a client knows of at once: what is acknowledged, and those in doubt.
// maxStray is how many requests are adrift: faults, the last requests of crashed clients, and releases of what an
// acquisition that gave up may have left.
const (
	maxDoubt = 3
	maxStray = 6
)

// Version is an acquisition's id and the counter that each of its writes bumps. ID 0: none.
type Version struct{ ID, N uint8 }

// Item is the lock's row. The lease in it is the same for all, see [Model]. Without a version it does not exist.
type Item struct {
	Version  Version
	Token    uint8
	Released bool
	Age      uint8 // real ticks for which somebody has known of the version: it has stood still at least that long
}

// Held reports whether the item is held by somebody, dead or alive.
func (it Item) Held() bool { return it.Version.ID != 0 && !it.Released }

// Kind of a request.
type Kind uint8

// The kinds.
const (
	Acquire Kind = iota + 1 // begins a tenure
	Beat                    // a heartbeat
	Release                 // by the holder
	CleanUp                 // release of a tenure that an acquisition may have left when it gave up
	Force                   // release by an operator
	Check                   // the condition check of a guarded write: changes nothing
)

// String names the kind.
func (k Kind) String() string {
	return [...]string{"", "acquire", "heartbeat", "release", "clean-up", "forced release", "condition check"}[k]
}

// Write is a conditional write on its way.
type Write struct {
	Kind    Kind
	Version Version         // that it writes
	Tenure  uint8           // of Force and Check: the acquisition that must hold the lock
	Admit   Version         // of Acquire: what it may replace although the lock is not free
	Open    [maxDoubt]uint8 // of Beat and Release: what the counter in the item may be
	Token   uint8           // of Beat, Release and Check: what the token must be
	Rate    uint8           // of Acquire: of the clock that watched what it admits
	// of Acquire: a copy of it was applied, or its acquisition is over: each release since is stamped later
	Used bool
	Old  bool // of Acquire: by the clocks, it is older than the release that it meets
}

func (w Write) String() string {
	s := w.Kind.String()
	if w.Version.ID != 0 {
		s += fmt.Sprintf(" %d-%d", w.Version.ID, w.Version.N)
	}
	if w.Admit.ID != 0 {
		s += fmt.Sprintf(" over %d-%d", w.Admit.ID, w.Admit.N)
	}
	if w.Token != 0 {
		s += fmt.Sprintf(" of token %d if counter in %v", w.Token, trim(w.Open))
	}
	return s
}

func trim(open [maxDoubt]uint8) []uint8 {
	return slices.DeleteFunc(slices.Clone(open[:]), func(n uint8) bool { return n == 0 })
}

// Progress of a request.
type Progress uint8

// How far a request has come.
const (
	Sent Progress = iota + 1
	Applied
	Refused
)

// Request is one that a client waits for.
type Request struct {
	Write
	Progress Progress
	Age      uint8 // ticks since it was sent
	Saw      Item  // what the answer shows
}

// Phase of a client.
type Phase uint8

// The phases.
const (
	Idle       Phase = iota
	Acquiring        // Acquire has been called
	Confirming       // its answer came late: one heartbeat before it returns
	Holding          // it has returned a lock, which may be lost by now
	Releasing
	Crashed
)

// Attempt is a write that may have been applied, and its age.
type Attempt struct{ N, Age uint8 }

// Client is what a client knows.
type Client struct {
	Phase   Phase
	ID      uint8 // of its acquisition
	N       uint8 // counter of the last version sent
	Unclear bool  // some attempt to acquire, or to release, is in doubt

	// While it acquires. While it confirms: whether the attempt was refused, and by what.
	Looks bool // the next request is a look, since somebody holds the lock
	Admit Version
	Doubt [maxDoubt]Attempt
	First uint8 // age of the first attempt

	// While it has a lock.
	Token  uint8
	Open   [maxDoubt]uint8 // counters that the item may have
	Credit uint8           // age of what the lease is trusted for
	Over   bool            // the lease is over
	Gone   bool            // the item says so

	Watch   Version // seen standing still for so many ticks
	Still   uint8
	Request Request
	Guarded Guarded
}

// Guarded is a read and write of a register under the lock: it was read, and the write with the lock's condition
// check is on its way, for as long as it likes.
type Guarded struct {
	ID, Token uint8
	Stale     bool // somebody else has written since
}

// State of everything.
type State struct {
	Item      Item
	Clients   [MaxClients]Client
	Stray     [maxStray]Write // requests that may arrive and that nobody waits for
	Last      uint8           // id given last
	Overruled uint8           // token of the tenure that an operator ended

	Faults, Crashes, Operators uint8 // that are still to come
}

// canonical gives states that behave alike one form: what decides nothing any more is dropped, and ids, counters and
// tokens are renamed, since of counters and tokens only the order matters, and of ids not even that.
func (s *State) canonical(m *Model) {
	s.prune(m)
	s.rename()
}

// itself is the renaming that changes nothing.
var itself = func() (same [64]uint8) {
	for i := range same {
		same[i] = uint8(i)
	}
	return same
}()

func (s *State) rename() {
	var p pointers
	s.pointers(&p)
	var renamed [64]uint8
	var used [64]uint64 // the counters of each id, a bit each
	rename := func(ids []*uint8) {
		for _, id := range ids {
			if renamed[*id] == 0 {
				s.Last++
				renamed[*id] = s.Last
			}
			*id = renamed[*id]
		}
	}
	s.Last = 0
	rename(p.ids[:p.nIDs])
	s.sortStrays(&renamed)
	known := p.nIDs
	s.strayPointers(&p)
	rename(p.ids[known:p.nIDs])
	defer s.sortStrays(&itself)
	for _, c := range p.counters[:p.nCounters] {
		used[*c.id] |= 1 << *c.n
	}
	for _, c := range p.counters[:p.nCounters] {
		*c.n = rank(used[*c.id], *c.n)
	}
	given := uint64(0)
	for _, t := range p.tokens[:p.nTokens] {
		given |= 1 << *t
	}
	for _, t := range p.tokens[:p.nTokens] {
		*t = rank(given, *t)
	}
}

// decision renames an item and a write by themselves.
func decision(it Item, w Write) Decision {
	it.Age, w.Rate = 0, 0
	s := State{Item: it, Stray: [maxStray]Write{w}}
	s.rename()
	return Decision{s.Item, s.Stray[0]}
}

// rank of n among the bits that are set, from 1.
func rank(set uint64, n uint8) uint8 { return uint8(bits.OnesCount64(set & (2<<n - 1))) }

// pointers to everything that is renamed.
type pointers struct {
	nIDs, nCounters, nTokens int
	ids                      [64]*uint8
	counters                 [96]struct{ id, n *uint8 }
	tokens                   [24]*uint8
}

func (p *pointers) version(v *Version) {
	p.id(&v.ID)
	p.counter(&v.ID, &v.N)
}

func (p *pointers) id(id *uint8) {
	if *id != 0 {
		p.ids[p.nIDs] = id
		p.nIDs++
	}
}

func (p *pointers) counter(id, n *uint8) {
	if *n != 0 {
		p.counters[p.nCounters].id, p.counters[p.nCounters].n = id, n
		p.nCounters++
	}
}

func (p *pointers) token(t *uint8) {
	if *t != 0 {
		p.tokens[p.nTokens] = t
		p.nTokens++
	}
}

func (p *pointers) write(w *Write) {
	p.version(&w.Version)
	p.id(&w.Tenure)
	p.version(&w.Admit)
	for i := range w.Open {
		p.counter(&w.Version.ID, &w.Open[i])
	}
	p.token(&w.Token)
}

func (s *State) pointers(p *pointers) {
	p.version(&s.Item.Version)
	p.token(&s.Item.Token)
	p.token(&s.Overruled)
	for i := range s.Clients {
		c := &s.Clients[i]
		p.id(&c.ID)
		p.counter(&c.ID, &c.N)
		for j := range c.Doubt {
			p.counter(&c.ID, &c.Doubt[j].N)
			p.counter(&c.ID, &c.Open[j])
		}
		p.version(&c.Admit)
		p.token(&c.Token)
		p.version(&c.Watch)
		if c.Request.Kind != 0 {
			p.write(&c.Request.Write)
			p.version(&c.Request.Saw.Version)
			p.token(&c.Request.Saw.Token)
		}
		p.id(&c.Guarded.ID)
		p.token(&c.Guarded.Token)
	}
}

func (s *State) strayPointers(p *pointers) {
	for i := range s.Stray {
		if s.Stray[i].Kind != 0 {
			p.write(&s.Stray[i])
		}
	}
}

// prune drops what decides nothing: an item never has a version again, unless a write of it is still on its way, nor
// a token.
func (s *State) prune(m *Model) {
	var coming [MaxClients + maxStray]*Write
	n := 0
	for i := range s.Clients {
		if r := &s.Clients[i].Request; r.Progress == Sent {
			coming[n] = &r.Write
			n++
		}
	}
	for i := range s.Stray {
		if s.Stray[i].Kind != 0 {
			coming[n] = &s.Stray[i]
			n++
		}
	}
	possible := func(v Version) bool {
		if v == s.Item.Version {
			return true
		}
		for _, w := range coming[:n] {
			if w.Version == v && w.Kind != 0 {
				return true
			}
		}
		return false
	}
	versions := func(id uint8, open *[maxDoubt]uint8) {
		kept := 0
		for _, c := range open {
			if c != 0 && possible(Version{id, c}) {
				open[kept] = c
				kept++
			}
		}
		clear(open[kept:])
		slices.Sort(open[:kept])
	}
	for again := true; again; {
		again = false
		for i := range s.Stray {
			w := &s.Stray[i]
			dead := false
			switch w.Kind {
			case Acquire:
				if w.Admit.ID != 0 && !possible(w.Admit) {
					w.Admit, w.Rate = Version{}, 0
				}
				dead = w.Used && w.Admit.ID == 0 && m.Break != Again
			case Beat, Release:
				if m.Break != BlindBeat && m.Break != BlindRelease {
					versions(w.Version.ID, &w.Open)
					dead = w.Open[0] == 0 || w.Token != s.Item.Token
				}
			case CleanUp:
				dead = w.Version.ID != s.Item.Version.ID
				for _, other := range coming[:n] {
					dead = dead && (other.Kind != Acquire || other.Version.ID != w.Version.ID)
				}
			}
			if dead {
				*w, again = Write{}, true
			}
		}
	}
	overruled := false
	for i := range s.Clients {
		c := &s.Clients[i]
		if c.Watch.ID != 0 && !possible(c.Watch) && c.Watch != c.Request.Saw.Version {
			c.Watch, c.Still = Version{}, 0
		}
		if c.Admit.ID != 0 && !possible(c.Admit) {
			c.Admit = Version{}
		}
		switch r := &c.Request; {
		case r.Progress > Sent:
			r.Write = Write{Kind: r.Kind, Version: r.Version}
		case r.Kind == Acquire && r.Admit.ID != 0 && !possible(r.Admit):
			r.Admit, r.Rate = Version{}, 0
		default:
			versions(r.Version.ID, &r.Open)
		}
		versions(c.ID, &c.Open)
		kept := 0
		for _, d := range c.Doubt {
			if v := (Version{c.ID, d.N}); d.N != 0 && (possible(v) || c.Request.Saw.Version == v) {
				c.Doubt[kept] = d
				kept++
			}
		}
		clear(c.Doubt[kept:])
		if !s.mayComeTwice(c) {
			c.First = 0
			c.Unclear = c.Unclear && (c.Phase == Releasing || kept > 0)
		}
		if g := &c.Guarded; m.Break != Unguarded && g.ID != 0 && (g.Token != s.Item.Token || s.Item.Released) &&
			c.Token != g.Token {
			*g = Guarded{}
		}
		overruled = overruled || s.Overruled != 0 && (c.Token == s.Overruled || c.Request.Saw.Token == s.Overruled)
	}
	if !overruled && s.Item.Token != s.Overruled {
		s.Overruled = 0
	}
}

// mayComeTwice reports whether an attempt that a client takes for refused is, or may yet be, in the item.
func (s *State) mayComeTwice(c *Client) bool {
	unknown := func(v Version) bool {
		return v.ID == c.ID && !slices.ContainsFunc(c.Doubt[:], func(d Attempt) bool { return d.N == v.N })
	}
	r := &c.Request
	mine := r.Progress == Applied && s.Item.Version == r.Version
	twice := s.Faults > 0 || unknown(s.Item.Version) && !mine || r.Progress == Refused && unknown(r.Saw.Version)
	for _, w := range s.Stray {
		twice = twice || w.Kind == Acquire && unknown(w.Version)
	}
	return twice
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// sortStrays sorts them by what they are, and those whose ids nobody else knows last, by what else has the same id.
func (s *State) sortStrays(renamed *[64]uint8) {
	var kin [64]uint64
	for _, w := range s.Stray {
		kin[w.Version.ID] += 1 << (8 * w.Kind)
	}
	var keys [maxStray][2]uint64
	for i, w := range s.Stray {
		if w.Kind == 0 {
			keys[i][0] = 1 << 63 // none last
			continue
		}
		id := renamed[w.Version.ID]
		if id == 0 {
			id, keys[i][1] = 63, kin[w.Version.ID]
		}
		for _, b := range [...]uint8{
			id, uint8(w.Kind), w.Version.N, renamed[w.Admit.ID], w.Admit.N, w.Open[0], w.Token,
			bit(w.Used),
		} {
			keys[i][0] = keys[i][0]<<8 | uint64(b)
		}
	}
	for i := 1; i < maxStray; i++ {
		for j := i; j > 0 && (keys[j][0] < keys[j-1][0] || keys[j][0] == keys[j-1][0] && keys[j][1] < keys[j-1][1]); j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
			s.Stray[j], s.Stray[j-1] = s.Stray[j-1], s.Stray[j]
		}
	}
}
