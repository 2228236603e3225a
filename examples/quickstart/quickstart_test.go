package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

func TestMain(m *testing.M) {
	// Whatever credentials there are on this machine, the tests have none.
	for name, value := range map[string]string{
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_PROFILE": "", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	testserver.Main(m)
}

func TestTheStoryOnTheEmbeddedServerKeepsEveryPromiseWithin12Seconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		start := time.Now()
		if err := run(t.Context(), nil, &out, 4*time.Second); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		if took := time.Since(start); took > 12*time.Second {
			t.Errorf("it took %v", took)
		}
		for text, times := range map[string]int{
			"asks for the lock": 5, "HAS THE LOCK, token ": 4, "TAKES OVER, token ": 1, "REFUSED by the library": 1,
			"REFUSED by DynamoDB": 1, "releases": 4, "kept  ": 6, "BROKEN": 0, "Requests  ": 1, "On AWS ": 1,
		} {
			if n := strings.Count(out.String(), text); n != times {
				t.Errorf("%q is said %d times, want %d", text, n, times)
			}
		}
		if t.Failed() {
			t.Log(out.String())
		}
	})
}

// leaseOn is short, but on a real server, cold and on a busy machine, long enough for its requests.
func leaseOn(srv *testserver.Server) time.Duration {
	if srv.Embedded() == nil {
		return 5 * time.Second
	}
	return 2 * time.Second
}

func TestTheStoryOnARealServerLeavesTheTableAsItWas(t *testing.T) {
	t.Parallel()
	srv := testserver.New(t)
	db, table := srv.Client(), srv.Table(t, "key", "")
	theirs := map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: "quickstart-of-others"}}
	if _, err := db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: theirs}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-endpoint", srv.Endpoint(), "-table", table}, &out, leaseOn(srv)); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	left, err := db.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table})
	if err != nil || len(left.Items) != 1 {
		t.Errorf("left are %v, %v; want the item of others alone", left.Items, err)
	}
	if strings.Contains(out.String(), "was created") {
		t.Errorf("it says that it created a table that was there:\n%s", out.String())
	}
}

func TestAMissingTableIsCreatedAndSaidToStay(t *testing.T) {
	t.Parallel()
	srv := testserver.New(t)
	table := srv.Table(t, "key", "") + "-new" // like no other
	t.Cleanup(func() {
		_, err := srv.Client().DeleteTable(context.WithoutCancel(t.Context()), &dynamodb.DeleteTableInput{TableName: &table})
		if err != nil {
			t.Error(err)
		}
	})
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-endpoint", srv.Endpoint(), "-table", table}, &out, leaseOn(srv)); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), `Table "`+table+`" was created for this and stays, empty.`) {
		t.Errorf("it does not say that the table stays:\n%s", out.String())
	}
	left, err := srv.Client().Scan(t.Context(), &dynamodb.ScanInput{TableName: &table})
	if err != nil || len(left.Items) != 0 {
		t.Errorf("left are %v, %v", left.Items, err)
	}
}

func TestATableThatDoesNotFitIsRefusedAndLeftAlone(t *testing.T) {
	t.Parallel()
	srv := testserver.New(t)
	table := srv.Table(t, "id", "")
	err := run(t.Context(), []string{"-endpoint", srv.Endpoint(), "-table", table}, io.Discard, time.Second)
	if err == nil || !strings.Contains(err.Error(), `partition key is "id"`) {
		t.Errorf("error is %v, want the partition key named", err)
	}
}

// rehearse opens a play on an embedded server, in a bubble.
func rehearse(t *testing.T, out io.Writer) *play {
	t.Helper()
	s, err := openStage(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	if _, err := s.prepareTable(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := newPlay(out, s, 4*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s.embedded.ResetUsage()
	return p
}

func TestTheRequestsAndUnitsOfTheSummaryAreThoseThatTheServerCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := rehearse(t, io.Discard)
		if err := p.perform(t.Context()); err != nil {
			t.Fatal(err)
		}
		usage := p.embedded.Usage()
		var cost bill
		requests := 0
		for _, w := range p.workers {
			cost.reads += w.line.bill.reads
			cost.writes += w.line.bill.writes
			for _, n := range w.line.requests {
				requests += n
			}
		}
		if requests != usage.Total() || cost.reads != usage.ReadUnits || cost.writes != usage.WriteUnits {
			t.Errorf("%d requests, %+v; the server counts %+v", requests, cost, usage)
		}
		if want := (cost.writes*0.625 + cost.reads*0.125) / 1e6; cost.usd() != want {
			t.Errorf("%v USD, want %v", cost.usd(), want)
		}
		if err := p.leave(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestByTheServersClockTheTakeOverComesAfterTheLeaseAndOnePoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := rehearse(t, io.Discard)
		if err := p.perform(t.Context()); err != nil {
			t.Fatal(err)
		}
		var last time.Time
		var longest time.Duration
		for _, r := range p.embedded.Requests() {
			if r.Key != p.key || len(r.Writes) == 0 {
				continue
			}
			if !last.IsZero() {
				longest = max(longest, r.At.Sub(last))
			}
			last = r.At
		}
		lease := p.account.lease
		if longest < lease || longest > lease+lease/20+50*time.Millisecond {
			t.Errorf("the lock was not written for %v at the longest, want the lease of %v and at most one poll", longest, lease)
		}
		if err := p.leave(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAnOperatorWhoFreesTheLockUnderItsHolderBreaksPromisesAndTheRunSaysWhich(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := rehearse(t, &out)
		operator, err := dynalock.New(p.connect("operator"), p.table)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(2 * time.Second) // the holder has been cut off by now
			r, err := operator.Get(t.Context(), p.key)
			if err == nil {
				err = operator.ForceRelease(t.Context(), r)
			}
			if err != nil {
				t.Error(err)
			}
		}()
		if err := p.perform(t.Context()); err != nil {
			t.Fatal(err)
		}
		err = p.summary()
		for _, want := range []string{"never two holders", "no take-over before the lease", "the silent holder stops"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error is %v, want %q in it", err, want)
			}
		}
		if n := strings.Count(out.String(), "BROKEN"); n != 3 {
			t.Errorf("%d promises are shown broken, want 3:\n%s", n, out.String())
		}
		if err := p.leave(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAServerThatGoesAwayEndsTheStoryWithAnError(t *testing.T) {
	t.Parallel()
	// In the middle of the first tenure's work, while the lock changes hands, and when a new holder begins.
	for _, after := range []time.Duration{200, 600, 850, 870, 900, 950, 1000, 1200, 3000} {
		t.Run(strconv.Itoa(int(after)), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := rehearse(t, io.Discard)
				time.AfterFunc(after*time.Millisecond, p.embedded.Close)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				if err := p.perform(ctx); err == nil || ctx.Err() != nil {
					t.Errorf("the story ended with %v, context %v", err, ctx.Err())
				}
				if err := p.leave(ctx); err == nil {
					t.Error("the items could not be deleted, and nobody says so")
				}
			})
		})
	}
}

func TestAnInterruptedStoryCleansUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := rehearse(t, io.Discard)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := p.perform(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the story ended with %v", err)
		}
		if err := p.leave(ctx); err != nil {
			t.Error(err)
		}
		left, err := p.connect("setup").Scan(t.Context(), &dynamodb.ScanInput{TableName: &p.table})
		if err != nil || len(left.Items) != 0 {
			t.Errorf("left are %v, %v", left.Items, err)
		}
	})
}

func TestEachBrokenPromiseIsFound(t *testing.T) {
	t.Parallel()
	cancelled := func(code string) error {
		return &types.TransactionCanceledException{CancellationReasons: []types.CancellationReason{
			{Code: aws.String("None")},
			{Code: &code},
		}}
	}
	good := func() *account {
		now := time.Now()
		return &account{
			lease: time.Second, tokens: []uint64{3, 4, 7, 8, 9}, looks: 100, silent: time.Second, stopped: now,
			takenOver:    now.Add(1),
			lateTransact: &dynalock.LostError{}, lateSent: cancelled("ConditionalCheckFailed"), resultIsHeirs: true,
			last: dynalock.Record{Token: 9},
		}
	}
	for i, c := range good().checks() {
		if !c.kept {
			t.Errorf("a good account breaks promise %d: %s", i, c.promise)
		}
	}
	for name, c := range map[string]struct {
		promise int
		damage  func(a *account)
	}{
		"a token twice":              {0, func(a *account) { a.tokens[2] = 4 }},
		"a tenure missing":           {0, func(a *account) { a.tokens = a.tokens[1:] }},
		"two holders":                {1, func(a *account) { a.overlaps = 1 }},
		"nobody looked":              {1, func(a *account) { a.looks = 0 }},
		"an early take-over":         {2, func(a *account) { a.silent-- }},
		"a holder that does not see": {3, func(a *account) { a.stopped = a.takenOver }},
		"held when back":             {3, func(a *account) { a.lateHeld = true }},
		"the library lets it pass":   {4, func(a *account) { a.lateTransact = nil }},
		"the library fails":          {4, func(a *account) { a.lateTransact = dynalock.ErrStore }},
		"DynamoDB lets it pass":      {4, func(a *account) { a.lateSent = nil }},
		"refused for other reasons":  {4, func(a *account) { a.lateSent = cancelled("TransactionConflict") }},
		"not refused but failed":     {4, func(a *account) { a.lateSent = errors.New("no network") }},
		"overwritten":                {4, func(a *account) { a.resultIsHeirs = false }},
		"not free at the end":        {5, func(a *account) { a.last.State = dynalock.Held }},
		"not the last tenure's end":  {5, func(a *account) { a.last.Token = 8 }},
		"no tenure at all":           {5, func(a *account) { a.tokens = nil }},
	} {
		a := good()
		c.damage(a)
		if a.checks()[c.promise].kept {
			t.Errorf("%s: promise %d is said to be kept", name, c.promise)
		}
	}
}

func TestAServerOnThisMachineNeedsNoCredentialsAndOthersDo(t *testing.T) {
	t.Parallel()
	for host, local := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "::1": true, "127.3.2.1": true, "dynamodb.us-east-1.amazonaws.com": false,
		"10.0.0.1": false,
	} {
		if isLoopback(host) != local {
			t.Errorf("isLoopback(%q) is %v", host, !local)
		}
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.Credentials.Retrieve(t.Context()); err == nil {
		t.Fatal("this test needs a machine without credentials")
	}
	localDefaults(t.Context(), &cfg)
	if c, err := cfg.Credentials.Retrieve(t.Context()); err != nil || c.AccessKeyID == "" || cfg.Region == "" {
		t.Errorf("credentials %v, %v, Region %q", c, err, cfg.Region)
	}
	mine := aws.Config{
		Region: "eu-west-1",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "mine", SecretAccessKey: "mine"}, nil
		}),
	}
	localDefaults(t.Context(), &mine)
	if c, _ := mine.Credentials.Retrieve(t.Context()); c.AccessKeyID != "mine" || mine.Region != "eu-west-1" {
		t.Errorf("credentials that are there were replaced: %v, %q", c, mine.Region)
	}
}

func TestABadCommandLineIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		want string
		args []string
	}{
		{`-endpoint "localhost"`, []string{"-endpoint", "localhost"}},
		{`unexpected argument "table"`, []string{"table"}},
		{"set AWS_REGION", []string{"-table", "locks"}},
	} {
		if err := run(t.Context(), tt.args, io.Discard, time.Second); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: error is %v, want %q in it", tt.args, err, tt.want)
		}
	}
}
