// Job is a Lambda function that a schedule starts. Once per tick, however often and however late the tick is
// delivered, it counts the orders and writes a report.
package main

import (
	"context"
	"errors"
	"log"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/examples/lambda/invocation"
)

// tick is what the schedule sends: the time that the job was due, the same in each delivery.
type tick struct {
	Time time.Time `json:"time"`
}

type job struct{ *invocation.Instance }

func main() {
	instance, err := invocation.New(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	lambda.Start(job{instance}.handle)
}

// handle runs the job if nobody has run it for this tick, and otherwise returns what became of that run. While
// another instance is at it, the error matches ErrHeld and Lambda delivers the tick again later: a delivery is
// answered with success only when the tick is known to be over.
func (j job) handle(ctx context.Context, t tick) (dynalock.Run, error) {
	if t.Time.IsZero() {
		return dynalock.Run{}, errors.New("the event has no time, allowed: {\"time\": \"2026-11-21T12:00:00Z\"}")
	}
	lease, err := dynalock.LeaseUntilDeadline(ctx)
	if err != nil {
		return dynalock.Run{}, err
	}
	period := t.Time.UTC().Format(time.RFC3339)
	return j.Locks.Once(ctx, "report", period, func(working context.Context, l *dynalock.Lock) error {
		working, cancel := dynalock.BeforeDeadline(working)
		defer cancel()
		err := j.report(working, l, period)
		if err != nil && working.Err() != nil {
			// Out of time is no result. A run that gives its lock back is not finished, and the next delivery begins it again.
			return errors.Join(err, l.Release(ctx))
		}
		return err
	}, func(o *dynalock.OnceOptions) {
		o.Lease, o.NoHeartbeat = lease, true // trusted until the deadline; nothing runs in the background
		o.NoWait = true                      // a waiting function costs as much as a working one
		o.Reason = invocation.Reason(ctx)
	})
}

// report counts the orders and stores their number, guarded by the lock: an instance that comes too late writes
// nothing.
func (j job) report(ctx context.Context, l *dynalock.Lock, period string) error {
	orders, err := j.count(ctx)
	if err != nil {
		return err
	}
	return l.Transact(ctx, types.TransactWriteItem{Update: &types.Update{
		TableName: &j.Orders,
		Key: map[string]types.AttributeValue{
			"kind": &types.AttributeValueMemberS{Value: "report"}, "id": &types.AttributeValueMemberS{Value: period},
		},
		// runs is above 1 only where an instance died between this write and the end of its run.
		UpdateExpression:         new("SET #orders = :orders, #token = :token ADD #runs :one"),
		ExpressionAttributeNames: map[string]string{"#orders": "orders", "#token": "token", "#runs": "runs"},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":orders": number(orders), ":token": number(l.Token()), ":one": number(1),
		},
	}})
}

func (j job) count(ctx context.Context) (uint64, error) {
	pages := dynamodb.NewQueryPaginator(j.DB, &dynamodb.QueryInput{
		TableName: &j.Orders, Select: types.SelectCount, KeyConditionExpression: new("kind = :kind"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":kind": &types.AttributeValueMemberS{Value: "order"}},
	})
	orders := uint64(0)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return 0, err
		}
		orders += uint64(page.Count)
	}
	return orders, nil
}

func number(n uint64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatUint(n, 10)}
}
