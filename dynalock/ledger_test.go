package dynalock

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/dynalock/dynalock/heartbeat"
)

// held is a row that shows a version as that of a lock that is held.
func held(version string) *Record { return &Record{Version: version, State: Held} }

// late is a write that is still under way.
type late struct {
	named   []string
	version string
}

func TestALedgerNamesTheVersionOfItsOwnItemWhateverBecameOfEachWrite(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		g := ledger{id: newID()}
		g.settle(g.next(1), heartbeat.Reading{})
		item := g.version(g.last)
		var underway []late
		deliver := func(w late) bool {
			if !slices.Contains(w.named, item) {
				return false
			}
			item = w.version
			return true
		}
		most := 0
		for range 200 {
			n := g.next(1 + rng.Uint64N(9))
			w := late{g.named(), g.version(n)}
			switch rng.IntN(6) {
			case 0: // applied, and answered
				if !deliver(w) {
					t.Fatalf("seed %d: version %s, named were %v", seed, item, w.named)
				}
				g.settle(n, heartbeat.Reading{})
			case 1: // applied, its answer lost
				deliver(w)
				g.doubt(n, heartbeat.Reading{})
			case 2: // lost
				g.doubt(n, heartbeat.Reading{})
			case 3: // it arrives later
				underway = append(underway, w)
				g.doubt(n, heartbeat.Reading{})
			case 4: // applied, and repeated on the way: the answer is the refusal of the copy
				deliver(w)
				if v := g.refused(held(item), n, heartbeat.Reading{}); v != applied {
					t.Fatalf("seed %d: verdict %v", seed, v)
				}
			case 5:
				for _, i := range rng.Perm(len(underway)) {
					deliver(underway[i])
				}
				underway = nil
				g.doubt(n, heartbeat.Reading{})
			}
			most = max(most, len(g.open))
			if !slices.Contains(g.named(), item) {
				t.Fatalf("seed %d: the item has %s, named are %v", seed, item, g.named())
			}
		}
		if most < 5 {
			t.Errorf("seed %d: at most %d versions were open", seed, most)
		}
	}
}

func TestALedgerOfManyVersionsInDoubtNamesTheOneThatARefusalShows(t *testing.T) {
	g := ledger{id: newID()}
	first := g.next(1)
	g.settle(first, heartbeat.Reading{})
	for range 2 * maxOpen {
		g.doubt(g.next(1), heartbeat.Reading{})
	}
	early := g.version(first + 5)
	if named := g.named(); len(named) != maxOpen || slices.Contains(named, early) || named[0] != g.version(first) {
		t.Fatalf("named are %d versions, %v", len(named), named)
	}
	n := g.next(1)
	if v := g.refused(held(early), n, heartbeat.Reading{}); v != rejected {
		t.Errorf("verdict %v, want another attempt", v)
	}
	if !slices.Contains(g.named(), early) {
		t.Errorf("the next attempt does not name %s", early)
	}
	for name, r := range map[string]*Record{
		"another tenure":          held(newID() + "-1"),
		"another library's row":   held("3f1c"),
		"never sent":              held(g.version(n + 1)),
		"released by this tenure": {Version: early, State: Free},
	} {
		if v := g.refused(r, n, heartbeat.Reading{}); v != refused {
			t.Errorf("%s: verdict %v, want refused", name, v)
		}
	}
}

func TestALedgerOfATenureBeginsWithTheVersionThatBeganIt(t *testing.T) {
	g := ledger{id: newID()}
	at := func(mono time.Duration) heartbeat.Reading { return heartbeat.Reading{Mono: mono} }
	for i := range 3 {
		g.doubt(g.next(1), at(time.Duration(i)*time.Second))
	}
	tenure := g.begin(2, at(time.Second))
	var open []string
	for _, e := range tenure.open {
		open = append(open, strconv.FormatUint(e.n, 10))
	}
	if !slices.Equal(open, []string{"2", "3"}) {
		t.Errorf("open are %v, want the version that began it and what was sent later", open)
	}
	if sent, known := g.sentAt(2); !known || sent.Mono != time.Second {
		t.Errorf("the second attempt was sent at %v, known: %v", sent.Mono, known)
	}
	if _, known := g.sentAt(4); known {
		t.Error("a version is known that was never sent")
	}
}
