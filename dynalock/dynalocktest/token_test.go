package dynalocktest_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// onTable is a test with an empty table of its own.
type onTable struct {
	*testing.T

	db    *dynamodb.Client
	table string
}

// onBoth runs a test on the embedded server and, where there is one, on DynamoDB Local.
func onBoth(t *testing.T, test func(onTable)) {
	t.Helper()
	run := func(e onTable) {
		key := aws.String("key")
		if _, err := e.db.CreateTable(e.Context(), &dynamodb.CreateTableInput{
			TableName:            &e.table,
			KeySchema:            []types.KeySchemaElement{{AttributeName: key, KeyType: types.KeyTypeHash}},
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: key, AttributeType: types.ScalarAttributeTypeS}},
			BillingMode:          types.BillingModePayPerRequest,
		}); err != nil {
			e.Fatal(err)
		}
		test(e)
	}
	t.Run("embedded", func(t *testing.T) {
		s := dynalocktest.NewServer()
		t.Cleanup(s.Close)
		run(onTable{t, s.Client(), "tokens"})
	})
	endpoint := os.Getenv("DYNALOCK_TEST_ENDPOINT")
	if endpoint == "" {
		return
	}
	t.Run("DynamoDB Local", func(t *testing.T) {
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		db := dynamodb.New(dynamodb.Options{
			Region: "us-west-2", BaseEndpoint: &endpoint, HTTPClient: &http.Client{Transport: transport},
			Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
		})
		table := "tokens-" + rand.Text()
		t.Cleanup(func() {
			_, _ = db.DeleteTable(context.WithoutCancel(t.Context()), &dynamodb.DeleteTableInput{TableName: &table})
		})
		run(onTable{t, db, table})
	})
}

// add is a transaction that adds n to a counter, if the counter has been begun where it must be.
func add(table, token, n string, mustExist bool) *dynamodb.TransactWriteItemsInput {
	update := &types.Update{
		TableName: &table, Key: item{"key": str("a")}, UpdateExpression: aws.String("ADD n :n"),
		ExpressionAttributeValues: item{":n": num(n)},
	}
	if mustExist {
		update.ConditionExpression = aws.String("attribute_exists(n)")
	}
	return &dynamodb.TransactWriteItemsInput{
		ClientRequestToken: &token, TransactItems: []types.TransactWriteItem{{Update: update}},
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	}
}

func TestATransactionIsAppliedOnceUnderItsTokenAndACancelledOneIsForgotten(t *testing.T) {
	onBoth(t, func(e onTable) {
		db, table, once, twice := e.db, e.table, rand.Text(), rand.Text()
		for i, step := range []struct {
			in            *dynamodb.TransactWriteItemsInput
			answer, value string
		}{
			{add(table, once, "1", true), "TransactionCanceledException", ""}, // nothing exists yet
			{add(table, twice, "1", false), "ok", "1"},
			{add(table, once, "1", true), "ok", "2"}, // the same token and parameters apply now
			{add(table, once, "1", true), "ok", "2"}, // and once only
			{add(table, once, "2", true), "IdempotentParameterMismatchException", "2"},
			{add(table, once, "1", false), "IdempotentParameterMismatchException", "2"},
			{add(table, twice, "1", false), "ok", "2"}, // the older token still counts
			{add(table, once, "1", true), "ok", "2"},   // and a mismatch changes nothing about it
		} {
			_, err := db.TransactWriteItems(e.Context(), step.in)
			if got := code(err); got != step.answer {
				e.Errorf("step %d gets %s (%v), want %s", i, got, err, step.answer)
			}
			out, err := db.GetItem(e.Context(), &dynamodb.GetItemInput{
				TableName: &table, Key: item{"key": str("a")}, ConsistentRead: aws.Bool(true),
			})
			if err != nil {
				e.Fatal(err)
			}
			value := ""
			if n, ok := out.Item["n"].(*types.AttributeValueMemberN); ok {
				value = n.Value
			}
			if value != step.value {
				e.Errorf("step %d leaves %q, want %q", i, value, step.value)
			}
		}
	})
}

func TestATokenIsForgottenTenMinutesAfterItsTransactionAndItsRepetitionCostsReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer()
		defer s.Close()
		db := createLocks(t, s)
		var costs []float64
		for i, step := range []struct {
			wait         time.Duration
			value        string
			reads, write float64
		}{
			{0, "1", 0, 2},
			{0, "1", 2, 0},
			{10*time.Minute - time.Second, "1", 2, 0}, // and a repetition does not make it last longer
			{time.Second, "2", 0, 2},
			{10*time.Minute - time.Second, "2", 2, 0},
		} {
			time.Sleep(step.wait)
			s.ResetUsage()
			out, err := db.TransactWriteItems(t.Context(), add("locks", "x", "1", false))
			if err != nil {
				t.Fatal(err)
			}
			costs = append(costs, *out.ConsumedCapacity[0].CapacityUnits)
			u := s.Usage()
			if got := counter(t, s, "a"); got != step.value || u.ReadUnits != step.reads || u.WriteUnits != step.write {
				t.Errorf("step %d: applied %s times for %v reads and %v writes, want %+v", i, got, u.ReadUnits, u.WriteUnits, step)
			}
		}
		if want := []float64{2, 2, 2, 2, 2}; !slices.Equal(costs, want) {
			t.Errorf("the answers say %v units, want %v", costs, want)
		}
	})
}

func TestALateCopyOfATransactionAppliesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer()
		defer s.Close()
		db := createLocks(t, s)
		for _, delay := range []time.Duration{0, time.Second, 5 * time.Minute, 301 * time.Second, 11 * time.Minute} {
			s.Inject(dynalocktest.Fault{Kind: dynalocktest.Duplicated, Operation: "TransactWriteItems", Delay: delay, Times: 1})
			in := add("locks", "", "1", false)
			in.ClientRequestToken = nil // the SDK makes a token of its own for each
			if _, err := db.TransactWriteItems(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Minute)
		if got := counter(t, s, "a"); got != "5" {
			t.Errorf("5 transactions and their late copies are applied %s times", got)
		}
	})
}
