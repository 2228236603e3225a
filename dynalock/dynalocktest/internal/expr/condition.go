package expr

import (
	"strconv"
	"strings"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// Cond is a condition, filter or key condition, ready to be evaluated.
type Cond struct{ root *node }

// ParseCondition reads and binds a condition, filter or key condition.
func ParseCondition(kind Kind, text string, ph *Placeholders) (*Cond, error) {
	p, err := newParser(kind, text)
	if err != nil {
		return nil, err
	}
	root, err := p.or()
	if err == nil {
		err = p.end()
	}
	if err == nil {
		err = root.words(kind, false)
	}
	if err == nil {
		err = root.bind(ph)
	}
	if err != nil {
		return nil, err
	}
	return &Cond{root}, nil
}

// Eval reports whether the condition holds for item; a nil item is one that does not exist. A nil condition always
// holds.
func (c *Cond) Eval(item attr.Item) bool { return c == nil || c.root.holds(item) }

// Nested gives the first of the names below which the condition reads.
func (c *Cond) Nested(names ...string) (name string, ok bool) {
	if c == nil {
		return "", false
	}
	return c.root.nested(names)
}

func (n *node) nested(names []string) (name string, ok bool) {
	if n.op == opPath && n.path.below(names) {
		return n.path[0].Name, true
	}
	for _, kid := range n.kids {
		if name, ok = kid.nested(names); ok {
			return name, true
		}
	}
	return "", false
}

func (n *node) holds(item attr.Item) bool {
	switch n.op {
	case opAnd:
		for _, kid := range n.kids {
			if !kid.holds(item) {
				return false
			}
		}
		return true
	case opOr:
		for _, kid := range n.kids {
			if kid.holds(item) {
				return true
			}
		}
		return false
	case opNot:
		return !n.kids[0].holds(item)
	}
	left, ok := n.kids[0].value(item)
	switch n.op {
	case opFunc:
		return n.test(item, left, ok)
	case opCompare:
		right, also := n.kids[1].value(item)
		return compare(n.text, left, right, ok && also)
	case opBetween:
		lo, okLo := n.kids[1].value(item)
		hi, okHi := n.kids[2].value(item)
		return compare(">=", left, lo, ok && okLo) && compare("<=", left, hi, ok && okHi)
	case opIn:
		for _, kid := range n.kids[1:] {
			if v, also := kid.value(item); ok && also && left.Equal(v) {
				return true
			}
		}
	}
	return false
}

// test is a function that is true or false; ok tells whether its first operand exists.
func (n *node) test(item attr.Item, left attr.Value, ok bool) bool {
	switch n.text {
	case "attribute_exists":
		return ok
	case "attribute_not_exists":
		return !ok
	}
	right, also := n.kids[1].value(item)
	if !ok || !also {
		return false
	}
	switch n.text {
	case "attribute_type":
		return string(left.Kind) == right.Str
	case "begins_with":
		return left.Kind == right.Kind && (left.Kind == attr.S || left.Kind == attr.B) &&
			strings.HasPrefix(left.Str, right.Str)
	}
	return contains(left, right)
}

// contains looks for text in text, for bytes in bytes and for an element in a set or a list.
func contains(in, v attr.Value) bool {
	switch in.Kind {
	case attr.S, attr.B:
		return v.Kind == in.Kind && strings.Contains(in.Str, v.Str)
	case attr.L:
		for _, e := range in.List {
			if e.Equal(v) {
				return true
			}
		}
	case attr.SS, attr.NS, attr.BS:
		if v.Kind != in.ElemKind() {
			return false
		}
		for _, e := range in.Set {
			if e == v.Str {
				return true
			}
		}
	}
	return false
}

// compare applies a comparator. A missing operand equals nothing, so it is unequal to everything, and has no order.
func compare(op string, a, b attr.Value, exist bool) bool {
	switch op {
	case "=":
		return exist && a.Equal(b)
	case "<>":
		return !exist || !a.Equal(b)
	}
	order, ok := a.Compare(b)
	if !exist || !ok {
		return false
	}
	switch op {
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}

// value evaluates an operand of a condition; ok is false where there is none.
func (n *node) value(item attr.Item) (v attr.Value, ok bool) {
	switch n.op {
	case opPath:
		return n.path.Find(item)
	case opValue:
		return n.val, true
	}
	// size, the only function with a value here.
	v, ok = n.kids[0].value(item)
	if !ok {
		return attr.Value{}, false
	}
	length, ok := v.Length()
	return attr.Value{Kind: attr.N, Str: strconv.Itoa(length)}, ok
}
