package engine

import (
	"iter"

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
	return table, in.legacy.check()
}

func (in *paged) checkLimit() error {
	if in.Limit != nil && *in.Limit < 1 {
		return validation("Limit must be greater than or equal to 1")
	}
	return nil
}

func (in *paged) checkIndex() error {
	if in.IndexName != nil {
		return validation("The table does not have the specified index: %s", *in.IndexName)
	}
	return nil
}

// checkSelect refuses what does not go together.
func (in *paged) checkSelect() error {
	project := in.ProjectionExpression != nil
	switch in.Select {
	case "":
	case "COUNT":
		if project {
			return validation("Cannot specify the ProjectionExpression when choosing to get only the Count")
		}
	case "SPECIFIC_ATTRIBUTES":
		if !project {
			return validation("Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES")
		}
	case "ALL_ATTRIBUTES", "ALL_PROJECTED_ATTRIBUTES":
		if project {
			return validation("Cannot specify the ProjectionExpression when choosing to get %s", in.Select)
		}
		if in.Select == "ALL_PROJECTED_ATTRIBUTES" {
			return validation("ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName")
		}
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
		if v.Str == "" {
			unique := map[bool]string{true: "The query can return at most one row and cannot be restarted. "}[k == table.hash]
			return nil, validation("%sThe provided starting key is invalid: %s", unique, emptyKey(k))
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
	var p parsed
	var start attr.Item
	var segment, segments int
	for _, step := range []func() error{
		in.checkIndex,
		func() error { return in.needed(t) },
		in.checkLimit,
		func() (err error) { p, err = in.parse(t); return err },
		func() (err error) { start, err = in.start(table); return err },
		in.checkSelect,
		func() (err error) { segment, segments, err = in.segment(); return err },
		func() error { return table.scalarKey(p) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if start != nil && table.segment(start, segments) != segment {
		return nil, validation("Exclusive start key must lie within the segment")
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
		return 0, 0, validation(
			"If total segments is specified, a particular segment must also be specified for this request")
	case in.TotalSegments == nil:
		return 0, 0, validation("If segment is specified, total segment must also be specified")
	}
	segment, segments = *in.Segment, *in.TotalSegments
	if segments > maxSegments {
		return 0, 0, validation(
			"1 validation error detected: Value '%d' at 'totalSegments' failed to satisfy constraint: Member must have value less than or equal to %d", segments, maxSegments)
	}
	if segment < 0 || segment >= segments {
		return 0, 0, validation(
			"1 validation error detected: Value '%d' at 'segment' failed to satisfy constraint: Member must have value less than or equal to %d", segment, segments-1)
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
	var p parsed
	var rng keyRange
	var start attr.Item
	for _, step := range []func() error{
		in.checkLimit,
		in.checkIndex,
		func() error { return in.needed(t) },
		func() (err error) { p, err = in.parse(t); return err },
		func() error { return table.scalarKey(p) },
		func() (err error) { rng, err = in.keyRange(table, p.key); return err },
		func() (err error) { start, err = in.start(table); return err },
		func() error {
			if start != nil && (!start[table.hash.name].Equal(rng.hash) || !rng.goesOn(start)) {
				return validation("The provided starting key does not match the range key predicate")
			}
			return nil
		},
		func() error { return checkFilter(table, p.filter) },
		in.checkSelect,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return func(t *tx) (any, error) {
		if err := t.check(table); err != nil {
			return nil, err
		}
		out := in.collect(t, table, table.query(rng, start), p)
		if out.LastEvaluatedKey != nil && (table.sort.name == "" || !rng.goesOn(out.LastEvaluatedKey)) {
			out.LastEvaluatedKey = nil
		}
		return out, nil
	}, nil
}

// checkFilter refuses a filter on the key, which the key condition is for.
func checkFilter(table *table, filter *expr.Cond) error {
	for _, k := range table.keyAttrs() {
		if filter.Uses(k.name) {
			return validation("Filter Expression can only contain non-primary key attributes: Primary key attribute: %s", k.name)
		}
	}
	return nil
}

// keyRange is a part of one partition, walked in one direction.
type keyRange struct {
	hash    attr.Value
	sort    expr.KeyPart // its Cond is nil for the whole partition
	forward bool
}

// goesOn reports whether the walk can have more items behind this key: not behind the last one that the condition
// includes.
func (r keyRange) goesOn(key attr.Item) bool {
	if !r.sort.Cond.Eval(key) {
		return false
	}
	end := -1
	switch {
	case r.sort.Operator == "BETWEEN" && r.forward:
		end = 1
	case r.sort.Operator == "BETWEEN", r.sort.Operator == "<=" && r.forward, r.sort.Operator == ">=" && !r.forward:
		end = 0
	}
	return end < 0 || !key[r.sort.Name].Equal(r.sort.Values[end])
}

// keyRange takes the key condition apart and checks its values against the table's key.
func (in *queryInput) keyRange(table *table, c *expr.Cond) (r keyRange, err error) {
	if c == nil {
		return r, validation("Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.")
	}
	r.forward = in.ScanIndexForward == nil || *in.ScanIndexForward
	parts, err := c.KeyParts()
	if err != nil {
		return r, validation("%s", err)
	}
	for _, part := range parts {
		if part.Name == table.hash.name && part.Operator != "=" || len(parts) > len(table.keyAttrs()) {
			return r, validation("Query key condition not supported")
		}
	}
	for _, part := range parts {
		for _, k := range table.keyAttrs() {
			for _, v := range part.Values {
				if part.Name == k.name && v.Str == "" && v.Kind == k.kind {
					return r, emptyKey(k)
				}
			}
		}
	}
	for _, part := range parts {
		key := table.hash
		switch part.Name {
		case table.hash.name:
			r.hash = part.Values[0]
		case table.sort.name:
			key, r.sort = table.sort, part
		default:
			return r, errMissedKey
		}
		for _, v := range part.Values {
			if v.Kind != key.kind {
				return r, validation(
					"One or more parameter values were invalid: Condition parameter type does not match schema type")
			}
		}
	}
	if r.hash.Kind == "" {
		return r, errMissedKey
	}
	for _, v := range r.sort.Values {
		if len(v.Str) > maxSortKey {
			return r, validation(
				"One or more parameter values were invalid: Aggregated size of all range keys has exceeded the size limit of %d bytes", maxSortKey)
		}
	}
	return r, nil
}

var errMissedKey = validation("Query condition missed key schema element")

// query goes over the items of a range behind the key start (nil: from the beginning).
func (t *table) query(r keyRange, start attr.Item) iter.Seq[attr.Item] {
	return func(yield func(attr.Item) bool) {
		p := t.parts[r.hash.Str]
		if p == nil {
			return
		}
		items := p.items
		if start != nil {
			i, ok := t.search(p, start[t.sort.name])
			switch {
			case !r.forward:
				items = items[:i]
			case ok:
				items = items[i+1:]
			default:
				items = items[i:]
			}
		}
		for i := range items {
			if !r.forward {
				i = len(items) - 1 - i
			}
			if r.sort.Cond.Eval(items[i]) && !yield(items[i]) {
				return
			}
		}
	}
}
