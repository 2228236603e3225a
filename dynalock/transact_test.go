package dynalock_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/dynalock/dynalock/dynalock"
)

func TestTransactDoesNotBlameTheLocksTableForWhatIsTheCallers(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client()
		l := e.acquire(c, "key")
		for name, tt := range map[string]struct {
			item types.TransactWriteItem
			says string
		}{
			"table": {types.TransactWriteItem{Put: &types.Put{TableName: aws.String("accounts"), Item: attributes{"key": s("x")}}}, "does not say which"},
			"key":   {types.TransactWriteItem{Put: &types.Put{TableName: &e.table, Item: attributes{"id": s("x")}}}, ""},
			"condition": {types.TransactWriteItem{Update: &types.Update{
				TableName: &e.table, Key: attributes{"key": s("x")}, UpdateExpression: aws.String("SET a = :a"), ConditionExpression: aws.String("attribute_exists(b)"),
				ExpressionAttributeValues: attributes{":a": s("a")},
			}}, `item 0 on table "` + e.table + `" (ConditionalCheckFailed)`},
		} {
			start := time.Now()
			err := l.Transact(e.ctx, tt.item)
			check(e, time.Since(start) < 3*lease, "%s: it was repeated for %v", name, time.Since(start))
			store, ok := errors.AsType[*dynalock.StoreError](err)
			if !ok {
				e.Fatalf("%s: %v", name, err)
			}
			check(e, strings.Contains(store.Hint, tt.says), "%s: the hint is %q", name, store.Hint)
			for _, blame := range []string{"the table does not exist", "the table's key attributes", "permission on the table"} {
				check(e, !strings.Contains(store.Hint, blame), "%s: the hint is %q", name, store.Hint)
			}
			check(e, name != "table" || strings.Contains(store.Hint, `"accounts"`), "%s: the hint is %q", name, store.Hint)
		}
	})
}

func TestTransactSaysWhichItemItsHintIsAbout(t *testing.T) {
	reason := func(code string) types.CancellationReason {
		return types.CancellationReason{Code: &code, Message: aws.String("The provided key element does not match the schema")}
	}
	cancelled := func(codes ...string) error {
		e := &types.TransactionCanceledException{}
		for _, code := range codes {
			e.CancellationReasons = append(e.CancellationReasons, reason(code))
		}
		return e
	}
	for name, tt := range map[string]struct {
		err  error
		says string
		not  string
	}{
		"the caller's key":                  {cancelled("None", "ValidationError", "None"), `cancelled by item 1 on table "b" (ValidationError)`, "item 0"},
		"the lock's key":                    {cancelled("None", "None", "ValidationError"), `partition key "key"`, "item"},
		"a condition beside a conflict":     {cancelled("ConditionalCheckFailed", "None", "TransactionConflict"), `item 0 on table "a" (ConditionalCheckFailed), the lock's check (TransactionConflict)`, "item 1"},
		"no reasons":                        {cancelled(), "", "cancelled by"},
		"a table that does not exist":       {&types.ResourceNotFoundException{}, `"a", "b"`, "the table does not"},
		"a permission":                      {&smithy.GenericAPIError{Code: "AccessDeniedException"}, "dynamodb:ConditionCheckItem", "permission on the table"},
		"a request that is not valid":       {&smithy.GenericAPIError{Code: "ValidationException", Message: "The provided key element"}, "the lock's check, which comes last", "partition key"},
		"credentials, which are everyone's": {&smithy.GenericAPIError{Code: "ExpiredTokenException"}, "credentials are not valid", "which"},
	} {
		virtually(t, name, func(e *env) {
			c := e.through(&wrapped{transact: func(func() (*dynamodb.TransactWriteItemsOutput, error)) (*dynamodb.TransactWriteItemsOutput, error) {
				return nil, tt.err
			}})
			l := e.acquire(c, "key")
			err := l.Transact(e.within(lease),
				types.TransactWriteItem{Delete: &types.Delete{TableName: aws.String("a")}},
				types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{TableName: aws.String("b")}})
			store, ok := errors.AsType[*dynalock.StoreError](err)
			if !ok {
				e.Fatalf("%v", err)
			}
			check(e, strings.Contains(store.Hint, tt.says) && !strings.Contains(store.Hint, tt.not), "the hint is %q", store.Hint)
		})
	}
}
