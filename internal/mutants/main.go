// Command mutants asks the tests whether they would notice: it seeds one bug at a time into the library, runs the fast
// part of the tests on it, and fails if one bug survives. The bugs are those of the other lock clients and those that
// the protocol is made to exclude; internal/mutants/README.md lists them with the tests that kill them.
//
//	scripts/mutants                    every mutant, until its first killer; first the tests that killed it last time
//	scripts/mutants -run regexp        those whose name matches
//	scripts/mutants -new               those of which no killer is known
//	scripts/mutants -write [-all]      writes the killers and README.md anew, with -all all killers of each
//
// The second mode knows nothing of the protocol. Its mutants are made by operators at every place of the syntax tree
// that they fit, and of those a sample is drawn:
//
//	scripts/mutants -generic 300 -seed 7    the first 300 in the order of this seed; fails if fewer than -rate are killed
//	scripts/mutants -generic 9 -run regexp  those whose id matches
//	scripts/mutants -generic 300 -deep 2000 what survives meets so many schedules of the simulation, as in .ci/run
//	scripts/mutants -list [-run regexp]     shows them, with their ids, and runs nothing
//
// Those that no caller could tell from the source are listed in equivalent.txt and not counted.
//
// The source is not touched: go builds from an overlay. What is killed is said together with its killer; a mutant
// whose text is no longer in the source, or that does not compile, is an error of the list.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// gate runs mutants.
type gate struct {
	suite
	last  map[string][]kill // who killed each last time
	every bool              // run all tests, whoever kills first
	dir   string            // for overlays and binaries
}

func main() {
	run := flag.String("run", "", "only the mutants whose name matches this regular expression")
	fresh := flag.Bool("new", false, "only the mutants of which no killer is known")
	every := flag.Bool("all", false, "do not stop at the first test that fails")
	write := flag.Bool("write", false, "write who killed what to killers.json and internal/mutants/README.md")
	parallel := flag.Int("p", max(1, runtime.GOMAXPROCS(0)), "how many mutants to try at once")
	var draw sample
	flag.IntVar(&draw.count, "generic", 0, "try this many mutants that operators make, and none of the list")
	flag.Uint64Var(&draw.seed, "seed", 1, "which ones, with -generic")
	flag.Float64Var(&draw.rate, "rate", 97, "how many of a hundred have to be killed, with -generic")
	flag.IntVar(&draw.deep, "deep", 0, "let what survives meet this many schedules of TestSimulation, with -generic")
	flag.BoolVar(&draw.list, "list", false, "show the mutants that operators make, and try none")
	schedules := flag.Int("schedules", 400, "how many schedules of the simulation; the tests run a tenth of them")
	timeout := flag.Duration("timeout", 4*time.Minute,
		"how long the tests of one folder may take; a mutant that hangs is killed by that")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	draw.run, draw.parallel = *run, *parallel
	mode := func() error { return gated(ctx, *run, *fresh, *every, *write, *parallel, *schedules, *timeout) }
	if draw.count > 0 || draw.list {
		mode = func() error { return drawn(ctx, draw, *schedules, *timeout) }
	}
	if err := mode(); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		stop()
		os.Exit(1)
	}
}

func gated(
	ctx context.Context, run string, fresh, every, write bool, parallel, schedules int, timeout time.Duration,
) error {
	root, err := findRoot()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left over is in the folder for what may be left over
	last, err := readKillers(root)
	if err != nil {
		return err
	}
	g := &gate{suite: suite{root, schedules, timeout}, last: last, every: every, dir: dir}

	pattern, err := regexp.Compile(run)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	chosen := slices.DeleteFunc(all(),
		func(m mutant) bool { return !pattern.MatchString(m.name) || fresh && len(last[m.name]) > 0 })
	if len(chosen) == 0 {
		return errors.New("there is no such mutant")
	}
	start := time.Now()
	if err := g.sane(ctx); err != nil {
		return err
	}
	killed, failed := g.tryAll(ctx, chosen, parallel)
	fmt.Printf("%d of %d mutants killed, in %v\n", len(killed), len(chosen), time.Since(start).Round(time.Second))
	if write {
		if err := publish(root, last, killed, every); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// drawn is the second mode.
func drawn(ctx context.Context, s sample, schedules int, timeout time.Duration) error {
	root, err := findRoot()
	if err != nil {
		return err
	}
	list, reasons, err := generics(root)
	if err != nil {
		return err
	}
	pattern, err := regexp.Compile(s.run)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	list = slices.DeleteFunc(list, func(m *generic) bool { return !pattern.MatchString(m.id) })
	if s.list {
		for _, m := range list {
			fmt.Printf("%s: %s\n%s\n", m.where(), m.id, m.diff())
		}
		return nil
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left over is in the folder for what may be left over
	g := &gate{suite: suite{root, schedules, timeout}, dir: dir}
	return g.sampled(ctx, list, reasons, s)
}

// findRoot is the folder of go.mod, here or above.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("run it inside of the repository")
		}
		dir = up
	}
}

// sane makes sure that the tests pass on the source as it is: else they would kill anything.
func (g *gate) sane(ctx context.Context) error {
	bins := map[string]string{}
	start := time.Now()
	for _, w := range waves("heartbeat") {
		if bins[w.pkg] == "" {
			bin, err := g.build(ctx, g.dir, w.pkg, "")
			if err != nil {
				return err
			}
			bins[w.pkg] = bin
		}
		kills, err := g.run(ctx, bins[w.pkg], w, true)
		if err != nil {
			return err
		}
		if len(kills) > 0 {
			return fmt.Errorf("without a mutant the tests fail: %s", strings.Join(kills, ", "))
		}
	}
	fmt.Printf("without a mutant the tests pass, in %v\n", time.Since(start).Round(time.Second))
	return nil
}

// tryAll tries mutants, several at once, and returns who killed which, and an error for each that was not.
func (g *gate) tryAll(ctx context.Context, chosen []mutant, parallel int) (killed map[string][]kill, failed []error) {
	killed = map[string][]kill{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan *mutant)
	for range parallel {
		wg.Go(func() {
			for m := range next {
				start := time.Now()
				kills, err := g.try(ctx, m)
				took := time.Since(start).Round(time.Second / 10)
				mu.Lock()
				switch {
				case err != nil:
					failed = append(failed, err)
					fmt.Printf("ERROR    %-40s %6v  %v\n", m.name, took, err)
				case len(kills) == 0:
					failed = append(failed, fmt.Errorf("%s survived: %s", m.name, m.bug))
					fmt.Printf("SURVIVED %-40s %6v  %s\n", m.name, took, m.bug)
				default:
					killed[m.name] = kills
					fmt.Printf("killed   %-40s %6v  %s\n", m.name, took, some(kills))
				}
				mu.Unlock()
			}
		})
	}
	for i := 0; i < len(chosen) && ctx.Err() == nil; i++ {
		next <- &chosen[i]
	}
	close(next)
	wg.Wait()
	return killed, append(failed, ctx.Err())
}

// try seeds one bug and returns the tests that fail then; none: it survived.
func (g *gate) try(ctx context.Context, m *mutant) ([]kill, error) {
	source, err := m.source(g.root)
	if err != nil {
		return nil, err
	}
	plan := waves(m.pkg())
	if !g.every {
		plan = append(again(g.last[m.name]), plan...)
	}
	kills, err := g.seed(ctx, m.file, source, plan)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.name, err)
	}
	return kills, nil
}

// seed runs the waves with one file replaced, until one kills.
func (g *gate) seed(ctx context.Context, file string, source []byte, plan []wave) ([]kill, error) {
	dir, err := os.MkdirTemp(g.dir, "")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // with the folder around it
	overlay, err := overlay(g.root, dir, file, source)
	if err != nil {
		return nil, err
	}
	bins := map[string]string{}
	run := func(w wave) ([]kill, error) {
		if bins[w.pkg] == "" {
			if bins[w.pkg], err = g.build(ctx, dir, w.pkg, overlay); err != nil {
				return nil, err
			}
		}
		return g.run(ctx, bins[w.pkg], w, g.every)
	}
	for _, w := range plan {
		kills, err := run(w)
		if err != nil {
			return nil, err
		}
		for _, k := range kills {
			if !strings.HasSuffix(k, byTimeout) {
				continue
			}
			// It hangs, or the machine is busy: what hangs does so alone, too.
			alone := again([]kill{k})
			if len(alone) == 0 {
				return nil, fmt.Errorf("%s: see -timeout", k)
			}
			alone[0].timeout = min(alone[0].timeout, w.timeout)
			if kills, err := run(alone[0]); err != nil || len(kills) == 0 {
				return nil, errors.Join(err, fmt.Errorf(
					"the tests take longer than %v, but %s ends when it is run alone: see -timeout", min(g.timeout, w.timeout), k))
			}
		}
		if len(kills) > 0 {
			return kills, nil
		}
	}
	return nil, nil
}

// again runs the tests that killed last time.
func again(kills []kill) (plan []wave) {
	for _, pkg := range []string{"heartbeat", "dynalock"} {
		if names := named(kills, pkg); len(names) > 0 {
			names = names[:min(len(names), 3)]
			plan = append(plan, wave{pkg: pkg, run: strings.Join(names, "$|") + "$", timeout: time.Minute})
		}
	}
	return plan
}

// named are the names of the tests of a folder among kills.
func named(kills []kill, pkg string) (names []string) {
	for _, k := range kills {
		if name, ok := strings.CutPrefix(k, pkg+"."); ok {
			if name, _, _ = strings.Cut(name, " "); strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz") {
				names = append(names, name)
			}
		}
	}
	return names
}

// some shows a few of many.
func some(kills []kill) string {
	const most = 3
	if len(kills) <= most {
		return strings.Join(kills, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(kills[:most], ", "), len(kills)-most)
}
