package dynalocktest_test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// BenchmarkHeartbeat is the conditional update of a lock client, among as many other locks, through the SDK.
func BenchmarkHeartbeat(b *testing.B) {
	for _, locks := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("locks=%d", locks), func(b *testing.B) {
			s := dynalocktest.NewServer()
			defer s.Close()
			db := s.Client()
			makeTable(b.Context(), db)
			keys := make([]item, locks)
			for i := range keys {
				keys[i] = item{"key": str(fmt.Sprintf("lock-%d", i))}
				if _, err := db.PutItem(b.Context(), &dynamodb.PutItemInput{TableName: aws.String("locks"), Item: item{
					"key": keys[i]["key"], "ownerName": str("host/1"), "leaseDuration": str("10000"),
					"recordVersionNumber": str("id-0"), "fencingToken": num("1700000000000000"),
				}}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if _, err := db.UpdateItem(b.Context(), &dynamodb.UpdateItemInput{
					TableName: aws.String("locks"), Key: keys[n%locks],
					UpdateExpression: aws.String("SET #v = :next"), ConditionExpression: aws.String("#v = :last"),
					ExpressionAttributeNames: map[string]string{"#v": "recordVersionNumber"},
					ExpressionAttributeValues: item{
						":last": str(fmt.Sprintf("id-%d", n/locks)),
						":next": str(fmt.Sprintf("id-%d", n/locks+1)),
					},
					ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
				}); err != nil {
					b.Fatal(err)
				}
				n++
			}
		})
	}
}
