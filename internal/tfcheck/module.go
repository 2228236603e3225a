package tfcheck

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Module is a folder of Terraform files.
type Module struct {
	Dir    string
	Blocks hclsyntax.Blocks // of all files
	source map[string][]byte
}

// Load reads the files of dir that end with ext, ".tf" or ".tftest.hcl".
func Load(dir, ext string) (*Module, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+ext))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no *%s in %s", ext, dir)
	}
	m := &Module{Dir: dir, source: map[string][]byte{}}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if err := m.add(name, text); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// add reads the text of one file.
func (m *Module) add(name string, text []byte) error {
	file, diags := hclparse.NewParser().ParseHCL(text, name)
	if diags.HasErrors() {
		return diags
	}
	m.source[name] = text
	m.Blocks = append(m.Blocks, file.Body.(*hclsyntax.Body).Blocks...)
	return nil
}

// text is what was written for an expression, on one line, with commas between lines where there were none.
func (m *Module) text(e hclsyntax.Expression) string {
	r := e.Range()
	var one strings.Builder
	for line := range strings.Lines(string(m.source[r.Filename][r.Start.Byte:r.End.Byte])) {
		fields := strings.Join(strings.Fields(line), " ")
		switch before := one.String(); {
		case before == "":
		case strings.HasPrefix(fields, "}") || strings.ContainsAny(before[len(before)-1:], "{[(,"):
			one.WriteString(" ")
		default:
			one.WriteString(", ")
		}
		one.WriteString(fields)
	}
	return one.String()
}

// ofType gives the blocks of one type: "resource", "variable".
func (m *Module) ofType(kind string) []*hclsyntax.Block {
	var found []*hclsyntax.Block
	for _, b := range m.Blocks {
		if b.Type == kind {
			found = append(found, b)
		}
	}
	return found
}

// Variable is an input of a module.
type Variable struct {
	Name, Type, Default, Description string
	Required                         bool
	Messages                         []string // of its validations, as they are written
}

// Variables are the inputs, in the order of the file.
func (m *Module) Variables() []Variable {
	var all []Variable
	for _, b := range m.ofType("variable") {
		v := Variable{Name: b.Labels[0], Description: literal(b, "description"), Required: true}
		if t := b.Body.Attributes["type"]; t != nil {
			v.Type = m.text(t.Expr)
		}
		if d := b.Body.Attributes["default"]; d != nil {
			v.Default, v.Required = m.text(d.Expr), false
		}
		for _, check := range b.Body.Blocks {
			if message := check.Body.Attributes["error_message"]; check.Type == "validation" && message != nil {
				v.Messages = append(v.Messages, m.text(message.Expr))
			}
		}
		all = append(all, v)
	}
	return all
}

// Output is an output of a module.
type Output struct{ Name, Description string }

// Outputs are the outputs, in the order of the file.
func (m *Module) Outputs() []Output {
	var all []Output
	for _, b := range m.ofType("output") {
		all = append(all, Output{b.Labels[0], literal(b, "description")})
	}
	return all
}

// literal is the value of an argument that is a text without variables; else "".
func literal(b *hclsyntax.Block, name string) string {
	a := b.Body.Attributes[name]
	if a == nil {
		return ""
	}
	v, diags := a.Expr.Value(nil)
	if diags.HasErrors() || v.Type() != cty.String || v.IsNull() {
		return ""
	}
	return v.AsString()
}

// Refused counts what the runs of a folder of tests expect to be refused: "var.name", "aws_dynamodb_table.this".
func (m *Module) Refused() map[string]int {
	count := map[string]int{}
	for _, run := range m.ofType("run") {
		expected := run.Body.Attributes["expect_failures"]
		if expected == nil {
			continue
		}
		for _, t := range expected.Expr.Variables() {
			count[dotted(t)]++
		}
	}
	return count
}

// dotted is the beginning of a reference, up to the first index.
func dotted(t hcl.Traversal) string {
	var parts []string
	for _, step := range t {
		switch s := step.(type) {
		case hcl.TraverseRoot:
			parts = append(parts, s.Name)
		case hcl.TraverseAttr:
			parts = append(parts, s.Name)
		default:
			return strings.Join(parts, ".")
		}
	}
	return strings.Join(parts, ".")
}
