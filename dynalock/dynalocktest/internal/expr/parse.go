package expr

import (
	"strconv"
	"strings"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// Kind says which of the expression parameters a text is: each allows other functions.
type Kind uint8

// The expression parameters of the protocol.
const (
	Condition Kind = iota
	Update
	Projection
	KeyCondition
	Filter
)

var kindNames = [...]string{
	"ConditionExpression", "UpdateExpression", "ProjectionExpression", "KeyConditionExpression",
	"FilterExpression",
}

func (k Kind) String() string { return kindNames[k] }

// op is what a node of the tree does.
type op uint8

const (
	opPath op = iota
	opValue
	opFunc
	opAnd
	opOr
	opNot
	opCompare
	opBetween
	opIn
	opPlus
	opMinus
)

// node is a part of a condition or an operand.
type node struct {
	op        op
	text      string // placeholder, function name or comparator
	path      Path
	kids      []*node
	val       attr.Value // of opValue, once bound
	paren     bool       // stood in parentheses
	redundant bool       // an operand in more than one pair of them
}

// isCondition tells a node that is true or false from an operand; a function may be either.
func (n *node) isCondition() bool { return n.op >= opAnd && n.op <= opIn }

// parser is a recursive descent over one token of look-ahead.
type parser struct {
	lex       lexer
	prev, tok token
	depth     int
	parens    int // conditions in parentheses that are open
	operators int
}

const (
	maxLength    = 4096
	maxOperators = 300
	maxDepth     = 400 // no expression within the other limits is deeper; keeps the stack bounded
)

func newParser(kind Kind, text string) (*parser, error) {
	if text == "" {
		return nil, Error("The expression can not be empty;")
	}
	if len(text) > maxLength {
		if kind == Update || kind == Projection {
			return nil, Error("Expression size has exceeded the maximum allowed size;")
		}
		return nil, errorf("Expression size has exceeded the maximum allowed size; expression size: %d", len(text))
	}
	p := &parser{lex: lexer{text: text}}
	p.tok = p.lex.next()
	return p, nil
}

// operator counts one.
func (p *parser) operator() error {
	if p.operators++; p.operators > maxOperators {
		return errorf("The expression contains too many operators; operator count: %d", p.operators)
	}
	return nil
}

func (p *parser) advance() {
	p.prev = p.tok
	p.tok = p.lex.next()
}

// syntax is the error at the token in hand: it shows the token between its neighbours.
func (p *parser) syntax() error {
	following := p.lex
	end := following.next().end
	if p.tok.kind == tokEOF {
		end = len(p.lex.text)
	}
	return Error(`Syntax error; token: "` + p.tok.text + `", near: "` + p.lex.text[p.prev.start:end] + `"`)
}

func (p *parser) isPunct(text string) bool { return p.tok.kind == tokPunct && p.tok.text == text }

func (p *parser) isWord(word string) bool {
	return p.tok.kind == tokName && strings.EqualFold(p.tok.text, word)
}

func (p *parser) punct(text string) error {
	if !p.isPunct(text) {
		return p.syntax()
	}
	p.advance()
	return nil
}

func (p *parser) end() error {
	if p.tok.kind != tokEOF {
		return p.syntax()
	}
	return nil
}

// isKeyword tells the words of the grammar, which no name may be.
func isKeyword(word string) bool {
	switch strings.ToUpper(word) {
	case "AND", "OR", "NOT", "BETWEEN", "IN", "SET", "REMOVE", "ADD", "DELETE":
		return true
	}
	return false
}

func (p *parser) enter() error {
	if p.depth++; p.depth > maxDepth {
		return Error("The expression is nested too deeply")
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

func (p *parser) or() (*node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	return p.chain("OR", opOr, p.and)
}

func (p *parser) and() (*node, error) { return p.chain("AND", opAnd, p.not) }

// chain reads one or more operands between which word stands.
func (p *parser) chain(word string, op op, operand func() (*node, error)) (*node, error) {
	first, err := operand()
	if err != nil || !p.isWord(word) {
		return first, err
	}
	n := &node{op: op, text: word, kids: []*node{first}}
	for p.isWord(word) {
		p.advance()
		if err := p.operator(); err != nil {
			return nil, err
		}
		kid, err := operand()
		if err != nil {
			return nil, err
		}
		if !kid.isCondition() && kid.op != opFunc {
			return nil, p.syntax()
		}
		n.kids = append(n.kids, kid)
	}
	return n, nil
}

func (p *parser) not() (*node, error) {
	if !p.isWord("NOT") {
		return p.predicate()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	p.advance()
	if err := p.operator(); err != nil {
		return nil, err
	}
	kid, err := p.not()
	if err != nil {
		return nil, err
	}
	if !kid.isCondition() && kid.op != opFunc {
		return nil, p.syntax()
	}
	return &node{op: opNot, text: "NOT", kids: []*node{kid}}, nil
}

// predicate reads a comparison, a function, BETWEEN, IN or anything in parentheses. A bare operand is accepted only as
// the whole content of parentheses, whose caller decides what it is.
func (p *parser) predicate() (*node, error) {
	left, err := p.atom()
	if err != nil {
		return nil, err
	}
	if left.isCondition() {
		return left, nil
	}
	comparator := p.tok.kind == tokPunct && strings.Contains(" = <> < <= > >= ", " "+p.tok.text+" ")
	if left.redundant && (comparator || p.isWord("BETWEEN") || p.isWord("IN") || left.op == opFunc) {
		return nil, errRedundant
	}
	switch {
	case comparator:
		n := &node{op: opCompare, text: p.tok.text, kids: []*node{left}}
		p.advance()
		return p.rest(n, "")
	case p.isWord("BETWEEN"):
		p.advance()
		n, err := p.rest(&node{op: opBetween, text: "BETWEEN", kids: []*node{left}}, "")
		if err != nil {
			return nil, err
		}
		if !p.isWord("AND") {
			return nil, p.syntax()
		}
		p.advance()
		return p.rest(n, "")
	case p.isWord("IN"):
		p.advance()
		if err := p.punct("("); err != nil {
			return nil, err
		}
		return p.rest(&node{op: opIn, text: "IN", kids: []*node{left}}, ")")
	case left.op == opFunc, p.parens > 0 && p.isPunct(")"):
		return left, nil
	}
	return nil, p.syntax()
}

// atom reads an operand or a whole condition in parentheses.
func (p *parser) atom() (*node, error) {
	if !p.isPunct("(") {
		return p.operand()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	p.advance()
	p.parens++
	inner, err := p.or()
	p.parens--
	if err != nil {
		return nil, err
	}
	return p.closeParen(inner)
}

func (p *parser) closeParen(inner *node) (*node, error) {
	if err := p.punct(")"); err != nil {
		return nil, err
	}
	if inner.paren && inner.isCondition() {
		return nil, errRedundant
	}
	inner.redundant = inner.paren
	inner.paren = true
	return inner, nil
}

const errRedundant = Error("The expression has redundant parentheses;")

// rest appends one operand to n, or with closing a list of them up to that token.
func (p *parser) rest(n *node, closing string) (*node, error) {
	if len(n.kids) < 2 { // the upper bound of BETWEEN is no second operator
		if err := p.operator(); err != nil {
			return nil, err
		}
	}
	for {
		kid, err := p.operand()
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, kid)
		if closing == "" {
			return n, nil
		}
		if !p.isPunct(",") {
			return n, p.punct(closing)
		}
		p.advance()
	}
}

// operand reads a path, a :value or a function call, perhaps in parentheses.
func (p *parser) operand() (*node, error) {
	switch p.tok.kind {
	case tokPunct:
		if !p.isPunct("(") {
			break
		}
		if err := p.enter(); err != nil {
			return nil, err
		}
		defer p.leave()
		p.advance()
		inner, err := p.operand()
		if err != nil {
			return nil, err
		}
		if inner, err = p.closeParen(inner); err == nil && inner.redundant {
			err = errRedundant
		}
		return inner, err
	case tokValue:
		p.advance()
		return &node{op: opValue, text: p.prev.text}, nil
	case tokAlias, tokName:
		if p.tok.kind == tokName && isKeyword(p.tok.text) {
			return nil, p.syntax()
		}
		if p.tok.kind == tokName && p.callFollows() {
			return p.call()
		}
		path, err := p.path()
		return &node{op: opPath, path: path}, err
	}
	return nil, p.syntax()
}

func (p *parser) callFollows() bool {
	following := p.lex
	t := following.next()
	return t.kind == tokPunct && t.text == "("
}

func (p *parser) call() (*node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	n := &node{op: opFunc, text: p.tok.text}
	p.advance()
	p.advance()
	return p.rest(n, ")")
}

// path reads name, name.name, name[0] and their mixtures.
func (p *parser) path() (Path, error) {
	var path Path
	for {
		if p.tok.kind != tokAlias && (p.tok.kind != tokName || isKeyword(p.tok.text)) {
			return nil, p.syntax()
		}
		path = append(path, Elem{Name: p.tok.text})
		p.advance()
		for p.isPunct("[") {
			p.advance()
			if p.tok.kind != tokNumber {
				return nil, p.syntax()
			}
			e := Elem{IsIndex: true}
			if index, err := strconv.ParseInt(p.tok.text, 10, 32); err != nil {
				e.Name, e.Index = p.tok.text, -1 // refused when the whole text has been read
			} else {
				e.Index = int(index)
			}
			path = append(path, e)
			p.advance()
			if err := p.punct("]"); err != nil {
				return nil, err
			}
		}
		if !p.isPunct(".") {
			return path, nil
		}
		p.advance()
	}
}
