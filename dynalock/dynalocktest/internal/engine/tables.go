package engine

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// Region and account that the names of resources bear.
const (
	Region  = "us-east-1"
	account = "000000000000"
)

var arnPrefix = fmt.Sprintf("arn:aws:dynamodb:%s:%s:table/", Region, account)

// settings are the parts of a table that can be changed.
type settings struct {
	billing       string    // PAY_PER_REQUEST or PROVISIONED
	onDemandSince time.Time // zero: never was
	reads, writes int64     // provisioned
	class         string
	encryption    *encryption // nil: by the service's own key
	protected     bool
	ttl           string    // the attribute, "" if disabled
	recoverySince time.Time // point in time recovery; zero: off
	recoveryDays  int
	tags          map[string]string
}

var tableName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{3,255}$`)

// shortName is the name of a table that is given by its name or its ARN.
func shortName(name string) string {
	if strings.HasPrefix(name, "arn:") {
		_, name, _ = strings.Cut(name, ":table/")
	}
	return name
}

var errTableName = validation(
	"Invalid table/index name.  Table/index names must be between 3 and 255 characters long, and may contain only the characters a-z, A-Z, 0-9, '_', '-', and '.'")

func tableArgument(name *string) (string, error) {
	if name == nil {
		return "", validation("Value null at 'tableName' failed to satisfy constraint: Member must not be null")
	}
	short := shortName(*name)
	if !tableName.MatchString(short) {
		return "", errTableName
	}
	return short, nil
}

// onTable are the parameters of operations on one table as a whole.
type onTable struct{ TableName *string }

func (in *onTable) targets(e *Engine) []Target { return []Target{e.target(in.TableName, nil)} }

// with finds the table now and makes sure that it is there still when run runs.
func (in *onTable) with(e *Engine, run func(*tx, *table) (any, error)) (func(*tx) (any, error), error) {
	table, err := e.table(in.TableName)
	if err != nil {
		return nil, err
	}
	return func(t *tx) (any, error) {
		if err := t.check(table); err != nil {
			return nil, err
		}
		return run(t, table)
	}, nil
}

type (
	attributeDefinition struct{ AttributeName, AttributeType string }
	keySchemaElement    struct{ AttributeName, KeyType string }
	throughput          struct{ ReadCapacityUnits, WriteCapacityUnits *int64 }
	streamSpecification struct{ StreamEnabled bool }
	sseSpecification    struct {
		Enabled        bool
		KMSMasterKeyID string
	}
	encryption struct{ Status, SSEType, KMSMasterKeyArn string }
)

// describe gives what the table says of its encryption; nothing is encrypted here.
func (spec *sseSpecification) describe() *encryption {
	if spec == nil || !spec.Enabled {
		return nil
	}
	key := spec.KMSMasterKeyID
	if key == "" {
		key = fmt.Sprintf("arn:aws:kms:%s:%s:alias/aws/dynamodb", Region, account)
	}
	return &encryption{"ENABLED", "KMS", key}
}

type createTableInput struct {
	onTable
	AttributeDefinitions      []attributeDefinition
	KeySchema                 []keySchemaElement
	BillingMode               string
	ProvisionedThroughput     *throughput
	GlobalSecondaryIndexes    []any
	LocalSecondaryIndexes     []any
	StreamSpecification       *streamSpecification
	SSESpecification          *sseSpecification
	TableClass                string
	DeletionProtectionEnabled bool
	Tags                      []tag
}

func (in *createTableInput) plan(*Engine) (func(*tx) (any, error), error) {
	if in.TableName == nil || !tableName.MatchString(shortName(*in.TableName)) {
		return nil, errTableName
	}
	name := shortName(*in.TableName)
	hash, sort, err := in.keys()
	if err != nil {
		return nil, err
	}
	s := settings{
		billing: in.BillingMode, class: in.TableClass, encryption: in.SSESpecification.describe(),
		protected: in.DeletionProtectionEnabled,
		tags:      map[string]string{},
	}
	if s.billing == "" {
		s.billing = provisioned
	}
	if err := s.provision(in.ProvisionedThroughput); err != nil {
		return nil, err
	}
	if len(in.GlobalSecondaryIndexes)+len(in.LocalSecondaryIndexes) > 0 {
		return nil, errNoIndexes
	}
	if in.StreamSpecification != nil && in.StreamSpecification.StreamEnabled {
		return nil, errNoStreams
	}
	for _, t := range in.Tags {
		s.tags[t.Key] = t.Value
	}
	return func(t *tx) (any, error) {
		if t.engine.tables[name] != nil {
			return nil, serviceError("ResourceInUseException", "Cannot create preexisting table")
		}
		table := &table{
			name: name, uuid: newUUID(), created: t.now, hash: hash, sort: sort, settings: s,
			parts: map[string]*partition{},
		}
		if s.billing == onDemand {
			table.onDemandSince = t.now
		}
		t.engine.tables[name] = table
		return tableChange{table.describe()}, nil
	}, nil
}

var (
	errNoIndexes = validation("This server does not support secondary indexes")
	errNoStreams = validation("This server does not support streams")
)

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// keys checks the key schema against the definitions.
func (in *createTableInput) keys() (hash, sort keyAttr, err error) {
	switch {
	case len(in.KeySchema) == 0:
		return hash, sort, validation(
			"No defined key schema.  A key schema containing at least a hash key must be defined for all tables")
	case len(in.AttributeDefinitions) == 0:
		return hash, sort, validation("No Attribute Schema Defined")
	case len(in.KeySchema) > 2:
		return hash, sort, validation(
			"Key Schema too big.  Key Schema must at most consist of the hash and range key of a table")
	}
	kinds := map[string]attr.Kind{}
	for _, d := range in.AttributeDefinitions {
		kind := attr.Kind(d.AttributeType)
		if kind != attr.S && kind != attr.N && kind != attr.B {
			return hash, sort, validation("Member must satisfy enum value set: [B, N, S]")
		}
		if kinds[d.AttributeName] != "" {
			return hash, sort, validation("Cannot have two attributes with the same name")
		}
		kinds[d.AttributeName] = kind
	}
	if len(in.KeySchema) == 2 && in.KeySchema[0].AttributeName == in.KeySchema[1].AttributeName {
		return hash, sort, validation("Two keys can not have the same name")
	}
	if in.KeySchema[0].KeyType != "HASH" {
		return hash, sort, validation("No Hash Key specified in schema.  All Dynamo DB tables must have exactly one hash key")
	}
	hash = keyAttr{in.KeySchema[0].AttributeName, kinds[in.KeySchema[0].AttributeName]}
	if hash.kind == "" {
		return hash, sort, validation("Hash Key not specified in Attribute Definitions.  Type unknown.")
	}
	if len(in.KeySchema) == 2 {
		if in.KeySchema[1].KeyType != "RANGE" {
			return hash, sort, validation("The second key of a schema must be a RANGE key")
		}
		sort = keyAttr{in.KeySchema[1].AttributeName, kinds[in.KeySchema[1].AttributeName]}
		if sort.kind == "" {
			return hash, sort, validation("Range Key not specified in Attribute Definitions.  Type unknown.")
		}
	}
	if len(kinds) != len(in.KeySchema) && len(in.GlobalSecondaryIndexes)+len(in.LocalSecondaryIndexes) == 0 {
		return hash, sort, validation(
			"The number of attributes in key schema must match the number of attributes defined in attribute definitions.")
	}
	return hash, sort, nil
}

const (
	provisioned = "PROVISIONED"
	onDemand    = "PAY_PER_REQUEST"
)

// provision takes over the throughput that goes with the billing mode.
func (s *settings) provision(p *throughput) error {
	switch s.billing {
	case onDemand:
		if p != nil && (p.ReadCapacityUnits != nil || p.WriteCapacityUnits != nil) {
			return validation("One or more parameter values were invalid: Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST")
		}
		s.reads, s.writes = 0, 0
		return nil
	case provisioned:
	default:
		return validation("Value '%s' at 'billingMode' failed to satisfy constraint: Member must satisfy enum value set: [PROVISIONED, PAY_PER_REQUEST]", s.billing)
	}
	if p == nil {
		return validation("No provisioned throughput specified for the table")
	}
	if p.ReadCapacityUnits == nil || p.WriteCapacityUnits == nil || *p.ReadCapacityUnits < 1 || *p.WriteCapacityUnits < 1 {
		return validation("Table read and write throughput must be at least 1, and cannot be null")
	}
	s.reads, s.writes = *p.ReadCapacityUnits, *p.WriteCapacityUnits
	return nil
}

type (
	tableChange struct{ TableDescription tableDescription }

	tableDescription struct {
		AttributeDefinitions      []attributeDefinition
		TableName                 string
		KeySchema                 []keySchemaElement
		TableStatus               string
		CreationDateTime          float64
		ProvisionedThroughput     throughputDescription
		TableSizeBytes            int
		ItemCount                 int
		TableArn                  string
		TableID                   string              `json:"TableId"`
		BillingModeSummary        *billingModeSummary `json:",omitempty"`
		TableClassSummary         *tableClassSummary  `json:",omitempty"`
		SSEDescription            *encryption         `json:",omitempty"`
		DeletionProtectionEnabled bool
		WarmThroughput            warmThroughput
	}
	throughputDescription struct {
		NumberOfDecreasesToday int
		ReadCapacityUnits      int64
		WriteCapacityUnits     int64
	}
	billingModeSummary struct {
		BillingMode                       string
		LastUpdateToPayPerRequestDateTime float64
	}
	tableClassSummary struct{ TableClass string }
	warmThroughput    struct {
		ReadUnitsPerSecond  int64
		WriteUnitsPerSecond int64
		Status              string
	}
)

// What the service says that any table serves at once.
const (
	warmReads  = 12000
	warmWrites = 4000
)

func (t *table) describe() tableDescription {
	d := tableDescription{
		TableName:                 t.name,
		TableStatus:               "ACTIVE",
		CreationDateTime:          epoch(t.created),
		ProvisionedThroughput:     throughputDescription{0, t.reads, t.writes},
		TableSizeBytes:            t.bytes,
		ItemCount:                 t.count,
		TableArn:                  arnPrefix + t.name,
		TableID:                   t.uuid,
		SSEDescription:            t.encryption,
		DeletionProtectionEnabled: t.protected,
		WarmThroughput:            warmThroughput{max(t.reads, warmReads), max(t.writes, warmWrites), "ACTIVE"},
	}
	for i, k := range t.keyAttrs() {
		d.AttributeDefinitions = append(d.AttributeDefinitions, attributeDefinition{k.name, string(k.kind)})
		d.KeySchema = append(d.KeySchema, keySchemaElement{k.name, []string{"HASH", "RANGE"}[i]})
	}
	if !t.onDemandSince.IsZero() {
		d.BillingModeSummary = &billingModeSummary{t.billing, epoch(t.onDemandSince)}
	}
	if t.class != "" {
		d.TableClassSummary = &tableClassSummary{t.class}
	}
	return d
}

// epoch is a time as the protocol has it: seconds with a fraction.
func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

type describeTableInput struct{ onTable }

func (in *describeTableInput) plan(e *Engine) (func(*tx) (any, error), error) {
	return in.with(e, func(_ *tx, table *table) (any, error) {
		return struct{ Table tableDescription }{table.describe()}, nil
	})
}

type deleteTableInput struct{ onTable }

func (in *deleteTableInput) plan(e *Engine) (func(*tx) (any, error), error) {
	return in.with(e, func(t *tx, table *table) (any, error) {
		if table.protected {
			return nil, validation(
				"Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first.")
		}
		delete(t.engine.tables, table.name)
		return tableChange{table.describe()}, nil
	})
}

type updateTableInput struct {
	onTable
	AttributeDefinitions        []attributeDefinition
	BillingMode                 string
	ProvisionedThroughput       *throughput
	GlobalSecondaryIndexUpdates []any
	StreamSpecification         *streamSpecification
	SSESpecification            *sseSpecification
	ReplicaUpdates              []any
	TableClass                  string
	DeletionProtectionEnabled   *bool
	OnDemandThroughput          *struct{}
	WarmThroughput              *struct{}
}

func (in *updateTableInput) plan(e *Engine) (func(*tx) (any, error), error) {
	return in.with(e, func(t *tx, table *table) (any, error) {
		s, err := in.changed(t, table.settings)
		if err != nil {
			return nil, err
		}
		table.settings = s
		return tableChange{table.describe()}, nil
	})
}

// changed gives the settings as they are after the update.
func (in *updateTableInput) changed(t *tx, s settings) (settings, error) {
	switch {
	case in.BillingMode == "" && in.ProvisionedThroughput == nil && in.TableClass == "" &&
		in.DeletionProtectionEnabled == nil &&
		in.GlobalSecondaryIndexUpdates == nil && in.StreamSpecification == nil && in.SSESpecification == nil &&
		in.ReplicaUpdates == nil && in.OnDemandThroughput == nil && in.WarmThroughput == nil:
		return s, validation("Nothing to update")
	case len(in.GlobalSecondaryIndexUpdates) > 0:
		return s, errNoIndexes
	case in.StreamSpecification != nil && in.StreamSpecification.StreamEnabled:
		return s, errNoStreams
	case len(in.ReplicaUpdates) > 0:
		return s, validation("This server does not support global tables")
	}
	if in.SSESpecification != nil {
		s.encryption = in.SSESpecification.describe()
	}
	if in.BillingMode != "" || in.ProvisionedThroughput != nil {
		before := s
		if in.BillingMode != "" {
			s.billing = in.BillingMode
		}
		if s.billing != onDemand || in.BillingMode != "" { // throughput alone means nothing to an on-demand table
			if err := s.provision(in.ProvisionedThroughput); err != nil {
				return s, err
			}
		}
		if s.billing == provisioned && before.billing == provisioned && s.reads == before.reads && s.writes == before.writes {
			return s, validation("The requested throughput value equals the current value")
		}
		if s.billing == onDemand && before.billing != onDemand {
			s.onDemandSince = t.now
		}
	}
	if in.TableClass != "" {
		s.class = in.TableClass
	}
	if in.DeletionProtectionEnabled != nil {
		s.protected = *in.DeletionProtectionEnabled
	}
	return s, nil
}

type listTablesInput struct {
	ExclusiveStartTableName *string
	Limit                   *int
}

type listTablesOutput struct {
	TableNames             []string
	LastEvaluatedTableName string `json:",omitempty"`
}

const maxListTables = 100

func (in *listTablesInput) targets(*Engine) []Target { return nil }

func (in *listTablesInput) plan(*Engine) (func(*tx) (any, error), error) {
	limit := maxListTables
	if in.Limit != nil {
		limit = *in.Limit
	}
	switch {
	case limit < 1:
		return nil, validation("Limit must be greater than or equal to 1")
	case limit > maxListTables:
		return nil, validation("Limit in ListTables must be <= %d", maxListTables)
	case in.ExclusiveStartTableName != nil && !tableName.MatchString(*in.ExclusiveStartTableName):
		return nil, errTableName
	}
	return func(t *tx) (any, error) {
		names := sorted(t.engine.tables)
		if in.ExclusiveStartTableName != nil {
			i, ok := slices.BinarySearch(names, *in.ExclusiveStartTableName)
			if ok {
				i++
			}
			names = names[i:]
		}
		if len(names) <= limit {
			return listTablesOutput{names, ""}, nil
		}
		return listTablesOutput{names[:limit], names[limit-1]}, nil
	}, nil
}

type describeLimitsInput struct{}

func (in *describeLimitsInput) targets(*Engine) []Target { return nil }

func (in *describeLimitsInput) plan(*Engine) (func(*tx) (any, error), error) {
	return func(*tx) (any, error) {
		return struct {
			AccountMaxReadCapacityUnits, AccountMaxWriteCapacityUnits, TableMaxReadCapacityUnits, TableMaxWriteCapacityUnits int
		}{80000, 80000, 40000, 40000}, nil
	}, nil
}
