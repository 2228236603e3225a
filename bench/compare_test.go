package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// Each contender plays a short scenario: its server starts, its clients take turns, and what they did is counted.
func TestEachContenderTakesItsTurns(t *testing.T) {
	for _, c := range contenders {
		t.Run(c.name, func(t *testing.T) {
			if why := lacks(c.server); why != "" {
				t.Skip(why)
			}
			p, err := parsePlan([]string{
				"-contenders", c.name, "-scenarios", "2x1ms,greedy", "-greedy", "2s", "-turns", "3", "-runs", "2",
				"-round-trip", "2ms", "-endpoint", "",
			})
			if err != nil {
				t.Fatal(err)
			}
			m, err := p.measure(t.Context(), t.Output())
			if err != nil {
				t.Fatal(err)
			}
			for i, runs := range []int{2, 1} {
				found := m.Scenarios[i]
				one := found.Contenders[0]
				if len(one.Failed) > 0 || len(one.Runs) != runs || one.Median == nil || len(found.PairsMS) != runs {
					t.Fatalf("%s: %d runs, %d pairs, failed %q", found.Name, len(one.Runs), len(found.PairsMS), one.Failed)
				}
				f := *one.Median
				if found.Name != sceneGreedy && (f.Turns != 6 || f.MostTurns != 3 || f.LeastTurns != 3) {
					t.Errorf("%s: turns %v, of one client %v to %v", found.Name, f.Turns, f.LeastTurns, f.MostTurns)
				}
				if *f.Requests < 2 || c.writesTold && *f.Writes < 2 || f.BestMS < found.HoldMS+4 || f.OverBest < 0.5 {
					t.Errorf("%s: a turn of %v ms, best %v ms, with %v requests", found.Name, f.TurnMS, f.BestMS, *f.Requests)
				}
				if priced := c.server == serverDynamoDB; priced != (f.USD != nil) || priced && *f.WriteUnits < 2 {
					t.Errorf("%s: write units %v, USD %v", found.Name, f.WriteUnits, f.USD)
				}
				if len(f.QuantilesMS) != 21 || len(one.WaitsMS) != 101 || f.LongestMS < f.MeanMS {
					t.Errorf("%s: %d and %d quantiles", found.Name, len(f.QuantilesMS), len(one.WaitsMS))
				}
			}
			for format, part := range map[string]string{
				"table": c.label, "json": "\n" + `{"name":"` + c.name + `"`, "markdown": "| " + c.label + " | ",
			} {
				var out bytes.Buffer
				if err := m.write(&out, format); err != nil || !strings.Contains(out.String(), part) {
					t.Errorf("%s (%v) has no %s:\n%s", format, err, part, out.String())
				}
			}
		})
	}
}

func TestWhatJSONSaysCanBeReadAgain(t *testing.T) {
	t.Parallel()
	f := figuresOf(twoTurns, usage{requests: 8}, contender{server: serverRedis}, time.Millisecond)
	m := measurement{Runs: 1, Scenarios: []scenarioFound{{Name: "2x1ms", Contenders: []contenderFound{
		{Name: "a", Label: "A", Runs: []figures{f}, waits: allWaits(twoTurns)}, {Name: "b", Label: "B", Failed: []string{"why"}},
	}}}}
	m.Scenarios[0].Contenders[0].sumUp()
	var first, again bytes.Buffer
	if err := m.write(&first, "json"); err != nil {
		t.Fatal(err)
	}
	var read measurement
	if err := json.Unmarshal(first.Bytes(), &read); err != nil {
		t.Fatal(err)
	}
	if err := read.write(&again, "json"); err != nil || first.String() != again.String() {
		t.Errorf("%v\n%s\n%s", err, first.String(), again.String())
	}
	var text bytes.Buffer
	if err := read.write(&text, "table"); err != nil || !strings.Contains(text.String(), "A run of B failed: why.") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

// An interrupt in the middle of a long scenario: the locks are released, and the servers end. Wait returns when every
// process that has the pipe of standard error has ended.
func TestAnInterruptEndsTheServersToo(t *testing.T) {
	names := "dynalock,etcd"
	if lacks(serverRedis) == "" {
		names += ",redislock"
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "compare", "-contenders", names, "-scenarios", "2x1ms,greedy",
		"-turns", "1", "-runs", "1", "-greedy", "1h")
	folder := t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+folder, "DYNALOCK_TEST_ENDPOINT=")
	played := &line{want: "2x1ms, " + names[strings.LastIndex(names, ",")+1:], seen: make(chan struct{})}
	cmd.Stderr = played
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-played.seen
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	exit := (*exec.ExitError)(nil)
	err = cmd.Wait()
	if said := played.text(); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(said, "interrupted") {
		t.Errorf("%v:\n%s", err, said)
	}
	if rest, err := os.ReadDir(folder); err != nil || len(rest) > 0 {
		t.Errorf("left behind: %v, %v", rest, err)
	}
	if err := syscall.Kill(cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process is there: %v", err)
	}
}

func TestAMeterCountsWhatDynamoDBCharges(t *testing.T) {
	t.Parallel()
	server := dynalocktest.NewServer()
	defer server.Close()
	listener := httptest.NewServer(server)
	defer listener.Close()
	m := &meter{}
	db := newDB(listener.URL, m, m.units)
	if err := createTable(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	key := map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: "k"}}
	update := func(condition *string) error {
		_, err := db.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName: aws.String(table), Key: key, UpdateExpression: aws.String("SET v = :v"), ConditionExpression: condition,
			ExpressionAttributeValues: map[string]types.AttributeValue{":v": &types.AttributeValueMemberN{Value: "1"}},
		})
		return err
	}
	get := func(consistent bool) error {
		_, err := db.GetItem(t.Context(),
			&dynamodb.GetItemInput{TableName: aws.String(table), Key: key, ConsistentRead: &consistent})
		return err
	}
	check := func(expression string) error {
		_, err := db.TransactWriteItems(t.Context(), &dynamodb.TransactWriteItemsInput{
			TransactItems: []types.TransactWriteItem{{ConditionCheck: &types.ConditionCheck{
				TableName: aws.String(table), Key: key, ConditionExpression: &expression,
			}}},
		})
		return err
	}
	for what, c := range map[string]struct {
		do      func() error
		refused bool
		want    usage
	}{
		"a write":                {func() error { return update(nil) }, false, usage{requests: 1, writes: 1, writeUnits: 1}},
		"a refused write":        {func() error { return update(aws.String("v = :v AND w = :v")) }, true, usage{1, 1, 0, 1}},
		"a consistent read":      {func() error { return get(true) }, false, usage{requests: 1, readUnits: 1}},
		"a read":                 {func() error { return get(false) }, false, usage{requests: 1, readUnits: 0.5}},
		"a transaction":          {func() error { return check("attribute_not_exists(w)") }, false, usage{1, 1, 0, 2}},
		"a transaction, refused": {func() error { return check("attribute_exists(w)") }, true, usage{1, 1, 0, 2}},
	} {
		before := m.read()
		if err := c.do(); c.refused != (err != nil) {
			t.Errorf("%s: %v", what, err)
		}
		if got := m.read().minus(before); got != c.want {
			t.Errorf("%s: %+v, want %+v", what, got, c.want)
		}
	}
}

// The labels say what was measured, so they have to be the versions that go.mod has.
func TestTheLabelsNameTheVersionsOfTheLibraries(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]string{
		"dynamolock": "cirello.io/dynamolock/v2", "dynamolock-50ms": "cirello.io/dynamolock/v2",
		"etcd": "go.etcd.io/etcd/client/v3", "redislock": "github.com/bsm/redislock",
		"rueidislock": "github.com/redis/rueidis",
	}
	for _, c := range contenders {
		module, ok := modules[c.name]
		if !ok {
			continue
		}
		_, rest, _ := strings.Cut(string(text), module+" ")
		version, _, _ := strings.Cut(rest, "\n")
		if version == "" || !strings.Contains(c.label, version) {
			t.Errorf("%q is %s %q", c.label, module, version)
		}
	}
}

// line collects what is written, and tells when a text is among it.
type line struct {
	want    string
	seen    chan struct{}
	written bytes.Buffer
	found   bool
}

// Write is called by one goroutine, which has ended when Wait returns.
func (l *line) Write(p []byte) (int, error) {
	l.written.Write(p)
	if !l.found && strings.Contains(l.written.String(), l.want) {
		l.found = true
		close(l.seen)
	}
	return len(p), nil
}

func (l *line) text() string { return l.written.String() }
