package testserver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go"
)

// recorder is a server that remembers the operations that reached it and answers all with an empty success.
type recorder struct{ applied []string }

func (r *recorder) Do(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	_, op, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	if len(body) == 0 {
		return nil, errors.New("the request lost its body")
	}
	r.applied = append(r.applied, op)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))},
		nil
}

// tapped returns a client with a Wire before a recorder, and without the SDK's own retries.
func tapped() (*dynamodb.Client, *Wire, *recorder) {
	r := &recorder{}
	db, wire := Tap(dynamodb.New(dynamodb.Options{
		Region: "us-east-1", HTTPClient: r, Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
	}))
	return db, wire, r
}

func list(ctx context.Context, db *dynamodb.Client) error {
	_, err := db.ListTables(ctx, &dynamodb.ListTablesInput{})
	return err
}

func describe(ctx context.Context, db *dynamodb.Client) error {
	_, err := db.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: aws.String("locks")})
	return err
}

func TestEveryRequestIsCountedByOperationLostOnesToo(t *testing.T) {
	db, wire, server := tapped()
	wire.Inject(Fault{Kind: LoseRequest, Op: "ListTables", Skip: 1, Times: 1})
	for range 3 {
		_ = list(t.Context(), db)
	}
	if err := describe(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if all, lists, both := wire.Count(), wire.Count("ListTables"),
		wire.Count("ListTables", "DescribeTable"); all != 4 || lists != 3 || both != 4 {
		t.Errorf("counted %d in all, %d ListTables, %d of both; want 4, 3, 4", all, lists, both)
	}
	if counts := wire.Counts(); len(counts) != 2 || counts["DescribeTable"] != 1 {
		t.Errorf("Counts() = %v", counts)
	}
	if want := []string{"ListTables", "ListTables", "DescribeTable"}; !slices.Equal(server.applied, want) {
		t.Errorf("the server saw %v, want %v", server.applied, want)
	}
}

func TestEachKindOfFaultDecidesWhatTheServerAndTheCallerSee(t *testing.T) {
	broken := func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
	silent := func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
	throttled := func(err error) bool {
		var api smithy.APIError
		return errors.As(err, &api) && api.ErrorCode() == "ThrottlingException"
	}
	passed := func(err error) bool { return err == nil }
	estranged := func(err error) bool {
		var answer *awshttp.ResponseError
		if !errors.As(err, &answer) || answer.HTTPStatusCode() != http.StatusBadRequest || answer.ServiceRequestID() != "" {
			return false
		}
		at, err := http.ParseTime(answer.Response.Header.Get("Date"))
		return err == nil && time.Until(at) == time.Hour
	}
	for _, tt := range []struct {
		name    string
		kind    Kind
		applied int
		fits    func(error) bool
	}{
		{"pass", Pass, 1, passed},
		{"lose request", LoseRequest, 0, broken},
		{"lose response", LoseResponse, 1, broken},
		{"hang before", HangBefore, 0, silent},
		{"hang after", HangAfter, 1, silent},
		{"fail before", FailBefore, 0, throttled},
		{"fail after", FailAfter, 1, throttled},
		{"keep request", KeepRequest, 0, broken},
		{"keep copy", KeepCopy, 1, passed},
		{"stranger before", StrangerBefore, 0, estranged},
		{"stranger after", StrangerAfter, 1, estranged},
		{"strip", Strip, 1, passed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db, wire, server := tapped()
				wire.Inject(Fault{
					Kind: tt.kind, Times: 1, Status: http.StatusBadRequest, Type: "ThrottlingException", Date: time.Hour,
				})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := list(ctx, db); !tt.fits(err) {
					t.Errorf("the caller sees %v", err)
				}
				if len(server.applied) != tt.applied {
					t.Errorf("the server applied %d requests, want %d", len(server.applied), tt.applied)
				}
				if err := list(t.Context(), db); err != nil {
					t.Errorf("the next request is hit too: %v", err)
				}
			})
		})
	}
}

func TestAStrippedAnswerLacksWhatOnlyDynamoDBGivesAndAnInjectedRefusalHasIt(t *testing.T) {
	server := New(t)
	db, wire := Tap(server.Client(func(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} }))
	for _, stripped := range []bool{false, true} {
		if stripped {
			wire.Inject(Fault{Kind: Strip, Times: 1})
		}
		out, err := db.ListTables(t.Context(), &dynamodb.ListTablesInput{})
		if err != nil {
			t.Fatal(err)
		}
		if id, ok := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata); ok == stripped {
			t.Errorf("stripped %t: the answer's request id is %q", stripped, id)
		}
	}
	wire.Inject(Fault{Kind: FailBefore})
	var answer *awshttp.ResponseError
	err := list(t.Context(), db)
	if !errors.As(err, &answer) || answer.ServiceRequestID() == "" || answer.Response.Header.Get("Date") == "" {
		t.Errorf("an injected refusal is %v", err)
	}
}

func TestAFailureWithoutATypeIsAnInternalServerError(t *testing.T) {
	db, wire, _ := tapped()
	wire.Inject(Fault{Kind: FailBefore})
	var api smithy.APIError
	if err := list(t.Context(), db); !errors.As(err, &api) || api.ErrorCode() != "InternalServerError" {
		t.Errorf("the caller sees %v", err)
	}
}

func TestKeptRequestsReachTheServerWhenTheyAreDelivered(t *testing.T) {
	db, wire, server := tapped()
	wire.Inject(Fault{Kind: KeepRequest, Op: "ListTables"})
	wire.Inject(Fault{Kind: KeepCopy, Op: "DescribeTable"})
	ctx, cancel := context.WithCancel(t.Context())
	_ = list(ctx, db)
	if err := describe(ctx, db); err != nil {
		t.Fatal(err)
	}
	cancel()
	for _, want := range []int{2, 0} {
		statuses, err := wire.Deliver(t.Context())
		if err != nil || len(statuses) != want {
			t.Fatalf("Deliver() = %v, %v; want %d answers", statuses, err, want)
		}
	}
	if want := []string{"DescribeTable", "ListTables", "DescribeTable"}; !slices.Equal(server.applied, want) {
		t.Errorf("the server saw %v, want %v", server.applied, want)
	}
}

func TestADelayLastsAsLongAsItSaysOrUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, wire, server := tapped()
		remove := wire.Inject(Fault{Delay: 3 * time.Second})
		start := time.Now()
		if err := list(t.Context(), db); err != nil || time.Since(start) != 3*time.Second {
			t.Errorf("after %v: %v; want success after 3s", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if err := list(ctx, db); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v; want the context's end after 1s", time.Since(start), err)
		}
		if len(server.applied) != 1 {
			t.Errorf("the server saw %d requests, want 1", len(server.applied))
		}
		remove()
		remove()
		start = time.Now()
		if err := list(t.Context(), db); err != nil || time.Since(start) != 0 {
			t.Errorf("after %v: %v; want success at once", time.Since(start), err)
		}
	})
}

func TestACutOffClientHearsNothingNotEvenTheAnswersUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, wire, server := tapped()
		wire.Inject(Fault{Delay: time.Second, Times: 1})
		time.AfterFunc(time.Second/2, wire.Cut)
		for _, when := range []string{"before", "after"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := list(ctx, db); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a request sent %s the cut: %v, want no answer", when, err)
			}
			if len(server.applied) != 1 {
				t.Errorf("the server saw %d requests, want only the one sent before the cut", len(server.applied))
			}
		}
	})
}

func TestAFaultHitsOnlyWhatMatchesItAndTheOlderFaultComesFirst(t *testing.T) {
	db, wire, server := tapped()
	ofLocks := func(_ string, body []byte) bool { return strings.Contains(string(body), `"locks"`) }
	wire.Inject(Fault{Kind: LoseRequest, Match: ofLocks, Times: 2})
	wire.Inject(Fault{Kind: FailBefore, Op: "DescribeTable", Times: 1})
	if err := list(t.Context(), db); err != nil {
		t.Errorf("a request that does not match fails: %v", err)
	}
	for range 2 {
		if err := describe(t.Context(), db); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the older fault does not hit: %v", err)
		}
	}
	var api smithy.APIError
	if err := describe(t.Context(), db); !errors.As(err, &api) {
		t.Errorf("the younger fault does not hit: %v", err)
	}
	if err := describe(t.Context(), db); err != nil {
		t.Errorf("used up faults still hit: %v", err)
	}
	if len(server.applied) != 2 {
		t.Errorf("the server saw %v", server.applied)
	}
}
