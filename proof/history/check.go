package history

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Result is what a check found, and sums of many.
type Result struct {
	Histories    int // each of one lock or one register
	Operations   int
	Unknown      int // of them: in doubt, or never answered
	Tenures      int
	Guarded      Updates
	Unguarded    Updates
	Inconsistent int // unguarded registers that no order of their writes explains
	Violations   []error
}

// ErrRejected is a lock's history that no order of its calls explains, though the tokens grew: two held the lock at
// once, or one believed after its tenure was over.
var ErrRejected = errors.New("no order of its calls explains their answers")

// Updates of registers. Lost: acknowledged, but not there in the end. Forced: those of Refused that DynamoDB refused,
// though the library had done so before.
type Updates struct{ Acknowledged, Refused, Forced, Unknown, Lost int }

func (u *Updates) add(v Updates) {
	u.Acknowledged += v.Acknowledged
	u.Refused += v.Refused
	u.Forced += v.Forced
	u.Unknown += v.Unknown
	u.Lost += v.Lost
}

// Add adds what another check found.
func (r *Result) Add(s Result) {
	r.Histories += s.Histories
	r.Operations += s.Operations
	r.Unknown += s.Unknown
	r.Tenures += s.Tenures
	r.Guarded.add(s.Guarded)
	r.Unguarded.add(s.Unguarded)
	r.Inconsistent += s.Inconsistent
	r.Violations = append(r.Violations, s.Violations...)
}

func (r *Result) fail(format string, args ...any) {
	r.Violations = append(r.Violations, fmt.Errorf(format, args...))
}

func (r Result) String() string {
	line := func(u Updates) string {
		return fmt.Sprintf("%d acknowledged, %d of them LOST; %d refused, %d of them by DynamoDB after the library; %d in doubt", u.Acknowledged, u.Lost, u.Refused, u.Forced, u.Unknown)
	}
	return fmt.Sprintf(`%d histories of locks and guarded registers, %d tenures, %d operations, %d of unknown outcome: %d violations
updates guarded by Transact:    %s
updates guarded by Held() only: %s; %d registers that no order explains`,
		r.Histories, r.Tenures, r.Operations, r.Unknown, len(r.Violations), line(r.Guarded), line(r.Unguarded),
		r.Inconsistent)
}

// Timeout is how long the check of one history may take. What is not decided by then counts as a violation.
const Timeout = time.Minute

// Check checks the histories of all locks and registers in events.
func Check(events []Event) Result {
	type object struct {
		key               string
		register, guarded bool
	}
	of := map[object][]Event{}
	for _, e := range events {
		switch e.Op {
		case Read, Write:
			of[object{e.Key, true, e.Guarded}] = append(of[object{e.Key, true, e.Guarded}], e)
		case Delete:
			of[object{e.Key, false, false}] = append(of[object{e.Key, false, false}], e)
			of[object{e.Key, true, true}] = append(of[object{e.Key, true, true}], e)
		case Acquire, Held, Release, Overrule:
			of[object{e.Key, false, false}] = append(of[object{e.Key, false, false}], e)
		}
	}
	var r Result
	for _, o := range slices.SortedFunc(maps.Keys(of), func(a, b object) int { return cmp.Compare(a.key, b.key) }) {
		if o.register && !slices.ContainsFunc(of[o], func(e Event) bool { return e.Op != Delete }) {
			continue
		}
		var found Result
		what := "lock " + o.key
		switch {
		case !o.register:
			found = checkLock(what, of[o])
		case o.guarded:
			what = "register " + o.key
			found = checkRegister(what, of[o])
		default:
			found = checkUnguarded(of[o])
		}
		r.Add(found)
	}
	return r
}

// linearizable runs porcupine over one history; rejected: no order explains it, for which the caller has a name.
func linearizable(what string, model porcupine.Model, ops []porcupine.Operation) (r Result, rejected bool) {
	r = Result{Histories: 1, Operations: len(ops)}
	for _, op := range ops {
		if op.Input.(Event).returned() == math.MaxInt64 && op.Input.(Event).Op != end {
			r.Unknown++
		}
	}
	found := porcupine.CheckOperationsTimeout(model, ops, Timeout)
	if found == porcupine.Unknown {
		r.fail("%s: %d calls could not be checked within %v", what, len(ops), Timeout)
	}
	return r, found == porcupine.Illegal
}

func operation(e Event, from, to int64) porcupine.Operation {
	return porcupine.Operation{Input: e, Call: from, Output: e.Outcome, Return: to}
}

// end is the end of a tenure for its holder, which no client calls: it lies between the last time that the holder was
// seen to believe and the first time that it was seen not to.
const end Op = "end"

// A lock's history. The tenure of a process that was killed, or that was overruled, ends when nobody can tell; all
// others must be over for their holders before the next one begins, and their tokens must grow.
type lockState struct {
	holder  string
	highest uint64
}

var lockModel = porcupine.Model{
	Init: func() any { return lockState{} },
	Step: func(state, input, _ any) (bool, any) {
		st, e := state.(lockState), input.(Event)
		switch {
		case e.Op == Delete:
			st.highest = 0 // from here on the order rests on clocks
		case e.Op == Acquire && e.Outcome == OK:
			if st.holder != "" || e.Token <= st.highest {
				return false, st
			}
			st.holder, st.highest = e.Tenure, e.Token
		case e.Op == Held:
			return st.holder == e.Tenure, st
		case e.Op == end:
			if st.holder != e.Tenure {
				return false, st
			}
			st.holder = ""
		} // an acquisition that failed, or is in doubt, gave the lock to nobody: at most it raised the token
		return true, st
	},
	DescribeOperation: describe,
}

// tokenModel is what is left of lockModel when holders may believe for as long as they like: tokens grow, by whatever
// clocks.
var tokenModel = porcupine.Model{
	Init: func() any { return uint64(0) },
	Step: func(state, input, _ any) (bool, any) {
		highest, e := state.(uint64), input.(Event)
		if e.Op == Delete {
			return true, uint64(0)
		}
		return e.Token > highest, e.Token
	},
	DescribeOperation: describe,
}

func describe(input, _ any) string { return fmt.Sprintf("%+v", input) }

func checkLock(what string, events []Event) Result {
	type tenure struct {
		began     Event
		held      Event // the last time that it was
		over      int64
		overruled bool
	}
	tenures := map[string]*tenure{}
	for _, e := range events {
		if e.Op == Acquire && e.Outcome == OK {
			tenures[e.Tenure] = &tenure{began: e, over: math.MaxInt64}
		}
	}
	var ops, tokens []porcupine.Operation
	for _, e := range events {
		t := tenures[e.Tenure]
		switch {
		case e.Op == Acquire || e.Op == Delete:
			ops = append(ops, operation(e, e.Call, e.returned()))
			if e.Op == Delete || e.Outcome == OK {
				tokens = append(tokens, ops[len(ops)-1])
			}
		case t == nil: // its process was killed before it could write down that it had the lock
		case e.Op == Overrule:
			t.overruled = true
		case e.Op == Held && e.Outcome == OK:
			if e.Call > t.held.Call {
				t.held = e
			}
		case e.Return > 0:
			t.over = min(t.over, e.Return)
		}
	}
	for name, t := range tenures {
		if t.held.Call > 0 && !t.overruled {
			ops = append(ops, operation(t.held, t.held.Call, t.held.Return))
		}
		ops = append(ops, operation(Event{Op: end, Tenure: name}, t.began.Call, t.over))
	}
	r, rejected := linearizable(what, lockModel, ops)
	if rejected {
		if porcupine.CheckOperationsTimeout(tokenModel, tokens, Timeout) == porcupine.Ok {
			r.fail("%s: %w", what, ErrRejected)
		} else {
			r.fail("%s: no order of its acquisitions explains their tokens", what)
		}
	}
	r.Tenures = len(tenures)
	return r
}

// A register's history. A write is the whole read-modify-write: it takes effect at one time, and then the register has
// what was read and what was added, and nothing else; and no write of an older token comes after one of a newer.
type registerState struct {
	set   string
	token uint64
}

var registerModel = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{registerState{}} },
	Step: func(state, input, _ any) []any {
		st, e := state.(registerState), input.(Event)
		if e.Op == Delete { // of the lock's item
			return []any{registerState{set: st.set}}
		}
		same := st.set == join(e.Read)
		if e.Op == Read {
			if same {
				return []any{st}
			}
			return nil
		}
		var next []any
		if same && e.Token >= st.token && e.Outcome != Lost {
			next = append(next, registerState{join(append(slices.Clone(e.Read), e.Add)), e.Token})
		}
		if e.Outcome != OK { // not applied
			next = append(next, st)
		}
		return next
	},
	DescribeOperation: describe,
}).ToModel()

func join(set []string) string {
	return strings.Join(slices.Sorted(slices.Values(set)), " ")
}

func registerOps(events []Event) []porcupine.Operation {
	ops := make([]porcupine.Operation, len(events))
	for i, e := range events {
		ops[i] = operation(e, e.Call, e.returned())
	}
	return ops
}

// updates compares the outcomes of writes with what a register has in the end: its last read, if it was read after
// them.
func updates(events []Event) (u Updates, wrong []string) {
	var last Event
	for _, e := range events {
		if e.Op == Read && e.Call > last.Call {
			last = e
		}
	}
	for _, e := range events {
		if e.Op != Write {
			continue
		}
		there := slices.Contains(last.Read, e.Add)
		switch e.Outcome {
		case OK:
			u.Acknowledged++
			if !there && e.Return < last.Call {
				u.Lost++
				wrong = append(wrong, e.Add+" was acknowledged and is not there")
			}
		case Lost:
			u.Refused++
			if e.Forced {
				u.Forced++
			}
			if there {
				wrong = append(wrong, e.Add+" was refused and is there")
			}
		default:
			u.Unknown++
		}
	}
	return u, wrong
}

func checkRegister(what string, events []Event) Result {
	r, rejected := linearizable(what, registerModel, registerOps(events))
	if rejected {
		r.fail("%s: no order of its writes explains their answers", what)
	}
	u, wrong := updates(events)
	r.Guarded = u
	for _, w := range wrong {
		r.fail("%s: %s", what, w)
	}
	return r
}

// checkUnguarded counts what becomes of a register that only Held guards. Tokens mean nothing there.
func checkUnguarded(events []Event) (r Result) {
	r.Unguarded, _ = updates(events)
	ops := registerOps(events)
	for i := range ops {
		e := ops[i].Input.(Event)
		e.Token = 0
		ops[i].Input = e
	}
	if r.Unguarded.Lost > 0 || porcupine.CheckOperationsTimeout(registerModel, ops, time.Second) == porcupine.Illegal {
		r.Inconsistent = 1
	}
	return r
}

// Entry is one update in a register that keeps the order of its writes.
type Entry struct {
	Add   string
	Token uint64
}

// CheckLedger compares a guarded register, as it was read at some time, with the calls that wrote it: every entry was
// written by somebody, once; all that were acknowledged by then are there and no refused one; and from one tenure to
// the next the token grows.
func CheckLedger(what string, ledger []Entry, at int64, events []Event) (violations []error) {
	fail := func(format string, args ...any) {
		violations = append(violations, fmt.Errorf("%s: %s", what, fmt.Sprintf(format, args...)))
	}
	written := map[string]Event{}
	for _, e := range events {
		if e.Op == Write && e.Guarded {
			written[e.Add] = e
		}
	}
	there := map[string]bool{}
	last := Event{}
	for _, entry := range ledger {
		e, known := written[entry.Add]
		switch {
		case !known || e.Token != entry.Token:
			fail("nobody wrote %s with token %d", entry.Add, entry.Token)
		case there[entry.Add]:
			fail("%s is there twice", entry.Add)
		case e.Outcome == Lost:
			fail("%s was refused and is there", entry.Add)
		case e.Token < last.Token || e.Token == last.Token && e.Tenure != last.Tenure:
			fail("%s with token %d of %s comes after %s with token %d of %s", e.Add, e.Token, e.Tenure, last.Add, last.Token,
				last.Tenure)
		}
		there[entry.Add] = true
		last = e
	}
	for add, e := range written {
		if e.Outcome == OK && e.Return < at && !there[add] {
			fail("%s was acknowledged and is not there", add)
		}
	}
	return violations
}
