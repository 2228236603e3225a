package dynalocktest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// count adds 1 to an item's counter and tells what the caller learned.
func count(ctx context.Context, db *dynamodb.Client, key string) error {
	_, err := db.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String("locks"), Key: item{"key": str(key)}, UpdateExpression: aws.String("ADD n :one"),
		ExpressionAttributeValues: item{":one": num("1")},
	}, func(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} })
	return err
}

// counter is how often count was applied.
func counter(t *testing.T, s *dynalocktest.Server, key string) string {
	t.Helper()
	out, err := s.ClientFor("reader").GetItem(t.Context(),
		&dynamodb.GetItemInput{TableName: aws.String("locks"), Key: item{"key": str(key)}})
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := out.Item["n"].(*types.AttributeValueMemberN); ok {
		return n.Value
	}
	return "0"
}

func code(err error) string {
	var api smithy.APIError
	var answer *awshttp.ResponseError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &answer) && answer.HTTPStatusCode() > 0 && answer.ServiceRequestID() == "":
		return fmt.Sprintf("HTTP %d", answer.HTTPStatusCode())
	case errors.As(err, &api):
		return api.ErrorCode()
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	}
	return err.Error()
}

func TestEachFaultDoesWhatItsKindSays(t *testing.T) {
	const deadline = 10 * time.Second
	for _, tt := range []struct {
		fault   dynalocktest.Fault
		answer  string        // what the caller learns
		after   time.Duration // and when
		applied string        // how often by then
		later   string        // and a minute later
	}{
		{dynalocktest.Fault{Kind: dynalocktest.SlowRequest, Delay: time.Second}, "ok", time.Second, "1", "1"},
		{dynalocktest.Fault{Kind: dynalocktest.SlowRequest, Delay: 20 * time.Second}, "deadline", deadline, "0", "1"},
		{dynalocktest.Fault{Kind: dynalocktest.SlowResponse, Delay: time.Second}, "ok", time.Second, "1", "1"},
		{dynalocktest.Fault{Kind: dynalocktest.SlowResponse, Delay: 20 * time.Second}, "deadline", deadline, "1", "1"},
		{dynalocktest.Fault{Kind: dynalocktest.LostRequest}, "deadline", deadline, "0", "0"},
		{dynalocktest.Fault{Kind: dynalocktest.LostResponse}, "deadline", deadline, "1", "1"},
		{dynalocktest.Fault{Kind: dynalocktest.LostResponse, Delay: 20 * time.Second}, "deadline", deadline, "0", "1"},
		{dynalocktest.Fault{Kind: dynalocktest.Duplicated, Delay: 20 * time.Second}, "ok", 0, "1", "2"},
		{dynalocktest.Fault{Kind: dynalocktest.ErrorBefore}, "InternalServerError", 0, "0", "0"},
		{
			dynalocktest.Fault{Kind: dynalocktest.ErrorBefore, Code: "ServiceUnavailable", Delay: time.Second},
			"ServiceUnavailable", time.Second, "0", "0",
		},
		{dynalocktest.Fault{Kind: dynalocktest.ErrorAfter, Code: "ThrottlingException"}, "ThrottlingException", 0, "1", "1"},
		{dynalocktest.Fault{Kind: dynalocktest.TimedOut, Delay: 20 * time.Second}, "timeout", 0, "0", "1"},
		{dynalocktest.Fault{Kind: dynalocktest.StrangerBefore, Delay: time.Second}, "HTTP 502", time.Second, "0", "0"},
		{dynalocktest.Fault{Kind: dynalocktest.StrangerAfter, Status: 504}, "HTTP 504", 0, "1", "1"},
		{dynalocktest.Fault{Kind: dynalocktest.Stripped, Delay: time.Second}, "ok", 0, "1", "1"},
		{dynalocktest.Fault{Kind: dynalocktest.ResetBefore, Delay: time.Second}, "reset", time.Second, "0", "0"},
		{dynalocktest.Fault{Kind: dynalocktest.ResetAfter}, "reset", 0, "1", "1"},
		{dynalocktest.Fault{Kind: dynalocktest.Throttled}, "ProvisionedThroughputExceededException", 0, "0", "0"},
		{dynalocktest.Fault{Kind: dynalocktest.Conflict}, "TransactionConflictException", 0, "0", "0"},
	} {
		t.Run(string(tt.fault.Kind)+" "+tt.fault.Delay.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := dynalocktest.NewServer()
				defer s.Close()
				db := createLocks(t, s)
				tt.fault.Operation, tt.fault.Times = "UpdateItem", 1
				s.Inject(tt.fault)
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				defer cancel()
				start := time.Now()
				err := count(ctx, db, "a")
				if got := code(err); got != tt.answer || time.Since(start) != tt.after {
					t.Errorf("the caller learns %q (%v) after %v, want %q after %v", got, err, time.Since(start), tt.answer, tt.after)
				}
				if got := counter(t, s, "a"); got != tt.applied {
					t.Errorf("applied %s times when the caller returns, want %s", got, tt.applied)
				}
				time.Sleep(time.Minute)
				if got := counter(t, s, "a"); got != tt.later {
					t.Errorf("applied %s times in the end, want %s", got, tt.later)
				}
			})
		})
	}
}

func TestAFaultHitsOnlyTheRequestsItNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer()
		defer s.Close()
		createLocks(t, s)
		for name, f := range map[string]dynalocktest.Fault{
			"client": {Client: "worker"}, "key": {Key: "a"}, "table": {Table: "locks"}, "operation": {Operation: "UpdateItem"},
			"match": {Match: func(r dynalocktest.Request) bool { return r.Client == "worker" && r.Key == "a" && !r.Applied }},
		} {
			f.Kind = dynalocktest.ErrorBefore
			remove := s.Inject(f)
			if got := code(count(t.Context(), s.ClientFor("worker"), "a")); got != "InternalServerError" {
				t.Errorf("%s: a request that matches gets %s", name, got)
			}
			remove()
			if got := code(count(t.Context(), s.ClientFor("worker"), "a")); got != "ok" {
				t.Errorf("%s: after its removal a request gets %s", name, got)
			}
		}
		for name, f := range map[string]dynalocktest.Fault{
			"client": {Client: "other"}, "key": {Key: "b"}, "table": {Table: "others"}, "operation": {Operation: "PutItem"},
			"match": {Match: func(dynalocktest.Request) bool { return false }},
		} {
			f.Kind = dynalocktest.ErrorBefore
			remove := s.Inject(f)
			if got := code(count(t.Context(), s.ClientFor("worker"), "a")); got != "ok" {
				t.Errorf("%s: a request that does not match gets %s", name, got)
			}
			remove()
		}
	})
}

func TestSkipAndTimesBoundWhichMatchingRequestsAreHit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer()
		defer s.Close()
		db := createLocks(t, s)
		s.Inject(dynalocktest.Fault{Kind: dynalocktest.ErrorBefore, Operation: "UpdateItem", Skip: 2, Times: 2})
		var got []string
		for range 6 {
			got = append(got, code(count(t.Context(), db, "a")))
		}
		if want := "ok ok InternalServerError InternalServerError ok ok"; strings.Join(got, " ") != want {
			t.Errorf("got %v, want %s", got, want)
		}
	})
}

func TestTheSameSeedMakesTheSameAccidents(t *testing.T) {
	run := func(seed uint64) (answers string) {
		synctest.Test(t, func(t *testing.T) {
			s := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) {
				o.Seed, o.Latency, o.Jitter = seed, time.Millisecond, time.Millisecond
			})
			defer s.Close()
			db := createLocks(t, s)
			s.Inject(dynalocktest.Fault{Kind: dynalocktest.ErrorBefore, Operation: "UpdateItem", Probability: 0.5})
			for range 30 {
				start := time.Now()
				answers += code(count(t.Context(), db, "a")) + time.Since(start).String()
			}
		})
		return answers
	}
	if a, b := run(1), run(1); a != b {
		t.Errorf("seed 1 gives %s and then %s", a, b)
	}
	if a, b := run(1), run(2); a == b {
		t.Errorf("seeds 1 and 2 both give %s", a)
	}
}

func TestLatencyIsTheRoundTripOfARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.Latency = 10 * time.Millisecond })
		defer s.Close()
		db := createLocks(t, s)
		start := time.Now()
		go func() { _ = count(t.Context(), db, "a") }()
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
		last := s.Requests()[1]
		if last.Operation != "UpdateItem" || last.At.Sub(start) != 5*time.Millisecond {
			t.Errorf("%s was applied %v after it was sent, want half the latency", last.Operation, last.At.Sub(start))
		}
		start = time.Now()
		if err := count(t.Context(), db, "b"); err != nil || time.Since(start) != 10*time.Millisecond {
			t.Errorf("answered with %v after %v, want 10ms", err, time.Since(start))
		}
	})
}

func TestAConflictInATransactionNamesTheItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer()
		defer s.Close()
		db := createLocks(t, s)
		s.Inject(dynalocktest.Fault{Kind: dynalocktest.Conflict, Key: "b", Times: 1})
		in := &dynamodb.TransactWriteItemsInput{}
		for _, key := range []string{"a", "b"} {
			in.TransactItems = append(in.TransactItems,
				types.TransactWriteItem{Put: &types.Put{TableName: aws.String("locks"), Item: item{"key": str(key)}}})
		}
		_, err := db.TransactWriteItems(t.Context(), in)
		var canceled *types.TransactionCanceledException
		if !errors.As(err, &canceled) {
			t.Fatalf("got %v", err)
		}
		var codes []string
		for _, r := range canceled.CancellationReasons {
			codes = append(codes, *r.Code)
		}
		if want := []string{"None", "TransactionConflict"}; !slices.Equal(codes, want) {
			t.Errorf("reasons %v, want %v", codes, want)
		}
		if _, err := db.TransactWriteItems(t.Context(), in); err != nil {
			t.Errorf("the next one gets %v", err)
		}
	})
}

func TestCloseEndsEveryWaitAndDropsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer()
		db := createLocks(t, s)
		answers := map[string]chan error{}
		for name, f := range map[string]dynalocktest.Fault{
			"slow":       {Kind: dynalocktest.SlowRequest, Delay: time.Hour},
			"lost":       {Kind: dynalocktest.LostRequest},
			"unanswered": {Kind: dynalocktest.LostResponse, Delay: time.Hour},
			"again":      {Kind: dynalocktest.Duplicated, Delay: time.Hour},
		} {
			f.Key = name
			s.Inject(f)
			answer := make(chan error, 1)
			answers[name] = answer
			go func() { answer <- count(t.Context(), db, name) }()
		}
		synctest.Wait()
		if err := <-answers["again"]; err != nil {
			t.Errorf("the first copy of a duplicated request: %v", err)
		}
		start := time.Now()
		s.Close()
		for name := range answers {
			if name != "again" && <-answers[name] == nil {
				t.Errorf("%s: answered after Close", name)
			}
		}
		if err := count(t.Context(), db, "z"); err == nil {
			t.Error("a request after Close is answered")
		}
		if time.Since(start) != 0 {
			t.Errorf("Close and the waits end after %v, want at once", time.Since(start))
		}
		var applied []string
		for _, r := range s.Requests() {
			if r.Applied && r.Operation == "UpdateItem" {
				applied = append(applied, r.Key)
			}
		}
		if !slices.Equal(applied, []string{"again"}) {
			t.Errorf("applied %v, want only the first copy of the duplicated request", applied)
		}
		s.Close() // once more is fine
	})
}

func TestAFaultOfNoKnownKindIsRefusedByNameAndHitsNothing(t *testing.T) {
	t.Parallel()
	for _, kind := range []dynalocktest.Kind{"", "error befor", "ErrorBefore"} {
		server := dynalocktest.NewServer()
		func() {
			defer func() {
				said := fmt.Sprint(recover())
				for _, want := range []string{
					fmt.Sprintf("Fault.Kind is %q", kind), `"slow request"`, `"error before"`,
					`"conflict"`,
				} {
					if !strings.Contains(said, want) {
						t.Errorf("kind %q: it panics with %q, want %s in it", kind, said, want)
					}
				}
			}()
			server.Inject(dynalocktest.Fault{Kind: kind})
		}()
	}
}

// refusals are the errors that DynamoDB answers a request with that it does not apply, with their HTTP status.
var refusals = map[string]int{
	"ProvisionedThroughputExceededException": 400, "ThrottlingException": 400, "RequestLimitExceeded": 400,
	"TransactionConflictException": 400, "TransactionInProgressException": 400,
	"ExpiredTokenException": 400, "AccessDeniedException": 400, "UnrecognizedClientException": 400,
	"InvalidSignatureException": 400, "IncompleteSignatureException": 400, "MissingAuthenticationTokenException": 400,
	"ResourceNotFoundException": 400, "InternalServerError": 500, "ServiceUnavailable": 503,
}

func TestAnyRefusalIsAnsweredWithItsStatusAndTextBeforeOrAfterTheWriteApplied(t *testing.T) {
	for refusal, status := range refusals {
		for kind, applied := range map[dynalocktest.Kind]string{dynalocktest.ErrorBefore: "0", dynalocktest.ErrorAfter: "1"} {
			for _, asked := range []int{0, 403} {
				t.Run(fmt.Sprint(kind, " ", refusal, " ", asked), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := dynalocktest.NewServer()
						defer s.Close()
						db := createLocks(t, s)
						s.Inject(dynalocktest.Fault{Kind: kind, Operation: "UpdateItem", Code: refusal, Status: asked, Times: 1})
						want := status
						if asked != 0 {
							want = asked
						}
						var api smithy.APIError
						var answer *awshttp.ResponseError
						err := count(t.Context(), db, "a")
						if !errors.As(err, &api) || !errors.As(err, &answer) {
							t.Fatalf("got %v", err)
						}
						said := api.ErrorCode() == refusal && api.ErrorMessage() != ""
						if !said || answer.HTTPStatusCode() != want || answer.ServiceRequestID() == "" {
							t.Errorf("got %v, want %d %s with a text and a request id", err, want, refusal)
						}
						if got := counter(t, s, "a"); got != applied {
							t.Errorf("applied %s times, want %s", got, applied)
						}
					})
				})
			}
		}
	}
}

// answerTo sends one unsigned request to a server on a socket.
func answerTo(t *testing.T, web *httptest.Server, operation, body string) (*http.Response, string) {
	t.Helper()
	response, err := http.DefaultClient.Do(request(t, web.URL, operation, body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(got)
}

const (
	dayAhead   = 24 * time.Hour
	createBody = `{"TableName":"more","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[{"AttributeName":"key",` +
		`"AttributeType":"S"}],"KeySchema":[{"AttributeName":"key","KeyType":"HASH"}]}`
)

// dateOff tells how far the Date of an answer is from now.
func dateOff(t *testing.T, r *http.Response) time.Duration {
	t.Helper()
	at, err := http.ParseTime(r.Header.Get("Date"))
	if err != nil {
		t.Errorf("Date: %v", err)
	}
	return time.Until(at).Round(time.Hour)
}

func TestAStrangerAnswersWithItsOwnStatusBodyAndDateAndNothingOfDynamoDB(t *testing.T) {
	t.Parallel()
	s := dynalocktest.NewServer()
	web := httptest.NewServer(s)
	defer web.Close()
	defer s.Close()
	for _, kind := range []dynalocktest.Kind{dynalocktest.StrangerBefore, dynalocktest.StrangerAfter} {
		applied := kind == dynalocktest.StrangerAfter
		for _, status := range []int{200, 403, 502, 503} {
			for _, page := range []string{"", "<html>who are you?</html>"} {
				remove := s.Inject(dynalocktest.Fault{Kind: kind, Status: status, Body: page, DateOffset: dayAhead})
				response, body := answerTo(t, web, "ListTables", `{}`)
				remove()
				if response.StatusCode != status || body != page || dateOff(t, response) != dayAhead {
					t.Errorf("%s: %d %q of %s, want %d %q a day ahead",
						kind, response.StatusCode, body, response.Header.Get("Date"), status, page)
				}
				for name := range response.Header {
					if strings.HasPrefix(name, "X-Amz") || name == "Content-Type" && response.Header.Get(name) != "text/html" {
						t.Errorf("%s has a header %s: %s", kind, name, response.Header.Get(name))
					}
				}
				requests := s.Requests()
				last := requests[len(requests)-1]
				want := ""
				if !applied {
					want = fmt.Sprintf("HTTP %d", status)
				}
				if last.Applied != applied || last.Error != want {
					t.Errorf("%s: the server remembers %+v, want the error %q", kind, last, want)
				}
			}
		}
	}
}

func TestAStrippedAnswerIsTheServersOwnWithoutItsHeaders(t *testing.T) {
	t.Parallel()
	s := dynalocktest.NewServer()
	web := httptest.NewServer(s)
	defer web.Close()
	defer s.Close()
	answers := map[bool][]string{}
	for _, stripped := range []bool{false, true} {
		remove := func() {}
		if stripped {
			remove = s.Inject(dynalocktest.Fault{Kind: dynalocktest.Stripped, DateOffset: dayAhead})
		}
		for _, op := range []string{"ListTables", "NoSuchOperation", "DescribeTable"} {
			response, body := answerTo(t, web, op, `{"TableName":"none"}`)
			answers[stripped] = append(answers[stripped], fmt.Sprint(response.StatusCode, body))
			has := response.Header.Get("X-Amzn-Requestid") != "" || response.Header.Get("X-Amz-Crc32") != ""
			if want := map[bool]time.Duration{true: dayAhead}[stripped]; has == stripped || dateOff(t, response) != want {
				t.Errorf("stripped %t: %s has %v, want a Date that is %v ahead", stripped, op, response.Header, want)
			}
		}
		remove()
	}
	if !slices.Equal(answers[true], answers[false]) {
		t.Errorf("stripped %q, whole %q", answers[true], answers[false])
	}
	s.Inject(dynalocktest.Fault{Kind: dynalocktest.Stripped})
	s.Inject(dynalocktest.Fault{Kind: dynalocktest.Throttled})
	response, body := answerTo(t, web, "ListTables", `{}`)
	if response.StatusCode != 400 || response.Header.Get("X-Amzn-Requestid") != "" {
		t.Errorf("an injected error that is stripped: %d %s %v", response.StatusCode, body, response.Header)
	}
}

func TestACopyOfEveryOperationArrivesLaterWhileTheOriginalIsAnswered(t *testing.T) {
	const (
		table = `{"TableName":"locks"`
		key   = table + `,"Key":{"key":{"S":"a"}}`
		arn   = `{"ResourceArn":"arn:aws:dynamodb:us-east-1:000000000000:table/locks"`
		put   = `{"Put":{"TableName":"locks","Item":{"key":{"S":"a"}}}}`
	)
	for operation, body := range map[string]string{
		"BatchGetItem": `{"RequestItems":{"locks":{"Keys":[{"key":{"S":"a"}}]}}}`, "CreateTable": createBody,
		"BatchWriteItem": `{"RequestItems":{"locks":[{"DeleteRequest":{"Key":{"key":{"S":"a"}}}}]}}`,
		"DeleteItem":     key + `}`, "DeleteTable": table + `}`, "DescribeLimits": `{}`,
		"DescribeContinuousBackups": table + `}`,
		"DescribeTable":             table + `}`, "DescribeTimeToLive": table + `}`, "GetItem": key + `}`, "ListTables": `{}`,
		"ListTagsOfResource": arn + `}`, "PutItem": table + `,"Item":{"key":{"S":"a"}}}`, "Scan": table + `}`,
		"Query": table + `,"KeyConditionExpression":"#k = :a","ExpressionAttributeNames":{"#k":"key"},` +
			`"ExpressionAttributeValues":{":a":{"S":"a"}}}`,
		"TagResource": arn + `,"Tags":[{"Key":"team","Value":"y"}]}`, "UntagResource": arn + `,"TagKeys":["team"]}`,
		"TransactGetItems":        `{"TransactItems":[{"Get":` + key + `}}]}`,
		"TransactWriteItems":      `{"TransactItems":[` + put + `]}`,
		"UpdateContinuousBackups": table + `,"PointInTimeRecoverySpecification":{"PointInTimeRecoveryEnabled":true}}`,
		"UpdateItem":              key + `}`, "UpdateTable": table + `,"DeletionProtectionEnabled":true}`,
		"UpdateTimeToLive": table + `,"TimeToLiveSpecification":{"AttributeName":"ttl","Enabled":true}}`,
	} {
		t.Run(operation, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := dynalocktest.NewServer()
				defer s.Close()
				db := createLocks(t, s)
				const delay = 4 * time.Minute
				s.Inject(dynalocktest.Fault{Kind: dynalocktest.Duplicated, Operation: operation, Delay: delay, Times: 1})
				start := time.Now()
				response, err := db.Options().HTTPClient.Do(request(t, "http://dynalocktest.invalid", operation, body))
				if err != nil || response.StatusCode != http.StatusOK || !time.Now().Equal(start) {
					t.Fatalf("the original is answered with %v, %v after %v", response, err, time.Since(start))
				}
				time.Sleep(delay)
				synctest.Wait()
				var at []time.Duration
				for _, r := range s.Requests()[1:] {
					if r.Operation == operation && r.Applied {
						at = append(at, r.At.Sub(start))
					}
				}
				if want := []time.Duration{0, delay}; !slices.Equal(at, want) {
					t.Errorf("applied after %v, want %v", at, want)
				}
			})
		})
	}
}
