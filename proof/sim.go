package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dynalock/dynalock/proof/history"
)

// The tests of the simulation whose histories are checked: all faults, and pauses between check and use.
const simTests = "^(TestSimulation|TestPausesBetweenCheckAndUseLoseUpdatesAndGuardedWritesLoseNone)$"

// simCommand has the simulation write its histories, and checks them.
func simCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("sim", flag.ContinueOnError)
	schedules := flags.Int("schedules", 1000, "how many `schedules` to simulate; a twentieth more, 50 at least, with pauses between check and use")
	first := flags.Uint64("first", 1, "the first `seed`")
	dir := flags.String("dir", "", "where the histories are kept (default: nowhere)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		temp, err := os.MkdirTemp("", "proof-sim-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(temp) }() // a folder for temporary files
		*dir = temp
	}
	folder, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/dynalock/dynalock").Output()
	if err != nil {
		return fmt.Errorf("the library's module: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "test", "./dynalock", "-count=1", "-timeout=60m", "-run", simTests,
		fmt.Sprint("-sim.schedules=", *schedules), fmt.Sprint("-sim.first=", *first), "-sim.histories="+folder)
	cmd.Dir, cmd.Stdout, cmd.Stderr = strings.TrimSpace(string(root)), os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the simulation: %w", err)
	}
	r, err := checkFiles(folder)
	if err != nil {
		return err
	}
	return verdict(r)
}

// checkFiles checks histories that share nothing, one file each, and says how those of each test did.
func checkFiles(dir string) (history.Result, error) {
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
			r.Violations[i] = filepath.Base(name) + ": " + r.Violations[i]
		}
		test, _, _ := strings.Cut(filepath.Base(name), "-")
		part := of[test]
		part.Add(r)
		of[test] = part
		files[test]++
		sum.Add(r)
	}
	for test, r := range of {
		fmt.Printf("%d schedules of %s: %s\n", files[test], test, r)
	}
	return sum, nil
}
