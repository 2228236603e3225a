package engine

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/expr"
)

// placeholders are the two parameters that go with every expression.
type placeholders struct {
	ExpressionAttributeNames  map[string]string
	ExpressionAttributeValues map[string]attr.Wire
}

// texts are the expressions that a request may have; the absent ones are nil. users names, for an error, those that
// could use values.
type texts struct {
	update, key, filter, condition, projection *string
	users                                      string
}

func (t texts) none() bool {
	return t.projection == nil && t.noValues()
}

func (t texts) noValues() bool {
	return t.update == nil && t.key == nil && t.filter == nil && t.condition == nil
}

// parsed are the expressions of a request, ready to use.
type parsed struct {
	condition, key, filter *expr.Cond
	update                 *expr.Upd
	projection             []expr.Path
}

// needed refuses placeholders where there is no expression that could use them.
func (p placeholders) needed(t texts) error {
	if len(p.ExpressionAttributeNames) > 0 && t.none() {
		return validation("ExpressionAttributeNames can only be specified when using expressions")
	}
	if len(p.ExpressionAttributeValues) > 0 && t.noValues() && t.users != "" {
		return validation("ExpressionAttributeValues can only be specified when using expressions: %s null", t.users)
	}
	return nil
}

// parse reads all expressions of one request against its placeholders, each of which must be used.
func (p placeholders) parse(t texts) (out parsed, err error) {
	if t.none() {
		return out, nil
	}
	ph, err := p.bindable()
	if err != nil {
		return out, err
	}
	condition := func(kind expr.Kind, text *string) *expr.Cond {
		if text == nil || err != nil {
			return nil
		}
		c, failed := expr.ParseCondition(kind, *text, ph)
		err = refused(kind, failed)
		return c
	}
	if t.update != nil {
		if out.update, err = expr.ParseUpdate(*t.update, ph); err != nil {
			return out, refused(expr.Update, err)
		}
		for _, v := range ph.Values {
			if v.Size() > maxItemSize {
				return out, errUpdatedSize
			}
		}
	}
	out.filter = condition(expr.Filter, t.filter)
	out.condition = condition(expr.Condition, t.condition)
	if t.projection != nil && err == nil {
		out.projection, err = expr.ParseProjection(*t.projection, ph)
		err = refused(expr.Projection, err)
	}
	out.key = condition(expr.KeyCondition, t.key)
	if err != nil {
		return out, err
	}
	names, values := ph.Unused()
	if len(names) > 0 {
		return out, validation("Value provided in ExpressionAttributeNames unused in expressions: keys: {%s}",
			strings.Join(names, ", "))
	}
	if len(values) > 0 {
		return out, validation("Value provided in ExpressionAttributeValues unused in expressions: keys: {%s}",
			strings.Join(values, ", "))
	}
	return out, nil
}

func refused(kind expr.Kind, err error) error {
	if err == nil {
		return nil
	}
	return validation("Invalid %v: %s", kind, err)
}

var (
	nameKey  = regexp.MustCompile(`^#[A-Za-z0-9_]+$`)
	valueKey = regexp.MustCompile(`^:[A-Za-z0-9_]+$`)
)

const maxNameLength = 65535

// bindable checks the placeholders themselves.
func (p placeholders) bindable() (*expr.Placeholders, error) {
	ph := &expr.Placeholders{
		Names: p.ExpressionAttributeNames, Values: make(attr.Item, len(p.ExpressionAttributeValues)),
		Numbers: map[string]string{},
	}
	if p.ExpressionAttributeNames != nil && len(p.ExpressionAttributeNames) == 0 {
		return nil, validation("ExpressionAttributeNames must not be empty")
	}
	for _, key := range sorted(p.ExpressionAttributeNames) {
		name := p.ExpressionAttributeNames[key]
		switch {
		case key == "":
			return nil, validation(
				"ExpressionAttributeNames contains invalid key: The expression attribute map contains an empty key;")
		case !nameKey.MatchString(key):
			return nil, validation("ExpressionAttributeNames contains invalid key: Syntax error; key: \"%s\"", key)
		case name == "":
			return nil, validation("ExpressionAttributeNames contains invalid value: Empty attribute name for key %s", key)
		case len(name) > maxNameLength:
			return nil, validation(
				"ExpressionAttributeNames contains invalid value: Attribute name is too large, must be less than 65536 bytes for key %s", key)
		}
	}
	if p.ExpressionAttributeValues != nil && len(p.ExpressionAttributeValues) == 0 {
		return nil, validation("ExpressionAttributeValues must not be empty")
	}
	for _, key := range sorted(p.ExpressionAttributeValues) {
		if key == "" {
			return nil, validation(
				"ExpressionAttributeValues contains invalid key: The expression attribute map contains an empty key;")
		}
		if !valueKey.MatchString(key) {
			return nil, validation("ExpressionAttributeValues contains invalid key: Syntax error; key: \"%s\"", key)
		}
		wire := p.ExpressionAttributeValues[key]
		v, err := wire.Value()
		if err == nil && v.Depth() > maxDepth {
			err = attr.Invalid(tooDeep)
		}
		if err != nil {
			return nil, validation("ExpressionAttributeValues contains invalid value: %s for key %s", err, key)
		}
		ph.Values[key] = v
		if wire.N != nil {
			ph.Numbers[key] = *wire.N
		}
	}
	return ph, nil
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
