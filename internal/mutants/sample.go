package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// equivalentFile lists the generic mutants that no caller could ever tell from the source as it is: the id at the begin
// of a line, then the reason on lines that begin with a blank.
const equivalentFile = "internal/mutants/equivalent.txt"

// readEquivalents reads the list: the reason by id.
func readEquivalents(r io.Reader) (map[string]string, error) {
	reasons := map[string]string{}
	id := ""
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		switch text := strings.TrimSpace(line); {
		case text == "" || strings.HasPrefix(line, "#"):
		case line[0] != ' ' && line[0] != '\t':
			if _, twice := reasons[text]; twice {
				return nil, fmt.Errorf("%s is listed twice", text)
			}
			id, reasons[text] = text, ""
		case id == "":
			return nil, fmt.Errorf("%q is the reason of no mutant", text)
		default:
			reasons[id] = strings.TrimSpace(reasons[id] + " " + text)
		}
	}
	for id, reason := range reasons {
		if reason == "" {
			return nil, fmt.Errorf("%s has no reason", id)
		}
	}
	return reasons, lines.Err()
}

// gone are the listed ids that no mutant has any more.
func gone(reasons map[string]string, list []*generic) []string {
	rest := maps.Clone(reasons)
	for _, m := range list {
		delete(rest, m.id)
	}
	return slices.Sorted(maps.Keys(rest))
}

// result is what became of a mutant.
type result struct {
	*generic
	kills []kill
	deep  bool // only the long simulation killed it
	took  time.Duration
	err   error // it was not tried to the end; errCompile: it is none
}

func (r *result) killed() bool  { return r.err == nil && len(r.kills) > 0 }
func (r *result) counted() bool { return r.err == nil }

// sample is the second mode.
type sample struct {
	count    int // how many to try
	seed     uint64
	run      string // only those whose id matches
	rate     float64
	deep     int  // schedules of TestSimulation for what survives
	list     bool // show them only
	parallel int
}

// generics reads the source, makes its mutants, and sets aside those that are equivalent.
func generics(root string) (list []*generic, reasons map[string]string, err error) {
	s, err := parse(root)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(filepath.Join(root, equivalentFile))
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	if reasons, err = readEquivalents(f); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", equivalentFile, err)
	}
	list = s.enumerate()
	if ids := gone(reasons, list); len(ids) > 0 {
		return nil, nil, fmt.Errorf("%s lists what there is not:\n%s", equivalentFile, strings.Join(ids, "\n"))
	}
	return list, reasons, nil
}

// sampled tries the first mutants in the order of the seed, until as many have been as were asked for.
func (g *gate) sampled(ctx context.Context, list []*generic, reasons map[string]string, s sample) error {
	start := time.Now()
	covered, err := g.cover(ctx, g.dir, s.parallel)
	if err != nil {
		return err
	}
	took := time.Since(start).Round(time.Second)
	fmt.Printf("without a mutant %d tests pass, one by one, in %v\n", len(covered.tests), took)
	var aside []*generic
	equivalent := func(m *generic) bool {
		if reasons[m.id] == "" {
			return false
		}
		aside = append(aside, m)
		return true
	}
	results := collect(ctx, draw(list, s.seed), s.count, s.parallel, equivalent, func(m *generic) *result {
		start := time.Now()
		tests := covered.of(m)
		r := &result{generic: m}
		if len(tests) == 0 { // nothing can kill it: it has but to compile
			r.err = g.compiles(ctx, m)
		} else {
			r.kills, r.err = g.seed(ctx, m.file, m.source, plan(m.pkg(), tests))
		}
		if s.deep > 0 && len(tests) > 0 && len(r.kills) == 0 && r.err == nil {
			r.kills, r.err = g.seed(ctx, m.file, m.source, []wave{deep(s.deep)})
			r.deep = r.killed()
		}
		r.took = time.Since(start)
		show(r, len(tests))
		return r
	})
	fmt.Printf("\nseed %d, in %v:\n", s.seed, time.Since(start).Round(time.Second))
	return errors.Join(report(os.Stdout, results, aside, reasons, s.rate), ctx.Err())
}

// deep is the simulation with n schedules; with -test.short, which all waves run with, a tenth of what is said runs.
func deep(n int) wave {
	return wave{pkg: "dynalock", run: "TestSimulation$", timeout: time.Hour, schedules: 10 * n}
}

// compiles builds the package of a mutant and nothing else.
func (g *gate) compiles(ctx context.Context, m *generic) error {
	_, err := g.seed(ctx, m.file, m.source, []wave{{pkg: m.pkg(), run: "$", timeout: time.Minute}})
	return err
}

// collect tries mutants, several at once, in their order, until n of them were counted.
func collect(
	ctx context.Context, order []*generic, n, parallel int, skip func(*generic) bool, try func(*generic) *result,
) []*result {
	var (
		mu               sync.Mutex
		changed          = sync.NewCond(&mu)
		results          []*result
		at               int
		counted, running int
	)
	next := func() *generic {
		mu.Lock()
		defer mu.Unlock()
		for running > 0 && counted+running >= n { // those that run may turn out not to count
			changed.Wait()
		}
		for ; counted < n && at < len(order) && ctx.Err() == nil; at++ {
			if m := order[at]; !skip(m) {
				at++
				running++
				return m
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for m := next(); m != nil; m = next() {
				r := try(m)
				mu.Lock()
				running--
				if r.counted() {
					counted++
				}
				results = append(results, r)
				changed.Broadcast()
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return results
}

// show tells of one.
func show(r *result, tests int) {
	took := r.took.Round(time.Second / 10)
	said := ""
	switch {
	case errors.Is(r.err, errCompile):
		return
	case r.err != nil:
		said = fmt.Sprintf("ERROR    %s %v: %v", r.where(), took, r.err)
	case r.deep:
		said = fmt.Sprintf("killed   %s %v by nothing but the long simulation", r.where(), took)
	case r.killed():
		said = fmt.Sprintf("killed   %s %v by %s", r.where(), took, some(r.kills))
	case tests == 0:
		said = fmt.Sprintf("SURVIVED %s %v: no test comes by", r.where(), took)
	default:
		said = fmt.Sprintf("SURVIVED %s %v: %d tests come by", r.where(), took, tests)
	}
	fmt.Printf("%s\n    %s\n%s\n", said, r.id, r.diff())
}

// tally counts mutants.
type tally struct{ killed, all int }

// report tells of all, and fails when too few were killed.
func report(w io.Writer, results []*result, aside []*generic, reasons map[string]string, rate float64) error {
	var failed []error
	var total tally
	files, operators := map[string]*tally{}, map[operator]*tally{}
	slices.SortFunc(results, func(a, b *result) int { return a.place.compare(b.place) })
	none, long := 0, 0
	for _, r := range results {
		switch {
		case errors.Is(r.err, errCompile):
			none++
			continue
		case r.err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", r.id, r.err))
			continue
		case !r.killed():
			fmt.Fprintf(w, "survived: %s\n    %s\n%s\n", r.where(), r.id, r.diff())
		}
		if r.deep {
			long++
			fmt.Fprintf(w, "killed by nothing but the long simulation: %s\n    %s\n%s\n", r.where(), r.id, r.diff())
		}
		for _, t := range []*tally{&total, of(files, r.file), of(operators, r.op)} {
			t.all++
			if r.killed() {
				t.killed++
			}
		}
	}
	for _, m := range aside {
		fmt.Fprintf(w, "equivalent: %s\n    %s\n    %s\n", m.where(), m.id, reasons[m.id])
	}
	table(w, files)
	table(w, operators)
	fmt.Fprintf(w, "%d of %d generic mutants killed, %d of them by nothing but the long simulation: %s; "+
		"%d equivalent ones aside, %d that do not compile not counted\n",
		total.killed, total.all, long, percent(total.killed, total.all), len(aside), none)
	if total.all == 0 {
		failed = append(failed, errors.New("no mutant was tried"))
	} else if share := 100 * float64(total.killed) / float64(total.all); share < rate {
		failed = append(failed, fmt.Errorf("%.1f %% were killed, want %g %%", share, rate))
	}
	return errors.Join(failed...)
}

// of is the tally of a key, made where there is none.
func of[K comparable](tallies map[K]*tally, key K) *tally {
	if tallies[key] == nil {
		tallies[key] = &tally{}
	}
	return tallies[key]
}

func table[K cmp.Ordered](w io.Writer, tallies map[K]*tally) {
	for _, key := range slices.Sorted(maps.Keys(tallies)) {
		t := tallies[key]
		fmt.Fprintf(w, "%-28v %4d of %4d  %7s\n", key, t.killed, t.all, percent(t.killed, t.all))
	}
}
