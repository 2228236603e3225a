package attr

import "unicode/utf8"

// Size is what the item counts for the 400 KB limit and for capacity units: names and values in UTF-8 bytes.
func (it Item) Size() int {
	n := 0
	for name, v := range it {
		n += len(name) + v.Size()
	}
	return n
}

// Size of one value: text and bytes as they are, numbers about a byte for two digits, one byte for booleans and null,
// and three bytes plus one for each element for lists and maps.
func (v Value) Size() int {
	switch v.Kind {
	case S, B:
		return len(v.Str)
	case N:
		return mustNumber(v.Str).size()
	case SS, BS:
		n := 0
		for _, e := range v.Set {
			n += len(e)
		}
		return n
	case NS:
		n := 0
		for _, e := range v.Set {
			n += mustNumber(e).size()
		}
		return n
	case L:
		n := 3
		for _, e := range v.List {
			n += 1 + e.Size()
		}
		return n
	case M:
		return 3 + len(v.Map) + v.Map.Size()
	}
	return 1
}

// Length is what the size() function answers; ok is false for the types that have none.
func (v Value) Length() (n int, ok bool) {
	switch v.Kind {
	case S:
		return utf8.RuneCountInString(v.Str), true
	case B:
		return len(v.Str), true
	case SS, NS, BS:
		return len(v.Set), true
	case L:
		return len(v.List), true
	case M:
		return len(v.Map), true
	}
	return 0, false
}
