package expr

import (
	"slices"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// KeyPart is one of the one or two conditions of a key condition.
type KeyPart struct {
	Name     string // of the key attribute
	Operator string // as if the attribute stood first
	Values   []attr.Value
	Cond     *Cond // the condition itself
}

// KeyParts takes a key condition apart: at most one condition for each attribute, all joined by AND.
func (c *Cond) KeyParts() ([]KeyPart, error) {
	var parts []KeyPart
	for _, n := range c.root.conjuncts() {
		part, err := n.keyPart()
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(parts, func(p KeyPart) bool { return p.Name == part.Name }) {
			return nil, Error("KeyConditionExpressions must only contain one condition per key")
		}
		parts = append(parts, part)
	}
	if len(parts) > 2 {
		return nil, Error("Conditions can be of length 1 or 2 only")
	}
	return parts, nil
}

func (n *node) conjuncts() []*node {
	if n.op != opAnd {
		return []*node{n}
	}
	var all []*node
	for _, kid := range n.kids {
		all = append(all, kid.conjuncts()...)
	}
	return all
}

func (n *node) keyPart() (KeyPart, error) {
	part := KeyPart{Operator: n.text, Cond: &Cond{n}}
	if n.op == opOr || n.op == opNot || n.op == opIn || n.text == "<>" || n.op == opFunc && n.text != "begins_with" {
		return part, errorf("Invalid operator used in KeyConditionExpression: %s", n.text)
	}
	for _, kid := range n.kids {
		switch {
		case kid.op == opFunc:
			return part, Error("KeyConditionExpressions cannot contain nested operations")
		case kid.op == opValue:
			part.Values = append(part.Values, kid.val)
		case part.Name != "":
			return part, Error("Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition")
		case len(kid.path) > 1:
			return part, Error("KeyConditionExpressions cannot have conditions on nested attributes")
		default:
			part.Name = kid.path[0].Name
		}
	}
	switch {
	case part.Name == "":
		return part, Error("Invalid condition in KeyConditionExpression: No key attribute specified")
	case n.op == opCompare && n.kids[0].op == opValue:
		part.Operator = mirrored[n.text]
	}
	return part, nil
}

// mirrored are the comparators as they read with their operands swapped.
var mirrored = map[string]string{"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

// Uses reports whether the condition speaks of the attribute name or of a part of it.
func (c *Cond) Uses(name string) bool { return c != nil && c.root.uses(name) }

func (n *node) uses(name string) bool {
	if n.op == opPath {
		return n.path[0].Name == name
	}
	for _, kid := range n.kids {
		if kid.uses(name) {
			return true
		}
	}
	return false
}
