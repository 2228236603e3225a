package expr

import (
	"maps"
	"slices"
	"strings"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// The reasons why an update expression, sound in itself, does not fit an item.
var (
	ErrPath    = Error("The document path provided in the update expression is invalid for update")
	ErrMissing = Error("The provided expression refers to an attribute that does not exist in the item")
	ErrOperand = Error("An operand in the update expression has an incorrect data type")
)

// Upd is an update expression, ready to be applied.
type Upd struct{ actions []action }

type action struct {
	verb  string // SET, REMOVE, ADD, DELETE
	path  Path
	value *node // nil for REMOVE
}

// ParseUpdate reads and binds an update expression.
func ParseUpdate(text string, ph *Placeholders) (*Upd, error) {
	p, err := newParser(Update, text)
	if err != nil {
		return nil, err
	}
	actions, err := p.sections()
	if err != nil {
		return nil, err
	}
	for _, a := range actions {
		if err := a.words(); err != nil {
			return nil, err
		}
	}
	for _, a := range actions {
		if err := ph.resolve(a.path); err != nil {
			return nil, err
		}
	}
	u := &Upd{actions}
	if err := distinct(u.Paths()); err != nil {
		return nil, err
	}
	// The last mistake is the one that the service names.
	for _, a := range slices.Backward(actions) {
		if err := a.bind(ph); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// Paths are the document paths that the expression writes.
func (u *Upd) Paths() []Path {
	paths := make([]Path, len(u.actions))
	for i, a := range u.actions {
		paths[i] = a.path
	}
	return paths
}

func (p *parser) sections() ([]action, error) {
	var actions []action
	var repeated error // refused when the whole text has been read
	seen := map[string]bool{}
	for {
		verb := strings.ToUpper(p.tok.text)
		switch verb {
		case "SET", "REMOVE", "ADD", "DELETE":
		default:
			return nil, p.syntax()
		}
		if seen[verb] && repeated == nil {
			repeated = errorf("The %q section can only be used once in an update expression;", verb)
		}
		seen[verb] = true
		p.advance()
		for {
			a, err := p.action(verb)
			if err != nil {
				return nil, err
			}
			actions = append(actions, a)
			if !p.isPunct(",") {
				break
			}
			p.advance()
		}
		if p.tok.kind == tokEOF {
			return actions, repeated
		}
	}
}

func (p *parser) action(verb string) (a action, err error) {
	a.verb = verb
	if a.path, err = p.path(); err != nil {
		return a, err
	}
	switch verb {
	case "SET":
		if err := p.punct("="); err != nil {
			return a, err
		}
		a.value, err = p.setValue()
	case "ADD", "DELETE":
		if p.tok.kind != tokValue {
			return a, p.syntax()
		}
		a.value, err = p.operand()
	}
	return a, err
}

// setValue reads an operand, or two with + or - between them, perhaps all in parentheses.
func (p *parser) setValue() (*node, error) {
	if !p.isPunct("(") {
		return p.sum()
	}
	p.advance()
	inner, err := p.sum()
	if err != nil {
		return nil, err
	}
	if inner, err = p.closeParen(inner); err == nil && inner.redundant {
		err = errRedundant
	}
	if err != nil || inner.op == opPlus || inner.op == opMinus {
		return inner, err
	}
	return p.sumFrom(inner)
}

func (p *parser) sum() (*node, error) {
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	return p.sumFrom(left)
}

func (p *parser) sumFrom(left *node) (*node, error) {
	n := &node{op: opPlus, text: p.tok.text, kids: []*node{left}}
	switch {
	case p.isPunct("-"):
		n.op = opMinus
	case !p.isPunct("+"):
		return left, nil
	}
	p.advance()
	return p.rest(n, "")
}

var kindWords = map[attr.Kind]string{
	attr.S: "STRING", attr.N: "NUMBER", attr.B: "BINARY", attr.SS: "STRING_SET", attr.NS: "NUMBER_SET",
	attr.BS: "BINARY_SET",
	attr.L:  "LIST", attr.M: "MAP", attr.BOOL: "BOOLEAN", attr.NULL: "NULL",
}

func (a action) words() error {
	if err := a.path.check(); err != nil || a.value == nil {
		return err
	}
	return a.value.words(Update, true)
}

// bind puts the operand's names and values in, and refuses what cannot be added or deleted.
func (a action) bind(ph *Placeholders) error {
	if a.value == nil {
		return nil
	}
	if err := a.value.bind(ph); err != nil || a.verb == "SET" {
		return err
	}
	kind := a.value.val.Kind
	if a.value.val.ElemKind() == "" && (a.verb == "DELETE" || kind != attr.N) {
		return errorf("Incorrect operand type for operator or function; operator: %s, operand type: %s, typeSet: ALLOWED_FOR_%s_OPERAND", a.verb, kindWords[kind], a.verb)
	}
	return nil
}

// NestedOperand gives the first of the names below which an operand reads: what is no document has nothing below it.
func (u *Upd) NestedOperand(names ...string) (name string, ok bool) {
	for _, a := range u.actions {
		if a.value != nil {
			if name, ok = a.value.nested(names); ok {
				return name, true
			}
		}
	}
	return "", false
}

// Apply gives the updated copy of item; all operands see the item as it was. An error is an ErrPath, ErrMissing,
// ErrOperand or one of the errors of attr about numbers.
func (u *Upd) Apply(item attr.Item) (attr.Item, error) {
	root := &change{}
	for _, a := range u.actions {
		if !a.path.writable(item) {
			return nil, ErrPath
		}
		v, exists, err := a.result(item)
		if err != nil {
			return nil, err
		}
		at := root
		for _, e := range a.path {
			at = at.step(e)
		}
		at.leaf, at.remove, at.value = true, !exists, v
	}
	return root.applyMap(item), nil
}

// result is the value that the action leaves at its path; exists is false where it leaves none.
func (a action) result(item attr.Item) (v attr.Value, exists bool, err error) {
	if a.verb == "REMOVE" {
		return attr.Value{}, false, nil
	}
	if a.verb == "SET" {
		v, ok, err := a.value.operand(item)
		if err == nil && !ok {
			err = ErrMissing
		}
		return v, ok, err
	}
	operand := a.value.val
	old, ok := a.path.Find(item)
	switch {
	case !ok:
		return operand, a.verb == "ADD", nil
	case old.Kind != operand.Kind:
		return attr.Value{}, false, ErrOperand
	case operand.Kind == attr.N:
		v, err := add(old, operand, attr.Number.Add)
		return v, true, err
	case a.verb == "ADD":
		set := slices.Clone(old.Set)
		for _, e := range operand.Set {
			if !slices.Contains(set, e) {
				set = append(set, e)
			}
		}
		return attr.Value{Kind: old.Kind, Set: set}, true, nil
	}
	set := slices.DeleteFunc(slices.Clone(old.Set), func(e string) bool { return slices.Contains(operand.Set, e) })
	return attr.Value{Kind: old.Kind, Set: set}, len(set) > 0, nil
}

func add(a, b attr.Value, f func(n, m attr.Number) (attr.Number, error)) (attr.Value, error) {
	n, err := attr.ParseNumber(a.Str)
	if err != nil {
		return attr.Value{}, err
	}
	m, err := attr.ParseNumber(b.Str)
	if err != nil {
		return attr.Value{}, err
	}
	sum, err := f(n, m)
	return sum.Value(), err
}

// operand evaluates the right side of SET; ok is false where an attribute is missing.
func (n *node) operand(item attr.Item) (v attr.Value, ok bool, err error) {
	switch n.op {
	case opPath:
		v, ok = n.path.Find(item)
		return v, ok, nil
	case opValue:
		return n.val, true, nil
	}
	left, ok, err := n.kids[0].operand(item)
	if err != nil {
		return attr.Value{}, false, err
	}
	if n.text == "if_not_exists" {
		// The second operand must have a value even where it is not needed.
		right, also, err := n.kids[1].operand(item)
		if ok {
			right = left
		}
		return right, also, err
	}
	kind := attr.N
	if n.op == opFunc { // list_append
		kind = attr.L
	}
	if ok && left.Kind != kind {
		return attr.Value{}, false, ErrOperand
	}
	right, also, err := n.kids[1].operand(item)
	if err != nil || !ok || !also {
		return attr.Value{}, false, err
	}
	if right.Kind != kind {
		return attr.Value{}, false, ErrOperand
	}
	switch n.op {
	case opPlus:
		v, err = add(left, right, attr.Number.Add)
	case opMinus:
		v, err = add(left, right, attr.Number.Sub)
	default:
		v = attr.Value{Kind: attr.L, List: slices.Concat(left.List, right.List)}
	}
	return v, true, err
}

// change is what one update does below one step of its paths.
type change struct {
	names   map[string]*change
	indexes map[int]*change
	leaf    bool // the value, or nothing, goes here
	remove  bool
	value   attr.Value
}

func (c *change) step(e Elem) *change {
	if e.IsIndex {
		if c.indexes == nil {
			c.indexes = map[int]*change{}
		}
		if c.indexes[e.Index] == nil {
			c.indexes[e.Index] = &change{}
		}
		return c.indexes[e.Index]
	}
	if c.names == nil {
		c.names = map[string]*change{}
	}
	if c.names[e.Name] == nil {
		c.names[e.Name] = &change{}
	}
	return c.names[e.Name]
}

// apply gives v as it is after the change. That the paths fit has been checked.
func (c *change) apply(v attr.Value) attr.Value {
	switch {
	case c.leaf:
		return c.value
	case v.Kind == attr.M:
		v.Map = c.applyMap(v.Map)
	case v.Kind == attr.L:
		v.List = c.applyList(v.List)
	}
	return v
}

func (c *change) applyMap(m attr.Item) attr.Item {
	out := make(attr.Item, len(m)+len(c.names))
	maps.Copy(out, m)
	for name, sub := range c.names {
		if sub.remove {
			delete(out, name)
		} else {
			out[name] = sub.apply(m[name])
		}
	}
	return out
}

// applyList changes elements by their old index; what is set beyond the end is appended in the order of the indexes.
func (c *change) applyList(list []attr.Value) []attr.Value {
	out := make([]attr.Value, 0, len(list)+len(c.indexes))
	for i, v := range list {
		sub := c.indexes[i]
		switch {
		case sub == nil:
			out = append(out, v)
		case !sub.remove:
			out = append(out, sub.apply(v))
		}
	}
	for _, i := range slices.Sorted(maps.Keys(c.indexes)) {
		if sub := c.indexes[i]; i >= len(list) && !sub.remove {
			out = append(out, sub.value)
		}
	}
	return out
}
