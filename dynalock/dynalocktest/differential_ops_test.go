package dynalocktest_test

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"pgregory.net/rapid"
)

// operation is one request, or the requests of one paginated read, that both
// servers get. answer is everything a client could see of it.
type operation struct {
	name   string
	input  any
	answer func(ctx context.Context, db *dynamodb.Client) any
}

// GoString is how a failing sequence prints.
func (op operation) GoString() string {
	return op.name + " " + text(tree(reflect.ValueOf(op.input)))
}

func call[I, O any](
	name string, input I, method func(*dynamodb.Client, context.Context, I, ...func(*dynamodb.Options)) (O, error),
	settle func(map[string]any),
) operation {
	return operation{name, input, func(ctx context.Context, db *dynamodb.Client) any {
		output, err := method(db, ctx, input)
		if err != nil {
			answer := map[string]any{"Error": errorTree(err)}
			if settle != nil {
				settle(answer)
			}
			return answer
		}
		answer, _ := tree(reflect.ValueOf(output)).(map[string]any)
		if settle != nil {
			settle(answer)
		}
		return answer
	}}
}

func genCapacity(t *source) types.ReturnConsumedCapacity {
	return pick(t, types.ReturnConsumedCapacityTotal, types.ReturnConsumedCapacityTotal,
		types.ReturnConsumedCapacityIndexes, types.ReturnConsumedCapacityNone, "")
}

func genOnFailure(t *source) types.ReturnValuesOnConditionCheckFailure {
	if t.mistake(1) {
		return "BOTH"
	}
	return pick(t, types.ReturnValuesOnConditionCheckFailureAllOld, types.ReturnValuesOnConditionCheckFailureAllOld,
		types.ReturnValuesOnConditionCheckFailureNone, "")
}

func genReturnValues(t *source, usual ...types.ReturnValue) types.ReturnValue {
	if t.mistake(3) {
		return pick(t, append(types.ReturnValue("").Values(), "SOME")...)
	}
	return pick(t, usual...)
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (w *world) genTable(t *source) table { return pick(t, w.tables...) }

// named is the table's name, rarely one that does not exist or cannot.
func (w *world) named(t *source, tb table) *string {
	if t.mistake(1) {
		return aws.String(pick(t, w.tables[0].name+"-none", "ab", "bad name!"))
	}
	return &tb.name
}

func (w *world) genCondition(t *source, x *expressions) string {
	if chance(t, 45) {
		return ""
	}
	if chance(t, 40) {
		// The shapes of lock clients: no item, or released, or the version that was seen.
		key, version, released := x.alias(x.tb.hash), func() string { return x.alias("recordVersionNumber") },
			func() string { return x.alias("isReleased") }
		value := func() string { return x.value(genValue(t, "S", 0)) }
		switch upTo(t, 4) {
		case 0:
			return "attribute_not_exists(" + key + ")"
		case 1:
			return "attribute_exists(" + key + ") AND " + version() + " = " + value()
		case 2:
			return "attribute_not_exists(" + key + ") OR (" + released() + " = " + value() + " AND NOT begins_with(" +
				version() + ", " + value() + "))"
		case 3:
			return "attribute_exists(" + key + ") AND (" + version() + " IN (" + value() + ", " + value() + "))"
		default:
			return "attribute_exists(" + key + ") AND attribute_exists(" + released() + ") AND " + released() + " = " + value()
		}
	}
	return mangle(t, x.condition(3))
}

func (w *world) genPut(t *source) operation {
	tb := w.genTable(t)
	x := newExpressions(t, tb)
	in := &dynamodb.PutItemInput{TableName: w.named(t, tb), Item: genItem(t, tb)}
	in.ConditionExpression = optional(w.genCondition(t, x))
	in.ReturnValues = genReturnValues(t, "", types.ReturnValueAllOld, types.ReturnValueNone)
	in.ReturnValuesOnConditionCheckFailure = genOnFailure(t)
	in.ReturnConsumedCapacity = genCapacity(t)
	in.ExpressionAttributeNames, in.ExpressionAttributeValues = x.finish()
	return call("PutItem", in, (*dynamodb.Client).PutItem, nil)
}

func (w *world) genGet(t *source) operation {
	tb := w.genTable(t)
	x := newExpressions(t, tb)
	in := &dynamodb.GetItemInput{
		TableName: w.named(t, tb), Key: genKey(t, tb),
		ConsistentRead: pick(t, aws.Bool(true), aws.Bool(false), nil),
	}
	if chance(t, 50) {
		in.ProjectionExpression = optional(mangle(t, x.projection()))
	}
	in.ReturnConsumedCapacity = genCapacity(t)
	in.ExpressionAttributeNames, _ = x.finish()
	return call("GetItem", in, (*dynamodb.Client).GetItem, nil)
}

func (w *world) genUpdate(t *source) operation {
	tb := w.genTable(t)
	x := newExpressions(t, tb)
	in := &dynamodb.UpdateItemInput{TableName: w.named(t, tb), Key: genKey(t, tb)}
	if !chance(t, 2) {
		in.UpdateExpression = optional(mangle(t, x.update()))
	}
	in.ConditionExpression = optional(w.genCondition(t, x))
	in.ReturnValues = genReturnValues(t, types.ReturnValueAllNew, types.ReturnValueAllOld, types.ReturnValueUpdatedNew,
		types.ReturnValueUpdatedOld, types.ReturnValueNone, "")
	in.ReturnValuesOnConditionCheckFailure = genOnFailure(t)
	in.ReturnConsumedCapacity = genCapacity(t)
	in.ExpressionAttributeNames, in.ExpressionAttributeValues = x.finish()
	return call("UpdateItem", in, (*dynamodb.Client).UpdateItem, func(answer map[string]any) {
		settleUnfitting(answer, aws.ToString(in.UpdateExpression))
	})
}

// settleUnfitting is for an update of several actions of which more than one does not fit
// the item. DynamoDB Local tries them in the order of a hash map, so that the mistake it
// names is any of them; of a single action the message is compared as it is.
func settleUnfitting(answer map[string]any, updates ...string) {
	failed, ok := answer["Error"].(map[string]any)
	if !ok || !slices.ContainsFunc(updates,
		func(update string) bool { return len(actions.FindAllString(update, 2)) > 1 }) {
		return
	}
	switch failed["Message"] {
	case "The document path provided in the update expression is invalid for update",
		"The provided expression refers to an attribute that does not exist in the item",
		"An operand in the update expression has an incorrect data type",
		"too many digits":
		failed["Message"] = "an action does not fit the item"
	}
}

// settleCancelledByUpdate turns the service's answer to a transaction with an update that does not fit its item into
// that of DynamoDB Local: there the first such update refuses the whole request, without reasons or, for a key
// attribute, with that one alone. An item that grows too large comes last.
func settleCancelledByUpdate(answer map[string]any) {
	failed, _ := answer["Error"].(map[string]any)
	reasons, _ := failed["CancellationReasons"].([]any)
	var last any
	others := false
	for i, reason := range reasons {
		fields := reason.(map[string]any)
		message := fmt.Sprint(fields["Message"])
		switch {
		case fields["Code"] != "ValidationError" || strings.HasSuffix(message, "Type mismatch for key") ||
			strings.HasPrefix(message, "Hash primary key values"):
			others = others || fields["Code"] != "None"
		case strings.Contains(message, "Cannot update attribute"):
			failed["CancellationReasons"] = []any{reason}
			failed["Message"] = "Transaction cancelled, please refer cancellation reasons for specific reasons [ValidationError]"
			return
		case strings.HasPrefix(message, "Item size to update"):
			last = message
			reasons[i] = map[string]any{"Code": "None"}
		default:
			delete(failed, "CancellationReasons")
			failed["Code"], failed["Message"] = "ValidationException", message
			return
		}
	}
	if last == nil {
		return
	}
	if !others {
		delete(failed, "CancellationReasons")
		failed["Code"], failed["Message"] = "ValidationException", last
		return
	}
	codes := make([]string, len(reasons))
	for i, reason := range reasons {
		codes[i] = fmt.Sprint(reason.(map[string]any)["Code"])
	}
	failed["Message"] = "Transaction cancelled, please refer cancellation reasons for specific reasons [" +
		strings.Join(codes, ", ") + "]"
}

// actions finds the beginnings of an update expression's actions, and commas inside functions.
var actions = regexp.MustCompile(`(?i)\b(set|remove|add|delete)\b|,`)

// genLockUpdate is the traffic of a lock client: acquire with a token that counts on,
// heartbeat and release, each conditional, over so few versions that they often meet.
func (w *world) genLockUpdate(t *source) operation {
	tb := w.genTable(t)
	s := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
	version := func() types.AttributeValue { return s(pick(t, "id-1", "id-2", "id-3")) }
	in := &dynamodb.UpdateItemInput{
		TableName: &tb.name, Key: genKey(t, tb),
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		ReturnConsumedCapacity:              types.ReturnConsumedCapacityTotal,
		ExpressionAttributeNames:            map[string]string{"#v": "recordVersionNumber", "#r": "isReleased"},
		ExpressionAttributeValues:           item{":v": version(), ":w": version()},
	}
	switch upTo(t, 3) {
	case 0, 1:
		in.ConditionExpression = aws.String("attribute_not_exists(#v) OR #r = :one OR #v = :w")
		in.UpdateExpression = aws.String("SET #v = :v, #o = :o, #l = :l, #t = if_not_exists(#t, :floor) + :n REMOVE #r")
		maps.Copy(in.ExpressionAttributeNames,
			map[string]string{"#o": "ownerName", "#l": "leaseDuration", "#t": "fencingToken"})
		maps.Copy(in.ExpressionAttributeValues,
			item{
				":one": s("1"), ":o": s(pick(t, "a", "b")), ":l": s(pick(t, "10000", "10s")), ":floor": genValue(t, "N", 0),
				":n": &types.AttributeValueMemberN{Value: "1"},
			})
	case 2:
		in.ConditionExpression = aws.String("#v IN (:v, :w) AND attribute_not_exists(#r)")
		in.UpdateExpression = aws.String("SET #v = :next")
		in.ExpressionAttributeValues[":next"] = version()
	default:
		in.ConditionExpression = aws.String("#v = :w AND attribute_not_exists(#r)")
		in.UpdateExpression = aws.String("SET #v = :v, #r = :one")
		in.ExpressionAttributeValues[":one"] = s("1")
	}
	return call("UpdateItem", in, (*dynamodb.Client).UpdateItem, nil)
}

func (w *world) genDelete(t *source) operation {
	tb := w.genTable(t)
	x := newExpressions(t, tb)
	in := &dynamodb.DeleteItemInput{TableName: w.named(t, tb), Key: genKey(t, tb)}
	in.ConditionExpression = optional(w.genCondition(t, x))
	in.ReturnValues = genReturnValues(t, types.ReturnValueAllOld, types.ReturnValueNone, "")
	in.ReturnValuesOnConditionCheckFailure = genOnFailure(t)
	in.ReturnConsumedCapacity = genCapacity(t)
	in.ExpressionAttributeNames, in.ExpressionAttributeValues = x.finish()
	return call("DeleteItem", in, (*dynamodb.Client).DeleteItem, func(answer map[string]any) {
		if in.ReturnConsumedCapacity == "" || in.ReturnConsumedCapacity == types.ReturnConsumedCapacityNone {
			delete(answer, "ConsumedCapacity") // DynamoDB Local returns it unasked where the item does not exist
		}
	})
}

func genLimit(t *source) *int32 {
	switch {
	case chance(t, 60):
		return nil
	case t.mistake(3):
		return aws.Int32(pick(t, int32(0), -1))
	default:
		return aws.Int32(int32(1 + upTo(t, 4)))
	}
}

// maxPages bounds a walk that a server never ends.
const maxPages = 60

// genQuery walks a partition to its end: the items, their order, and where each page
// stopped are defined.
func (w *world) genQuery(t *source) operation {
	tb := w.genTable(t)
	x := newExpressions(t, tb)
	in := &dynamodb.QueryInput{TableName: w.named(t, tb), KeyConditionExpression: aws.String(mangle(t, x.keyCondition()))}
	if chance(t, 30) {
		in.FilterExpression = optional(mangle(t, x.condition(2)))
	}
	if chance(t, 25) {
		in.ProjectionExpression = optional(mangle(t, x.projection()))
	}
	in.Select = genSelect(t)
	in.Limit = genLimit(t)
	in.ScanIndexForward = pick(t, nil, aws.Bool(true), aws.Bool(false))
	in.ConsistentRead = pick(t, aws.Bool(true), aws.Bool(false), nil)
	in.ReturnConsumedCapacity = genCapacity(t)
	if t.mistake(1) {
		in.IndexName = aws.String("none")
	}
	if chance(t, 8) {
		in.ExclusiveStartKey = genKey(t, tb)
	}
	in.ExpressionAttributeNames, in.ExpressionAttributeValues = x.finish()
	return operation{"Query", in, func(ctx context.Context, db *dynamodb.Client) any {
		next := *in
		var pages []any
		for range maxPages {
			out, err := db.Query(ctx, &next)
			if err != nil {
				return append(pages, map[string]any{"Error": errorTree(err)})
			}
			settleEmptyRead(out.ConsumedCapacity, out.ScannedCount, in.ConsistentRead)
			pages = append(pages, tree(reflect.ValueOf(out)))
			if next.ExclusiveStartKey = out.LastEvaluatedKey; out.LastEvaluatedKey == nil {
				break
			}
		}
		return pages
	}}
}

// settleEmptyRead gives a read that found nothing the units that the service charges,
// its smallest amount; DynamoDB Local charges none.
func settleEmptyRead(units *types.ConsumedCapacity, scanned int32, consistent *bool) {
	if units == nil || scanned > 0 || units.CapacityUnits == nil || *units.CapacityUnits > 0 {
		return
	}
	least := 0.5
	if aws.ToBool(consistent) {
		least = 1
	}
	units.CapacityUnits = &least
	if units.Table != nil {
		units.Table.CapacityUnits = &least
	}
}

func genSelect(t *source) types.Select {
	if !t.mistake(5) {
		return pick(t, "", "", types.SelectCount, types.SelectAllAttributes)
	}
	return pick(t, append(types.Select("").Values(), "NOTHING")...)
}

// genScan walks the table to its end. The order of a scan follows a hash that the
// service does not disclose, so pages are compared by how much each looked at, and
// the items over all pages as a set.
func (w *world) genScan(t *source) operation {
	tb := w.genTable(t)
	x := newExpressions(t, tb)
	in := &dynamodb.ScanInput{TableName: w.named(t, tb)}
	if chance(t, 40) {
		in.FilterExpression = optional(mangle(t, x.condition(2)))
	}
	if chance(t, 25) {
		in.ProjectionExpression = optional(mangle(t, x.projection()))
	}
	in.Select = genSelect(t)
	in.Limit = genLimit(t)
	in.ConsistentRead = pick(t, aws.Bool(true), aws.Bool(false), nil)
	in.ReturnConsumedCapacity = genCapacity(t)
	segments := int32(1)
	if chance(t, 10) {
		segments = int32(1 + upTo(t, 3))
		in.TotalSegments = &segments
		if t.mistake(10) {
			in.TotalSegments = aws.Int32(pick(t, int32(0), 1000001))
		}
	}
	if t.mistake(2) {
		in.Segment = aws.Int32(pick(t, int32(0), -1, 9))
	}
	in.ExpressionAttributeNames, in.ExpressionAttributeValues = x.finish()
	return operation{"Scan", in, func(ctx context.Context, db *dynamodb.Client) any {
		items := []any{}
		counted, scanned, units, pages := int32(0), []any{}, []any{}, 0
		for segment := range segments {
			next := *in
			if in.TotalSegments != nil && in.Segment == nil {
				next.Segment = aws.Int32(segment)
			}
			for range maxPages {
				out, err := db.Scan(ctx, &next)
				if err != nil {
					return map[string]any{"Error": errorTree(err)}
				}
				pages++
				counted += out.Count
				scanned = append(scanned, int(out.ScannedCount))
				settleEmptyRead(out.ConsumedCapacity, out.ScannedCount, in.ConsistentRead)
				units = append(units, tree(reflect.ValueOf(out.ConsumedCapacity)))
				for _, it := range out.Items {
					items = append(items, tree(reflect.ValueOf(it)))
				}
				if next.ExclusiveStartKey = out.LastEvaluatedKey; out.LastEvaluatedKey == nil {
					break
				}
			}
		}
		if in.Segment != nil {
			return "a segment" // of which the service alone knows what falls into it
		}
		unordered(items)
		answer := map[string]any{"Items": items, "Count": counted, "ScannedCount": scanned, "ConsumedCapacity": units}
		if segments > 1 {
			// Which segment an item falls into is the service's affair.
			answer["ScannedCount"], answer["ConsumedCapacity"] = nil, nil
		} else if pages > 1 {
			// What a page of unknown items weighs too: only a single page's units are defined.
			answer["ConsumedCapacity"] = nil
		}
		return answer
	}}
}

// unitsByTable orders the units of a request over several tables, which come in any order.
func unitsByTable(answer map[string]any) { unordered(answer["ConsumedCapacity"]) }

func (w *world) genBatchGet(t *source) operation {
	in := &dynamodb.BatchGetItemInput{
		RequestItems:           map[string]types.KeysAndAttributes{},
		ReturnConsumedCapacity: genCapacity(t),
	}
	for range 1 + upTo(t, 1) {
		tb := w.genTable(t)
		x := newExpressions(t, tb)
		want := types.KeysAndAttributes{ConsistentRead: pick(t, aws.Bool(true), aws.Bool(false), nil), Keys: []item{}}
		count := 1 + upTo(t, 5)
		if t.mistake(1) {
			count = 0
		}
		for range count {
			want.Keys = append(want.Keys, genKey(t, tb))
		}
		want.Keys = distinct(want.Keys)
		if t.mistake(2) && len(want.Keys) > 0 {
			want.Keys = append(want.Keys, want.Keys[0])
		}
		if chance(t, 25) {
			want.ProjectionExpression = optional(mangle(t, x.projection()))
		}
		want.ExpressionAttributeNames, _ = x.finish()
		in.RequestItems[*w.named(t, tb)] = want
	}
	return call("BatchGetItem", in, (*dynamodb.Client).BatchGetItem, func(answer map[string]any) {
		unitsByTable(answer)
		responses, _ := answer["Responses"].(map[string]any)
		for name, items := range responses {
			unordered(items) // "DynamoDB does not return items in any particular order"
			if found, _ := items.([]any); len(found) < len(in.RequestItems[name].Keys) {
				// DynamoDB Local charges nothing for an item that is not there, the service a read
				delete(answer, "ConsumedCapacity")
			}
		}
	})
}

// distinct drops keys that come again: most batches should be valid. DynamoDB Local does not see
// that 10 and 1e1 are one key.
func distinct(keys []item) []item {
	seen := map[string]bool{}
	out := []item{}
	for _, key := range keys {
		if id := text(settleNumbers(tree(reflect.ValueOf(key)))); !seen[id] {
			seen[id] = true
			out = append(out, key)
		}
	}
	return out
}

func (w *world) genBatchWrite(t *source) operation {
	in := &dynamodb.BatchWriteItemInput{
		RequestItems:           map[string][]types.WriteRequest{},
		ReturnConsumedCapacity: genCapacity(t),
	}
	for range 1 + upTo(t, 1) {
		tb := w.genTable(t)
		seen := map[string]bool{}
		writes := []types.WriteRequest{}
		count := 1 + upTo(t, 4)
		if t.mistake(1) {
			count = pick(t, 0, 25, 26)
		}
		for range count {
			var one types.WriteRequest
			var key any
			if chance(t, 70) {
				it := genItem(t, tb)
				one.PutRequest = &types.PutRequest{Item: it}
				key = []any{it[tb.hash], it[tb.sort]}
			} else {
				k := genKey(t, tb)
				one.DeleteRequest = &types.DeleteRequest{Key: k}
				in.ReturnConsumedCapacity = "" // DynamoDB Local charges double for the deletion of nothing in a batch
				key = []any{k[tb.hash], k[tb.sort]}
			}
			if id := text(settleNumbers(tree(reflect.ValueOf(key)))); !seen[id] || t.mistake(5) {
				seen[id] = true
				writes = append(writes, one)
			}
		}
		in.RequestItems[*w.named(t, tb)] = writes
	}
	return call("BatchWriteItem", in, (*dynamodb.Client).BatchWriteItem, unitsByTable)
}

func (w *world) genTransactWrite(t *source) operation {
	in := &dynamodb.TransactWriteItemsInput{
		ReturnConsumedCapacity: genCapacity(t),
		TransactItems:          []types.TransactWriteItem{},
	}
	seen := map[string]bool{}
	count := 1 + upTo(t, 3)
	if t.mistake(1) {
		count = pick(t, 0, 100, 101)
	}
	for range count {
		tb := w.genTable(t)
		x := newExpressions(t, tb)
		key := genKey(t, tb)
		if count > 10 {
			if tb.hashType != "S" {
				continue
			}
			key[tb.hash] = &types.AttributeValueMemberS{Value: fmt.Sprintf("k%d", len(in.TransactItems))}
		}
		id := tb.name + text(settleNumbers(tree(reflect.ValueOf(key))))
		if seen[id] {
			continue
		}
		seen[id] = true
		var one types.TransactWriteItem
		var condition *string // less often than elsewhere, so that whole transactions succeed too
		if chance(t, 50) {
			condition = optional(w.genCondition(t, x))
		}
		switch upTo(t, 3) {
		case 0:
			it := genItem(t, tb)
			for _, name := range tb.keyNames() {
				delete(it, name)
			}
			maps.Copy(it, key)
			put := &types.Put{
				TableName: w.named(t, tb), Item: it, ConditionExpression: condition,
				ReturnValuesOnConditionCheckFailure: genOnFailure(t),
			}
			put.ExpressionAttributeNames, put.ExpressionAttributeValues = x.finish()
			one.Put = put
		case 1:
			update := &types.Update{
				TableName: w.named(t, tb), Key: key, UpdateExpression: aws.String(mangle(t, x.update())),
				ConditionExpression: condition, ReturnValuesOnConditionCheckFailure: genOnFailure(t),
			}
			update.ExpressionAttributeNames, update.ExpressionAttributeValues = x.finish()
			one.Update = update
		case 2:
			del := &types.Delete{
				TableName: w.named(t, tb), Key: key, ConditionExpression: condition,
				ReturnValuesOnConditionCheckFailure: genOnFailure(t),
			}
			del.ExpressionAttributeNames, del.ExpressionAttributeValues = x.finish()
			one.Delete = del
			in.ReturnConsumedCapacity = "" // DynamoDB Local charges half for the transactional deletion of nothing
		default:
			if condition == nil {
				condition = aws.String("attribute_exists(" + x.alias(tb.hash) + ")")
			}
			check := &types.ConditionCheck{
				TableName: w.named(t, tb), Key: key, ConditionExpression: condition,
				ReturnValuesOnConditionCheckFailure: genOnFailure(t),
			}
			check.ExpressionAttributeNames, check.ExpressionAttributeValues = x.finish()
			one.ConditionCheck = check
		}
		in.TransactItems = append(in.TransactItems, one)
	}
	if t.spoiled && count <= 10 {
		// DynamoDB Local runs one action after the other, and an update that does not fit its item would come before the
		// mistake of a later action: so one update, and last.
		isUpdate := func(one types.TransactWriteItem) bool { return one.Update != nil }
		if i := slices.IndexFunc(in.TransactItems, isUpdate); i >= 0 {
			last := in.TransactItems[i]
			in.TransactItems = append(slices.DeleteFunc(in.TransactItems, isUpdate), last)
		}
	}
	if len(in.TransactItems) > 0 && t.mistake(3) {
		// Two actions on one item, without a condition: DynamoDB Local runs one action after the other, and a
		// refused condition would come before this mistake.
		put := types.TransactWriteItem{Put: &types.Put{
			TableName: &w.tables[0].name,
			Item:      genKey(&source{T: t.T, spoiled: true}, w.tables[0]),
		}}
		in.TransactItems = []types.TransactWriteItem{put, put}
	}
	if len(in.TransactItems) > 1 {
		in.ReturnConsumedCapacity = "" // of several actions on one table DynamoDB Local charges one
	}
	if chance(t, 15) {
		// A token of a small pool: the same one comes again, with the same items or others.
		token := w.tables[0].name + pick(t, "-A", "-B")
		in.ClientRequestToken = &token
		if chance(t, 50) && w.lastTransaction != nil {
			again := *w.lastTransaction
			again.ReturnConsumedCapacity = "" // the service charges a repetition for reading, DynamoDB Local something else
			in = &again
		} else {
			w.lastTransaction = in
		}
	}
	return call("TransactWriteItems", in, (*dynamodb.Client).TransactWriteItems, func(answer map[string]any) {
		unitsByTable(answer)
		settleCancelledByUpdate(answer)
		for _, one := range in.TransactItems {
			if one.Update != nil {
				settleUnfitting(answer, aws.ToString(one.Update.UpdateExpression))
			}
		}
	})
}

func (w *world) genTransactGet(t *source) operation {
	in := &dynamodb.TransactGetItemsInput{ReturnConsumedCapacity: genCapacity(t), TransactItems: []types.TransactGetItem{}}
	seen := map[string]bool{}
	count := 1 + upTo(t, 4)
	if t.mistake(1) {
		count = 0
	}
	for range count {
		tb := w.genTable(t)
		x := newExpressions(t, tb)
		// Always a valid key: for another DynamoDB Local cancels the transaction without a reason.
		sound := &source{T: t.T, spoiled: true}
		get := &types.Get{TableName: w.named(t, tb), Key: genKey(sound, tb)}
		id := tb.name + text(settleNumbers(tree(reflect.ValueOf(get.Key))))
		if seen[id] && !t.mistake(5) {
			continue
		}
		seen[id] = true
		if chance(t, 30) {
			get.ProjectionExpression = optional(mangle(t, x.projection()))
		}
		get.ExpressionAttributeNames, _ = x.finish()
		in.TransactItems = append(in.TransactItems, types.TransactGetItem{Get: get})
	}
	return call("TransactGetItems", in, (*dynamodb.Client).TransactGetItems, unitsByTable)
}

// genItemOperation draws one of all, those of lock clients most often.
func (w *world) genItemOperation(rt *rapid.T) operation {
	t := &source{T: rt}
	return pick(t,
		w.genPut, w.genPut, w.genUpdate, w.genUpdate, w.genLockUpdate, w.genGet, w.genDelete, w.genQuery,
		w.genScan, w.genTransactWrite, w.genBatchWrite, w.genBatchGet, w.genTransactGet,
		w.genPut, w.genUpdate, w.genUpdate, w.genLockUpdate, w.genLockUpdate, w.genQuery, w.genTransactWrite,
	)(t)
}

// contents reads a whole table, as a set. A read that was not answered is repeated.
func contents(ctx context.Context, db *dynamodb.Client, tb table) any {
	var failed any
	for range 3 {
		items := []any{}
		var err error
		pages := dynamodb.NewScanPaginator(db, &dynamodb.ScanInput{TableName: &tb.name, ConsistentRead: aws.Bool(true)})
		for pages.HasMorePages() && err == nil {
			var page *dynamodb.ScanOutput
			if page, err = pages.NextPage(ctx); err == nil {
				for _, it := range page.Items {
					items = append(items, tree(reflect.ValueOf(it)))
				}
			}
		}
		if err == nil {
			unordered(items)
			return items
		}
		failed = errorTree(err)
	}
	return failed
}

// anonymous replaces the tables' names of this sequence, so that a failure reads,
// and reproduces, the same in every run.
func (w *world) anonymous(s string) string {
	for i, tb := range w.tables {
		s = strings.ReplaceAll(s, tb.name, fmt.Sprintf("table%d", i))
	}
	return s
}
