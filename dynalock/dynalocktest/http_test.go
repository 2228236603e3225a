package dynalocktest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// post sends one request as the AWS CLI does, signed by accessKey, and gives the status and the answer.
func post(t *testing.T, url, accessKey, operation, body string) (*http.Response, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "DynamoDB_20120810."+operation)
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("Authorization",
		"AWS4-HMAC-SHA256 Credential="+accessKey+"/20261122/eu-west-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if sum := strconv.FormatUint(uint64(crc32.ChecksumIEEE(raw)), 10); response.Header.Get("X-Amz-Crc32") != sum {
		t.Errorf("%s: checksum %s of a body with %s", operation, response.Header.Get("X-Amz-Crc32"), sum)
	}
	var answer map[string]any
	if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatalf("%s: %v in %s", operation, err, raw)
	}
	return response, answer
}

func TestTheCommandsOfTheAWSCLIAreAnsweredOverHTTP(t *testing.T) {
	t.Parallel()
	s := dynalocktest.NewServer()
	web := httptest.NewServer(s)
	defer web.Close()
	defer s.Close()
	const key = `{"TableName":"locks","Key":{"key":{"S":"a"}}`
	ids := map[string]bool{}
	for _, tt := range []struct{ operation, body, path, want string }{
		{"CreateTable", `{"TableName":"locks","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[{"AttributeName":"key","AttributeType":"S"}],"KeySchema":[{"AttributeName":"key","KeyType":"HASH"}],"Tags":[{"Key":"team","Value":"x"}]}`, "TableDescription.TableName", "locks"},
		{"DescribeTable", `{"TableName":"locks"}`, "Table.TableStatus", "ACTIVE"},
		{"DescribeTable", `{"TableName":"locks"}`, "Table.WarmThroughput.Status", "ACTIVE"},
		{"DescribeTable", `{"TableName":"locks"}`, "Table.BillingModeSummary.BillingMode", "PAY_PER_REQUEST"},
		{"ListTables", `{}`, "TableNames.0", "locks"},
		{"ListTagsOfResource", `{"ResourceArn":"arn:aws:dynamodb:us-east-1:000000000000:table/locks"}`, "Tags.0.Value", "x"},
		{"TagResource", `{"ResourceArn":"arn:aws:dynamodb:us-east-1:000000000000:table/locks","Tags":[{"Key":"team","Value":"y"}]}`, "", ""},
		{
			"UntagResource", `{"ResourceArn":"arn:aws:dynamodb:us-east-1:000000000000:table/locks","TagKeys":["nothing"]}`, "",
			"",
		},
		{"ListTagsOfResource", `{"ResourceArn":"arn:aws:dynamodb:us-east-1:000000000000:table/locks"}`, "Tags.0.Value", "y"},
		{
			"UpdateTimeToLive", `{"TableName":"locks","TimeToLiveSpecification":{"AttributeName":"ttl","Enabled":true}}`,
			"TimeToLiveSpecification.AttributeName", "ttl",
		},
		{"DescribeTimeToLive", `{"TableName":"locks"}`, "TimeToLiveDescription.TimeToLiveStatus", "ENABLED"},
		{
			"DescribeContinuousBackups", `{"TableName":"locks"}`,
			"ContinuousBackupsDescription.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus", "DISABLED",
		},
		{
			"UpdateContinuousBackups",
			`{"TableName":"locks","PointInTimeRecoverySpecification":{"PointInTimeRecoveryEnabled":true}}`,
			"ContinuousBackupsDescription.PointInTimeRecoveryDescription.RecoveryPeriodInDays", "35",
		},
		{
			"DescribeContinuousBackups", `{"TableName":"locks"}`,
			"ContinuousBackupsDescription.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus", "ENABLED",
		},
		{
			"PutItem", `{"TableName":"locks","Item":{"key":{"S":"a"},"n":{"N":"1.50"}},"ReturnConsumedCapacity":"TOTAL"}`,
			"ConsumedCapacity.CapacityUnits", "1",
		},
		{"GetItem", key + `}`, "Item.n.N", "1.5"},
		{"UpdateItem", key + `,"UpdateExpression":"SET n = n + :i","ExpressionAttributeValues":{":i":{"N":"1"}},"ReturnValues":"UPDATED_NEW"}`, "Attributes.n.N", "2.5"},
		{"Query", `{"TableName":"locks","KeyConditionExpression":"#k = :a","ExpressionAttributeNames":{"#k":"key"},"ExpressionAttributeValues":{":a":{"S":"a"}}}`, "Count", "1"},
		{"Scan", `{"TableName":"locks"}`, "Items.0.key.S", "a"},
		{"TransactGetItems", `{"TransactItems":[{"Get":` + key + `}}]}`, "Responses.0.Item.n.N", "2.5"},
		{"BatchGetItem", `{"RequestItems":{"locks":{"Keys":[{"key":{"S":"a"}}]}}}`, "Responses.locks.0.n.N", "2.5"},
		{"BatchWriteItem", `{"RequestItems":{"locks":[{"PutRequest":{"Item":{"key":{"S":"b"}}}}]}}`, "", ""},
		{"TransactWriteItems", `{"TransactItems":[{"Delete":{"TableName":"locks","Key":{"key":{"S":"b"}}}}]}`, "", ""},
		{"DeleteItem", key + `,"ReturnValues":"ALL_OLD"}`, "Attributes.n.N", "2.5"},
		{"UpdateTable", `{"TableName":"locks","BillingMode":"PROVISIONED","ProvisionedThroughput":{"ReadCapacityUnits":5,"WriteCapacityUnits":5}}`, "TableDescription.ProvisionedThroughput.ReadCapacityUnits", "5"},
		{
			"UpdateTable", `{"TableName":"locks","SSESpecification":{"Enabled":true,"KMSMasterKeyId":"arn:key"}}`,
			"TableDescription.SSEDescription.KMSMasterKeyArn", "arn:key",
		},
		{"DescribeTable", `{"TableName":"locks"}`, "Table.SSEDescription.Status", "ENABLED"},
		{"DescribeLimits", `{}`, "TableMaxReadCapacityUnits", "40000"},
		{"DeleteTable", `{"TableName":"locks"}`, "TableDescription.TableName", "locks"},
	} {
		response, answer := post(t, web.URL, "cli", tt.operation, tt.body)
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %v", tt.operation, response.StatusCode, answer)
			continue
		}
		if got := at(answer, tt.path); tt.path != "" && got != tt.want {
			t.Errorf("%s: %s is %q, want %q", tt.operation, tt.path, got, tt.want)
		}
		if id := response.Header.Get("X-Amzn-Requestid"); id == "" || ids[id] {
			t.Errorf("%s: request id %q", tt.operation, id)
		} else {
			ids[id] = true
		}
		if _, err := http.ParseTime(response.Header.Get("Date")); err != nil {
			t.Errorf("%s: Date: %v", tt.operation, err)
		}
	}
	for _, r := range s.Requests() {
		if r.Client != "cli" {
			t.Errorf("%s came from %q, want the name in the signature", r.Operation, r.Client)
		}
	}
}

// at follows a path of names and indexes into an answer.
func at(answer any, path string) string {
	for _, step := range strings.Split(path, ".") {
		switch v := answer.(type) {
		case map[string]any:
			answer = v[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(v) {
				return "nothing"
			}
			answer = v[i]
		}
	}
	return fmt.Sprint(answer)
}

func TestWhatTheServerDoesNotKnowIsRefusedWithAnErrorThatSaysSo(t *testing.T) {
	t.Parallel()
	s := dynalocktest.NewServer()
	web := httptest.NewServer(s)
	defer web.Close()
	defer s.Close()
	createLocks(t, s)
	const create = `{"TableName":"more","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[{"AttributeName":"key","AttributeType":"S"}],"KeySchema":[{"AttributeName":"key","KeyType":"HASH"}]`
	for _, tt := range []struct{ operation, body, code, message string }{
		{"ExecuteStatement", `{}`, "UnknownOperationException", "An unknown operation was requested."},
		{"GetItem", `{"TableName":`, "SerializationException", "JSON"},
		{"GetItem", `{"TableName":7}`, "SerializationException", "TableName"},
		{
			"PutItem", `{"TableName":"locks","Item":{"key":{"S":"a"}},"Expected":{"a":{"Exists":false}}}`, "ValidationException",
			"Expected",
		},
		{
			"UpdateItem", `{"TableName":"locks","Key":{"key":{"S":"a"}},"AttributeUpdates":{"a":{"Action":"DELETE"}}}`,
			"ValidationException", "AttributeUpdates",
		},
		{"Query", `{"TableName":"locks","KeyConditions":{}}`, "ValidationException", "KeyConditions"},
		{"Scan", `{"TableName":"locks","IndexName":"i"}`, "ValidationException", "index"},
		{"CreateTable", create + `,"GlobalSecondaryIndexes":[{}]}`, "ValidationException", "indexes"},
		{"CreateTable", create + `,"StreamSpecification":{"StreamEnabled":true}}`, "ValidationException", "streams"},
		{
			"CreateTable", create + `,"ProvisionedThroughput":{"ReadCapacityUnits":1,"WriteCapacityUnits":1}}`,
			"ValidationException", "PAY_PER_REQUEST",
		},
		{"UpdateTable", `{"TableName":"locks","GlobalSecondaryIndexUpdates":[{}]}`, "ValidationException", "indexes"},
		{"UpdateTable", `{"TableName":"locks","ReplicaUpdates":[{}]}`, "ValidationException", "global tables"},
		{
			"ListTagsOfResource", `{"ResourceArn":"arn:aws:dynamodb:us-east-1:000000000000:table/none"}`,
			"ResourceNotFoundException", "none",
		},
	} {
		response, answer := post(t, web.URL, "cli", tt.operation, tt.body)
		kind, message := at(answer, "__type"), at(answer, "Message")
		if response.StatusCode != http.StatusBadRequest || !strings.HasSuffix(kind, "#"+tt.code) ||
			!strings.Contains(message, tt.message) {
			t.Errorf("%s %s: %d %s %q, want %s with %q", tt.operation, tt.body, response.StatusCode, kind, message, tt.code,
				tt.message)
		}
	}
}

func TestOverHTTPALostAnswerHoldsTheConnectionAndAResetBreaksIt(t *testing.T) {
	t.Parallel()
	applied := make(chan struct{}, 10)
	s := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) {
		o.OnRequest = func(r dynalocktest.Request) {
			if r.Operation == "UpdateItem" {
				applied <- struct{}{}
			}
		}
	})
	web := httptest.NewServer(s)
	defer web.Close()
	defer s.Close()
	createLocks(t, s)
	db := dynamodb.New(dynamodb.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(web.URL), Retryer: aws.NopRetryer{}, HTTPClient: http.DefaultClient,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "worker", SecretAccessKey: "secret"}, nil
		}),
	})
	s.Inject(dynalocktest.Fault{Kind: dynalocktest.ResetAfter, Client: "worker", Times: 1})
	if err := count(t.Context(), db, "a"); code(err) != "reset" && !strings.Contains(fmt.Sprint(err), "EOF") {
		t.Errorf("after a reset the client gets %v", err)
	}
	s.Inject(dynalocktest.Fault{Kind: dynalocktest.LostResponse, Client: "worker", Times: 1})
	<-applied
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-applied
		cancel()
	}()
	if err := count(ctx, db, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("without an answer the client gets %v", err)
	}
	if got := counter(t, s, "a"); got != "2" {
		t.Errorf("%s writes were applied, want 2", got)
	}
}

func TestAHealthCheckIsAnswered(t *testing.T) {
	t.Parallel()
	s := dynalocktest.NewServer()
	defer s.Close()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if line, err := bufio.NewReader(w.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "healthy") {
		t.Errorf("got %q, %v", line, err)
	}
}
