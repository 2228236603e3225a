package tfcheck

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Library is what the module knows of the library, from its library.json.
type Library struct {
	PartitionKey        string            `json:"partition_key"`
	TimeToLiveAttribute string            `json:"time_to_live_attribute"`
	ReservedAttributes  []string          `json:"reserved_attributes"`
	Actions             map[string]Action `json:"actions"`
}

// Action are the IAM actions of a role: on single items, on all items at once, on the table itself.
type Action struct {
	Item  []string `json:"item"`
	Scan  []string `json:"scan"`
	Table []string `json:"table"`
}

// All are the actions together.
func (a Action) All() []string { return slices.Concat(a.Item, a.Scan, a.Table) }

// LoadLibrary reads library.json.
func LoadLibrary(file string) (Library, error) {
	var l Library
	text, err := os.ReadFile(file)
	if err != nil {
		return l, err
	}
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	return l, decoder.Decode(&l)
}

// Source is what the source of the library says of itself.
type Source struct {
	PartitionKey string            // the default
	Attributes   map[string]string // of a lock item: constant and name
	Operations   []string          // that the library can call: the methods of its interface DynamoDB
}

// ReadSource parses the package in dir.
func ReadSource(dir string) (Source, error) {
	s := Source{Attributes: map[string]string{}}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return s, err
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return s, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s.look(n)
			return true
		})
	}
	slices.Sort(s.Operations)
	return s, nil
}

func (s *Source) look(n ast.Node) {
	switch n := n.(type) {
	case *ast.ValueSpec: // attrOwner = "ownerName"
		for i, name := range n.Names {
			if strings.HasPrefix(name.Name, "attr") && i < len(n.Values) {
				if text, ok := quoted(n.Values[i]); ok {
					s.Attributes[name.Name] = text
				}
			}
		}
	case *ast.TypeSpec:
		if methods, ok := n.Type.(*ast.InterfaceType); ok && n.Name.Name == "DynamoDB" {
			for _, m := range methods.Methods.List {
				for _, name := range m.Names {
					s.Operations = append(s.Operations, name.Name)
				}
			}
		}
	case *ast.AssignStmt: // o.PartitionKey = "key"
		if len(n.Lhs) != 1 {
			return
		}
		if field, ok := n.Lhs[0].(*ast.SelectorExpr); ok && field.Sel.Name == "PartitionKey" {
			if text, ok := quoted(n.Rhs[0]); ok {
				s.PartitionKey = text
			}
		}
	}
}

func quoted(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}
