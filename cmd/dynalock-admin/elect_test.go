//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
)

func nothing(context.Context, *dynalock.Lock) error { return nil }

func TestASignalReachesTheLeadersCommandAndItsAnswerIsOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(nil, "elect", key, "--", "sh", "-c", `trap "echo got TERM; exit 3" TERM; echo ready; `+idle)
	p.expect("ready")
	p.signal(syscall.SIGTERM)
	p.expect("got TERM")
	p.exits(3)
	if r := w.record(); r.State != dynalock.Free {
		t.Errorf("the leadership is %v", r.State)
	}
}

func TestASignalEndsACampaignAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l, err := w.other.Acquire(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	p := w.start(nil, "elect", key, "-v", "--", "echo", "ran")
	p.expect("lock waiting")
	p.signal(syscall.SIGTERM)
	p.expect("dynalock-admin: ended by signal")
	p.exits(128 + int(syscall.SIGTERM))
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := w.record(); r.State != dynalock.Free || r.Token != l.Token() {
		t.Errorf("the leadership is %v with token %d, want free with %d", r.State, r.Token, l.Token())
	}
}

func TestASuccessorLeadsOnlyWhenACutOffLeadersCommandIsDeadAndTheLeaderCampaignsAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gate, line := w.gate(), w.lifeline()
	p := w.start([]string{"LIFELINE=" + line.path}, guarding([]string{"elect", key, "-v"}, unguarded, "sh", "-c", `
		[ -e again ] && { echo second term; exit 5; }; : >again; `+stubborn)...)
	p.expect("ready")
	first := w.record()
	gate.shut.Store(true)
	l, err := w.other.Acquire(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if !line.cut() {
		t.Error("the command was alive when the successor led")
	}
	if l.Token() <= first.Token {
		t.Errorf("the successor's term is %d, the one before was %d", l.Token(), first.Token)
	}
	gate.shut.Store(false)
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.expect("second term")
	p.exits(5)
}

func TestALeaderThatHandsOverKeepsTheLeaseUntilItsCommandIsDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := w.lifeline()
	wake, letGo := w.wake()
	p := w.start([]string{"LIFELINE=" + line.path, wake}, "elect", key, "--candidate", "ann", "--kill-after", "1h", "--", "sh", "-c", hold+`
		trap "echo got TERM" TERM; echo ready; `+untilWoke)
	p.expect("ready")
	first := w.record()
	second := w.start(nil, "elect", key, "--candidate", "ben", "-v", "--", "sh", "-c", `echo ben leads; `+idle)
	second.expect("lock waiting")
	handOver := w.start(nil, "hand-over", key, "ben", "-o", "json")
	p.expect("dynalock-admin: leadership is handed over to another candidate; ending the command", "got TERM")
	if r := w.record(); r.State != dynalock.Held || r.Token != first.Token || line.cut() {
		t.Errorf("the leadership is %v in term %d, want held in %d until the command is dead", r.State, r.Token, first.Token)
	}
	letGo()
	line.await(t)
	second.expect("ben leads")
	handOver.expect(`"candidate": "ben"`)
	handOver.exits(0)
	p.signal(syscall.SIGTERM) // it campaigns again
	p.exits(128 + int(syscall.SIGTERM))
	second.signal(syscall.SIGTERM)
	second.exits(128 + int(syscall.SIGTERM))
}

func TestACommandThatDoesNotHeedAHandOverIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := w.lifeline()
	p := w.start([]string{"LIFELINE=" + line.path}, "elect", key, "--candidate", "ann", "--kill-after", "100ms", "--",
		"sh", "-c", stubborn)
	p.expect("ready")
	handOver := w.start(nil, "hand-over", key, "nobody", "--timeout", "10s")
	p.expect("leadership is handed over")
	line.await(t)
	if said := handOver.expect("dynalock-admin:"); !strings.HasPrefix(said,
		`dynalock-admin: "nobody" does not lead "the key" after 10s`) {
		t.Errorf("it says %q", said)
	}
	handOver.exits(77)
	p.signal(syscall.SIGTERM)
	p.exits(128 + int(syscall.SIGTERM))
}

func TestAHandOverToAMistypedNameLeavesNobodyLeadingUntilItIsRepeatedOrTheLeaseIsOver(t *testing.T) {
	t.Parallel()
	for lease, timeout := range map[string]string{"10m": "5s", "5s": "1m"} {
		t.Run(lease, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first := w.start(nil, "elect", key, "--candidate", "ann", "--lease", lease, "--heartbeat", "300ms", "--", "sh", "-c", `
				[ -e again ] && { echo again; `+idle+`}; : >again; trap "exit 0" TERM; echo ready; `+idle)
			first.expect("ready")
			term := w.record()
			second := w.start(nil, "elect", key, "--candidate", "ben", "-v", "--", "sh", "-c", `echo ben leads; `+idle)
			second.expect("lock waiting")
			mistyped := w.start(nil, "hand-over", key, "bne", "--timeout", timeout)
			first.expect("leadership is handed over")
			if lease == "10m" {
				mistyped.exits(77)
				if r := w.record(); r.State != dynalock.Held || r.Token != term.Token {
					t.Errorf("somebody leads before the lease is over: %v, in term %d after %d", r.Owner, r.Token, term.Token)
				}
				w.start(nil, "hand-over", key, "ben").exits(0)
				second.expect("ben leads")
			} else {
				next := term
				for deadline := time.Now().Add(patienceOfTests); next.Token == term.Token; next = w.record() {
					if term = next; time.Now().After(deadline) { // its last write stands down
						t.Fatal("nobody ever leads")
					}
					time.Sleep(10 * time.Millisecond)
				}
				if gap := next.AcquiredAt.Sub(term.RenewedAt); gap < 5*time.Second {
					t.Errorf("%q leads %v after the leader stood down, before the lease is over", next.Owner, gap)
				}
				mistyped.exits(77)
			}
			for _, p := range []*process{first, second} {
				p.signal(syscall.SIGTERM)
				p.exits(128 + int(syscall.SIGTERM))
			}
		})
	}
}

func TestAWatchSaysOnceThatTheStoreIsGoneAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gate := w.gate()
	p := w.start(nil, "leader", key, "--watch")
	p.expect("nobody leads")
	gate.refuse.Store(true)
	p.expect(`dynalock-admin: observe "the key" on table`)
	gate.refuse.Store(false)
	l, err := w.other.Acquire(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	p.expect(`"the other" leads`)
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.expect("nobody leads")
	p.signal(syscall.SIGTERM)
	p.exits(0)
}
