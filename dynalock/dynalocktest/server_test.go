package dynalocktest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func createLocks(t *testing.T, s *dynalocktest.Server) *dynamodb.Client {
	t.Helper()
	db := s.Client()
	if _, err := db.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:            aws.String("locks"),
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("key"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("key"), AttributeType: types.ScalarAttributeTypeS}},
		BillingMode:          types.BillingModePayPerRequest,
	}); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestARefusedConditionCarriesTheItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer()
		defer s.Close()
		db := createLocks(t, s)
		update := &dynamodb.UpdateItemInput{
			TableName: aws.String("locks"), Key: map[string]types.AttributeValue{"key": str("a")},
			UpdateExpression: aws.String("SET #o = :o, #t = if_not_exists(#t, :z) + :one"), ConditionExpression: aws.String("attribute_not_exists(#o)"),
			ExpressionAttributeNames: map[string]string{"#o": "owner", "#t": "token"},
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":o": str("me"), ":z": &types.AttributeValueMemberN{Value: "10"}, ":one": &types.AttributeValueMemberN{Value: "1"},
			},
			ReturnValues: types.ReturnValueAllNew, ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		}
		out, err := db.UpdateItem(t.Context(), update)
		if err != nil {
			t.Fatal(err)
		}
		if n := out.Attributes["token"].(*types.AttributeValueMemberN).Value; n != "11" {
			t.Fatalf("token %s", n)
		}
		_, err = db.UpdateItem(t.Context(), update)
		var failed *types.ConditionalCheckFailedException
		if !errors.As(err, &failed) || failed.Item["owner"].(*types.AttributeValueMemberS).Value != "me" {
			t.Fatalf("%v", err)
		}
		if u := s.Usage(); u.WriteUnits != 2 || u.Requests["UpdateItem"] != 2 {
			t.Fatalf("%+v", u)
		}
	})
}

func TestALostResponseEndsWithTheCallersContextAndTheWriteIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer()
		defer s.Close()
		db := createLocks(t, s)
		s.Inject(dynalocktest.Fault{Operation: "PutItem", Times: 1, Kind: dynalocktest.LostResponse})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := db.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String("locks"), Item: map[string]types.AttributeValue{"key": str("a")}})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		got, err := db.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("locks"), Key: map[string]types.AttributeValue{"key": str("a")}})
		if err != nil || len(got.Item) == 0 {
			t.Fatalf("%v %v", got, err)
		}
	})
}
