package examples

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// files are those of the repository whose names end so, by their paths from this folder.
func files(t *testing.T, end string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && name != "..":
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, end):
			return nil
		}
		text, err := os.ReadFile(name)
		found[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// pages are all pages of the repository. Their code and links are checked here, by a test of cmd/dynalock-admin its
// command lines.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := files(t, ".md")
	for _, name := range []string{
		"../README.md", "../CONTRIBUTING.md", "../bench/README.md", "../cmd/dynalock-admin/README.md", "../docs/costs.md",
		"../docs/operations.md", "../docs/permissions.md", "../internal/mutants/README.md",
		"../docs/adr/0001-tokens-live-in-the-item.md", "../examples/ecs/README.md", "../proof/README.md",
		"../terraform/README.md",
	} {
		if found[name] == "" {
			t.Fatalf("%s was not found", name)
		}
	}
	return found
}

// dedent takes the indentation of each line away, and what gofmt aligns.
func dedent(code string) string {
	lines := strings.Split(strings.TrimSpace(code), "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return strings.Join(lines, "\n")
}

var goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```")

func TestEveryGoSnippetOfTheDocumentationIsCodeThatRunsHere(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "*/*_test.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			code.WriteString(dedent(string(text)) + "\n")
		}
	}
	blocks := 0
	for name, text := range pages(t) {
		for _, block := range goBlock.FindAllStringSubmatch(text, -1) {
			blocks++
			if !strings.Contains(code.String(), "\n"+dedent(block[1])+"\n") {
				t.Errorf("%s: this is nowhere in the tests of examples/:\n%s", name, block[1])
			}
		}
	}
	if blocks < 8 {
		t.Errorf("only %d snippets were found: is the pattern right?", blocks)
	}
}

var link = regexp.MustCompile(`\]\(([^)]+)\)`)

func TestEveryLinkInsideTheRepositoryLeadsSomewhere(t *testing.T) {
	t.Parallel()
	for name, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			to := name
			if target != "" {
				to = filepath.Join(filepath.Dir(name), target)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if anchor == "" {
				continue
			}
			if other, err := os.ReadFile(to); err != nil || !slices.Contains(anchors(string(other)), anchor) {
				t.Errorf("%s: %s has no heading #%s (%v)", name, to, anchor, err)
			}
		}
	}
}

var (
	testName = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*(?:\.\.\.)?`)
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
)

func TestEveryTestThatTheDocumentationNamesIsThere(t *testing.T) {
	t.Parallel()
	var there []string
	for _, text := range files(t, "_test.go") {
		for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
			there = append(there, m[1])
		}
	}
	named := 0
	for page, text := range pages(t) {
		for _, name := range testName.FindAllString(text, -1) {
			named++
			begin, cut := strings.CutSuffix(name, "...")
			if !slices.ContainsFunc(there,
				func(test string) bool { return test == begin || cut && strings.HasPrefix(test, begin) }) {
				t.Errorf("%s: there is no %s", page, name)
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d names were found: is the pattern right?", named)
	}
}

var heading = regexp.MustCompile(`(?m)^#+ (.*)$`)

// anchors are the headings of a page as links name them.
func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		h := strings.ToLower(m[1])
		h = regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(h, "")
		all = append(all, strings.ReplaceAll(h, " ", "-"))
	}
	return all
}

// exported are the names that package dynalock exports, methods and fields included.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("../dynalock/*.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				names[n.Name.Name] = true
			case *ast.TypeSpec:
				names[n.Name.Name] = true
			case *ast.Field:
				for _, name := range n.Names {
					names[name.Name] = true
				}
			}
			return true
		})
	}
	return names
}

func TestWhatTheREADMESaysIsNotThereYetIsNot(t *testing.T) {
	t.Parallel()
	_, rest, found := strings.Cut(pages(t)["../README.md"], "**Not there yet:**")
	if !found {
		return // all of it is there
	}
	missing, _, _ := strings.Cut(rest, "\n\n")
	there := exported(t)
	if !there["TryAcquire"] || !there["MaxClockSkew"] {
		t.Fatal("the package's names were not found")
	}
	names := regexp.MustCompile("`([A-Za-z]+)`").FindAllStringSubmatch(missing, -1)
	if len(names) == 0 {
		t.Error("it names nothing")
	}
	for _, m := range names {
		if there[m[1]] {
			t.Errorf("%s is there now: let the README say so", m[1])
		}
	}
}

func TestThePermissionForEveryOperationThatTheLibraryMakesIsNamed(t *testing.T) {
	t.Parallel()
	page := pages(t)["../docs/permissions.md"]
	for m := range reflect.TypeFor[dynalock.DynamoDB]().Methods() {
		permission := "dynamodb:" + m.Name
		if m.Name == "TransactWriteItems" {
			permission = "dynamodb:ConditionCheckItem" // there is none for the transaction itself
		}
		if !strings.Contains(page, "`"+permission+"`") {
			t.Errorf("no word of %s", permission)
		}
	}
}

// units is what f costs on an embedded server, in virtual time.
func units(
	t *testing.T, f func(ctx context.Context, locks *dynalock.Client, srv *dynalocktest.Server),
) (writes, reads float64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.Latency = 5 * time.Millisecond })
		defer srv.Close()
		if err := dynalock.CreateTable(t.Context(), srv.Client(), "locks"); err != nil {
			t.Fatal(err)
		}
		locks, err := dynalock.New(srv.Client(), "locks")
		if err != nil {
			t.Fatal(err)
		}
		srv.ResetUsage()
		f(t.Context(), locks, srv)
		u := srv.Usage()
		writes, reads = u.WriteUnits, u.ReadUnits
		if err := locks.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return writes, reads
}

func TestTheCostsInTheDocumentationAreThoseThatTheServerCounts(t *testing.T) {
	t.Parallel()
	page := pages(t)["../docs/costs.md"]
	const write, read, month = 0.625e-6, 0.125e-6, 30 * 24 * 6 // USD a unit; as many times 10 minutes
	said := func(what string, usd float64, unit string) {
		t.Helper()
		row := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(what) + `.* \| ([0-9.]+) ` + unit +
			` \|$`).FindStringSubmatch(page)
		if row == nil {
			t.Errorf("no row for %q", what)
			return
		}
		var stated float64
		if _, err := fmt.Sscan(row[1], &stated); err != nil || stated < usd*0.94-0.005 || stated > usd*1.06+0.005 {
			t.Errorf("%s: %q USD %s, the server's units come to %.3f (%v)", what, row[1], unit, usd, err)
		}
	}

	writes, reads := units(t, func(ctx context.Context, locks *dynalock.Client, _ *dynalocktest.Server) {
		l, err := locks.Acquire(ctx, "key")
		if err != nil || l.Release(ctx) != nil {
			t.Error(err, l.Err())
		}
	})
	said("taken and given back", 1e6*(writes*write+reads*read), "a million")

	for name, lease := range map[string]time.Duration{
		"held, with a lease of 2 s": 2 * time.Second, "held, with the default lease of 10 s": 10 * time.Second,
		"held, with a lease of 60 s": time.Minute, "held, with a lease of 5 min": 5 * time.Minute,
	} {
		writes, _ = units(t, func(ctx context.Context, locks *dynalock.Client, srv *dynalocktest.Server) {
			_, err := locks.Acquire(ctx, "key", func(o *dynalock.AcquireOptions) { o.Lease = lease })
			if err != nil {
				t.Error(err)
			}
			srv.ResetUsage()
			time.Sleep(10 * time.Minute)
		})
		said(name, writes*month*write, "a month")
	}

	writes, _ = units(t, func(ctx context.Context, locks *dynalock.Client, srv *dynalocktest.Server) {
		l, err := locks.Acquire(ctx, "key")
		if err != nil {
			t.Error(err)
		}
		srv.ResetUsage()
		if err := l.Transact(ctx, build(ctx)); err != nil {
			t.Error(err)
		}
	})
	said("a guarded write of one item", 1e6*writes*write, "a million")

	_, reads = units(t, func(ctx context.Context, locks *dynalock.Client, srv *dynalocktest.Server) {
		holder, err := dynalock.New(srv.Client(), "locks")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := holder.Acquire(ctx, "key"); err != nil {
			t.Error(err)
		}
		wait, cancel := context.WithTimeout(ctx, 10*time.Minute)
		defer cancel()
		if _, err := locks.Acquire(wait, "key"); err == nil {
			t.Error("it got a lock that is held")
		}
		if err := holder.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	said("waiting", reads*month*read, "a month")

	writes, _ = units(t, func(ctx context.Context, locks *dynalock.Client, srv *dynalocktest.Server) {
		if _, err := locks.Acquire(ctx, "key"); err != nil {
			t.Error(err)
		}
		srv.ResetUsage()
		if _, err := locks.TryAcquire(ctx, "key"); err == nil {
			t.Error("it got a lock that is held")
		}
	})
	said("`TryAcquire` rejected", 1e6*writes*write, "a million")
}

func TestTheREADMEIsShort(t *testing.T) {
	t.Parallel()
	const most = 160
	if lines := strings.Count(pages(t)["../README.md"], "\n"); lines > most {
		t.Errorf("%d lines, and %d are the most that is read at once: move something to docs/", lines, most)
	}
}

func TestTheProseOfThePagesFitsInto120Columns(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../README.md", "../CONTRIBUTING.md", "../bench/README.md", "../proof/README.md"} {
		short(t, name, pages(t)[name])
	}
	for name, text := range pages(t) {
		if strings.HasPrefix(name, "../docs/") {
			short(t, name, text)
		}
	}
}

// short reports lines of more than 120 columns; those of tables and of code cannot be broken.
func short(t *testing.T, page, text string) {
	t.Helper()
	code := false
	for i, line := range strings.Split(text, "\n") {
		switch columns := len([]rune(line)); {
		case strings.HasPrefix(line, "```"):
			code = !code
		case columns > 120 && !code && !strings.HasPrefix(line, "|"):
			t.Errorf("%s:%d has %d columns", page, i+1, columns)
		}
	}
}
