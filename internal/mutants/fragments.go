package main

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// isExpressionName tells the constants that are parts of conditions and updates.
func isExpressionName(name string) bool {
	return slices.ContainsFunc([]string{"cond", "upd", "set"}, func(prefix string) bool {
		rest, ok := strings.CutPrefix(name, prefix)
		return ok && rest != "" && rest[0] >= 'A' && rest[0] <= 'Z'
	})
}

// expression is the text of a constant, with the place in the source of each of its bytes; -1 for those of another
// constant that it is made of.
type expression struct {
	text string
	at   []int
	name map[int]edit // the constants that it is made of, by where their text begins: their names in the source
	uses []place      // where functions name the constant
	used []string
}

// expressions are the constants of expressions of all files, by name.
func (s *sources) expressions() map[string]expression {
	specs, files := map[string]*ast.ValueSpec{}, map[string]*sourceFile{}
	s.constants(func(f *sourceFile, spec *ast.ValueSpec) {
		specs[spec.Names[0].Name], files[spec.Names[0].Name] = spec, f
	})
	texts := map[string]expression{}
	var flatten func(name string) expression
	flatten = func(name string) expression {
		if x, ok := texts[name]; ok {
			return x
		}
		var x expression
		var add func(v ast.Expr)
		add = func(v ast.Expr) {
			switch v := v.(type) {
			case *ast.BinaryExpr:
				add(v.X)
				add(v.Y)
			case *ast.BasicLit:
				text, err := strconv.Unquote(v.Value)
				if err != nil || len(text) != len(v.Value)-2 {
					return // with escapes, places cannot be told
				}
				for i := range len(text) {
					x.at = append(x.at, files[name].file.Offset(v.Pos())+1+i)
				}
				x.text += text
			case *ast.Ident:
				if specs[v.Name] == nil {
					return
				}
				of := flatten(v.Name)
				if x.name == nil {
					x.name = map[int]edit{}
				}
				begin := files[name].file.Offset(v.Pos())
				x.name[len(x.text)] = edit{begin, begin + len(v.Name), of.text}
				x.text += of.text
				x.at = append(x.at, slices.Repeat([]int{-1}, len(of.text))...)
				x.used = append(x.used, v.Name)
			}
		}
		add(specs[name].Values[0])
		texts[name] = x
		return x
	}
	for name := range specs {
		flatten(name)
	}
	s.uses(texts)
	return texts
}

// constants calls f for every constant of an expression.
func (s *sources) constants(f func(*sourceFile, *ast.ValueSpec)) {
	for _, file := range s.files {
		for _, decl := range file.ast.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.CONST {
				continue
			}
			for _, spec := range gen.Specs {
				spec := spec.(*ast.ValueSpec)
				if len(spec.Names) == 1 && len(spec.Values) == 1 && isExpressionName(spec.Names[0].Name) {
					f(file, spec)
				}
			}
		}
	}
}

// uses notes where the constants are named in functions, also by way of other constants.
func (s *sources) uses(texts map[string]expression) {
	var note func(name string, at place)
	note = func(name string, at place) {
		x, ok := texts[name]
		if !ok || slices.Contains(x.uses, at) {
			return
		}
		x.uses = append(x.uses, at)
		texts[name] = x
		for _, part := range x.used {
			note(part, at)
		}
	}
	for _, f := range s.files {
		e := &enumeration{sourceFile: f}
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok {
				ast.Inspect(fn, func(n ast.Node) bool {
					if id, ok := n.(*ast.Ident); ok && isExpressionName(id.Name) {
						note(id.Name, e.place(id.Pos()))
					}
					return true
				})
			}
		}
	}
}

// always stands for an operand whose AND belongs to another constant: it holds for every item that there is.
const always = "attribute_exists(#key)"

// fragments makes the mutants of the constants of this file that are expressions.
func (e *enumeration) fragments() {
	e.sources.constants(func(f *sourceFile, spec *ast.ValueSpec) {
		if f != e.sourceFile {
			return
		}
		x := e.texts[spec.Names[0].Name]
		e.in, e.name = nil, spec.Names[0].Name
		for _, c := range cuts(x.text) {
			begin, end, with := c.begin, c.end, ""
			if slices.Contains(x.at[begin:end], -1) {
				begin, end, with = c.operand.begin, c.operand.end, always
				if name, ok := x.name[begin]; ok && name.with == c.name && c.and { // all of another constant
					m := e.mutate(opExpr, spec, c.name, edit{name.begin, name.end, strconv.Quote(always)})
					m.old, m.new, m.places = c.name, always, x.uses
					continue
				}
				if slices.Contains(x.at[begin:end], -1) || !c.and {
					continue
				}
			}
			edits := []edit{}
			for i := begin; i < end; i++ { // one for each literal that the fragment lies in
				if n := len(edits); n > 0 && edits[n-1].end == x.at[i] {
					edits[n-1].end++
				} else {
					edits = append(edits, edit{x.at[i], x.at[i] + 1, ""})
				}
			}
			edits[0].with = with
			for _, p := range c.parens {
				if x.at[p] >= 0 {
					edits = append(edits, edit{x.at[p], x.at[p] + 1, ""})
				}
			}
			m := e.mutate(opExpr, spec, c.name, edits...)
			m.old, m.new = strings.TrimSpace(c.name), with
			m.places = x.uses
		}
	})
}

// cut is a piece of an expression that can be left out, text[begin:end], with one separator beside it.
type cut struct {
	name       string // the operand or the item
	begin, end int
	and        bool                     // it is an operand of AND
	operand    struct{ begin, end int } // the piece without its separator
	parens     []int
}

// cuts finds the operands of AND and OR and the items of SET and REMOVE in an expression, or in a part of one: it may
// begin or end with a separator.
func cuts(text string) []*cut {
	if strings.Contains(text, "SET ") || strings.Contains(text, "REMOVE ") || strings.HasPrefix(text, ", ") {
		return itemCuts(text)
	}
	return operandCuts(text, 0, len(text), nil)
}

// operandCuts finds operands within text[lo:hi]; around are the parentheses of this group, where it is one.
func operandCuts(text string, lo, hi int, around []int) []*cut {
	type sep struct {
		begin, end int
		and        bool
	}
	var seps []sep
	var inner []*cut
	depth, open, between := 0, 0, false
	for i := lo; i < hi; i++ {
		switch {
		case text[i] == '(':
			if depth++; depth == 1 {
				open = i
			}
		case text[i] == ')':
			if depth--; depth == 0 && !isCall(text[lo:open]) {
				inner = append(inner, operandCuts(text, open+1, i, []int{open, i})...)
			}
		case depth == 0 && strings.HasPrefix(text[i:hi], " BETWEEN "):
			between = true
		case depth == 0 && between && strings.HasPrefix(text[i:hi], " AND "):
			between = false // this AND is its own
		case depth == 0 && strings.HasPrefix(text[i:hi], " AND "):
			seps = append(seps, sep{i, i + len(" AND "), true})
		case depth == 0 && strings.HasPrefix(text[i:hi], " OR "):
			seps = append(seps, sep{i, i + len(" OR "), false})
		}
	}
	var list []*cut
	for i := 0; i <= len(seps) && len(seps) > 0; i++ {
		begin, end := lo, hi
		c := &cut{}
		if i > 0 {
			begin = seps[i-1].end
			c.and = c.and || seps[i-1].and
		}
		if i < len(seps) {
			end = seps[i].begin
			c.and = c.and || seps[i].and
		}
		if begin >= end {
			continue // the text begins or ends with the separator
		}
		c.name, c.operand.begin, c.operand.end = text[begin:end], begin, end
		c.begin, c.end = begin, end
		if i < len(seps) {
			c.end = seps[i].end
		} else {
			c.begin = seps[i-1].begin
		}
		if len(seps) == 1 && seps[0].begin > lo && seps[0].end < hi {
			c.parens = around // they would be redundant, which is refused
		}
		list = append(list, c)
	}
	return append(list, inner...)
}

// isCall tells a parenthesis that belongs to a function or to IN by what is before it.
func isCall(before string) bool {
	if strings.HasSuffix(before, " IN ") {
		return true
	}
	return before != "" && isWord(before[len(before)-1])
}

func isWord(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_'
}

// itemCuts finds the items of an update.
func itemCuts(text string) []*cut {
	type item struct{ begin, end, clause int }
	var items []item
	depth, begin, clause := 0, 0, 0
	note := func(end int) {
		if begin < end {
			items = append(items, item{begin, end, clause})
		}
	}
	for i := 0; i < len(text); i++ {
		rest := text[i:]
		switch {
		case text[i] == '(':
			depth++
		case text[i] == ')':
			depth--
		case depth == 0 && strings.HasPrefix(rest, ", "):
			note(i)
			begin = i + 2
		case depth == 0 && strings.HasPrefix(rest, "SET "):
			begin = i + 4
			clause++
		case depth == 0 && strings.HasPrefix(rest, " REMOVE "):
			note(i)
			begin = i + 8
			clause++
		}
	}
	note(len(text))
	var list []*cut
	for i, it := range items {
		c := &cut{name: text[it.begin:it.end], begin: it.begin, end: it.end}
		last := i+1 == len(items) || items[i+1].clause != it.clause
		switch {
		case strings.HasSuffix(text[:it.begin], ", "):
			c.begin -= 2
		case !last:
			c.end = items[i+1].begin
		case strings.HasSuffix(text[:it.begin], " REMOVE "):
			c.begin -= len(" REMOVE ")
		default:
			continue // the only item of SET
		}
		c.operand.begin, c.operand.end = it.begin, it.end
		list = append(list, c)
	}
	return list
}
