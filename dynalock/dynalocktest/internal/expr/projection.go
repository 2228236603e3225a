package expr

import "github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"

// ParseProjection reads and binds a list of document paths.
func ParseProjection(text string, ph *Placeholders) ([]Path, error) {
	p, err := newParser(Projection, text)
	if err != nil {
		return nil, err
	}
	var paths []Path
	for {
		path, err := p.path()
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
		if !p.isPunct(",") {
			break
		}
		p.advance()
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	for _, path := range paths {
		if err := path.check(); err != nil {
			return nil, err
		}
	}
	for _, path := range paths {
		if err := ph.resolve(path); err != nil {
			return nil, err
		}
	}
	return paths, distinct(paths)
}

// Project gives the parts of item that the paths lead to, each where it stood; of a list only the elements, in their
// order.
func Project(item attr.Item, paths []Path) attr.Item {
	out := attr.Item{}
	for name, sub := range tree(paths) {
		if v, ok := item[name]; ok {
			if part, ok := sub.project(v); ok {
				out[name] = part
			}
		}
	}
	return out
}

// branch is a step shared by several paths.
type branch struct {
	names   map[string]*branch
	indexes map[int]*branch
	leaf    bool
}

func tree(paths []Path) map[string]*branch {
	root := &branch{}
	for _, path := range paths {
		at := root
		for _, e := range path {
			at = at.step(e)
		}
		at.leaf = true
	}
	return root.names
}

func (b *branch) step(e Elem) *branch {
	if e.IsIndex {
		if b.indexes == nil {
			b.indexes = map[int]*branch{}
		}
		if b.indexes[e.Index] == nil {
			b.indexes[e.Index] = &branch{}
		}
		return b.indexes[e.Index]
	}
	if b.names == nil {
		b.names = map[string]*branch{}
	}
	if b.names[e.Name] == nil {
		b.names[e.Name] = &branch{}
	}
	return b.names[e.Name]
}

func (b *branch) project(v attr.Value) (attr.Value, bool) {
	switch {
	case b.leaf:
		return v, true
	case v.Kind == attr.M && b.names != nil:
		m := attr.Item{}
		for name, sub := range b.names {
			if e, ok := v.Map[name]; ok {
				if part, ok := sub.project(e); ok {
					m[name] = part
				}
			}
		}
		return attr.Value{Kind: attr.M, Map: m}, len(m) > 0
	case v.Kind == attr.L && b.indexes != nil:
		var list []attr.Value
		for i, e := range v.List {
			if sub := b.indexes[i]; sub != nil {
				if part, ok := sub.project(e); ok {
					list = append(list, part)
				}
			}
		}
		return attr.Value{Kind: attr.L, List: list}, len(list) > 0
	}
	return attr.Value{}, false
}
