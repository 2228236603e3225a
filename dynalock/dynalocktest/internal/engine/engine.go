// Package engine is the database behind the embedded server: tables, items and the operations on them, without any
// transport, fault or wait. Every operation applies atomically under one short lock.
package engine

import (
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// Engine holds the tables.
type Engine struct {
	now    func() time.Time
	mu     sync.Mutex
	tables map[string]*table
	tokens tokens
	seq    int64
}

// New makes an engine without tables, whose clock is now.
func New(now func() time.Time) *Engine { return &Engine{now: now, tables: map[string]*table{}} }

// Call is a request whose body has been read. It may be applied more than once.
type Call struct {
	engine *Engine
	in     input
}

// input is the body of one operation.
type input interface {
	// targets lists what the request names, as far as can be told without checking it.
	targets(e *Engine) []Target
	// plan checks the request, in the order in which the service looks for mistakes, and gives what is to run under the
	// lock. It may look tables up but changes nothing.
	plan(e *Engine) (run func(*tx) (any, error), err error)
}

// operations makes an empty input for each operation.
var operations = map[string]func() input{
	"BatchGetItem":              func() input { return new(batchGetInput) },
	"BatchWriteItem":            func() input { return new(batchWriteInput) },
	"CreateTable":               func() input { return new(createTableInput) },
	"DeleteItem":                func() input { return new(deleteItemInput) },
	"DeleteTable":               func() input { return new(deleteTableInput) },
	"DescribeContinuousBackups": func() input { return new(describeBackupsInput) },
	"DescribeLimits":            func() input { return new(describeLimitsInput) },
	"DescribeTable":             func() input { return new(describeTableInput) },
	"DescribeTimeToLive":        func() input { return new(describeTTLInput) },
	"GetItem":                   func() input { return new(getItemInput) },
	"ListTables":                func() input { return new(listTablesInput) },
	"ListTagsOfResource":        func() input { return new(listTagsInput) },
	"PutItem":                   func() input { return new(putItemInput) },
	"Query":                     func() input { return new(queryInput) },
	"Scan":                      func() input { return new(scanInput) },
	"TagResource":               func() input { return new(tagInput) },
	"TransactGetItems":          func() input { return new(transactGetInput) },
	"TransactWriteItems":        func() input { return new(transactWriteInput) },
	"UntagResource":             func() input { return new(untagInput) },
	"UpdateContinuousBackups":   func() input { return new(updateBackupsInput) },
	"UpdateItem":                func() input { return new(updateItemInput) },
	"UpdateTable":               func() input { return new(updateTableInput) },
	"UpdateTimeToLive":          func() input { return new(updateTTLInput) },
}

// Prepare reads the body of a request.
func (e *Engine) Prepare(operation string, body []byte) (*Call, *Error) {
	newInput, ok := operations[operation]
	if !ok {
		return nil, serviceError("UnknownOperationException", "An unknown operation was requested.")
	}
	in := newInput()
	if err := json.Unmarshal(body, in); err != nil {
		return nil, serviceError("SerializationException", "%s", err)
	}
	return &Call{e, in}, nil
}

// Target is an item that a request names, or with an empty Key a whole table.
type Target struct{ Table, Key string }

// Targets lists what the call names. Key is the partition key's value as text.
func (c *Call) Targets() []Target { return c.in.targets(c.engine) }

// Applied is what one call did.
type Applied struct {
	Read, Write float64 // capacity units consumed, also by a refusal
	Writes      []Write
	Err         *Error
}

// Write is one item changed: nil is an item that does not exist.
type Write struct {
	Table, Key string
	ID         string // of the item among those of all tables
	Old, New   attr.Item
}

// Apply executes the call. observe runs under the engine's lock, so that calls are observed in the order in which they
// were applied; it must be short and must not call the engine.
func (c *Call) Apply(observe func(Applied)) (status int, body []byte) {
	answer, failed := c.apply(observe)
	if failed != nil {
		return failed.Status, failed.Body()
	}
	body, err := json.Marshal(answer)
	if err != nil {
		failed = &Error{Status: 500, Code: "InternalServerError", Message: err.Error()}
		return failed.Status, failed.Body()
	}
	return 200, body
}

func (c *Call) apply(observe func(Applied)) (answer any, failed *Error) {
	run, err := c.in.plan(c.engine)
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	t := &tx{engine: c.engine, now: c.engine.now()}
	if err == nil {
		answer, err = run(t)
	}
	if err != nil {
		failed = asError(err)
	}
	observe(Applied{Read: t.read, Write: t.write, Writes: t.writes, Err: failed})
	return answer, failed
}

func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return validation("%s", err)
}

// tx is one application of one call, under the lock.
type tx struct {
	engine      *Engine
	now         time.Time
	read, write float64
	writes      []Write
}

// table finds a table by name or ARN. Its name and key never change, so they may be read without the lock.
func (e *Engine) table(name *string) (*table, error) {
	short, err := tableArgument(name)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if t := e.tables[short]; t != nil {
		return t, nil
	}
	return nil, errNoTable
}

// check refuses a table that has gone since the call was planned.
func (t *tx) check(table *table) error {
	if t.engine.tables[table.name] != table {
		return errNoTable
	}
	return nil
}
