package engine

import (
	"maps"
	"slices"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// write is one conditional change of one item, alone, in a batch or in a transaction.
type write struct {
	table     *table
	verb      verb
	item      attr.Item // of put: the item; of the others: the key
	key       attr.Item
	parsed    parsed
	oldOnFail bool // a refusal shows the item
}

type verb uint8

const (
	put verb = iota
	update
	remove
	check
)

// setItem takes over the item of a put, or the key of the others.
func (w *write) setItem(raw wireItem) (err error) {
	if w.item, err = attr.WireItem(raw); err != nil {
		return err
	}
	return checkStored(w.item)
}

// setKey checks the key against the table.
func (w *write) setKey() error {
	if w.verb != put {
		w.key = w.item
		return w.table.checkKey(w.item)
	}
	w.key = w.table.keyOf(w.item)
	return w.table.checkItem(w.item)
}

// change is what a write does to one item.
type change struct {
	*write
	old, new attr.Item
}

// evaluate tells what the write would change, without changing anything. A refusal comes with the old item as it stays.
func (w *write) evaluate(t *tx) (change, error) {
	if err := t.check(w.table); err != nil {
		return change{}, err
	}
	old := w.table.get(w.key)
	c := change{w, old, old}
	if !w.parsed.condition.Eval(old) {
		failed := serviceError(codeConditionFailed, "The conditional request failed")
		if w.oldOnFail {
			failed.Item = old
		}
		return c, failed
	}
	switch w.verb {
	case put:
		c.new = w.item
	case remove:
		c.new = nil
	case update:
		item, err := w.updated(old)
		if err != nil {
			return c, err
		}
		c.new = item
	}
	return c, nil
}

func (w *write) updated(old attr.Item) (attr.Item, error) {
	if old == nil {
		old = w.key
	}
	if w.parsed.update == nil {
		return maps.Clone(old), nil
	}
	if err := w.checkKeyStays(); err != nil {
		return nil, err
	}
	if name, ok := w.parsed.update.NestedOperand(w.table.hash.name, w.table.sort.name); ok {
		return nil, nestedKey(name)
	}
	item, err := w.parsed.update.Apply(old)
	if err != nil {
		return nil, err
	}
	if item.Size() > maxItemSize {
		return nil, errUpdatedSize
	}
	for _, path := range w.parsed.update.Paths() {
		if item[path[0].Name].Depth() > maxDepth {
			return nil, validation("Nesting Levels have exceeded supported limits")
		}
	}
	return item, nil
}

func (w *write) checkKeyStays() error {
	for _, path := range w.parsed.update.Paths() {
		if name := path[0].Name; name == w.table.hash.name || name == w.table.sort.name {
			return validation("One or more parameter values were invalid: Cannot update attribute %s. This attribute is part of the key", name)
		}
	}
	return nil
}

var errUpdatedSize = validation("Item size to update has exceeded the maximum allowed size")

// units is the cost of the write by the larger of the item before and after it; a check costs what a read does.
func (c change) units() float64 {
	if c.verb == check {
		return readUnits(c.old.Size(), true)
	}
	return writeUnits(c.old, c.new)
}

// commit stores the change.
func (t *tx) commit(c change) {
	c.table.put(c.key, c.new)
	t.writes = append(t.writes, Write{c.table.name, c.key[c.table.hash.name].Str, c.table.id(c.key), c.old, c.new})
}

// singleWrite are the parameters of the operations that write one item.
type singleWrite struct {
	legacy
	placeholders
	TableName                           *string
	ConditionExpression                 *string
	ReturnValues                        string
	ReturnConsumedCapacity              string
	ReturnValuesOnConditionCheckFailure string
}

type writeOutput struct {
	Attributes       attr.Item `json:",omitempty"`
	ConsumedCapacity *consumed `json:",omitempty"`
}

var (
	oldValues = []string{"", "NONE", "ALL_OLD"}
	allValues = []string{"", "NONE", "ALL_OLD", "ALL_NEW", "UPDATED_OLD", "UPDATED_NEW"}
)

// plan is what the three have in common. raw is the item or the key.
func (in *singleWrite) plan(
	e *Engine, w *write, raw wireItem, missing error, t texts, returnValues []string,
) (func(*tx) (any, error), error) {
	var err error
	if w.table, err = e.table(in.TableName); err != nil {
		return nil, err
	}
	if err := in.legacy.check(); err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, missing
	}
	if !slices.Contains(returnValues, in.ReturnValues) {
		return nil, validation("Return values set to invalid value")
	}
	steps := []func() error{
		func() error { return in.needed(t) },
		func() error { return w.setItem(raw) },
		w.setKey,
		func() (err error) { w.parsed, err = in.parse(t); return err },
	}
	// Where the service looks at this one parameter differs from operation to operation.
	steps = slices.Insert(steps, map[verb]int{remove: 0, put: 3, update: 4}[w.verb],
		func() error { return in.onFailure(w) })
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if err := w.table.scalarKey(w.parsed); err != nil {
		return nil, err
	}
	return func(t *tx) (any, error) {
		c, err := w.evaluate(t)
		if err != nil {
			if asError(err).Code == codeConditionFailed {
				t.write += c.units()
			}
			return nil, err
		}
		t.commit(c)
		n := c.units()
		t.write += n
		return writeOutput{c.returned(in.ReturnValues), report(in.ReturnConsumedCapacity, w.table.name, n)}, nil
	}, nil
}

func (in *singleWrite) onFailure(w *write) error {
	switch in.ReturnValuesOnConditionCheckFailure {
	case "", "NONE":
	case "ALL_OLD":
		w.oldOnFail = true
	default:
		return validation("1 validation error detected: Value '%s' at 'returnValuesOnConditionCheckFailure' failed to satisfy constraint: Member must satisfy enum value set: [ALL_OLD, NONE]", in.ReturnValuesOnConditionCheckFailure)
	}
	return nil
}

// returned gives the attributes that ReturnValues asks for.
func (c change) returned(asked string) attr.Item {
	switch asked {
	case "ALL_OLD":
		return c.old
	case "ALL_NEW":
		return c.new
	case "UPDATED_OLD":
		return c.updatedPart(c.old)
	case "UPDATED_NEW":
		return c.updatedPart(c.new)
	}
	return nil
}

// updatedPart gives the whole attributes below which the update wrote something that is there.
func (c change) updatedPart(item attr.Item) attr.Item {
	if c.parsed.update == nil {
		return nil
	}
	part := attr.Item{}
	for _, path := range c.parsed.update.Paths() {
		if _, ok := path.Find(item); ok {
			part[path[0].Name] = item[path[0].Name]
		}
	}
	return part
}

type putItemInput struct {
	singleWrite
	Item wireItem
}

func (in *putItemInput) targets(e *Engine) []Target { return []Target{e.target(in.TableName, in.Item)} }

func (in *putItemInput) plan(e *Engine) (func(*tx) (any, error), error) {
	t := texts{condition: in.ConditionExpression, users: conditionUser}
	return in.singleWrite.plan(e, &write{verb: put}, in.Item, errNoItem, t, oldValues)
}

type deleteItemInput struct {
	singleWrite
	Key wireItem
}

func (in *deleteItemInput) targets(e *Engine) []Target {
	return []Target{e.target(in.TableName, in.Key)}
}

func (in *deleteItemInput) plan(e *Engine) (func(*tx) (any, error), error) {
	t := texts{condition: in.ConditionExpression, users: conditionUser}
	return in.singleWrite.plan(e, &write{verb: remove}, in.Key, errNoKey, t, oldValues)
}

type updateItemInput struct {
	singleWrite
	Key              wireItem
	UpdateExpression *string
}

func (in *updateItemInput) targets(e *Engine) []Target {
	return []Target{e.target(in.TableName, in.Key)}
}

func (in *updateItemInput) plan(e *Engine) (func(*tx) (any, error), error) {
	t := texts{
		condition: in.ConditionExpression, update: in.UpdateExpression,
		users: "UpdateExpression and ConditionExpression are",
	}
	return in.singleWrite.plan(e, &write{verb: update}, in.Key, errNoKey, t, allValues)
}

const conditionUser = "ConditionExpression is"

var errNoItem = validation("Item to put in PutItem cannot be null")

type batchWriteInput struct {
	RequestItems           map[string][]batchWrite
	ReturnConsumedCapacity string
}

type batchWrite struct {
	PutRequest    *struct{ Item wireItem }
	DeleteRequest *struct{ Key wireItem }
}

type batchWriteOutput struct {
	UnprocessedItems map[string][]batchWrite
	ConsumedCapacity []*consumed `json:",omitempty"`
}

const maxBatchWrite = 25

func (in *batchWriteInput) targets(e *Engine) (list []Target) {
	for _, name := range sorted(in.RequestItems) {
		for _, w := range in.RequestItems[name] {
			switch {
			case w.PutRequest != nil:
				list = append(list, e.target(&name, w.PutRequest.Item))
			case w.DeleteRequest != nil:
				list = append(list, e.target(&name, w.DeleteRequest.Key))
			}
		}
	}
	return list
}

func (in *batchWriteInput) plan(e *Engine) (func(*tx) (any, error), error) {
	if len(in.RequestItems) == 0 {
		return nil, validation("BatchWriteItem cannot have a null or no requests set")
	}
	count := 0
	for _, name := range sorted(in.RequestItems) {
		if len(in.RequestItems[name]) == 0 {
			return nil, validation("The batch write request list for a table cannot be null or empty: %s", name)
		}
		count += len(in.RequestItems[name])
	}
	if count > maxBatchWrite {
		return nil, validation("Too many items requested for the BatchWriteItem call")
	}
	writes := map[string][]*write{}
	for _, name := range sorted(in.RequestItems) {
		for _, b := range in.RequestItems[name] {
			w, err := b.plan()
			if err != nil {
				return nil, err
			}
			writes[name] = append(writes[name], w)
		}
	}
	var all []*write
	for _, name := range sorted(writes) {
		table, err := e.table(&name)
		if err != nil {
			return nil, err
		}
		seen := map[string]bool{}
		for _, w := range writes[name] {
			w.table = table
			if w.verb == put && len(w.item) == 0 {
				return nil, errNoItem
			}
			if err := w.setKey(); err != nil {
				return nil, err
			}
			if seen[table.id(w.key)] {
				return nil, validation("Provided list of item keys contains duplicates")
			}
			seen[table.id(w.key)] = true
			all = append(all, w)
		}
	}
	return func(t *tx) (any, error) {
		var cost perTable
		for _, w := range all {
			c, err := w.evaluate(t)
			if err != nil {
				return nil, err
			}
			t.commit(c)
			cost.add(w.table.name, c.units())
		}
		t.write += cost.total()
		return batchWriteOutput{map[string][]batchWrite{}, cost.reports(in.ReturnConsumedCapacity)}, nil
	}, nil
}

// plan reads the item or key of one write.
func (b batchWrite) plan() (*write, error) {
	w := &write{}
	var raw wireItem
	switch {
	case (b.PutRequest == nil) == (b.DeleteRequest == nil):
		return nil, validation(
			"Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes")
	case b.PutRequest != nil:
		raw = b.PutRequest.Item
	default:
		w.verb, raw = remove, b.DeleteRequest.Key
	}
	if raw == nil {
		return nil, validation("The supplied Item contains a null AttributeValue")
	}
	return w, w.setItem(raw)
}
