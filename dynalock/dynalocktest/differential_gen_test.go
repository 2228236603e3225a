package dynalocktest_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"pgregory.net/rapid"
)

type item = map[string]types.AttributeValue

// table is one of the tables of a sequence, with the types of its key.
type table struct {
	name     string
	hash     string
	hashType string
	sort     string // "" for none
	sortType string
}

func (tb table) keyNames() []string {
	if tb.sort == "" {
		return []string{tb.hash}
	}
	return []string{tb.hash, tb.sort}
}

// attribute is a name that items use, with the type it usually has.
type attribute struct{ name, kind string }

// The names: those of the lock item, reserved words among them (data, name, count,
// status), and some that only an alias can reach.
var attributes = []attribute{
	{"ownerName", "S"},
	{"leaseDuration", "S"},
	{"recordVersionNumber", "S"},
	{"isReleased", "S"},
	{"fencingToken", "N"},
	{"data", "B"},
	{"l", "L"},
	{"m", "M"},
	{"ss", "SS"},
	{"ns", "NS"},
	{"bs", "BS"},
	{"flag", "BOOL"},
	{"none", "NULL"},
	{"name", "S"},
	{"count", "N"},
	{"n2", "N"},
	{"a.b", "S"},
	{"x-y", "N"},
	{"größe", "N"},
	{"2nd", "S"},
	{"_u", "M"},
	{"status", "S"},
}

// needAlias are the names that are reserved words, or that the grammar cannot read.
var needAlias = []string{"data", "none", "name", "count", "status", "key", "pad", "a.b", "x-y", "größe", "2nd", "_u"}

var allKinds = []string{"S", "N", "B", "BOOL", "NULL", "L", "M", "SS", "NS", "BS"}

// source draws what a request is made of. spoiled says that the request has its one
// deliberate mistake: of two, which one is named first follows the order in which
// maps are walked, and that is random already in how the SDK writes them.
type source struct {
	*rapid.T
	spoiled bool
}

// mistake is chance for what makes a request invalid.
func (t *source) mistake(percent int) bool {
	if t.spoiled || !chance(t, percent) {
		return false
	}
	t.spoiled = true
	return true
}

func pick[E any](t *source, from ...E) E { return rapid.SampledFrom(from).Draw(t.T, "pick") }

// chance is true about percent times in a hundred, and false when shrunk.
func chance(t *source, percent int) bool {
	n := 0
	for range 7 {
		n <<= 1
		if rapid.Bool().Draw(t.T, "bit") {
			n |= 1
		}
	}
	return n >= 128-(percent*128+99)/100
}

func upTo(t *source, most int) int { return rapid.IntRange(0, most).Draw(t.T, "n") }

var (
	plainStrings = []string{"a", "b", "ab", "abc", "1", "10000", "10s", "id-1", "id-2", "", " ", "é", "日本", "\x00", "a\"b"}
	plainNumbers = []string{"1", "0", "2", "3", "-1", "10", "1.5", "-0.25", "1700000000000000", "100"}
	// The texts that a number may have: leading and trailing zeros, exponents, 38
	// digits and one more, the ends of the range and just outside.
	oddNumbers = []string{
		"1.0", "0.10", "007", "-0", "0.0", "1e2", "1E+2", "1e-5", "1E2", "123e-2", "+5", ".5", "5.", "-.5", "00", "0e10",
		"12345678901234567890123456789012345678", "1234567890123456789012345678901234567.8",
		"0.12345678901234567890123456789012345678", "-12345678901234567890123456789012345678",
		"100000000000000000000000000000000000000",
		"9999999999999999999999999999999999999900000", "9.9999999999999999999999999999999999999E+125", "1E125", "-1E125",
		"1e-130", "-1e-130", "1e-129", "9.9e-130", "1000000000000000000000", "10000000000000000000000000000000000000000",
		"0.000001", "0.0000001", "1.23e-10", "9007199254740993",
	}
	badNumbers = []string{
		"123456789012345678901234567890123456789", "1e126", "-1e126", "1E-131", "", " ", "abc", "1a", " 1", "1 ", "1e", "e5",
		"--1", "0x10", "1,5", "NaN", "Infinity", "1_000",
	}
	plainBytes = [][]byte{[]byte("a"), {}, []byte("ab"), {0}, {255, 0}, []byte("some data")}
)

func genNumber(t *source) string {
	if t.mistake(2) {
		return pick(t, badNumbers...)
	}
	if chance(t, 15) {
		return pick(t, oddNumbers...)
	}
	if chance(t, 15) {
		// Digits of any length up to the limit and past it, with any exponent.
		digits := rapid.StringMatching(`-?[1-9][0-9]{0,20}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?`).Draw(t.T, "number")
		return digits
	}
	return pick(t, plainNumbers...)
}

func genString(t *source) string {
	if chance(t, 3) {
		return strings.Repeat("x", pick(t, 100, 255, 1000, 1020, 1024, 4090))
	}
	return pick(t, plainStrings...)
}

func genValue(t *source, kind string, depth int) types.AttributeValue {
	switch kind {
	case "S":
		return &types.AttributeValueMemberS{Value: genString(t)}
	case "N":
		return &types.AttributeValueMemberN{Value: genNumber(t)}
	case "B":
		return &types.AttributeValueMemberB{Value: pick(t, plainBytes...)}
	case "BOOL":
		return &types.AttributeValueMemberBOOL{Value: rapid.Bool().Draw(t.T, "bool")}
	case "NULL":
		return &types.AttributeValueMemberNULL{Value: !t.mistake(3)}
	case "L":
		list := []types.AttributeValue{}
		for range upTo(t, 4) {
			list = append(list, genAny(t, depth-1))
		}
		return &types.AttributeValueMemberL{Value: list}
	case "M":
		m := item{}
		for range upTo(t, 3) {
			m[pick(t, "x", "y", "l", "m", "n", "a.b", "status")] = genAny(t, depth-1)
		}
		return &types.AttributeValueMemberM{Value: m}
	case "SS":
		return &types.AttributeValueMemberSS{Value: genSet(t, func() string { return pick(t, "a", "b", "c", "ab", "x") })}
	case "NS":
		return &types.AttributeValueMemberNS{Value: genSet(t, func() string { return pick(t, plainNumbers...) })}
	default:
		return &types.AttributeValueMemberBS{Value: genSet(t, func() []byte { return pick(t, plainBytes...) })}
	}
}

func genSet[E any](t *source, member func() E) []E {
	if t.mistake(1) {
		return []E{}
	}
	set := []E{member()}
	for range upTo(t, 3) {
		set = append(set, member())
	}
	seen := map[string]bool{}
	set = slices.DeleteFunc(set, func(e E) bool {
		text := fmt.Sprint(e)
		was := seen[text]
		seen[text] = true
		return was
	})
	if t.mistake(3) {
		set = append(set, set[0])
	}
	return set
}

func genAny(t *source, depth int) types.AttributeValue {
	kinds := allKinds
	if depth <= 0 {
		kinds = []string{"S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS"}
	}
	return genValue(t, pick(t, kinds...), depth)
}

func genKeyValue(t *source, kind string, limit int) types.AttributeValue {
	if t.mistake(3) {
		switch upTo(t, 3) {
		case 0: // just around the longest key
			long := strings.Repeat("k", limit+pick(t, -1, 0, 1))
			switch kind {
			case "B":
				return &types.AttributeValueMemberB{Value: []byte(long)}
			case "S":
				return &types.AttributeValueMemberS{Value: long}
			}
			return &types.AttributeValueMemberN{Value: genNumber(t)} // too long and of another type would be two mistakes
		case 1: // an empty key, or of another type than a number
			if kind == "B" {
				return &types.AttributeValueMemberB{Value: []byte{}}
			}
			return &types.AttributeValueMemberS{Value: ""}
		case 2: // of another type
			return genAny(t, 1)
		default:
			return &types.AttributeValueMemberN{Value: genNumber(t)}
		}
	}
	switch kind {
	case "S":
		return &types.AttributeValueMemberS{Value: pick(t, "k1", "k2", "k3", "K", "é", "k10")}
	case "N":
		return &types.AttributeValueMemberN{Value: pick(t, "1", "2", "1.0", "-5", "1e1", "10", "0.5")}
	default:
		return &types.AttributeValueMemberB{Value: pick(t, []byte("k1"), []byte{0}, []byte{0xff}, []byte("k"))}
	}
}

func genKey(t *source, tb table) item {
	key := item{tb.hash: genKeyValue(t, tb.hashType, 2048)}
	if tb.sort != "" {
		key[tb.sort] = genKeyValue(t, tb.sortType, 1024)
	}
	if t.mistake(3) {
		switch upTo(t, 2) {
		case 0:
			delete(key, pick(t, slices.Sorted(maps.Keys(key))...))
		case 1:
			key["ownerName"] = genValue(t, "S", 0)
		default:
			key = item{}
		}
	}
	return key
}

func genItem(t *source, tb table) item {
	out := item{}
	for range upTo(t, 6) {
		a := pick(t, attributes...)
		kind := a.kind
		if chance(t, 10) {
			kind = pick(t, allKinds...)
		}
		out[a.name] = genValue(t, kind, 2)
	}
	maps.Copy(out, genKey(t, tb))
	if chance(t, 12) {
		pad(t, out, pick(t, 1024, 2048, 4096, 8192))
	} else if chance(t, 1) && chance(t, 50) {
		pad(t, out, 400*1024)
	}
	return out
}

// pad brings an item to the edge of a capacity unit or of the largest item, where
// servers that count bytes differently would charge, or accept, differently.
func pad(t *source, it item, target int) {
	delete(it, "pad")
	size := 0
	for name, value := range it {
		size += len(name) + valueSize(value)
	}
	if room := target - size - len("pad") + pick(t, 0, 1, -1, 2, -2, 3); room > 0 {
		it["pad"] = &types.AttributeValueMemberS{Value: strings.Repeat("p", room)}
	}
}

// valueSize follows the documented sizes; close is good enough, pad tries both sides.
func valueSize(value types.AttributeValue) int {
	switch v := value.(type) {
	case *types.AttributeValueMemberS:
		return len(v.Value)
	case *types.AttributeValueMemberB:
		return len(v.Value)
	case *types.AttributeValueMemberN:
		return (len(strings.Trim(v.Value, "-0."))+1)/2 + 1
	case *types.AttributeValueMemberL:
		size := 3
		for _, e := range v.Value {
			size += 1 + valueSize(e)
		}
		return size
	case *types.AttributeValueMemberM:
		size := 3
		for name, e := range v.Value {
			size += 1 + len(name) + valueSize(e)
		}
		return size
	case *types.AttributeValueMemberSS:
		return len(strings.Join(v.Value, ""))
	default:
		return 1
	}
}

// expressions collects the names and values that the expressions of one request
// refer to. Nearly everything it writes is valid; each kind of mistake has a small
// chance, so that requests reach the depth where answers are interesting.
type expressions struct {
	t      *source
	tb     table
	names  map[string]string
	values item
	lower  bool // keywords in lower case
}

func newExpressions(t *source, tb table) *expressions {
	return &expressions{t: t, tb: tb, names: map[string]string{}, values: item{}, lower: chance(t, 10)}
}

func (x *expressions) word(w string) string {
	if x.lower {
		return strings.ToLower(w)
	}
	return w
}

func (x *expressions) alias(name string) string {
	// As it is where the grammar takes it; otherwise, as a mistake, a reserved word or an odd character.
	if bare := !slices.Contains(needAlias, name); bare && chance(x.t, 25) || !bare && x.t.mistake(2) {
		return name
	}
	for _, alias := range slices.Sorted(maps.Keys(x.names)) {
		if x.names[alias] == name {
			return alias
		}
	}
	alias := fmt.Sprintf("#n%d", len(x.names))
	if !x.t.mistake(1) {
		x.names[alias] = name
	}
	return alias
}

func (x *expressions) value(v types.AttributeValue) string {
	placeholder := fmt.Sprintf(":v%d", len(x.values))
	if !x.t.mistake(1) {
		x.values[placeholder] = v
	}
	return placeholder
}

// attribute picks a name and the type that its value should have.
func (x *expressions) attribute(kinds ...string) attribute {
	if len(kinds) > 0 && !chance(x.t, 8) {
		var fitting []attribute
		for _, a := range attributes {
			if slices.Contains(kinds, a.kind) {
				fitting = append(fitting, a)
			}
		}
		return pick(x.t, fitting...)
	}
	if chance(x.t, 6) {
		if x.tb.sort != "" && rapid.Bool().Draw(x.t.T, "sort") {
			return attribute{x.tb.sort, x.tb.sortType}
		}
		return attribute{x.tb.hash, x.tb.hashType}
	}
	return pick(x.t, attributes...)
}

// path renders a document path below a: into lists and maps where it is one.
func (x *expressions) path(a attribute) string {
	path := x.alias(a.name)
	deeper := 0
	if a.kind == "L" || a.kind == "M" {
		deeper = 50
	} else {
		deeper = 4
	}
	for range 3 {
		if !chance(x.t, deeper) {
			break
		}
		if (a.kind == "L") != chance(x.t, 15) {
			path += fmt.Sprintf("[%d]", pick(x.t, 0, 1, 2, 5, 100))
		} else {
			path += "." + x.alias(pick(x.t, "x", "y", "l", "m", "n", "a.b", "status"))
		}
	}
	return path
}

func (x *expressions) operand(kind string) string {
	if chance(x.t, 25) {
		return x.path(x.attribute(kind))
	}
	if x.t.mistake(4) {
		kind = pick(x.t, allKinds...)
	}
	return x.value(genValue(x.t, kind, 1))
}

func (x *expressions) condition(depth int) string {
	t := x.t
	if depth > 0 && chance(t, 45) {
		switch upTo(t, 3) {
		case 0:
			return x.condition(depth-1) + " " + x.word("AND") + " " + x.condition(depth-1)
		case 1:
			return x.condition(depth-1) + " " + x.word("OR") + " " + x.condition(depth-1)
		case 2:
			return x.word("NOT") + " " + x.condition(depth-1)
		default:
			return "(" + x.condition(depth-1) + ")"
		}
	}
	kinds := 10
	if t.mistake(4) {
		kinds = 11
	}
	switch pick(t, 2, 3, 4, 0, 1, 5, 6, 7, 8, 9, 10, 11) % (kinds + 1) {
	case 0:
		return "attribute_exists(" + x.path(x.attribute()) + ")"
	case 1:
		return "attribute_not_exists(" + x.path(x.attribute()) + ")"
	case 2, 3, 4:
		a := x.attribute()
		op := pick(t, "=", "<>", "<", "<=", ">", ">=")
		left, right := x.path(a), x.operand(a.kind)
		if chance(t, 10) {
			left, right = right, left
		}
		return left + pick(t, " ", "", "  ") + op + " " + right
	case 5:
		a := x.attribute("S", "N", "B")
		return x.path(a) + " " + x.word("BETWEEN") + " " + x.operand(a.kind) + " " + x.word("AND") + " " + x.operand(a.kind)
	case 6:
		a := x.attribute("S", "N", "B", "L", "SS")
		list := []string{x.operand(a.kind)}
		for range upTo(t, 3) {
			list = append(list, x.operand(a.kind))
		}
		return x.path(a) + " " + x.word("IN") + " (" + strings.Join(list, ", ") + ")"
	case 7:
		kind := types.AttributeValue(&types.AttributeValueMemberS{Value: pick(t, allKinds...)})
		if t.mistake(8) {
			kind = genAny(t, 1)
		} else if t.mistake(8) {
			kind = &types.AttributeValueMemberS{Value: pick(t, "", "X", "s")}
		}
		return "attribute_type(" + x.path(x.attribute()) + ", " + x.value(kind) + ")"
	case 8:
		a := x.attribute("S", "B")
		return "begins_with(" + x.path(a) + ", " + x.operand(a.kind) + ")"
	case 9:
		a := x.attribute("S", "L", "SS", "NS", "BS", "B")
		kind := map[string]string{"S": "S", "L": pick(t, "S", "N"), "SS": "S", "NS": "N", "BS": "B", "B": "B"}[a.kind]
		if kind == "" {
			kind = "S"
		}
		return "contains(" + x.path(a) + ", " + x.operand(kind) + ")"
	case 10:
		a := x.attribute()
		size := "size(" + x.path(a) + ")"
		if t.mistake(5) {
			size = "size(" + x.operand(a.kind) + ")"
		}
		return size + " " + pick(t, "=", "<", ">=", "<>") + " " + x.operand("N")
	default:
		// What the grammar knows but the function does not take, and what it does not know.
		function := pick(t, "size", "contains", "begins_with", "attribute_exists", "attribute_type", "if_not_exists",
			"list_append", "nosuch", "ATTRIBUTE_EXISTS")
		args := []string{}
		for range upTo(t, 3) {
			args = append(args, x.operand(pick(t, allKinds...)))
		}
		call := function + "(" + strings.Join(args, ", ") + ")"
		if chance(t, 40) {
			call += " = " + x.operand("N")
		}
		return call
	}
}

// setValue renders the right side of SET for an attribute of this type. Sums and
// list_append stand at the top only; deeper ones, and chains, are mistakes.
func (x *expressions) setValue(a attribute, top bool) string {
	t := x.t
	deeper := func() string { return x.setValue(a, false) }
	if top || t.mistake(3) {
		switch {
		case a.kind == "L" && chance(t, 50), t.mistake(1):
			return "list_append(" + deeper() + ", " + deeper() + ")"
		case a.kind == "N" && chance(t, 60), t.mistake(1):
			sum := deeper() + pick(t, " + ", " - ", "+", "-") + deeper()
			if t.mistake(2) {
				sum = pick(t, sum+" + "+deeper(), "("+sum+")")
			}
			return sum
		}
	}
	if chance(t, 20) {
		return "if_not_exists(" + x.path(x.attribute(a.kind)) + ", " + deeper() + ")"
	}
	return x.operand(a.kind)
}

func (x *expressions) update() string {
	t := x.t
	var clauses []string
	verbs := []string{"SET", "REMOVE", "ADD", "DELETE"}
	first := pick(t, "SET", "SET", "SET", "REMOVE", "ADD", "DELETE")
	chosen := []string{first}
	for _, v := range verbs {
		if (v != first && chance(t, 20)) || (v == first && t.mistake(1)) {
			chosen = append(chosen, v)
		}
	}
	used := map[string]bool{}
	for _, verb := range chosen {
		var actions []string
		for range 1 + upTo(t, 2) {
			var a attribute
			switch verb {
			case "ADD":
				a = x.attribute("N", "SS", "NS", "BS")
			case "DELETE":
				a = x.attribute("SS", "NS", "BS")
			default:
				a = x.attribute()
			}
			if (used[a.name] || slices.Contains(x.tb.keyNames(), a.name)) && !t.mistake(8) {
				continue // overlapping paths and key attributes, but not nearly always
			}
			used[a.name] = true
			switch verb {
			case "SET":
				actions = append(actions, x.path(a)+pick(t, " = ", "=")+x.setValue(a, true))
			case "REMOVE":
				actions = append(actions, x.path(a))
			case "ADD", "DELETE":
				path := x.alias(a.name)
				if chance(t, 5) {
					path = x.path(a)
				}
				actions = append(actions, path+" "+x.operandValue(a.kind))
			}
		}
		if len(actions) == 0 && !t.mistake(1) {
			continue
		}
		clauses = append(clauses, x.word(verb)+" "+strings.Join(actions, ", "))
	}
	if len(clauses) == 0 {
		return x.word("SET") + " " + x.alias("ownerName") + " = " + x.operand("S")
	}
	return strings.Join(clauses, " ")
}

func (x *expressions) operandValue(kind string) string {
	if x.t.mistake(2) {
		return x.operand(kind)
	}
	if x.t.mistake(4) {
		kind = pick(x.t, allKinds...)
	}
	return x.value(genValue(x.t, kind, 1))
}

func (x *expressions) projection() string {
	var paths []string
	used := map[string]bool{}
	for range 1 + upTo(x.t, 3) {
		a := x.attribute()
		if used[a.name] && !x.t.mistake(5) {
			continue
		}
		used[a.name] = true
		paths = append(paths, x.path(a))
	}
	if chance(x.t, 30) {
		paths = append(paths, x.alias(x.tb.hash))
	}
	return strings.Join(paths, ", ")
}

func (x *expressions) keyCondition() string {
	t, tb := x.t, x.tb
	parts := []string{x.alias(tb.hash) + " = " + x.value(genKeyValue(t, tb.hashType, 2048))}
	if tb.sort != "" && chance(t, 65) {
		name := x.alias(tb.sort)
		value := func() string { return x.value(genKeyValue(t, tb.sortType, 1024)) }
		kinds := 2
		if t.mistake(5) {
			kinds = 3
		} else if tb.sortType == "N" {
			kinds = 1
		}
		switch pick(t, 0, 1, 2, 3) % (kinds + 1) {
		case 0:
			parts = append(parts, name+" "+pick(t, "=", "<", "<=", ">", ">=")+" "+value())
		case 1:
			parts = append(parts, name+" "+x.word("BETWEEN")+" "+value()+" "+x.word("AND")+" "+value())
		case 2:
			parts = append(parts, "begins_with("+name+", "+value()+")")
		default:
			parts = append(parts,
				pick(t, name+" <> "+value(), name+" IN ("+value()+")", "attribute_exists("+name+")", "size("+name+") > "+value(),
					"NOT "+name+" = "+value(), value()+" = "+name))
		}
	}
	if t.mistake(2) {
		parts = append(parts, x.condition(0))
	}
	if t.mistake(1) {
		parts = parts[1:]
	}
	if chance(t, 15) {
		slices.Reverse(parts)
	}
	if chance(t, 5) {
		for i := range parts {
			parts[i] = "(" + parts[i] + ")"
		}
	}
	glue := " " + x.word("AND") + " "
	if t.mistake(2) {
		glue = " " + x.word("OR") + " "
	}
	return strings.Join(parts, glue)
}

var scraps = []string{
	"(", ")", ",", ".", "[", "]", "=", "<>", "<", "#", ":", "#n0", ":v0", "AND", "or", "NOT", "SET",
	"REMOVE", "BETWEEN", "IN", "+", "-", "1", "0", "'a'", "\"", "&", "%", "!", "\n", "a", "size", "größe", "[1]", "[-1]",
	"[99999999999]",
}

// valueInPath is a value's placeholder as a part of a path: DynamoDB Local's grammar lets it
// pass, and then answers with an internal error.
var valueInPath = regexp.MustCompile(`\.\s*:`)

// mangle spoils a text now and then.
func mangle(t *source, text string) string {
	if !t.mistake(6) {
		return text
	}
	if spoiled := spoil(t, text); !valueInPath.MatchString(spoiled) {
		return spoiled
	}
	return text
}

func spoil(t *source, text string) string {
	at := rapid.IntRange(0, len(text)).Draw(t.T, "at")
	switch upTo(t, 4) {
	case 0:
		return text[:at] + pick(t, scraps...) + text[at:]
	case 1:
		return text[:at] + " " + pick(t, scraps...) + " " + text[at:]
	case 2:
		end := min(len(text), at+1+upTo(t, 4))
		return strings.ToValidUTF8(text[:at]+text[end:], "")
	case 3:
		return pick(t, "", " ", "()", "a", "#n0", ":v0", "((a = :v0))", text+" "+text, text+" AND "+text)
	default:
		return strings.ToValidUTF8(text[:at], "")
	}
}

// finish returns the maps for the request, now and then with an entry that no
// expression uses, or one that is not a valid placeholder.
func (x *expressions) finish() (map[string]string, item) {
	t := x.t
	if t.mistake(2) {
		x.names[pick(t, "#unused", "#n9", "n", "#", "", "#a-b", "#Ü")] = pick(t, "a", "ownerName", "")
	}
	if t.mistake(2) {
		x.values[pick(t, ":unused", ":v9", "v", ":", "", ":a-b")] = genAny(t, 1)
	}
	names, values := x.names, x.values
	if len(names) == 0 && !t.mistake(2) {
		names = nil
	}
	if len(values) == 0 && !t.mistake(2) {
		values = nil
	}
	return names, values
}
