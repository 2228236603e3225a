package dynalock

import (
	"slices"

	"github.com/dynalock/dynalock/heartbeat"
)

// ledger is the account of the versions that one acquisition id has sent. It does no I/O and has no lock: an
// acquisition owns it until its tenure begins, then the tenure does.
//
// The invariant: if the item's version is one of this id, it is the last one that is known to have been applied, or in
// doubt: sent, and not known to be refused. A write that names all of these is refused only when the tenure is over.
type ledger struct {
	id         string
	last       uint64            // counter of the last version sent
	first      heartbeat.Reading // when the first version was sent
	open       []entry           // in a tenure the one known to be applied comes first, then those in doubt
	unanswered bool              // one of those in doubt may be applied yet
}

// entry is a version that the item may have.
type entry struct {
	n    uint64
	sent heartbeat.Reading
}

// maxOpen bounds the versions that one condition names; DynamoDB takes 100 operands in one IN.
const maxOpen = 90

// next is the counter of a version that is about to be sent.
func (g *ledger) next(by uint64) uint64 {
	g.last += by
	return g.last
}

func (g *ledger) version(n uint64) string { return versionOf(g.id, n) }

// prefix is what all versions of the id begin with.
func (g *ledger) prefix() string { return g.id + "-" }

// doubt notes a version that may have been applied.
func (g *ledger) doubt(n uint64, sent heartbeat.Reading) {
	for i := range g.open {
		if g.open[i].n == n {
			g.open[i].sent = sent
			return
		}
	}
	g.open = append(g.open, entry{n, sent})
}

// settle notes that a version was applied: all before it are over.
func (g *ledger) settle(n uint64, sent heartbeat.Reading) { g.open = []entry{{n, sent}} }

// begin makes the account of a tenure that version n began. What was sent later may renew it.
func (g *ledger) begin(n uint64, sent heartbeat.Reading) ledger {
	t := ledger{id: g.id, last: g.last, first: g.first, open: []entry{{n, sent}}, unanswered: g.unanswered}
	for _, e := range g.open {
		if e.n > n {
			t.open = append(t.open, e)
		}
	}
	return t
}

// sentAt tells when a version in doubt was sent.
func (g *ledger) sentAt(n uint64) (sent heartbeat.Reading, known bool) {
	for _, e := range g.open {
		if e.n == n {
			return e.sent, true
		}
	}
	return heartbeat.Reading{}, false
}

// named are the versions that a condition names: the one known to be applied and the latest in doubt.
func (g *ledger) named() []string {
	open := g.open
	if len(open) > maxOpen {
		open = append([]entry{open[0]}, open[len(open)-maxOpen+1:]...)
	}
	versions := make([]string, len(open))
	for i, e := range open {
		versions[i] = g.version(e.n)
	}
	return versions
}

// refused says what the refusal of version n means if the item shows r.
func (g *ledger) refused(r *Record, n uint64, sent heartbeat.Reading) verdict {
	id, shown := splitVersion(r.Version)
	switch {
	case id != g.id:
	case shown == n:
		// This very request, repeated by something between us and DynamoDB: a proxy, or an SDK whose retries a
		// wrapper has left on.
		g.settle(n, sent)
		return applied
	case r.State == Held && len(g.open) > maxOpen &&
		slices.ContainsFunc(g.open, func(e entry) bool { return e.n == shown }):
		g.open[0].n = shown // one that was not named: the next attempt names it
		return rejected
	}
	return refused
}
