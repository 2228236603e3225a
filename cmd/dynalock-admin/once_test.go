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

// runs is what the table says about the runs of a job, by period.
func (w *world) runs(job string) map[string]dynalock.Run {
	w.t.Helper()
	runs := map[string]dynalock.Run{}
	for run, err := range w.other.Runs(w.t.Context(), job) {
		if err != nil {
			w.t.Fatal(err)
		}
		runs[run.Period] = run
	}
	return runs
}

// runRecord is the record of a run's lock.
func (w *world) runRecord(job, period string) dynalock.Record {
	w.t.Helper()
	r, err := w.other.Get(w.t.Context(), periodKey(job, period))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// underWay begins a run of the other client, which lasts until the test ends.
func (w *world) underWay(job, period string) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	began, ended := make(chan struct{}), make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		_, err = w.other.Once(ctx, job, period, func(ctx context.Context, _ *dynalock.Lock) error {
			close(began)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	w.t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-began:
	case <-ended:
		w.t.Fatal(err)
	}
}

func TestTheKeysOfAJobAreThoseOfTheLibraryAndLeadBackToIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range [][2]string{
		{"plain", "2026-11"},
		{"a/b %", "x/y/z"},
		{"ü\n", " "},
		{"..", "/"},
		{"once/j", "once/k"},
	} {
		job, period := name[0], name[1]
		if err := w.other.Pause(t.Context(), job, ""); err != nil {
			t.Fatal(err)
		}
		if r, err := w.other.Get(t.Context(), jobKey(job)); err != nil || r.Version == "" {
			t.Errorf("nothing under %q: %v", jobKey(job), err)
		}
		if err := w.other.Unpause(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		if _, err := w.other.Once(t.Context(), job, period, nothing); err != nil {
			t.Fatal(err)
		}
		if r := w.runRecord(job, period); r.Version == "" {
			t.Errorf("nothing under %q", periodKey(job, period))
		}
		for key, want := range map[string]string{jobKey(job): "", periodKey(job, period): period} {
			if gotJob, gotPeriod, ok := jobOf(key); !ok || gotJob != job || gotPeriod != want {
				t.Errorf("%q is of %q, %q, %v; want %q, %q", key, gotJob, gotPeriod, ok, job, want)
			}
		}
	}
	for _, key := range []string{"", "once", "once/", "once//p", "twice/j", "once/%zz/p"} {
		if job, period, ok := jobOf(key); ok {
			t.Errorf("%q is of job %q, period %q", key, job, period)
		}
	}
}

func TestWhoComesSecondWaitsForTheResult(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wake, letGo := w.wake()
	first := w.start([]string{wake}, "once", "j", "p", "--owner", "first", "--", "sh", "-c",
		`echo ready; `+untilWoke+`exit 3`)
	first.expect("ready")
	second := w.start(nil, "once", "j", "p", "-v", "--", "echo", "ran")
	second.expect("lock waiting")
	letGo()
	first.exits(3)
	if said := second.expect("dynalock-admin:"); !strings.HasPrefix(said,
		`dynalock-admin: "p" of "j" failed: by "first", `) || !strings.HasSuffix(said, ": exit code 3") {
		t.Errorf("it says %q", said)
	}
	second.exits(79)
	if run := w.runs("j")["p"]; run.Err != "exit code 3" || run.Attempt != 1 {
		t.Errorf("the run is %+v", run)
	}
}

func TestASignalReachesTheCommandOfARunAndWhatItMakesOfItIsTheResult(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(nil, "once", "j", "p", "--", "sh", "-c", `trap "echo got TERM; exit 0" TERM; echo ready; `+idle)
	p.expect("ready")
	p.signal(syscall.SIGTERM)
	p.expect("got TERM")
	p.exits(0)
	if run := w.runs("j")["p"]; run.FinishedAt.IsZero() || run.Err != "" {
		t.Errorf("the run is %+v, want finished", run)
	}
}

func TestASignalEndsTheWaitForAResultAndLeavesTheRunAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.underWay("j", "p")
	before := w.runRecord("j", "p")
	p := w.start(nil, "once", "j", "p", "-v", "--", "echo", "ran")
	p.expect("lock waiting")
	p.signal(syscall.SIGINT)
	if said := p.expect("dynalock-admin:"); said != "dynalock-admin: ended by signal: interrupt" {
		t.Errorf("it says %q", said)
	}
	p.exits(128 + int(syscall.SIGINT))
	if r := w.runRecord("j", "p"); r.Token != before.Token || r.State != dynalock.Held {
		t.Errorf("the run's lock is %v with token %d, want held with %d", r.State, r.Token, before.Token)
	}
}

func TestARunThatLosesItsLockIsEndedAndBegunAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := w.lifeline()
	p := w.start([]string{"LIFELINE=" + line.path}, guarding([]string{"once", "j", "p"}, freed, "sh", "-c", stubborn)...)
	p.expect("ready")
	if err := w.other.ForceRelease(t.Context(), w.runRecord("j", "p")); err != nil {
		t.Fatal(err)
	}
	if said := p.expect("dynalock-admin:",
		"got TERM"); said != `dynalock-admin: lost "once/j/p": it was freed by "the other"; ending the command` {
		t.Errorf("it says %q", said)
	}
	p.exits(76)
	line.await(t)
	again := w.start(nil, "once", "j", "p", "-o", "json", "--", "true")
	again.expect(`"attempt": 2`)
	again.exits(0)
}

func TestASuccessorBeginsTheRunOfACutOffHolderOnlyWhenItsCommandIsDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gate, line := w.gate(), w.lifeline()
	p := w.start([]string{"LIFELINE=" + line.path},
		guarding([]string{"once", "j", "p"}, unguarded, "sh", "-c", stubborn)...)
	p.expect("ready")
	gate.shut.Store(true)
	run, err := w.other.Once(t.Context(), "j", "p", nothing)
	if err != nil || !run.Ran || run.Attempt != 2 {
		t.Errorf("the successor's run is %+v, %v", run, err)
	}
	if !line.cut() {
		t.Error("the command was alive when the successor began")
	}
	p.expect("dynalock-admin:", "got TERM")
	p.exits(76)
	if now := w.runs("j")["p"]; now.Token != run.Token || now.FinishedAt.IsZero() {
		t.Errorf("the successor's run was touched: %+v", now)
	}
}

func TestAResultThatCannotBeRecordedIsToldAndNoSuccess(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		period, exit string
		want         int
	}{{"ok", "0", 69}, {"failed", "4", 4}} {
		t.Run(tt.period, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			gate := w.gate()
			wake, letGo := w.wake()
			p := w.start([]string{wake}, "once", "j", tt.period, "--lease", "10s", "--", "sh", "-c",
				`echo ready; `+untilWoke+`exit `+tt.exit)
			p.expect("ready")
			gate.shut.Store(true)
			letGo()
			said := p.expect("dynalock-admin: warning:")
			if !strings.Contains(said, "was not recorded, and it may be begun again") {
				t.Errorf("it says %q", said)
			}
			p.exits(tt.want)
		})
	}
}

func TestTheCommandOfARunThatIsPausedGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wake, letGo := w.wake()
	p := w.start([]string{wake}, "once", "j", "p", "--", "sh", "-c", `echo ready; `+untilWoke)
	p.expect("ready")
	w.start(nil, "pause", "j", "--reason", "why").exits(0)
	letGo()
	p.exits(0)
	w.start(nil, "once", "j", "p2", "--", "true").exits(80)
}

func TestAWaitThatIsTooShortForAnotherLookIsToldWhoIsInTheWay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		answers int64 // the first attempt has
		args    []string
	}{{1, []string{"run", "once/j/p"}}, {2, []string{"once", "j", "p"}}} {
		w := newWorld(t)
		gate := w.gate()
		w.underWay("j", "p")
		gate.after.Store(tt.answers)
		p := w.start(nil, append(tt.args, "--wait", "1s", "--", "echo", "ran")...)
		p.expect(`dynalock-admin: "once/j/p" is held by "the other"`)
		p.exits(75)
	}
}

func TestACommandThatWasToldToStopLeavesThePeriodOpenUnlessItExitsWith0(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		trap string
		exit int
		said string
	}{
		"exits": {
			`trap "exit 143" TERM; `, 143,
			`dynalock-admin: exit code 143: "exits" of "j" is not finished, and is begun again by whoever asks`,
		},
		"is killed": {
			``, 143,
			`dynalock-admin: the command was killed (terminated): "is killed" of "j" is not finished, and may be begun again`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for deploy := range 3 { // and none of them counts
				p := w.start(nil, "once", "j", name, "--attempts", "1", "--", "sh", "-c", tt.trap+`echo ready; `+idle)
				p.expect("ready")
				p.signal(syscall.SIGTERM)
				if said := p.expect("dynalock-admin:"); said != tt.said {
					t.Errorf("it says %q", said)
				}
				p.exits(tt.exit)
				if run := w.runs("j")[name]; !run.FinishedAt.IsZero() || run.Attempt != deploy+1 {
					t.Errorf("the run is %+v, want it open after attempt %d", run, deploy+1)
				}
			}
			w.start(nil, "once", "j", name, "--attempts", "1", "--", "true").exits(0)
			if run := w.runs("j")[name]; run.FinishedAt.IsZero() || run.Err != "" {
				t.Errorf("the run is %+v, want finished", run)
			}
		})
	}
}

func TestASignalBetweenTwoTriesLeavesThePeriodOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(nil, "once", "j", "p", "-v", "--retries", "3", "--retry-pause", "1h", "--", "false")
	p.expect("is retried")
	p.signal(syscall.SIGTERM)
	if said := p.expect("dynalock-admin:"); said != "dynalock-admin: ended by signal: terminated" {
		t.Errorf("it says %q", said)
	}
	p.exits(143)
	w.start(nil, "once", "j", "p", "--attempts", "1", "--", "true").exits(0)
}

func TestAJobTicksUntilASignalComes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ flag, value, command string }{
		"while it waits": {"--cron", "* * * * *", "true"},
		"while its command runs": {
			"--every", "1s",
			`trap "exit 5" TERM; echo ready $DYNALOCK_JOB $DYNALOCK_PERIOD; ` + idle,
		},
		"which exits with 0 then": {
			"--every", "1s",
			`trap "exit 0" TERM; echo ready $DYNALOCK_JOB $DYNALOCK_PERIOD; ` + idle,
		},
		"between ticks": {"--every", "1s", `echo ready $DYNALOCK_JOB $DYNALOCK_PERIOD; exit 3`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.start(nil, "once", "ticking", tt.flag, tt.value, "-v", "--", "sh", "-c", tt.command)
			if tt.flag == "--every" {
				line := p.expect("ready ticking 20")
				period := strings.TrimPrefix(line, "ready ticking ")
				defer func() {
					run := w.runs("ticking")[period]
					finished, failed := name != "while its command runs", name != "which exits with 0 then"
					if run.FinishedAt.IsZero() == finished || (run.Err != "") != failed {
						t.Errorf("the run is %+v", run)
					}
				}()
			} else {
				for job := (dynalock.Job{}); job.LastTick.IsZero(); time.Sleep(10 * time.Millisecond) {
					var err error
					if job, err = w.other.Job(t.Context(), "ticking"); err != nil {
						t.Fatal(err)
					}
				}
			}
			if name == "between ticks" {
				if said := p.expect("dynalock-admin: "); !strings.HasSuffix(said, `" of "ticking" failed: exit code 3`) {
					t.Errorf("it says %q", said)
				}
			}
			p.signal(syscall.SIGTERM)
			p.exits(143)
		})
	}
}

func TestNothingIsSaidOfAnEndThatWasRecorded(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"until the next tick": {"--every", "3s", "--", "sh", "-c", `echo ran`},
		"before a retry": {
			"p", "--retries", "1", "--retry-pause", "1500ms", "--", "sh", "-c",
			`echo ran; [ -e again ] && exec sleep 1.5; : >again; exit 1`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.start(nil, append([]string{"once", "j"}, args...)...)
			for range 2 { // more than a second apart
				p.expect("ran")
			}
			if name == "until the next tick" {
				p.signal(syscall.SIGTERM)
				p.exits(143)
			} else {
				p.exits(0)
			}
			if said := p.said(); strings.Contains(said, "trying to tell DynamoDB") {
				t.Errorf("it says %q", said)
			}
		})
	}
}
