package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dynalock/dynalock/proof/history"
)

// The tests of the simulation. Those beyond break the assumption about clocks: the checker has to reject histories of
// locks that were held twice there, and to find registers that are right all the same.
const (
	simulation = "TestSimulation"
	pauses     = "TestPausesBetweenCheckAndUseLoseUpdatesAndGuardedWritesLoseNone"
	beyond     = "TestDriftBeyondTheAssumptionBreaksExclusionAndGuardedWritesStillLoseNothing|TestAPauseThatNoClockShowsBreaksExclusionAndGuardedWritesStillLoseNothing"
)

// simCommand has the simulation write its histories, and checks them.
func simCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("sim", flag.ContinueOnError)
	schedules := flags.Int("schedules", 1000,
		"how many `schedules` to simulate; a twentieth more, 50 at least, with pauses between check and use, and beyond what a lease can bear")
	first := flags.Uint64("first", 1, "the first `seed`")
	dir := flags.String("dir", "", "where the histories are kept (default: nowhere)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return sim(os.Stdout, *dir, func(dir string) error {
		return simulate(ctx, os.Stdout, dir, simulation+"|"+pauses+"|"+beyond, *schedules, *first)
	})
}

// sim checks the histories that write leaves in the folder; without one, in a temporary one that only success removes.
func sim(out io.Writer, dir string, write func(dir string) error) error {
	clean := func() {}
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "proof-sim-"); err != nil {
			return err
		}
		clean = func() { _ = os.RemoveAll(dir) } // a folder for temporary files
	}
	err := write(dir)
	if err == nil {
		var r history.Result
		if r, err = checkFiles(out, dir); err == nil {
			err = verdict(out, r)
		}
	}
	if err == nil {
		clean()
	} else {
		fmt.Fprintln(out, "the histories are in", dir)
	}
	return err
}

// simulate runs tests of the simulation, which write a file for each schedule into the folder.
func simulate(ctx context.Context, out io.Writer, dir, tests string, schedules int, first uint64) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/dynalock/dynalock").Output()
	if err != nil {
		return fmt.Errorf("the library's module: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "test", "./dynalock", "-count=1", "-timeout=60m", "-run", "^("+tests+")$",
		fmt.Sprint("-sim.schedules=", schedules), fmt.Sprint("-sim.first=", first), "-sim.histories="+dir)
	cmd.Dir, cmd.Stdout, cmd.Stderr = strings.TrimSpace(string(root)), out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the simulation: %w", err)
	}
	return nil
}

// checkFiles checks histories that share nothing, one file each, and says how those of each test did.
func checkFiles(out io.Writer, dir string) (history.Result, error) {
	var sum history.Result
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return sum, err
	}
	files, of := map[string]int{}, map[string]history.Result{}
	for _, name := range names {
		events, err := history.LoadFile(name)
		if err != nil {
			return sum, err
		}
		r := history.Check(events)
		for i := range r.Violations {
			r.Violations[i] = fmt.Errorf("%s: %w", filepath.Base(name), r.Violations[i])
		}
		test, _, _ := strings.Cut(filepath.Base(name), "-")
		part := of[test]
		part.Add(r)
		of[test] = part
		files[test]++
	}
	for _, test := range slices.Sorted(maps.Keys(of)) {
		r := of[test]
		fmt.Fprintf(out, "\n%d schedules of %s:\n%s\n", files[test], test, r)
		if strings.Contains(beyond, test) {
			all := len(r.Violations)
			r.Violations = slices.DeleteFunc(r.Violations, func(v error) bool { return errors.Is(v, history.ErrRejected) })
			fmt.Fprintf(out, "beyond what a lease can bear: %d histories of locks were rejected, as they must be; %d other violations\n", all-len(r.Violations), len(r.Violations))
			if all == 0 {
				return sum, errors.New("no history of a lock was rejected: the checker is blind")
			}
		}
		sum.Add(r)
	}
	fmt.Fprintln(out, "\nin all:")
	return sum, nil
}
