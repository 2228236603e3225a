package engine

import (
	"maps"
	"slices"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/expr"
)

// common are the parameters that every operation on items has.
type common struct {
	TableName              *string
	ReturnConsumedCapacity string
}

type wireItem map[string]attr.Wire

// legacy are the parameters from before expressions. They are refused.
type legacy struct {
	Expected            any
	ConditionalOperator any
	AttributeUpdates    any
	AttributesToGet     any
	KeyConditions       any
	QueryFilter         any
	ScanFilter          any
}

func (l legacy) check() error {
	for _, p := range []struct {
		name  string
		value any
	}{
		{"Expected", l.Expected},
		{"ConditionalOperator", l.ConditionalOperator},
		{"AttributeUpdates", l.AttributeUpdates},
		{"AttributesToGet", l.AttributesToGet},
		{"KeyConditions", l.KeyConditions},
		{"QueryFilter", l.QueryFilter},
		{"ScanFilter", l.ScanFilter},
	} {
		if p.value != nil {
			return validation("The parameter %s is not supported by this server: use expressions", p.name)
		}
	}
	return nil
}

type getItemInput struct {
	common
	legacy
	placeholders
	Key                  wireItem
	ConsistentRead       bool
	ProjectionExpression *string
}

type getItemOutput struct {
	Item             attr.Item `json:",omitempty"`
	ConsumedCapacity *consumed `json:",omitempty"`
}

// itemOutput keeps an item that a projection left empty apart from one that does not exist.
type emptyItemOutput struct {
	Item             attr.Item
	ConsumedCapacity *consumed `json:",omitempty"`
}

func (in *getItemInput) prepare(c *Call) (func(*tx) (any, error), error) {
	if err := checkTableName(in.TableName); err != nil {
		return nil, err
	}
	if err := in.legacy.check(); err != nil {
		return nil, err
	}
	p, err := in.parse(texts{projection: in.ProjectionExpression})
	if err != nil {
		return nil, err
	}
	key, err := attr.WireItem(in.Key)
	if err != nil {
		return nil, err
	}
	c.Targets = []Target{{*in.TableName, key}}
	return func(t *tx) (any, error) {
		table, err := t.table(*in.TableName)
		if err != nil {
			return nil, err
		}
		if err := table.checkKey(key); err != nil {
			return nil, err
		}
		item := table.get(key)
		n := readUnits(item.Size(), in.ConsistentRead)
		t.read += n
		report := report(in.ReturnConsumedCapacity, table.name, n)
		if item == nil || p.projection == nil {
			return getItemOutput{item, report}, nil
		}
		return emptyItemOutput{expr.Project(item, p.projection), report}, nil
	}, nil
}

// write is one conditional change of one item, alone or in a transaction.
type write struct {
	table     string
	verb      verb
	key       attr.Item // for put the whole item
	parsed    parsed
	oldOnFail bool // the refusal shows the item
}

type verb uint8

const (
	put verb = iota
	update
	remove
	check
)

// plan evaluates the write against the table, without changing anything.
func (w *write) plan(t *tx) (change, error) {
	table, err := t.table(w.table)
	if err != nil {
		return change{}, err
	}
	c := change{table: table}
	if w.verb == put {
		if err := table.checkItem(w.key); err != nil {
			return c, err
		}
		c.key = table.keyOf(w.key)
	} else {
		if err := table.checkKey(w.key); err != nil {
			return c, err
		}
		c.key = w.key
	}
	if w.parsed.update != nil {
		for _, path := range w.parsed.update.Paths() {
			if path[0].Name == table.hash.name || path[0].Name == table.sort.name {
				return c, validation("One or more parameter values were invalid: Cannot update attribute %s. This attribute is part of the key", path[0].Name)
			}
		}
	}
	c.old = table.get(c.key)
	if !w.parsed.condition.Eval(c.old) {
		c.new = c.old
		failed := serviceError("ConditionalCheckFailedException", "The conditional request failed")
		if w.oldOnFail {
			failed.Item = c.old
		}
		return c, failed
	}
	switch w.verb {
	case put:
		c.new = w.key
	case check:
		c.new = c.old
	case update:
		if c.new, err = w.updated(c); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (w *write) updated(c change) (attr.Item, error) {
	base := c.old
	if base == nil {
		base = c.key
	}
	if w.parsed.update == nil {
		return maps.Clone(base), nil
	}
	item, err := w.parsed.update.Apply(base)
	if err != nil {
		return nil, updateError(err)
	}
	if item.Size() > maxItemSize {
		return nil, validation("Item size to update has exceeded the maximum allowed size")
	}
	return item, nil
}

// change is what a write does to one item.
type change struct {
	table    *table
	key      attr.Item
	old, new attr.Item
}

func (c change) units() float64 { return writeUnits(c.old, c.new) }

// commit stores the change.
func (t *tx) commit(c change) {
	c.table.put(c.key, c.new)
	t.writes = append(t.writes, Write{Table: c.table.name, Key: c.key[c.table.hash.name].Str, Old: c.old, New: c.new})
}

// writeCommon are the parameters of the three single writes.
type writeCommon struct {
	common
	legacy
	placeholders
	ConditionExpression                 *string
	ReturnValues                        string
	ReturnItemCollectionMetrics         string
	ReturnValuesOnConditionCheckFailure string
}

type writeOutput struct {
	Attributes       attr.Item `json:",omitempty"`
	ConsumedCapacity *consumed `json:",omitempty"`
}

// prepare checks what the three have in common and gives what runs under the lock. raw is the item or the key.
func (in *writeCommon) prepare(c *Call, v verb, raw wireItem, update *string) (func(*tx) (any, error), error) {
	if err := in.legacy.check(); err != nil {
		return nil, err
	}
	if in.ReturnValues != "" && !slices.Contains(returnValues[v], in.ReturnValues) {
		return nil, validation("Return values set to invalid value")
	}
	p, err := in.parse(texts{condition: in.ConditionExpression, update: update})
	if err != nil {
		return nil, err
	}
	item, err := attr.WireItem(raw)
	if err != nil {
		return nil, err
	}
	if err := checkStored(item); err != nil {
		return nil, err
	}
	w := &write{table: *in.TableName, verb: v, key: item, parsed: p, oldOnFail: in.ReturnValuesOnConditionCheckFailure == "ALL_OLD"}
	c.Targets = []Target{{w.table, item}}
	return func(t *tx) (any, error) {
		change, err := w.plan(t)
		if err != nil {
			if change.old != nil || asError(err).Code == "ConditionalCheckFailedException" {
				t.write += writeUnits(change.old)
			}
			return nil, err
		}
		t.commit(change)
		n := change.units()
		t.write += n
		return writeOutput{change.returned(in.ReturnValues, p.update), report(in.ReturnConsumedCapacity, w.table, n)}, nil
	}, nil
}

var returnValues = map[verb][]string{
	put:    {"NONE", "ALL_OLD"},
	remove: {"NONE", "ALL_OLD"},
	update: {"NONE", "ALL_OLD", "ALL_NEW", "UPDATED_OLD", "UPDATED_NEW"},
}

// returned gives the attributes that ReturnValues asks for.
func (c change) returned(asked string, u *expr.Upd) attr.Item {
	switch asked {
	case "ALL_OLD":
		return c.old
	case "ALL_NEW":
		return c.new
	case "UPDATED_OLD":
		return updatedPart(c.old, u)
	case "UPDATED_NEW":
		return updatedPart(c.new, u)
	}
	return nil
}

// updatedPart gives the whole attributes below which the update wrote something that is there.
func updatedPart(item attr.Item, u *expr.Upd) attr.Item {
	if u == nil || item == nil {
		return nil
	}
	part := attr.Item{}
	for _, path := range u.Paths() {
		if _, ok := path.Find(item); ok {
			part[path[0].Name] = item[path[0].Name]
		}
	}
	return part
}

// checkStored refuses an item that is too large or too deep.
func checkStored(item attr.Item) error {
	for name, v := range item {
		if name == "" {
			return validation("Empty attribute name")
		}
		if v.Depth() > maxDepth {
			return validation("Nesting Levels have exceeded supported limits")
		}
	}
	if item.Size() > maxItemSize {
		return validation("Item size has exceeded the maximum allowed size")
	}
	return nil
}

const maxDepth = 32

type putItemInput struct {
	writeCommon
	Item wireItem
}

func (in *putItemInput) prepare(c *Call) (func(*tx) (any, error), error) {
	if err := checkTableName(in.TableName); err != nil {
		return nil, err
	}
	if in.Item == nil {
		return nil, validation("Item to put in PutItem cannot be null")
	}
	return in.writeCommon.prepare(c, put, in.Item, nil)
}

type updateItemInput struct {
	writeCommon
	Key              wireItem
	UpdateExpression *string
}

func (in *updateItemInput) prepare(c *Call) (func(*tx) (any, error), error) {
	if err := checkTableName(in.TableName); err != nil {
		return nil, err
	}
	return in.writeCommon.prepare(c, update, in.Key, in.UpdateExpression)
}

type deleteItemInput struct {
	writeCommon
	Key wireItem
}

func (in *deleteItemInput) prepare(c *Call) (func(*tx) (any, error), error) {
	if err := checkTableName(in.TableName); err != nil {
		return nil, err
	}
	return in.writeCommon.prepare(c, remove, in.Key, nil)
}
