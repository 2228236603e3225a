package engine

import (
	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/expr"
)

// read is one item to be read, alone, in a batch or in a transaction.
type read struct {
	table      *table
	key        attr.Item
	projection []expr.Path
}

// item gives what was asked for, and the size of what had to be read for it.
func (r read) item() (item attr.Item, size int) {
	item = r.table.get(r.key)
	size = item.Size()
	if item != nil && r.projection != nil {
		item = expr.Project(item, r.projection)
	}
	return item, size
}

// found is an item in an answer: absent if there is none, but {} if a projection left nothing of it.
type found struct {
	Item *attr.Item `json:",omitempty"`
}

func foundItem(item attr.Item) found {
	if item == nil {
		return found{}
	}
	return found{&item}
}

type getItemInput struct {
	legacy
	placeholders
	TableName              *string
	Key                    wireItem
	ConsistentRead         bool
	ProjectionExpression   *string
	ReturnConsumedCapacity string
}

type getItemOutput struct {
	found
	ConsumedCapacity *consumed `json:",omitempty"`
}

func (in *getItemInput) targets(e *Engine) []Target { return []Target{e.target(in.TableName, in.Key)} }

func (in *getItemInput) plan(e *Engine) (func(*tx) (any, error), error) {
	if _, err := tableArgument(in.TableName); err != nil {
		return nil, err
	}
	t := texts{projection: in.ProjectionExpression}
	if err := in.needed(t); err != nil {
		return nil, err
	}
	table, err := e.table(in.TableName)
	if err != nil {
		return nil, err
	}
	if err := in.legacy.check(); err != nil {
		return nil, err
	}
	if in.Key == nil {
		return nil, errNoKey
	}
	p, err := in.parse(t)
	if err != nil {
		return nil, err
	}
	if err := table.scalarKey(p); err != nil {
		return nil, err
	}
	r := read{table: table, projection: p.projection}
	if r.key, err = table.key(in.Key); err != nil {
		return nil, err
	}
	return func(t *tx) (any, error) {
		if err := t.check(table); err != nil {
			return nil, err
		}
		item, size := r.item()
		n := readUnits(size, in.ConsistentRead)
		t.read += n
		return getItemOutput{foundItem(item), report(in.ReturnConsumedCapacity, table.name, n)}, nil
	}, nil
}

var errNoKey = validation("Cannot have null key for GetItem, DeleteItem, or UpdateItem")

// key checks a key and gives its stored form.
func (t *table) key(raw wireItem) (attr.Item, error) {
	key, err := attr.WireItem(raw)
	if err == nil {
		err = checkStored(key)
	}
	if err == nil {
		err = t.checkKey(key)
	}
	return key, err
}

type batchGetInput struct {
	RequestItems           map[string]batchGetTable
	ReturnConsumedCapacity string
}

type batchGetTable struct {
	legacy
	placeholders
	Keys                 []wireItem
	ConsistentRead       bool
	ProjectionExpression *string
}

type batchGetOutput struct {
	Responses        map[string][]attr.Item
	UnprocessedKeys  map[string]batchGetTable
	ConsumedCapacity []*consumed `json:",omitempty"`
}

const (
	maxBatchGet     = 100
	maxBatchGetSize = 16 << 20
)

func (in *batchGetInput) targets(e *Engine) (list []Target) {
	for _, name := range sorted(in.RequestItems) {
		for _, key := range in.RequestItems[name].Keys {
			list = append(list, e.target(&name, key))
		}
	}
	return list
}

func (in *batchGetInput) plan(e *Engine) (func(*tx) (any, error), error) {
	if len(in.RequestItems) == 0 {
		return nil, validation("BatchGetItem must have some requests set")
	}
	reads := map[string][]read{}
	count := 0
	for _, name := range sorted(in.RequestItems) {
		want := in.RequestItems[name]
		if count += len(want.Keys); count > maxBatchGet {
			return nil, validation("Too many items requested for the BatchGetItem call")
		}
		if len(want.Keys) == 0 {
			return nil, validation("The list of keys in RequestItems for BatchGetItem is required: %s has empty list", name)
		}
		for _, key := range want.Keys {
			if len(key) == 0 {
				return nil, validation(
					"The list of keys in RequestItems for BatchGetItem may not contain null or empty values: %s has one or more empty keys", name)
			}
		}
	}
	for _, name := range sorted(in.RequestItems) {
		table, err := e.table(&name)
		if err != nil {
			return nil, err
		}
		if reads[name], err = in.RequestItems[name].keys(table); err != nil {
			return nil, err
		}
	}
	for _, name := range sorted(in.RequestItems) {
		if err := in.RequestItems[name].project(reads[name]); err != nil {
			return nil, err
		}
	}
	return func(t *tx) (any, error) { return in.run(t, reads) }, nil
}

// keys checks what is to be read from one table.
func (want batchGetTable) keys(table *table) ([]read, error) {
	var reads []read
	seen := map[string]bool{}
	for _, raw := range want.Keys {
		key, err := table.key(raw)
		if err != nil {
			return nil, err
		}
		if seen[table.id(key)] {
			return nil, validation("Provided list of item keys contains duplicates")
		}
		seen[table.id(key)] = true
		reads = append(reads, read{table: table, key: key})
	}
	return reads, nil
}

// project puts the projection into the reads of one table.
func (want batchGetTable) project(reads []read) error {
	if err := want.legacy.check(); err != nil {
		return err
	}
	t := texts{projection: want.ProjectionExpression}
	if err := want.needed(t); err != nil {
		return err
	}
	p, err := want.parse(t)
	if err != nil {
		return err
	}
	for i := range reads {
		reads[i].projection = p.projection
	}
	return reads[0].table.scalarKey(p)
}

func (in *batchGetInput) run(t *tx, reads map[string][]read) (any, error) {
	out := batchGetOutput{Responses: map[string][]attr.Item{}, UnprocessedKeys: map[string]batchGetTable{}}
	var cost perTable
	total, full := 0, false
	for _, name := range sorted(reads) {
		want := in.RequestItems[name]
		out.Responses[name] = []attr.Item{}
		for i, r := range reads[name] {
			if err := t.check(r.table); err != nil {
				return nil, err
			}
			item, size := r.item()
			if full = full || total+size > maxBatchGetSize; full {
				rest := want
				rest.Keys = want.Keys[i:]
				out.UnprocessedKeys[name] = rest
				break
			}
			total += size
			cost.add(r.table.name, readUnits(size, want.ConsistentRead))
			if item != nil {
				out.Responses[name] = append(out.Responses[name], item)
			}
		}
	}
	t.read += cost.total()
	out.ConsumedCapacity = cost.reports(in.ReturnConsumedCapacity)
	return out, nil
}

type transactGetInput struct {
	TransactItems []struct {
		Get *struct {
			placeholders
			TableName            *string
			Key                  wireItem
			ProjectionExpression *string
		}
	}
	ReturnConsumedCapacity string
}

type transactGetOutput struct {
	ConsumedCapacity []*consumed `json:",omitempty"`
	Responses        []found
}

func (in *transactGetInput) targets(e *Engine) (list []Target) {
	for _, it := range in.TransactItems {
		if it.Get != nil {
			list = append(list, e.target(it.Get.TableName, it.Get.Key))
		}
	}
	return list
}

func (in *transactGetInput) plan(e *Engine) (func(*tx) (any, error), error) {
	if len(in.TransactItems) == 0 {
		return nil, errNoTransactItems
	}
	if len(in.TransactItems) > maxTransactItems {
		return nil, errTooManyTransactItems
	}
	reads := make([]read, len(in.TransactItems))
	refusals := make(reasons, len(in.TransactItems))
	seen := map[string]bool{}
	for i, it := range in.TransactItems {
		get := it.Get
		switch {
		case get == nil:
			return nil, errNoTransactItems
		case get.TableName == nil:
			return nil, validation(
				"Value null at 'transactItems.%d.member.get.tableName' failed to satisfy constraint: Member must not be null", i+1)
		case get.Key == nil:
			return nil, validation(
				"Value null at 'transactItems.%d.member.get.key' failed to satisfy constraint: Member must not be null", i+1)
		}
		table, err := e.table(get.TableName)
		if err != nil {
			return nil, errNoTable // here also where no table can have that name
		}
		t := texts{projection: get.ProjectionExpression}
		if err := get.needed(t); err != nil {
			return nil, err
		}
		p, err := get.parse(t)
		if err != nil {
			return nil, err
		}
		if err := table.scalarKey(p); err != nil {
			return nil, err
		}
		r := read{table: table, projection: p.projection}
		if r.key, err = table.key(get.Key); err != nil {
			if !cancels(err) {
				return nil, err
			}
			refusals.note(i, err)
		}
		if seen[table.id(r.key)] {
			return nil, errSameItem
		}
		seen[table.id(r.key)] = true
		reads[i] = r
	}
	return func(t *tx) (any, error) { return in.run(t, reads, refusals) }, nil
}

func (in *transactGetInput) run(t *tx, reads []read, refusals reasons) (any, error) {
	if refusals.refused() {
		return nil, canceled(refusals)
	}
	var out transactGetOutput
	var cost perTable
	for _, r := range reads {
		if err := t.check(r.table); err != nil {
			return nil, err
		}
		item, size := r.item()
		cost.add(r.table.name, 2*readUnits(size, true))
		out.Responses = append(out.Responses, foundItem(item))
	}
	t.read += cost.total()
	out.ConsumedCapacity = cost.reports(in.ReturnConsumedCapacity)
	return out, nil
}
