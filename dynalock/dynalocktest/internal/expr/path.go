package expr

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// Elem is one step of a document path: a name in a map or an index in a list.
type Elem struct {
	Name    string
	Index   int
	IsIndex bool
}

// Path is a document path; the first step is always a name.
type Path []Elem

// String is how the service shows a path: [name, name, [0]].
func (p Path) String() string {
	parts := make([]string, len(p))
	for i, e := range p {
		if parts[i] = e.Name; e.IsIndex {
			parts[i] = "[" + strconv.Itoa(e.Index) + "]"
		}
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// Find looks a path up.
func (p Path) Find(item attr.Item) (attr.Value, bool) {
	v, ok := item[p[0].Name]
	for _, e := range p[1:] {
		if !ok {
			return attr.Value{}, false
		}
		switch {
		case e.IsIndex && v.Kind == attr.L && e.Index < len(v.List):
			v = v.List[e.Index]
		case !e.IsIndex && v.Kind == attr.M:
			v, ok = v.Map[e.Name]
		default:
			return attr.Value{}, false
		}
	}
	return v, ok
}

// writable reports whether the path leads to a place that can be written: what the last step goes into must exist and
// be of its kind.
func (p Path) writable(item attr.Item) bool {
	last := len(p) - 1
	if last == 0 {
		return true
	}
	parent, ok := p[:last].Find(item)
	if p[last].IsIndex {
		return ok && parent.Kind == attr.L
	}
	return ok && parent.Kind == attr.M
}

// below reports whether the path leads below one of the names.
func (p Path) below(names []string) bool { return len(p) > 1 && slices.Contains(names, p[0].Name) }

// Nested gives the first of the names below which one of the paths leads.
func Nested(paths []Path, names ...string) (name string, ok bool) {
	for _, p := range paths {
		if p.below(names) {
			return p[0].Name, true
		}
	}
	return "", false
}

func (p Path) equal(q Path) bool { return slices.Equal(p, q) }

// overlap tells two paths of which one leads through the other.
func (p Path) overlap(q Path) bool {
	n := min(len(p), len(q))
	return slices.Equal(p[:n], q[:n])
}

// conflict tells two paths that take one value for a map and a list at once.
func (p Path) conflict(q Path) bool {
	for i := range min(len(p), len(q)) {
		if p[i] != q[i] {
			return i > 0 && p[i].IsIndex != q[i].IsIndex
		}
	}
	return false
}

// distinct refuses paths that overlap or conflict.
func distinct(paths []Path) error {
	for i, p := range paths {
		for _, q := range paths[:i] {
			if p.overlap(q) {
				return errorf("Two document paths overlap with each other; must remove or rewrite one of these paths; path one: %v, path two: %v", q, p)
			}
			if p.conflict(q) {
				return errorf("Two document paths conflict with each other; must remove or rewrite one of these paths; path one: %v, path two: %v", q, p)
			}
		}
	}
	return nil
}
