package dynalocktest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func TestASignatureMoreThanFiveMinutesFromTheServersTimeIsRefusedAndAppliesNothing(t *testing.T) {
	for _, tt := range []struct {
		offset time.Duration
		text   string // of the refusal
	}{
		{0, ""},
		{5 * time.Minute, ""},
		{-5 * time.Minute, ""},
		{
			301 * time.Second,
			"Signature expired: 20000101T000000Z is now earlier than 20000101T000001Z (20000101T000501Z - 5 min.)",
		},
		{
			-301 * time.Second,
			"Signature not yet current: 20000101T000000Z is still later than 19991231T235959Z (19991231T235459Z + 5 min.)",
		},
		{
			-9 * time.Hour,
			"Signature not yet current: 20000101T000000Z is still later than 19991231T150500Z (19991231T150000Z + 5 min.)",
		},
	} {
		t.Run(tt.offset.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := dynalocktest.NewServer()
				defer s.Close()
				createLocks(t, s)
				s.SetClockOffset(tt.offset)
				err := count(t.Context(), s.ClientFor("a"), "a") // with the SDK's retries off
				if tt.text == "" {
					if err != nil || counter(t, s, "a") != "1" {
						t.Errorf("%v, applied %s times", err, counter(t, s, "a"))
					}
					return
				}
				var api smithy.APIError
				var answer *smithyhttp.ResponseError
				if !errors.As(err, &api) || !errors.As(err, &answer) {
					t.Fatalf("got %v", err)
				}
				status := answer.HTTPStatusCode()
				if api.ErrorCode() != "InvalidSignatureException" || api.ErrorMessage() != tt.text || status != 400 {
					t.Errorf("got %d %v, want 400 InvalidSignatureException %q", status, api, tt.text)
				}
				want := time.Now().Add(tt.offset).UTC().Format(http.TimeFormat)
				if got := answer.Response.Header.Get("Date"); got != want || answer.Response.Header.Get("X-Amzn-Requestid") == "" {
					t.Errorf("the answer has %v, want the server's own Date %s and a request id", answer.Response.Header, want)
				}
				last := s.Requests()[1]
				if last.Applied || last.Error != "InvalidSignatureException" || !last.At.Equal(time.Now()) {
					t.Errorf("the server remembers %+v", last)
				}
				if got := counter(t, s, "a"); got != "0" {
					t.Errorf("applied %s times", got)
				}
			})
		})
	}
}

// With the SDK's retries off the correction comes with the next call of the same client only.
func TestTheSDKCorrectsItsClockByTheRefusalForTheNextAttemptOfTheSameClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.ClockOffset = 17 * time.Minute })
		defer s.Close()
		createLocks(t, s) // with retries, on a clock that is off
		if n := s.Usage().Requests["CreateTable"]; n != 2 {
			t.Errorf("with its retries on, the SDK sends %d requests, want a second one", n)
		}
		a, b := s.ClientFor("a"), s.ClientFor("b")
		for i, step := range []struct {
			db   *dynamodb.Client
			want string
		}{{a, "InvalidSignatureException"}, {a, "ok"}, {b, "InvalidSignatureException"}, {b, "ok"}, {a, "ok"}} {
			if got := code(count(t.Context(), step.db, "a")); got != step.want {
				t.Errorf("request %d gets %s, want %s", i, got, step.want)
			}
		}
		s.SetClockOffset(0)
		for i, want := range []string{"InvalidSignatureException", "ok"} {
			if got := code(count(t.Context(), a, "a")); got != want {
				t.Errorf("request %d on the mended clock gets %s, want %s", i, got, want)
			}
		}
	})
}

// A stranger's Date is believed by the SDK, too: the next request is signed by it.
func TestAStrangersDateSpoilsTheSignatureOfTheNextRequestOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer()
		defer s.Close()
		db := createLocks(t, s)
		s.Inject(dynalocktest.Fault{Kind: dynalocktest.StrangerBefore, Status: 503, DateOffset: 24 * time.Hour, Times: 1})
		for i, refused := range []bool{true, true, false} {
			err := count(t.Context(), db, "a")
			if (err != nil) != refused || i == 1 && code(err) != "InvalidSignatureException" {
				t.Errorf("request %d gets %v", i, err)
			}
		}
	})
}

func TestNoCopyOfARequestAppliesMoreThanFiveMinutesAfterItsSignature(t *testing.T) {
	for _, tt := range []struct {
		kind          dynalocktest.Kind
		now           string // how often it is applied at once
		late, tooLate string // and in the end, by its delay
	}{
		{dynalocktest.SlowRequest, "0", "1", "0"},
		{dynalocktest.LostResponse, "0", "1", "0"},
		{dynalocktest.TimedOut, "0", "1", "0"},
		{dynalocktest.Duplicated, "1", "2", "1"},
	} {
		for delay, want := range map[time.Duration]string{5 * time.Minute: tt.late, 5*time.Minute + time.Second: tt.tooLate} {
			t.Run(fmt.Sprint(tt.kind, delay), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := dynalocktest.NewServer()
					defer s.Close()
					db := createLocks(t, s)
					s.Inject(dynalocktest.Fault{Kind: tt.kind, Operation: "UpdateItem", Delay: delay, Times: 1})
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					_ = count(ctx, db, "a")
					if got := counter(t, s, "a"); got != tt.now {
						t.Errorf("applied %s times at once, want %s", got, tt.now)
					}
					time.Sleep(delay)
					synctest.Wait()
					if got := counter(t, s, "a"); got != want {
						t.Errorf("applied %s times, the last copy %v after it was sent; want %s", got, delay, want)
					}
				})
			})
		}
	}
}

func TestARequestWithoutASignatureOrItsTimeIsTakenWhateverTheClocksSay(t *testing.T) {
	t.Parallel()
	s := dynalocktest.NewServer()
	web := httptest.NewServer(s)
	defer web.Close()
	defer s.Close()
	const auth = "AWS4-HMAC-SHA256 Credential=cli/20200101/us-east-1/dynamodb/aws4_request, Signature=0"
	for _, tt := range []struct {
		authorization, date string
		status              int
	}{
		{"", "", 200},
		{auth, "", 200},
		{"", "20200101T000000Z", 200},
		{auth, time.Now().UTC().Format("20060102T150405Z"), 200},
		{auth, "20200101T000000Z", 400},
	} {
		r := request(t, web.URL, "ListTables", `{}`)
		if tt.authorization != "" {
			r.Header.Set("Authorization", tt.authorization)
		}
		if tt.date != "" {
			r.Header.Set("X-Amz-Date", tt.date)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		refused := strings.Contains(string(body), "com.amazon.coral.service#InvalidSignatureException")
		if response.StatusCode != tt.status || refused != (tt.status == 400) {
			t.Errorf("signed by %.10q at %q: %d %s, want %d", tt.authorization, tt.date, response.StatusCode, body, tt.status)
		}
	}
}

func request(t *testing.T, url, operation, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "DynamoDB_20120810."+operation)
	return r
}

func TestTheServersClockDatesItsAnswersAndTablesAndExpiresItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ahead = 4 * time.Minute
		s := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.ClockOffset = ahead })
		defer s.Close()
		db := createLocks(t, s)
		out, err := db.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("locks")})
		if err != nil {
			t.Fatal(err)
		}
		made := *out.Table.CreationDateTime
		at, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
		if !ok || time.Until(at) != ahead || time.Until(made) != ahead {
			t.Errorf("the answer is of %v, the table of %v, want %v ahead of %v", at, made, ahead, time.Now())
		}
		if _, err := db.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{
			TableName:               aws.String("locks"),
			TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String("ttl"), Enabled: aws.Bool(true)},
		}); err != nil {
			t.Fatal(err)
		}
		ttl := num(fmt.Sprint(time.Now().Add(ahead + time.Second).Unix()))
		if _, err := db.PutItem(t.Context(), &dynamodb.PutItemInput{
			TableName: aws.String("locks"), Item: item{"key": str("a"), "ttl": ttl},
		}); err != nil {
			t.Fatal(err)
		}
		if n := s.ExpireItems(); n != 0 {
			t.Errorf("%d items expire before their time", n)
		}
		time.Sleep(2 * time.Second)
		if n := s.ExpireItems(); n != 1 {
			t.Errorf("%d items expire after their time by the server's clock, want 1", n)
		}
	})
}
