package history

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// A history is written as it happened: each helper is one call from one time to another.

func acquire(client string, token uint64, from, to int64) Event {
	return Event{Op: Acquire, Client: client, Key: "k", Call: from, Return: to, Outcome: OK, Tenure: client, Token: token}
}

func held(client string, from, to int64) Event {
	return Event{Op: Held, Client: client, Key: "k", Call: from, Return: to, Outcome: OK, Tenure: client}
}

func lost(client string, from, to int64) Event {
	return Event{Op: Held, Client: client, Key: "k", Call: from, Return: to, Outcome: Lost, Tenure: client}
}

func release(client string, from, to int64) Event {
	return Event{Op: Release, Client: client, Key: "k", Call: from, Return: to, Outcome: OK, Tenure: client}
}

func write(client string, token uint64, from, to int64, out Outcome, add string, read ...string) Event {
	return Event{
		Op: Write, Client: client, Key: "k", Call: from, Return: to, Outcome: out, Tenure: client, Token: token,
		Guarded: true, Read: read, Add: add,
	}
}

func read(from, to int64, set ...string) Event {
	return Event{Op: Read, Client: "end", Key: "k", Call: from, Return: to, Outcome: OK, Guarded: true, Read: set}
}

func unguarded(events ...Event) []Event {
	for i := range events {
		if events[i].Op == Write || events[i].Op == Read {
			events[i].Guarded = false
		}
	}
	return events
}

func right(t *testing.T, events ...Event) Result {
	t.Helper()
	r := Check(events)
	if len(r.Violations) > 0 {
		t.Errorf("a right history was rejected: %q", r.Violations)
	}
	return r
}

func wrong(t *testing.T, why string, events ...Event) {
	t.Helper()
	r := Check(events)
	if !slices.ContainsFunc(r.Violations, func(v error) bool { return strings.Contains(v.Error(), why) }) {
		t.Errorf("a wrong history passed: %q, want a violation with %q", r.Violations, why)
	}
}

func TestTenuresOneAfterTheOtherAreRight(t *testing.T) {
	r := right(t,
		acquire("a", 1, 1, 2), held("a", 3, 4), write("a", 1, 5, 6, OK, "x"), release("a", 7, 9),
		acquire("b", 2, 1, 8), held("b", 9, 10), write("b", 2, 11, 12, OK, "y", "x"), release("b", 13, 14),
		read(20, 21, "x", "y"))
	if r.Histories != 2 || r.Tenures != 2 || r.Guarded.Acknowledged != 2 || r.Unknown != 0 {
		t.Errorf("%+v", r)
	}
}

func TestAHolderThatWasFrozenWhileItLookedIsRight(t *testing.T) {
	right(t, acquire("a", 1, 1, 2), held("a", 3, 50), lost("a", 51, 52), acquire("b", 2, 10, 20), release("b", 30, 31))
}

func TestAKilledHoldersTenureMayEndAtAnyTimeAfterItWasLastSeen(t *testing.T) {
	right(t, acquire("a", 1, 1, 2), held("a", 3, 4), acquire("b", 2, 5, 9), held("b", 10, 11))
}

func TestTwoHoldersAtOnceAreWrong(t *testing.T) {
	wrong(t, "lock k: "+ErrRejected.Error(), acquire("a", 1, 1, 2), acquire("b", 2, 3, 4), held("b", 5, 6),
		held("a", 7, 8))
	wrong(t, "lock k: "+ErrRejected.Error(), acquire("a", 1, 1, 2), acquire("b", 2, 3, 4), held("a", 5, 6),
		release("b", 7, 8), release("a", 9, 10))
}

func TestTwoHoldersAtOnceWhoseGuardedWritesBothSucceedAreWrongThoughNothingIsLost(t *testing.T) {
	wrong(t, "register k",
		acquire("a", 1, 1, 2), acquire("b", 2, 3, 4),
		write("b", 2, 5, 6, OK, "y"), write("a", 1, 7, 8, OK, "x", "y"), read(20, 21, "x", "y"))
}

func TestAHolderThatIsOverruledMayBelieveForAWhile(t *testing.T) {
	right(t, acquire("a", 1, 1, 2), Event{Op: Overrule, Key: "k", Tenure: "a", Call: 3, Return: 3},
		acquire("b", 2, 4, 5), held("a", 6, 7), held("b", 8, 9), lost("a", 10, 11))
}

func TestATokenThatGoesBackIsWrong(t *testing.T) {
	const tokens = "lock k: no order of its acquisitions explains their tokens"
	wrong(t, tokens, acquire("a", 2, 1, 2), release("a", 3, 4), acquire("b", 1, 5, 6))
	wrong(t, tokens, acquire("a", 2, 1, 2), release("a", 3, 4), acquire("b", 2, 5, 6))
	wrong(t, tokens, acquire("a", 2, 1, 2), acquire("b", 1, 3, 4), held("b", 5, 6), held("a", 7, 8))
	wrong(t, "register k", write("a", 2, 1, 2, OK, "x"), write("b", 1, 3, 4, OK, "y", "x"))
}

func TestATokenMayGoBackAfterADeletionOfTheItem(t *testing.T) {
	right(t,
		acquire("a", 2, 1, 2), write("a", 2, 2, 3, OK, "x"), release("a", 3, 6),
		Event{Op: Delete, Key: "k", Call: 5, Return: 5},
		acquire("b", 1, 6, 7), write("b", 1, 8, 9, OK, "y", "x"))
}

func TestALostUpdateIsWrong(t *testing.T) {
	wrong(t, "no order", write("a", 1, 1, 2, OK, "x"), write("b", 2, 3, 4, OK, "y"), read(20, 21, "y"))
	wrong(t, "x was acknowledged and is not there", write("a", 1, 1, 2, OK, "x"), write("b", 2, 3, 4, OK, "y"),
		read(20, 21, "y"))
	wrong(t, "no order", write("a", 1, 1, 9, OK, "x"), write("b", 2, 2, 8, OK, "y"), read(20, 21, "x", "y"))
}

func TestARefusedWriteThatIsThereIsWrong(t *testing.T) {
	wrong(t, "x was refused and is there", write("a", 1, 1, 2, Lost, "x"), read(3, 4, "x"))
	wrong(t, "no order", write("a", 1, 1, 2, Lost, "x"), write("b", 2, 3, 4, OK, "y", "x"))
}

func TestAWriteInDoubtMayBeThereOrNotButNotBoth(t *testing.T) {
	doubt := write("a", 1, 1, 2, "", "x")
	right(t, doubt, write("b", 2, 3, 4, OK, "y", "x"), read(20, 21, "x", "y"))
	r := right(t, doubt, write("b", 2, 3, 4, OK, "y"), read(20, 21, "y"))
	if r.Unknown != 1 || r.Guarded.Unknown != 1 {
		t.Errorf("%+v", r)
	}
	killed := doubt
	killed.Return = 0
	right(t, killed, write("b", 2, 3, 4, OK, "y", "x"))
	wrong(t, "no order", doubt, write("b", 2, 3, 4, OK, "y"), read(20, 21, "x", "y"))
	wrong(t, "no order", doubt, read(3, 4, "x"), read(5, 6))
}

func TestAnAcquisitionInDoubtGaveTheLockToNobody(t *testing.T) {
	r := right(t, acquire("a", 1, 1, 2), Event{Op: Acquire, Client: "c", Key: "k", Call: 2, Return: 3}, held("a", 4, 5),
		release("a", 6, 7), acquire("b", 3, 8, 9))
	if r.Unknown != 1 {
		t.Errorf("%+v", r)
	}
}

func TestLostUnguardedUpdatesAreCountedAndNoViolation(t *testing.T) {
	events := unguarded(write("a", 1, 1, 9, OK, "x"), write("b", 2, 3, 4, OK, "y"), write("b", 2, 5, 6, OK, "z", "y"),
		read(20, 21, "x"))
	r := right(t, events...)
	if r.Unguarded.Lost != 2 || r.Unguarded.Acknowledged != 3 || r.Inconsistent != 1 || r.Guarded != (Updates{}) {
		t.Errorf("%+v", r)
	}
}

func TestALedgerShowsEveryAcknowledgedWriteOnceInTheOrderOfTokens(t *testing.T) {
	events := []Event{
		write("a", 1, 1, 2, OK, "x"), write("a", 1, 3, 4, OK, "y", "x"), write("b", 2, 5, 6, Lost, "r", "x", "y"),
		write("c", 3, 7, 0, "", "u", "x", "y"),
	}
	x, y, u := Entry{"x", 1}, Entry{"y", 1}, Entry{"u", 3}
	for _, l := range [][]Entry{{x, y}, {x, y, u}} {
		if v := CheckLedger("k", l, 20, events); len(v) > 0 {
			t.Errorf("%v: %q", l, v)
		}
	}
	for why, l := range map[string][]Entry{
		"y was acknowledged and is not there": {x, u},
		"x is there twice":                    {x, y, x},
		"comes after u":                       {x, u, y},
		"r was refused and is there":          {x, y, {"r", 2}},
		"nobody wrote z with token 3":         {x, y, {"z", 3}},
		"nobody wrote u with token 4":         {x, y, {"u", 4}},
	} {
		if v := CheckLedger("k", l, 20, events); !slices.ContainsFunc(v,
			func(v error) bool { return strings.Contains(v.Error(), why) }) {
			t.Errorf("%v: %q, want %q", l, v, why)
		}
	}
	if v := CheckLedger("k", []Entry{x, {"w", 1}}, 20,
		append(events[:1:1], write("d", 1, 3, 4, OK, "w", "x"))); len(v) == 0 {
		t.Error("two tenures had one token")
	}
}

func TestTheLaterLineOfACallCountsAndATornLastLineIsIgnored(t *testing.T) {
	events, err := Decode(strings.NewReader(`{"op":"write","client":"a","id":1,"key":"k","call":5,"add":"x"}
{"op":"acquire","client":"a","id":2,"key":"k","call":6}
{"op":"write","client":"a","id":1,"key":"k","call":5,"return":7,"outcome":"ok","add":"x"}
{"op":"write","cli`))
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 2 || events[0].Outcome != OK || events[1].returned() != math.MaxInt64 {
		t.Errorf("%+v", events)
	}
	if _, err := Decode(strings.NewReader("{\n")); err == nil {
		t.Error("a torn line in the middle was ignored")
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a folder without histories is an error, or it would pass")
	}
}
