package dynalock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/dynalock/dynalock/heartbeat"
)

// DynamoDB is the part of [*dynamodb.Client] that this package calls. Lock requests are made with the SDK's retries
// switched off, because the retry of a conditional write that was applied fails its own condition. Every answer of
// DynamoDB has a request id and a checksum. An answer over HTTP that has neither is not believed: it is [ErrStore].
type DynamoDB interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput,
		...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
	CreateTable(context.Context, *dynamodb.CreateTableInput,
		...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput,
		...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	DescribeTimeToLive(context.Context, *dynamodb.DescribeTimeToLiveInput,
		...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error)
	UpdateTimeToLive(context.Context, *dynamodb.UpdateTimeToLiveInput,
		...func(*dynamodb.Options)) (*dynamodb.UpdateTimeToLiveOutput, error)
}

var _ DynamoDB = (*dynamodb.Client)(nil)

// store is the table as a client sees it: its requests, what their answers mean, and DynamoDB's time.
type store struct {
	db          DynamoDB
	table       string
	opt         *Options
	credentials aws.CredentialsProvider // of the SDK's client; nil: that finds them itself
	tasks       *tasks
	retrying    func(context.Context, Event) // called for a request that failed and is retried
	service     serviceClock
	known       service
}

// once switches the SDK's retries off for a request.
func once(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} }

// verdict is what an answer, or its absence, says about one attempt of a conditional write. Only applied and refused
// speak of the item. The others are about this attempt alone: a proxy on the way may have repeated the request and
// passed the second answer on, so a version that was ever sent may be in the item.
type verdict int

const (
	inDoubt verdict = iota // no answer, or one that does not say: the write may have been applied, or be applied later
	applied
	refused  // the condition did not hold
	rejected // the answer says that it was not applied, and a retry may help: throttled, conflicting, not sent
	fatal    // the answer says that it was not applied, and a retry will not help
	declined // it was not sent
)

// answer is the outcome of one request.
type answer struct {
	verdict verdict
	item    item              // ALL_NEW when applied, the item that refused the write when refused
	sent    heartbeat.Reading // just before the request was sent
	got     heartbeat.Reading // just after the answer came in
	err     error
	crash   *PanicError // a panic of the caller's own code
}

// verdictOf says what an error means for the write.
func verdictOf(err error) verdict {
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
		"ProvisionedThroughputExceededException", "ThrottlingException", "Throttling", "ThrottledException",
		"RequestLimitExceeded",
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

// hopeless are the codes of errors that a retry meets again.
var hopeless = map[string]bool{
	"ResourceNotFoundException": true, "AccessDeniedException": true, "ValidationException": true,
	"UnrecognizedClientException": true,
	"InvalidSignatureException":   true, "ExpiredTokenException": true, "MissingAuthenticationTokenException": true,
	"IncompleteSignatureException": true,
}

// unsent reports whether an error came up before the request left: no credentials, no endpoint, no connection.
func unsent(err error) bool {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return true
	}
	var resp *awshttp.ResponseError
	var op *smithy.OperationError
	if !errors.As(err, &op) || errors.As(err, &resp) && resp.HTTPStatusCode() != 0 &&
		!strings.Contains(err.Error(), noIdentity) {
		return false
	}
	text := op.Err.Error()
	for _, stage := range []string{
		noIdentity, "resolve auth scheme", "ResolveEndpointV2",
		"failed to resolve service endpoint",
	} {
		if strings.Contains(text, stage) {
			return true
		}
	}
	return false
}

// hint says what to do about an error whose cause is known.
func (s *store) hint(err error) string {
	var api smithy.APIError
	text := fmt.Sprint(err)
	switch {
	case strings.Contains(text, "Missing Region"):
		return "no Region is configured: set AWS_REGION or a Region in the profile"
	case strings.Contains(text, "service endpoint") && strings.Contains(text, "parse"):
		return "the endpoint is not a URL, allowed: http:// or https:// and a host: see AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL and the profile"
	case strings.Contains(text, noIdentity) && errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("the AWS credentials took longer than %v: look at where they come from (a role, a login, the instance's metadata)", s.patience())
	case strings.Contains(text, noIdentity):
		return "no AWS credentials were found: set AWS_PROFILE, run with a role, or see the SDK's credential chain"
	case errors.Is(err, errStranger):
		return "look at the endpoint and at proxies; a compatible server has to send x-amzn-RequestId or x-amz-crc32 with every answer"
	case !errors.As(err, &api):
		return ""
	}
	switch api.ErrorCode() {
	case "ResourceNotFoundException":
		return "the table does not exist" + s.where(err) +
			": create it (dynalock.CreateTable, dynalock-admin table create), or check account, AWS_REGION and endpoint"
	case "AccessDeniedException":
		return "the role lacks a permission on the table"
	case "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException",
		"MissingAuthenticationTokenException", "IncompleteSignatureException":
		return "the AWS credentials are not valid (any more), or the machine's clock is off by minutes"
	case "ValidationException":
		if strings.Contains(text, "key") && s.opt.PartitionKey != "" { // of a client, which knows what it should be
			return fmt.Sprintf("the table's key attributes are not those of the options (partition key %q, sort key %q): see dynalock-admin table check", s.opt.PartitionKey, s.opt.SortKey)
		}
	}
	return ""
}

// where names the Region and the endpoint that the request went to, as far as they are known.
func (s *store) where(err error) string {
	text := ""
	if client, ok := s.db.(*dynamodb.Client); ok && client.Options().Region != "" {
		text = fmt.Sprintf(" in Region %s", client.Options().Region)
	}
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) && resp.Response != nil && resp.Response.Response != nil && resp.Response.Request != nil {
		text += " at " + resp.Response.Request.URL.Host
	}
	return text
}

// storeError wraps what the SDK said.
func (s *store) storeError(op, key string, err error) error {
	return &StoreError{Op: op, Table: s.table, Key: key, Hint: s.hint(err), Err: err}
}

// operation is one of the operations of DynamoDB that a client uses.
type operation uint32

const (
	opGet operation = 1 << iota
	opUpdate
	opTransact
	opScan
)

func (o operation) String() string {
	switch o {
	case opGet:
		return "GetItem"
	case opUpdate:
		return "UpdateItem"
	case opTransact:
		return "TransactWriteItems"
	}
	return "Scan"
}

// service is what a client knows of DynamoDB: which operations have succeeded.
type service struct {
	served atomic.Uint32   // operations that have succeeded
	warned [2]atomic.Int64 // monotonic clock at the last warning of a retry, and of a doubt
}

func (s *service) serves(op operation) { s.served.Or(uint32(op)) }

// mayPass reports whether an error that is final for a client that was never served may pass by itself: credentials are
// being rotated, a provider failed once, a table is being restored, a policy is being changed. A permission that this
// operation never had does not come by itself.
func (s *service) mayPass(op operation, a *answer) bool {
	served := operation(s.served.Load())
	if served == 0 {
		return false
	}
	var api smithy.APIError
	switch {
	case isStrange(a.err), strings.Contains(a.err.Error(), noIdentity):
		return true
	case !errors.As(a.err, &api):
		return false
	case api.ErrorCode() == "AccessDeniedException":
		return served&op != 0
	}
	return passing[api.ErrorCode()]
}

// passing are the codes of errors that may pass; see mayPass.
var passing = map[string]bool{
	"UnrecognizedClientException": true, "InvalidSignatureException": true, "IncompleteSignatureException": true,
	"ExpiredTokenException": true, "ExpiredToken": true, "MissingAuthenticationTokenException": true,
	"MissingAuthenticationToken": true, "InvalidClientTokenId": true, "ResourceNotFoundException": true,
}

// request makes one attempt of a request. The timeout bounds it, without the time that the credentials take.
func (s *store) request(
	ctx context.Context, timeout time.Duration, op operation,
	send func(ctx context.Context, once func(*dynamodb.Options)) (item, middleware.Metadata, error),
) answer {
	once, err := s.authorize(ctx)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a := answer{sent: s.opt.clock.Now(), err: err}
	var meta middleware.Metadata
	if err == nil {
		attempt := func() {
			a.crash, a.err = s.tasks.protect(func() (err error) {
				a.item, meta, err = send(ctx, once)
				return err
			})
		}
		if attempt(); misdated(a.err) {
			s.service.observe(a.sent.Wall, s.opt.clock.Now().Wall, serverTime(meta, a.err), true)
			attempt() // again, signed correctly; sent is that of the first request, which a proxy may have passed on
		}
	}
	a.got = s.opt.clock.Now()
	a.verdict = verdictOf(a.err)
	late := a.got.Mono-a.sent.Mono >= timeout*9/10 && errors.Is(context.Cause(ctx), context.DeadlineExceeded)
	if late && (errors.Is(a.err, context.DeadlineExceeded) || errors.Is(a.err, context.Canceled)) {
		a.err = fmt.Errorf("no answer within %v: %w", timeout, a.err)
	}
	var cancelled *types.TransactionCanceledException
	decided := a.verdict == refused || errors.As(a.err, &cancelled)
	if a.err == nil && isStranger(meta) || decided && isStrange(a.err) {
		a.verdict, a.err = inDoubt, errStranger
		if s.known.served.Load() == 0 { // then a retry meets the same stranger
			a.verdict = fatal
		}
	}
	s.service.observe(a.sent.Wall, a.got.Wall, serverTime(meta, a.err), false)
	switch a.verdict {
	case applied:
		s.known.serves(op)
	case refused:
		s.known.serves(op)
		var refusal *types.ConditionalCheckFailedException
		if errors.As(a.err, &refusal) {
			a.item = refusal.Item
		}
	case fatal:
		if s.known.mayPass(op, &a) {
			a.verdict = rejected
		}
	}
	return a
}

// noIdentity is in the SDK's error, and in our own, if there are no credentials.
const noIdentity = "get identity"

// resolved are credentials that were found before the request.
type resolved aws.Credentials

// Retrieve implements aws.CredentialsProvider.
func (r resolved) Retrieve(context.Context) (aws.Credentials, error) { return aws.Credentials(r), nil }

// authorize finds the credentials for a request, and makes the options of the request. It may take longer than the
// request itself: a role is assumed, for example.
func (s *store) authorize(ctx context.Context) (func(*dynamodb.Options), error) {
	if s.credentials == nil {
		return once, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	found, err := s.credentials.Retrieve(ctx)
	if err != nil {
		if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return nil, &smithy.OperationError{
			ServiceID: dynamodb.ServiceID, OperationName: "credentials",
			Err: fmt.Errorf("%s: %w", noIdentity, err),
		}
	}
	return func(o *dynamodb.Options) {
		once(o)
		o.Credentials = resolved(found)
	}, nil
}

// credentialsOf are those of the SDK's client; nil if there are none to be found before a request.
func credentialsOf(db DynamoDB) aws.CredentialsProvider {
	client, ok := db.(*dynamodb.Client)
	if !ok {
		return nil
	}
	provider := client.Options().Credentials
	if aws.IsCredentialsProvider(provider, (*aws.AnonymousCredentials)(nil)) {
		return nil
	}
	return provider
}

// errStranger: something else answered, for example a proxy that asks for a login. Nothing is known of the write.
var errStranger = errors.New("the answer is not DynamoDB's, or something on the way has removed its request id")

// isStranger reports whether an answer over HTTP lacks the headers that every answer of DynamoDB has. The SDK takes an
// empty answer for success. An answer that a wrapper made up is not judged.
func isStranger(meta middleware.Metadata) bool {
	if _, named := awsmiddleware.GetRequestIDMetadata(meta); named {
		return false
	}
	switch raw := awsmiddleware.GetRawResponse(meta).(type) {
	case nil:
		return false
	case *smithyhttp.Response:
		return raw.Header.Get(checksumHeader) == ""
	}
	return true
}

// isStrange is isStranger for an error.
func isStrange(err error) bool {
	var resp *awshttp.ResponseError
	if !errors.As(err, &resp) || resp.Response == nil || resp.Response.Response == nil {
		return errors.Is(err, errStranger)
	}
	return resp.ServiceRequestID() == "" && resp.Response.Header.Get(checksumHeader) == ""
}

// checksumHeader is the other header that only DynamoDB sets. A proxy may have removed the first one.
const checksumHeader = "X-Amz-Crc32"

// update makes one attempt of an UpdateItem.
func (s *store) update(ctx context.Context, timeout time.Duration, in *dynamodb.UpdateItemInput) answer {
	return s.updateWith(ctx, timeout, func() *dynamodb.UpdateItemInput { return in })
}

// updateWith is update for a request that is built when its credentials are there, because it contains the time.
func (s *store) updateWith(ctx context.Context, timeout time.Duration, in func() *dynamodb.UpdateItemInput) answer {
	return s.request(ctx, timeout, opUpdate,
		func(ctx context.Context, once func(*dynamodb.Options)) (item, middleware.Metadata, error) {
			out, err := s.db.UpdateItem(ctx, in(), once)
			if err != nil {
				return nil, middleware.Metadata{}, err
			}
			return out.Attributes, out.ResultMetadata, nil
		})
}

// transact makes one attempt of a transaction.
func (s *store) transact(ctx context.Context, timeout time.Duration, in *dynamodb.TransactWriteItemsInput) answer {
	return s.request(ctx, timeout, opTransact,
		func(ctx context.Context, once func(*dynamodb.Options)) (item, middleware.Metadata, error) {
			out, err := s.db.TransactWriteItems(ctx, in, once)
			if err != nil {
				return nil, middleware.Metadata{}, err
			}
			return nil, out.ResultMetadata, nil
		})
}

// read looks at the item. Polling reads are eventually consistent, at half the price: the write decides.
func (s *store) read(ctx context.Context, timeout time.Duration, key string, consistent bool) answer {
	return s.request(ctx, timeout, opGet,
		func(ctx context.Context, once func(*dynamodb.Options)) (item, middleware.Metadata, error) {
			out, err := s.db.GetItem(ctx,
				&dynamodb.GetItemInput{TableName: &s.table, Key: s.keyOf(key), ConsistentRead: &consistent}, once)
			if err != nil {
				return nil, middleware.Metadata{}, err
			}
			return out.Item, out.ResultMetadata, nil
		})
}
