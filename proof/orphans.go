package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dynalock/dynalock/proof/history"
)

// stand is one version of a lock's item, held, as it was seen in the table.
type stand struct {
	key, owner, version string
	first, last         int64
}

// span is a time in which something was wrong with a process, with its stop or its network.
type span struct{ from, to int64 }

// fleet is what the harness did to the processes.
type fleet struct {
	killed  map[string]int64  // when a process was killed
	died    map[string]int64  // when it was known to be dead, which may be later
	trouble map[string][]span // by slot
}

// orphanage is what became of the locks of dead processes.
type orphanage struct {
	Orphans    int           // versions of locks whose holder's process is dead
	Judged     int           // of them: an undisturbed process waited for it until it was free
	Longest    time.Duration // that an undisturbed process waited for a lock of a dead one
	Net        time.Duration // the same, without the requests that were slow and the times in which the waiter did not run
	Violations []error
}

func (o *orphanage) add(p orphanage) {
	o.Orphans += p.Orphans
	o.Judged += p.Judged
	o.Longest, o.Net = max(o.Longest, p.Longest), max(o.Net, p.Net)
	o.Violations = append(o.Violations, p.Violations...)
}

// afterFailure is for how long the library may pause after a request without an answer.
const afterFailure = time.Second

// orphans finds the locks that a dead process held for longer than bound while an undisturbed one waited. What the
// waiter measured itself does not count: the requests that were slow, and the times in which it did not run. Where
// either took as long as an attempt may, the waiter was disturbed.
func orphans(stands []stand, f fleet, events []history.Event, bound, attempt time.Duration) (o orphanage) {
	late, failed := map[string][]span{}, map[string][]span{}
	waits := map[string][]history.Event{}
	for _, e := range events {
		switch e.Op {
		case history.Late:
			late[e.Client] = append(late[e.Client], span{e.Call, e.Return})
			if time.Duration(e.Return-e.Call) >= attempt {
				failed[e.Client] = append(failed[e.Client], span{e.Call, e.Return + int64(afterFailure)})
			}
		case history.Acquire:
			waits[e.Key] = append(waits[e.Key], e)
		}
	}
	for _, s := range stands {
		died, dead := f.died[s.owner]
		from := max(died, s.first)
		if !dead || s.last <= from {
			continue
		}
		o.Orphans++
		judged := false
		for _, e := range waits[s.key] {
			waiter := processOf(e.Client)
			if waiter == s.owner {
				continue
			}
			w := span{max(from, e.Call), s.last}
			if e.Return > 0 {
				w.to = min(w.to, e.Return)
			}
			if at, dead := f.killed[waiter]; dead {
				w.to = min(w.to, at)
			}
			for _, calm := range w.without(slices.Concat(f.trouble[slotOf(waiter)], failed[waiter])) {
				waited := time.Duration(calm.to - calm.from)
				judged = judged || calm.from == from && calm.to == s.last
				var net time.Duration
				for _, prompt := range calm.without(late[waiter]) {
					net += time.Duration(prompt.to - prompt.from)
				}
				o.Longest, o.Net = max(o.Longest, waited), max(o.Net, net)
				if net > bound {
					o.Violations = append(o.Violations,
						fmt.Errorf("%s waited undisturbed for %v, %v of it late, for %s, held as %s by %s, which was dead; allowed: %v",
							e.Client, waited, waited-net, s.key, s.version, s.owner, bound))
				}
			}
		}
		if judged {
			o.Judged++
		}
	}
	return o
}

// processOf is the process of a goroutine.
func processOf(client string) string {
	if i := strings.LastIndexByte(client, '.'); i >= 0 {
		return client[:i]
	}
	return client
}

// slotOf is the place of a process in the fleet; who restarts it gives it another number.
func slotOf(process string) string {
	slot, _, _ := strings.Cut(process, ".")
	return slot
}

// without is what is left of a time.
func (s span) without(trouble []span) []span {
	left := []span{s}
	for _, t := range trouble {
		var next []span
		for _, l := range left {
			for _, part := range []span{{l.from, min(l.to, t.from)}, {max(l.from, t.to), l.to}} {
				if part.to > part.from {
					next = append(next, part)
				}
			}
		}
		left = next
	}
	return left
}
