package dynalocktest_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// tree turns an SDK struct into maps, slices and strings that print and compare
// the same on both sides. Absent fields are left out; an empty but present map
// or list stays, because a client can tell the two apart.
func tree(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return tree(v.Elem())
	case reflect.Interface:
		if v.IsNil() {
			return nil
		}
		if av, ok := v.Interface().(types.AttributeValue); ok {
			return attributeTree(av)
		}
		return tree(v.Elem())
	case reflect.Struct:
		if at, ok := v.Interface().(time.Time); ok {
			return at.UTC().Format(time.RFC3339Nano)
		}
		out := map[string]any{}
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() || field.Name == "ResultMetadata" {
				continue
			}
			value := v.Field(i)
			if value.Kind() == reflect.String && value.Len() == 0 {
				continue // an enum that was not set
			}
			if sub := tree(value); sub != nil {
				out[field.Name] = sub
			}
		}
		return out
	case reflect.Map:
		if v.IsNil() {
			return nil
		}
		out := map[string]any{}
		for _, key := range v.MapKeys() {
			out[key.String()] = tree(v.MapIndex(key))
		}
		return out
	case reflect.Slice:
		if v.IsNil() {
			return nil
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return brief(base64.StdEncoding.EncodeToString(v.Bytes()))
		}
		out := make([]any, v.Len())
		for i := range out {
			out[i] = tree(v.Index(i))
		}
		return out
	case reflect.String:
		return brief(v.String())
	case reflect.Bool:
		return v.Bool()
	case reflect.Int, reflect.Int32, reflect.Int64:
		return v.Int()
	case reflect.Float64:
		return v.Float()
	default:
		return fmt.Sprintf("%v", v.Interface())
	}
}

func attributeTree(value types.AttributeValue) any {
	switch v := value.(type) {
	case *types.AttributeValueMemberS:
		return map[string]any{"S": brief(v.Value)}
	case *types.AttributeValueMemberN:
		return map[string]any{"N": v.Value}
	case *types.AttributeValueMemberB:
		return map[string]any{"B": brief(base64.StdEncoding.EncodeToString(v.Value))}
	case *types.AttributeValueMemberBOOL:
		return map[string]any{"BOOL": v.Value}
	case *types.AttributeValueMemberNULL:
		return map[string]any{"NULL": v.Value}
	case *types.AttributeValueMemberL:
		return map[string]any{"L": tree(reflect.ValueOf(v.Value))}
	case *types.AttributeValueMemberM:
		return map[string]any{"M": tree(reflect.ValueOf(v.Value))}
	case *types.AttributeValueMemberSS:
		return map[string]any{"SS": sortedSet(v.Value)}
	case *types.AttributeValueMemberNS:
		return map[string]any{"NS": sortedSet(v.Value)}
	case *types.AttributeValueMemberBS:
		var members []string
		for _, member := range v.Value {
			members = append(members, base64.StdEncoding.EncodeToString(member))
		}
		return map[string]any{"BS": sortedSet(members)}
	default:
		return fmt.Sprintf("%#v", value)
	}
}

// sortedSet drops the order of a set's members: a set has none, and the real
// service promises none.
func sortedSet(members []string) any {
	sorted := append([]string{}, members...)
	sort.Strings(sorted)
	return sorted
}

// settleNumbers writes the numbers of DynamoDB Local's answer as the service does: plain
// digits without zeros that say nothing. DynamoDB Local does so itself, but not inside
// lists and maps, nor for what ADD puts into an item that has no such attribute.
func settleNumbers(answer any) any {
	switch v := answer.(type) {
	case map[string]any:
		if n, ok := v["N"].(string); ok && len(v) == 1 {
			return map[string]any{"N": plainNumber(n)}
		}
		if set, ok := v["NS"].([]string); ok && len(v) == 1 {
			plain := []string{}
			for _, n := range set {
				plain = append(plain, plainNumber(n))
			}
			return map[string]any{"NS": sortedSet(plain)}
		}
		out := map[string]any{}
		for name := range v {
			out[name] = settleNumbers(v[name])
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = settleNumbers(v[i])
		}
		return out
	}
	return answer
}

var numberText = regexp.MustCompile(`^([+-]?)([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]+))?$`)

func plainNumber(n string) string {
	part := numberText.FindStringSubmatch(n)
	if part == nil {
		return n
	}
	exponent, _ := strconv.Atoi(part[4])
	digits := part[2] + part[3]
	point := len(part[2]) + exponent
	if point < 0 {
		digits, point = strings.Repeat("0", -point)+digits, 0
	}
	if point > len(digits) {
		digits += strings.Repeat("0", point-len(digits))
	}
	whole, fraction := strings.TrimLeft(digits[:point], "0"), strings.TrimRight(digits[point:], "0")
	if whole == "" {
		whole = "0"
	}
	if fraction != "" {
		whole += "." + fraction
	}
	if part[1] == "-" && whole != "0" {
		return "-" + whole
	}
	return whole
}

// brief keeps a report readable when an item of 400 KB differs, and still
// compares every byte.
func brief(s string) string {
	if len(s) <= 300 {
		return s
	}
	return fmt.Sprintf("%s...(%d bytes, sha256 %x)", s[:40], len(s), sha256.Sum256([]byte(s)))
}

func text(tree any) string {
	out, err := json.Marshal(tree)
	if err != nil {
		return fmt.Sprintf("unprintable: %v", err)
	}
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(out))
}

// errorTree is everything that a client can learn from an error: code, message,
// HTTP status, the item of a refused condition, and why a transaction was cancelled.
func errorTree(err error) any {
	out := map[string]any{}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return map[string]any{"NotAnswered": err.Error()}
	}
	out["Code"] = api.ErrorCode()
	out["Message"] = brief(settledMessage(api.ErrorMessage()))
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		out["Status"] = response.HTTPStatusCode()
	}
	var refused *types.ConditionalCheckFailedException
	if errors.As(err, &refused) && refused.Item != nil {
		out["Item"] = tree(reflect.ValueOf(refused.Item))
	}
	var cancelled *types.TransactionCanceledException
	if errors.As(err, &cancelled) {
		reasons, _ := tree(reflect.ValueOf(cancelled.CancellationReasons)).([]any)
		for _, reason := range reasons {
			if fields := reason.(map[string]any); fields["Message"] != nil {
				fields["Message"] = settledMessage(fmt.Sprint(fields["Message"]))
			}
		}
		out["CancellationReasons"] = reasons
	}
	return out
}

// sameMessage is what DynamoDB Local words in its own way. The embedded server may give
// the service's words instead; code and status are compared as they are.
var sameMessage = []struct {
	pattern *regexp.Regexp
	settled string
}{
	// The service: "Requested resource not found", for table operations with the table's name.
	{
		regexp.MustCompile(`^(Cannot do operations on a non-existent table|Requested resource not found.*)$`),
		"no such table",
	},
	// The service: "Table already exists: NAME".
	{regexp.MustCompile(`^(Cannot create preexisting table|Table already exists: .*)$`), "table exists"},
	// The service names the parameter and the rule that the name breaks.
	{regexp.MustCompile(`^(Invalid table/index name\. .*|TableName must be .*|.* at 'tableName' failed to satisfy constraint.*)$`), "bad table name"},
	// The service names the text.
	{regexp.MustCompile(`^(A value provided cannot be converted into a number|The parameter cannot be converted to a numeric value.*)$`), "not a number"},
	{regexp.MustCompile(`^(DynamoDB only supports precision up to 38 digits|Attempting to store more than 38 significant digits in a Number)$`), "too many digits"},
	// DynamoDB Local ends the sentence with a full stop in a transaction's ConditionCheck, the service nowhere.
	{regexp.MustCompile(`^The conditional request failed\.$`), "The conditional request failed"},
	// Of several overlapping paths the pair that is named follows the order of a sort, not of the text, and may even not
	// overlap.
	{regexp.MustCompile(`; path one: .*$`), ""},
}

var listed = regexp.MustCompile(`\{[^{}]*\}`)

// settledMessage also sorts what a message lists in braces (types that an operator
// takes, placeholders that were not used): DynamoDB Local walks a hash map there, and
// the same server names them in another order the next time.
func settledMessage(message string) string {
	for _, same := range sameMessage {
		message = same.pattern.ReplaceAllString(message, same.settled)
	}
	return listed.ReplaceAllStringFunc(message, func(list string) string {
		members := strings.Split(strings.Trim(list, "{}"), ",")
		for i := range members {
			members[i] = strings.TrimSpace(members[i])
		}
		sort.Strings(members)
		return "{" + strings.Join(members, ", ") + "}"
	})
}

// unordered sorts a list whose order DynamoDB leaves open.
func unordered(list any) {
	if items, ok := list.([]any); ok {
		place := func(i int) string { return text(settleNumbers(items[i])) } // the same on both servers
		sort.SliceStable(items, func(i, j int) bool { return place(i) < place(j) })
	}
}
