package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"strconv"
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

// value makes an attribute of one of DynamoDB's types out of a text; nil for an attribute that is not there.
func value(kind byte, text string) types.AttributeValue {
	switch kind % 8 {
	case 0:
		return s(text)
	case 1:
		return n(text)
	case 2:
		return b(text)
	case 3:
		return &types.AttributeValueMemberBOOL{Value: text == "1"}
	case 4:
		return &types.AttributeValueMemberNULL{Value: true}
	case 5:
		return &types.AttributeValueMemberL{Value: []types.AttributeValue{s(text)}}
	case 6:
		return &types.AttributeValueMemberM{Value: attributes{"1": s(text)}}
	}
	return nil
}

// FuzzItem stores an item that anybody might have written under a lock's key, and then asks for the lock: whatever it
// is, nothing panics, all calls agree on what it is, what is no lock is not touched, and a lock keeps its promises.
func FuzzItem(f *testing.F) {
	// Kinds are of owner, lease, version, released, data, token, stamp and one of the attributes that people read.
	own := "0123456789abcdef0123456789abcdef-7"
	f.Add("owner", "1000", "v", "", "", "5", "", "", []byte{0, 0, 0, 7, 7, 1, 7, 7})
	f.Add("owner", "10s", own, "1", "data", "9007199254740993", own, "12", []byte{0, 0, 0, 0, 2, 1, 0, 1})
	f.Add("", "1h1m1.5s", "v-1", "0", "", "0", "v-1", "-1", []byte{7, 0, 0, 0, 2, 1, 0, 1})
	f.Add("o", "86400000", own, "1", "", "18446744073709551614", own, "99999999999999999999",
		[]byte{0, 0, 0, 0, 7, 7, 0, 1})
	f.Add("o", "86400001", "v", "1", "", "", "", "", []byte{0, 0, 0, 0, 7, 7, 7, 7})
	f.Add("o", "99", "v", "1", "", "-1", "", "", []byte{0, 0, 0, 0, 7, 1, 7, 7})
	f.Add("o", "1x", "v", "1", "", "1.5", "", "", []byte{0, 0, 0, 0, 7, 1, 7, 7})
	f.Add("o", "1000", "", "1", "", "18446744073709551615", "", "", []byte{0, 0, 0, 0, 7, 1, 7, 7})
	f.Add("o", "1000", "v", "1", "", "1e30", "", "", []byte{0, 0, 0, 0, 7, 1, 7, 7})
	f.Add("o", "1000", "v", "1", "d", "1", "v", "x", []byte{5, 6, 4, 3, 0, 0, 2, 4})

	ctx := context.Background()
	srv := dynalocktest.NewServer()
	f.Cleanup(srv.Close)
	db := srv.Client()
	must(f, dynalock.CreateTable(ctx, db, "locks"))
	stored := func(t *testing.T) attributes {
		t.Helper()
		out, err := db.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String("locks"), Key: attributes{"key": s("key")}})
		must(t, err)
		return out.Item
	}

	f.Fuzz(func(t *testing.T, owner, leaseText, version, released, data, token, stamp, extra string, kinds []byte) {
		row := attributes{"key": s("key")}
		for i, a := range []struct{ name, text string }{
			{"ownerName", owner},
			{"leaseDuration", leaseText},
			{"recordVersionNumber", version},
			{"isReleased", released},
			{"data", data},
			{"fencingToken", token},
			{"stampedVersion", stamp},
			{[]string{
				"acquiredAt", "renewedAt", "expiresAt", "reason", "holdAverage", "waiters", "releasedBy",
				"ttl",
			}[len(extra)%8], extra},
		} {
			kind := byte(0)
			if i < len(kinds) {
				kind = kinds[i]
			}
			if v := value(kind, a.text); v != nil {
				row[a.name] = v
			}
		}
		if _, err := db.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String("locks"), Item: row}); err != nil {
			t.Skip() // nothing that DynamoDB would store
		}
		before := stored(t)
		c, err := dynalock.New(db, "locks")
		must(t, err)
		defer func() { must(t, c.Close(ctx)) }()

		r, err := c.Get(ctx, "key")
		must(t, err)
		for listed, err := range c.Records(ctx) {
			must(t, err)
			check(t, reflect.DeepEqual(listed, r), "listed as %+v, read as %+v", listed, r)
		}
		check(t, (r.State == dynalock.Foreign) == (r.Problem != ""), "%+v", r)
		if r.State != dynalock.Foreign {
			check(t, r.Version != "" && r.Lease >= 100*time.Millisecond && r.Lease <= 24*time.Hour && r.Waiters >= 0, "%+v", r)
		}
		l, err := c.TryAcquire(ctx, "key")
		switch r.State {
		case dynalock.Foreign:
			if row["stampedVersion"] != nil && reflect.DeepEqual(row["stampedVersion"], row["recordVersionNumber"]) {
				t.Skip() // our own row, edited by hand: the blind write trusts the lease and the token of what bears our stamp
			}
			check(t, errors.Is(err, dynalock.ErrForeign), "a foreign item (%s): %v", r.Problem, err)
			wantErr(t, c.ForceRelease(ctx, r), dynalock.ErrForeign)
			check(t, reflect.DeepEqual(stored(t), before), "changed to %v", stored(t))
		case dynalock.Held:
			wantErr(t, err, dynalock.ErrHeld)
			check(t, reflect.DeepEqual(stored(t), before), "changed to %v", stored(t))
			must(t, c.ForceRelease(ctx, r))
			now, err := c.Get(ctx, "key")
			must(t, err)
			check(t, now.State == dynalock.Free && now.Token == r.Token, "after a forced release: %+v", now)
		case dynalock.Free:
			must(t, err)
			check(t, l.Token() > r.Token && text(stored(t)["fencingToken"]) == strconv.FormatUint(l.Token(), 10),
				"token %d after %d, stored %v", l.Token(), r.Token, text(stored(t)["fencingToken"]))
			check(t, string(l.Data()) == string(r.Data), "data %q of %q", l.Data(), r.Data)
			now, err := c.Get(ctx, "key")
			must(t, err)
			check(t, now.State == dynalock.Held && now.Owner == c.Options().Owner, "after an acquire: %+v", now)
			must(t, l.Release(ctx))
		}
	})
}

// The milliseconds overflow to one second.
func TestALeaseOfNegativeMillisecondsIsForeign(t *testing.T) {
	virtual(t, func(e *env) {
		e.put("key", map[string]types.AttributeValue{
			"recordVersionNumber": s("v"),
			"leaseDuration":       s("-9223372036854774808"), "ownerName": s("x"),
		})
		c, _ := e.client()
		_, err := c.Acquire(e.within(5*lease), "key")
		wantErr(e, err, dynalock.ErrForeign)
	})
}

// An operator sets isReleased in the console while the answers of the acquisition that wrote the item are lost.
func TestAnItemOfOursThatWasFreedByHandIsTakenAgain(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1})
		heal := wire.Inject(testserver.Fault{Kind: testserver.LoseRequest, Op: "UpdateItem"})
		time.AfterFunc(lease/3, func() {
			e.put("key", with(e.item("key"), attributes{"isReleased": s("1")}))
			heal()
		})
		l := e.acquire(c, "key")
		check(e, wire.Count() < 20, "%d requests", wire.Count())
		must(e, l.Release(e.ctx))
	})
}

func TestBothDialectsAreReadAndAnItemKeepsItsOwn(t *testing.T) {
	rows := map[string]struct {
		row attributes
		fit func(leaseDuration string) bool
	}{
		"AWS Labs": {
			javaRow("5d1e8a1c-0000-4000-8000-000000000000"),
			func(s string) bool { _, err := strconv.Atoi(s); return err == nil },
		},
		"dynamolock": {
			goRow("go", "v3RsI0n0fTh3dYn4m0l0ckR0wXXXXXXX"),
			func(s string) bool { return strings.HasSuffix(s, "s") },
		},
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
		for dialect, want := range map[dynalock.Dialect]string{
			dynalock.DialectAWSLabs:    "61500",
			dynalock.DialectDynamolock: "1m1.5s",
		} {
			c, _ := e.client(long, func(o *dynalock.Options) { o.Dialect = dialect })
			l := e.acquire(c, dialect.String(), func(o *dynalock.AcquireOptions) { o.Lease = 61500 * time.Millisecond })
			got := text(e.item(l.Key())["leaseDuration"])
			check(e, got == want, "%v writes %q, want %q", dialect, got, want)
		}
	})
}

// Foreign items: never taken, never changed.

// foreignRows are items that are no locks. All are tried as they are and with a mark that says released.
func foreignRows() map[string]attributes {
	base := goRow("somebody", "their version")
	rows := map[string]attributes{
		"only a key":    {},
		"another thing": {"order": s("17")},
		"no version":    with(base, attributes{"recordVersionNumber": nil}),
		"version N":     with(base, attributes{"recordVersionNumber": n("7")}),
		"no lease":      with(base, attributes{"leaseDuration": nil}),
		"lease N":       with(base, attributes{"leaseDuration": n("1000")}),
		"owner N":       with(base, attributes{"ownerName": n("1")}),
		"owner list": with(base,
			attributes{"ownerName": &types.AttributeValueMemberL{Value: []types.AttributeValue{s("x")}}}),
		"data S":          with(base, attributes{"data": s("text")}),
		"data NULL":       with(base, attributes{"data": &types.AttributeValueMemberNULL{Value: true}}),
		"token S":         with(base, attributes{"fencingToken": s("17")}),
		"token negative":  with(base, attributes{"fencingToken": n("-1")}),
		"token fraction":  with(base, attributes{"fencingToken": n("1.5")}),
		"token too large": with(base, attributes{"fencingToken": n("1e30")}),
		"token 2^63":      with(base, attributes{"fencingToken": n("9223372036854775808")}),
		"empty version":   with(base, attributes{"recordVersionNumber": s("")}),
		"released BOOL":   with(base, attributes{"isReleased": &types.AttributeValueMemberBOOL{Value: true}}),
		"released N":      with(base, attributes{"isReleased": n("1")}),
		"released set":    with(base, attributes{"isReleased": &types.AttributeValueMemberSS{Value: []string{"1"}}}),
	}
	for _, text := range []string{
		"", "soon", "s", "99", "99ms", "0", "-1000", "-1s", "86400001", "24h0m1s", "25h", "5 bananas", "10sx", "1x", "1000 ",
		"9223372036854775807", "99999999999999999999", "1e400h", "10,5s", "１０",
	} {
		rows["lease "+text] = with(base, attributes{"leaseDuration": s(text)})
	}
	for name, row := range maps.Clone(rows) {
		if row["isReleased"] == nil {
			rows[name+", released"] = with(row, attributes{"isReleased": s("1")})
		}
	}
	return rows
}

func TestAForeignItemIsToldAndNeverTouched(t *testing.T) {
	for _, dialect := range []dynalock.Dialect{dynalock.DialectAWSLabs, dynalock.DialectDynamolock} {
		t.Run(dialect.String(), func(t *testing.T) {
			onServer(t, func(e *env) {
				c, _ := e.client(long, func(o *dynalock.Options) { o.Dialect, o.MaxClockSkew = dialect, time.Millisecond })
				rows := map[string]attributes{}
				for key, row := range foreignRows() {
					e.put(key, row)
					rows[key] = e.item(key) // as the server writes numbers
				}
				for key, row := range rows {
					for range 2 {
						_, err := c.TryAcquire(e.ctx, key)
						foreign, ok := errors.AsType[*dynalock.ForeignError](err)
						check(e, ok && errors.Is(err, dynalock.ErrForeign) && foreign.Key == key && foreign.Problem != "",
							"TryAcquire of %q: %v", key, err)
						_, err = c.Acquire(e.within(5*time.Second), key)
						check(e, errors.Is(err, dynalock.ErrForeign), "Acquire of %q: %v", key, err)
						r, err := c.Get(e.ctx, key)
						must(e, err)
						check(e, r.State == dynalock.Foreign && r.Problem != "" && r.Key == key, "Get of %q: %+v", key, r)
						wantErr(e, c.ForceRelease(e.ctx, r), dynalock.ErrForeign)
						check(e, reflect.DeepEqual(e.item(key), row), "%q was changed to %v", key, e.item(key))
					}
				}
				found := 0
				for r, err := range c.Records(e.ctx) {
					must(e, err)
					check(e, r.State == dynalock.Foreign, "%q is listed as %v", r.Key, r.State)
					found++
				}
				check(e, found == len(rows), "%d of %d are listed", found, len(rows))
			})
		})
	}
}

// A released row that looks like a lock is taken without having been seen. These look like one in all but one
// attribute: they have the very lease of the client, or come from this library.
func TestAReleasedRowThatIsNoLockIsNotTakenUnseen(t *testing.T) {
	for dialect, theirs := range map[dynalock.Dialect]attributes{
		dynalock.DialectAWSLabs: javaRow("version"), dynalock.DialectDynamolock: goRow("go", "version"),
	} {
		t.Run(dialect.String(), func(t *testing.T) {
			onServer(t, func(e *env) {
				c, _ := e.client(func(o *dynalock.Options) { o.Dialect = dialect })
				must(e, e.acquire(c, "ours").Release(e.ctx))
				ours := with(e.item("ours"), attributes{"key": nil})
				for name, row := range map[string]attributes{
					"theirs, data S":     with(theirs, attributes{"data": s("text")}),
					"theirs, owner N":    with(theirs, attributes{"ownerName": n("1")}),
					"theirs, no version": with(theirs, attributes{"recordVersionNumber": nil}),
					"ours, data S":       with(ours, attributes{"data": s("text")}),
					"ours, owner N":      with(ours, attributes{"ownerName": n("1")}),
					"ours, token S":      with(ours, attributes{"fencingToken": s("17")}),
					"ours, another's version": with(ours,
						attributes{"recordVersionNumber": s("theirs"), "leaseDuration": s("5 bananas")}),
					"ours, another's lease": with(ours, attributes{"recordVersionNumber": s("theirs"), "leaseDuration": s("99")}),
				} {
					e.put(name, with(row, attributes{"isReleased": s("1")}))
					before := e.item(name)
					_, err := c.TryAcquire(e.ctx, name)
					check(e, errors.Is(err, dynalock.ErrForeign), "%s: %v", name, err)
					check(e, reflect.DeepEqual(e.item(name), before), "%s was changed to %v", name, e.item(name))
				}
			})
		})
	}
}

func TestARowOfAnotherLibraryIsALockEvenWithAttributesOfItsOwn(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long)
		for key, row := range map[string]attributes{
			"java": javaRow("5d1e8a1c-0000-4000-8000-000000000000"),
			"go":   goRow("go", "v3RsI0n0fTh3dYn4m0l0ckR0wXXXXXXX"),
			"extra": with(goRow("go", "v"),
				attributes{"team": s("billing"), "reason": n("1"), "waiters": s("many"), "acquiredAt": s("noon")}),
			"data":       with(javaRow("v"), attributes{"data": b("payload")}),
			"free":       with(javaRow("v"), attributes{"isReleased": s("1")}),
			"other free": with(goRow("go", "v"), attributes{"isReleased": s("1"), "leaseDuration": s("1h30m")}),
			"no owner":   with(goRow("", "v"), attributes{"ownerName": nil}),
		} {
			e.put(key, row)
			r, err := c.Get(e.ctx, key)
			must(e, err)
			want := dynalock.Held
			if row["isReleased"] != nil {
				want = dynalock.Free
			}
			check(e, r.State == want && r.Problem == "", "%s: %+v", key, r)
			l, err := c.TryAcquire(e.ctx, key)
			check(e, (err == nil) == (want == dynalock.Free), "TryAcquire of %s: %v", key, err)
			if err == nil {
				check(e, l.Token() > 0, "token %d", l.Token())
			} else {
				wantErr(e, err, dynalock.ErrHeld)
			}
			if key == "extra" {
				check(e, text(e.item(key)["team"]) == "billing", "their attribute is gone: %v", e.item(key))
			}
		}
	})
}

// takenByDynamolock makes of our row what dynamolock makes of it when it takes the lock over: it copies what it does
// not know.
func takenByDynamolock(row attributes, version string) attributes {
	return with(row, attributes{
		"ownerName": s("dynamolock"), "leaseDuration": s(lease.String()), "recordVersionNumber": s(version),
		"isReleased": nil,
	})
}

func TestAttributesOfOursAreIgnoredInARowThatDynamolockTookOver(t *testing.T) {
	onServer(t, func(e *env) {
		ours, _ := e.client()
		l := e.acquire(ours, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat, o.Reason = true, "our reason" })
		<-l.Done()
		row := e.item("key")
		check(e, row["expiresAt"] != nil && row["stampedVersion"] != nil, "our row is %v", row)
		skewed, _ := e.client(func(o *dynalock.Options) { o.MaxClockSkew = time.Millisecond })
		for beat := range 8 { // alive: its version changes, and our old expiry lies ever further back
			e.put("key", takenByDynamolock(row, fmt.Sprint("theirs ", beat)))
			r, err := skewed.Get(e.ctx, "key")
			must(e, err)
			check(e, r.State == dynalock.Held && r.Owner == "dynamolock" && r.Token == l.Token(), "%+v", r)
			check(e, r.ExpiresAt.IsZero() && r.AcquiredAt.IsZero() && r.RenewedAt.IsZero() && r.Reason == "" && r.Waiters == 0,
				"believed: %+v", r)
			_, err = skewed.TryAcquire(e.ctx, "key")
			wantErr(e, err, dynalock.ErrHeld)
			time.Sleep(lease / 4)
		}
		// Dead: taken after its lease, by observation alone, and the token counts on.
		e.put("key", takenByDynamolock(row, "their last"))
		start := time.Now()
		next := e.acquire(skewed, "key")
		check(e, time.Since(start) >= lease, "taken after %v", time.Since(start))
		check(e, next.Token() == l.Token()+1, "token %d after %d", next.Token(), l.Token())
	})
}
