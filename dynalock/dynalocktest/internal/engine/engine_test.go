package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// do sends one request and gives the answer, with the status and the units that it consumed.
func do(tb testing.TB, e *Engine, operation, body string) (status int, answer map[string]any, done Applied) {
	tb.Helper()
	c, failed := e.Prepare(operation, []byte(body))
	if failed != nil {
		tb.Fatalf("%s %s: %v", operation, body, failed)
	}
	status, raw := c.Apply(func(a Applied) { done = a })
	if err := json.Unmarshal(raw, &answer); err != nil {
		tb.Fatalf("%s %s: %v in %s", operation, body, err, raw)
	}
	return status, answer, done
}

// must is do for a request that has to succeed.
func must(tb testing.TB, e *Engine, operation, body string) (map[string]any, Applied) {
	tb.Helper()
	status, answer, done := do(tb, e, operation, body)
	if status != 200 {
		tb.Fatalf("%s %s: %d %v", operation, body, status, answer)
	}
	return answer, done
}

// withTables makes an engine with a table "locks" by key and one "range" by key and sk, a number.
func withTables(tb testing.TB) *Engine {
	tb.Helper()
	e := New(time.Now)
	must(tb, e, "CreateTable", `{"TableName":"locks","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[{"AttributeName":"key","AttributeType":"S"}],
		"KeySchema":[{"AttributeName":"key","KeyType":"HASH"}]}`)
	must(tb, e, "CreateTable", `{"TableName":"range","BillingMode":"PAY_PER_REQUEST",
		"AttributeDefinitions":[{"AttributeName":"key","AttributeType":"S"},{"AttributeName":"sk","AttributeType":"N"}],
		"KeySchema":[{"AttributeName":"key","KeyType":"HASH"},{"AttributeName":"sk","KeyType":"RANGE"}]}`)
	return e
}

// pad is an item in table locks that takes so many kilobytes and not a byte more.
func pad(key string, kilobytes int) string {
	return fmt.Sprintf(`{"key":{"S":%q},"p":{"S":%q}}`, key,
		strings.Repeat("x", kilobytes*1024-len("key")-len(key)-len("p")))
}

func TestAWriteCostsTheLargerOfTheItemBeforeAndAfter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ before, after, units int }{
		{0, 1, 1},
		{0, 3, 3},
		{3, 1, 3},
		{1, 3, 3},
		{3, 0, 3},
		{0, 0, 1},
	} {
		e := withTables(t)
		if tt.before > 0 {
			must(t, e, "PutItem", `{"TableName":"locks","Item":`+pad("a", tt.before)+`}`)
		}
		single, item := "DeleteItem", `"Key":{"key":{"S":"a"}}`
		action := `{"Delete":{"TableName":"locks",` + item + `}}`
		if tt.after > 0 {
			single, item = "PutItem", `"Item":`+pad("a", tt.after)
			action = `{"Put":{"TableName":"locks",` + item + `}}`
		}
		// A transaction that something else refuses costs the same and changes nothing, so it comes first.
		refused := `{"ConditionCheck":{"TableName":"locks","Key":{"key":{"S":"z"}},"ConditionExpression":"attribute_exists(p)"}}`
		if _, _, done := do(t, e, "TransactWriteItems",
			`{"TransactItems":[`+action+`,`+refused+`]}`); done.Write != float64(2*tt.units+2) || done.Err == nil {
			t.Errorf("from %d to %d KB in a refused transaction: %v units, %v", tt.before, tt.after, done.Write, done.Err)
		}
		answer, done := must(t, e, single, `{"TableName":"locks",`+item+`,"ReturnConsumedCapacity":"TOTAL"}`)
		if shown := answer["ConsumedCapacity"].(map[string]any)["CapacityUnits"]; done.Write != float64(tt.units) ||
			shown != done.Write {
			t.Errorf("from %d to %d KB: %v units, shown as %v, want %d", tt.before, tt.after, done.Write, shown, tt.units)
		}
	}
}

func TestARefusedWriteCostsTheExistingItem(t *testing.T) {
	t.Parallel()
	e := withTables(t)
	must(t, e, "PutItem", `{"TableName":"locks","Item":`+pad("a", 3)+`}`)
	for key, want := range map[string]float64{"a": 3, "none": 1} {
		status, answer, done := do(t, e, "UpdateItem",
			fmt.Sprintf(`{"TableName":"locks","Key":{"key":{"S":%q}},"UpdateExpression":"REMOVE q","ConditionExpression":"attribute_exists(q)","ReturnValuesOnConditionCheckFailure":"ALL_OLD"}`, key))
		if status != 400 || done.Write != want || done.Read != 0 || (answer["Item"] != nil) != (key == "a") ||
			len(done.Writes) != 0 {
			t.Errorf("%s: %d, %v write and %v read units, %v", key, status, done.Write, done.Read, answer["Message"])
		}
	}
}

func TestAReadCostsAUnitForFourKilobytesAndHalfIfNotConsistent(t *testing.T) {
	t.Parallel()
	e := withTables(t)
	must(t, e, "PutItem", `{"TableName":"locks","Item":`+pad("four", 4)+`}`)
	must(t, e, "PutItem", `{"TableName":"locks","Item":`+pad("five", 5)+`}`)
	for key, want := range map[string]float64{"four": 1, "five": 2, "none": 1} {
		k := fmt.Sprintf(`"Key":{"key":{"S":%q}}`, key)
		for body, want := range map[string]float64{
			`{"TableName":"locks",` + k + `,"ConsistentRead":true}`: want,
			`{"TableName":"locks",` + k + `}`:                       want / 2,
		} {
			if _, done := must(t, e, "GetItem", body); done.Read != want || done.Write != 0 {
				t.Errorf("%s: %v units, want %v", body, done.Read, want)
			}
		}
		if _, done := must(t, e, "TransactGetItems",
			`{"TransactItems":[{"Get":{"TableName":"locks",`+k+`}}]}`); done.Read != 2*want {
			t.Errorf("%s in a transaction: %v units, want %v", key, done.Read, 2*want)
		}
	}
	if _, done := must(t, e, "Scan", `{"TableName":"locks","ConsistentRead":true}`); done.Read != 3 {
		t.Errorf("a scan of 9 KB costs %v units, want 3: the sizes are added first", done.Read)
	}
}

func TestPagesJoinToTheWhole(t *testing.T) {
	t.Parallel()
	e := withTables(t)
	const partitions, items = 30, 7
	for p := range partitions {
		for i := range items {
			must(t, e, "PutItem",
				fmt.Sprintf(`{"TableName":"range","Item":{"key":{"S":"k%d"},"sk":{"N":"%d"}}}`, p, (i*3+5)%items-3))
		}
	}
	walk := func(operation, body string) (keys []string) {
		next := ""
		for range 1000 {
			page, _ := must(t, e, operation, body+next+`}`)
			for _, it := range page["Items"].([]any) {
				m := it.(map[string]any)
				keys = append(keys, m["key"].(map[string]any)["S"].(string)+" "+m["sk"].(map[string]any)["N"].(string))
			}
			if page["LastEvaluatedKey"] == nil {
				return keys
			}
			last, _ := json.Marshal(page["LastEvaluatedKey"])
			next = `,"ExclusiveStartKey":` + string(last)
			// Deleting the item that the page ended with must not disturb the walk.
			if operation == "Scan" {
				must(t, e, "DeleteItem", `{"TableName":"range","Key":`+string(last)+`}`)
				must(t, e, "PutItem", `{"TableName":"range","Item":`+string(last)+`}`)
			}
		}
		t.Fatalf("%s %s does not end", operation, body)
		return nil
	}
	const query = `{"TableName":"range","KeyConditionExpression":"#k = :k AND sk BETWEEN :a AND :b","ExpressionAttributeNames":{"#k":"key"},"ExpressionAttributeValues":{":k":{"S":"k3"},":a":{"N":"-2"},":b":{"N":"2"}},"Limit":2`
	if got := strings.Join(walk("Query", query), ","); got != "k3 -2,k3 -1,k3 0,k3 1,k3 2" {
		t.Errorf("forward: %s", got)
	}
	if got := strings.Join(walk("Query", query+`,"ScanIndexForward":false`), ","); got != "k3 2,k3 1,k3 0,k3 -1,k3 -2" {
		t.Errorf("backward: %s", got)
	}
	seen := map[string]int{}
	for _, key := range walk("Scan", `{"TableName":"range","Limit":4`) {
		seen[key]++
	}
	for segment := range 3 {
		for _, key := range walk("Scan",
			fmt.Sprintf(`{"TableName":"range","Limit":4,"TotalSegments":3,"Segment":%d`, segment)) {
			seen[key]++
		}
	}
	for key, n := range seen {
		if n != 2 {
			t.Errorf("%s was seen %d times, want once by the scan and once by one segment", key, n)
		}
	}
	if len(seen) != partitions*items {
		t.Errorf("%d items seen, want %d", len(seen), partitions*items)
	}
}

func TestAPageEndsAtOneMegabyte(t *testing.T) {
	t.Parallel()
	e := withTables(t)
	for i := range 5 {
		must(t, e, "PutItem", `{"TableName":"locks","Item":`+pad(fmt.Sprint(i), 300)+`}`)
	}
	page, done := must(t, e, "Scan", `{"TableName":"locks","Select":"COUNT","ConsistentRead":true}`)
	if page["Count"] != 3.0 || page["LastEvaluatedKey"] == nil || page["Items"] != nil || done.Read != 225 {
		t.Errorf("the first page has %v items (%v), %v units", page["Count"], page["LastEvaluatedKey"], done.Read)
	}
}

func TestABatchOfReadsStaysWithinSixteenMegabytesAndGivesTheRestBack(t *testing.T) {
	t.Parallel()
	e := withTables(t)
	var keys []string
	for i := range 99 {
		key := fmt.Sprintf("%02d", i)
		must(t, e, "PutItem", `{"TableName":"locks","Item":`+pad(key, 300)+`}`)
		keys = append(keys, `{"key":{"S":"`+key+`"}}`)
	}
	must(t, e, "PutItem", `{"TableName":"range","Item":{"key":{"S":"a"},"sk":{"N":"1"}}}`)
	const small = `"range":{"Keys":[{"key":{"S":"a"},"sk":{"N":"1"}}]}`
	request := `{"locks":{"ConsistentRead":true,"Keys":[` + strings.Join(keys, ",") + `]},` + small + `}`
	// Each page asks for what the one before it left; the small item of the second table waits until the first is through.
	for _, want := range []struct {
		locks, ranges int
		units         float64
		left          string
	}{{54, 0, 54 * 75, `54 to 98 and "range"`}, {45, 1, 45*75 + 0.5, ""}} {
		answer, done := must(t, e, "BatchGetItem", `{"RequestItems":`+request+`}`)
		got := answer["Responses"].(map[string]any)
		locks, ranges := got["locks"].([]any), got["range"].([]any)
		left := ""
		if rest, ok := answer["UnprocessedKeys"].(map[string]any)["locks"].(map[string]any); ok {
			keys := rest["Keys"].([]any)
			name := func(i int) any { return keys[i].(map[string]any)["key"].(map[string]any)["S"] }
			left = fmt.Sprintf("%v to %v", name(0), name(len(keys)-1))
			if rest["ConsistentRead"] != true {
				t.Error("the rest is not asked for as the whole was")
			}
		}
		if answer["UnprocessedKeys"].(map[string]any)["range"] != nil {
			left += ` and "range"`
		}
		if len(locks) != want.locks || len(ranges) != want.ranges || done.Read != want.units || left != want.left {
			t.Errorf("%d and %d items for %v units, left %q; want %+v", len(locks), len(ranges), done.Read, left, want)
		}
		unprocessed, _ := json.Marshal(answer["UnprocessedKeys"])
		request = string(unprocessed)
	}
}

func TestATransactionIsAppliedOnceUnderItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := withTables(t)
		add := func(amount, token string) string {
			return `{"ClientRequestToken":"` + token +
				`","TransactItems":[{"Update":{"TableName":"locks","Key":{"key":{"S":"a"}},"UpdateExpression":"ADD n :n","ExpressionAttributeValues":{":n":{"N":"` + amount + `"}}}}]}`
		}
		value := func() string {
			got, _ := must(t, e, "GetItem", `{"TableName":"locks","Key":{"key":{"S":"a"}}}`)
			return got["Item"].(map[string]any)["n"].(map[string]any)["N"].(string)
		}
		must(t, e, "TransactWriteItems", add("1", "x"))
		if _, done := must(t, e, "TransactWriteItems", add("1", "x")); done.Write != 0 || done.Read != 2 || value() != "1" {
			t.Errorf("the second one costs %v write and %v read units and leaves %s", done.Write, done.Read, value())
		}
		if status, answer, _ := do(t, e, "TransactWriteItems", add("2", "x")); status != 400 ||
			!strings.HasSuffix(answer["__type"].(string), "IdempotentParameterMismatchException") {
			t.Errorf("another one under the token: %d %v", status, answer)
		}
		time.Sleep(10 * time.Minute)
		must(t, e, "TransactWriteItems", add("1", "x"))
		if value() != "2" {
			t.Errorf("after ten minutes the token is still known: %s", value())
		}
	})
}

func TestATransactionNamesEveryRefusalAndChangesNothing(t *testing.T) {
	t.Parallel()
	e := withTables(t)
	must(t, e, "PutItem", `{"TableName":"locks","Item":{"key":{"S":"held"},"owner":{"S":"x"}}}`)
	put := func(key string) string {
		return fmt.Sprintf(`{"Put":{"TableName":"locks","Item":{"key":{"S":%q}},"ConditionExpression":"attribute_not_exists(#k)","ExpressionAttributeNames":{"#k":"key"},"ReturnValuesOnConditionCheckFailure":"ALL_OLD"}}`, key)
	}
	status, answer, done := do(t, e, "TransactWriteItems", `{"TransactItems":[`+put("free")+`,`+put("held")+`]}`)
	reasons, _ := json.Marshal(answer["CancellationReasons"])
	const want = `[{"Code":"None"},{"Code":"ConditionalCheckFailed","Item":{"key":{"S":"held"},"owner":{"S":"x"}},"Message":"The conditional request failed"}]`
	if status != 400 || string(reasons) != want || done.Write != 4 || len(done.Writes) != 0 {
		t.Errorf("%d %s, %v units, want %s", status, reasons, done.Write, want)
	}
	if got, _ := must(t, e, "GetItem", `{"TableName":"locks","Key":{"key":{"S":"free"}}}`); got["Item"] != nil {
		t.Error("the item that was free has been written")
	}
}

func TestAnUpdateThatDoesNotFitItsItemCancelsTheTransactionByName(t *testing.T) {
	t.Parallel()
	nested := strings.Repeat(`{"L":[`, 31) + `{"S":"x"}` + strings.Repeat(`]}`, 31)
	for update, message := range map[string]string{
		`"SET v = nothere + :n","ExpressionAttributeValues":{":n":{"N":"1"}}`: "The provided expression refers to an attribute that does not exist in the item",
		`"SET v = p + :n","ExpressionAttributeValues":{":n":{"N":"1"}}`:       "An operand in the update expression has an incorrect data type",
		`"ADD big :n","ExpressionAttributeValues":{":n":{"N":"9e125"}}`:       "Number overflow. Attempting to store a number with magnitude larger than supported range",
		`"SET a.b = :n","ExpressionAttributeValues":{":n":{"N":"1"}}`:         "The document path provided in the update expression is invalid for update",
		`"SET q = p"`: "Item size to update has exceeded the maximum allowed size",
		`"SET l[0] = :l","ExpressionAttributeValues":{":l":` + nested + `}`: "Nesting Levels have exceeded supported limits",
		`"SET #k = p","ExpressionAttributeNames":{"#k":"key"}`:              "One or more parameter values were invalid: Cannot update attribute key. This attribute is part of the key",
	} {
		e := withTables(t)
		must(t, e, "PutItem",
			`{"TableName":"locks","Item":`+strings.Replace(pad("a", 399), "{", `{"big":{"N":"9e125"},"l":{"L":[{"S":"x"}]},`, 1)+
				`}`)
		body := `{"TransactItems":[{"Put":{"TableName":"locks","Item":{"key":{"S":"b"}}}},
			{"Update":{"TableName":"locks","Key":{"key":{"S":"a"}},"UpdateExpression":` + update + `}},
			{"ConditionCheck":{"TableName":"locks","Key":{"key":{"S":"c"}},"ConditionExpression":"attribute_exists(p)"}}]}`
		status, answer, done := do(t, e, "TransactWriteItems", body)
		reasons, _ := json.Marshal(answer["CancellationReasons"])
		want := `[{"Code":"None"},{"Code":"ValidationError","Message":"` + message +
			`"},{"Code":"ConditionalCheckFailed","Message":"The conditional request failed"}]`
		if code := fmt.Sprint(answer["__type"]); status != 400 || !strings.HasSuffix(code, "#TransactionCanceledException") ||
			string(reasons) != want || len(done.Writes) != 0 {
			t.Errorf("%s: %d %s %s, want %s", update, status, code, reasons, want)
		}
		if text := fmt.Sprint(answer["Message"]); !strings.HasSuffix(text,
			"[None, ValidationError, ConditionalCheckFailed]") {
			t.Errorf("%s: %q", update, text)
		}
		if status, answer, _ := do(t, e, "UpdateItem",
			`{"TableName":"locks","Key":{"key":{"S":"a"}},"UpdateExpression":`+update+`}`); status != 400 ||
			answer["Message"] != message {
			t.Errorf("%s alone: %d %v", update, status, answer["Message"])
		}
	}
}

func TestLimitsOfItemsAndKeys(t *testing.T) {
	t.Parallel()
	e := withTables(t)
	nested := func(n int) string { return strings.Repeat(`{"L":[`, n) + `{"S":"x"}` + strings.Repeat(`]}`, n) }
	put := func(item string) string { return `{"TableName":"locks","Item":` + item + `}` }
	for _, tt := range []struct{ operation, body, message string }{
		{"PutItem", put(pad("a", 400)), ""},
		{"PutItem", put(strings.Replace(pad("a", 400), "x", "xx", 1)), "Item size has exceeded the maximum allowed size"},
		{"PutItem", put(`{"key":{"S":"` + strings.Repeat("k", 2048) + `"}}`), ""},
		{
			"PutItem", put(`{"key":{"S":"` + strings.Repeat("k", 2049) + `"}}`),
			"Hash primary key values must be under 2048 bytes, and range primary key values must be under 1024 bytes",
		},
		{
			"PutItem", put(`{"key":{"S":""}}`),
			"One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: key",
		},
		{"PutItem", put(`{"key":{"N":"1"}}`), "One or more parameter values were invalid: Type mismatch for key"},
		{"PutItem", put(`{"key":{"BOOL":true}}`), "Invalid attribute value type"},
		{"PutItem", put(`{"other":{"S":"a"}}`), "One of the required keys was not given a value"},
		{"PutItem", put(`{"key":{"S":"b"},"d":` + nested(31) + `}`), ""},
		{
			"PutItem", put(`{"key":{"S":"b"},"d":` + nested(32) + `}`),
			"Nesting Levels have exceeded supported limits: Attributes in the item have nested levels beyond supported limit",
		},
		{
			"GetItem", `{"TableName":"locks","Key":{"key":{"S":"a"},"more":{"S":"b"}}}`,
			"The number of conditions on the keys is invalid",
		},
		{
			"UpdateItem", `{"TableName":"locks","Key":{"key":{"S":"a"}},"UpdateExpression":"SET q = p"}`,
			"Item size to update has exceeded the maximum allowed size",
		},
		{"UpdateItem", `{"TableName":"locks","Key":{"key":{"S":"a"}},"UpdateExpression":"SET #k = p","ExpressionAttributeNames":{"#k":"key"}}`, "One or more parameter values were invalid: Cannot update attribute key. This attribute is part of the key"},
		{
			"TransactWriteItems",
			`{"TransactItems":[` +
				strings.TrimSuffix(strings.Repeat(`{"Delete":{"TableName":"locks","Key":{"key":{"S":"a"}}}},`, 101), ",") + `]}`,
			"Member must have length less than or equal to 100",
		},
		{
			"TransactWriteItems",
			`{"TransactItems":[` +
				strings.TrimSuffix(strings.Repeat(`{"Delete":{"TableName":"locks","Key":{"key":{"S":"a"}}}},`, 2), ",") + `]}`,
			"Transaction request cannot include multiple operations on one item",
		},
		{"GetItem", `{"TableName":"nope","Key":{"key":{"S":"a"}}}`, "Cannot do operations on a non-existent table"},
		{"GetItem", `{"TableName":"ab","Key":{"key":{"S":"a"}}}`, errTableName.Message},
	} {
		status, answer, _ := do(t, e, tt.operation, tt.body)
		got := ""
		if status != 200 {
			got = fmt.Sprint(answer["Message"])
		}
		if got != tt.message {
			t.Errorf("%s %.100s: %q, want %q", tt.operation, tt.body, got, tt.message)
		}
	}
}

// FuzzRequests sends any body to every operation: no body may make the engine panic or answer something that is not
// JSON, and what is stored must fit its table.
func FuzzRequests(f *testing.F) {
	for operation, body := range map[string]string{
		"PutItem":            `{"TableName":"locks","Item":{"key":{"S":"a"},"n":{"N":"1"}},"ConditionExpression":"attribute_not_exists(n)","ReturnValues":"ALL_OLD"}`,
		"UpdateItem":         `{"TableName":"locks","Key":{"key":{"S":"a"}},"UpdateExpression":"SET l = :l ADD n :n","ExpressionAttributeValues":{":l":{"L":[]},":n":{"N":"1"}},"ReturnValues":"UPDATED_NEW"}`,
		"TransactWriteItems": `{"TransactItems":[{"Delete":{"TableName":"range","Key":{"key":{"S":"a"},"sk":{"N":"1"}}}}],"ClientRequestToken":"t"}`,
		"Query":              `{"TableName":"range","KeyConditionExpression":"#k = :k AND sk > :s","ExpressionAttributeNames":{"#k":"key"},"ExpressionAttributeValues":{":k":{"S":"a"},":s":{"N":"0"}},"Limit":1,"ExclusiveStartKey":{"key":{"S":"a"},"sk":{"N":"1"}}}`,
		"Scan":               `{"TableName":"range","Segment":1,"TotalSegments":2,"FilterExpression":"size(key) > :n"}`,
		"BatchWriteItem":     `{"RequestItems":{"range":[{"PutRequest":{"Item":{"key":{"S":"a"},"sk":{"N":"2"}}}}]}}`,
		"UpdateTable":        `{"TableName":"locks","BillingMode":"PROVISIONED","ProvisionedThroughput":{"ReadCapacityUnits":1,"WriteCapacityUnits":1}}`,
		"UpdateTimeToLive":   `{"TableName":"locks","TimeToLiveSpecification":{"AttributeName":"n","Enabled":true}}`,
	} {
		f.Add(operation, []byte(body))
	}
	f.Fuzz(func(t *testing.T, operation string, body []byte) {
		e := withTables(t)
		must(t, e, "PutItem", `{"TableName":"range","Item":{"key":{"S":"a"},"sk":{"N":"1"}}}`)
		c, failed := e.Prepare(operation, body)
		if failed != nil {
			body = failed.Body()
		} else {
			c.Targets()
			_, _ = c.Apply(func(Applied) {})
			_, body = c.Apply(func(Applied) {})
		}
		if !json.Valid(body) {
			t.Errorf("%s answers %s", operation, body)
		}
		for name, table := range e.tables {
			count := 0
			for it := range table.scan(nil, 0, 1) {
				count++
				if err := table.checkItem(it); err != nil {
					t.Errorf("%s holds %s: %v", name, it.AppendJSON(nil), err)
				}
			}
			if count != table.count {
				t.Errorf("%s holds %d items and counts %d", name, count, table.count)
			}
		}
		e.Expire(func(Applied) {})
	})
}
