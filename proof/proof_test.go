package main

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/proof/history"
)

// The test binary is also the program of the workers.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestNoGuardedUpdateIsLostAndNoOrphanStaysWhenProcessesAreKilledAndStopped(t *testing.T) {
	// Which locks a dead process leaves behind is up to the machine: a run without one for which somebody waited is
	// repeated.
	for seed := uint64(1); ; seed++ {
		if killAndStop(t, seed).Orphans.Judged > 0 {
			return
		}
		if seed == 5 {
			t.Fatal("nobody waited undisturbed for the lock of a dead process, in five runs")
		}
	}
}

func killAndStop(t *testing.T, seed uint64) outcome {
	t.Helper()
	o := options{Workers: 5, Kills: 8, Stops: 5, For: time.Minute, Out: io.Discard}
	o.Keys, o.Lease, o.Round, o.Seed = 3, time.Second, 10*time.Second, seed
	clean, err := o.prepare()
	if err != nil {
		t.Fatal(err)
	}
	out, err := run(t.Context(), o)
	if err == nil {
		err = out.verdict(io.Discard)
	}
	if err != nil {
		t.Fatalf("%v\n%v\nthe histories are in %s", err, out, o.Dir)
	}
	clean()
	if out.Kills != 8 || out.Stops != 5 || out.Processes != 13 {
		t.Errorf("%v", out)
	}
	t.Log(out)
	return out
}

// Whether memory is flat takes longer to tell.
func TestAShortSoakHarmsAllItMayBreaksNothingAndLooksAtMemory(t *testing.T) {
	o := options{Workers: 6, Kills: math.MaxInt32, Stops: math.MaxInt32, For: 18 * time.Second, Out: io.Discard}
	o.Keys, o.Lease, o.Round, o.Seed, o.Sample = 3, time.Second, 10*time.Second, 1, time.Second
	clean, err := o.prepare()
	if err != nil {
		t.Fatal(err)
	}
	out, series, err := soak(t.Context(), o)
	if err == nil {
		err = out.verdict(io.Discard)
	}
	if err != nil {
		t.Fatalf("%v\n%v\nthe histories are in %s", err, out, o.Dir)
	}
	clean()
	if out.Kills == 0 || out.Stops == 0 || len(out.Faults) == 0 || len(series) != 3 {
		t.Errorf("%d workers were looked at: %v", len(series), out)
	}
	for name, all := range series {
		if len(all) < 5 || slices.ContainsFunc(all,
			func(m memory) bool { return m.Heap == 0 || m.RSS == 0 || m.Goroutines == 0 }) {
			t.Errorf("%s: %+v", name, all)
		}
	}
	t.Log(out)
}

func TestARunThatCouldNotHaveSeenAFailureFails(t *testing.T) {
	seen := outcome{Kills: 200, Stops: 200, Orphans: orphanage{Judged: 1}}
	seen.Tenures, seen.Guarded, seen.Unguarded = 1, history.Updates{Acknowledged: 1, Forced: 1}, history.Updates{Lost: 1}
	if err := seen.verdict(io.Discard); err != nil {
		t.Error(err)
	}
	for why, unseen := range map[string]func(o *outcome, harms int){
		"nobody waited":       func(o *outcome, harms int) { o.Kills, o.Stops, o.Orphans.Judged = harms/4, 0, 0 },
		"no unguarded update": func(o *outcome, harms int) { o.Kills, o.Stops, o.Unguarded.Lost = harms, 0, 0 },
		"had no guarded":      func(o *outcome, harms int) { o.Kills, o.Stops, o.Guarded.Forced = 0, harms, 0 },
	} {
		few, many := seen, seen
		unseen(&few, 199)
		unseen(&many, 200)
		if err := few.verdict(io.Discard); err != nil {
			t.Errorf("too few to see anything: %v", err)
		}
		if err := many.verdict(io.Discard); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q", err, why)
		}
	}
}

func TestTheCheckerReadsWhatTheSimulationWrites(t *testing.T) {
	dir := t.TempDir()
	var said bytes.Buffer
	if err := simulate(t.Context(), &said, dir, simulation, 20, 1); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	r, err := checkFiles(io.Discard, dir)
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if len(files) != 20 || len(r.Violations) > 0 || r.Tenures == 0 || r.Guarded.Acknowledged == 0 ||
		r.Unguarded.Acknowledged == 0 || r.Unknown == 0 {
		t.Errorf("%d files: %v %q", len(files), r, r.Violations)
	}
}

func TestBeyondTheAssumptionAboutClocksNothingButLocksHeldTwiceIsForgiven(t *testing.T) {
	const first = `{"op":"acquire","client":"a","id":1,"key":"k","call":1,"return":2,"outcome":"ok","tenure":"a","token":5}` + "\n"
	const believes = `{"op":"held","client":"a","id":2,"key":"k","call":5,"return":6,"outcome":"ok","tenure":"a"}` + "\n"
	second := func(token int) string {
		return fmt.Sprintf(`{"op":"acquire","client":"b","id":1,"key":"k","call":3,"return":4,"outcome":"ok","tenure":"b","token":%d}`+"\n", token)
	}
	twice, back := first+second(6)+believes, first+second(4)+believes
	name, _, _ := strings.Cut(beyond, "|")
	for _, c := range []struct {
		files      map[string]string
		violations int
		blind      bool
	}{
		{map[string]string{name + "-1": twice, name + "-2": first}, 0, false},
		{map[string]string{name + "-1": twice, name + "-2": back}, 1, false},
		{map[string]string{name + "-1": back}, 1, false},
		{map[string]string{name + "-1": first}, 0, true},
		{map[string]string{"TestSimulation-1": twice}, 1, false},
	} {
		dir := t.TempDir()
		for file, text := range c.files {
			if err := os.WriteFile(filepath.Join(dir, file+".jsonl"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		r, err := checkFiles(io.Discard, dir)
		if len(r.Violations) != c.violations || (err != nil) != c.blind {
			t.Errorf("%q: %q, %v", c.files, r.Violations, err)
		}
	}
}

func TestTheHistoriesOfASimulationStayOnlyIfTheyAreWrong(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	const right = `{"op":"acquire","client":"a","id":1,"key":"k","call":1,"return":2,"outcome":"ok","tenure":"a","token":1}` + "\n"
	const twice = right +
		`{"op":"acquire","client":"b","id":1,"key":"k","call":3,"return":4,"outcome":"ok","tenure":"b","token":1}` + "\n"
	simulated := func(text string) (said, dir string, err error) {
		var out bytes.Buffer
		err = sim(&out, "", func(temp string) error {
			dir = temp
			return os.WriteFile(filepath.Join(temp, "TestSimulation-1.jsonl"), []byte(text), 0o644)
		})
		return out.String(), dir, err
	}
	said, dir, err := simulated(right)
	if _, there := os.Stat(dir); err != nil || !errors.Is(there, os.ErrNotExist) {
		t.Errorf("right: %v; the folder: %v\n%s", err, there, said)
	}
	said, dir, err = simulated(twice)
	if left, there := os.ReadFile(filepath.Join(dir, "TestSimulation-1.jsonl")); err == nil || there != nil ||
		string(left) != twice || !strings.Contains(said, "the histories are in "+dir) {
		t.Errorf("wrong: %v; the file: %v\n%s", err, there, said)
	}
}

func TestOnlyAFailedConditionOfTheLockIsARefusalByTheLock(t *testing.T) {
	cancelled := func(codes ...string) error {
		e := &types.TransactionCanceledException{}
		for _, code := range codes {
			e.CancellationReasons = append(e.CancellationReasons, types.CancellationReason{Code: &code})
		}
		return fmt.Errorf("transact: %w", e)
	}
	if !refusedBy(cancelled("None", "ConditionalCheckFailed"), 1) {
		t.Error("the lock refused, and it does not count")
	}
	for _, err := range []error{
		cancelled(), cancelled("None"), cancelled("None", "TransactionConflict"), cancelled("ConditionalCheckFailed", "None"),
		&types.TransactionCanceledException{CancellationReasons: make([]types.CancellationReason, 2)}, io.EOF, nil,
	} {
		if refusedBy(err, 1) {
			t.Errorf("the lock refused: %v", err)
		}
	}
}

func TestOptionsOutOfRangeAreNamed(t *testing.T) {
	for _, args := range [][]string{
		{"-workers", "1"},
		{"-workers", "21"},
		{"-keys", "0"},
		{"-lease", "1ms"},
		{"-round", "5s"},
	} {
		if err := killCommand(t.Context(), args); err == nil || !strings.Contains(err.Error(), args[0]) {
			t.Errorf("%v: %v", args, err)
		}
	}
	if err := soakCommand(t.Context(), []string{"-for", "1s"}); err == nil || !strings.Contains(err.Error(), "-for") {
		t.Errorf("%v", err)
	}
}

func memoryOf(n int, grows func(i int, m *memory)) []memory {
	all := make([]memory, n)
	for i := range all {
		all[i] = memory{int64(i) * int64(time.Second), 5 << 20, 60 << 20, 20 + i%3, false}
		grows(i, &all[i])
	}
	return all
}

func TestWhatGrowsIsNotFlatAndAWarmUpDoesNotCount(t *testing.T) {
	for name, c := range map[string]struct {
		grows func(i int, m *memory)
		want  string
	}{
		"flat":           {func(int, *memory) {}, ""},
		"a warm-up":      {func(i int, m *memory) { m.Heap -= uint64(max(0, 50-i)) << 14 }, ""},
		"the heap":       {func(i int, m *memory) { m.Heap += uint64(i) << 13 }, "w1 grew: heap"},
		"the whole":      {func(i int, m *memory) { m.RSS += uint64(i) << 18 }, "w1 grew: RSS"},
		"the detector":   {func(i int, m *memory) { m.RSS, m.Race = m.RSS+uint64(i)<<18, true }, ""},
		"the goroutines": {func(i int, m *memory) { m.Goroutines += i / 10 }, "w1 grew: goroutines"},
	} {
		err := flat(io.Discard, map[string][]memory{"w0": memoryOf(300, func(int, *memory) {}), "w1": memoryOf(300, c.grows)})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if flat(io.Discard, nil) == nil ||
		flat(io.Discard, map[string][]memory{"w1": memoryOf(5, func(int, *memory) {})}) == nil {
		t.Error("too little to tell is flat")
	}
}

func TestThePlotIsAPicture(t *testing.T) {
	file := filepath.Join(t.TempDir(), "plot.png")
	if err := draws(map[string][]memory{"w1": memoryOf(30, func(int, *memory) {})}, file); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it was read
	if _, err := png.Decode(f); err != nil {
		t.Error(err)
	}
}
