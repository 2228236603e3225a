package expr

import "github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"

// Key takes a key condition apart: the value that the partition key must equal, and the condition on the sort key, nil if there
// is none.
func (c *Cond) Key(hashName, sortName string) (hash attr.Value, sort *Cond, err error) {
	parts := []*node{c.root}
	if c.root.op == opAnd {
		parts = c.root.kids
	}
	found := false
	for _, n := range parts {
		if len(n.kids) == 0 || n.kids[0].op != opPath || len(n.kids[0].path) != 1 {
			return hash, nil, Error("Query key condition not supported")
		}
		for _, kid := range n.kids[1:] {
			if kid.op != opValue {
				return hash, nil, Error("Query key condition not supported")
			}
		}
		switch name := n.kids[0].path[0].Name; {
		case name == hashName && !found:
			if n.op != opCompare || n.text != "=" {
				return hash, nil, Error("Query key condition not supported")
			}
			hash, found = n.kids[1].val, true
		case name == sortName && sort == nil && n.isRange():
			sort = &Cond{n}
		default:
			return hash, nil, Error("Query key condition not supported")
		}
	}
	if !found {
		return hash, nil, Error("Query condition missed key schema element: " + hashName)
	}
	return hash, sort, nil
}

// isRange tells the conditions that a sort key may have.
func (n *node) isRange() bool {
	return n.op == opCompare && n.text != "<>" || n.op == opBetween || n.op == opFunc && n.text == "begins_with"
}
