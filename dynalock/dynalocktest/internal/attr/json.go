package attr

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Wire is a value as JSON brings it: any number of types may be set, and nothing has been checked.
type Wire struct {
	S    *string
	N    *string
	B    *[]byte
	SS   *[]string
	NS   *[]string
	BS   *[][]byte
	M    *map[string]Wire
	L    *[]Wire
	BOOL *bool
	NULL *bool
}

// Value checks w and turns it into a value. The error is an Invalid.
func (w Wire) Value() (Value, error) {
	set := 0
	for _, is := range []bool{
		w.S != nil, w.N != nil, w.B != nil, w.SS != nil, w.NS != nil, w.BS != nil, w.M != nil, w.L != nil, w.BOOL != nil,
		w.NULL != nil,
	} {
		if is {
			set++
		}
	}
	if set == 0 {
		return Value{}, Invalid("Supplied AttributeValue is empty, must contain exactly one of the supported datatypes")
	}
	if set > 1 {
		return Value{}, Invalid(
			"Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes")
	}
	switch {
	case w.S != nil:
		return Value{Kind: S, Str: *w.S}, nil
	case w.N != nil:
		n, err := ParseNumber(*w.N)
		return n.Value(), err
	case w.B != nil:
		return Value{Kind: B, Str: string(*w.B)}, nil
	case w.BOOL != nil:
		return Value{Kind: BOOL, Bool: *w.BOOL}, nil
	case w.NULL != nil:
		if !*w.NULL {
			return Value{}, invalidParameter("Null attribute value types must have the value of true")
		}
		return Value{Kind: NULL}, nil
	case w.SS != nil:
		return wireSet(SS, *w.SS)
	case w.NS != nil:
		numbers, err := wireNumbers(*w.NS)
		if err != nil {
			return Value{}, err
		}
		return wireSet(NS, numbers)
	case w.BS != nil:
		binaries := make([]string, len(*w.BS))
		for i, b := range *w.BS {
			binaries[i] = string(b)
		}
		return wireSet(BS, binaries)
	case w.L != nil:
		list := make([]Value, len(*w.L))
		for i, e := range *w.L {
			v, err := e.Value()
			if err != nil {
				return Value{}, err
			}
			list[i] = v
		}
		return Value{Kind: L, List: list}, nil
	}
	m, err := WireItem(*w.M)
	return Value{Kind: M, Map: m}, err
}

// Text is the content of a scalar as it will be stored, for those who only want to know which key a request names.
func (w Wire) Text() string {
	v, _ := w.Value()
	return v.Str
}

// WireItem checks and turns a whole map, in the order of its names so that the first error is always the same one.
func WireItem(m map[string]Wire) (Item, error) {
	item := make(Item, len(m))
	for _, name := range sortedNames(m) {
		v, err := m[name].Value()
		if err != nil {
			return nil, err
		}
		item[name] = v
	}
	return item, nil
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Invalid is the text of a ValidationException about a value.
type Invalid string

func (e Invalid) Error() string { return string(e) }

// invalidParameter makes an Invalid about a parameter.
func invalidParameter(format string, args ...any) error {
	return Invalid("One or more parameter values were invalid: " + fmt.Sprintf(format, args...))
}

func wireNumbers(texts []string) ([]string, error) {
	numbers := make([]string, len(texts))
	for i, text := range texts {
		n, err := ParseNumber(text)
		if err != nil {
			return nil, err
		}
		numbers[i] = n.String()
	}
	return numbers, nil
}

// wireSet makes a set of distinct elements.
func wireSet(kind Kind, elems []string) (Value, error) {
	if len(elems) == 0 {
		switch kind {
		case SS:
			return Value{}, invalidParameter("An string set  may not be empty")
		case NS:
			return Value{}, invalidParameter("An number set  may not be empty")
		}
		return Value{}, invalidParameter("Binary sets should not be empty")
	}
	seen := make(map[string]struct{}, len(elems))
	for _, e := range elems {
		seen[e] = struct{}{}
	}
	if len(seen) < len(elems) {
		switch kind {
		case SS:
			return Value{}, invalidParameter("Input collection [%s] contains duplicates", strings.Join(elems, ", "))
		case NS:
			return Value{}, Invalid("Input collection contains duplicates")
		}
		return Value{}, invalidParameter("Input collection of type BS contains duplicates.")
	}
	return Value{Kind: kind, Set: elems}, nil
}

// MarshalJSON gives the wire form.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// MarshalJSON gives the wire form, names sorted.
func (it Item) MarshalJSON() ([]byte, error) { return it.AppendJSON(nil), nil }

// AppendJSON appends the wire form of the item to dst, names sorted.
func (it Item) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for i, name := range sortedNames(it) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, name)
		dst = append(dst, ':')
		dst = it[name].AppendJSON(dst)
	}
	return append(dst, '}')
}

// AppendJSON appends the wire form of the value to dst.
func (v Value) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"`...)
	dst = append(dst, v.Kind...)
	dst = append(dst, `":`...)
	switch v.Kind {
	case BOOL:
		dst = strconv.AppendBool(dst, v.Bool)
	case NULL:
		dst = append(dst, "true"...)
	case SS, NS, BS:
		dst = append(dst, '[')
		for i, e := range v.Set {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendScalar(dst, v.ElemKind(), e)
		}
		dst = append(dst, ']')
	case L:
		dst = append(dst, '[')
		for i, e := range v.List {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = e.AppendJSON(dst)
		}
		dst = append(dst, ']')
	case M:
		dst = v.Map.AppendJSON(dst)
	default:
		dst = appendScalar(dst, v.Kind, v.Str)
	}
	return append(dst, '}')
}

func appendScalar(dst []byte, kind Kind, s string) []byte {
	if kind != B {
		return appendString(dst, s)
	}
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, []byte(s))
	return append(dst, '"')
}

// appendString quotes s for JSON; text that needs no escape, nearly all of it, is copied.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
