package engine

import (
	"iter"
	"slices"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/expr"
)

// page are the parameters that Query and Scan share.
type page struct {
	common
	legacy
	placeholders
	IndexName            *string
	ConsistentRead       bool
	Limit                *int
	ExclusiveStartKey    wireItem
	FilterExpression     *string
	ProjectionExpression *string
	Select               string
}

type pageOutput struct {
	Items            *[]attr.Item `json:",omitempty"`
	Count            int
	ScannedCount     int
	LastEvaluatedKey attr.Item `json:",omitempty"`
	ConsumedCapacity *consumed `json:",omitempty"`
}

const maxPage = 1 << 20

func (in *page) check(key *string) (p parsed, start attr.Item, err error) {
	if err = checkTableName(in.TableName); err != nil {
		return p, nil, err
	}
	if err = in.legacy.check(); err != nil {
		return p, nil, err
	}
	if in.IndexName != nil {
		return p, nil, validation("The table does not have the specified index: %s", *in.IndexName)
	}
	if in.Limit != nil && *in.Limit < 1 {
		return p, nil, validation("Limit must be greater than or equal to 1")
	}
	if p, err = in.parse(texts{key: key, filter: in.FilterExpression, projection: in.ProjectionExpression}); err != nil {
		return p, nil, err
	}
	if in.ExclusiveStartKey != nil {
		start, err = attr.WireItem(in.ExclusiveStartKey)
	}
	return p, start, err
}

// collect reads items into one page: up to Limit items or 1 MB are looked at, filtered or not.
func (in *page) collect(t *tx, table *table, items iter.Seq[attr.Item], p parsed) pageOutput {
	var out pageOutput
	found := []attr.Item{}
	size := 0
	var last attr.Item
	for item := range items {
		if in.Limit != nil && out.ScannedCount == *in.Limit || size >= maxPage {
			out.LastEvaluatedKey = table.keyOf(last)
			break
		}
		last = item
		size += item.Size()
		out.ScannedCount++
		if !p.filter.Eval(item) {
			continue
		}
		out.Count++
		if p.projection != nil {
			item = expr.Project(item, p.projection)
		}
		found = append(found, item)
	}
	if in.Limit != nil && out.ScannedCount == *in.Limit && last != nil {
		out.LastEvaluatedKey = table.keyOf(last)
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
	page
	Segment, TotalSegments *int
}

func (in *scanInput) prepare(c *Call) (func(*tx) (any, error), error) {
	p, start, err := in.check(nil)
	if err != nil {
		return nil, err
	}
	segment, segments := 0, 1
	if in.Segment != nil && in.TotalSegments != nil {
		segment, segments = *in.Segment, *in.TotalSegments
	}
	c.Targets = []Target{{Table: *in.TableName}}
	return func(t *tx) (any, error) {
		table, err := t.table(*in.TableName)
		if err != nil {
			return nil, err
		}
		if start != nil {
			if err := table.checkKey(start); err != nil {
				return nil, validation("The provided starting key is invalid: %s", err)
			}
		}
		return in.collect(t, table, table.scan(start, segment, segments), p), nil
	}, nil
}

type queryInput struct {
	page
	KeyConditionExpression *string
	ScanIndexForward       *bool
}

func (in *queryInput) prepare(c *Call) (func(*tx) (any, error), error) {
	p, start, err := in.check(in.KeyConditionExpression)
	if err != nil {
		return nil, err
	}
	if p.key == nil {
		return nil, validation("Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.")
	}
	c.Targets = []Target{{Table: *in.TableName}}
	return func(t *tx) (any, error) {
		table, err := t.table(*in.TableName)
		if err != nil {
			return nil, err
		}
		hash, sort, err := p.key.Key(table.hash.name, table.sort.name)
		if err != nil {
			return nil, validation("%s", err)
		}
		part := table.parts[hash.Str]
		if part == nil {
			part = &partition{}
		}
		items := part.items
		backward := in.ScanIndexForward != nil && !*in.ScanIndexForward
		if start != nil {
			if err := table.checkKey(start); err != nil {
				return nil, validation("The provided starting key is invalid: %s", err)
			}
			i, ok := table.search(part, start[table.sort.name])
			switch {
			case backward:
				items = items[:i]
			case ok:
				items = items[i+1:]
			default:
				items = items[i:]
			}
		}
		matching := func(yield func(attr.Item) bool) {
			for i := range items {
				item := items[i]
				if backward {
					item = items[len(items)-1-i]
				}
				if sort.Eval(item) && !yield(item) {
					return
				}
			}
		}
		return in.collect(t, table, matching, p), nil
	}, nil
}

// selects are the values of Select that Query and Scan take.
var selects = []string{"", "ALL_ATTRIBUTES", "COUNT", "SPECIFIC_ATTRIBUTES"}

func validSelect(s string) bool { return slices.Contains(selects, s) }
