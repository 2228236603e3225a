package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// test is a test of a folder, and how long it takes on the source as it is.
type test struct {
	pkg, name string
	took      time.Duration
}

// block is a part of a file that runs as a whole, and the tests that run it.
type block struct {
	begin, end place
	tests      []*test
}

// coverage knows which tests run which part of the source.
type coverage struct {
	tests  []*test
	blocks map[string][]*block // by file
}

// cover runs every test of the folders alone, and fails where one fails: it would kill anything.
func (s *suite) cover(ctx context.Context, dir string, parallel int) (*coverage, error) {
	module, err := s.module()
	if err != nil {
		return nil, err
	}
	c := &coverage{blocks: map[string][]*block{}}
	bins := map[string]string{}
	for _, pkg := range seeded {
		flags := []string{"-cover", "-covermode=set", "-coverpkg=./" + strings.Join(seeded, ",./")}
		if bins[pkg], err = s.build(ctx, dir, pkg, "", flags...); err != nil {
			return nil, err
		}
		names, err := s.names(ctx, bins[pkg], pkg)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			c.tests = append(c.tests, &test{pkg: pkg, name: name})
		}
	}
	index := map[place]*block{} // by where it begins
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	next := make(chan *test)
	for range parallel {
		wg.Go(func() {
			for t := range next {
				profile, err := s.profile(ctx, dir, bins[t.pkg], t)
				mu.Lock()
				if err == nil {
					err = c.note(index, module, profile, t)
				}
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	for _, t := range c.tests {
		next <- t
	}
	close(next)
	wg.Wait()
	for _, b := range index {
		c.blocks[b.begin.file] = append(c.blocks[b.begin.file], b)
	}
	return c, errors.Join(errs...)
}

// module is the path of the module.
func (s *suite) module() (string, error) {
	b, err := os.ReadFile(filepath.Join(s.root, "go.mod"))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimPrefix(strings.TrimSpace(line), "module "), nil
}

// names are the tests of a folder that run on mutants.
func (s *suite) names(ctx context.Context, bin, pkg string) ([]string, error) {
	cmd := exec.CommandContext(ctx, bin, "-test.list=^(Test|Fuzz)")
	cmd.Dir = filepath.Join(s.root, pkg)
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	skip := regexp.MustCompile("^(" + realTime + ")")
	return slices.DeleteFunc(strings.Fields(string(out)), skip.MatchString), nil
}

// profile runs one test and returns what it covers.
func (s *suite) profile(ctx context.Context, dir, bin string, t *test) ([]byte, error) {
	path := filepath.Join(dir, t.pkg+"."+t.name+".cover")
	args := []string{
		"-test.short", "-test.run=^" + t.name + "$", "-test.coverprofile=" + path, "-test.timeout=" + s.timeout.String(),
	}
	if t.pkg == "dynalock" {
		args = append(args, fmt.Sprintf("-sim.schedules=%d", s.schedules))
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = filepath.Join(s.root, t.pkg)
	cmd.Env = append(os.Environ(), "DYNALOCK_TEST_SERVER=embedded")
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("without a mutant %s.%s fails: %w\n%s", t.pkg, t.name, err, lastLines(string(out), 20))
	}
	t.took = time.Since(start)
	return os.ReadFile(path)
}

// note reads a profile. Its lines are file:line.column,line.column statements count.
func (c *coverage) note(index map[place]*block, module string, profile []byte, t *test) error {
	for lines := bufio.NewScanner(bytes.NewReader(profile)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "mode:") {
			continue
		}
		file, rest, ok := strings.Cut(strings.TrimPrefix(line, module+"/"), ":")
		var begin, end place
		var statements, count int
		n, err := fmt.Sscanf(rest, "%d.%d,%d.%d %d %d",
			&begin.line, &begin.column, &end.line, &end.column, &statements, &count)
		if !ok || n != 6 {
			return fmt.Errorf("profile of %s: %q: %w", t.name, line, err)
		}
		begin.file, end.file = file, file
		if index[begin] == nil {
			index[begin] = &block{begin: begin, end: end}
		}
		if b := index[begin]; count > 0 && !slices.Contains(b.tests, t) {
			b.tests = append(b.tests, t)
		}
	}
	return nil
}

// of are the tests that come by a mutant, the shortest first.
func (c *coverage) of(m *generic) []*test {
	if len(m.places) == 0 {
		return c.sorted(slices.Clone(c.tests))
	}
	found := map[*test]bool{}
	for _, p := range m.places {
		for _, t := range c.at(p, m.in) {
			found[t] = true
		}
	}
	return c.sorted(slices.Collect(maps.Keys(found)))
}

// at are the tests that run the block of a place. A place in none, such as the condition of a case, belongs to its
// function.
func (c *coverage) at(p place, in [2]place) (tests []*test) {
	none := true
	for _, b := range c.blocks[p.file] {
		if b.begin.compare(p) <= 0 && p.compare(b.end) < 0 {
			none = false
			tests = append(tests, b.tests...)
		}
	}
	switch {
	case !none:
		return tests
	case in[0].file == "":
		return c.tests
	}
	for _, b := range c.blocks[p.file] {
		if in[0].compare(b.begin) <= 0 && b.end.compare(in[1]) <= 0 {
			tests = append(tests, b.tests...)
		}
	}
	return tests
}

func (c *coverage) sorted(tests []*test) []*test {
	slices.SortFunc(tests, func(a, b *test) int {
		if a.took != b.took {
			return int(a.took - b.took)
		}
		return strings.Compare(a.name, b.name)
	})
	return tests
}

// plan makes waves of the tests that come by a mutant: those of its folder first, the short ones before the long.
func plan(pkg string, tests []*test) (plan []wave) {
	for _, of := range slices.Compact([]string{pkg, "dynalock"}) {
		var names []string
		var took, bound time.Duration = 0, time.Second
		end := func() {
			if len(names) > 0 {
				plan = append(plan, wave{pkg: of, run: strings.Join(names, "$|") + "$", timeout: 20*time.Second + 10*took})
			}
			names, took, bound = nil, 0, 4*bound
		}
		for _, t := range tests {
			if t.pkg != of {
				continue
			}
			if took+t.took > bound {
				end()
			}
			names, took = append(names, t.name), took+t.took
		}
		end()
	}
	return plan
}

// percent writes a share of n.
func percent(part, n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatFloat(100*float64(part)/float64(n), 'f', 1, 64) + " %"
}
