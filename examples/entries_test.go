package examples

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// entryFolders are the folders of the packages that programs import.
func entryFolders(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	for name, text := range files(t, ".go") {
		folder := strings.TrimPrefix(path.Dir(name), "../")
		first, _, _ := strings.Cut(folder, "/")
		if !strings.HasSuffix(name, "_test.go") && !strings.Contains("\n"+text, "\npackage main\n") &&
			!strings.Contains("/"+folder+"/", "/internal/") && !slices.Contains([]string{"docs", "examples", "proof"}, first) {
			found[folder] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// noExample are the functions, methods and fields of options that have no example of their own, and why.
var noExample = map[string]string{
	"adapters/gocron.Elector.IsLeader":    "gocron calls it",
	"adapters/gocron.Elector.Run":         "in that of NewElector",
	"adapters/goose.Locker.Lock":          "goose calls it",
	"adapters/goose.Locker.Unlock":        "goose calls it",
	"adapters/httpfence.Memory.Advance":   "the middleware calls it",
	"adapters/httpfence.Table.Advance":    "the middleware calls it",
	"dynalock.Client.Options":             "it gives back a value",
	"dynalock.Client.Table":               "it gives back a value",
	"dynalock.Lock.Data":                  "it gives back a value",
	"dynalock.Lock.Deadline":              "it gives back a value",
	"dynalock.Lock.Done":                  "in that of Context",
	"dynalock.Lock.Key":                   "it gives back a value",
	"dynalock.OnceOptions.Reason":         "it means what that of AcquireOptions does",
	"dynalock.TickOptions.Keep":           "it means what that of OnceOptions does",
	"dynalock.TickOptions.Lease":          "it means what the client's does",
	"dynalock.TickOptions.MaxAttempts":    "it means what that of OnceOptions does",
	"dynalock.TickOptions.Reason":         "it means what that of AcquireOptions does",
	"dynalock.TickOptions.RetryOnError":   "it means what that of OnceOptions does",
	"dynalock.TickOptions.RetryPause":     "it means what that of OnceOptions does",
	"dynalock/dynalocktest.Server.Client": "in all of them",
	"dynalock/dynalocktest.Server.Close":  "in all of them",
	"dynalock/dynalocktest.Server.Usage":  "in that of NewServer",
	"dynalock/dynalocktest.Usage.Total":   "it gives back a value",
	"dynalock/dynalocktest.Write.New":     "in that of Requests",
	"dynalock/dynalocktest.Write.Old":     "it gives back a value",
	"heartbeat.Lease.Deadline":            "it gives back a value",
	"heartbeat.Lease.Remaining":           "it gives back a value",
	"heartbeat.Options.Clock":             "for simulations",
	"heartbeat.Scheduler.Close":           "in all of them",
}

// ofAnInterface are the methods that errors and values have for package errors and package fmt.
var ofAnInterface = []string{"Error", "Is", "Unwrap", "String"}

// fieldsOf are the fields of its parameters that a function mentions, with the types of the parameters.
func fieldsOf(f *ast.FuncLit) map[string]bool {
	fields, types := map[string]bool{}, map[string]string{}
	for _, p := range f.Type.Params.List {
		if pointer, ok := p.Type.(*ast.StarExpr); ok {
			if typ, ok := pointer.X.(*ast.SelectorExpr); ok {
				for _, name := range p.Names {
					types[name.Name] = typ.Sel.Name
				}
			}
		}
	}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if of, ok := s.X.(*ast.Ident); ok {
				fields[types[of.Name]+"."+s.Sel.Name] = true
			}
		}
		return true
	})
	return fields
}

// entries are what a program calls or sets of the package in a folder, and examples those of them that have an example:
// of a function or method its own, of a field of options any that sets it.
func entries(t *testing.T, folder string) (all, examples map[string]bool, dead []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", folder, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %d files, %v", folder, len(names), err)
	}
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
	}
	p, err := doc.NewFromFiles(fset, parsed, folder)
	if err != nil {
		t.Fatal(err)
	}
	all, examples = map[string]bool{}, map[string]bool{}
	set := map[string]bool{} // the fields that a function of an example sets in its options
	note := func(name string, found []*doc.Example) {
		for _, e := range found {
			ast.Inspect(e.Code, func(n ast.Node) bool {
				if f, ok := n.(*ast.FuncLit); ok {
					maps.Copy(set, fieldsOf(f))
				}
				return true
			})
			if e.Output == "" && !e.EmptyOutput {
				dead = append(dead, name)
			}
		}
		if name != "" && len(found) > 0 {
			examples[name] = true
		}
	}
	functions := func(of string, found []*doc.Func) {
		for _, f := range found {
			if of != "" && slices.Contains(ofAnInterface, f.Name) {
				continue
			}
			all[folder+"."+of+f.Name] = true
			note(folder+"."+of+f.Name, f.Examples)
		}
	}
	note("", p.Examples)
	functions("", p.Funcs)
	for _, typ := range p.Types {
		note("", typ.Examples)
		functions("", typ.Funcs)
		functions(typ.Name+".", typ.Methods)
	}
	for _, typ := range p.Types {
		if s, ok := typ.Decl.Specs[0].(*ast.TypeSpec).Type.(*ast.StructType); ok && strings.HasSuffix(typ.Name, "Options") {
			for _, f := range s.Fields.List {
				for _, name := range f.Names {
					entry := folder + "." + typ.Name + "." + name.Name
					all[entry] = name.IsExported()
					examples[entry] = set[typ.Name+"."+name.Name]
				}
			}
		}
	}
	maps.DeleteFunc(all, func(_ string, exported bool) bool { return !exported })
	return all, examples, dead
}

func TestEveryPublicEntryHasAnExampleInItsPackage(t *testing.T) {
	t.Parallel()
	unused := maps.Clone(noExample)
	for _, folder := range entryFolders(t) {
		all, examples, dead := entries(t, folder)
		if len(all) == 0 {
			t.Errorf("%s has no entries", folder)
		}
		for entry := range all {
			switch _, excused := noExample[entry]; {
			case examples[entry] && excused:
				t.Errorf("%s has an example: take it off the list of those that have none", entry)
			case !examples[entry] && !excused:
				t.Errorf("%s has no example", entry)
			}
			delete(unused, entry)
		}
		for _, name := range dead {
			t.Errorf("an example of %s (%s) is compiled and not run: give it an output", folder, name)
		}
	}
	for entry := range unused {
		t.Errorf("there is no %s", entry)
	}
}
