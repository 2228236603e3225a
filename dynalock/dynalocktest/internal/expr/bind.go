// Package expr reads and evaluates the expressions of DynamoDB: conditions, filters and key conditions, updates and
// projections. Mistakes are found in the order, and named in the words, of DynamoDB Local.
package expr

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// Placeholders are the #names and :values of one request. They remember which of them the request's expressions used.
type Placeholders struct {
	Names   map[string]string
	Values  attr.Item
	Numbers map[string]string // the numbers among Values as they were written, for errors
	used    map[string]bool
}

// Unused lists the defined names and values, each sorted, that no expression used.
func (ph *Placeholders) Unused() (names, values []string) {
	for name := range ph.Names {
		if !ph.used[name] {
			names = append(names, name)
		}
	}
	for value := range ph.Values {
		if !ph.used[value] {
			values = append(values, value)
		}
	}
	slices.Sort(names)
	slices.Sort(values)
	return names, values
}

func (ph *Placeholders) use(placeholder string) {
	if ph.used == nil {
		ph.used = map[string]bool{}
	}
	ph.used[placeholder] = true
}

const maxPath = 32

// check refuses what a path may not be whatever its #names stand for.
func (p Path) check() error {
	if len(p) > maxPath {
		return errorf("The document path has too many nesting levels; nesting levels: %d", len(p))
	}
	for _, e := range p {
		switch {
		case e.IsIndex && e.Index < 0:
			return errorf("List index is not within the allowable range; index: [%s]", e.Name)
		case !e.IsIndex && e.Name[0] != '#' && IsReserved(e.Name):
			return errorf("Attribute name is a reserved keyword; reserved keyword: %s", e.Name)
		}
	}
	return nil
}

// resolve replaces the #names of a path.
func (ph *Placeholders) resolve(p Path) error {
	for i, e := range p {
		if e.IsIndex || e.Name[0] != '#' {
			continue
		}
		name, ok := ph.Names[e.Name]
		if !ok {
			return errorf("An expression attribute name used in the document path is not defined; attribute name: %s", e.Name)
		}
		ph.use(e.Name)
		p[i].Name = name
	}
	return nil
}

// function says where a function may stand and what it takes.
type function struct {
	operands  int
	inUpdate  bool // else in the other expressions
	isOperand bool // has a value, else is true or false
	path      bool // the first operand must be a document path
}

var functions = map[string]function{
	"attribute_exists":     {operands: 1, path: true},
	"attribute_not_exists": {operands: 1, path: true},
	"attribute_type":       {operands: 2},
	"begins_with":          {operands: 2},
	"contains":             {operands: 2},
	"size":                 {operands: 1, isOperand: true},
	"if_not_exists":        {operands: 2, inUpdate: true, isOperand: true, path: true},
	"list_append":          {operands: 2, inUpdate: true, isOperand: true},
}

// words checks, in the order of the text, what can be said without the placeholders: reserved words, and functions and
// where they stand. operand tells whether n must have a value or be true or false.
func (n *node) words(kind Kind, operand bool) error {
	switch n.op {
	case opPath:
		return n.path.check()
	case opFunc:
		f, ok := functions[n.text]
		switch {
		case !ok:
			return errorf("Invalid function name; function: %s", n.text)
		case f.inUpdate != (kind == Update):
			article := map[bool]string{true: "an update", false: "a condition"}[kind == Update]
			return errorf("The function is not allowed in %s expression; function: %s", article, n.text)
		case f.isOperand != operand:
			return errorf("The function is not allowed to be used this way in an expression; function: %s", n.text)
		}
	}
	for _, kid := range n.kids {
		if err := kid.words(kind, !n.joins()); err != nil {
			return err
		}
		if n.op == opFunc && kid.op == opFunc && kid.text == "list_append" {
			return errorf("The function is not allowed to be used this way in an expression; function: %s", kid.text)
		}
	}
	return nil
}

// joins tells the operators between conditions from those between operands.
func (n *node) joins() bool { return n.op == opAnd || n.op == opOr || n.op == opNot }

// bind puts names and values in and checks what they make of each operator, in the order of the text.
func (n *node) bind(ph *Placeholders) error {
	switch n.op {
	case opPath:
		return ph.resolve(n.path)
	case opValue:
		v, ok := ph.Values[n.text]
		if !ok {
			return errorf("An expression attribute value used in expression is not defined; attribute value: %s", n.text)
		}
		ph.use(n.text)
		n.val = v
	}
	for _, kid := range n.kids {
		if err := kid.bind(ph); err != nil {
			return err
		}
	}
	if n.op == opBetween {
		return n.checkBetween(ph)
	}
	return n.check()
}

// check looks at the number and the types of n's operands.
func (n *node) check() error {
	switch n.op {
	case opCompare:
		if err := n.distinctFirst(); err != nil || n.text == "=" || n.text == "<>" {
			return err
		}
		return n.operandTypes(n.kids, attr.S, attr.N, attr.B)
	case opIn:
		if count := len(n.kids) - 1; count > maxIn {
			return errorf("The IN operator is provided with too many operands; number of operands: %d", count)
		}
		return n.distinctFirst()
	case opPlus, opMinus:
		return n.operandTypes(n.kids, attr.N)
	case opFunc:
		f := functions[n.text]
		if len(n.kids) != f.operands {
			return errorf("Incorrect number of operands for operator or function; operator or function: %s, number of operands: %d", n.text, len(n.kids))
		}
		if f.path && n.kids[0].op != opPath {
			return errorf("Operator or function requires a document path; operator or function: %s", n.text)
		}
		return n.checkFunction()
	}
	return nil
}

const maxIn = 100

func (n *node) checkFunction() error {
	switch n.text {
	case "size":
		return n.operandTypes(n.kids, attr.S, attr.B, attr.SS, attr.NS, attr.BS, attr.L, attr.M)
	case "begins_with":
		if err := n.distinctFirst(); err != nil {
			return err
		}
		return n.operandTypes(n.kids, attr.S, attr.B)
	case "contains", "if_not_exists":
		return n.distinctFirst()
	case "attribute_type":
		want := n.kids[1]
		if want.op == opPath {
			return Error("Incorrect operand type for operator or function; operator or function: attribute_type, operand type: {SS,B,INT,HDS,HD,BOOL,NULL,DICT,DOUBLE,DECIMAL,N,NS,INTSET,BS,DOUBLESET,L,FS,M,FLOAT,S,DECIMALSET}")
		}
		if err := n.operandTypes(n.kids[1:], attr.S); err != nil {
			return err
		}
		switch attr.Kind(want.val.Str) {
		case attr.S, attr.N, attr.B, attr.SS, attr.NS, attr.BS, attr.M, attr.L, attr.BOOL, attr.NULL:
			return nil
		}
		return errorf("Invalid attribute type name found; type: %s, valid types: {N,BS,L,B,NULL,M,S,SS,NS,BOOL}",
			want.val.Str)
	case "list_append":
		return n.operandTypes(n.kids, attr.L)
	}
	return nil
}

// distinctFirst refuses a path that is compared with itself.
func (n *node) distinctFirst() error {
	for _, kid := range n.kids[1:] {
		if kid.op == opPath && n.kids[0].op == opPath && kid.path.equal(n.kids[0].path) {
			return errorf("The first operand must be distinct from the remaining operands for this operator or function; operator: %s, first operand: %v", n.text, kid.path)
		}
	}
	return nil
}

// staticKind is the type of an operand as far as it is known without an item.
func (n *node) staticKind() attr.Kind {
	switch {
	case n.op == opValue:
		return n.val.Kind
	case n.op == opFunc && n.text == "size":
		return attr.N
	case n.op == opFunc && n.text == "list_append":
		return attr.L
	}
	return ""
}

func (n *node) operandTypes(operands []*node, allowed ...attr.Kind) error {
	for _, kid := range operands {
		if k := kid.staticKind(); k != "" && !slices.Contains(allowed, k) {
			return errorf("Incorrect operand type for operator or function; operator or function: %s, operand type: %s", n.text,
				k)
		}
	}
	return nil
}

// checkBetween looks at the operands of BETWEEN.
func (n *node) checkBetween(ph *Placeholders) error {
	if err := n.operandTypes(n.kids, attr.S, attr.N, attr.B); err != nil {
		return err
	}
	if err := n.distinctFirst(); err != nil {
		return err
	}
	lo, hi := n.kids[1], n.kids[2]
	if lo.op != opValue || hi.op != opValue {
		return nil
	}
	wrong := ""
	switch order, same := lo.val.Compare(hi.val); {
	case !same:
		wrong = "same data type for lower and upper bounds"
	case order > 0:
		wrong = "upper bound to be greater than or equal to lower bound"
	default:
		return nil
	}
	return errorf("The BETWEEN operator requires %s; lower bound operand: %s, upper bound operand: %s", wrong,
		ph.shown(lo), ph.shown(hi))
}

// shown is a scalar as the service shows it in an error; bytes it shows as the Java object that they are there.
func (ph *Placeholders) shown(n *node) string {
	text := n.val.Str
	switch n.val.Kind {
	case attr.B:
		text = fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%[1]d]", len(n.val.Str))
	case attr.N:
		text = ph.Numbers[n.text]
	}
	return fmt.Sprintf("AttributeValue: {%s:%s}", n.val.Kind, text)
}

// IsReserved tells the words that must be written with a #placeholder, in whatever case.
func IsReserved(word string) bool {
	_, ok := slices.BinarySearch(reservedWords, strings.ToUpper(word))
	return ok
}
