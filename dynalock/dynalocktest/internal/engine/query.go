package engine

import (
	"iter"
	"slices"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/expr"
)

// paged are the parameters that Query and Scan share.
type paged struct {
	legacy
	placeholders
	TableName              *string
	IndexName              *string
	ConsistentRead         bool
	Limit                  *int
	ExclusiveStartKey      wireItem
	FilterExpression       *string
	ProjectionExpression   *string
	Select                 string
	ReturnConsumedCapacity string
}

type page struct {
	Items            *[]attr.Item `json:",omitempty"`
	Count            int
	ScannedCount     int
	LastEvaluatedKey attr.Item `json:",omitempty"`
	ConsumedCapacity *consumed `json:",omitempty"`
}

const maxPage = 1 << 20

func (in *paged) targets(e *Engine) []Target { return []Target{e.target(in.TableName, nil)} }

// open checks what comes before the expressions.
func (in *paged) open(e *Engine) (*table, error) {
	table, err := e.table(in.TableName)
	if err != nil {
		return nil, err
	}
	if in.Limit != nil && *in.Limit < 1 {
		return nil, validation("Limit must be greater than or equal to 1")
	}
	return table, in.legacy.check()
}

// checkSelect refuses what does not go together.
func (in *paged) checkSelect() error {
	switch in.Select {
	case "":
	case "COUNT":
		if in.ProjectionExpression != nil {
			return validation("Cannot specify the ProjectionExpression when choosing to get only the Count")
		}
	case "ALL_ATTRIBUTES":
		if in.ProjectionExpression != nil {
			return validation("Cannot specify the ProjectionExpression when choosing to get ALL_ATTRIBUTES")
		}
	case "SPECIFIC_ATTRIBUTES":
		if in.ProjectionExpression == nil {
			return validation("Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES")
		}
	case "ALL_PROJECTED_ATTRIBUTES":
		return validation("ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName")
	default:
		return validation("Select must be ALL_ATTRIBUTES, ALL_PROJECTED_ATTRIBUTES, COUNT, or SPECIFIC_ATTRIBUTES")
	}
	return nil
}

// start is the key behind which the page begins, nil for the first page.
func (in *paged) start(table *table) (attr.Item, error) {
	if in.ExclusiveStartKey == nil {
		return nil, nil //nolint:nilnil // no key is not an error
	}
	key, err := attr.WireItem(in.ExclusiveStartKey)
	if err != nil {
		return nil, err
	}
	if len(key) == 0 {
		return nil, validation("The provided starting key is invalid")
	}
	if len(key) != len(table.keyAttrs()) {
		return nil, validation("Exclusive Start Key must have same size as table's key schema")
	}
	for _, k := range table.keyAttrs() {
		v, ok := key[k.name]
		if !ok {
			return nil, validation("The provided starting key is invalid")
		}
		if v.Kind != k.kind {
			return nil, validation("Type mismatch for attribute to update")
		}
	}
	return key, nil
}

// collect reads items into one page: up to Limit items or 1 MB are looked at, filtered or not.
func (in *paged) collect(t *tx, table *table, items iter.Seq[attr.Item], p parsed) page {
	var out page
	found := []attr.Item{}
	size := 0
	var last attr.Item
	for item := range items {
		if size > 0 && size+item.Size() > maxPage {
			out.LastEvaluatedKey = table.keyOf(last)
			break
		}
		last = item
		size += item.Size()
		out.ScannedCount++
		if p.filter.Eval(item) {
			if out.Count++; p.projection != nil {
				item = expr.Project(item, p.projection)
			}
			found = append(found, item)
		}
		if in.Limit != nil && out.ScannedCount == *in.Limit {
			out.LastEvaluatedKey = table.keyOf(last)
			break
		}
	}
	if in.Select != "COUNT" {
		out.Items = &found
	}
	n := readUnits(size, in.ConsistentRead)
	t.read += n
	out.ConsumedCapacity = report(in.ReturnConsumedCapacity, table.name, n)
	return out
}

type scanInput struct {
	paged
	Segment, TotalSegments *int
}

func (in *scanInput) plan(e *Engine) (func(*tx) (any, error), error) {
	table, err := in.open(e)
	if err != nil {
		return nil, err
	}
	t := texts{filter: in.FilterExpression, projection: in.ProjectionExpression, users: "FilterExpression is"}
	if err := in.needed(t); err != nil {
		return nil, err
	}
	segment, segments, err := in.segment()
	if err != nil {
		return nil, err
	}
	p, err := in.parse(t)
	if err != nil {
		return nil, err
	}
	if err := in.checkSelect(); err != nil {
		return nil, err
	}
	if in.IndexName != nil {
		return nil, noIndex(*in.IndexName)
	}
	start, err := in.start(table)
	if err != nil {
		return nil, err
	}
	return func(t *tx) (any, error) {
		if err := t.check(table); err != nil {
			return nil, err
		}
		return in.collect(t, table, table.scan(start, segment, segments), p), nil
	}, nil
}

const maxSegments = 1_000_000

func (in *scanInput) segment() (segment, segments int, err error) {
	switch {
	case in.Segment == nil && in.TotalSegments == nil:
		return 0, 1, nil
	case in.Segment == nil:
		return 0, 0, validation("If total segments is specified, a particular segment must also be specified for this request")
	case in.TotalSegments == nil:
		return 0, 0, validation("If segment is specified, total segment must also be specified")
	}
	segment, segments = *in.Segment, *in.TotalSegments
	if segments > maxSegments {
		return 0, 0, validation("1 validation error detected: Value '%d' at 'totalSegments' failed to satisfy constraint: Member must have value less than or equal to %d", segments, maxSegments)
	}
	if segment < 0 || segment >= segments {
		return 0, 0, validation("1 validation error detected: Value '%d' at 'segment' failed to satisfy constraint: Member must have value less than or equal to %d", segment, segments-1)
	}
	return segment, segments, nil
}

func noIndex(name string) error {
	return validation("The table does not have the specified index: %s", name)
}

type queryInput struct {
	paged
	KeyConditionExpression *string
	ScanIndexForward       *bool
}

func (in *queryInput) plan(e *Engine) (func(*tx) (any, error), error) {
	table, err := in.open(e)
	if err != nil {
		return nil, err
	}
	t := texts{
		key: in.KeyConditionExpression, filter: in.FilterExpression, projection: in.ProjectionExpression,
		users: "FilterExpression and KeyConditionExpression are",
	}
	if err := in.needed(t); err != nil {
		return nil, err
	}
	p, err := in.parse(t)
	if err != nil {
		return nil, err
	}
	if p.key == nil {
		return nil, validation("Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.")
	}
	if err := in.checkSelect(); err != nil {
		return nil, err
	}
	if in.IndexName != nil {
		return nil, noIndex(*in.IndexName)
	}
	hash, sort, err := in.keys(table, p.key)
	if err != nil {
		return nil, err
	}
	for _, k := range table.keyAttrs() {
		if p.filter.Uses(k.name) {
			return nil, validation("Filter Expression can only contain non-primary key attributes: Primary key attribute: %s", k.name)
		}
	}
	start, err := in.start(table)
	if err != nil {
		return nil, err
	}
	if start != nil && (!start[table.hash.name].Equal(hash) || !sort.Eval(start)) {
		return nil, validation("The provided starting key does not match the range key predicate")
	}
	return func(t *tx) (any, error) {
		if err := t.check(table); err != nil {
			return nil, err
		}
		items := table.query(hash, start, in.ScanIndexForward == nil || *in.ScanIndexForward)
		return in.collect(t, table, where(items, sort), p), nil
	}, nil
}

// keys takes the key condition apart and checks its values against the table's key.
func (in *queryInput) keys(table *table, c *expr.Cond) (hash attr.Value, sort *expr.Cond, err error) {
	parts, err := c.KeyParts()
	if err != nil {
		return hash, nil, validation("%s", err)
	}
	for _, part := range parts {
		key := table.hash
		switch {
		case part.Name == table.hash.name && part.Operator == "=":
			hash = part.Values[0]
		case part.Name == table.hash.name:
			return hash, nil, validation("Query key condition not supported")
		case part.Name == table.sort.name:
			key, sort = table.sort, part.Cond
		default:
			return hash, nil, errMissedKey
		}
		for _, v := range part.Values {
			if v.Kind != key.kind {
				return hash, nil, validation("One or more parameter values were invalid: Condition parameter type does not match schema type")
			}
			if v.Str == "" && v.Kind != attr.N {
				return hash, nil, emptyKey(key)
			}
		}
	}
	if hash.Kind == "" {
		return hash, nil, errMissedKey
	}
	return hash, sort, nil
}

var errMissedKey = validation("Query condition missed key schema element")

// query goes over the items of one partition behind the key start (nil: from the beginning), forward or backward.
func (t *table) query(hash attr.Value, start attr.Item, forward bool) iter.Seq[attr.Item] {
	p := t.parts[hash.Str]
	if p == nil {
		return func(func(attr.Item) bool) {}
	}
	items := p.items
	if start != nil {
		i, ok := t.search(p, start[t.sort.name])
		switch {
		case !forward:
			items = items[:i]
		case ok:
			items = items[i+1:]
		default:
			items = items[i:]
		}
	}
	if forward {
		return slices.Values(items)
	}
	return func(yield func(attr.Item) bool) {
		for _, it := range slices.Backward(items) {
			if !yield(it) {
				return
			}
		}
	}
}

func where(items iter.Seq[attr.Item], c *expr.Cond) iter.Seq[attr.Item] {
	return func(yield func(attr.Item) bool) {
		for it := range items {
			if c.Eval(it) && !yield(it) {
				return
			}
		}
	}
}
