package engine

import (
	"errors"
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

// texts are the expressions that a request may have; the absent ones are nil.
type texts struct {
	condition, update, projection, key, filter *string
}

// parsed are the expressions of a request, ready to use.
type parsed struct {
	condition, key, filter *expr.Cond
	update                 *expr.Upd
	projection             []expr.Path
}

var placeholderName = regexp.MustCompile(`^[#:][A-Za-z0-9_]+$`)

// parse reads all expressions of one request against its placeholders, each of which must be used.
func (p placeholders) parse(t texts) (out parsed, err error) {
	any := t.condition != nil || t.update != nil || t.projection != nil || t.key != nil || t.filter != nil
	ph, err := p.check(any, t)
	if err != nil || !any {
		return out, err
	}
	if t.update != nil {
		if out.update, err = expr.ParseUpdate(*t.update, ph); err != nil {
			return out, refused(expr.Update, err)
		}
	}
	if t.key != nil {
		if out.key, err = expr.ParseCondition(expr.KeyCondition, *t.key, ph); err != nil {
			return out, refused(expr.KeyCondition, err)
		}
	}
	if t.filter != nil {
		if out.filter, err = expr.ParseCondition(expr.Filter, *t.filter, ph); err != nil {
			return out, refused(expr.Filter, err)
		}
	}
	if t.condition != nil {
		if out.condition, err = expr.ParseCondition(expr.Condition, *t.condition, ph); err != nil {
			return out, refused(expr.Condition, err)
		}
	}
	if t.projection != nil {
		if out.projection, err = expr.ParseProjection(*t.projection, ph); err != nil {
			return out, refused(expr.Projection, err)
		}
	}
	names, values := ph.Unused()
	if len(names) > 0 {
		return out, validation("Value provided in ExpressionAttributeNames unused in expressions: keys: {%s}", strings.Join(names, ", "))
	}
	if len(values) > 0 {
		return out, validation("Value provided in ExpressionAttributeValues unused in expressions: keys: {%s}", strings.Join(values, ", "))
	}
	return out, nil
}

func refused(kind expr.Kind, err error) error {
	return validation("Invalid %v: %s", kind, err)
}

// check looks at the placeholders themselves.
func (p placeholders) check(any bool, t texts) (*expr.Placeholders, error) {
	ph := &expr.Placeholders{Names: p.ExpressionAttributeNames}
	if p.ExpressionAttributeNames != nil {
		switch {
		case !any:
			return nil, validation("ExpressionAttributeNames can only be specified when using expressions")
		case len(p.ExpressionAttributeNames) == 0:
			return nil, validation("ExpressionAttributeNames must not be empty")
		}
		for _, key := range sorted(p.ExpressionAttributeNames) {
			if key == "" || key[0] != '#' || !placeholderName.MatchString(key) {
				return nil, validation("ExpressionAttributeNames contains invalid key: Syntax error; key: \"%s\"", key)
			}
			if p.ExpressionAttributeNames[key] == "" {
				return nil, validation("ExpressionAttributeNames contains invalid value: Empty attribute name for key %s", key)
			}
		}
	}
	if p.ExpressionAttributeValues == nil {
		return ph, nil
	}
	switch {
	case !any:
		return nil, validation("ExpressionAttributeValues can only be specified when using expressions: ConditionExpression is null")
	case len(p.ExpressionAttributeValues) == 0:
		return nil, validation("ExpressionAttributeValues must not be empty")
	}
	ph.Values = make(attr.Item, len(p.ExpressionAttributeValues))
	for _, key := range sorted(p.ExpressionAttributeValues) {
		if key == "" || key[0] != ':' || !placeholderName.MatchString(key) {
			return nil, validation("ExpressionAttributeValues contains invalid key: Syntax error; key: \"%s\"", key)
		}
		v, err := p.ExpressionAttributeValues[key].Value()
		if err != nil {
			return nil, validation("ExpressionAttributeValues contains invalid value: %s for key %s", err, key)
		}
		ph.Values[key] = v
	}
	return ph, nil
}

// updateError turns the reasons why an update does not fit into the service's words.
func updateError(err error) error {
	if e, ok := errors.AsType[expr.Error](err); ok {
		return validation("%s", string(e))
	}
	return validation("%s", err)
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
