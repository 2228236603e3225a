package dynalocktest_test

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"pgregory.net/rapid"
)

// stepsPerSequence is the mean length of a rapid sequence (its -rapid.steps).
const stepsPerSequence = 30

// pair is the two servers that must not differ, and what was asked of them so far.
type pair struct {
	ours, real *dynamodb.Client
	operations int
	answers    map[string]int
	cut        bool // the rest of this sequence proves nothing: see check
	cuts       int
}

// newPair skips the test where there is no real DynamoDB Local to compare with: the
// embedded server compared with itself would prove nothing.
func newPair(t *testing.T) *pair {
	t.Helper()
	endpoint := os.Getenv("DYNALOCK_TEST_ENDPOINT")
	if endpoint == "" {
		t.Skip("not applicable: DYNALOCK_TEST_ENDPOINT names no DynamoDB Local to compare the embedded server with")
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	local := dynamodb.New(dynamodb.Options{
		Region: "us-west-2", BaseEndpoint: &endpoint, Retryer: aws.NopRetryer{},
		HTTPClient:  &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
	server := dynalocktest.NewServer()
	t.Cleanup(server.Close)
	return &pair{ours: server.Client(), real: local, answers: map[string]int{}}
}

// check sends an operation to both servers and fails where their answers differ.
func (p *pair) check(ctx context.Context, t *rapid.T, op operation, anonymous func(string) string) {
	if p.cut {
		return
	}
	answer := op.answer(ctx, p.real)
	if strings.Contains(text(answer), `"NotAnswered"`) {
		// A connection to DynamoDB Local broke, and nobody knows whether it applied the request.
		p.cut = true
		p.cuts++
		return
	}
	p.operations++
	p.answers[op.name+" "+outcome(answer)]++
	want, got := text(settleNumbers(answer)), text(op.answer(ctx, p.ours))
	if want, got = anonymous(want), anonymous(got); want != got {
		t.Logf("request:        %s", anonymous(op.GoString()))
		t.Logf("DynamoDB Local: %s", want)
		t.Logf("embedded:       %s", got)
		t.Fatalf("%s: the answers differ", op.name)
	}
}

// outcome is the error code of an answer, of a walk's last page, or "ok".
func outcome(answer any) string {
	if pages, ok := answer.([]any); ok && len(pages) > 0 {
		answer = pages[len(pages)-1]
	}
	if fields, ok := answer.(map[string]any); ok {
		if failed, ok := fields["Error"].(map[string]any); ok {
			return fmt.Sprint(failed["Code"])
		}
	}
	return "ok"
}

// report shows what was answered how often: a generator that reaches little but
// errors would show here.
func (p *pair) report(t *testing.T) {
	t.Helper()
	t.Logf("%d operations compared, %d sequences cut short by a broken connection to DynamoDB Local", p.operations, p.cuts)
	for _, answer := range slices.Sorted(maps.Keys(p.answers)) {
		t.Logf("%6d %s", p.answers[answer], answer)
	}
}

// run repeats the property until the wanted number of operations was compared:
// DYNALOCK_DIFFERENTIAL_OPS, default 2000. A failure is shrunk, and reproduced with
// the -rapid.seed or -rapid.failfile that it prints.
func (p *pair) run(t *testing.T, share int, property func(*rapid.T)) {
	t.Helper()
	want := 2000
	if s := os.Getenv("DYNALOCK_DIFFERENTIAL_OPS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("DYNALOCK_DIFFERENTIAL_OPS is %q, not a number above 0", s)
		}
		want = n
	}
	want = max(1, want*share/100)
	checks := flag.Lookup("rapid.checks")
	usual := checks.Value.String()
	defer func() { _ = checks.Value.Set(usual) }()
	for p.operations < want && !t.Failed() {
		_ = checks.Value.Set(strconv.Itoa(1 + (want-p.operations)/stepsPerSequence))
		rapid.Check(t, property)
		if p.cuts > 1+p.operations/1000 {
			t.Error("too many sequences were cut short: is DynamoDB Local still there?")
		}
	}
	p.report(t)
}

// world is what one sequence runs on: tables of its own, empty at first.
type world struct {
	tables          []table
	lastTransaction *dynamodb.TransactWriteItemsInput
}

var shapes = []table{
	{hash: "key", hashType: "S"},
	{hash: "key", hashType: "S", sort: "sk", sortType: "S"},
	{hash: "key", hashType: "S", sort: "sk", sortType: "N"},
	{hash: "id", hashType: "N"},
	{hash: "key", hashType: "B", sort: "sk", sortType: "B"},
}

func (p *pair) newWorld(ctx context.Context, t *rapid.T, prefix string) *world {
	w := &world{}
	for i := range 2 {
		tb := shapes[0]
		if i > 0 {
			tb = pick(&source{T: t}, shapes[1:]...)
		}
		tb.name = fmt.Sprintf("%s-%d", prefix, i)
		w.tables = append(w.tables, tb)
		in := &dynamodb.CreateTableInput{
			TableName: &tb.name, BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{{
				AttributeName: &tb.hash,
				AttributeType: types.ScalarAttributeType(tb.hashType),
			}},
			KeySchema: []types.KeySchemaElement{{AttributeName: &tb.hash, KeyType: types.KeyTypeHash}},
		}
		if tb.sort != "" {
			in.AttributeDefinitions = append(in.AttributeDefinitions,
				types.AttributeDefinition{AttributeName: &tb.sort, AttributeType: types.ScalarAttributeType(tb.sortType)})
			in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &tb.sort, KeyType: types.KeyTypeRange})
		}
		for _, db := range []*dynamodb.Client{p.real, p.ours} {
			if _, err := db.CreateTable(ctx, in); err != nil {
				if strings.Contains(text(errorTree(err)), `"NotAnswered"`) {
					t.Skipf("another sequence is drawn in place of this one: %v", err)
				}
				t.Fatalf("create table: %v", err)
			}
		}
	}
	return w
}

// drop removes the tables of a sequence; those that are protected against it, too.
func (p *pair) drop(ctx context.Context, names ...string) {
	for _, name := range names {
		for _, db := range []*dynamodb.Client{p.real, p.ours} {
			_, _ = db.UpdateTable(ctx, &dynamodb.UpdateTableInput{TableName: &name, DeletionProtectionEnabled: aws.Bool(false)})
			_, _ = db.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: &name})
		}
	}
}

func TestItemOperationsAnswerAsOnDynamoDBLocal(t *testing.T) {
	p := newPair(t)
	ctx := t.Context()
	run, sequence := rand.Text()[:8], 0
	p.run(t, 100, func(t *rapid.T) {
		sequence, p.cut = sequence+1, false
		w := p.newWorld(ctx, t, fmt.Sprintf("diff-%s-%d", run, sequence))
		defer p.drop(ctx, w.tables[0].name, w.tables[1].name)
		t.Repeat(map[string]func(*rapid.T){
			"operation": func(t *rapid.T) {
				op := rapid.Custom(w.genItemOperation).Draw(t, "operation")
				p.check(ctx, t, op, w.anonymous)
			},
		})
		for _, tb := range w.tables {
			if p.cut {
				return
			}
			want, got := w.anonymous(text(settleNumbers(contents(ctx, p.real, tb)))),
				w.anonymous(text(contents(ctx, p.ours, tb)))
			if want != got {
				t.Logf("%s on DynamoDB Local: %s", w.anonymous(tb.name), want)
				t.Logf("%s on the embedded:   %s", w.anonymous(tb.name), got)
				t.Fatalf("the tables differ after the same operations")
			}
		}
	})
}
