package dynalock_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// kindFiles are the files of the kinds. kinds.go is the one place where the engine meets them all.
var kindFiles = []string{"election.go", "job.go", "once.go", "resume.go", "runs.go", "tick.go"}

// sources parses the package without its tests.
func sources(t *testing.T) map[string]*ast.File {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = f
	}
	return files
}

// declared are the names that a file adds to the package: not its methods, which come with their types.
func declared(f *ast.File) (names []string) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				case *ast.ValueSpec:
					for _, n := range s.Names {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}

// uses are the names in a file that may be those of the package: no fields, no methods, no members of other packages.
func uses(f *ast.File) map[string]bool {
	used := map[string]bool{}
	var visit func(n ast.Node) bool
	visit = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			ast.Inspect(n.X, visit)
			return false
		case *ast.KeyValueExpr:
			ast.Inspect(n.Value, visit)
			return false
		case *ast.FuncDecl:
			if n.Recv != nil { // its name is not the package's
				ast.Inspect(n.Recv, visit)
				ast.Inspect(n.Type, visit)
				if n.Body != nil {
					ast.Inspect(n.Body, visit)
				}
				return false
			}
		case *ast.Field:
			ast.Inspect(n.Type, visit)
			return false
		case *ast.Ident:
			used[n.Name] = true
		}
		return true
	}
	ast.Inspect(f, visit)
	return used
}

func TestTheEngineNamesNoKind(t *testing.T) {
	files := sources(t)
	var kinds []string
	for _, name := range kindFiles {
		if files[name] == nil {
			t.Fatalf("there is no %s", name)
		}
		kinds = append(kinds, declared(files[name])...)
	}
	if len(kinds) < 50 {
		t.Fatalf("the kinds declare %d names, want more: %v", len(kinds), kinds)
	}
	for name, f := range files {
		if name == "kinds.go" || slices.Contains(kindFiles, name) {
			continue
		}
		used := uses(f)
		for _, kind := range kinds {
			if used[kind] {
				t.Errorf("%s names %s, which is of a kind", name, kind)
			}
		}
	}
}

// A file that breaks the rule is found by it.
func TestANameOfAKindInTheEngineIsFound(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "x.go",
		"package dynalock\nfunc (l *Lock) x() bool { return l.kind.(*period).job == condSpaced }", 0)
	if err != nil {
		t.Fatal(err)
	}
	used := uses(f)
	if !used["period"] || !used["condSpaced"] || used["job"] {
		t.Errorf("found %v", used)
	}
}
