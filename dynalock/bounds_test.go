package dynalock_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

// Each limit that a comment or an error tells, from both sides.

func TestTheSmallestAndTheLargestValueOfEveryOptionAreAllowedAndTheNextOnesAreNot(t *testing.T) {
	t.Parallel()
	type o = *dynalock.Options
	const day = 24 * time.Hour
	for _, tt := range []struct {
		field string
		good  []func(o)
		bad   []func(o)
	}{
		{"Lease", []func(o){
			func(o o) { o.Lease = 100 * time.Millisecond },
			func(o o) { o.Lease = day },
		}, []func(o){
			func(o o) { o.Lease = 99 * time.Millisecond },
			func(o o) { o.Lease = day + 1 },
		}},
		{"SafetyMargin", []func(o){
			func(o o) { o.SafetyMargin = 500 * time.Millisecond }, // of the default lease of 10 s
			func(o o) { o.SafetyMargin = 5 * time.Second },
			func(o o) { o.Lease, o.SafetyMargin = day, day/2 },
		}, []func(o){
			func(o o) { o.SafetyMargin = 500*time.Millisecond - 1 },
			func(o o) { o.SafetyMargin = 5*time.Second + 1 },
			func(o o) { o.Lease, o.SafetyMargin = day, day },
			func(o o) { o.SafetyMargin = day + 1 },
		}},
		{"Heartbeat", []func(o){
			func(o o) { o.Heartbeat = time.Millisecond },
			func(o o) { o.Heartbeat = 6 * time.Second },
			func(o o) {
				o.Lease, o.SafetyMargin, o.Heartbeat = time.Second, 200*time.Millisecond, 600*time.Millisecond
			},
		}, []func(o){
			func(o o) { o.Heartbeat, o.AttemptTimeout = time.Millisecond-1, time.Second },
			func(o o) { o.Heartbeat = 6*time.Second + 1 },
			func(o o) { o.Heartbeat = day },
		}},
		{"AttemptTimeout", []func(o){
			func(o o) { o.AttemptTimeout = time.Millisecond },
			func(o o) { o.AttemptTimeout = 8*time.Second - 1 },
		}, []func(o){
			func(o o) { o.AttemptTimeout = time.Millisecond - 1 },
			func(o o) { o.AttemptTimeout = 8 * time.Second },
			func(o o) { o.AttemptTimeout = day },
		}},
		{"MinPoll", []func(o){
			func(o o) { o.MinPoll = time.Millisecond },
			func(o o) { o.MinPoll, o.MaxPoll = day, day },
		}, []func(o){
			func(o o) { o.MinPoll = time.Millisecond - 1 },
		}},
		{"MaxPoll", []func(o){
			func(o o) { o.MinPoll, o.MaxPoll = time.Second, time.Second },
			func(o o) { o.MaxPoll = day },
		}, []func(o){
			func(o o) { o.MinPoll, o.MaxPoll = time.Second, time.Second-1 },
			func(o o) { o.MaxPoll = day + 1 },
		}},
		{"MaxClockSkew", []func(o){
			func(o o) { o.MaxClockSkew = 1 },
			func(o o) { o.MaxClockSkew = day },
		}, []func(o){
			func(o o) { o.MaxClockSkew = day + 1 },
		}},
		{"Retention", []func(o){
			func(o o) { o.Retention = 15 * time.Minute },
			func(o o) { o.Retention = 10 * 365 * day },
		}, []func(o){
			func(o o) { o.Retention = 15*time.Minute - 1 },
			func(o o) { o.Retention = 10*365*day + 1 },
		}},
		{"PartitionKey", []func(o){
			func(o o) { o.PartitionKey = strings.Repeat("p", 255) },
		}, []func(o){
			func(o o) { o.PartitionKey = strings.Repeat("p", 256) },
		}},
		{"SortKey", []func(o){
			func(o o) { o.SortKey, o.SortValue = strings.Repeat("s", 255), "v" },
		}, []func(o){
			func(o o) { o.SortKey, o.SortValue = strings.Repeat("s", 256), "v" },
			func(o o) { o.PartitionKey, o.SortKey, o.SortValue = "same", "same", "v" },
		}},
		{"SortValue", []func(o){
			func(o o) { o.SortKey, o.SortValue = "s", strings.Repeat("v", 1024) },
		}, []func(o){
			func(o o) { o.SortKey, o.SortValue = "s", strings.Repeat("v", 1025) },
		}},
		{"Namespace", []func(o){
			func(o o) { o.Namespace = strings.Repeat("n", 2047) },
		}, []func(o){
			func(o o) { o.Namespace = strings.Repeat("n", 2048) },
		}},
		{"Owner", []func(o){
			func(o o) { o.Owner = strings.Repeat("o", 256) },
		}, []func(o){
			func(o o) { o.Owner = strings.Repeat("o", 257) },
		}},
	} {
		for i, set := range tt.good {
			_, err := dynalock.New(new(dynamodb.Client), "locks", set)
			check(t, err == nil, "%s, allowed value %d: %v", tt.field, i, err)
		}
		for i, set := range tt.bad {
			_, err := dynalock.New(new(dynamodb.Client), "locks", set)
			if err == nil {
				t.Errorf("%s, value %d that is not allowed: no error", tt.field, i)
				continue
			}
			names(t, err, tt.field)
		}
	}
}

func TestABadOptionIsNamedOnceWhateverTheLease(t *testing.T) {
	t.Parallel()
	for _, lease := range []time.Duration{100 * time.Millisecond, 0, 24 * time.Hour} {
		for field, set := range map[string]func(o *dynalock.Options){
			"SafetyMargin":   func(o *dynalock.Options) { o.SafetyMargin = -1 },
			"Heartbeat":      func(o *dynalock.Options) { o.Heartbeat = -1 },
			"AttemptTimeout": func(o *dynalock.Options) { o.AttemptTimeout = -1 },
		} {
			_, err := dynalock.New(new(dynamodb.Client), "locks", func(o *dynalock.Options) { o.Lease = lease }, set)
			names(t, err, field)
			check(t, strings.Contains(err.Error(), "0 (the default) to 24h"), "lease %v, bad %s: %v", lease, field, err)
		}
	}
}

func TestTheOtherPollFollowsTheOneThatIsSet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ minPoll, maxPoll, wantMin, wantMax time.Duration }{
		{0, 0, 10 * time.Millisecond, time.Second},
		{0, 5 * time.Millisecond, 5 * time.Millisecond, 5 * time.Millisecond},
		{0, 20 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond},
		{2 * time.Second, 0, 2 * time.Second, 2 * time.Second},
		{20 * time.Millisecond, 0, 20 * time.Millisecond, time.Second},
	} {
		c, err := dynalock.New(new(dynamodb.Client), "locks", func(o *dynalock.Options) {
			o.MinPoll, o.MaxPoll = tt.minPoll, tt.maxPoll
		})
		must(t, err)
		o := c.Options()
		check(t, o.MinPoll == tt.wantMin && o.MaxPoll == tt.wantMax,
			"of %v and %v became %v and %v", tt.minPoll, tt.maxPoll, o.MinPoll, o.MaxPoll)
		must(t, c.Close(context.Background()))
	}
}

// Rows as anybody may have written them, at the edge of what is a lock.
func TestWhatIsALockIsToldByTheLimitsOfItsAttributes(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		read := func(changes attributes) dynalock.Record {
			e.Helper()
			e.put("key", with(javaRow("5d1e8a1c-0000-4000-8000-000000000000"), changes))
			r, err := c.Get(e.ctx, "key")
			must(e, err)
			return r
		}
		for lease, want := range map[string]time.Duration{
			"100": 100 * time.Millisecond, "86400000": 24 * time.Hour,
			"100ms": 100 * time.Millisecond, "24h0m0s": 24 * time.Hour,
			"0": 0, "99": 0, "86400001": 0, "99ms": 0, "24h0m0.001s": 0, "-100": 0,
			"9223372036854": 0, "9223372036855": 0, "9223372036854775807": 0, "9223372036854775808": 0,
		} {
			r := read(attributes{"leaseDuration": s(lease)})
			check(e, r.Lease == want && (r.State == dynalock.Held) == (want > 0),
				"lease %q is read as %v, %v: %s", lease, r.Lease, r.State, r.Problem)
		}
		for token, want := range map[string]uint64{"1": 1, "9223372036854775807": math.MaxInt64} {
			r := read(attributes{"fencingToken": n(token)})
			check(e, r.State == dynalock.Held && r.Token == want,
				"token %s is read as %d, %v: %s", token, r.Token, r.State, r.Problem)
		}
		r := read(attributes{"fencingToken": n("9223372036854775808")})
		check(e, r.State == dynalock.Foreign && strings.Contains(r.Problem, "below 2^63"), "%+v", r)
	})
}

func TestAttributesThatPeopleReadAreShownAsFarAsTheyFit(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		const version = "0123456789abcdef0123456789abcdef-7"
		read := func(changes attributes) dynalock.Record {
			e.Helper()
			own := attributes{"stampedVersion": s(version), "fencingToken": n("5")}
			e.put("key", with(with(javaRow(version), own), changes))
			r, err := c.Get(e.ctx, "key")
			must(e, err)
			check(e, r.State == dynalock.Held, "%v is read as %+v", changes, r)
			return r
		}
		for waiters, want := range map[string]int{"0": 0, "3": 3, "2147483648": math.MaxInt32, "-1": 0, "1.5": 0} {
			r := read(attributes{"waiters": n(waiters)})
			check(e, r.Waiters == want, "waiters %s are read as %d", waiters, r.Waiters)
		}
		for ms, want := range map[string]time.Time{
			"0": {}, "1": time.UnixMilli(1), "1700000000000": time.UnixMilli(1700000000000), "-1": {}, "1.5": {},
			"9223372036854775807": time.UnixMilli(math.MaxInt64), "9223372036854775808": {},
		} {
			r := read(attributes{"acquiredAt": n(ms), "renewedAt": n(ms), "expiresAt": n(ms)})
			for i, at := range []time.Time{r.AcquiredAt, r.RenewedAt, r.ExpiresAt} {
				check(e, at.Equal(want), "time %d of %s is read as %v, want %v", i, ms, at, want)
			}
		}
		all := attributes{
			"acquiredAt": n("1"), "renewedAt": n("2"), "expiresAt": n("3"), "waiters": n("9"), "reason": s("why"),
		}
		r := read(all)
		check(e, r.AcquiredAt.UnixMilli() == 1 && r.RenewedAt.UnixMilli() == 2 && r.ExpiresAt.UnixMilli() == 3, "%+v", r)
		check(e, r.Waiters == 9 && r.Reason == "why", "%+v", r)
		// What bears another version was copied by another library from an earlier tenure.
		r = read(with(all, attributes{"stampedVersion": s("0123456789abcdef0123456789abcdef-8")}))
		check(e, r.AcquiredAt.IsZero() && r.RenewedAt.IsZero() && r.ExpiresAt.IsZero(), "%+v", r)
		check(e, r.Waiters == 0 && r.Reason == "" && r.Token == 5, "%+v", r)
	})
}

func TestTheTextsOfStatesAndKindsAreWhatTheySay(t *testing.T) {
	t.Parallel()
	for state, want := range map[fmt.Stringer]string{
		dynalock.Free: "free", dynalock.Held: "held", dynalock.Foreign: "foreign",
		dynalock.State(3): "State(3)", dynalock.State(-1): "State(-1)",
		dynalock.EventAcquired: "acquired", dynalock.EventReleased: "released",
		dynalock.EventKind(1000): "EventKind(1000)", dynalock.EventKind(-1): "EventKind(-1)",
	} {
		check(t, state.String() == want, "%d is %q, want %q", state, state, want)
	}
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

func TestAnObserverOfAnElectionSeesEachChangeOnceAndLooksEveryMaxPoll(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.MaxPoll = 100 * time.Millisecond })
		leader, _ := e.client(func(o *dynalock.Options) { o.Owner = "leader" })
		var seen []dynalock.Record
		var ends []error
		ctx, cancel := context.WithCancel(e.ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for r, err := range c.Election("key").Observe(ctx) {
				if err != nil {
					ends = append(ends, err)
				} else {
					seen = append(seen, r)
				}
			}
		}()
		time.Sleep(time.Second)
		n := wire.Count("GetItem")
		check(e, n >= 9 && n <= 11, "%d looks in a second, want one every 100 ms", n)
		l := e.acquire(leader, "key")
		time.Sleep(2 * lease) // its heartbeats are no change
		must(e, l.SetData(e.ctx, []byte("value")))
		time.Sleep(time.Second)
		denied := testserver.Fault{Kind: testserver.FailBefore, Op: "GetItem", Status: 400, Type: "AccessDeniedException"}
		remove := wire.Inject(denied)
		time.Sleep(time.Second)
		remove()
		must(e, l.Release(e.ctx))
		time.Sleep(time.Second)
		cancel()
		<-done
		var got []string
		for _, r := range seen {
			got = append(got, fmt.Sprint(r.State, " ", string(r.Data)))
		}
		want := []string{"free ", "held ", "held value", "free value"}
		check(e, slices.Equal(got, want), "seen were %q, want %q", got, want)
		check(e, len(ends) >= 5 && len(ends) <= 11, "%d errors in a second without permission", len(ends))
		for _, err := range ends {
			wantErr(e, err, dynalock.ErrStore)
		}
	})
}

func TestACandidateWhoseRunEndsWhileOthersGoFirstIsNotAskedForItsHealthAgain(t *testing.T) {
	virtual(t, func(e *env) {
		var asked atomic.Int64
		k := e.candidate("a", func(o *dynalock.ElectionOptions) {
			o.Health = func(context.Context) error {
				asked.Add(1)
				return nil
			}
		})
		<-k.leads
		must(e, k.Resign(e.ctx))
		synctest.Wait()
		before := asked.Load()
		k.stop()
		err := <-k.stopped
		check(e, err == context.Canceled, "error is %v, want the context's and no more", err) //nolint:errorlint // exactly it
		check(e, asked.Load() == before, "Health was asked %d times after the end", asked.Load()-before)
	})
}

func TestAHeldErrorSaysSinceWhenAndWhyWhereThatIsKnown(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		record dynalock.Record
		says   []string
		not    string
	}{
		{dynalock.Record{Key: "key", Owner: "me"}, []string{"key", "me"}, "since"},
		{dynalock.Record{Key: "key", AcquiredAt: since}, []string{"since 2026-11-30T12:00:00Z"}, "("},
		{dynalock.Record{AcquiredAt: since, Reason: "nightly"}, []string{"since 2026-11-30T12:00:00Z", "nightly"}, "0001"},
	} {
		text := (&dynalock.HeldError{Record: tt.record}).Error()
		for _, part := range tt.says {
			check(t, strings.Contains(text, part), "%q is not in %q", part, text)
		}
		check(t, !strings.Contains(text, tt.not), "%q is in %q", tt.not, text)
	}
}
