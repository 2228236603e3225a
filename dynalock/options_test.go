package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

// names says which of the fields an error names.
func names(t *testing.T, err error, fields ...string) {
	t.Helper()
	wantErr(t, err, dynalock.ErrInvalid)
	for _, field := range fields {
		check(t, strings.Contains(err.Error(), field), "%s is not named in: %v", field, err)
	}
	check(t, strings.Count(err.Error(), "allowed: ") == len(fields), "want %d problems in: %v", len(fields), err)
}

func TestABadOptionIsAnErrorThatNamesTheFieldAndWhatIsAllowed(t *testing.T) {
	t.Parallel()
	type o = *dynalock.Options
	for _, tt := range []struct {
		field string
		set   func(o)
	}{
		{"Lease", func(o o) { o.Lease = 99 * time.Millisecond }},
		{"Lease", func(o o) { o.Lease = 24*time.Hour + time.Millisecond }},
		{"Lease", func(o o) { o.Lease = 1500 * time.Microsecond * 100 / 99 }},
		{"Lease", func(o o) { o.Lease = -time.Second }},
		{"Heartbeat", func(o o) { o.Heartbeat = -1 }},
		{"Heartbeat", func(o o) { o.Heartbeat = 6001 * time.Millisecond }}, // 3/4 of 8 s, the trust of the default lease
		{"Heartbeat", func(o o) {
			o.Lease, o.SafetyMargin, o.Heartbeat = time.Second, 500*time.Millisecond, 400*time.Millisecond
		}},
		{"SafetyMargin", func(o o) { o.SafetyMargin = -1 }},
		{"SafetyMargin", func(o o) { o.SafetyMargin = 499 * time.Millisecond }},
		{"SafetyMargin", func(o o) { o.SafetyMargin = 5001 * time.Millisecond }},
		{"AttemptTimeout", func(o o) { o.AttemptTimeout = 8 * time.Second }},
		{"AttemptTimeout", func(o o) { o.AttemptTimeout = time.Microsecond }},
		{"MinPoll", func(o o) { o.MinPoll = -1 }},
		{"MaxPoll", func(o o) { o.MinPoll, o.MaxPoll = 2*time.Second, time.Second }},
		{"MaxClockSkew", func(o o) { o.MaxClockSkew = -1 }},
		{"MaxClockSkew", func(o o) { o.MaxClockSkew = 25 * time.Hour }},
		{"Retention", func(o o) { o.Retention = -1 }},
		{"Retention", func(o o) { o.Retention = 15*time.Minute - time.Second }},
		{"Dialect", func(o o) { o.Dialect = 7 }},
		{"PartitionKey", func(o o) { o.PartitionKey = "ownerName" }},
		{"PartitionKey", func(o o) { o.PartitionKey = strings.Repeat("p", 256) }},
		{"SortKey", func(o o) { o.SortKey = "sort" }},
		{"SortValue", func(o o) { o.SortValue = "value" }},
		{"SortKey", func(o o) { o.SortKey, o.SortValue = "key", "value" }},
		{"SortKey", func(o o) { o.SortKey, o.SortValue = "data", "value" }},
		{"SortValue", func(o o) { o.SortKey, o.SortValue = "sort", strings.Repeat("v", 1025) }},
		{"Namespace", func(o o) { o.Namespace = strings.Repeat("n", 2048) }},
		{"Owner", func(o o) { o.Owner = strings.Repeat("o", 257) }},
		{"Owner", func(o o) { o.Owner = "\xff" }},
		{"Namespace", func(o o) { o.Namespace = "\xff" }},
	} {
		c, err := dynalock.New(new(dynamodb.Client), "locks", tt.set)
		check(t, c == nil, "a client was made with a bad %s", tt.field)
		names(t, err, tt.field)
	}
}

func TestOneErrorNamesEveryBadOption(t *testing.T) {
	t.Parallel()
	_, err := dynalock.New(nil, "", func(o *dynalock.Options) {
		o.Lease, o.Heartbeat, o.SafetyMargin, o.AttemptTimeout = 1, -1, -1, -1
		o.MinPoll, o.MaxPoll, o.MaxClockSkew, o.Retention, o.Dialect = -1, -2, -1, -1, -1
		o.PartitionKey, o.SortKey, o.SortValue = "data", "data", strings.Repeat("v", 2000)
		o.Owner, o.Namespace = strings.Repeat("o", 1000), strings.Repeat("n", 5000)
	})
	wantErr(t, err, dynalock.ErrInvalid)
	for _, field := range []string{
		"db", "table", "Lease", "Heartbeat", "SafetyMargin", "AttemptTimeout", "MinPoll", "MaxPoll", "MaxClockSkew",
		"Retention", "Dialect", "PartitionKey", "SortKey", "SortValue", "Owner", "Namespace",
	} {
		check(t, strings.Contains(err.Error(), field+" is ") || strings.Contains(err.Error(), field+" has "),
			"%s is not named in: %v", field, err)
	}
	check(t, !strings.Contains(err.Error(), "\n"), "more than one line: %v", err)
}

func TestTheShortestAndTheLongestLeaseAreKept(t *testing.T) {
	virtual(t, func(e *env) {
		for _, lease := range []time.Duration{100 * time.Millisecond, 24 * time.Hour} {
			c, _ := e.client(func(o *dynalock.Options) { o.Lease = lease })
			l := e.acquire(c, lease.String())
			time.Sleep(10 * lease)
			check(e, l.Held(), "%v: lost: %v", lease, l.Err())
			must(e, l.Release(e.ctx))
		}
	})
}

func TestALockIsTrustedForItsLeaseLessTheSafetyMargin(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.SafetyMargin = lease / 2 })
		start := time.Now()
		l := e.acquire(c, "key")
		crash(wire)
		check(e, l.Deadline().Equal(start.Add(lease/2)), "the deadline is %v after the send, want %v",
			l.Deadline().Sub(start), lease/2)
		time.Sleep(time.Until(start.Add(lease/2 - time.Millisecond)))
		check(e, l.Held(), "lost before its deadline: %v", l.Err())
		time.Sleep(time.Millisecond)
		check(e, !l.Held(), "held after its deadline")
	})
}

func TestALockWithALeaseOfItsOwnIsRenewedAtThePaceOfThatLease(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = 10 * time.Second })
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.Lease = time.Second })
		time.Sleep(10 * time.Second)
		check(e, l.Held() && l.Err() == nil, "lost: %v", l.Err())
		beats := wire.Count() - 1
		check(e, beats >= 50 && beats <= 60, "%d heartbeats in 10 leases, want one every fifth of a lease", beats)
	})
}

func TestTheLongestKeyAndTheLargestItemAreStored(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long, func(o *dynalock.Options) {
			o.Namespace, o.Owner, o.Retention = strings.Repeat("n", 1000), strings.Repeat("o", 256), time.Hour
		})
		key := strings.Repeat("k", 1048)
		_, err := c.TryAcquire(e.ctx, key+"k")
		names(e.T, err, "key")
		full := func(size int) func(*dynalock.AcquireOptions) {
			return func(o *dynalock.AcquireOptions) { o.Data, o.Reason = make([]byte, size), strings.Repeat("r", 256) }
		}
		_, err = c.TryAcquire(e.ctx, key, full(400<<10))
		names(e.T, err, "Data")
		_, rest, _ := strings.Cut(err.Error(), "allowed: 0 to ")
		limit, err := strconv.Atoi(rest[:strings.IndexByte(rest, ' ')])
		must(e, err)
		check(e, limit > 390<<10, "only %d bytes are allowed", limit)
		_, err = c.TryAcquire(e.ctx, key, full(limit+1))
		names(e.T, err, "Data")
		check(e, wire.Count() == 0, "%d requests for input that is refused", wire.Count())

		l, err := c.TryAcquire(e.ctx, key, full(limit))
		must(e, err)
		must(e, l.Renew(e.ctx))
		names(e.T, l.SetData(e.ctx, make([]byte, limit+1)), "Data")
		must(e, l.SetData(e.ctx, make([]byte, limit)))
		r, err := c.Get(e.ctx, key)
		must(e, err)
		must(e, c.ForceRelease(e.ctx, r)) // adds who did it
		l, err = c.TryAcquire(e.ctx, key, full(limit))
		must(e, err)
		must(e, l.Release(e.ctx)) // adds the TTL
	})
}

func TestAnItemWithTheLongestLabelsAndAKeyOf100BytesIsOneWriteUnit(t *testing.T) {
	onServer(t, func(e *env) {
		label, key := strings.Repeat("x", 256), strings.Repeat("k", 100)
		labelled := func() (*dynalock.Client, *testserver.Wire) {
			return e.client(func(o *dynalock.Options) { o.Owner, o.Retention = label, time.Hour })
		}
		c, _ := labelled()
		small := func(what string) {
			e.Helper()
			for r, err := range c.Records(e.ctx) {
				must(e, err)
				out, err := e.connect().UpdateItem(e.ctx, &dynamodb.UpdateItemInput{
					TableName: &e.table, Key: e.key(r.Key), ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
				})
				must(e, err)
				check(e, *out.ConsumedCapacity.CapacityUnits == 1, "%s: a write of %q is %v units", what, r.Key,
					*out.ConsumedCapacity.CapacityUnits)
			}
		}
		reason := func(o *dynalock.AcquireOptions) { o.Reason = label }
		dead, wire := labelled()
		e.acquire(dead, key, reason)
		small("acquired")
		crash(wire)
		l := e.acquire(c, key, reason)
		must(e, l.Renew(e.ctx))
		small("taken over")
		must(e, l.Release(e.ctx))
		small("released")
		e.acquire(c, key, reason)
		r, err := c.Get(e.ctx, key)
		must(e, err)
		must(e, c.ForceRelease(e.ctx, r))
		small("freed")
		_, err = c.Once(e.ctx, key[:50], key[:49], func(context.Context, *dynalock.Lock) error {
			small("begun")
			return errors.New(label + label)
		}, func(o *dynalock.OnceOptions) { o.Reason = label })
		check(e, err != nil, "the run did not fail")
		small("run")
		a := e.candidate(label, func(o *dynalock.ElectionOptions) { o.Value = nil })
		<-a.leads
		wantErr(e, a.HandOver(e.within(lease/2), label[1:]), context.DeadlineExceeded)
		small("asked to hand over")
		wantErr(e, <-a.ends, dynalock.ErrHandedOver)
		small("stood down")
	})
}

func TestBadInputOfACallIsAnErrorThatNamesTheFieldAndSendsNothing(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.Heartbeat = 100 * time.Millisecond })
		type a = *dynalock.AcquireOptions
		for _, tt := range []struct {
			key    string
			set    func(a)
			fields []string
		}{
			{"", func(a) {}, []string{"key has"}},
			{"\xfe", func(a) {}, []string{"key is"}}, // on the wire it would be the same as "\xff"
			{strings.Repeat("k", 2049), func(a) {}, []string{"key has"}},
			{"key", func(a a) { a.Lease = 50 * time.Millisecond }, []string{"Lease"}},
			{"key", func(a a) { a.Lease = 48 * time.Hour }, []string{"Lease"}},
			// the client's do not fit it
			{"key", func(a a) { a.Lease = 120 * time.Millisecond }, []string{"Heartbeat", "AttemptTimeout"}},
			{"key", func(a a) { a.MaxHold = -1 }, []string{"MaxHold"}},
			{"key", func(a a) { a.Reason = strings.Repeat("r", 257) }, []string{"Reason"}},
			{"key", func(a a) { a.Data = make([]byte, 400<<10) }, []string{"Data"}},
			{"", func(a a) {
				a.Lease, a.MaxHold, a.Reason, a.Data = 1, -1, strings.Repeat("r", 257), make([]byte, 1<<20)
			}, []string{"key has", "Lease", "MaxHold", "Reason", "Data"}},
		} {
			_, err := c.Acquire(e.ctx, tt.key, tt.set)
			names(e.T, err, tt.fields...)
			_, err = c.TryAcquire(e.ctx, tt.key, tt.set)
			names(e.T, err, tt.fields...)
			err = c.Do(e.ctx, tt.key, func(context.Context, *dynalock.Lock) error { e.Error("Do ran its function"); return nil },
				tt.set)
			names(e.T, err, tt.fields...)
		}
		for _, key := range []string{"", strings.Repeat("k", 2049)} {
			_, err := c.Get(e.ctx, key)
			names(e.T, err, "key has")
			names(e.T, c.ForceRelease(e.ctx, dynalock.Record{Key: key, State: dynalock.Held, Version: "v"}), "key has")
		}
		names(e.T, c.ForceRelease(e.ctx, dynalock.Record{Key: "key"}), "record of")
		_, err := c.Resume(e.ctx, "no handle")
		names(e.T, err, "handle")
		check(e, wire.Count() == 0, "%d requests for input that is refused", wire.Count())

		l := e.acquire(c, "key")
		names(e.T, l.Transact(e.ctx), "items")
		names(e.T, l.Transact(e.ctx, make([]types.TransactWriteItem, 100)...), "items")
		names(e.T, l.SetData(e.ctx, make([]byte, 400<<10)), "Data")
		_, err = c.Resume(e.ctx, l.Handle(), func(o *dynalock.AcquireOptions) { o.MaxHold = -1 })
		names(e.T, err, "MaxHold")
		check(e, wire.Count() == 1, "%d requests, want only that of the acquire", wire.Count())
	})
}

func TestZeroOptionsTakeTheDocumentedDefaults(t *testing.T) {
	t.Parallel()
	c, err := dynalock.New(new(dynamodb.Client), "locks")
	must(t, err)
	o := c.Options()
	check(t, c.Table() == "locks" && o.Lease == 10*time.Second && o.MinPoll == 10*time.Millisecond &&
		o.MaxPoll == time.Second &&
		o.PartitionKey == "key" && o.Logger != nil && o.Dialect == dynalock.DialectAWSLabs &&
		strings.Count(o.Owner, "/") == 2,
		"%s: %+v", c.Table(), o)
	c2, err := dynalock.New(new(dynamodb.Client), "locks")
	must(t, err)
	check(t, c2.Options().Owner != o.Owner, "two clients of one process have one label")
	for _, text := range []fmt.Stringer{
		dynalock.DialectAWSLabs, dynalock.DialectDynamolock, dynalock.Free, dynalock.Held,
		dynalock.Foreign, dynalock.Info, dynalock.Warning, dynalock.Fatal, dynalock.EventLost,
	} {
		check(t, !strings.Contains(text.String(), "("), "%#v has no name", text)
	}
	for _, text := range []fmt.Stringer{
		dynalock.Dialect(9), dynalock.State(9), dynalock.Severity(9),
		dynalock.EventKind(99), dynalock.EventKind(-1),
	} {
		check(t, strings.Contains(text.String(), "("), "%#v is called %v", text, text)
	}
}

func TestASortKeyIsWrittenAndItsValueSeparatesClients(t *testing.T) {
	onServerWithSortKey(t, "sort", func(e *env) {
		c, wire := e.client(long)
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.Data = []byte("x") })
		check(e, text(e.item("key")["sort"]) == "lock", "the item is %v", e.item("key"))
		must(e, l.Renew(e.ctx))
		must(e, l.Transact(e.ctx, put(e, "guarded", "1")))
		other, _ := e.client(long, func(o *dynalock.Options) { o.SortValue = "other" })
		e.acquire(other, "key")
		keys := []string{}
		for r, err := range c.Records(e.ctx) {
			must(e, err)
			keys = append(keys, r.Key+" "+r.State.String())
		}
		slices.Sort(keys)
		check(e, slices.Equal(keys, []string{"guarded foreign", "key held"}), "records are %v", keys)
		before := wire.Count()
		must(e, l.Release(e.ctx))
		check(e, wire.Count() == before+1, "%d requests for a release", wire.Count()-before)
	})
}

func TestANamespaceSeparatesClientsAndIsNoPartOfTheirKeys(t *testing.T) {
	onServer(t, func(e *env) {
		in := func(namespace string) *dynalock.Client {
			c, _ := e.client(long, func(o *dynalock.Options) { o.Namespace = namespace })
			return c
		}
		a, b, all := in("a/"), in("b/"), in("")
		for i := range 30 {
			must(e, e.acquire(a, fmt.Sprintf("key%02d", i)).Release(e.ctx))
		}
		l := e.acquire(a, "key")
		check(e, l.Key() == "key", "Key is %q", l.Key())
		e.acquire(b, "key")
		r, err := all.Get(e.ctx, "a/key")
		must(e, err)
		check(e, r.Key == "a/key" && r.Token == l.Token(), "%+v", r)
		count := map[string]int{}
		for name, c := range map[string]*dynalock.Client{"a": a, "b": b, "all": all, "none": in("c/")} {
			for r, err := range c.Records(e.ctx) {
				must(e, err)
				count[name]++
				check(e, strings.HasPrefix(r.Key, "key") != (name == "all"), "%s has the key %q", name, r.Key)
				if name == "a" && r.Key == "key" {
					must(e, a.ForceRelease(e.ctx, r)) // what Records shows can be freed
				}
			}
		}
		check(e, count["a"] == 31 && count["b"] == 1 && count["all"] == 32 && count["none"] == 0, "records: %v", count)
		wantErr(e, l.Renew(e.ctx), dynalock.ErrLost)
	})
}

func TestMaxHoldEndsTheTenureWhateverTheHeartbeatSays(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		start := time.Now()
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.MaxHold = 5 * lease })
		time.Sleep(4 * lease)
		check(e, l.Held(), "lost before its limit: %v", l.Err())
		check(e, !l.Deadline().After(start.Add(5*lease)), "the deadline is %v after the start", l.Deadline().Sub(start))
		<-l.Done()
		held := time.Since(start)
		check(e, held > 5*lease-10*time.Millisecond && held < 5*lease+10*time.Millisecond, "held for %v", held)
		wantErr(e, l.Err(), dynalock.ErrLost)
		wantErr(e, l.Err(), heartbeat.ErrLimit)
		wantErr(e, l.Renew(e.ctx), dynalock.ErrLost)
		other, _ := e.client()
		e.acquire(other, "key")
		check(e, time.Since(start) < 5*lease+lease+200*time.Millisecond, "others had to wait until %v after the start",
			time.Since(start))
	})
}

func TestMaxHoldEndsATenureThatWasResumed(t *testing.T) {
	virtual(t, func(e *env) {
		a, _ := e.client()
		b, _ := e.client()
		old := e.acquire(a, "key")
		start := time.Now()
		l, err := b.Resume(e.ctx, old.Handle(), func(o *dynalock.AcquireOptions) { o.MaxHold = 2 * lease })
		must(e, err)
		select {
		case <-l.Done():
		case <-time.After(5 * lease):
		}
		wantErr(e, l.Err(), heartbeat.ErrLimit)
		check(e, time.Since(start) < 2*lease+10*time.Millisecond, "held for %v", time.Since(start))
	})
}

func TestMaxHoldBelowTheTrustEndsAStaticLeaseToo(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		start := time.Now()
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.MaxHold, o.NoHeartbeat = lease/4, true })
		<-l.Done()
		wantErr(e, l.Err(), heartbeat.ErrLimit)
		check(e, time.Since(start) <= lease/4+time.Millisecond, "held for %v", time.Since(start))
		must(e, l.Release(e.ctx)) // and can still be given back before its lease ends
		check(e, text(e.item("key")["isReleased"]) == "1", "not released")
	})
}

func TestAStaticLeaseSendsNothingByItselfAndIsExtendedByRenew(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
		for range 5 {
			time.Sleep(lease / 2)
			before := l.Deadline()
			must(e, l.Renew(e.ctx))
			check(e, l.Deadline().Sub(before) >= lease/2, "Renew moved the deadline by %v", l.Deadline().Sub(before))
		}
		check(e, wire.Count() == 6, "%d requests, want the acquire and 5 renewals", wire.Count())
		deadline := l.Deadline()
		<-l.Done()
		check(e, time.Since(deadline) <= time.Millisecond, "lost %v after its deadline", time.Since(deadline))
		wantErr(e, l.Err(), heartbeat.ErrDeadline)
		check(e, wire.Count() == 6, "%d requests, want none in the background", wire.Count())
	})
}

func TestNilFunctionsAreRefusedAndNilOptionsSetNothing(t *testing.T) {
	virtual(t, func(e *env) {
		c, err := dynalock.New(e.connect(), e.table, nil)
		must(e, err)
		defer func() { must(e, c.Close(e.ctx)) }()
		l, err := c.Acquire(e.ctx, "key", nil)
		must(e, err)
		must(e, l.Release(e.ctx))
		must(e, dynalock.CreateTable(e.ctx, e.connect(), e.table, nil))
		for name, err := range map[string]error{
			"fn": c.Do(e.ctx, "key", nil), "lead": c.Election("key", nil).Run(e.ctx, nil),
		} {
			wantErr(e, err, dynalock.ErrInvalid)
			names(e.T, err, name)
		}
	})
}

func TestOneErrorOfACallNamesEveryBadFieldOnceAndAsItWasGiven(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		tick := func(context.Context, *dynalock.Lock, time.Time) error { return nil }
		_, once := c.Once(e.ctx, "job", "", nil,
			func(o *dynalock.OnceOptions) { o.Lease, o.MaxAttempts, o.Reason = 3, -1, "\xff" })
		_, lease := dynalock.New(nil, "locks", func(o *dynalock.Options) { o.Lease = 3 })
		for name, tt := range map[string]struct {
			err    error
			fields []string
		}{
			"Once": {once, []string{"period", "fn", "Lease is 3ns", "MaxAttempts", "Reason"}},
			"Tick": {
				c.Tick(e.ctx, "job", nil, tick,
					func(o *dynalock.TickOptions) { o.Lease, o.CatchUp, o.Keep, o.Reason = 3, 7, -1, "\xff" }),
				[]string{"schedule", "Lease is 3ns", "CatchUp", "Keep", "Reason"},
			},
			"Tick, of the run alone": {
				c.Tick(e.ctx, "", dynalock.Every(time.Hour, 0), nil, func(o *dynalock.TickOptions) { o.Lease = 3 }),
				[]string{"job", "fn", "Lease is 3ns"},
			},
			"New": {lease, []string{"db", "Lease is 3ns"}},
			"Do": {
				c.Do(e.ctx, "", nil, func(o *dynalock.AcquireOptions) { o.Lease = 3 }),
				[]string{"key", "fn", "Lease is 3ns"},
			},
			"Run": {
				c.Election("", func(o *dynalock.ElectionOptions) { o.Candidate, o.Lease = "", 3 }).Run(e.ctx, nil),
				[]string{"key", "Candidate", "lead", "Lease is 3ns"},
			},
		} {
			names(e.T, tt.err, tt.fields...)
			text := tt.err.Error()
			check(e, strings.Count(text, dynalock.ErrInvalid.Error()) == 1 && !strings.Contains(text, "\n"), "%s: %s", name,
				text)
		}
		check(e, wire.Count() == 0, "%d requests", wire.Count())
	})
}

func TestZeroOptionsOfOnceAndTickTakeTheDocumentedDefaults(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		zero := func(o *dynalock.OnceOptions) { *o = dynalock.OnceOptions{} }
		for n := range 3 {
			run, err := c.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error { return dynalock.ErrNotDone },
				zero)
			wantErr(e, err, dynalock.ErrNotDone)
			check(e, run.Attempt == n+1, "attempt %d after %d", run.Attempt, n)
		}
		_, err := c.Once(e.ctx, "job", "1", nothing, zero)
		wantErr(e, err, dynalock.ErrExhausted)
		_, err = c.Once(e.ctx, "job", "2", nothing, zero)
		must(e, err)
		ttl, err := strconv.ParseInt(text(e.item("once/job/2")["ttl"]), 10, 64)
		must(e, err)
		kept := time.Until(time.Unix(ttl, 0))
		check(e, kept > 7*24*time.Hour-time.Minute && kept <= 7*24*time.Hour, "it is kept for %v", kept)

		ran := 0
		next := last(time.Now().UTC().Truncate(time.Minute).Add(time.Minute))
		must(e, c.Tick(e.ctx, "ticks", next, func(context.Context, *dynalock.Lock, time.Time) error { ran++; return nil },
			func(o *dynalock.TickOptions) { *o = dynalock.TickOptions{} }))
		check(e, ran == 1, "the tick ran %d times", ran)
	})
}

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
