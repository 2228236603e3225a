package dynalock_test

import (
	"context"
	"net/http"
	"slices"
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
		busy := testserver.Fault{
			Kind: testserver.FailBefore, Op: "UpdateTimeToLive", Status: http.StatusBadRequest,
			Type: "ResourceInUseException", Times: 3,
		}
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
		for _, code := range []string{"ValidationException", "AccessDeniedException"} {
			// the former: TTL was changed within the last hour
			remove := wire.Inject(
				testserver.Fault{Kind: testserver.FailBefore, Op: "UpdateTimeToLive", Status: http.StatusBadRequest, Type: code})
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

func (d lateTTL) DescribeTimeToLive(
	ctx context.Context, in *dynamodb.DescribeTimeToLiveInput, optFns ...func(*dynamodb.Options),
) (*dynamodb.DescribeTimeToLiveOutput, error) {
	out, err := d.DynamoDB.DescribeTimeToLive(ctx, in, optFns...)
	if err == nil && *d.stale > 0 {
		*d.stale--
		out.TimeToLiveDescription = &types.TimeToLiveDescription{TimeToLiveStatus: types.TimeToLiveStatusDisabled}
	}
	return out, err
}

func TestATableThatIsNotReadyIsLookedAtSoonAndThenEveryTwoSeconds(t *testing.T) {
	steps := []time.Duration{100, 200, 400, 800, 1600, 2000, 2000, 2000} // milliseconds
	want := func(e *env, looks []time.Time) {
		e.Helper()
		if len(looks) <= len(steps) {
			e.Fatalf("%d looks, want more than %d", len(looks), len(steps))
		}
		for i, step := range steps {
			gap := looks[i+1].Sub(looks[i]) - step*time.Millisecond
			check(e, gap >= 0 && gap <= 20*time.Millisecond, "look %d came %v after its %v", i+1, gap, step*time.Millisecond)
		}
	}
	t.Run("being created", func(t *testing.T) {
		virtual(t, func(e *env) {
			var looks []time.Time
			db := described{DynamoDB: e.connect(), change: func(d *types.TableDescription) {
				looks = append(looks, time.Now())
				d.TableStatus = types.TableStatusCreating
			}}
			wantErr(e, dynalock.CreateTable(e.within(20*time.Second), db, "slow"), context.DeadlineExceeded)
			want(e, looks)
		})
	})
	t.Run("another change under way", func(t *testing.T) {
		virtual(t, func(e *env) {
			var looks []time.Time
			db, wire := testserver.Tap(e.connect())
			note := func(string, []byte) bool {
				looks = append(looks, time.Now())
				return true
			}
			wire.Inject(testserver.Fault{
				Kind: testserver.FailBefore, Op: "UpdateTimeToLive", Status: 400, Type: "ResourceInUseException", Match: note,
			})
			wantErr(e, dynalock.CreateTable(e.within(20*time.Second), db, e.table, withTTL), context.DeadlineExceeded)
			want(e, looks)
		})
	})
}

func TestATimeToLiveIsAskedForAgainThreeTimesWhereAnotherMayHaveBeenFasterAndNotWhereItIsForbidden(t *testing.T) {
	for code, want := range map[string]int{"ValidationException": 4, "AccessDeniedException": 1} {
		t.Run(code, func(t *testing.T) {
			virtual(t, func(e *env) {
				db, wire := testserver.Tap(e.connect())
				wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Op: "UpdateTimeToLive", Status: 400, Type: code})
				wantErr(e, dynalock.CreateTable(e.ctx, db, e.table, withTTL), dynalock.ErrStore)
				got := wire.Count("UpdateTimeToLive")
				check(e, got == want, "asked for %d times, want %d", got, want)
			})
		})
	}
}

func TestATableThatFitsIsSuccessAndOneThatDoesNotIsAnErrorThatSaysHow(t *testing.T) {
	onServerWithSortKey(t, "sort", func(e *env) {
		db := e.connect()
		type o = *dynalock.TableOptions
		must(e, dynalock.CreateTable(e.ctx, db, e.table, func(o o) { o.SortKey = "sort" }))
		for name, tt := range map[string]struct {
			set  func(o)
			says []string
		}{
			"no sort key":         {func(o) {}, []string{`sort key "sort"`, "none"}},
			"other sort key":      {func(o o) { o.SortKey = "range" }, []string{`"sort"`, `"range"`}},
			"other partition key": {func(o o) { o.PartitionKey, o.SortKey = "id", "sort" }, []string{`"key"`, `"id"`}},
		} {
			err := dynalock.CreateTable(e.ctx, db, e.table, tt.set)
			wantErr(e, err, dynalock.ErrInvalid)
			findings, err2 := dynalock.CheckTable(e.ctx, db, e.table, tt.set)
			must(e, err2)
			fatal := slices.DeleteFunc(findings, func(f dynalock.Finding) bool { return f.Severity != dynalock.Fatal })
			check(e, len(fatal) == 1, "%s: findings are %v", name, findings)
			for _, part := range tt.says {
				check(e, strings.Contains(err.Error(), part) && strings.Contains(fatal[0].Problem, part), "%s: %v, %v", name, err,
					fatal)
			}
		}
		for _, set := range []func(o){
			func(o o) { o.PartitionKey = "data" }, func(o o) { o.SortKey = "key" },
			func(o o) { o.PartitionKey = strings.Repeat("p", 300) },
		} {
			wantErr(e, dynalock.CreateTable(e.ctx, db, "other", set), dynalock.ErrInvalid)
			_, err := dynalock.CheckTable(e.ctx, db, e.table, set)
			wantErr(e, err, dynalock.ErrInvalid)
		}
		_, err := dynalock.CheckTable(e.ctx, db, "nowhere")
		wantErr(e, err, dynalock.ErrStore)
	})
}

func TestATableIsCreatedOnDemandProtectedAndWithItsTimeToLive(t *testing.T) {
	virtual(t, func(e *env) {
		db := e.connect()
		set := func(o *dynalock.TableOptions) { o.TimeToLive, o.DeletionProtection, o.SortKey = true, true, "sort" }
		must(e, dynalock.CreateTable(e.ctx, db, "fine", set))
		must(e, dynalock.CreateTable(e.ctx, db, "fine", set)) // again: it exists and fits
		findings, err := dynalock.CheckTable(e.ctx, db, "fine", set)
		must(e, err)
		check(e, len(findings) == 0, "findings on a table of our own: %v", findings)
		out, err := db.DescribeTable(e.ctx, &dynamodb.DescribeTableInput{TableName: aws.String("fine")})
		must(e, err)
		check(e, out.Table.BillingModeSummary.BillingMode == types.BillingModePayPerRequest &&
			*out.Table.DeletionProtectionEnabled, "%+v", out.Table)
		ttl, err := db.DescribeTimeToLive(e.ctx, &dynamodb.DescribeTimeToLiveInput{TableName: aws.String("fine")})
		must(e, err)
		check(e, *ttl.TimeToLiveDescription.AttributeName == "ttl", "TTL is on %q", *ttl.TimeToLiveDescription.AttributeName)
	})
}

// described is a database whose tables are described as a test likes.
type described struct {
	dynalock.DynamoDB
	change func(*types.TableDescription)
	ttl    *types.TimeToLiveDescription
}

func (d described) DescribeTable(
	ctx context.Context, in *dynamodb.DescribeTableInput, optFns ...func(*dynamodb.Options),
) (*dynamodb.DescribeTableOutput, error) {
	out, err := d.DynamoDB.DescribeTable(ctx, in, optFns...)
	if err == nil && d.change != nil {
		d.change(out.Table)
	}
	return out, err
}

func (d described) DescribeTimeToLive(
	ctx context.Context, in *dynamodb.DescribeTimeToLiveInput, optFns ...func(*dynamodb.Options),
) (*dynamodb.DescribeTimeToLiveOutput, error) {
	out, err := d.DynamoDB.DescribeTimeToLive(ctx, in, optFns...)
	if err == nil && d.ttl != nil {
		out.TimeToLiveDescription = d.ttl
	}
	return out, err
}

func TestWhatIsWrongOrWorthKnowingAboutATableIsFoundWithItsRemedy(t *testing.T) {
	t.Parallel()
	db := dynalocktest.NewServer().Client()
	must(t, dynalock.CreateTable(t.Context(), db, "locks", func(o *dynalock.TableOptions) { o.DeletionProtection = true }))
	ttlOn := func(name string) *types.TimeToLiveDescription {
		return &types.TimeToLiveDescription{AttributeName: &name, TimeToLiveStatus: types.TimeToLiveStatusEnabled}
	}
	for _, tt := range []struct {
		name     string
		severity dynalock.Severity
		change   func(*types.TableDescription)
		ttl      *types.TimeToLiveDescription
		options  dynalock.TableOptions
		says     string
	}{
		{
			name: "global", severity: dynalock.Fatal,
			change: func(d *types.TableDescription) { d.Replicas = make([]types.ReplicaDescription, 1) },
			says:   "last writer wins",
		},
		{
			name: "key type", severity: dynalock.Fatal,
			change: func(d *types.TableDescription) { d.AttributeDefinitions[0].AttributeType = "N" }, says: "type N",
		},
		{
			name: "state", severity: dynalock.Fatal,
			change: func(d *types.TableDescription) { d.TableStatus = types.TableStatusArchived }, says: "ARCHIVED",
		},
		{name: "index", severity: dynalock.Warning, change: func(d *types.TableDescription) {
			d.GlobalSecondaryIndexes = make([]types.GlobalSecondaryIndexDescription, 2)
		}, says: "2 secondary indexes"},
		{name: "local index", severity: dynalock.Warning, change: func(d *types.TableDescription) {
			d.LocalSecondaryIndexes = make([]types.LocalSecondaryIndexDescription, 1)
		}, says: "1 secondary indexes"},
		{
			name: "provisioned", severity: dynalock.Info, change: func(d *types.TableDescription) { d.BillingModeSummary = nil },
			says: "provisioned",
		},
		{
			name: "unprotected", severity: dynalock.Info,
			change: func(d *types.TableDescription) { d.DeletionProtectionEnabled = nil }, says: "deletion",
		},
		{name: "TTL deletes held locks", severity: dynalock.Fatal, ttl: ttlOn("expiresAt"), says: "expiresAt"},
		{name: "TTL of something else", severity: dynalock.Warning, ttl: ttlOn("orderTTL"), says: "orderTTL"},
		{
			name: "TTL is off", severity: dynalock.Warning, options: dynalock.TableOptions{TimeToLive: true},
			says: "TTL is off",
		},
	} {
		found, err := dynalock.CheckTable(t.Context(), described{db, tt.change, tt.ttl}, "locks",
			func(o *dynalock.TableOptions) { *o = tt.options })
		must(t, err)
		check(t, len(found) == 1 && found[0].Severity == tt.severity && strings.Contains(found[0].Problem, tt.says) &&
			found[0].Remedy != "", "%s: findings are %v", tt.name, found)
		check(t, len(found) == 1 && strings.HasPrefix(found[0].String(), tt.severity.String()+": "), "%s: %v", tt.name, found)
	}
	strong := func(d *types.TableDescription) {
		d.Replicas, d.MultiRegionConsistency = make([]types.ReplicaDescription, 2), types.MultiRegionConsistencyStrong
	}
	found, err := dynalock.CheckTable(t.Context(), described{db, strong, ttlOn("ttl")}, "locks")
	must(t, err)
	check(t, len(found) == 0, "findings on a strongly consistent global table: %v", found)
	enabling := &types.TimeToLiveDescription{
		AttributeName:    aws.String("ttl"),
		TimeToLiveStatus: types.TimeToLiveStatusEnabling,
	}
	found, err = dynalock.CheckTable(t.Context(), described{db, nil, enabling}, "locks",
		func(o *dynalock.TableOptions) { o.TimeToLive = true })
	must(t, err)
	check(t, len(found) == 0, "findings while the TTL is being enabled: %v", found)
	err = dynalock.CreateTable(t.Context(), described{db, nil, ttlOn("orderTTL")}, "locks",
		func(o *dynalock.TableOptions) { o.TimeToLive = true })
	names(t, err, "orderTTL")
}

func TestCreateTableWaitsUntilTheTableIsActive(t *testing.T) {
	virtual(t, func(e *env) {
		left := 5
		db := described{DynamoDB: e.connect(), change: func(d *types.TableDescription) {
			if left--; left > 0 {
				d.TableStatus = types.TableStatusCreating
			}
		}}
		must(e, dynalock.CreateTable(e.ctx, db, "slow"))
		check(e, left == 0, "it returned %d looks before the table was active", left)

		left = 1 << 30
		start := time.Now()
		err := dynalock.CreateTable(e.within(3*time.Second), db, "slower")
		wantErr(e, err, context.DeadlineExceeded)
		check(e, time.Since(start) <= 3050*time.Millisecond, "returned after %v", time.Since(start))
	})
}

func TestCreateTableWaitsForATableThatIsBeingDeletedAndMakesItAnew(t *testing.T) {
	virtual(t, func(e *env) {
		looks := 0
		raw := e.connect()
		db := described{DynamoDB: raw, change: func(d *types.TableDescription) {
			switch looks++; {
			case looks < 3:
				d.TableStatus = types.TableStatusDeleting
			case looks == 3:
				d.TableStatus = types.TableStatusDeleting
				_, err := raw.DeleteTable(e.ctx, &dynamodb.DeleteTableInput{TableName: &e.table})
				must(e, err)
			}
		}}
		must(e, dynalock.CreateTable(e.ctx, db, e.table))
		check(e, looks == 4, "%d looks found a table, want 3 at the old one and one at the new", looks)
		must(e, dynalock.CreateTable(e.ctx, raw, e.table))
	})
}
