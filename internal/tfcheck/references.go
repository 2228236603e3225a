package tfcheck

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// CheckReferences names every reference of m that leads nowhere: to a variable, local value, resource, attribute or
// output of a called module that does not exist; and every call of a module whose arguments are not its variables.
func CheckReferences(m *Module, s Schema) ([]string, error) {
	c := references{schema: s, known: map[string]bool{}, types: map[string]Block{}, outputs: map[string][]string{}}
	for _, v := range m.Variables() {
		c.known["var."+v.Name] = true
	}
	for _, b := range m.Blocks {
		switch b.Type {
		case "locals":
			for name := range b.Body.Attributes {
				c.known["local."+name] = true
			}
		case "resource":
			c.types[b.Labels[0]+"."+b.Labels[1]] = s.Resources[b.Labels[0]]
		case "data":
			c.types["data."+b.Labels[0]+"."+b.Labels[1]] = s.Data[b.Labels[0]]
		case "module":
			if err := c.call(m, b); err != nil {
				return nil, err
			}
		}
	}
	for _, b := range m.Blocks {
		c.body(b.Body, nil)
	}
	slices.Sort(c.problems)
	return c.problems, nil
}

type references struct {
	schema   Schema
	known    map[string]bool     // var.x and local.x
	types    map[string]Block    // resources and data sources
	outputs  map[string][]string // of called modules
	problems []string
}

func (c *references) problem(at hcl.Range, format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf("%s: %s", at, fmt.Sprintf(format, args...)))
}

// call looks at the call of a module of this repository.
func (c *references) call(m *Module, b *hclsyntax.Block) error {
	called, err := Load(filepath.Join(m.Dir, literal(b, "source")), ".tf")
	if err != nil {
		return err
	}
	for _, o := range called.Outputs() {
		c.outputs[b.Labels[0]] = append(c.outputs[b.Labels[0]], o.Name)
	}
	var names []string
	for _, v := range called.Variables() {
		names = append(names, v.Name)
		if v.Required && b.Body.Attributes[v.Name] == nil {
			c.problem(b.Range(), "module %s needs %s", b.Labels[0], v.Name)
		}
	}
	for name, a := range b.Body.Attributes {
		if !slices.Contains(names, name) && !slices.Contains(metaArguments["module"], name) {
			c.problem(a.Range(), "module %s has no variable %s", b.Labels[0], name)
		}
	}
	return nil
}

// body looks at all references of a body. bound are the names that dynamic blocks around it give to their elements.
func (c *references) body(body *hclsyntax.Body, bound []string) {
	for name, a := range body.Attributes {
		if name == "ignore_changes" || name == "type" {
			continue // names of attributes, and types
		}
		for _, t := range a.Expr.Variables() {
			c.reference(t, bound)
		}
	}
	for _, b := range body.Blocks {
		inner := bound
		if b.Type == "dynamic" {
			inner = append(slices.Clone(bound), b.Labels[0])
		}
		c.body(b.Body, inner)
	}
}

func (c *references) reference(t hcl.Traversal, bound []string) {
	path, root := dotted(t), t.RootName()
	switch root {
	case "each", "count", "path", "terraform", "self":
		return
	case "var", "local":
		if len(t) < 2 || !c.known[dotted(t[:2])] {
			c.problem(t.SourceRange(), "%s does not exist", path)
		}
		return
	case "module":
		if len(t) < 3 || !slices.Contains(c.outputs[t[1].(hcl.TraverseAttr).Name], t[2].(hcl.TraverseAttr).Name) {
			c.problem(t.SourceRange(), "%s does not exist", path)
		}
		return
	}
	if slices.Contains(bound, root) {
		return
	}
	n := 2 // type and name
	if root == "data" {
		n = 3
	}
	if len(t) < n {
		c.problem(t.SourceRange(), "%s does not exist", path)
		return
	}
	block, ok := c.types[dotted(t[:n])]
	if !ok {
		c.problem(t.SourceRange(), "%s does not exist", path)
		return
	}
	for _, step := range t[n:] {
		if a, ok := step.(hcl.TraverseAttr); ok {
			if !block.attribute(a.Name) {
				c.problem(t.SourceRange(), "%s has no attribute %s", dotted(t[:n]), a.Name)
			}
			return
		}
	}
}
