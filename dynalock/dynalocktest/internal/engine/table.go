package engine

import (
	"cmp"
	"hash/fnv"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/expr"
)

// table holds the items of one table. Partitions are found by their key at once, and stand in an order by hash for
// scans; the items of a partition are sorted by the sort key.
type table struct {
	name    string
	uuid    string
	created time.Time
	hash    keyAttr
	sort    keyAttr // no name: the table has none

	settings
	parts   map[string]*partition
	buckets [buckets][]*partition // by the first byte of the hash, each sorted
	count   int
	bytes   int
}

const buckets = 256

type keyAttr struct {
	name string
	kind attr.Kind
}

type partition struct {
	hash  uint64
	key   string
	items []attr.Item
}

func hashOf(key string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	x := h.Sum64()
	// FNV leaves the high bits of short keys alike; mix them so that buckets and segments fill evenly.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}

// compare is the order of a scan.
func (p *partition) compare(q *partition) int {
	return cmp.Or(cmp.Compare(p.hash, q.hash), strings.Compare(p.key, q.key))
}

// search finds where the item with this sort key is, or would be.
func (t *table) search(p *partition, sortKey attr.Value) (int, bool) {
	if t.sort.name == "" {
		return 0, len(p.items) > 0
	}
	return slices.BinarySearchFunc(p.items, sortKey, func(it attr.Item, key attr.Value) int {
		order, _ := it[t.sort.name].Compare(key)
		return order
	})
}

// get gives the item with this key, or nil.
func (t *table) get(key attr.Item) attr.Item {
	p := t.parts[key[t.hash.name].Str]
	if p == nil {
		return nil
	}
	if i, ok := t.search(p, key[t.sort.name]); ok {
		return p.items[i]
	}
	return nil
}

// put stores item under key, which with a nil item is deleted, and gives what was there before.
func (t *table) put(key, item attr.Item) (old attr.Item) {
	text := key[t.hash.name].Str
	p := t.parts[text]
	if p == nil {
		if item == nil {
			return nil
		}
		p = t.addPartition(text)
	}
	i, ok := t.search(p, key[t.sort.name])
	if ok {
		old = p.items[i]
		t.count--
		t.bytes -= old.Size()
	}
	if item == nil {
		if ok {
			p.items = slices.Delete(p.items, i, i+1)
		}
		if len(p.items) == 0 {
			t.removePartition(p)
		}
		return old
	}
	t.count++
	t.bytes += item.Size()
	if ok {
		p.items[i] = item
	} else {
		p.items = slices.Insert(p.items, i, item)
	}
	return old
}

func (t *table) addPartition(key string) *partition {
	p := &partition{hash: hashOf(key), key: key}
	t.parts[key] = p
	bucket := &t.buckets[p.hash>>56]
	i, _ := slices.BinarySearchFunc(*bucket, p, (*partition).compare)
	*bucket = slices.Insert(*bucket, i, p)
	return p
}

func (t *table) removePartition(p *partition) {
	delete(t.parts, p.key)
	bucket := &t.buckets[p.hash>>56]
	if i, ok := slices.BinarySearchFunc(*bucket, p, (*partition).compare); ok {
		*bucket = slices.Delete(*bucket, i, i+1)
	}
}

// scan goes over the items behind the key after (nil: from the start), of one segment out of segments.
func (t *table) scan(after attr.Item, segment, segments int) iter.Seq[attr.Item] {
	return func(yield func(attr.Item) bool) {
		var start *partition
		if after != nil {
			key := after[t.hash.name].Str
			start = &partition{hash: hashOf(key), key: key}
		}
		for b := range t.buckets {
			if bucketSegment(b, segments) != segment || start != nil && b < int(start.hash>>56) {
				continue
			}
			for _, p := range t.buckets[b] {
				items := p.items
				if start != nil {
					switch order := p.compare(start); {
					case order < 0:
						continue
					case order == 0:
						items = t.behind(p, after[t.sort.name])
					}
				}
				for _, it := range items {
					if !yield(it) {
						return
					}
				}
			}
		}
	}
}

// segment is the one, of so many, that a key belongs to in a parallel scan.
func (t *table) segment(key attr.Item, segments int) int {
	return bucketSegment(int(hashOf(key[t.hash.name].Str)>>56), segments)
}

// bucketSegment spreads the buckets over the segments; of more segments than buckets some stay empty.
func bucketSegment(bucket, segments int) int { return bucket * segments / buckets }

// behind gives the items of a partition whose sort key is larger.
func (t *table) behind(p *partition, sortKey attr.Value) []attr.Item {
	i, ok := t.search(p, sortKey)
	if ok {
		i++
	}
	return p.items[i:]
}

// keyOf takes the key attributes out of an item.
func (t *table) keyOf(item attr.Item) attr.Item {
	key := attr.Item{t.hash.name: item[t.hash.name]}
	if t.sort.name != "" {
		key[t.sort.name] = item[t.sort.name]
	}
	return key
}

func (t *table) keyAttrs() []keyAttr {
	if t.sort.name == "" {
		return []keyAttr{t.hash}
	}
	return []keyAttr{t.hash, t.sort}
}

// checkItem checks the key attributes of an item that is to be stored.
func (t *table) checkItem(item attr.Item) error {
	for _, k := range t.keyAttrs() {
		v, ok := item[k.name]
		switch {
		case !ok:
			return errKeyMissing
		case v.Kind != attr.S && v.Kind != attr.N && v.Kind != attr.B:
			return validation("Invalid attribute value type")
		case v.Kind != k.kind:
			return errKeyType
		case v.Str == "":
			return emptyKey(k)
		case len(v.Str) > maxHashKey, len(v.Str) > maxSortKey && k == t.sort:
			return errKeyLength
		}
	}
	return nil
}

// checkKey checks a key: all key attributes and nothing else.
func (t *table) checkKey(key attr.Item) error {
	if len(key) != len(t.keyAttrs()) {
		return validation("The number of conditions on the keys is invalid")
	}
	return t.checkItem(key)
}

// scalarKey refuses expressions that look for something inside a key attribute.
func (t *table) scalarKey(p parsed) error {
	names := []string{t.hash.name, t.sort.name}
	for _, c := range []*expr.Cond{p.condition, p.key, p.filter} {
		if name, ok := c.Nested(names...); ok {
			return nestedKey(name)
		}
	}
	if name, ok := expr.Nested(p.projection, names...); ok {
		return nestedKey(name)
	}
	return nil
}

func nestedKey(name string) error {
	return validation("Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: Key: %s", name)
}

// checkStored refuses an item that is too large or too deep.
func checkStored(item attr.Item) error {
	for name, v := range item {
		if name == "" {
			return validation("Empty attribute name")
		}
		if v.Depth() > maxDepth {
			return validation("%s", tooDeep)
		}
	}
	if item.Size() > maxItemSize {
		return validation("Item size has exceeded the maximum allowed size")
	}
	return nil
}

const (
	maxHashKey  = 2048
	maxSortKey  = 1024
	maxItemSize = 400 * 1024
	maxDepth    = 31 // lists and maps in an attribute, one in the other

	tooDeep = "Nesting Levels have exceeded supported limits: Attributes in the item have nested levels beyond supported limit"
)

var (
	errKeyMissing = validation("One of the required keys was not given a value")
	errKeyType    = validation("One or more parameter values were invalid: Type mismatch for key")
	errKeyLength  = validation(
		"Hash primary key values must be under 2048 bytes, and range primary key values must be under 1024 bytes")
)

// id is a key of this table as text that no other key has.
func (t *table) id(key attr.Item) string {
	hash := key[t.hash.name].Str
	return t.name + "/" + strconv.Itoa(len(hash)) + "/" + hash + key[t.sort.name].Str
}

func emptyKey(k keyAttr) error {
	what := map[attr.Kind]string{attr.S: "string", attr.B: "binary"}[k.kind]
	return validation("One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty %s value. Key: %s", what, k.name)
}
