package dynalock_test

import (
	"context"
	"errors"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/internal/testserver"
)

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
	f.Add("o", "86400000", own, "1", "", "18446744073709551614", own, "99999999999999999999", []byte{0, 0, 0, 0, 7, 7, 0, 1})
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
			{[]string{"acquiredAt", "renewedAt", "expiresAt", "reason", "holdAverage", "waiters", "releasedBy", "ttl"}[len(extra)%8], extra},
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
			check(t, l.Token() > r.Token && text(stored(t)["fencingToken"]) == strconv.FormatUint(l.Token(), 10), "token %d after %d, stored %v", l.Token(), r.Token, text(stored(t)["fencingToken"]))
			check(t, string(l.Data()) == string(r.Data), "data %q of %q", l.Data(), r.Data)
			now, err := c.Get(ctx, "key")
			must(t, err)
			check(t, now.State == dynalock.Held && now.Owner == c.Options().Owner, "after an acquire: %+v", now)
			must(t, l.Release(ctx))
		}
	})
}

// FuzzHandle passes any text as a handle: it is an error, and never a panic. What is no handle sends no request; what
// looks like one, but names no tenure, changes nothing.
func FuzzHandle(f *testing.F) {
	ctx := context.Background()
	srv := dynalocktest.NewServer()
	f.Cleanup(srv.Close)
	must(f, dynalock.CreateTable(ctx, srv.Client(), "locks"))
	db, wire := testserver.Tap(srv.Client())
	c, err := dynalock.New(db, "locks")
	must(f, err)
	f.Cleanup(func() { must(f, c.Close(ctx)) })
	l, err := c.Acquire(ctx, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat, o.Lease = true, 24*time.Hour })
	must(f, err)
	genuine := l.Handle()
	f.Add("")
	f.Add("no handle")
	f.Add(genuine[:len(genuine)-1])
	f.Add(genuine + "x")
	f.Add("bnVsbA")                                                                                                             // null
	f.Add("e30")                                                                                                                // {}
	f.Add("eyJ2IjoxLCJrIjoieCIsImkiOiIwMTIzIiwibCI6MTAwMH0")                                                                    // an id that is too short
	f.Add("eyJ2IjoxLCJrIjoieCIsImkiOiIwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZiIsImwiOjEwMDB9")                               // well formed, of no tenure
	f.Add("eyJ2IjoxLCJrIjoieCIsImkiOiIwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZiIsImwiOjkyMjMzNzIwMzY4NTQ3NzU4MDcsImQiOi0xfQ") // a lease and a dialect that cannot be
	f.Add("eyJ2IjoyLCJrIjoieCIsImkiOiIwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZiIsImwiOjEwMDB9")                               // another format
	f.Fuzz(func(t *testing.T, text string) {
		if text == genuine {
			t.Skip()
		}
		before := wire.Count()
		_, err := c.Resume(ctx, text)
		switch {
		case errors.Is(err, dynalock.ErrInvalid):
			check(t, wire.Count() == before, "%d requests for %q", wire.Count()-before, text)
		default:
			wantErr(t, err, dynalock.ErrLost)
		}
		r, err := c.Get(ctx, "key")
		must(t, err)
		check(t, r.State == dynalock.Held && r.Token == l.Token(), "the lock became %+v", r)
	})
}

// The milliseconds overflow to one second.
func TestALeaseOfNegativeMillisecondsIsForeign(t *testing.T) {
	virtual(t, func(e *env) {
		e.put("key", map[string]types.AttributeValue{"recordVersionNumber": s("v"), "leaseDuration": s("-9223372036854774808"), "ownerName": s("x")})
		c, _ := e.client()
		_, err := c.Acquire(e.within(5*lease), "key")
		wantErr(e, err, dynalock.ErrForeign)
	})
}
