package main

import (
	"context"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// made are the mutants of a file of functions.
func made(t *testing.T, text string) []*generic {
	t.Helper()
	s := &sources{fset: token.NewFileSet()}
	if err := s.add("dynalock/x.go", "package dynalock\n\n"+text); err != nil {
		t.Fatal(err)
	}
	return s.enumerate()
}

func TestEachOperatorMakesItsMutants(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"if ok { a() }":             {"negate: ok -> !(ok)", "drop: a() ->"},
		"if !ok { a() }":            {"negate: !ok -> ok", "drop: a() ->"},
		"if a == b { c() }":         {"negate: a == b -> a != b", "drop: c() ->"},
		"for a < b { continue }":    {"negate: a < b -> !(a < b)", "shift: a < b -> a <= b", "drop: continue ->"},
		"for { break }":             {"drop: break ->"},
		"switch { case a: b() }":    {"negate: a -> !(a)", "drop: b() ->"},
		"switch a { case b: c() }":  {"drop: c() ->"},
		"if a { return }; b()":      {"negate: a -> !(a)", "drop: return ->", "drop: b() ->"},
		"for n := 1; ; n++ { a() }": {"drop: n++ ->", "drop: a() ->"},
		"if n++; a { b() }":         {"drop: n++ ->", "drop: b() ->", "negate: a -> !(a)"},
		"n++":                       {"drop: n++ ->"},
		"c <- v":                    {"drop: c <- v ->"},
		"a = b":                     {"drop: a = b ->"},
		"a := b":                    nil,
		"defer a()":                 {"defer: defer a() ->"},
		"a := min(b, c)":            {"minmax: min(b, c) -> max(b, c)"},
		"a := max(b, c)":            {"minmax: max(b, c) -> min(b, c)"},
		"a := b + c":                {"arith: b + c -> b - c"},
		"a := b - c":                {"arith: b - c -> b + c"},
		`a := b + "c"`:              nil,
		"a += b":                    {"arith: a += b -> a -= b", "drop: a += b ->"},
		"a := true":                 {"bool: a := true -> a := false"},
		"a := b > c":                {"negate: b > c -> !(b > c)", "shift: b > c -> b >= c"},
		"return a <= b":             {"negate: a <= b -> !(a <= b)", "shift: a <= b -> a < b"},
	} {
		var got []string
		for _, m := range made(t, "func f() {\n"+in+"\n}\n") {
			got = append(got, strings.TrimSpace(string(m.op)+": "+m.old+" -> "+m.new))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: made are %q, want %q", in, got, want)
		}
	}
}

func TestPartsOfAConditionAreChangedOneByOne(t *testing.T) {
	t.Parallel()
	var got []string
	for _, m := range made(t, "func f() {\nfor a == b && c || d != e {\n}\n}\n") {
		got = append(got, m.new)
	}
	want := []string{
		"!(a == b && c || d != e)", "a != b && c", "a == b || c", "a == b && c && d != e", "a == b && c || d == e",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("made are %q, want %q", got, want)
	}
}

func TestAttributesOfALogRecordAreLeftOutOneByOne(t *testing.T) {
	t.Parallel()
	var got []string
	for _, m := range made(t, `func f() {
a := append(b, slog.String("k", v), slog.Int("n", 1))
log.WarnContext(ctx, "text", "k", v, "n", n)
}
`) {
		if m.op == opAttr {
			got = append(got, m.new)
		}
	}
	want := []string{
		`append(b, slog.Int("n", 1))`, `append(b, slog.String("k", v))`,
		`log.WarnContext(ctx, "text", "n", n)`, `log.WarnContext(ctx, "text", "k", v)`,
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("made are %q, want %q", got, want)
	}
}

func TestFragmentsOfAnExpressionAreLeftOutOneByOne(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"attribute_not_exists(#key)":       nil,
		"#a = :a AND #b = :b":              {"#b = :b", "#a = :a"},
		"#a = :a AND f(#b, :b) AND ":       {"f(#b, :b) AND ", "#a = :a AND "},
		" AND #a = :a":                     {""},
		"#a = :a AND (f(#b) OR #c = :c)":   {"(f(#b) OR #c = :c)", "#a = :a", "#a = :a AND #c = :c", "#a = :a AND f(#b)"},
		"(#a = :a OR #b = :b OR #c = :c)":  {"(#b = :b OR #c = :c)", "(#a = :a OR #c = :c)", "(#a = :a OR #b = :b)"},
		"#a BETWEEN :a AND :b AND #c = :c": {"#c = :c", "#a BETWEEN :a AND :b"},
		"#a IN (:a, :b) OR #b = :b":        {"#b = :b", "#a IN (:a, :b)"},
		"SET #a = f(#a, :a) + :b, #b = :b": {"SET #b = :b", "SET #a = f(#a, :a) + :b"},
		"SET #a = :a":                      nil,
		", #a = :a":                        {""},
		" REMOVE #a, #b":                   {" REMOVE #b", " REMOVE #a"},
		", #a = :a REMOVE #b":              {" REMOVE #b", ", #a = :a"},
		"SET #a = :a, #b = :b, #c = :c REMOVE #d, #e": {
			"SET #b = :b, #c = :c REMOVE #d, #e", "SET #a = :a, #c = :c REMOVE #d, #e", "SET #a = :a, #b = :b REMOVE #d, #e",
			"SET #a = :a, #b = :b, #c = :c REMOVE #e", "SET #a = :a, #b = :b, #c = :c REMOVE #d",
		},
	} {
		var got []string
		for _, c := range cuts(text) {
			rest := []byte(text)
			for i := range rest {
				if i >= c.begin && i < c.end || slices.Contains(c.parens, i) {
					rest[i] = 0
				}
			}
			got = append(got, strings.ReplaceAll(string(rest), "\x00", ""))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: left are %q, want %q", text, got, want)
		}
	}
}

func TestAFragmentIsLeftOutOfTheLiteralsItLiesIn(t *testing.T) {
	t.Parallel()
	const text = `const (
condA = "#a = :a AND (#b = :b OR " +
	"#c = :c) AND "
condB = condA + "#d = :d"
condC = "#e = :e"
condD = "#f = :f AND " + condC
)
func f() { g(condB, condD) }
`
	want := map[string]string{
		"condA #a = :a":              `"(#b = :b OR " + "#c = :c) AND "`,
		"condA (#b = :b OR #c = :c)": `"#a = :a AND " + ""`,
		"condA #b = :b":              `"#a = :a AND " + "#c = :c AND "`,
		"condA #c = :c":              `"#a = :a AND #b = :b" + " AND "`,
		"condD #f = :f":              `"" + condC`,
		"condD #e = :e":              `"#f = :f AND " + "attribute_exists(#key)"`,
		"condB #d = :d":              `condA + "attribute_exists(#key)"`,
	}
	for _, m := range made(t, text) {
		if m.op != opExpr {
			continue
		}
		name := strings.Fields(m.id)[1]
		key := name + " " + m.old
		_, after, _ := strings.Cut(string(m.source), name+" = ")
		if name == "condA" {
			after, _, _ = strings.Cut(after, "condB")
		}
		if got := oneLine(after); !strings.HasPrefix(got, want[key]) || want[key] == "" {
			t.Errorf("%s: the constant is %s, want %s", key, got, want[key])
		}
		delete(want, key)
		if len(m.places) != 1 || m.places[0].line != 10 {
			t.Errorf("%s is used at %v, want line 10 alone", key, m.places)
		}
	}
	if len(want) > 0 {
		t.Errorf("not made: %v", want)
	}
}

func TestTheNameOfAGenericMutantOutlivesChangesElsewhere(t *testing.T) {
	t.Parallel()
	const before = "func f() error {\nif err != nil { return err }\nif err != nil { return err }\nreturn nil\n}\n"
	const after = "// f does.\nfunc f() error {\nn = 2\nif  err !=  nil { return err }\nif err != nil { return err }\n" +
		"return nil\n}\nfunc g() { a() }\n"
	ids := func(text string) (ids []string) {
		for _, m := range made(t, text) {
			ids = append(ids, m.id)
		}
		return ids
	}
	later := ids(after)
	seen := map[string]bool{}
	for _, id := range ids(before) {
		if !slices.Contains(later, id) {
			t.Errorf("%s is gone: %q", id, later)
		}
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
	}
}

func TestEveryGenericMutantOfTheLibraryHasANameOfItsOwnAndParses(t *testing.T) {
	t.Parallel()
	list, _, err := generics(root)
	if err != nil {
		t.Fatal(err) // also where equivalent.txt lists what there is not
	}
	seen, made := map[string]bool{}, map[operator]int{}
	for i, m := range list {
		if seen[m.id] {
			t.Errorf("%s is there twice", m.id)
		}
		seen[m.id] = true
		made[m.op]++
		if i%10 != 0 {
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, m.source, parser.SkipObjectResolution); err != nil {
			t.Errorf("%s: %v", m.id, err)
		}
	}
	for _, op := range []operator{
		opNegate, opShift, opEqual, opLogic, opArith, opMinMax, opBool, opDrop, opDefer, opAttr, opExpr,
	} {
		if made[op] == 0 {
			t.Errorf("no mutant is made by %s", op)
		}
	}
}

func TestTheSampleOfASeedIsTheSameAndKeepsItsOrderWhenMutantsCome(t *testing.T) {
	t.Parallel()
	var list []*generic
	for _, id := range strings.Fields("a b c d e f g h i j k l m n o p") {
		list = append(list, &generic{id: id})
	}
	ids := func(list []*generic) (ids string) {
		for _, m := range list {
			ids += m.id
		}
		return ids
	}
	all := ids(draw(list, 7))
	if got := ids(draw(list, 7)); got != all {
		t.Errorf("the same seed draws %s and %s", all, got)
	}
	if got := ids(draw(list, 8)); got == all {
		t.Errorf("two seeds draw %s", got)
	}
	without := slices.Delete(slices.Clone(list), 3, 4)
	if got, want := ids(draw(without, 7)), strings.Replace(all, "d", "", 1); got != want {
		t.Errorf("without d the order is %s, want %s", got, want)
	}
}

func TestOnlyWhatCompilesAndIsNotEquivalentIsCounted(t *testing.T) {
	t.Parallel()
	var order []*generic
	for _, id := range strings.Fields("none1 equal1 a none2 b equal2 broken c d e") {
		order = append(order, &generic{id: id})
	}
	equivalent := func(m *generic) bool { return strings.HasPrefix(m.id, "equal") }
	try := func(m *generic) *result {
		r := &result{generic: m}
		switch {
		case strings.HasPrefix(m.id, "none"):
			r.err = errCompile
		case m.id == "broken":
			r.err = context.DeadlineExceeded
		}
		return r
	}
	for _, parallel := range []int{1, 2, 5} {
		counted := map[string]bool{}
		for _, r := range collect(t.Context(), order, 3, parallel, equivalent, try) {
			if r.counted() {
				counted[r.id] = true
			}
		}
		if len(counted) != 3 || !counted["a"] || !counted["b"] || !counted["c"] {
			t.Errorf("%d at once: counted are %v, want a, b and c", parallel, counted)
		}
	}
	if got := collect(t.Context(), order, 100, 2, equivalent, try); len(got) != len(order)-2 {
		t.Errorf("of %d mutants %d were tried, want all but the two equivalent ones", len(order), len(got))
	}
}

func TestTooFewKilledAreAnError(t *testing.T) {
	t.Parallel()
	results := []*result{
		{generic: &generic{id: "a", op: opDrop}, kills: []kill{"dynalock.TestA"}},
		{generic: &generic{id: "b", op: opDrop}},
		{generic: &generic{id: "c", op: opDrop}, err: errCompile},
	}
	if err := report(io.Discard, results, nil, nil, 50); err != nil {
		t.Errorf("one of two, of a hundred 50 wanted: %v", err)
	}
	if err := report(io.Discard, results, nil, nil, 50.1); err == nil {
		t.Error("one of two, of a hundred 50.1 wanted: no error")
	}
	if err := report(io.Discard, nil, nil, nil, 0); err == nil {
		t.Error("none was tried: no error")
	}
	broken := &result{generic: &generic{id: "d"}, err: errors.New("the disk is full")}
	err := report(io.Discard, append(results, broken), nil, nil, 0)
	if err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("one could not be tried: %v", err)
	}
}

func TestTheListOfEquivalentsNamesEachOnceWithAReason(t *testing.T) {
	t.Parallel()
	got, err := readEquivalents(strings.NewReader("# text\na.go f drop `x` #2\n    one\n    two\n\nb\n\tthree\n"))
	if err != nil || len(got) != 2 || got["a.go f drop `x` #2"] != "one two" || got["b"] != "three" {
		t.Errorf("read are %q, %v", got, err)
	}
	for _, text := range []string{"a\nb\n  reason\n", "a\n  reason\na\n  reason\n", "  reason\n", "a\n"} {
		if got, err := readEquivalents(strings.NewReader(text)); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
	if ids := gone(got, []*generic{{id: "b"}}); !slices.Equal(ids, []string{"a.go f drop `x` #2"}) {
		t.Errorf("gone are %q", ids)
	}
}

func TestTheTestsThatComeByAMutantAreRunAndTheShortOnesFirst(t *testing.T) {
	t.Parallel()
	c := &coverage{blocks: map[string][]*block{}}
	index := map[place]*block{}
	for name, profile := range map[string]string{
		"TestLong":  "mode: set\nm/dynalock/x.go:10.2,12.5 1 1\nm/dynalock/x.go:13.2,14.5 1 1\n",
		"TestShort": "mode: set\nm/dynalock/x.go:10.2,12.5 1 1\nm/dynalock/x.go:13.2,14.5 1 0\n",
		"TestOther": "mode: set\nm/dynalock/x.go:10.2,12.5 1 0\nm/dynalock/x.go:30.2,31.5 1 1\n",
	} {
		tt := &test{"dynalock", name, time.Millisecond}
		if name == "TestLong" {
			tt.took = 2 * time.Second
		}
		c.tests = append(c.tests, tt)
		if err := c.note(index, "m", []byte(profile), tt); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range index {
		c.blocks[b.begin.file] = append(c.blocks[b.begin.file], b)
	}
	in := [2]place{{"dynalock/x.go", 9, 1}, {"dynalock/x.go", 20, 2}}
	for at, want := range map[place][]string{
		{"dynalock/x.go", 11, 1}: {"TestShort$", "TestLong$"},
		{"dynalock/x.go", 13, 4}: {"TestLong$"},
		{"dynalock/x.go", 12, 9}: {"TestShort$", "TestLong$"}, // in no block: its function's
	} {
		var got []string
		for _, w := range plan("dynalock", c.of(&generic{places: []place{at}, in: in})) {
			got = append(got, w.run)
		}
		if !slices.Equal(got, want) {
			t.Errorf("at %v run %q, want %q", at, got, want)
		}
	}
	if got := c.of(&generic{}); len(got) != 3 {
		t.Errorf("by what belongs to no function %d come, want all 3", len(got))
	}
	if err := c.note(index, "m", []byte("mode: set\nm/dynalock/x.go:10.2,12.5 1\n"), c.tests[0]); err == nil {
		t.Error("a broken profile is read")
	}
}
