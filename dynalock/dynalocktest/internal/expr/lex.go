package expr

import (
	"fmt"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEOF     tokenKind = iota
	tokName              // identifier or keyword
	tokAlias             // #name
	tokValue             // :value
	tokNumber            // list index
	tokPunct             // ( ) [ ] . , = <> < <= > >= + -
	tokUnknown           // a character that no expression has
)

type token struct {
	kind       tokenKind
	text       string
	start, end int
}

// lexer cuts an expression into tokens; white space only separates.
type lexer struct {
	text string
	pos  int
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isWord(c byte) bool   { return isLetter(c) || isDigit(c) || c == '_' }
func isSpace(c byte) bool  { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (l *lexer) next() token {
	for l.pos < len(l.text) && isSpace(l.text[l.pos]) {
		l.pos++
	}
	start := l.pos
	if start == len(l.text) {
		return token{kind: tokEOF, text: "<EOF>", start: start, end: start}
	}
	take := func(kind tokenKind, n int) token {
		l.pos = start + n
		return token{kind: kind, text: l.text[start:l.pos], start: start, end: l.pos}
	}
	run := func(ok func(byte) bool) int {
		n := 1
		for start+n < len(l.text) && ok(l.text[start+n]) {
			n++
		}
		return n
	}
	switch c := l.text[start]; {
	case isLetter(c):
		return take(tokName, run(isWord))
	case c == '0':
		return take(tokNumber, 1) // no other digit follows it in an index
	case isDigit(c):
		return take(tokNumber, run(isDigit))
	case c == '#', c == ':':
		n := run(isWord)
		if n == 1 {
			return take(tokUnknown, 1)
		}
		if c == '#' {
			return take(tokAlias, n)
		}
		return take(tokValue, n)
	case c == '<' && start+1 < len(l.text) && (l.text[start+1] == '>' || l.text[start+1] == '='),
		c == '>' && start+1 < len(l.text) && l.text[start+1] == '=':
		return take(tokPunct, 2)
	case c == '(', c == ')', c == '[', c == ']', c == '.', c == ',', c == '=', c == '<', c == '>', c == '+', c == '-':
		return take(tokPunct, 1)
	default:
		_, size := utf8.DecodeRuneInString(l.text[start:])
		return take(tokUnknown, size)
	}
}

// Error is why an expression is refused, in the words of the service but without the "Invalid ...Expression: " in
// front.
type Error string

func (e Error) Error() string { return string(e) }

func errorf(format string, args ...any) error { return Error(fmt.Sprintf(format, args...)) }
