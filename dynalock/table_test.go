package dynalock_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/internal/testserver"
)

func withTTL(o *dynalock.TableOptions) { o.TimeToLive = true }

// ttlOn is the attribute on which TTL is, or being, enabled.
func (e *env) ttlOn(table string) string {
	e.Helper()
	out, err := e.connect().DescribeTimeToLive(e.ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &table})
	must(e, err)
	return aws.ToString(out.TimeToLiveDescription.AttributeName)
}

func TestProcessesThatStartTogetherAllFindTheTableWithItsTimeToLive(t *testing.T) {
	onServer(t, func(e *env) {
		tables := []string{e.table} // it exists, without TTL
		if e.embedded != nil {
			tables = append(tables, "new") // a real server is shared: its tables are made by the suite
		}
		for _, table := range tables {
			const processes = 4
			done := make(chan error)
			for range processes {
				db := e.connect()
				go func() { done <- dynalock.CreateTable(e.ctx, db, table, withTTL) }()
			}
			for range processes {
				if err := <-done; err != nil {
					t.Errorf("table %q: %v", table, err)
				}
			}
			check(e, e.ttlOn(table) == "ttl", "TTL of %q is on %q", table, e.ttlOn(table))
		}
	})
}

func TestATimeToLiveThatIsSeenLateOrInTheWayOfAnotherChangeIsWaitedFor(t *testing.T) {
	virtual(t, func(e *env) {
		stale := 2
		late := lateTTL{DynamoDB: e.connect(), stale: &stale}
		must(e, dynalock.CreateTable(e.ctx, e.connect(), "late", withTTL))
		must(e, dynalock.CreateTable(e.ctx, late, "late", withTTL))
		check(e, stale == 0, "%d old descriptions were not seen", stale)

		db, wire := testserver.Tap(e.connect())
		busy := testserver.Fault{Kind: testserver.FailBefore, Op: "UpdateTimeToLive", Status: http.StatusBadRequest, Type: "ResourceInUseException", Times: 3}
		wire.Inject(busy)
		must(e, dynalock.CreateTable(e.ctx, db, e.table, withTTL))
		check(e, e.ttlOn(e.table) == "ttl", "TTL is on %q", e.ttlOn(e.table))

		busy.Times = 0
		wire.Inject(busy)
		must(e, dynalock.CreateTable(e.ctx, db, "busy"))
		start := time.Now()
		wantErr(e, dynalock.CreateTable(e.within(time.Minute), db, "busy", withTTL), context.DeadlineExceeded)
		check(e, time.Since(start) == time.Minute, "it waited %v", time.Since(start))
	})
}

func TestATimeToLiveThatIsRefusedForGoodIsAnError(t *testing.T) {
	virtual(t, func(e *env) {
		db, wire := testserver.Tap(e.connect())
		for _, code := range []string{"ValidationException", "AccessDeniedException"} { // the former: TTL was changed within the last hour
			remove := wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Op: "UpdateTimeToLive", Status: http.StatusBadRequest, Type: code})
			err := dynalock.CreateTable(e.within(10*time.Second), db, e.table, withTTL)
			remove()
			wantErr(e, err, dynalock.ErrStore)
			check(e, strings.Contains(err.Error(), code), "%s is not named in: %v", code, err)
		}
	})
}

func TestATableThatExistsGetsItsTimeToLiveAndIsOtherwiseLeftAsItIs(t *testing.T) {
	virtual(t, func(e *env) {
		db, wire := testserver.Tap(e.connect())
		set := func(o *dynalock.TableOptions) { o.TimeToLive, o.DeletionProtection = true, true }
		must(e, dynalock.CreateTable(e.ctx, db, e.table, set))
		check(e, e.ttlOn(e.table) == "ttl", "TTL is on %q", e.ttlOn(e.table))
		out, err := db.DescribeTable(e.ctx, &dynamodb.DescribeTableInput{TableName: &e.table})
		must(e, err)
		check(e, !aws.ToBool(out.Table.DeletionProtectionEnabled), "its deletion protection was changed")
		check(e, wire.Count("UpdateTable") == 0, "it was updated")
		findings, err := dynalock.CheckTable(e.ctx, db, e.table, set)
		must(e, err)
		check(e, len(findings) == 1 && strings.Contains(findings[0].Problem, "not protected"), "findings are %v", findings)

		must(e, dynalock.CreateTable(e.ctx, db, e.table))
		check(e, e.ttlOn(e.table) == "ttl", "TTL was disabled where it was not asked for")
	})
}

func TestATableWithoutClientOrNameIsRefused(t *testing.T) {
	t.Parallel()
	db := dynalocktest.NewServer().Client()
	for _, tt := range []struct {
		db     dynalock.DynamoDB
		table  string
		fields []string
	}{{nil, "locks", []string{"db"}}, {db, "", []string{"table"}}, {nil, "", []string{"db", "table"}}} {
		names(t, dynalock.CreateTable(t.Context(), tt.db, tt.table), tt.fields...)
		_, err := dynalock.CheckTable(t.Context(), tt.db, tt.table)
		names(t, err, tt.fields...)
	}
}

// lateTTL is a database that at first describes a table as it was before its TTL was enabled.
type lateTTL struct {
	dynalock.DynamoDB
	stale *int
}

func (d lateTTL) DescribeTimeToLive(ctx context.Context, in *dynamodb.DescribeTimeToLiveInput, optFns ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error) {
	out, err := d.DynamoDB.DescribeTimeToLive(ctx, in, optFns...)
	if err == nil && *d.stale > 0 {
		*d.stale--
		out.TimeToLiveDescription = &types.TimeToLiveDescription{TimeToLiveStatus: types.TimeToLiveStatusDisabled}
	}
	return out, err
}
