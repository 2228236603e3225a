package engine

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"time"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// Region and account that the names of resources bear.
const (
	Region  = "us-east-1"
	Account = "000000000000"
)

// settings are the parts of a table's description that UpdateTable and others change.
type settings struct {
	billing    string // PAY_PER_REQUEST or PROVISIONED
	onDemandAt time.Time
	read       int64
	write      int64
	class      string
	protected  bool
	ttl        string
	pitr       time.Time // zero: off
	tags       map[string]string
}

var tableName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{3,255}$`)

func checkTableName(name *string) error {
	if name == nil {
		return validation("Value null at 'tableName' failed to satisfy constraint: Member must not be null")
	}
	if !tableName.MatchString(*name) {
		return validation("Invalid table/index name.  Table/index names must be between 3 and 255 characters long, and may contain only the characters a-z, A-Z, 0-9, '_', '-', and '.'")
	}
	return nil
}

type attributeDefinition struct{ AttributeName, AttributeType string }

type keySchemaElement struct{ AttributeName, KeyType string }

type throughput struct{ ReadCapacityUnits, WriteCapacityUnits *int64 }

type tag struct{ Key, Value string }

type createTableInput struct {
	TableName                 *string
	AttributeDefinitions      []attributeDefinition
	KeySchema                 []keySchemaElement
	BillingMode               string
	ProvisionedThroughput     *throughput
	GlobalSecondaryIndexes    []any
	LocalSecondaryIndexes     []any
	StreamSpecification       *struct{ StreamEnabled bool }
	TableClass                string
	DeletionProtectionEnabled bool
	Tags                      []tag
}

func (in *createTableInput) prepare(c *Call) (func(*tx) (any, error), error) {
	if err := checkTableName(in.TableName); err != nil {
		return nil, err
	}
	hash, sort, err := in.keys()
	if err != nil {
		return nil, err
	}
	s := settings{billing: "PROVISIONED", class: in.TableClass, protected: in.DeletionProtectionEnabled, tags: map[string]string{}}
	for _, t := range in.Tags {
		s.tags[t.Key] = t.Value
	}
	if in.BillingMode != "" {
		s.billing = in.BillingMode
	}
	if err := s.provision(in.ProvisionedThroughput); err != nil {
		return nil, err
	}
	if len(in.GlobalSecondaryIndexes)+len(in.LocalSecondaryIndexes) > 0 {
		return nil, validation("Secondary indexes are not supported by this server")
	}
	if in.StreamSpecification != nil && in.StreamSpecification.StreamEnabled {
		return nil, validation("Streams are not supported by this server")
	}
	name := *in.TableName
	c.Targets = []Target{{Table: name}}
	return func(t *tx) (any, error) {
		if t.engine.tables[name] != nil {
			return nil, serviceError("ResourceInUseException", "Cannot create preexisting table")
		}
		if s.billing == "PAY_PER_REQUEST" {
			s.onDemandAt = t.now
		}
		table := &table{
			name: name, arn: fmt.Sprintf("arn:aws:dynamodb:%s:%s:table/%s", Region, Account, name), id: newID(),
			created: t.now, hash: hash, sort: sort, settings: s, parts: map[string]*partition{},
		}
		t.engine.tables[name] = table
		return map[string]any{"TableDescription": table.describe("ACTIVE")}, nil
	}, nil
}

// newID makes a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (in *createTableInput) keys() (hash, sort keyAttr, err error) {
	kinds := map[string]attr.Kind{}
	for _, d := range in.AttributeDefinitions {
		kinds[d.AttributeName] = attr.Kind(d.AttributeType)
	}
	for i, k := range in.KeySchema {
		kind, ok := kinds[k.AttributeName]
		if !ok {
			return hash, sort, validation("One or more parameter values were invalid: Some index key attributes are not defined in AttributeDefinitions. Keys: [%s]", k.AttributeName)
		}
		switch {
		case i == 0 && k.KeyType == "HASH":
			hash = keyAttr{k.AttributeName, kind}
		case i == 1 && k.KeyType == "RANGE":
			sort = keyAttr{k.AttributeName, kind}
		default:
			return hash, sort, validation("Invalid KeySchema: The first KeySchemaElement is not a HASH key type")
		}
	}
	if hash.name == "" {
		return hash, sort, validation("Invalid KeySchema: Some index key attribute have no definition")
	}
	return hash, sort, nil
}

// provision checks and takes over the throughput that fits the billing mode.
func (s *settings) provision(p *throughput) error {
	switch s.billing {
	case "PAY_PER_REQUEST":
		if p != nil {
			return validation("One or more parameter values were invalid: Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST")
		}
		s.read, s.write = 0, 0
		return nil
	case "PROVISIONED":
		if p == nil || p.ReadCapacityUnits == nil || p.WriteCapacityUnits == nil {
			return validation("One or more parameter values were invalid: ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED")
		}
		s.read, s.write = *p.ReadCapacityUnits, *p.WriteCapacityUnits
		return nil
	}
	return validation("Unknown billing mode")
}

type (
	tableDescription struct {
		AttributeDefinitions      []attributeDefinition
		TableName                 string
		KeySchema                 []keySchemaElement
		TableStatus               string
		CreationDateTime          float64
		ProvisionedThroughput     provisionedThroughput
		TableSizeBytes            int
		ItemCount                 int
		TableArn                  string `json:"TableArn"`
		TableId                   string
		BillingModeSummary        *billingModeSummary `json:",omitempty"`
		TableClassSummary         *tableClassSummary  `json:",omitempty"`
		DeletionProtectionEnabled bool
		WarmThroughput            *warmThroughput `json:",omitempty"`
	}
	provisionedThroughput struct {
		NumberOfDecreasesToday int64
		ReadCapacityUnits      int64
		WriteCapacityUnits     int64
	}
	billingModeSummary struct {
		BillingMode                       string
		LastUpdateToPayPerRequestDateTime float64 `json:",omitempty"`
	}
	tableClassSummary struct{ TableClass string }
	warmThroughput    struct {
		ReadUnitsPerSecond  int64
		WriteUnitsPerSecond int64
		Status              string
	}
)

// A new on-demand table is warm for this much; so the service says.
const (
	warmReads  = 12000
	warmWrites = 4000
)

func (t *table) describe(status string) tableDescription {
	d := tableDescription{
		TableName: t.name, TableStatus: status, CreationDateTime: epoch(t.created), TableArn: t.arn, TableId: t.id,
		ProvisionedThroughput: provisionedThroughput{ReadCapacityUnits: t.read, WriteCapacityUnits: t.write},
		TableSizeBytes:        t.bytes, ItemCount: t.count, DeletionProtectionEnabled: t.protected,
		WarmThroughput: &warmThroughput{warmReads, warmWrites, "ACTIVE"},
	}
	for i, k := range t.keyAttrs() {
		d.AttributeDefinitions = append(d.AttributeDefinitions, attributeDefinition{k.name, string(k.kind)})
		d.KeySchema = append(d.KeySchema, keySchemaElement{k.name, []string{"HASH", "RANGE"}[i]})
	}
	if t.billing == "PROVISIONED" {
		d.WarmThroughput = &warmThroughput{t.read, t.write, "ACTIVE"}
	}
	if !t.onDemandAt.IsZero() {
		d.BillingModeSummary = &billingModeSummary{t.billing, epoch(t.onDemandAt)}
	}
	if t.class != "" {
		d.TableClassSummary = &tableClassSummary{t.class}
	}
	return d
}

// epoch is a time as the protocol has it: seconds with a fraction.
func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

type describeTableInput struct{ TableName *string }

func (in *describeTableInput) prepare(c *Call) (func(*tx) (any, error), error) {
	if err := checkTableName(in.TableName); err != nil {
		return nil, err
	}
	c.Targets = []Target{{Table: *in.TableName}}
	return func(t *tx) (any, error) {
		table, err := t.tableToManage(*in.TableName)
		if err != nil {
			return nil, err
		}
		return map[string]any{"Table": table.describe("ACTIVE")}, nil
	}, nil
}

// tableToManage finds a table for an operation on the table itself, whose error has other words.
func (t *tx) tableToManage(name string) (*table, error) {
	if table := t.engine.tables[name]; table != nil {
		return table, nil
	}
	return nil, serviceError("ResourceNotFoundException", "Requested resource not found: Table: %s not found", name)
}

type deleteTableInput struct{ TableName *string }

func (in *deleteTableInput) prepare(c *Call) (func(*tx) (any, error), error) {
	if err := checkTableName(in.TableName); err != nil {
		return nil, err
	}
	c.Targets = []Target{{Table: *in.TableName}}
	return func(t *tx) (any, error) {
		table, err := t.tableToManage(*in.TableName)
		if err != nil {
			return nil, err
		}
		if table.protected {
			return nil, validation("Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first.")
		}
		delete(t.engine.tables, table.name)
		return map[string]any{"TableDescription": table.describe("DELETING")}, nil
	}, nil
}
