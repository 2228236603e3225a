package expr

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// item reads an item from its JSON.
func item(tb testing.TB, text string) attr.Item {
	tb.Helper()
	var wire map[string]attr.Wire
	if err := json.Unmarshal([]byte(text), &wire); err != nil {
		tb.Fatal(err)
	}
	it, err := attr.WireItem(wire)
	if err != nil {
		tb.Fatal(err)
	}
	return it
}

const (
	sample = `{"n":{"N":"1"},"s":{"S":"hello"},"b":{"B":"AAE="},"t":{"BOOL":true},"z":{"NULL":true},"ss":{"SS":["a","b"]},"ns":{"NS":["1","2"]},
		"l":{"L":[{"S":"a"},{"N":"2"},{"M":{"x":{"S":"y"}}}]},"m":{"M":{"x":{"N":"1"},"l":{"L":[{"N":"1"}]}}},"a.b":{"S":"dot"}}`
	values = `{":one":{"N":"1"},":two":{"N":"2"},":s":{"S":"x"},":he":{"S":"he"},":l":{"L":[{"S":"z"}]},":ss":{"SS":["b","c"]},":ns":{"NS":["1","2"]},
		":t":{"BOOL":true},":type":{"S":"S"},":list":{"S":"L"},":bytes":{"B":"AA=="},":big":{"N":"9.9e125"},":map":{"M":{}}}`
)

func placeholders(tb testing.TB) *Placeholders {
	tb.Helper()
	return &Placeholders{
		Names:   map[string]string{"#s": "s", "#dot": "a.b", "#m": "m", "#gone": "gone"},
		Values:  item(tb, values),
		Numbers: map[string]string{":one": "1", ":two": "2.0"},
	}
}

func TestConditionsAreEvaluatedAsTheServiceDoes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"n = :one": true, "n = :two": false, "n <> :two": true, "n < :two": true, "n <= :one": true, "n > :one": false,
		"n >= :one":   true,
		"gone = :one": false, "gone <> :one": true, "gone < :one": false, "NOT gone < :one": true, "n = :s": false,
		"n <> :s": true, "n < :s": false,
		"#s = :s": false, "#dot = #dot.x": false, ":one = n": true, ":one < :two": true,
		"n BETWEEN :one AND :two": true, "n BETWEEN :two AND :two": false, "gone BETWEEN :one AND :two": false,
		"n IN (:s, :one)": true, "n IN (:s)": false, "n IN (gone, :two)": false,
		"attribute_exists(m.x)": true, "attribute_exists(m.y)": false, "attribute_exists(l[2].x)": true,
		"attribute_exists(l[3])":    false,
		"attribute_not_exists(s.x)": true, "attribute_not_exists(l)": false,
		"attribute_type(s, :type)": true, "attribute_type(l, :list)": true, "attribute_type(n, :type)": false,
		"begins_with(s, :he)": true, "begins_with(n, :he)": false, "begins_with(b, :bytes)": true,
		"contains(s, :he)": true, "contains(ss, :s)": false, "contains(l, :two)": true, "contains(ns, :one)": true,
		"contains(n, :one)": false,
		"size(s) > :two":    true, "size(ss) = :two": true, "size(l) < :one": false, "size(n) = :one": false,
		"size(b) = :two": true,
		"ns = :ns":       true, "t = :t": true,
		"n = :one OR gone = :one AND s = :s":      true,  // AND binds tighter
		"(n = :one OR gone = :one) AND s = :s":    false, // than OR
		"NOT n = :one OR s = :s":                  false,
		"not (n = :two or s = :s) and t = :t":     true,
		"NOT NOT n = :one":                        true,
		"attribute_exists (s)AND(n)=:one":         true,
		"l[1] = :two AND m.l[0] = :one":           true,
		"l [ 1 ] = :two AND m . l [ 0 ] = (:one)": true,
	} {
		c, err := ParseCondition(Condition, text, placeholders(t))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := c.Eval(item(t, sample)); got != want {
			t.Errorf("%s is %t, want %t", text, got, want)
		}
	}
}

func TestConditionsOnAnItemThatDoesNotExist(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"attribute_not_exists(n)": true, "attribute_exists(n)": false,
		"n = :one": false, "n <> :one": true,
	} {
		c, err := ParseCondition(Condition, text, placeholders(t))
		if err != nil || c.Eval(nil) != want {
			t.Errorf("%s is not %t (%v)", text, want, err)
		}
	}
}

func TestMalformedExpressionsAreRefusedInTheServicesWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind       Kind
		text, want string
	}{
		{Condition, "", "The expression can not be empty;"},
		{Condition, " ", `Syntax error; token: "<EOF>", near: " "`},
		{Condition, "a = = :s", `Syntax error; token: "=", near: "= = :s"`},
		{Condition, "a   =    =   :s  x", `Syntax error; token: "=", near: "=    =   :s"`},
		{Condition, "a", `Syntax error; token: "<EOF>", near: "a"`},
		{Condition, "(a = :s", `Syntax error; token: "<EOF>", near: ":s"`},
		{Condition, "a = :s)", `Syntax error; token: ")", near: ":s)"`},
		{Condition, "a != :s", `Syntax error; token: "!", near: "a !="`},
		{Condition, "1a = :s", `Syntax error; token: "1", near: "1a"`},
		{Condition, "é = :s", `Syntax error; token: "é", near: "é ="`},
		{Condition, "a[00] = :s", `Syntax error; token: "0", near: "00]"`},
		{Condition, "set = :s", `Syntax error; token: "set", near: "set ="`},
		{Condition, "((((a))))", `Syntax error; token: "<EOF>", near: ")"`},
		{Condition, "((a = :s))", "The expression has redundant parentheses;"},
		{Condition, "((a)) = :s", "The expression has redundant parentheses;"},
		{Condition, "foo(a)", "Invalid function name; function: foo"},
		{Condition, "SIZE(a) = :s", "Invalid function name; function: SIZE"},
		{Condition, "status = :s", "Attribute name is a reserved keyword; reserved keyword: status"},
		{Condition, "a.Order = :s", "Attribute name is a reserved keyword; reserved keyword: Order"},
		{Condition, "#x = :s", "An expression attribute name used in the document path is not defined; attribute name: #x"},
		{Condition, "a = :w", "An expression attribute value used in expression is not defined; attribute value: :w"},
		{Condition, "a = a", "The first operand must be distinct from the remaining operands for this operator or function; operator: =, first operand: [a]"},
		{Condition, "a < :t", "Incorrect operand type for operator or function; operator or function: <, operand type: BOOL"},
		{
			Condition, "begins_with(a, :one)",
			"Incorrect operand type for operator or function; operator or function: begins_with, operand type: N",
		},
		{
			Condition, "contains(a, :one, :s)",
			"Incorrect number of operands for operator or function; operator or function: contains, number of operands: 3",
		},
		{
			Condition, "attribute_exists(:s)",
			"Operator or function requires a document path; operator or function: attribute_exists",
		},
		{
			Condition, "attribute_exists(a) = :s",
			"The function is not allowed to be used this way in an expression; function: attribute_exists",
		},
		{Condition, "size(a)", "The function is not allowed to be used this way in an expression; function: size"},
		{
			Condition, "if_not_exists(a, :s) = :s",
			"The function is not allowed in a condition expression; function: if_not_exists",
		},
		{
			Condition, "attribute_type(a, :s)",
			"Invalid attribute type name found; type: x, valid types: {N,BS,L,B,NULL,M,S,SS,NS,BOOL}",
		},
		{
			Condition, "a BETWEEN :s AND :one",
			"The BETWEEN operator requires same data type for lower and upper bounds; lower bound operand: AttributeValue: {S:x}, upper bound operand: AttributeValue: {N:1}",
		},
		{
			Condition, "a BETWEEN :two AND :one",
			"The BETWEEN operator requires upper bound to be greater than or equal to lower bound; lower bound operand: AttributeValue: {N:2.0}, upper bound operand: AttributeValue: {N:1}",
		},
		{Condition, "a[99999999999] = :s", "List index is not within the allowable range; index: [99999999999]"},
		{
			Condition, "attribute_exists(a" + strings.Repeat(".a", 32) + ")",
			"The document path has too many nesting levels; nesting levels: 33",
		},
		{
			Condition, "a = :s" + strings.Repeat(" ", 4091),
			"Expression size has exceeded the maximum allowed size; expression size: 4097",
		},
		{
			Condition, "a = :s" + strings.Repeat(" OR a = :s", 150),
			"The expression contains too many operators; operator count: 301",
		},
		{
			Condition, "a IN (:s" + strings.Repeat(",:s", 100) + ")",
			"The IN operator is provided with too many operands; number of operands: 101",
		},
		{Update, "SET", `Syntax error; token: "<EOF>", near: "SET"`},
		{Update, "SET a = ", `Syntax error; token: "<EOF>", near: "= "`},
		{Update, "a = :s", `Syntax error; token: "a", near: "a ="`},
		{Update, "SET a = n + :one + :one", `Syntax error; token: "+", near: ":one + :one"`},
		{Update, "SET a = :s SET b = :s", `The "SET" section can only be used once in an update expression;`},
		{
			Update, "SET a = :s, a = :one",
			"Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [a], path two: [a]",
		},
		{
			Update, "SET m.x = :s REMOVE m",
			"Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [m, x], path two: [m]",
		},
		{
			Update, "SET m.x = :s, m[0] = :s",
			"Two document paths conflict with each other; must remove or rewrite one of these paths; path one: [m, x], path two: [m, [0]]",
		},
		{
			Update, "SET a = n + :s",
			"Incorrect operand type for operator or function; operator or function: +, operand type: S",
		},
		{
			Update, "SET a = list_append(l, :s)",
			"Incorrect operand type for operator or function; operator or function: list_append, operand type: S",
		},
		{Update, "SET a = size(n)", "The function is not allowed in an update expression; function: size"},
		{
			Update, "SET a = if_not_exists(list_append(l, :l), :l)",
			"The function is not allowed to be used this way in an expression; function: list_append",
		},
		{Update, "ADD a :t", "Incorrect operand type for operator or function; operator: ADD, operand type: BOOLEAN, typeSet: ALLOWED_FOR_ADD_OPERAND"},
		{
			Update, "DELETE a :one",
			"Incorrect operand type for operator or function; operator: DELETE, operand type: NUMBER, typeSet: ALLOWED_FOR_DELETE_OPERAND",
		},
		{
			Update, "SET a = n + :s ADD b :t",
			"Incorrect operand type for operator or function; operator: ADD, operand type: BOOLEAN, typeSet: ALLOWED_FOR_ADD_OPERAND",
		},
		{Projection, "n s", `Syntax error; token: "s", near: "n s"`},
		{Projection, "n, n", "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [n], path two: [n]"},
		{Projection, "size(n)", `Syntax error; token: "(", near: "size(n"`},
	} {
		var err error
		switch tt.kind {
		case Update:
			_, err = ParseUpdate(tt.text, placeholders(t))
		case Projection:
			_, err = ParseProjection(tt.text, placeholders(t))
		default:
			_, err = ParseCondition(tt.kind, tt.text, placeholders(t))
		}
		if err == nil || err.Error() != tt.want {
			t.Errorf("%v %.60q gives %v, want %s", tt.kind, tt.text, err, tt.want)
		}
	}
}

func TestUpdatesSeeTheItemAsItWas(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"SET n = n + :one, k = n":                  `"n":{"N":"2"},"k":{"N":"1"}`,
		"SET n = :one - n":                         `"n":{"N":"0"}`,
		"SET k = if_not_exists(gone, :two) + :one": `"k":{"N":"3"}`,
		"SET k = if_not_exists(n, :two)":           `"k":{"N":"1"}`,
		"SET l[0] = l[1], l[1] = l[0]":             `"l":{"L":[{"N":"2"},{"S":"a"},{"M":{"x":{"S":"y"}}}]}`,
		"SET l[9] = :s, l[7] = :one":               `"l":{"L":[{"S":"a"},{"N":"2"},{"M":{"x":{"S":"y"}}},{"N":"1"},{"S":"x"}]}`,
		"REMOVE l[0], l[1] SET l[2].x = :s":        `"l":{"L":[{"M":{"x":{"S":"x"}}}]}`,
		"SET l = list_append(:l, l) REMOVE n, s":   `"l":{"L":[{"S":"z"},{"S":"a"},{"N":"2"},{"M":{"x":{"S":"y"}}}]},"n":null,"s":null`,
		"SET m.y = :s REMOVE m.x ADD m.l[0] :two":  `"m":{"M":{"y":{"S":"x"},"l":{"L":[{"N":"3"}]}}}`,
		"ADD n :two, k :one, ss :ss, q :ss":        `"n":{"N":"3"},"k":{"N":"1"},"ss":{"SS":["a","b","c"]},"q":{"SS":["b","c"]}`,
		"DELETE ss :ss, ns :ns, q :ss":             `"ss":{"SS":["a"]},"ns":null`,
		"set k = (n + :one) remove gone":           `"k":{"N":"2"}`,
		"SET k = n+:one":                           `"k":{"N":"2"}`,
	} {
		u, err := ParseUpdate(text, placeholders(t))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		before := item(t, sample)
		got, err := u.Apply(before)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		wanted := item(t, sample)
		var changes map[string]*attr.Wire
		if err := json.Unmarshal([]byte("{"+want+"}"), &changes); err != nil {
			t.Fatal(err)
		}
		for name, wire := range changes {
			if wire == nil {
				delete(wanted, name)
				continue
			}
			if wanted[name], err = wire.Value(); err != nil {
				t.Fatal(err)
			}
		}
		if !(attr.Value{Kind: attr.M, Map: got}).Equal(attr.Value{Kind: attr.M, Map: wanted}) {
			t.Errorf("%s gives %s", text, got.AppendJSON(nil))
		}
		if !(attr.Value{Kind: attr.M, Map: before}).Equal(attr.Value{Kind: attr.M, Map: item(t, sample)}) {
			t.Errorf("%s changed the item that it was applied to", text)
		}
	}
}

func TestUpdatesThatDoNotFitTheItemAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"SET k = gone": ErrMissing, "SET k = gone + :one": ErrMissing, "SET k = if_not_exists(gone, nothing)": ErrMissing,
		"SET k = s + :one": ErrOperand, "SET k = list_append(s, :l)": ErrOperand, "ADD s :one": ErrOperand,
		"ADD n :ss":     ErrOperand,
		"DELETE ns :ss": ErrOperand, "SET q.x = :s": ErrPath, "SET s.x = :s": ErrPath, "SET m[0] = :s": ErrPath,
		"SET l.x = :s": ErrPath,
		"REMOVE q.x":   ErrPath, "ADD q.x :one": ErrPath, "SET l[9].x = :s": ErrPath, "SET q.x = gone": ErrPath,
	} {
		u, err := ParseUpdate(text, placeholders(t))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if it, err := u.Apply(item(t, sample)); err != want { //nolint:errorlint // the very value
			t.Errorf("%s gives %v, %v, want %v", text, it, err, want)
		}
	}
}

func TestAProjectionKeepsWhatItNamesWhereItStood(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"n, #s": `{"n":{"N":"1"},"s":{"S":"hello"}}`, "m.x": `{"m":{"M":{"x":{"N":"1"}}}}`,
		"l[2], l[0]": `{"l":{"L":[{"S":"a"},{"M":{"x":{"S":"y"}}}]}}`,
		"l[2].x":     `{"l":{"L":[{"M":{"x":{"S":"y"}}}]}}`, "gone": `{}`, "l[9]": `{}`, "m[0]": `{}`, "s.x": `{}`,
		"#dot": `{"a.b":{"S":"dot"}}`,
	} {
		paths, err := ParseProjection(text, placeholders(t))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := Project(item(t, sample), paths)
		if !(attr.Value{Kind: attr.M, Map: got}).Equal(attr.Value{Kind: attr.M, Map: item(t, want)}) {
			t.Errorf("%s gives %s, want %s", text, got.AppendJSON(nil), want)
		}
	}
}

func TestUnusedPlaceholdersAreNamed(t *testing.T) {
	t.Parallel()
	ph := &Placeholders{Names: map[string]string{"#a": "a", "#b": "b"}, Values: item(t, `{":v":{"N":"1"},":w":{"N":"1"}}`)}
	if _, err := ParseCondition(Condition, "#a = :v", ph); err != nil {
		t.Fatal(err)
	}
	names, vals := ph.Unused()
	if strings.Join(names, ",") != "#b" || strings.Join(vals, ",") != ":w" {
		t.Errorf("unused: %v and %v", names, vals)
	}
}

func TestReservedWordsAreSortedAndKnownInAnyCase(t *testing.T) {
	t.Parallel()
	for i, word := range reservedWords {
		if i > 0 && reservedWords[i-1] >= word {
			t.Errorf("%s stands before %s", reservedWords[i-1], word)
		}
		if !IsReserved(word) || !IsReserved(strings.ToLower(word)) {
			t.Errorf("%s is not known", word)
		}
	}
	if IsReserved("ownerName") || len(reservedWords) < 500 {
		t.Errorf("of %d words ownerName is one", len(reservedWords))
	}
}
