package engine

import "github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"

// wireItem is an item or a key as JSON brings it.
type wireItem map[string]attr.Wire

// target names the item of a table, as far as that can be told without checking anything.
func (e *Engine) target(table *string, item wireItem) Target {
	if table == nil {
		return Target{}
	}
	t := Target{Table: shortName(*table)}
	if len(item) == 1 {
		for _, v := range item {
			t.Key = v.Text()
		}
		return t
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.tables[t.Table]; known != nil {
		t.Key = item[known.hash.name].Text()
	}
	return t
}

// legacy are the parameters from before expressions. They are refused.
type legacy struct {
	AttributesToGet     any
	AttributeUpdates    any
	ConditionalOperator any
	Expected            any
	KeyConditions       any
	QueryFilter         any
	ScanFilter          any
}

func (l legacy) check() error {
	for _, p := range []struct {
		name  string
		value any
	}{
		{"AttributesToGet", l.AttributesToGet},
		{"AttributeUpdates", l.AttributeUpdates},
		{"ConditionalOperator", l.ConditionalOperator},
		{"Expected", l.Expected},
		{"KeyConditions", l.KeyConditions},
		{"QueryFilter", l.QueryFilter},
		{"ScanFilter", l.ScanFilter},
	} {
		if p.value != nil {
			return validation("This server does not support the parameter %s: use an expression", p.name)
		}
	}
	return nil
}
