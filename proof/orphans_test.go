package main

import (
	"testing"
	"time"

	"github.com/dynalock/dynalock/proof/history"
)

// Times are in milliseconds. "w1.1" dies at 1000 with a lock that was last written at 900; the lease is 1000, a poll
// 250.
func judge(last int64, trouble []span, events ...history.Event) orphanage {
	const ms = int64(time.Millisecond)
	for i := range trouble {
		trouble[i] = span{trouble[i].from * ms, trouble[i].to * ms}
	}
	for i := range events {
		events[i].Call, events[i].Return = events[i].Call*ms, events[i].Return*ms
	}
	f := fleet{map[string]int64{}, map[string]int64{"w1.1": 1000 * ms}, map[string][]span{"w2": trouble}}
	return orphans([]stand{{"k", "w1.1", "id-7", 900 * ms, last * ms}}, f, events, 1300*time.Millisecond,
		300*time.Millisecond)
}

func waits(from, to int64) history.Event {
	return history.Event{Op: history.Acquire, Client: "w2.3.0", Key: "k", Call: from, Return: to}
}

func TestAnOrphanThatIsHeldForLongerThanALeaseAndAPollWhileSomebodyWaitsIsAViolation(t *testing.T) {
	o := judge(2400, nil, waits(500, 2450))
	if len(o.Violations) != 1 || o.Orphans != 1 || o.Judged != 1 || o.Net != 1400*time.Millisecond {
		t.Errorf("%+v", o)
	}
}

func TestAnOrphanThatIsTakenInTimeIsNone(t *testing.T) {
	o := judge(2200, nil, waits(500, 2250))
	if len(o.Violations) != 0 || o.Judged != 1 || o.Longest != 1200*time.Millisecond {
		t.Errorf("%+v", o)
	}
}

func TestAnOrphanForWhichNobodyWaitsIsNone(t *testing.T) {
	if o := judge(9000, nil); len(o.Violations) != 0 || o.Orphans != 1 || o.Judged != 0 {
		t.Errorf("%+v", o)
	}
	if o := judge(9000, nil, waits(8000, 9050)); len(o.Violations) != 0 || o.Judged != 0 {
		t.Errorf("who came late: %+v", o)
	}
	other := waits(500, 9050)
	other.Key = "another"
	if o := judge(9000, nil, other); len(o.Violations) != 0 || o.Judged != 0 {
		t.Errorf("for another lock: %+v", o)
	}
}

func TestAWaiterThatWasStoppedOrLateIsNoWitness(t *testing.T) {
	if o := judge(3000, []span{{1500, 2000}}, waits(500, 3050)); len(o.Violations) != 0 || o.Judged != 0 ||
		o.Longest != time.Second {
		t.Errorf("stopped: %+v", o)
	}
	if o := judge(3600, []span{{1500, 2000}}, waits(500, 3650)); len(o.Violations) != 1 {
		t.Errorf("stopped, and then undisturbed for long enough: %+v", o)
	}
	late := history.Event{Op: history.Late, Client: "w2.3", Call: 1200, Return: 1400}
	again := history.Event{Op: history.Late, Client: "w2.3", Call: 1300, Return: 1400}
	if o := judge(2450, nil, waits(500, 2500), late, again); len(o.Violations) != 0 || o.Net != 1250*time.Millisecond {
		t.Errorf("late: %+v", o)
	}
	if o := judge(2550, nil, waits(500, 2600), late, again); len(o.Violations) != 1 {
		t.Errorf("late, but not late enough: %+v", o)
	}
	failed := history.Event{Op: history.Late, Client: "w2.3", Call: 1200, Return: 1500}
	if o := judge(3700, nil, waits(500, 3750), failed); len(o.Violations) != 0 || o.Judged != 0 {
		t.Errorf("without an answer: %+v", o)
	}
}
