package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
)

// worker is one task of the service.
type worker struct {
	settings
	log      *slog.Logger
	db       *dynamodb.Client
	election *dynalock.Election
	term     atomic.Pointer[dynalock.Lock] // while this worker leads
	heard    atomic.Int64                  // when DynamoDB last answered, by UnixNano
}

// lead is the leader's work. It returns as soon as ctx ends: others lead only after that, and ECS does not wait long.
func (w *worker) lead(ctx context.Context, term *dynalock.Lock) error {
	w.term.Store(term)
	defer w.term.Store(nil)
	log := w.log.With("token", term.Token())
	log.Info("leading")
	defer func() { log.Info("stopped leading", "cause", context.Cause(ctx)) }()
	tick := time.NewTicker(w.tick)
	defer tick.Stop()
	for {
		n, err := w.work(ctx, term)
		switch {
		case err == nil:
			log.Info("worked", "n", n)
		case ctx.Err() != nil:
			return err
		default: // the next tick tries again
			log.Warn("work failed", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// work does the next piece of work, number n: it counts one further in the ledger. The transaction commits only while
// this term lasts, so a leader that was frozen, or whose request was, changes nothing any more.
func (w *worker) work(ctx context.Context, term *dynalock.Lock) (n int, err error) {
	key := map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: w.namespace + "ledger"}}
	out, err := w.db.GetItem(ctx, &dynamodb.GetItemInput{TableName: &w.table, Key: key, ConsistentRead: new(true)})
	if err != nil {
		return 0, err
	}
	condition, last := "attribute_not_exists(n)", "0"
	if v, ok := out.Item["n"].(*types.AttributeValueMemberN); ok {
		condition, last = "n = :last", v.Value
	}
	if n, err = strconv.Atoi(last); err != nil {
		return 0, fmt.Errorf("the ledger is no ledger: %w", err)
	}
	n++
	values := map[string]types.AttributeValue{
		":n":    &types.AttributeValueMemberN{Value: strconv.Itoa(n)},
		":term": &types.AttributeValueMemberN{Value: strconv.FormatUint(term.Token(), 10)},
	}
	if n > 1 {
		values[":last"] = &types.AttributeValueMemberN{Value: last}
	}
	return n, term.Transact(ctx, types.TransactWriteItem{Update: &types.Update{
		TableName: &w.table, Key: key, ConditionExpression: &condition,
		UpdateExpression: new("SET n = :n, term = :term"), ExpressionAttributeValues: values,
	}})
}

// overdue is how long a worker may be without a sign of DynamoDB before it calls itself unwell. A leader loses its
// lock at four fifths of the lease.
func (w *worker) overdue() time.Duration { return w.lease / 2 }

// health is nil while the leader's lease is renewed, or while a worker that does not lead would hear that it may.
func (w *worker) health() error {
	if term := w.term.Load(); term != nil {
		trusted := w.lease - w.lease/5 // the default SafetyMargin
		switch {
		case !term.Held():
			return errors.New("the lease is over")
		case time.Until(term.Deadline()) < trusted-w.overdue():
			return errors.New("the renewal of the lease is overdue")
		}
	}
	if silence := time.Since(time.Unix(0, w.heard.Load())); silence > w.overdue() {
		return fmt.Errorf("DynamoDB has not answered for %v", silence.Round(time.Millisecond))
	}
	return nil
}
