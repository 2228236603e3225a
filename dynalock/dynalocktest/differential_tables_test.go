package dynalocktest_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"pgregory.net/rapid"
)

// settleTable drops what names a server or a moment rather than a table.
func settleTable(table any) {
	fields, ok := table.(map[string]any)
	if !ok {
		return
	}
	// Account, Region and the table's own random id differ between any two servers.
	for _, name := range []string{"TableArn", "TableId"} {
		delete(fields, name)
	}
	// Moments, of which only the presence can be equal.
	if fields["CreationDateTime"] != nil {
		fields["CreationDateTime"] = "a time"
	}
	if billing, ok := fields["BillingModeSummary"].(map[string]any); ok &&
		billing["LastUpdateToPayPerRequestDateTime"] != nil {
		billing["LastUpdateToPayPerRequestDateTime"] = "a time"
	}
	// DynamoDB Local gives 1 January 1970 for what never happened; the service gives nothing.
	if throughput, ok := fields["ProvisionedThroughput"].(map[string]any); ok {
		delete(throughput, "LastIncreaseDateTime")
		delete(throughput, "LastDecreaseDateTime")
	}
	// DynamoDB Local lacks it; Terraform's provider waits for it.
	delete(fields, "WarmThroughput")
}

// settleChange is settleTable for the answer to a change. Whether the change is still
// going on in that answer, as in the service, or done, as in DynamoDB Local, is a matter
// of time; DescribeTable's status is compared.
func settleChange(answer map[string]any) {
	settleSchemaError(answer)
	settleTable(answer["TableDescription"])
	if fields, ok := answer["TableDescription"].(map[string]any); ok {
		delete(fields, "TableStatus")
	}
}

// settleSchemaError compares a refused schema or change of it by code and status only:
// DynamoDB Local words these in its own way throughout.
func settleSchemaError(answer map[string]any) {
	if failed, ok := answer["Error"].(map[string]any); ok && failed["Code"] == "ValidationException" {
		delete(failed, "Message")
	}
}

// tables is what a sequence of table operations runs on: a few names, no table at first.
type tables struct{ names []string }

func (ts *tables) anonymous(s string) string {
	for i, name := range ts.names {
		s = strings.ReplaceAll(s, name, fmt.Sprintf("table%d", i))
	}
	return s
}

func (ts *tables) name(t *source) *string {
	if t.mistake(3) {
		return aws.String(pick(t, "ab", "bad name!", "", strings.Repeat("n", 256), ts.names[0]+"-none"))
	}
	return aws.String(pick(t, ts.names...))
}

func genThroughput(t *source) *types.ProvisionedThroughput {
	units := func() *int64 {
		if t.mistake(3) {
			return aws.Int64(pick(t, int64(0), -1))
		}
		return aws.Int64(pick(t, int64(1), 5, 100))
	}
	return &types.ProvisionedThroughput{ReadCapacityUnits: units(), WriteCapacityUnits: units()}
}

func (ts *tables) genCreate(t *source) operation {
	in := &dynamodb.CreateTableInput{TableName: ts.name(t)}
	define := func(name, kind string) {
		in.AttributeDefinitions = append(in.AttributeDefinitions,
			types.AttributeDefinition{AttributeName: &name, AttributeType: types.ScalarAttributeType(kind)})
	}
	key := func(name string, kind types.KeyType) {
		in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &name, KeyType: kind})
	}
	kind := func() string {
		if t.mistake(3) {
			return pick(t, "BOOL", "SS", "s")
		}
		return pick(t, "S", "N", "B")
	}
	define("key", kind())
	key("key", types.KeyTypeHash)
	if chance(t, 40) {
		define("sk", kind())
		key("sk", types.KeyTypeRange)
	}
	if t.mistake(20) {
		switch upTo(t, 6) {
		case 0:
			define("other", "S") // defined but in no key
		case 1:
			key("other", types.KeyTypeRange) // in the key but not defined
		case 2:
			in.KeySchema = in.KeySchema[:0]
		case 3:
			in.AttributeDefinitions = in.AttributeDefinitions[:0]
		case 4:
			in.KeySchema[0].KeyType = types.KeyTypeRange
		case 5:
			define("key", "S") // defined twice
		default:
			key("key", types.KeyTypeRange) // hash and range in one
		}
	}
	switch {
	case chance(t, 60):
		// Without throughput: DynamoDB Local ignores it there, the service refuses it.
		in.BillingMode = types.BillingModePayPerRequest
	default:
		in.BillingMode = pick(t, types.BillingModeProvisioned, "")
		if !t.mistake(4) {
			in.ProvisionedThroughput = genThroughput(t)
		}
	}
	// An unknown billing mode is left out: DynamoDB Local answers it with an internal failure.
	in.DeletionProtectionEnabled = pick(t, nil, nil, nil, aws.Bool(false), aws.Bool(true))
	return call("CreateTable", in, (*dynamodb.Client).CreateTable, settleChange)
}

func (ts *tables) genUpdate(t *source) operation {
	in := &dynamodb.UpdateTableInput{TableName: ts.name(t)}
	switch upTo(t, 3) {
	case 0:
		in.DeletionProtectionEnabled = aws.Bool(chance(t, 20))
	case 1:
		in.BillingMode = types.BillingModePayPerRequest
	case 2:
		// Mode and throughput together: DynamoDB Local takes either alone where the table has the other.
		in.BillingMode = types.BillingModeProvisioned
		in.ProvisionedThroughput = genThroughput(t)
	default:
		// nothing to change
	}
	return call("UpdateTable", in, (*dynamodb.Client).UpdateTable, settleChange)
}

func (ts *tables) genDescribe(t *source) operation {
	in := &dynamodb.DescribeTableInput{TableName: ts.name(t)}
	return call("DescribeTable", in, (*dynamodb.Client).DescribeTable,
		func(answer map[string]any) { settleTable(answer["Table"]) })
}

func (ts *tables) genDelete(t *source) operation {
	in := &dynamodb.DeleteTableInput{TableName: ts.name(t)}
	return call("DeleteTable", in, (*dynamodb.Client).DeleteTable, settleChange)
}

func (ts *tables) genUpdateTTL(t *source) operation {
	attribute := pick(t, "expires", "ttl")
	if t.mistake(3) {
		attribute = pick(t, "", strings.Repeat("a", 256), "key")
	}
	in := &dynamodb.UpdateTimeToLiveInput{
		TableName:               ts.name(t),
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: &attribute, Enabled: aws.Bool(chance(t, 60))},
	}
	return call("UpdateTimeToLive", in, (*dynamodb.Client).UpdateTimeToLive, nil)
}

func (ts *tables) genDescribeTTL(t *source) operation {
	in := &dynamodb.DescribeTimeToLiveInput{TableName: ts.name(t)}
	return call("DescribeTimeToLive", in, (*dynamodb.Client).DescribeTimeToLive, nil)
}

// genList pages through the names from the sequence's own prefix on: others may have
// tables on the same DynamoDB Local, before and after.
func (ts *tables) genList(t *source) operation {
	prefix := strings.TrimSuffix(ts.names[0], "0")
	in := &dynamodb.ListTablesInput{ExclusiveStartTableName: &prefix, Limit: aws.Int32(int32(1 + upTo(t, 2)))}
	if t.mistake(5) {
		in.Limit = aws.Int32(pick(t, int32(0), 101, -1))
	}
	return operation{"ListTables", in, func(ctx context.Context, db *dynamodb.Client) any {
		next := *in
		names := []string{}
		for {
			out, err := db.ListTables(ctx, &next)
			if err != nil {
				return map[string]any{"Error": errorTree(err)}
			}
			if len(out.TableNames) > int(*in.Limit) {
				return fmt.Sprintf("%d names on a page of %d", len(out.TableNames), *in.Limit)
			}
			for _, name := range out.TableNames {
				if !strings.HasPrefix(name, prefix) {
					return names
				}
				names = append(names, name)
			}
			if next.ExclusiveStartTableName = out.LastEvaluatedTableName; out.LastEvaluatedTableName == nil {
				return names
			}
		}
	}}
}

func (ts *tables) genOperation(rt *rapid.T) operation {
	t := &source{T: rt}
	return pick(t, ts.genCreate, ts.genDescribe, ts.genCreate, ts.genUpdateTTL, ts.genDescribeTTL, ts.genUpdate,
		ts.genList, ts.genDelete)(t)
}

func TestTableOperationsAnswerAsOnDynamoDBLocal(t *testing.T) {
	p := newPair(t)
	ctx := t.Context()
	run, sequence := rand.Text()[:8], 0
	p.run(t, 10, func(t *rapid.T) {
		sequence, p.cut = sequence+1, false
		ts := &tables{}
		for i := range 3 {
			ts.names = append(ts.names, fmt.Sprintf("diff-%s-t%d-%d", run, sequence, i))
		}
		defer p.drop(ctx, ts.names...)
		t.Repeat(map[string]func(*rapid.T){
			"operation": func(t *rapid.T) {
				p.check(ctx, t, rapid.Custom(ts.genOperation).Draw(t, "operation"), ts.anonymous)
			},
		})
	})
}
