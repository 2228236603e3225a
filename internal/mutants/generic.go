package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// seeded are the folders whose source is mutated.
var seeded = []string{"heartbeat", "dynalock"}

// operator is a way to make a bug that knows nothing of the protocol.
type operator string

const (
	opNegate operator = "negate" // a condition
	opShift  operator = "shift"  // a comparison, by one: < and <=, > and >=
	opEqual  operator = "equal"  // == and != within a larger condition
	opLogic  operator = "logic"  // && and ||
	opArith  operator = "arith"  // + and -
	opMinMax operator = "minmax" // min and max
	opBool   operator = "bool"   // true and false
	opDrop   operator = "drop"   // a statement: a call, an assignment, a send, n++, continue, break, the return of a guard
	opDefer  operator = "defer"  // a deferred call
	opAttr   operator = "attr"   // an attribute of a log record
	opExpr   operator = "expr"   // an operand of AND or OR, an item of SET or REMOVE, in the text of an expression
)

// generic is a mutant that an operator makes at a place of the source.
type generic struct {
	id string // stays the same when the source changes elsewhere
	op operator
	place
	old, new string   // what is shown, in one line each
	source   []byte   // the mutated file
	places   []place  // where the tests have to come by to notice; none: it cannot be told
	in       [2]place // begin and end of the function
}

// place is a place in a file.
type place struct {
	file         string
	line, column int
}

func (p place) compare(q place) int {
	return cmp.Or(strings.Compare(p.file, q.file), cmp.Compare(p.line, q.line), cmp.Compare(p.column, q.column))
}

// pkg is the folder of the package that the mutant changes.
func (m *generic) pkg() string { return filepath.ToSlash(filepath.Dir(m.file)) }

// where is the place of the mutant for people and editors.
func (m *generic) where() string { return fmt.Sprintf("%s:%d:%d", m.file, m.line, m.column) }

// diff shows what changed, without what is long and the same.
func (m *generic) diff() string {
	const most, lead = 110, 30
	same := 0
	for same < min(len(m.old), len(m.new)) && m.old[same] == m.new[same] {
		same++
	}
	show := func(text string) string {
		if cut := same - lead; len(text) > most && cut > 0 {
			text = "..." + text[cut:]
		}
		if len(text) > most {
			text = text[:most] + "..."
		}
		return text
	}
	if m.new == "" {
		return "    - " + show(m.old)
	}
	return "    - " + show(m.old) + "\n    + " + show(m.new)
}

// sourceFile is a parsed file of the library, and its text.
type sourceFile struct {
	path string // from the root of the repository
	text string
	ast  *ast.File
	file *token.File
}

// sources are the parsed files of the folders, those for this system and without tests.
type sources struct {
	fset  *token.FileSet
	files []*sourceFile
}

func parse(root string) (*sources, error) {
	s := &sources{fset: token.NewFileSet()}
	for _, pkg := range seeded {
		info, err := build.ImportDir(filepath.Join(root, pkg), 0)
		if err != nil {
			return nil, err
		}
		for _, name := range info.GoFiles {
			text, err := os.ReadFile(filepath.Join(root, pkg, name))
			if err != nil {
				return nil, err
			}
			if err := s.add(pkg+"/"+name, string(text)); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// add parses the text of a file.
func (s *sources) add(name, text string) error {
	file, err := parser.ParseFile(s.fset, name, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	s.files = append(s.files, &sourceFile{name, text, file, s.fset.File(file.FileStart)})
	return nil
}

// enumerate makes all mutants of all files, in the order of files, places and operators.
func (s *sources) enumerate() []*generic {
	var list []*generic
	texts := s.expressions()
	for _, f := range s.files {
		e := &enumeration{sourceFile: f, sources: s, texts: texts}
		e.walk()
		e.fragments()
		slices.SortStableFunc(e.list, func(a, b *generic) int {
			return cmp.Or(a.place.compare(b.place), strings.Compare(string(a.op), string(b.op)))
		})
		list = append(list, e.list...)
	}
	seen := map[string]int{}
	for _, m := range list { // the same text twice in one function is told apart by its order
		if seen[m.id]++; seen[m.id] > 1 {
			m.id += fmt.Sprintf(" #%d", seen[m.id])
		}
	}
	return list
}

// draw puts the mutants in the order of a seed. The order of two does not change when others come or go, so the sample
// of a seed stays comparable from one commit to the next.
func draw(list []*generic, seed uint64) []*generic {
	rank := map[*generic]string{}
	for _, m := range list {
		h := sha256.New()
		_ = binary.Write(h, binary.BigEndian, seed)
		h.Write([]byte(m.id))
		rank[m] = string(h.Sum(nil))
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *generic) int { return strings.Compare(rank[a], rank[b]) })
	return list
}

// enumeration makes the mutants of a file.
type enumeration struct {
	*sourceFile
	sources *sources
	texts   map[string]expression
	in      *ast.FuncDecl // the function that the walk is in
	name    string        // of it, or of a constant
	list    []*generic
}

// edit replaces text[begin:end] of the file.
type edit struct {
	begin, end int
	with       string
}

// mutate notes a mutant: node, which is shown, with edits in it.
func (e *enumeration) mutate(op operator, node ast.Node, id string, edits ...edit) *generic {
	slices.SortFunc(edits, func(a, b edit) int { return a.begin - b.begin })
	begin, end := e.offset(node.Pos()), e.offset(node.End())
	var mutated, shown strings.Builder
	at := 0
	for _, x := range edits {
		mutated.WriteString(e.text[at:x.begin] + x.with)
		at = x.end
	}
	mutated.WriteString(e.text[at:])
	at = begin
	for _, x := range edits {
		shown.WriteString(e.text[at:x.begin] + x.with)
		at = x.end
	}
	shown.WriteString(e.text[at:end])
	pos := e.file.Position(e.file.Pos(edits[0].begin))
	m := &generic{
		id: fmt.Sprintf("%s %s %s `%s`", e.path, e.name, op, short(id)),
		op: op, place: place{e.path, pos.Line, pos.Column},
		old: oneLine(e.text[begin:end]), new: oneLine(shown.String()), source: []byte(mutated.String()),
		places: []place{e.place(node.Pos())},
	}
	if e.in == nil {
		m.places = nil // the package's: whoever uses it
	} else {
		m.in = [2]place{e.place(e.in.Pos()), e.place(e.in.End())}
	}
	e.list = append(e.list, m)
	return m
}

func (e *enumeration) offset(pos token.Pos) int { return e.file.Offset(pos) }

func (e *enumeration) source(n ast.Node) string { return e.text[e.offset(n.Pos()):e.offset(n.End())] }

func (e *enumeration) place(p token.Pos) place {
	pos := e.file.Position(p)
	return place{e.path, pos.Line, pos.Column}
}

// replace changes one piece of the source within node, which is shown.
func (e *enumeration) replace(op operator, node, piece ast.Node, with string) {
	e.mutate(op, node, e.source(node), edit{e.offset(piece.Pos()), e.offset(piece.End()), with})
}

// swap changes an operator or a name at pos.
func (e *enumeration) swap(op operator, node ast.Node, pos token.Pos, old, with string) {
	at := e.offset(pos)
	e.mutate(op, node, e.source(node), edit{at, at + len(old), with})
}

// oneLine makes one line of a piece of source.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// short is a text for an id: what is long ends in a hash of all of it.
func short(text string) string {
	const most = 100
	text = oneLine(text)
	if len(text) <= most {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return text[:most-20] + "... " + hex.EncodeToString(sum[:4])
}

// walk goes through the declarations of the file.
func (e *enumeration) walk() {
	for _, decl := range e.ast.Decls {
		e.in, e.name = nil, "-"
		if fn, ok := decl.(*ast.FuncDecl); ok {
			e.in, e.name = fn, funcName(fn)
		} else if gen, ok := decl.(*ast.GenDecl); ok && (gen.Tok == token.IMPORT || gen.Tok == token.TYPE) {
			continue
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			e.visit(n)
			return true
		})
	}
}

// funcName is F, T.F or (*T).F.
func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	switch t := fn.Recv.List[0].Type.(type) {
	case *ast.StarExpr:
		if id, ok := t.X.(*ast.Ident); ok {
			return "(*" + id.Name + ")." + fn.Name.Name
		}
	case *ast.Ident:
		return t.Name + "." + fn.Name.Name
	}
	return fn.Name.Name
}

// visit makes the mutants of one node. What does not compile is found out by the compiler.
func (e *enumeration) visit(n ast.Node) {
	switch n := n.(type) {
	case *ast.IfStmt:
		e.statements([]ast.Stmt{n.Init})
		e.negate(n.Cond)
	case *ast.ForStmt:
		e.statements([]ast.Stmt{n.Post})
		if n.Cond != nil {
			e.negate(n.Cond)
		}
	case *ast.SwitchStmt:
		e.statements([]ast.Stmt{n.Init})
		if n.Tag == nil {
			for _, clause := range n.Body.List {
				for _, cond := range clause.(*ast.CaseClause).List {
					e.negate(cond)
				}
			}
		}
	case *ast.ReturnStmt:
		e.truths(n.Results)
	case *ast.AssignStmt:
		e.truths(n.Rhs)
		with, ok := map[token.Token]string{token.ADD_ASSIGN: "-=", token.SUB_ASSIGN: "+="}[n.Tok]
		if ok && !isText(n.Rhs[0]) {
			e.swap(opArith, n, n.TokPos, n.Tok.String(), with)
		}
	case *ast.BinaryExpr:
		e.binary(n)
	case *ast.CallExpr:
		if name, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 1 {
			switch name.Name {
			case "min":
				e.replace(opMinMax, n, name, "max")
			case "max":
				e.replace(opMinMax, n, name, "min")
			}
		}
		e.attributes(n.Args, n)
		e.pairs(n)
	case *ast.CompositeLit:
		e.attributes(n.Elts, n)
	case *ast.Ident:
		switch n.Name {
		case "true":
			e.constant(n, "false")
		case "false":
			e.constant(n, "true")
		}
	case *ast.BlockStmt:
		e.statements(n.List)
	case *ast.CaseClause:
		e.statements(n.Body)
	case *ast.CommClause:
		e.statements(n.Body)
	}
}

// constant replaces true or false. The line tells one of many apart.
func (e *enumeration) constant(n *ast.Ident, with string) {
	line := e.file.Line(n.Pos())
	begin, end := e.offset(e.file.LineStart(line)), len(e.text)
	if line < e.file.LineCount() {
		end = e.offset(e.file.LineStart(line+1)) - 1
	}
	at := e.offset(n.Pos())
	m := e.mutate(opBool, n, e.text[begin:end], edit{at, e.offset(n.End()), with})
	m.old, m.new = oneLine(e.text[begin:end]), oneLine(e.text[begin:at]+with+e.text[e.offset(n.End()):end])
}

// negate makes the opposite of a condition.
func (e *enumeration) negate(cond ast.Expr) {
	switch c := cond.(type) {
	case *ast.UnaryExpr:
		if c.Op == token.NOT {
			e.replace(opNegate, cond, cond, e.source(c.X))
			return
		}
	case *ast.Ident:
		if c.Name == "true" || c.Name == "false" {
			return // see constant
		}
	case *ast.BinaryExpr:
		if with, ok := map[token.Token]string{token.EQL: "!=", token.NEQ: "=="}[c.Op]; ok {
			e.swap(opNegate, cond, c.OpPos, c.Op.String(), with)
			return
		}
	}
	e.replace(opNegate, cond, cond, "!("+e.source(cond)+")")
}

// truths negates values that are written as conditions.
func (e *enumeration) truths(values []ast.Expr) {
	for _, v := range values {
		switch v := v.(type) {
		case *ast.BinaryExpr:
			if isCondition(v) {
				e.negate(v)
			}
		case *ast.UnaryExpr:
			if v.Op == token.NOT {
				e.negate(v)
			}
		}
	}
}

func isCondition(b *ast.BinaryExpr) bool {
	switch b.Op {
	case token.LAND, token.LOR, token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
		return true
	}
	return false
}

// binary changes the operator of an expression.
func (e *enumeration) binary(n *ast.BinaryExpr) {
	swap := func(op operator, with string) { e.swap(op, n, n.OpPos, n.Op.String(), with) }
	switch n.Op {
	case token.LSS:
		swap(opShift, "<=")
	case token.LEQ:
		swap(opShift, "<")
	case token.GTR:
		swap(opShift, ">=")
	case token.GEQ:
		swap(opShift, ">")
	case token.ADD:
		if !isText(n) {
			swap(opArith, "-")
		}
	case token.SUB:
		swap(opArith, "+")
	case token.LAND:
		e.within(n, n.X, n.Y)
		swap(opLogic, "||")
	case token.LOR:
		e.within(n, n.X, n.Y)
		swap(opLogic, "&&")
	}
}

// within changes the == and != that are operands of && and ||. Those that are a whole condition are negated elsewhere.
func (e *enumeration) within(all *ast.BinaryExpr, operands ...ast.Expr) {
	for _, x := range operands {
		if c, ok := x.(*ast.BinaryExpr); ok {
			if with, ok := map[token.Token]string{token.EQL: "!=", token.NEQ: "=="}[c.Op]; ok {
				at := e.offset(c.OpPos)
				e.mutate(opEqual, all, e.source(c), edit{at, at + 2, with})
			}
		}
	}
}

// isText tells a concatenation of texts, as far as its literals and the names of our expressions show it.
func isText(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.BasicLit:
		return x.Kind == token.STRING
	case *ast.Ident:
		return isExpressionName(x.Name)
	case *ast.BinaryExpr:
		return x.Op == token.ADD && (isText(x.X) || isText(x.Y))
	case *ast.ParenExpr:
		return isText(x.X)
	}
	return false
}

// statements leaves out one statement of a list.
func (e *enumeration) statements(list []ast.Stmt) {
	for _, stmt := range list {
		op := opDrop
		switch s := stmt.(type) {
		case *ast.ExprStmt, *ast.SendStmt, *ast.IncDecStmt, *ast.GoStmt:
		case *ast.DeferStmt:
			op = opDefer
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				continue
			}
		case *ast.BranchStmt:
			if s.Tok != token.CONTINUE && s.Tok != token.BREAK {
				continue
			}
		case *ast.ReturnStmt:
			if e.in != nil && e.in.Body.List[len(e.in.Body.List)-1] == stmt {
				continue // the end of the function
			}
		default:
			continue
		}
		m := e.mutate(op, stmt, e.source(stmt), edit{e.offset(stmt.Pos()), e.offset(stmt.End()), ""})
		m.new = ""
	}
}

// attributes leaves out one slog.String("key", ...) or the like among arguments or elements.
func (e *enumeration) attributes(list []ast.Expr, all ast.Node) {
	for i, x := range list {
		call, ok := x.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 || !isText(call.Args[0]) {
			continue
		}
		if f, ok := call.Fun.(*ast.SelectorExpr); ok {
			if pkg, ok := f.X.(*ast.Ident); ok && pkg.Name == "slog" {
				e.leaveOut(opAttr, all, list, i, i+1)
			}
		}
	}
}

// logging are the methods of a logger, and which argument is the first key.
var logging = map[string]int{
	"Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "Log": 3,
	"DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2,
}

// pairs leaves out one key and its value among the arguments of a logger.
func (e *enumeration) pairs(call *ast.CallExpr) {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	if first, ok := logging[f.Sel.Name]; ok {
		for i := first; i+1 < len(call.Args) && isText(call.Args[i]); i += 2 {
			e.leaveOut(opAttr, call, call.Args, i, i+2)
		}
	}
}

// leaveOut drops list[i:j], and the comma before or behind it.
func (e *enumeration) leaveOut(op operator, all ast.Node, list []ast.Expr, i, j int) {
	begin, end := e.offset(list[i].Pos()), e.offset(list[j-1].End())
	id := e.text[begin:end]
	if i > 0 {
		begin = e.offset(list[i-1].End())
	} else if j < len(list) {
		end = e.offset(list[j].Pos())
	}
	e.mutate(op, all, id, edit{begin, end, ""})
}
