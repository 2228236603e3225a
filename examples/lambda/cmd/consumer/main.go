// Consumer is a Lambda function behind an SQS queue. It works on the messages of one order one after the other,
// whatever instances they come to. Messages of an order that another instance is working on go back to the queue
// until it is worth asking again.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/examples/lambda/invocation"
)

// remembered is for how long a message is known to be done: longer than SQS keeps any message.
const remembered = 15 * 24 * time.Hour

// payment is the body of a message.
type payment struct {
	Order  string `json:"order"`
	Amount int64  `json:"amount"` // cents
}

type consumer struct {
	*invocation.Instance
	queue *sqs.Client
	url   string
}

func main() {
	instance, err := invocation.New(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	url := os.Getenv("QUEUE_URL")
	if url == "" {
		log.Fatal("QUEUE_URL is empty, allowed: the URL of the queue that the messages come from")
	}
	lambda.Start(consumer{instance, sqs.NewFromConfig(instance.Config), url}.handle)
}

// handle answers with the messages that are to be delivered again. Those of one order need one lock.
func (c consumer) handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	var answer events.SQSEventResponse
	again := func(messages ...events.SQSMessage) {
		for _, m := range messages {
			answer.BatchItemFailures = append(answer.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
		}
	}
	var orders []string
	messages := map[string][]events.SQSMessage{}
	for _, m := range event.Records {
		var p payment
		if err := json.Unmarshal([]byte(m.Body), &p); err != nil || p.Order == "" {
			slog.ErrorContext(ctx, "message is no payment", "message", m.MessageId, "error", err)
			again(m) // until it ends up in the dead letter queue
			continue
		}
		if messages[p.Order] == nil {
			orders = append(orders, p.Order)
		}
		messages[p.Order] = append(messages[p.Order], m)
	}
	for _, order := range orders {
		rest, err := c.work(ctx, order, messages[order])
		if err == nil {
			continue
		}
		again(rest...)
		var held *dynalock.HeldError
		if errors.As(err, &held) {
			c.hide(ctx, rest, held.RetryAfter)
		} else {
			slog.ErrorContext(ctx, "payments of an order failed", "order", order, "error", err)
		}
	}
	return answer, nil
}

// work applies the messages of one order under its lock. With an error come those that are not done.
func (c consumer) work(ctx context.Context, order string, messages []events.SQSMessage) ([]events.SQSMessage, error) {
	lease, err := dynalock.LeaseUntilDeadline(ctx)
	if err != nil {
		return messages, err
	}
	l, err := c.Locks.TryAcquire(ctx, order, func(o *dynalock.AcquireOptions) {
		o.Lease, o.NoHeartbeat = lease, true // trusted until the deadline; nothing runs in the background
		o.Reason = invocation.Reason(ctx)
	})
	if err != nil {
		return messages, err
	}
	defer func() { // before the answer: what comes after it may run in an hour
		if err := l.Release(ctx); err != nil {
			slog.WarnContext(ctx, "lock was not given back", "order", order, "error", err)
		}
	}()
	working, cancel := dynalock.BeforeDeadline(ctx)
	defer cancel()
	for i, m := range messages {
		if err := c.apply(working, l, m); err != nil {
			return messages[i:], err
		}
	}
	return nil, nil
}

// apply adds one payment to its order, once: SQS may deliver a message twice, and an instance may die after this
// write. The lock makes reading and writing one step; where it is lost, nothing is written.
func (c consumer) apply(ctx context.Context, l *dynalock.Lock, m events.SQSMessage) error {
	var p payment
	if err := json.Unmarshal([]byte(m.Body), &p); err != nil {
		return err
	}
	order := map[string]types.AttributeValue{"kind": text("order"), "id": text(p.Order)}
	found, err := c.DB.GetItem(ctx, &dynamodb.GetItemInput{TableName: &c.Orders, Key: order, ConsistentRead: new(true)})
	if err != nil {
		return err
	}
	paid, err := integer(found.Item["paid"])
	if err != nil {
		return fmt.Errorf("order %q: %w", p.Order, err)
	}
	order["paid"], order["token"] = number(paid+p.Amount), number(int64(l.Token()))
	done := map[string]types.AttributeValue{
		"kind": text("message"), "id": text(m.MessageId), "ttl": number(time.Now().Add(remembered).Unix()),
	}
	err = l.Transact(ctx,
		types.TransactWriteItem{Put: &types.Put{TableName: &c.Orders, Item: order}},
		types.TransactWriteItem{Put: &types.Put{
			TableName: &c.Orders, Item: done,
			ConditionExpression: new("attribute_not_exists(kind)"),
		}},
	)
	var cancelled *types.TransactionCanceledException
	if errors.As(err, &cancelled) && code(cancelled, 1) == "ConditionalCheckFailed" {
		return nil // it was applied before
	}
	return err
}

// hide keeps messages from being delivered until it is worth asking again. One that cannot be hidden comes back
// after the queue's own visibility timeout: SQS allows 12 hours since it was received in all.
func (c consumer) hide(ctx context.Context, messages []events.SQSMessage, wait time.Duration) {
	for _, m := range messages {
		_, err := c.queue.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
			QueueUrl: &c.url, ReceiptHandle: &m.ReceiptHandle, VisibilityTimeout: seconds(wait),
		})
		if err != nil {
			slog.WarnContext(ctx, "message was not hidden", "message", m.MessageId, "error", err)
		}
	}
}

// seconds is a visibility timeout of at least d: SQS takes whole seconds, 0 to 43200.
func seconds(d time.Duration) int32 {
	const most = 12 * time.Hour
	return int32((min(max(d, 0), most) + time.Second - 1) / time.Second)
}

func code(e *types.TransactionCanceledException, item int) string {
	if item >= len(e.CancellationReasons) || e.CancellationReasons[item].Code == nil {
		return ""
	}
	return *e.CancellationReasons[item].Code
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// integer reads a number; nothing there is 0.
func integer(v types.AttributeValue) (int64, error) {
	switch v := v.(type) {
	case nil:
		return 0, nil
	case *types.AttributeValueMemberN:
		return strconv.ParseInt(v.Value, 10, 64)
	}
	return 0, fmt.Errorf("%T where a number was expected", v)
}
