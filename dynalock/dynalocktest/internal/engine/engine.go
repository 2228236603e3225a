// Package engine is the database behind the embedded server: tables, items and the operations on them, without any transport,
// fault or wait. Every operation applies atomically under one short lock.
package engine

import (
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// Engine holds the tables. Its clock is time.Now.
type Engine struct {
	mu     sync.Mutex
	tables map[string]*table
	tokens map[string]idempotent // by client request token
	seq    int64
}

// New makes an engine without tables.
func New() *Engine {
	return &Engine{tables: map[string]*table{}, tokens: map[string]idempotent{}}
}

// Call is a request that has been read and checked as far as it can be without the tables. It may be applied more than once.
type Call struct {
	Operation string
	Targets   []Target
	engine    *Engine
	run       func(*tx) (any, error)
}

// Target is an item that a call names, or with an empty key a whole table.
type Target struct {
	Table string
	item  attr.Item // the key, or an item that contains it
}

// Applied is what one call did, told in the order in which calls were applied.
type Applied struct {
	Seq         int64
	Read, Write float64 // capacity units consumed, also by a refusal
	Writes      []Write
	Err         *Error
}

// Write is one item changed: nil is an item that does not exist.
type Write struct {
	Table, Key string
	Old, New   attr.Item
}

// Prepare reads a request. The error is an *Error.
func (e *Engine) Prepare(operation string, body []byte) (*Call, *Error) {
	prepare, ok := operations[operation]
	if !ok {
		return nil, serviceError("UnknownOperationException", "An unknown operation was requested.")
	}
	c := &Call{Operation: operation, engine: e}
	if err := prepare(c, body); err != nil {
		return nil, asError(err)
	}
	return c, nil
}

func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return validation("%s", err)
}

// Key is the partition key's value in a target, as text; "" if the target has none or its table does not exist.
func (e *Engine) Key(t Target) string {
	if len(t.item) == 1 {
		for _, v := range t.item {
			return v.Str
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if table := e.tables[t.Table]; table != nil {
		return t.item[table.hash.name].Str
	}
	return ""
}

// Apply executes the call. observe runs under the engine's lock, so that what it sees is in the order of application; it must be
// short and must not call the engine.
func (c *Call) Apply(observe func(Applied)) (status int, body []byte) {
	answer, err := c.apply(observe)
	if err != nil {
		return err.Status, err.Body()
	}
	body, jsonErr := json.Marshal(answer)
	if jsonErr != nil {
		err := &Error{Status: 500, Code: "InternalServerError", Message: jsonErr.Error()}
		return err.Status, err.Body()
	}
	return 200, body
}

func (c *Call) apply(observe func(Applied)) (any, *Error) {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	t := &tx{engine: c.engine, now: time.Now()}
	answer, err := c.run(t)
	c.engine.seq++
	applied := Applied{Seq: c.engine.seq, Read: t.read, Write: t.write, Writes: t.writes}
	if err != nil {
		applied.Err = asError(err)
	}
	if observe != nil {
		observe(applied)
	}
	return answer, applied.Err
}

// tx is one application of one call, under the lock.
type tx struct {
	engine      *Engine
	now         time.Time
	read, write float64
	writes      []Write
}

func (t *tx) table(name string) (*table, error) {
	if table := t.engine.tables[name]; table != nil {
		return table, nil
	}
	return nil, serviceError("ResourceNotFoundException", "Cannot do operations on a non-existent table")
}

// operation reads a request's body into c.
type operation func(c *Call, body []byte) error

// input is the decoded body of an operation: prepare checks it and gives what is to run under the lock.
type input[T any] interface {
	*T
	prepare(c *Call) (run func(*tx) (any, error), err error)
}

func decode[T any, P input[T]](c *Call, body []byte) error {
	in := P(new(T))
	if err := json.Unmarshal(body, in); err != nil {
		return serviceError("SerializationException", "%s", err)
	}
	run, err := in.prepare(c)
	c.run = run
	return err
}

var operations = map[string]operation{
	"CreateTable":        decode[createTableInput],
	"DescribeTable":      decode[describeTableInput],
	"DeleteTable":        decode[deleteTableInput],
	"GetItem":            decode[getItemInput],
	"PutItem":            decode[putItemInput],
	"UpdateItem":         decode[updateItemInput],
	"DeleteItem":         decode[deleteItemInput],
	"Query":              decode[queryInput],
	"Scan":               decode[scanInput],
	"TransactWriteItems": decode[transactWriteInput],
}
