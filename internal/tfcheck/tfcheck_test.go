package tfcheck

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var (
	update = flag.Bool("update", false,
		"write testdata/schema.json (with -schema), the tables of the README and the reserved attributes of library.json anew")
	schemaFile = flag.String("schema", "", `what "terraform providers schema -json" printed`)
)

const (
	top        = "../../terraform"
	schemaPath = "testdata/schema.json"
)

// modules are the module itself and its examples.
func modules(t *testing.T) []string {
	t.Helper()
	examples, err := filepath.Glob(top + "/examples/*")
	if err != nil || len(examples) < 4 {
		t.Fatalf("examples: %v, %v", examples, err)
	}
	return append([]string{top}, examples...)
}

func load(t *testing.T, dir, ext string) *Module {
	t.Helper()
	m, err := Load(dir, ext)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func schema(t *testing.T) Schema {
	t.Helper()
	text, err := os.ReadFile(schemaPath)
	if err != nil {
		t.Fatal(err)
	}
	var s Schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBlocksHaveOnlyArgumentsThatTheProviderKnows(t *testing.T) {
	s, used := schema(t), map[string]bool{}
	for _, dir := range modules(t) {
		m := load(t, dir, ".tf")
		for _, p := range s.Check(m) {
			t.Error(p)
		}
		for _, kind := range []string{"resource", "data"} {
			for _, b := range m.ofType(kind) {
				used[kind+" "+b.Labels[0]] = true
			}
		}
	}
	for name := range s.Resources {
		if !used["resource "+name] {
			t.Errorf("%s lists %s, which nothing uses", schemaPath, name)
		}
	}
	for name := range s.Data {
		if !used["data "+name] {
			t.Errorf("%s lists data %s, which nothing uses", schemaPath, name)
		}
	}
}

func TestReferencesLeadSomewhere(t *testing.T) {
	s := schema(t)
	for _, dir := range modules(t) {
		problems, err := CheckReferences(load(t, dir, ".tf"), s)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Error(p)
		}
	}
}

func TestVariablesAreDescribedTypedAndValidated(t *testing.T) {
	for _, dir := range modules(t) {
		for _, v := range load(t, dir, ".tf").Variables() {
			if !strings.HasSuffix(v.Description, ".") {
				t.Errorf("%s: variable %s is not described in a sentence: %q", dir, v.Name, v.Description)
			}
			if v.Type == "" || strings.Contains(v.Type, "any") {
				t.Errorf("%s: variable %s has the type %q", dir, v.Name, v.Type)
			}
			// Regions of examples go to the provider, or to the module, which check them.
			if len(v.Messages) == 0 && v.Type != "bool" && !strings.HasSuffix(v.Name, "region") {
				t.Errorf("%s: variable %s is not validated", dir, v.Name)
			}
			for _, message := range v.Messages {
				if !strings.HasPrefix(message, `"`+v.Name) || !strings.Contains(message, "allowed") {
					t.Errorf("%s: a message of variable %s does not name it and what is allowed: %s", dir, v.Name, message)
				}
			}
		}
	}
}

func TestOutputsAreDescribed(t *testing.T) {
	for _, dir := range modules(t) {
		for _, o := range load(t, dir, ".tf").Outputs() {
			if !strings.HasSuffix(o.Description, ".") {
				t.Errorf("%s: output %s is not described in a sentence: %q", dir, o.Name, o.Description)
			}
		}
	}
}

func TestEveryRefusalOfTheModuleIsTested(t *testing.T) {
	m := load(t, top, ".tf")
	refused := load(t, top+"/tests", ".tftest.hcl").Refused()
	for _, v := range m.Variables() {
		if refused["var."+v.Name] < len(v.Messages) {
			t.Errorf("var.%s has %d validations, and %d runs expect it to be refused", v.Name, len(v.Messages),
				refused["var."+v.Name])
		}
	}
	for _, b := range m.ofType("resource") {
		conditions := 0
		for _, l := range b.Body.Blocks {
			if l.Type == "lifecycle" {
				conditions += len(l.Body.Blocks)
			}
		}
		if name := b.Labels[0] + "." + b.Labels[1]; refused[name] < conditions {
			t.Errorf("%s has %d conditions, and %d runs expect it to be refused", name, conditions, refused[name])
		}
	}
}

func TestThereIsOneTable(t *testing.T) {
	tables := 0
	for _, b := range load(t, top, ".tf").ofType("resource") {
		if b.Labels[0] == "aws_dynamodb_table" {
			tables++
		}
	}
	if tables != 1 {
		t.Errorf("the module has %d resources aws_dynamodb_table", tables)
	}
}

func TestTheReadmeListsInputsOutputsAndActions(t *testing.T) {
	name := top + "/README.md"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := library(t)
	want, err := Fill(string(text), Tables(load(t, top, ".tf"), l))
	if err != nil {
		t.Fatal(err)
	}
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatal("the tables of terraform/README.md are not those of the module: go test . -update")
	}
	if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func library(t *testing.T) (Library, Source) {
	t.Helper()
	l, err := LoadLibrary(top + "/library.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadSource("../../dynalock")
	if err != nil {
		t.Fatal(err)
	}
	return l, s
}

func TestTheModuleNamesTheAttributesOfTheLibrary(t *testing.T) {
	l, s := library(t)
	if l.PartitionKey != s.PartitionKey || s.PartitionKey == "" {
		t.Errorf("library.json has the partition key %q, the library %q", l.PartitionKey, s.PartitionKey)
	}
	for _, v := range load(t, top, ".tf").Variables() {
		if v.Name == "partition_key" && v.Default != `"`+s.PartitionKey+`"` {
			t.Errorf("the default of partition_key is %s, that of the library %q", v.Default, s.PartitionKey)
		}
	}
	if ttl := s.Attributes["attrTTL"]; l.TimeToLiveAttribute != ttl || ttl == "" {
		t.Errorf("library.json has the TTL attribute %q, the library %q", l.TimeToLiveAttribute, ttl)
	}
	want := slices.Sorted(maps.Values(s.Attributes))
	switch {
	case slices.Equal(l.ReservedAttributes, want):
	case *update:
		l.ReservedAttributes = want
		text, err := json.MarshalIndent(l, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(top+"/library.json", append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("library.json reserves %q, the library %q: go test . -update", l.ReservedAttributes, want)
	}
}

// control are the operations on tables, which DynamoDB does not count as requests. The library calls two of them only
// to make a table, which this module does in its place.
var control = map[string]bool{
	"CreateTable": false, "UpdateTimeToLive": false, "DescribeTable": true, "DescribeTimeToLive": true,
}

func TestThePoliciesListWhatTheLibraryCanCall(t *testing.T) {
	l, s := library(t)
	listed := map[string]bool{}
	for role, actions := range l.Actions {
		for _, list := range [][]string{actions.Item, actions.Scan, actions.Table} {
			if !slices.IsSorted(list) {
				t.Errorf("the actions of %s are not sorted: %q", role, list)
			}
		}
		for _, a := range actions.All() {
			if !strings.HasPrefix(a, "dynamodb:") || strings.Contains(a, "*") {
				t.Errorf("the actions of %s have %q", role, a)
			}
			listed[a] = true
		}
	}
	if want := []string{"holder", "observer", "operator"}; !slices.Equal(slices.Sorted(maps.Keys(l.Actions)), want) {
		t.Errorf("the roles are %q, want %q", slices.Sorted(maps.Keys(l.Actions)), want)
	}
	called := map[string]bool{}
	for _, op := range s.Operations {
		if needed, ok := control[op]; ok && !needed {
			continue
		}
		if op == "TransactWriteItems" { // allowed or not by what is in it: the check of a lock is the library's own part
			op = "ConditionCheckItem"
		}
		called["dynamodb:"+op] = true
	}
	if !maps.Equal(listed, called) {
		t.Errorf("the policies list %q, the library can call %q", slices.Sorted(maps.Keys(listed)),
			slices.Sorted(maps.Keys(called)))
	}
}

func TestTheAlarmsWatchTheOperationsOfTheLibrary(t *testing.T) {
	_, s := library(t)
	var want, have []string
	for _, op := range s.Operations {
		if _, ok := control[op]; !ok {
			want = append(want, op)
		}
	}
	for _, b := range load(t, top, ".tf").ofType("locals") {
		if a := b.Body.Attributes["operations"]; a != nil {
			v, diags := a.Expr.Value(nil)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			for _, op := range v.AsValueSlice() {
				have = append(have, op.AsString())
			}
		}
	}
	if len(want) == 0 || !slices.Equal(have, want) {
		t.Errorf("the alarms watch %q, the library calls %q", have, want)
	}
}

func TestTheSchemaIsThatOfTheProvider(t *testing.T) {
	if *schemaFile == "" {
		t.Skip("without -schema, which scripts/terraform-test gives")
	}
	text, err := os.ReadFile(*schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	used := Schema{map[string]Block{}, map[string]Block{}}
	for _, dir := range modules(t) {
		m := load(t, dir, ".tf")
		for _, b := range m.ofType("resource") {
			used.Resources[b.Labels[0]] = Block{}
		}
		for _, b := range m.ofType("data") {
			used.Data[b.Labels[0]] = Block{}
		}
	}
	s, err := FromProvider(text, used)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(schemaPath, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(schemaPath)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != string(want) {
		t.Errorf("%s is not what the provider says: go test . -update -schema %s", schemaPath, *schemaFile)
	}
}

// The checks themselves: each finds what it is there for.

var small = Schema{
	Resources: map[string]Block{"aws_lock": {
		Required: []string{"name"}, Optional: []string{"size"}, Computed: []string{"arn"},
		Blocks: map[string]Block{"ttl": {Optional: []string{"enabled"}}},
	}},
	Data: map[string]Block{"aws_region": {Computed: []string{"region"}}},
}

func parse(t *testing.T, text string) *Module {
	t.Helper()
	m := &Module{source: map[string][]byte{}}
	if err := m.add("x.tf", []byte(text)); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestUnknownArgumentsAreFound(t *testing.T) {
	for text, want := range map[string]string{
		"resource aws_lock a {\n name = 1\n count = 2\n dynamic ttl {\n for_each = []\n content {\n enabled = true\n }\n }\n lifecycle {\n ignore_changes = [size]\n }\n}": "",
		"resource aws_lock a {\n}":                                    "aws_lock needs name",
		"resource aws_lock a {\n name = 1\n colour = 2\n}":            "aws_lock has no argument colour",
		"resource aws_lock a {\n name = 1\n arn = 2\n}":               "aws_lock has no argument arn",
		"resource aws_lock a {\n name = 1\n replica {\n }\n}":         "aws_lock has no block replica",
		"resource aws_lock a {\n name = 1\n ttl {\n on = true\n }\n}": "aws_lock.ttl has no argument on",
		"resource aws_lock a {\n name = 1\n ttl {\n count = 1\n }\n}": "aws_lock.ttl has no argument count",
		"resource aws_key a {\n}":                                     "resource aws_key is not in the schema",
		"data aws_region a {\n name = 1\n}":                           "aws_region has no argument name",
		"resource aws_lock a {\n name = 1\n dynamic replica {\n }\n}": "aws_lock has no block replica",
	} {
		problems := strings.Join(small.Check(parse(t, text)), "\n")
		if want == "" && problems != "" || !strings.HasSuffix(problems, want) {
			t.Errorf("%s\nproblems: %q, want %q", text, problems, want)
		}
	}
}

func TestDeadReferencesAreFound(t *testing.T) {
	const ground = "variable name {}\nlocals {\n one = 1\n}\nresource aws_lock a {\n name = 1\n}\ndata aws_region r {}\n"
	for text, want := range map[string]string{
		"var.name":                                 "",
		"local.one":                                "",
		"aws_lock.a.arn":                           "",
		"aws_lock.a[0].arn":                        "",
		"aws_lock.a[*].arn":                        "",
		"aws_lock.a.ttl[0].enabled":                "",
		"data.aws_region.r.region":                 "",
		"[for x in [1] : x.anything]":              "",
		"path.module":                              "",
		"var.nome":                                 "var.nome does not exist",
		"\"${local.two}\"":                         "local.two does not exist",
		"[for x in [1] : local.two]":               "local.two does not exist",
		"aws_lock.b.arn":                           "aws_lock.b.arn does not exist",
		"aws_lock.a.colour":                        "aws_lock.a has no attribute colour",
		"aws_lock.a[0].colour":                     "aws_lock.a has no attribute colour",
		"data.aws_region.s.region":                 "data.aws_region.s.region does not exist",
		"data.aws_region.r.name":                   "data.aws_region.r has no attribute name",
		"module.locks.arn":                         "module.locks.arn does not exist",
		"try(var.nome, local.one, aws_lock.a.arn)": "var.nome does not exist",
	} {
		problems, err := CheckReferences(parse(t, ground+"output o {\n value = "+text+"\n}\n"), small)
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Join(problems, "\n")
		if want == "" && all != "" || want != "" && !strings.Contains(all, want) {
			t.Errorf("%s: %q, want %q", text, all, want)
		}
	}
}

func TestCallsOfModulesAreChecked(t *testing.T) {
	m := parse(t, "module locks {\n source = \"../../../terraform\"\n nome = \"locks\"\n}\noutput o {\n value = [module.locks.table_name, module.locks.colour]\n}\n")
	m.Dir = top + "/examples/basic"
	m.Blocks[0].Body.Attributes["source"] = parse(t,
		"module x {\n source = \"../..\"\n}").Blocks[0].Body.Attributes["source"]
	problems, err := CheckReferences(m, small)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(problems, "\n")
	for _, want := range []string{
		"module locks has no variable nome", "module locks needs name",
		"module.locks.colour does not exist",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing in %q", want, all)
		}
	}
	if len(problems) != 3 {
		t.Errorf("problems: %q", all)
	}
}

func TestTheSchemaIsTakenFromWhatTerraformPrints(t *testing.T) {
	const text = `{"provider_schemas": {"registry.terraform.io/hashicorp/aws": {
		"resource_schemas": {"aws_lock": {"version": 1, "block": {
			"attributes": {"name": {"type": "string", "required": true},
				"size": {"type": "number", "optional": true, "computed": true},
				"arn": {"type": "string", "computed": true},
				"ttl": {"type": ["list", ["object", {"enabled": "bool"}]], "optional": true}},
			"block_types": {"key": {"nesting_mode": "set", "min_items": 1,
				"block": {"attributes": {"id": {"type": "string", "required": true}}}}}}},
			"aws_other": {"block": {}}},
		"data_source_schemas": {}}}}`
	s, err := FromProvider([]byte(text), Schema{Resources: map[string]Block{"aws_lock": {}}})
	if err != nil {
		t.Fatal(err)
	}
	have, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"resources":{"aws_lock":{"required":["name","key"],"optional":["size","ttl"],"computed":["arn"],"blocks":{"key":{"required":["id"]},"ttl":{"optional":["enabled"]}}}},"data":{}}`
	if string(have) != want {
		t.Errorf("schema:\n%s\nwant:\n%s", have, want)
	}
	if _, err := FromProvider([]byte(text), Schema{Resources: map[string]Block{"aws_gone": {}}}); err == nil {
		t.Error("a type that the provider does not know is no error")
	}
}

func TestTypesAreWrittenOnOneLine(t *testing.T) {
	m := parse(t, "variable v {\n type = object({\n  list = list(object({\n   a   = string\n   b = optional(number, 1)\n  }))\n  c = bool\n })\n}\n")
	const want = "object({ list = list(object({ a = string, b = optional(number, 1) })), c = bool })"
	if have := m.Variables()[0].Type; have != want {
		t.Errorf("type: %s, want %s", have, want)
	}
}

func TestExpectedFailuresAreCounted(t *testing.T) {
	m := parse(t, "run a {\n expect_failures = [var.name, aws_lock.this]\n}\nrun b {\n expect_failures = [var.name]\n}\nrun c {}\n")
	want := map[string]int{"var.name": 2, "aws_lock.this": 1}
	if have := m.Refused(); !maps.Equal(have, want) {
		t.Errorf("refused: %v, want %v", have, want)
	}
}
