package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const root = "../.."

// checker checks the types of a package with one file changed. What it imports is read from the build cache.
type checker struct {
	fset     *token.FileSet
	importer types.Importer
	files    map[string]map[string]*ast.File // by package, by file name
}

var newChecker = sync.OnceValues(func() (*checker, error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Export", "./heartbeat", "./dynalock")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	exports := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct{ ImportPath, Export string }
		if err := d.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		exports[pkg.ImportPath] = pkg.Export
	}
	c := &checker{fset: token.NewFileSet(), files: map[string]map[string]*ast.File{}}
	c.importer = importer.ForCompiler(c.fset, "gc",
		func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, pkg := range []string{"heartbeat", "dynalock"} {
		dir := filepath.Join(root, pkg)
		info, err := build.ImportDir(dir, 0)
		if err != nil {
			return nil, err
		}
		c.files[pkg] = map[string]*ast.File{}
		for _, name := range info.GoFiles {
			if c.files[pkg][name],
				err = parser.ParseFile(c.fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
})

// exported are the exported names that the packages declare: functions, methods, types, fields.
func (c *checker) exported() map[string]bool {
	names := map[string]bool{}
	note := func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			names[n.Name.Name] = n.Name.IsExported()
			return false
		case *ast.TypeSpec:
			names[n.Name.Name] = n.Name.IsExported()
		case *ast.Field:
			for _, name := range n.Names {
				names[name.Name] = name.IsExported()
			}
		}
		return true
	}
	for _, files := range c.files {
		for _, file := range files {
			ast.Inspect(file, note)
		}
	}
	return names
}

func (c *checker) check(m *mutant) error {
	source, err := m.source(root)
	if err != nil {
		return err
	}
	name := filepath.Base(m.file)
	if c.files[m.pkg()][name] == nil {
		return nil // a file of another system
	}
	mutated, err := parser.ParseFile(c.fset, m.file, source, parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	files := []*ast.File{mutated}
	for other, file := range c.files[m.pkg()] {
		if other != name {
			files = append(files, file)
		}
	}
	cfg := types.Config{Importer: c.importer}
	if _, err := cfg.Check(m.pkg(), c.fset, files, nil); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	return nil
}

func TestEveryMutantFitsTheSourceOnceAndCompiles(t *testing.T) {
	c, err := newChecker()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all() {
		if err := c.check(&m); err != nil {
			t.Error(err)
		}
	}
}

func TestAMutantThatDoesNotFitOrCompileIsSeen(t *testing.T) {
	c, err := newChecker()
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]mutant{
		"gone":      {file: "dynalock/lock.go", old: "no such text", new: ""},
		"ambiguous": {file: "dynalock/lock.go", old: "return", new: "return"},
		"types": {
			file: "dynalock/lock.go", old: "func (l *Lock) Key() string { return l.key }",
			new: "func (l *Lock) Key() string { return l.token }",
		},
		"syntax": {file: "dynalock/lock.go", old: "func (l *Lock) Key() string {", new: "func (l *Lock) Key() string"},
	} {
		if err := c.check(&m); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestEveryMutantHasANameASentenceAndWhatItBreaks(t *testing.T) {
	peers, err := os.ReadFile(filepath.Join(root, "dynalock/peers_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(root, "dynalock/doc.go"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := newChecker()
	if err != nil {
		t.Fatal(err)
	}
	exported := c.exported()
	seen := map[string]bool{}
	for _, m := range all() {
		if seen[m.name] || m.name == "" {
			t.Errorf("%q is there twice, or empty", m.name)
		}
		seen[m.name] = true
		if !strings.HasSuffix(m.bug, ".") || strings.Contains(m.bug, "|") {
			t.Errorf("%s: %q is no sentence for a table", m.name, m.bug)
		}
		number, peer := strings.CutPrefix(m.ref, "peer ")
		last := m.ref[strings.LastIndexByte(m.ref, '.')+1:]
		switch {
		case peer && strings.Contains(string(peers), "\n// "+number+". "):
		case strings.Contains(string(doc), "\n// # "+m.ref+"\n"):
		case exported[last]:
		default:
			t.Errorf("%s breaks %q, which is no failure of the peers, no section of the documentation and no exported name",
				m.name, m.ref)
		}
	}
}

// tests are the names of the tests of the two packages.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	re := regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+)\(`)
	names := map[string]bool{}
	for _, pkg := range []string{"heartbeat", "dynalock"} {
		paths, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v, %v", pkg, paths, err)
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range re.FindAllStringSubmatch(string(b), -1) {
				names[match[1]] = true
			}
		}
	}
	return names
}

func TestThePublishedListNamesAKillerOfEveryMutant(t *testing.T) {
	killers, err := readKillers(root)
	if err != nil {
		t.Fatal(err)
	}
	known := tests(t)
	for _, m := range all() {
		kills := killers[m.name]
		if len(kills) == 0 {
			t.Errorf("%s has no killer: scripts/mutants -write -run '^%s$'", m.name, m.name)
		}
		for _, pkg := range []string{"heartbeat", "dynalock"} {
			for _, name := range named(kills, pkg) {
				if !known[name] {
					t.Errorf("%s was killed by %s, which is no test any more: scripts/mutants -write -run '^%s$'", m.name, name,
						m.name)
				}
			}
		}
	}
	if names := stale(killers); len(names) > 0 {
		t.Errorf("killers of mutants that there are not: %v", names)
	}
	published, err := os.ReadFile(filepath.Join(root, listFile))
	if err != nil {
		t.Fatal(err)
	}
	if string(published) != list(killers) {
		t.Errorf("%s is out of date: scripts/mutants -write, or with -run for the mutants that are new", listFile)
	}
}

func TestTheEndOfATestProcessIsRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		out    string
		every  bool
		code   int
		failed []string // by the lines
		want   []string // with the end
	}{
		"the first failure": {
			out:    "=== RUN TestA\n    --- FAIL: TestA/sub (0.00s)\n--- FAIL: TestA (0.00s)\n--- FAIL: TestB (0.00s)\nFAIL\n",
			failed: []string{"TestA"}, want: []string{"TestA"},
		},
		"all failures": {
			out: "    --- FAIL: TestA/sub (0.00s)\n--- FAIL: TestA (0.00s)\n--- PASS: TestC (0.00s)\n--- FAIL: TestB (0.00s)\nFAIL\n", every: true,
			code: 1, failed: []string{"TestA", "TestB"}, want: []string{"TestA", "TestB"},
		},
		"a failure that speaks of a panic": {
			out: "    a_test.go:1: got panic: boom\n--- FAIL: TestA (0.00s)\nFAIL\n", every: true,
			code: 1, failed: []string{"TestA"}, want: []string{"TestA"},
		},
		"a panic in a test": {
			out: "--- FAIL: TestA (0.00s)\npanic: boom [recovered]\n", every: true,
			code: 2, failed: []string{"TestA"}, want: []string{"TestA" + byPanic},
		},
		"a panic elsewhere": {
			out: "panic: boom\n\ngoroutine 7 [running]:\ngithub.com/x/dynalock_test.TestB.func1()\n", every: true,
			code: 2, want: []string{"TestB" + byPanic},
		},
		"a panic in a goroutine that shows no test": {
			out: "=== RUN   TestA\n--- PASS: TestA (0.00s)\n=== RUN   TestB/sub\npanic: boom\n\ngoroutine 7 [running]:\nx.(*Lock).run()\n", every: true,
			code: 2, want: []string{"TestB" + byPanic},
		},
		"a fatal error": {
			out: "fatal error: concurrent map writes\n\nx.TestB(0xc000)\n", every: true,
			code: 2, want: []string{"TestB" + byPanic},
		},
		"a timeout": {
			out: "panic: test timed out after 1s\n\trunning tests:\n\t\tTestHangs (1s)\n", every: true,
			code: 2, want: []string{"TestHangs" + byTimeout},
		},
		"a leak": {
			out: "PASS\ngoleak: Errors on successful test run: found unexpected goroutines:\n", every: true,
			code: 1, want: []string{leftOver},
		},
		"killed":                        {out: "=== RUN   TestA\n", every: true, code: -1},
		"killed after a failure":        {out: "--- FAIL: TestA (0.00s)\n", every: true, code: -1, failed: []string{"TestA"}},
		"an exit of its own":            {out: "no server to test on\n", every: true, code: 1},
		"a flag that there is not":      {out: "flag provided but not defined: -sim.schedules\n", every: true, code: 2},
		"a panic before any test":       {out: "panic: boom\n\ngoroutine 1 [running]:\nx.init.0()\n", every: true, code: 2},
		"a timeout that names no tests": {out: "panic: test timed out after 1s\n", every: true, code: 2},
	} {
		failed, tail := failures(strings.NewReader(c.out), func() bool { return c.every })
		if !slices.Equal(failed, c.failed) {
			t.Errorf("%s: failed are %v, want %v", name, failed, c.failed)
		}
		if c.every {
			if failed = ending(failed, tail, c.code); !slices.Equal(failed, c.want) {
				t.Errorf("%s: read as %v, want %v", name, failed, c.want)
			}
		}
	}
}

func TestATestProcessThatNoTestEndedKillsNothing(t *testing.T) {
	s := suite{root: t.TempDir(), timeout: time.Minute}
	if err := os.Mkdir(filepath.Join(s.root, "heartbeat"), 0o700); err != nil {
		t.Fatal(err)
	}
	run := func(script string, every bool) ([]kill, error) {
		bin := filepath.Join(t.TempDir(), "heartbeat.test")
		if err := os.WriteFile(bin, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return s.run(t.Context(), bin, wave{pkg: "heartbeat", timeout: time.Minute}, every)
	}
	for _, every := range []bool{false, true} {
		for script, want := range map[string]string{
			"echo '=== RUN   TestA'; kill -9 $$":                                "signal: killed",
			"echo 'flag provided but not defined: -test.v' >&2; exit 2":         "flag provided but not defined",
			"echo 'testserver: no server'; exit 1":                              "no server",
			"exit 3":                                                            "exit status 3",
			"echo 'panic: boom' >&2; echo 'main.init()' >&2; echo gone; exit 2": "gone",
		} {
			if kills, err := run(script, every); len(kills) > 0 || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: kills %v, %v, want an error with %q", script, kills, err, want)
			}
		}
		for script, want := range map[string][]kill{
			"exit 0":                                 nil,
			"echo '--- FAIL: TestA (0.00s)'; exit 1": {"heartbeat.TestA"},
			"echo '=== RUN   TestA'; echo 'panic: boom' >&2; exit 2":                           {"heartbeat.TestA" + byPanic},
			"echo 'goleak: found unexpected goroutines' >&2; exit 1":                           {"heartbeat." + leftOver},
			"printf 'panic: test timed out\\n\\trunning tests:\\n\\t\\tTestA (1s)\\n'; exit 2": {"heartbeat.TestA" + byTimeout},
		} {
			if kills, err := run(script, every); err != nil || !slices.Equal(kills, want) {
				t.Errorf("%s: kills %v, %v, want %v", script, kills, err, want)
			}
		}
	}
}
