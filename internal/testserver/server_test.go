package testserver

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

func TestMain(m *testing.M) { Main(m) }

func put(t *testing.T, db *dynamodb.Client, table string, item map[string]types.AttributeValue) error {
	t.Helper()
	_, err := db.PutItem(t.Context(), &dynamodb.PutItemInput{
		TableName: &table, Item: item,
		ConditionExpression:      aws.String("attribute_not_exists(#k)"),
		ExpressionAttributeNames: map[string]string{"#k": "key"},
	})
	return err
}

func TestATableHasTheKeysItWasAskedForAndIsGoneAfterTheTest(t *testing.T) {
	t.Parallel()
	var table string
	var db *dynamodb.Client
	server := New(t)
	t.Run("life", func(t *testing.T) {
		table, db = server.Table(t, "key", "sort"), server.Client()
		item := map[string]types.AttributeValue{
			"key": &types.AttributeValueMemberS{Value: "a"}, "sort": &types.AttributeValueMemberS{Value: "b"},
		}
		if err := put(t, db, table, item); err != nil {
			t.Fatal(err)
		}
		delete(item, "sort")
		if err := put(t, db, table, item); err == nil {
			t.Error("an item without the sort key is taken")
		}
		if other := server.Table(t, "key", ""); other == table {
			t.Errorf("two tables of one name, %s", other)
		} else if err := put(t, db, other, item); err != nil {
			t.Errorf("without a sort key: %v", err)
		}
	})
	_, err := db.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &table})
	if _, gone := errors.AsType[*types.ResourceNotFoundException](err); !gone {
		t.Errorf("describing the table after its test: %v", err)
	}
}

func TestAWriteWhoseAnswerIsLostWasApplied(t *testing.T) {
	t.Parallel()
	server := New(t)
	table := server.Table(t, "key", "")
	db, wire := Tap(server.Client(func(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} }))
	item := map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: "a"}}

	wire.Inject(Fault{Kind: LoseRequest, Op: "PutItem", Times: 1})
	wire.Inject(Fault{Kind: LoseResponse, Op: "PutItem", Times: 1})
	for range 2 {
		if err := put(t, db, table, item); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the caller sees %v", err)
		}
	}
	_, refused := errors.AsType[*types.ConditionalCheckFailedException](put(t, db, table, item))
	if !refused || wire.Count("PutItem") != 3 {
		t.Errorf("refused: %v, after %d requests; want the third of 3 refused", refused, wire.Count("PutItem"))
	}
}

func TestADelayedRequestIsStillValidWhenItIsDelivered(t *testing.T) {
	t.Parallel()
	server := New(t)
	table := server.Table(t, "key", "")
	db, wire := Tap(server.Client(func(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} }))
	item := map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: "a"}}

	wire.Inject(Fault{Kind: KeepRequest, Op: "PutItem", Times: 2})
	for range 2 {
		if err := put(t, db, table, item); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the caller sees %v", err)
		}
	}
	statuses, err := wire.Deliver(t.Context())
	if err != nil || len(statuses) != 2 || statuses[0] != http.StatusOK || statuses[1] != http.StatusBadRequest {
		t.Errorf("delivered with %v, %v; want the first applied and the second refused", statuses, err)
	}
}

func TestTheEmbeddedServerServesOneTestAlone(t *testing.T) {
	t.Parallel()
	a, b := New(t), New(t)
	if a.Embedded() == nil {
		if a.Endpoint() != b.Endpoint() {
			t.Errorf("two servers outside of the process, %s and %s", a.Endpoint(), b.Endpoint())
		}
		return
	}
	if a.Embedded() == b.Embedded() || a.Endpoint() == b.Endpoint() {
		t.Error("two tests share one embedded server")
	}
}

// leak is what a child of this test binary does in place of a real test.
func TestAGoroutineThatOutlivesTheTestsFailsTheRun(t *testing.T) {
	if os.Getenv("TESTSERVER_LEAK") != "" {
		go func() { select {} }()
		return
	}
	t.Parallel()
	for _, leak := range []string{"", "yes"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAnEndpointAnswersWithAnyStatus$")
		if leak != "" {
			cmd = exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
			cmd.Env = append(os.Environ(), "TESTSERVER_LEAK=yes")
		}
		out, err := cmd.CombinedOutput()
		if failed := err != nil; failed != (leak != "") || failed != bytes.Contains(out, []byte("left something behind")) {
			t.Errorf("leak %q: %v\n%s", leak, err, out)
		}
	}
}
