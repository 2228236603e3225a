// Package attr holds DynamoDB attribute values: their wire form, their order, their size and their numbers.
package attr

import (
	"maps"
	"slices"
)

// Kind is the type of a value, named as on the wire.
type Kind string

// The ten types of DynamoDB.
const (
	S    Kind = "S"
	N    Kind = "N"
	B    Kind = "B"
	SS   Kind = "SS"
	NS   Kind = "NS"
	BS   Kind = "BS"
	M    Kind = "M"
	L    Kind = "L"
	BOOL Kind = "BOOL"
	NULL Kind = "NULL"
)

// Value is one attribute value. Values are immutable once they are stored: whoever changes one copies the part it
// changes, so that readers need no lock.
type Value struct {
	Kind Kind
	Str  string   // S: the text; N: the canonical number; B: the raw bytes
	Bool bool     // BOOL
	Set  []string // SS, NS, BS, in the same forms as Str
	List []Value  // L
	Map  Item     // M
}

// Item is a set of named values: a stored item, a key or the inside of a map.
type Item map[string]Value

// String makes an S.
func String(s string) Value { return Value{Kind: S, Str: s} }

// ElemKind is the type of a set's elements: S for SS and so on, and "" for anything that is not a set.
func (v Value) ElemKind() Kind {
	switch v.Kind {
	case SS:
		return S
	case NS:
		return N
	case BS:
		return B
	}
	return ""
}

// Equal reports whether two values have one type and one content; sets have no order.
func (v Value) Equal(w Value) bool {
	if v.Kind != w.Kind {
		return false
	}
	switch v.Kind {
	case S, N, B:
		return v.Str == w.Str
	case BOOL:
		return v.Bool == w.Bool
	case SS, NS, BS:
		if len(v.Set) != len(w.Set) {
			return false
		}
		for _, e := range v.Set {
			if !slices.Contains(w.Set, e) {
				return false
			}
		}
		return true
	case L:
		return slices.EqualFunc(v.List, w.List, Value.Equal)
	case M:
		return maps.EqualFunc(v.Map, w.Map, Value.Equal)
	}
	return true // NULL
}

// Compare orders two values of one scalar type (S and B by bytes, N by value); ok is false where DynamoDB knows no
// order.
func (v Value) Compare(w Value) (order int, ok bool) {
	if v.Kind != w.Kind {
		return 0, false
	}
	switch v.Kind {
	case S, B:
		switch {
		case v.Str < w.Str:
			return -1, true
		case v.Str > w.Str:
			return 1, true
		}
		return 0, true
	case N:
		return mustNumber(v.Str).Compare(mustNumber(w.Str)), true
	}
	return 0, false
}

// Depth is how deep documents are nested in v: 0 for a scalar or a set.
func (v Value) Depth() int {
	deepest := 0
	switch v.Kind {
	case L:
		for _, e := range v.List {
			deepest = max(deepest, e.Depth())
		}
		return deepest + 1
	case M:
		for _, e := range v.Map {
			deepest = max(deepest, e.Depth())
		}
		return deepest + 1
	}
	return 0
}
