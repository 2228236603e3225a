package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
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
		"db", "table", "Lease", "Heartbeat", "SafetyMargin", "AttemptTimeout", "MinPoll", "MaxPoll", "MaxClockSkew", "Retention", "Dialect", "PartitionKey", "SortKey", "SortValue", "Owner", "Namespace",
	} {
		check(t, strings.Contains(err.Error(), field+" is ") || strings.Contains(err.Error(), field+" has "), "%s is not named in: %v", field, err)
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
		check(e, l.Deadline().Equal(start.Add(lease/2)), "the deadline is %v after the send, want %v", l.Deadline().Sub(start), lease/2)
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
				check(e, *out.ConsumedCapacity.CapacityUnits == 1, "%s: a write of %q is %v units", what, r.Key, *out.ConsumedCapacity.CapacityUnits)
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
			{"key", func(a a) { a.Lease = 120 * time.Millisecond }, []string{"Heartbeat", "AttemptTimeout"}}, // the client's do not fit it
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
			err = c.Do(e.ctx, tt.key, func(context.Context, *dynalock.Lock) error { e.Error("Do ran its function"); return nil }, tt.set)
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
	check(t, c.Table() == "locks" && o.Lease == 10*time.Second && o.MinPoll == 10*time.Millisecond && o.MaxPoll == time.Second &&
		o.PartitionKey == "key" && o.Logger != nil && o.Dialect == dynalock.DialectAWSLabs && strings.Count(o.Owner, "/") == 2,
		"%s: %+v", c.Table(), o)
	c2, err := dynalock.New(new(dynamodb.Client), "locks")
	must(t, err)
	check(t, c2.Options().Owner != o.Owner, "two clients of one process have one label")
	for _, text := range []fmt.Stringer{dynalock.DialectAWSLabs, dynalock.DialectDynamolock, dynalock.Free, dynalock.Held, dynalock.Foreign, dynalock.Info, dynalock.Warning, dynalock.Fatal, dynalock.EventLost} {
		check(t, !strings.Contains(text.String(), "("), "%#v has no name", text)
	}
	for _, text := range []fmt.Stringer{dynalock.Dialect(9), dynalock.State(9), dynalock.Severity(9), dynalock.EventKind(99), dynalock.EventKind(-1)} {
		check(t, strings.Contains(text.String(), "("), "%#v is called %v", text, text)
	}
}

func TestBothDialectsAreReadAndAnItemKeepsItsOwn(t *testing.T) {
	rows := map[string]struct {
		row attributes
		fit func(leaseDuration string) bool
	}{
		"AWS Labs":   {javaRow("5d1e8a1c-0000-4000-8000-000000000000"), func(s string) bool { _, err := strconv.Atoi(s); return err == nil }},
		"dynamolock": {goRow("go", "v3RsI0n0fTh3dYn4m0l0ckR0wXXXXXXX"), func(s string) bool { return strings.HasSuffix(s, "s") }},
	}
	for name, tt := range rows {
		t.Run(name, func(t *testing.T) {
			onServer(t, func(e *env) {
				kept := func(key, when string) {
					e.Helper()
					got := text(e.item(key)["leaseDuration"])
					check(e, tt.fit(got), "%s: %s: leaseDuration is %q", key, when, got)
				}
				e.put("dead", tt.row)
				e.put("free", with(tt.row, attributes{"isReleased": s("1")}))
				reader, _ := e.client()
				r, err := reader.Get(e.ctx, "dead")
				must(e, err)
				check(e, r.Lease == lease, "lease is %v", r.Lease)
				for _, own := range []dynalock.Dialect{dynalock.DialectAWSLabs, dynalock.DialectDynamolock} {
					c, _ := e.client(long, func(o *dynalock.Options) { o.Dialect = own })
					for _, key := range []string{"dead", "free"} {
						l := e.acquire(c, key) // the first time around: a take-over of "dead"
						kept(key, "acquired")
						must(e, l.Renew(e.ctx))
						kept(key, "renewed")
						next := make(chan *dynalock.Lock)
						go func() {
							l, err := c.Acquire(e.ctx, key)
							check(e, err == nil, "%v", err)
							next <- l
						}()
						time.Sleep(20 * time.Millisecond)
						must(e, l.Release(e.ctx))
						l = <-next
						kept(key, "handed over")
						l, err := c.Resume(e.ctx, l.Handle())
						must(e, err)
						kept(key, "resumed")
						must(e, l.Release(e.ctx))
						kept(key, "released")
						l = e.acquire(c, key) // by now it is a row of ours, which could be taken unseen
						kept(key, "acquired again")
						must(e, l.Release(e.ctx))
					}
				}
			})
		})
	}
}

func TestANewItemIsWrittenInTheDialectOfTheOptions(t *testing.T) {
	onServer(t, func(e *env) {
		for dialect, want := range map[dynalock.Dialect]string{dynalock.DialectAWSLabs: "61500", dynalock.DialectDynamolock: "1m1.5s"} {
			c, _ := e.client(long, func(o *dynalock.Options) { o.Dialect = dialect })
			l := e.acquire(c, dialect.String(), func(o *dynalock.AcquireOptions) { o.Lease = 61500 * time.Millisecond })
			got := text(e.item(l.Key())["leaseDuration"])
			check(e, got == want, "%v writes %q, want %q", dialect, got, want)
		}
	})
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

func TestRecordsComePageByPageAndEndWhereTheCallerStops(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		const n = 9 // of 300 KB each: a page has 1 MB at most
		for i := range n {
			must(e, e.acquire(c, fmt.Sprint("key", i), func(o *dynalock.AcquireOptions) { o.Data = make([]byte, 300<<10) }).Release(e.ctx))
		}
		seen := map[string]bool{}
		for r, err := range c.Records(e.ctx) {
			must(e, err)
			seen[r.Key] = true
		}
		pages := wire.Count("Scan")
		check(e, len(seen) == n && pages >= 3, "%d records in %d pages", len(seen), pages)
		for _, err := range c.Records(e.ctx) {
			must(e, err)
			break
		}
		check(e, wire.Count("Scan") == pages+1, "%d pages read for one record", wire.Count("Scan")-pages)
	})
}

func TestRetentionIsSetAtReleaseAndNeverOnAHeldItem(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long, func(o *dynalock.Options) { o.Retention = 48 * time.Hour })
		held := func(when string) {
			e.Helper()
			check(e, e.item("key")["ttl"] == nil, "%s: a held item has a TTL: %v", when, text(e.item("key")["ttl"]))
		}
		released := func(when string) {
			e.Helper()
			ttl, err := strconv.ParseInt(text(e.item("key")["ttl"]), 10, 64)
			must(e, err)
			off := time.Until(time.Unix(ttl, 0)) - 48*time.Hour
			check(e, off.Abs() < time.Minute, "%s: the TTL is off by %v", when, off)
		}
		for range 2 { // of a new item, and of one with a TTL
			l := e.acquire(c, "key")
			held("acquired")
			must(e, l.Renew(e.ctx))
			must(e, l.SetData(e.ctx, []byte("x")))
			held("renewed")
			next := make(chan *dynalock.Lock)
			go func() {
				l, err := c.Acquire(e.ctx, "key")
				check(e, err == nil, "%v", err)
				next <- l
			}()
			time.Sleep(20 * time.Millisecond)
			must(e, l.Release(e.ctx))
			l = <-next
			held("handed over")
			l, err := c.Resume(e.ctx, l.Handle())
			must(e, err)
			held("resumed")
			must(e, l.Release(e.ctx))
			released("released")
		}
		e.acquire(c, "key")
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		must(e, c.ForceRelease(e.ctx, r))
		released("freed by an operator")

		// A client without retention takes the TTL off, too.
		plain, _ := e.client(long)
		l := e.acquire(plain, "key")
		held("acquired by a client without retention")
		must(e, l.Release(e.ctx))
		check(e, e.item("key")["ttl"] == nil, "a TTL from a client without retention")

		// A row that another library took over with our TTL in it loses it when we take that over.
		e.put("key", with(e.item("key"), attributes{"isReleased": nil, "recordVersionNumber": s("theirs"), "leaseDuration": s("100"), "ttl": n("1")}))
		e.acquire(plain, "key")
		held("taken over")
	})
}

// deleting are the options of a lock whose item goes after its release.
func deleting(o *dynalock.AcquireOptions) { o.DeleteOnRelease = true }

// outlives tells for how long the TTL of an item keeps it.
func outlives(e *env, key string) time.Duration {
	e.Helper()
	return time.Until(time.Unix(int64(stored(e.item(key), "ttl")), 0))
}

func TestDeleteOnReleaseLeavesTheItemOfThisTenureToTheTTLAfterEveryCopyOfAnOldRequest(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		l := e.acquire(c, "key", deleting)
		before := wire.Count()
		must(e, l.Release(e.ctx))
		check(e, wire.Count() == before+1 && wire.Count("UpdateItem") == before+1, "%d requests: %v", wire.Count()-before, wire.Counts())
		rest := outlives(e, "key")
		check(e, rest > 14*time.Minute && rest <= 15*time.Minute+time.Second, "the item may go in %v", rest)
		must(e, l.Release(e.ctx))
		kept := e.acquire(c, "key")
		check(e, e.item("key")["ttl"] == nil, "a held item has a TTL")
		check(e, kept.Token() == l.Token()+1, "token %d after %d", kept.Token(), l.Token())
		must(e, kept.Release(e.ctx))
		check(e, e.item("key")["ttl"] == nil, "a lock that is not to go has a TTL")

		l = e.acquire(c, "key", deleting)
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		must(e, c.ForceRelease(e.ctx, r))
		other, _ := e.client(long)
		successor := e.acquire(other, "key")
		wantErr(e, l.Release(e.ctx), dynalock.ErrLost)
		must(e, successor.Renew(e.ctx))

		// The handle carries it.
		l = e.acquire(c, "resumed", deleting)
		l, err = other.Resume(e.ctx, l.Handle())
		must(e, err)
		must(e, l.Release(e.ctx))
		check(e, outlives(e, "resumed") > 14*time.Minute, "the item may go in %v", outlives(e, "resumed"))
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
		check(e, time.Since(start) < 5*lease+lease+200*time.Millisecond, "others had to wait until %v after the start", time.Since(start))
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

// tenures holds key so many times, each for d.
func tenures(e *env, c *dynalock.Client, key string, times int, d time.Duration) {
	for range times {
		l := e.acquire(c, key)
		time.Sleep(d)
		must(e, l.Release(e.ctx))
	}
}

func TestTheItemKeepsAMovingAverageOfItsHoldTimes(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		average := func() time.Duration {
			us, err := strconv.ParseInt(text(e.item("key")["holdAverage"]), 10, 64)
			must(e, err)
			return time.Duration(us) * time.Microsecond
		}
		tenures(e, c, "key", 1, 4*lease)
		check(e, (average()-4*lease).Abs() < 50*time.Millisecond, "after one tenure of %v: %v", 4*lease, average())
		tenures(e, c, "key", 1, 0)
		check(e, average() > 2*lease && average() < 4*lease, "after a short one: %v", average())
		tenures(e, c, "key", 30, 0)
		check(e, average() < lease/10, "after many short ones: %v", average())
	})
}

func TestTheUsualHoldTimeSteersTheLooksOfAWaiter(t *testing.T) {
	virtual(t, func(e *env) {
		slow := func(o *dynalock.Options) { o.Lease, o.MaxPoll = 40*time.Second, 20*time.Second }
		holder, _ := e.client(slow)
		looks := func(key string) int {
			l := e.acquire(holder, key)
			waiter, wire := e.client(slow)
			_, err := waiter.Acquire(e.within(5*time.Second), key)
			wantErr(e, err, dynalock.ErrHeld)
			must(e, l.Release(e.ctx))
			return wire.Count("GetItem")
		}
		usuallyLong, unknown := 0, 0
		for i := range 10 {
			key := fmt.Sprint("long ", i)
			tenures(e, holder, key, 1, 5*time.Second)
			usuallyLong += looks(key)
			unknown += looks(fmt.Sprint("unknown ", i))
		}
		check(e, usuallyLong >= 1, "nobody looked at all")
		check(e, 2*usuallyLong < unknown, "10 waits of 5 s took %d looks where the lock is usually held for 5 s, and %d where nothing is known", usuallyLong, unknown)
	})
}

func TestTheMoreWaitTheLessOftenEachLooks(t *testing.T) {
	virtual(t, func(e *env) {
		slow := func(o *dynalock.Options) { o.Lease, o.MaxPoll = 40*time.Second, 20*time.Second }
		holder, _ := e.client(slow)
		looks := func(key, waiters string) int {
			tenures(e, holder, key, 1, 100*time.Millisecond)
			e.acquire(holder, key, func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
			e.put(key, with(e.item(key), attributes{"waiters": n(waiters)}))
			waiter, wire := e.client(slow)
			_, err := waiter.Acquire(e.within(5*time.Second), key)
			wantErr(e, err, dynalock.ErrHeld)
			return wire.Count("GetItem")
		}
		crowded, alone := 0, 0
		for i := range 10 {
			crowded += looks(fmt.Sprint("crowded ", i), "100")
			alone += looks(fmt.Sprint("alone ", i), "0")
		}
		check(e, 3*crowded < alone, "10 waits of 5 s took %d looks among a hundred others, and %d alone", crowded, alone)
	})
}

func TestManyWaitersOfOneProcessLookLikeOne(t *testing.T) {
	virtual(t, func(e *env) {
		looks := func(key string, goroutines int) int {
			holder, _ := e.client()
			e.acquire(holder, key)
			c, wire := e.client()
			ctx := e.within(20 * time.Second)
			for range goroutines {
				go func() {
					_, err := c.Acquire(ctx, key)
					check(e, errors.Is(err, dynalock.ErrHeld), "%v", err)
				}()
			}
			<-ctx.Done()
			synctest.Wait()
			check(e, wire.Count("UpdateItem") <= goroutines, "%d writes of %d waiters", wire.Count("UpdateItem"), goroutines)
			return wire.Count("GetItem")
		}
		one, many := looks("one", 1), looks("many", 100)
		check(e, many < 2*one, "100 waiters of one process looked %d times, one looked %d times", many, one)
	})
}

func TestManyProcessesWaitWithoutAHerd(t *testing.T) {
	virtual(t, func(e *env) {
		const processes, rounds = 20, 3
		hold := 500 * time.Millisecond
		first, _ := e.client()
		tenures(e, first, "key", 3, hold)
		done := make(chan int)
		for range processes {
			c, wire := e.client()
			go func() {
				for range rounds {
					err := c.Do(e.ctx, "key", func(context.Context, *dynalock.Lock) error { time.Sleep(hold); return nil })
					check(e, err == nil, "%v", err)
				}
				done <- wire.Count("GetItem", "UpdateItem")
			}()
		}
		start, requests := time.Now(), 0
		for range processes {
			requests += <-done
		}
		n := processes * rounds
		// 3 writes a tenure are acquire, heartbeats and release; the rest are refused writes and looks.
		check(e, requests < 25*n, "%d requests for %d tenures", requests, n)
		check(e, time.Since(start) < 2*time.Duration(n)*hold, "%d tenures of %v took %v", n, hold, time.Since(start))
	})
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
				check(e, strings.Contains(err.Error(), part) && strings.Contains(fatal[0].Problem, part), "%s: %v, %v", name, err, fatal)
			}
		}
		for _, set := range []func(o){func(o o) { o.PartitionKey = "data" }, func(o o) { o.SortKey = "key" }, func(o o) { o.PartitionKey = strings.Repeat("p", 300) }} {
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
		check(e, out.Table.BillingModeSummary.BillingMode == types.BillingModePayPerRequest && *out.Table.DeletionProtectionEnabled, "%+v", out.Table)
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

func (d described) DescribeTable(ctx context.Context, in *dynamodb.DescribeTableInput, optFns ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error) {
	out, err := d.DynamoDB.DescribeTable(ctx, in, optFns...)
	if err == nil && d.change != nil {
		d.change(out.Table)
	}
	return out, err
}

func (d described) DescribeTimeToLive(ctx context.Context, in *dynamodb.DescribeTimeToLiveInput, optFns ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error) {
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
		{name: "global", severity: dynalock.Fatal, change: func(d *types.TableDescription) { d.Replicas = make([]types.ReplicaDescription, 1) }, says: "last writer wins"},
		{name: "key type", severity: dynalock.Fatal, change: func(d *types.TableDescription) { d.AttributeDefinitions[0].AttributeType = "N" }, says: "type N"},
		{name: "state", severity: dynalock.Fatal, change: func(d *types.TableDescription) { d.TableStatus = types.TableStatusArchived }, says: "ARCHIVED"},
		{name: "index", severity: dynalock.Warning, change: func(d *types.TableDescription) {
			d.GlobalSecondaryIndexes = make([]types.GlobalSecondaryIndexDescription, 2)
		}, says: "2 secondary indexes"},
		{name: "local index", severity: dynalock.Warning, change: func(d *types.TableDescription) {
			d.LocalSecondaryIndexes = make([]types.LocalSecondaryIndexDescription, 1)
		}, says: "1 secondary indexes"},
		{name: "provisioned", severity: dynalock.Info, change: func(d *types.TableDescription) { d.BillingModeSummary = nil }, says: "provisioned"},
		{name: "unprotected", severity: dynalock.Info, change: func(d *types.TableDescription) { d.DeletionProtectionEnabled = nil }, says: "deletion"},
		{name: "TTL deletes held locks", severity: dynalock.Fatal, ttl: ttlOn("expiresAt"), says: "expiresAt"},
		{name: "TTL of something else", severity: dynalock.Warning, ttl: ttlOn("orderTTL"), says: "orderTTL"},
		{name: "TTL is off", severity: dynalock.Warning, options: dynalock.TableOptions{TimeToLive: true}, says: "TTL is off"},
	} {
		found, err := dynalock.CheckTable(t.Context(), described{db, tt.change, tt.ttl}, "locks", func(o *dynalock.TableOptions) { *o = tt.options })
		must(t, err)
		check(t, len(found) == 1 && found[0].Severity == tt.severity && strings.Contains(found[0].Problem, tt.says) && found[0].Remedy != "", "%s: findings are %v", tt.name, found)
		check(t, len(found) == 1 && strings.HasPrefix(found[0].String(), tt.severity.String()+": "), "%s: %v", tt.name, found)
	}
	strong := func(d *types.TableDescription) {
		d.Replicas, d.MultiRegionConsistency = make([]types.ReplicaDescription, 2), types.MultiRegionConsistencyStrong
	}
	found, err := dynalock.CheckTable(t.Context(), described{db, strong, ttlOn("ttl")}, "locks")
	must(t, err)
	check(t, len(found) == 0, "findings on a strongly consistent global table: %v", found)
	enabling := &types.TimeToLiveDescription{AttributeName: aws.String("ttl"), TimeToLiveStatus: types.TimeToLiveStatusEnabling}
	found, err = dynalock.CheckTable(t.Context(), described{db, nil, enabling}, "locks", func(o *dynalock.TableOptions) { o.TimeToLive = true })
	must(t, err)
	check(t, len(found) == 0, "findings while the TTL is being enabled: %v", found)
	err = dynalock.CreateTable(t.Context(), described{db, nil, ttlOn("orderTTL")}, "locks", func(o *dynalock.TableOptions) { o.TimeToLive = true })
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
		_, once := c.Once(e.ctx, "job", "", nil, func(o *dynalock.OnceOptions) { o.Lease, o.MaxAttempts, o.Reason = 3, -1, "\xff" })
		_, lease := dynalock.New(nil, "locks", func(o *dynalock.Options) { o.Lease = 3 })
		for name, tt := range map[string]struct {
			err    error
			fields []string
		}{
			"Once": {once, []string{"period", "fn", "Lease is 3ns", "MaxAttempts", "Reason"}},
			"Tick": {
				c.Tick(e.ctx, "job", nil, tick, func(o *dynalock.TickOptions) { o.Lease, o.CatchUp, o.Keep, o.Reason = 3, 7, -1, "\xff" }),
				[]string{"schedule", "Lease is 3ns", "CatchUp", "Keep", "Reason"},
			},
			"Tick, of the run alone": {
				c.Tick(e.ctx, "", dynalock.Every(time.Hour, 0), nil, func(o *dynalock.TickOptions) { o.Lease = 3 }),
				[]string{"job", "fn", "Lease is 3ns"},
			},
			"New": {lease, []string{"db", "Lease is 3ns"}},
			"Do":  {c.Do(e.ctx, "", nil, func(o *dynalock.AcquireOptions) { o.Lease = 3 }), []string{"key", "fn", "Lease is 3ns"}},
			"Run": {
				c.Election("", func(o *dynalock.ElectionOptions) { o.Candidate, o.Lease = "", 3 }).Run(e.ctx, nil),
				[]string{"key", "Candidate", "lead", "Lease is 3ns"},
			},
		} {
			names(e.T, tt.err, tt.fields...)
			text := tt.err.Error()
			check(e, strings.Count(text, dynalock.ErrInvalid.Error()) == 1 && !strings.Contains(text, "\n"), "%s: %s", name, text)
		}
		check(e, wire.Count() == 0, "%d requests", wire.Count())
	})
}

func TestZeroOptionsOfOnceAndTickTakeTheDocumentedDefaults(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		zero := func(o *dynalock.OnceOptions) { *o = dynalock.OnceOptions{} }
		for n := range 3 {
			run, err := c.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error { return dynalock.ErrNotDone }, zero)
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
