package dynalock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
)

// TableOptions of [CreateTable] and [CheckTable]. They have to agree with the [Options] of the clients.
type TableOptions struct {
	PartitionKey       string // name of the partition key; default "key"
	SortKey            string // name of the sort key; default: none
	TimeToLive         bool   // enable TTL on the attribute "ttl", for Options.Retention, for example; default: no
	DeletionProtection bool   // protect a table that is created; one that exists is left as it is; default: no
}

// Severity of a [Finding].
type Severity int

// The severities.
const (
	Info    Severity = iota // works; worth knowing
	Warning                 // works, but costs or risks something
	Fatal                   // locks cannot work, or not safely, on this table
)

// String names the severity.
func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Warning:
		return "warning"
	case Fatal:
		return "fatal"
	}
	return fmt.Sprintf("Severity(%d)", int(s))
}

// Finding is a fact about a table that matters for its locks.
type Finding struct {
	Severity Severity
	Problem  string
	Remedy   string
}

// String is problem and remedy in one line.
func (f Finding) String() string {
	return fmt.Sprintf("%v: %s; %s", f.Severity, printable(f.Problem), printable(f.Remedy))
}

func tableOptions(db DynamoDB, table string, optFns []func(*TableOptions)) (TableOptions, error) {
	var o TableOptions
	apply(&o, optFns)
	if o.PartitionKey == "" {
		o.PartitionKey = "key"
	}
	errs := validateKeyNames(o.PartitionKey, o.SortKey)
	if db == nil {
		errs = append(errs, errors.New("db is nil, allowed: a DynamoDB client"))
	}
	if table == "" {
		errs = append(errs, errors.New("table is empty, allowed: the name or ARN of a table"))
	}
	return o, invalid(errs)
}

// CreateTable creates the table with on-demand billing, waits until it is ACTIVE, and enables TTL if the options ask
// for it. It does not wait until TTL is enabled. Processes may call it at the same time.
//
// If the table exists, its keys are checked:
//
//   - A table that fits is success. Its TTL is enabled if the options ask for it, and never disabled. Its billing and
//     deletion protection stay as they are; [CheckTable] reports them.
//   - A table that does not fit, by its keys or by TTL on another attribute, is left as it is. The error matches
//     ErrInvalid and says how it does not fit.
//   - A table that is being deleted is created again when it is gone.
//
// nil means that the table is there and fits. Errors match ErrInvalid, ErrStore or ctx.Err().
func CreateTable(ctx context.Context, db DynamoDB, table string, optFns ...func(*TableOptions)) error {
	o, err := tableOptions(db, table, optFns)
	if err != nil {
		return err
	}
	in := &dynamodb.CreateTableInput{
		TableName:                 &table,
		BillingMode:               types.BillingModePayPerRequest,
		DeletionProtectionEnabled: aws.Bool(o.DeletionProtection),
		KeySchema:                 []types.KeySchemaElement{{AttributeName: &o.PartitionKey, KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{{
			AttributeName: &o.PartitionKey,
			AttributeType: types.ScalarAttributeTypeS,
		}},
	}
	if o.SortKey != "" {
		in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &o.SortKey, KeyType: types.KeyTypeRange})
		in.AttributeDefinitions = append(in.AttributeDefinitions,
			types.AttributeDefinition{AttributeName: &o.SortKey, AttributeType: types.ScalarAttributeTypeS})
	}
	var desc *types.TableDescription
	for desc == nil { // a table that is being deleted is in the way until it is gone
		var exists *types.ResourceInUseException
		out, err := db.CreateTable(ctx, in)
		if err == nil && isStranger(out.ResultMetadata) {
			err = errStranger
		}
		if err != nil && !errors.As(err, &exists) {
			return tableError(db, "create table", table, err)
		}
		if desc, err = waitActive(ctx, db, table, exists != nil); err != nil {
			return err
		}
	}
	var problems []string
	for _, f := range schemaFindings(desc, o) {
		problems = append(problems, f.Problem)
	}
	if len(problems) > 0 {
		return invalid([]error{fmt.Errorf("table %q exists and does not fit: %s", table, strings.Join(problems, ", "))})
	}
	if o.TimeToLive {
		return enableTTL(ctx, db, table)
	}
	return nil
}

// waitActive waits until the table can be used. A table that existed and is missing was deleted: the result is nil. A
// table that was just created may be missing for a while.
func waitActive(ctx context.Context, db DynamoDB, table string, was bool) (*types.TableDescription, error) {
	for wait := shortestPause; ; wait = min(2*wait, longestPause) {
		desc, err := describe(ctx, db, table)
		var missing *types.ResourceNotFoundException
		switch {
		case err == nil && desc.TableStatus == types.TableStatusActive:
			return desc, nil
		case err != nil && !errors.As(err, &missing):
			return nil, err
		}
		if err := pause(ctx, table, wait); err != nil {
			return nil, err
		}
		if was && err != nil {
			return nil, nil //nolint:nilnil // it is gone, which is no error
		}
	}
}

func describe(ctx context.Context, db DynamoDB, table string) (*types.TableDescription, error) {
	out, err := db.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &table})
	switch {
	case err != nil:
		return nil, tableError(db, "describe table", table, err)
	case out.Table == nil, isStranger(out.ResultMetadata):
		return nil, tableError(db, "describe table", table, errStranger)
	}
	return out.Table, nil
}

// The time between two looks at a table that is not ready.
const (
	shortestPause = 100 * time.Millisecond
	longestPause  = 2 * time.Second
)

func pause(ctx context.Context, table string, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("dynalock: waiting for table %q: %w", table, ctx.Err())
	}
}

// enableTTL enables TTL unless it is enabled. Processes that start at the same time all do so, and a refusal may mean
// that another one was faster. So the state is read again, a few times because a change is not seen at once. A request
// that is still refused, such as a second change within the hour, is an error. If another change of the table is under
// way, enableTTL waits for it.
func enableTTL(ctx context.Context, db DynamoDB, table string) error {
	refusals := 3
	for wait := shortestPause; ; wait = min(2*wait, longestPause) {
		if on, err := ttlEnabled(ctx, db, table); on || err != nil {
			return err
		}
		_, err := db.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
			TableName:               &table,
			TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(attrTTL), Enabled: aws.Bool(true)},
		})
		if err == nil {
			return nil
		}
		var busy *types.ResourceInUseException
		var api smithy.APIError
		switch {
		case errors.As(err, &busy):
		case errors.As(err, &api) && api.ErrorCode() == "ValidationException" && refusals > 0:
			refusals--
		default:
			return tableError(db, "update time to live", table, err)
		}
		if err := pause(ctx, table, wait); err != nil {
			return err
		}
	}
}

// ttlEnabled reports whether TTL is, or is being, enabled. TTL on another attribute than ours is an error.
func ttlEnabled(ctx context.Context, db DynamoDB, table string) (bool, error) {
	out, err := db.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &table})
	if err != nil {
		return false, tableError(db, "describe time to live", table, err)
	}
	name, on := ttlAttribute(out.TimeToLiveDescription)
	if on && name != attrTTL {
		return false, invalid([]error{fmt.Errorf("table %q has TTL on %q, allowed: %q", table, name, attrTTL)})
	}
	return on, nil
}

// CheckTable reports what is wrong, or worth knowing, about a table that is to hold locks. It returns no findings if
// there is nothing to report. Errors match ErrInvalid, ErrStore or ctx.Err().
func CheckTable(ctx context.Context, db DynamoDB, table string, optFns ...func(*TableOptions)) ([]Finding, error) {
	o, err := tableOptions(db, table, optFns)
	if err != nil {
		return nil, err
	}
	desc, err := describe(ctx, db, table)
	if err != nil {
		return nil, err
	}
	ttl, err := db.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &table})
	if err != nil {
		return nil, tableError(db, "describe time to live", table, err)
	}
	found := schemaFindings(desc, o)
	if desc.TableStatus != types.TableStatusActive && desc.TableStatus != types.TableStatusUpdating {
		found = append(found, Finding{Fatal, fmt.Sprintf("the table is %s", desc.TableStatus), "wait until it is ACTIVE"})
	}
	found = append(found, ttlFindings(ttl.TimeToLiveDescription, o)...)
	if len(desc.Replicas) > 0 && desc.MultiRegionConsistency != types.MultiRegionConsistencyStrong {
		found = append(found, Finding{
			Fatal, "it is a global table in the eventually consistent mode: each Region decides on a copy of its own and the last writer wins",
			"use one Region for all clients, or a table in the strongly consistent mode",
		})
	}
	if n := len(desc.GlobalSecondaryIndexes) + len(desc.LocalSecondaryIndexes); n > 0 {
		found = append(found,
			Finding{
				Warning, fmt.Sprintf("it has %d secondary indexes, and every heartbeat is paid for in each", n),
				"remove them; the library never reads an index",
			})
	}
	if desc.BillingModeSummary == nil || desc.BillingModeSummary.BillingMode != types.BillingModePayPerRequest {
		found = append(found,
			Finding{
				Info, "its capacity is provisioned: heartbeats that are throttled for a whole lease lose locks",
				"use on-demand billing, or an alarm on throttled requests",
			})
	}
	if !aws.ToBool(desc.DeletionProtectionEnabled) {
		found = append(found, Finding{Info, "it is not protected against deletion", "enable deletion protection"})
	}
	return found, nil
}

// schemaFindings compares the key schema.
func schemaFindings(desc *types.TableDescription, o TableOptions) []Finding {
	want := map[types.KeyType]string{types.KeyTypeHash: o.PartitionKey}
	if o.SortKey != "" {
		want[types.KeyTypeRange] = o.SortKey
	}
	have := map[types.KeyType]string{}
	for _, k := range desc.KeySchema {
		have[k.KeyType] = aws.ToString(k.AttributeName)
	}
	var found []Finding
	for _, k := range []struct {
		kind types.KeyType
		name string
	}{{types.KeyTypeHash, "partition key"}, {types.KeyTypeRange, "sort key"}} {
		switch w, h := want[k.kind], have[k.kind]; {
		case w == h:
		case w == "":
			found = append(found,
				Finding{
					Fatal, fmt.Sprintf("the table has a %s %q, the options have none", k.name, h),
					"set SortKey and SortValue, or use another table",
				})
		case h == "":
			found = append(found,
				Finding{
					Fatal, fmt.Sprintf("the table has no %s, the options say %q", k.name, w),
					"leave SortKey out, or use another table",
				})
		default:
			found = append(found,
				Finding{
					Fatal, fmt.Sprintf("the table's %s is %q, the options say %q", k.name, h, w),
					"set the option to the table's name, or use another table",
				})
		}
	}
	for _, d := range desc.AttributeDefinitions {
		name := aws.ToString(d.AttributeName)
		if d.AttributeType != types.ScalarAttributeTypeS &&
			slices.Contains([]string{have[types.KeyTypeHash], have[types.KeyTypeRange]}, name) {
			found = append(found,
				Finding{
					Fatal, fmt.Sprintf("key attribute %q has type %s instead of S", name, d.AttributeType),
					"use a table whose keys are strings",
				})
		}
	}
	return found
}

// ttlFindings checks which items DynamoDB deletes by itself.
func ttlFindings(ttl *types.TimeToLiveDescription, o TableOptions) []Finding {
	name, on := ttlAttribute(ttl)
	switch {
	case on && name != attrTTL && reservedAttributes[name]:
		return []Finding{{
			Fatal, fmt.Sprintf("TTL is on %q, which held locks have: DynamoDB deletes them", name),
			fmt.Sprintf("move TTL to %q", attrTTL),
		}}
	case on && name != attrTTL:
		return []Finding{{
			Warning, fmt.Sprintf("TTL is on %q, which is not the library's", name),
			fmt.Sprintf("move TTL to %q, or make sure that no lock item has it", attrTTL),
		}}
	case !on && o.TimeToLive:
		return []Finding{{
			Warning, "TTL is off: released items stay although retention is asked for",
			fmt.Sprintf("enable TTL on %q", attrTTL),
		}}
	}
	return nil
}

func ttlAttribute(ttl *types.TimeToLiveDescription) (name string, on bool) {
	if ttl == nil {
		return "", false
	}
	on = ttl.TimeToLiveStatus == types.TimeToLiveStatusEnabled || ttl.TimeToLiveStatus == types.TimeToLiveStatusEnabling
	return aws.ToString(ttl.AttributeName), on
}

// tableError wraps what the SDK said about the table.
func tableError(db DynamoDB, op, table string, err error) error {
	s := &store{db: db, table: table, opt: &Options{}}
	return s.storeError(op, "", err)
}

// sameTable reports whether two names or ARNs may be those of one table, in any Region.
func sameTable(a, b string) bool {
	account, name := splitTable(a)
	otherAccount, otherName := splitTable(b)
	return name == otherName && (account == otherAccount || account == "" || otherAccount == "")
}

// splitTable takes an ARN (arn:aws:dynamodb:eu-west-1:123456789012:table/locks) apart; a name has no account.
func splitTable(table string) (account, name string) {
	parts := strings.SplitN(table, ":", 6)
	if len(parts) < 6 || parts[0] != "arn" {
		return "", table
	}
	return parts[4], strings.TrimPrefix(parts[5], "table/")
}
