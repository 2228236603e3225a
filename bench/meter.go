package main

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"
)

// usage is what clients asked of their server.
type usage struct {
	requests, writes      int
	readUnits, writeUnits float64
}

func (u usage) minus(v usage) usage {
	return usage{u.requests - v.requests, u.writes - v.writes, u.readUnits - v.readUnits, u.writeUnits - v.writeUnits}
}

// meter adds up the usage of all clients of a contender.
type meter struct {
	mu   sync.Mutex
	used usage
}

func (m *meter) read() usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

func (m *meter) add(u usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used.requests += u.requests
	m.used.writes += u.writes
	m.used.readUnits += u.readUnits
	m.used.writeUnits += u.writeUnits
}

func (m *meter) request(write bool) {
	u := usage{requests: 1}
	if write {
		u.writes = 1
	}
	m.add(u)
}

// reads are DynamoDB's operations that write nothing.
var reads = []string{"GetItem", "BatchGetItem", "TransactGetItems", "Query", "Scan"}

func (m *meter) sent(operation string, _ time.Duration) {
	m.request(!slices.Contains(reads, operation))
}

// units makes a client of the SDK ask for the units of every request, and adds up what the server says. A refused
// condition is charged, too, and no answer says so: it counts as one unit, which is what an item below 1 KB costs. In a
// transaction each item counts as two.
func (m *meter) units(o *dynamodb.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("CountUnits", m.count), middleware.Before)
	})
}

func (m *meter) count(
	ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
) (middleware.InitializeOutput, middleware.Metadata, error) {
	in.Parameters = askForUnits(in.Parameters)
	out, data, err := next.HandleInitialize(ctx, in)
	var u usage
	if err != nil {
		u.writeUnits = refusedUnits(in.Parameters, err)
		m.add(u)
		return out, data, err
	}
	units := consumed(out.Result)
	if slices.Contains(reads, strings.TrimSuffix(reflect.TypeOf(out.Result).Elem().Name(), "Output")) {
		u.readUnits = units
	} else {
		u.writeUnits = units
	}
	m.add(u)
	return out, data, nil
}

// askForUnits returns a copy of an operation's input that asks for the units consumed.
func askForUnits(input any) any {
	given := reflect.ValueOf(input)
	if given.Kind() != reflect.Pointer || given.IsNil() {
		return input
	}
	asking := reflect.New(given.Type().Elem())
	asking.Elem().Set(given.Elem())
	field := asking.Elem().FieldByName("ReturnConsumedCapacity")
	if !field.IsValid() {
		return input
	}
	field.Set(reflect.ValueOf(types.ReturnConsumedCapacityTotal))
	return asking.Interface()
}

// consumed is what an operation's output says that it cost.
func consumed(output any) float64 {
	field := reflect.ValueOf(output).Elem().FieldByName("ConsumedCapacity")
	if !field.IsValid() {
		return 0
	}
	var all []types.ConsumedCapacity
	switch capacity := field.Interface().(type) {
	case *types.ConsumedCapacity:
		if capacity != nil {
			all = append(all, *capacity)
		}
	case []types.ConsumedCapacity:
		all = capacity
	}
	units := 0.0
	for _, one := range all {
		if one.CapacityUnits != nil {
			units += *one.CapacityUnits
		}
	}
	return units
}

func refusedUnits(input any, err error) float64 {
	if refused := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &refused) {
		return 1
	}
	transaction, ok := input.(*dynamodb.TransactWriteItemsInput)
	if canceled := (*types.TransactionCanceledException)(nil); ok && errors.As(err, &canceled) {
		return float64(2 * len(transaction.TransactItems))
	}
	return 0
}
