package tfcheck

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Schema is what the provider knows, of the types that are used here.
type Schema struct {
	Resources map[string]Block `json:"resources"`
	Data      map[string]Block `json:"data"`
}

// Block is what a block may have.
type Block struct {
	Required []string         `json:"required,omitempty"` // arguments, and blocks of which one must be there
	Optional []string         `json:"optional,omitempty"` // arguments
	Computed []string         `json:"computed,omitempty"` // only read
	Blocks   map[string]Block `json:"blocks,omitempty"`
}

// metaArguments are those of Terraform itself, by type of block.
var metaArguments = map[string][]string{
	"resource": {"count", "for_each", "provider", "depends_on"},
	"data":     {"count", "for_each", "provider", "depends_on"},
	"module":   {"count", "for_each", "providers", "depends_on", "source", "version"},
}

// Check names everything in m that the provider does not know.
func (s Schema) Check(m *Module) []string {
	var problems []string
	for _, kind := range []string{"resource", "data"} {
		known := s.Resources
		if kind == "data" {
			known = s.Data
		}
		for _, b := range m.ofType(kind) {
			block, ok := known[b.Labels[0]]
			if !ok {
				problems = append(problems, fmt.Sprintf("%s: %s %s is not in the schema", b.Range(), kind, b.Labels[0]))
				continue
			}
			problems = append(problems, block.check(b.Labels[0], b.Body, metaArguments[kind])...)
		}
	}
	return problems
}

// check compares one body with what its block may have.
func (s Block) check(path string, body *hclsyntax.Body, meta []string) []string {
	var problems []string
	have := map[string]bool{}
	for name, a := range body.Attributes {
		have[name] = true
		if !slices.Contains(s.Required, name) && !slices.Contains(s.Optional, name) && !slices.Contains(meta, name) {
			problems = append(problems, fmt.Sprintf("%s: %s has no argument %s", a.Range(), path, name))
		}
	}
	for _, b := range body.Blocks {
		name, inner := b.Type, b.Body
		if name == "lifecycle" && meta != nil {
			continue
		}
		if name == "dynamic" {
			name = b.Labels[0]
			for _, content := range inner.Blocks {
				inner = content.Body
			}
		}
		have[name] = true
		nested, ok := s.Blocks[name]
		if !ok {
			problems = append(problems, fmt.Sprintf("%s: %s has no block %s", b.Range(), path, name))
			continue
		}
		problems = append(problems, nested.check(path+"."+name, inner, nil)...)
	}
	for _, name := range s.Required {
		if !have[name] {
			problems = append(problems, fmt.Sprintf("%s: %s needs %s", body.Range(), path, name))
		}
	}
	slices.Sort(problems)
	return problems
}

// attribute reports whether an attribute can be read.
func (s Block) attribute(name string) bool {
	_, block := s.Blocks[name]
	return block || slices.Contains(s.Required, name) || slices.Contains(s.Optional, name) ||
		slices.Contains(s.Computed, name)
}

const provider = "registry.terraform.io/hashicorp/aws"

// FromProvider takes the types of like out of what "terraform providers schema -json" prints.
func FromProvider(text []byte, like Schema) (Schema, error) {
	type providerBlock struct {
		Block json.RawMessage `json:"block"`
	}
	var all struct {
		Schemas map[string]struct {
			Resources map[string]providerBlock `json:"resource_schemas"`
			Data      map[string]providerBlock `json:"data_source_schemas"`
		} `json:"provider_schemas"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return Schema{}, err
	}
	of, ok := all.Schemas[provider]
	if !ok {
		return Schema{}, fmt.Errorf("no schema of %s", provider)
	}
	take := func(from map[string]providerBlock, names map[string]Block) (map[string]Block, error) {
		taken := map[string]Block{}
		for name := range names {
			b, err := convert(from[name].Block)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			taken[name] = b
		}
		return taken, nil
	}
	var s Schema
	var err error
	if s.Resources, err = take(of.Resources, like.Resources); err != nil {
		return s, err
	}
	s.Data, err = take(of.Data, like.Data)
	return s, err
}

// convert reads a block as Terraform describes it.
func convert(text json.RawMessage) (Block, error) {
	var in struct {
		Attributes map[string]struct {
			Type     any  `json:"type"`
			Required bool `json:"required"`
			Optional bool `json:"optional"`
		} `json:"attributes"`
		Blocks map[string]struct {
			Block json.RawMessage `json:"block"`
			Min   int             `json:"min_items"`
		} `json:"block_types"`
	}
	if len(text) == 0 {
		return Block{}, fmt.Errorf("the provider does not know it")
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return Block{}, err
	}
	var out Block
	for _, name := range slices.Sorted(maps.Keys(in.Attributes)) {
		a := in.Attributes[name]
		switch {
		case a.Required:
			out.Required = append(out.Required, name)
		case a.Optional:
			out.Optional = append(out.Optional, name)
		default:
			out.Computed = append(out.Computed, name)
		}
		if fields := objectFields(a.Type); fields != nil && (a.Required || a.Optional) { // may be written as blocks, too
			out.nest(name, Block{Optional: fields})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.Blocks)) {
		b, err := convert(in.Blocks[name].Block)
		if err != nil {
			return Block{}, fmt.Errorf("%s: %w", name, err)
		}
		out.nest(name, b)
		if in.Blocks[name].Min > 0 {
			out.Required = append(out.Required, name)
		}
	}
	return out, nil
}

func (s *Block) nest(name string, b Block) {
	if s.Blocks == nil {
		s.Blocks = map[string]Block{}
	}
	s.Blocks[name] = b
}

// objectFields are the fields of ["list", ["object", {...}]] and the like.
func objectFields(t any) []string {
	outer, ok := t.([]any)
	if !ok || len(outer) != 2 {
		return nil
	}
	inner, ok := outer[1].([]any)
	if !ok || len(inner) != 2 || inner[0] != "object" {
		return nil
	}
	fields, _ := inner[1].(map[string]any)
	return slices.Sorted(maps.Keys(fields))
}
