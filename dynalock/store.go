package dynalock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/dynalock/dynalock/heartbeat"
)

// DynamoDB is the part of [*dynamodb.Client] that this package calls. Lock requests are made with the SDK's
// retries switched off: the retry of a conditional write that was applied fails its own condition. An answer over HTTP
// without a request id, which every answer of DynamoDB has, is not believed: it is [ErrStore]. DeleteItem is not called:
// the items of locks are deleted by their TTL.
type DynamoDB interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	DescribeTimeToLive(context.Context, *dynamodb.DescribeTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error)
	UpdateTimeToLive(context.Context, *dynamodb.UpdateTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateTimeToLiveOutput, error)
}

var _ DynamoDB = (*dynamodb.Client)(nil)

// once switches the SDK's retries off for a request.
func once(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} }

// verdict is what an answer, or its absence, says about one attempt of a conditional write. Only applied and refused
// speak of the item. The others are about this attempt alone: somebody on the way, such as a proxy, may have repeated it
// and passed the second answer on, so a version that was ever sent may be in the item.
type verdict int

const (
	inDoubt verdict = iota // no answer, or one that does not say: it may have been applied, or be applied later
	applied
	refused  // the condition did not hold
	rejected // an answer that says not applied, worth another attempt: throttled, conflicting, not sent
	fatal    // the same, and the next attempt will fare no better
	declined // nobody sent it
)

// answer is the outcome of one request.
type answer struct {
	verdict verdict
	item    item              // ALL_NEW when applied, the refusing item when refused
	sent    heartbeat.Reading // just before the request was sent
	got     heartbeat.Reading // just after the answer came in
	err     error
}

// judge says what an error means for the write.
func judge(err error) verdict {
	if err == nil {
		return applied
	}
	var refusal *types.ConditionalCheckFailedException
	if errors.As(err, &refusal) {
		return refused
	}
	if unsent(err) {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return rejected // credentials or a connection took too long
		}
		var netErr *net.OpError
		if errors.As(err, &netErr) {
			return rejected
		}
		return fatal
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return inDoubt
	}
	switch api.ErrorCode() {
	case "TransactionConflictException", "TransactionInProgressException", "ReplicatedWriteConflictException",
		"ProvisionedThroughputExceededException", "ThrottlingException", "Throttling", "ThrottledException", "RequestLimitExceeded",
		"TooManyRequestsException", "RequestThrottled", "RequestThrottledException", "SlowDown", // a proxy's
		"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture": // the SDK has taken note of the skew
		return rejected
	}
	var resp *awshttp.ResponseError
	switch {
	case errors.As(err, &resp):
		switch status := resp.HTTPStatusCode(); {
		case status == http.StatusTooManyRequests:
			return rejected
		case status >= 400 && status < 500 && status != http.StatusRequestTimeout:
			return fatal
		}
	case api.ErrorFault() == smithy.FaultClient || hopeless[api.ErrorCode()]: // a wrapper's, without a response
		return fatal
	}
	return inDoubt
}

// hopeless are the codes of errors that the next attempt meets again.
var hopeless = map[string]bool{
	"ResourceNotFoundException": true, "AccessDeniedException": true, "ValidationException": true, "UnrecognizedClientException": true,
	"InvalidSignatureException": true, "ExpiredTokenException": true, "MissingAuthenticationTokenException": true, "IncompleteSignatureException": true,
}

// unsent reports errors that came up before the request left: no credentials, no endpoint, no connection.
func unsent(err error) bool {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return true
	}
	var resp *awshttp.ResponseError
	var op *smithy.OperationError
	if !errors.As(err, &op) || errors.As(err, &resp) && resp.HTTPStatusCode() != 0 && !strings.Contains(err.Error(), "get identity") {
		return false
	}
	text := op.Err.Error()
	for _, stage := range []string{"get identity", "resolve auth scheme", "ResolveEndpointV2", "failed to resolve service endpoint"} {
		if strings.Contains(text, stage) {
			return true
		}
	}
	return false
}

// hint says what to do about an error whose cause is known.
func (c *Client) hint(err error) string {
	var api smithy.APIError
	text := fmt.Sprint(err)
	switch {
	case strings.Contains(text, "Missing Region"):
		return "no Region is configured: set AWS_REGION or a Region in the profile"
	case strings.Contains(text, "get identity"):
		return "no AWS credentials were found: set AWS_PROFILE, run with a role, or see the SDK's credential chain"
	case !errors.As(err, &api):
		return ""
	}
	switch api.ErrorCode() {
	case "ResourceNotFoundException":
		return "the table does not exist in this account and Region: create it (dynalock.CreateTable, dynalock-admin table create) or check AWS_REGION"
	case "AccessDeniedException":
		return "the role lacks a permission on the table"
	case "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException", "MissingAuthenticationTokenException", "IncompleteSignatureException":
		return "the AWS credentials are not valid (any more)"
	case "ValidationException":
		if strings.Contains(text, "key") {
			return fmt.Sprintf("the table's key attributes are not those of the options (partition key %q, sort key %q): see dynalock-admin table check", c.opt.PartitionKey, c.opt.SortKey)
		}
	}
	return ""
}

// storeError wraps what the SDK said.
func (c *Client) storeError(op, key string, err error) error {
	return &StoreError{Op: op, Table: c.table, Key: key, Hint: c.hint(err), Err: err}
}

// request makes one attempt of a conditional write, bounded by the timeout.
func (c *Client) request(ctx context.Context, timeout time.Duration, send func(context.Context) (item, middleware.Metadata, error)) answer {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a := answer{sent: c.opt.clock.Now()}
	var meta middleware.Metadata
	a.item, meta, a.err = send(ctx)
	a.got = c.opt.clock.Now()
	if a.err == nil && isStranger(meta) {
		a.err = errStranger
	}
	a.verdict = judge(a.err)
	c.service.observe(a.sent.Wall, a.got.Wall, serverTime(meta, a.err), skewed(a.err))
	var refusal *types.ConditionalCheckFailedException
	if errors.As(a.err, &refusal) {
		a.item = refusal.Item
	}
	return a
}

// errStranger: something else answered, such as a proxy that asks for a login. Nothing is known of the write.
var errStranger = errors.New("what answered is no DynamoDB: look at the endpoint and at proxies")

// isStranger tells an answer over HTTP that does not bear what every answer of DynamoDB does, whatever the protocol. The
// SDK takes an empty one for success. What a wrapper makes up is not judged.
func isStranger(meta middleware.Metadata) bool {
	_, named := awsmiddleware.GetRequestIDMetadata(meta)
	return !named && awsmiddleware.GetRawResponse(meta) != nil
}

// update makes one attempt of an UpdateItem.
func (c *Client) update(ctx context.Context, timeout time.Duration, in *dynamodb.UpdateItemInput) answer {
	return c.request(ctx, timeout, func(ctx context.Context) (item, middleware.Metadata, error) {
		out, err := c.db.UpdateItem(ctx, in, once)
		if err != nil {
			return nil, middleware.Metadata{}, err
		}
		return out.Attributes, out.ResultMetadata, nil
	})
}

// transact makes one attempt of a TransactWriteItems.
func (c *Client) transact(ctx context.Context, timeout time.Duration, in *dynamodb.TransactWriteItemsInput) answer {
	return c.request(ctx, timeout, func(ctx context.Context) (item, middleware.Metadata, error) {
		out, err := c.db.TransactWriteItems(ctx, in, once)
		if err != nil {
			return nil, middleware.Metadata{}, err
		}
		return nil, out.ResultMetadata, nil
	})
}

// read looks at the item. Polling reads are eventually consistent, at half the price: the write decides.
func (c *Client) read(ctx context.Context, timeout time.Duration, key string, consistent bool) answer {
	return c.request(ctx, timeout, func(ctx context.Context) (item, middleware.Metadata, error) {
		out, err := c.db.GetItem(ctx, &dynamodb.GetItemInput{TableName: &c.table, Key: c.keyOf(key), ConsistentRead: &consistent}, once)
		if err != nil {
			return nil, middleware.Metadata{}, err
		}
		return out.Item, out.ResultMetadata, nil
	})
}
