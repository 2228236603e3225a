package dynalock_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/internal/testserver"
)

// handle takes fields of a handle away, as if an older version had written it, or sets them.
func handle(tb testing.TB, l *dynalock.Lock, set map[string]any) string {
	tb.Helper()
	b, err := base64.RawURLEncoding.DecodeString(l.Handle())
	must(tb, err)
	fields := map[string]any{}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	must(tb, d.Decode(&fields))
	for name, v := range set {
		if fields[name] = v; v == nil {
			delete(fields, name)
		}
	}
	b, err = json.Marshal(fields)
	must(tb, err)
	return base64.RawURLEncoding.EncodeToString(b)
}

// oldHandle is the handle of l as a version wrote it that did not name the table.
func oldHandle(tb testing.TB, l *dynalock.Lock) string {
	tb.Helper()
	return handle(tb, l, map[string]any{"n": nil, "s": nil, "o": nil})
}

func TestAHandleOfAnotherTableIsRefusedAndNamesBoth(t *testing.T) {
	virtual(t, func(e *env) {
		must(e, dynalock.CreateTable(e.ctx, e.connect(), "other"))
		c, _ := e.client()
		l := e.acquire(c, "key")
		other, err := dynalock.New(e.connect(), "other")
		must(e, err)
		defer func() { must(e, other.Close(e.ctx)) }()
		_, err = other.Resume(e.ctx, l.Handle())
		wantErr(e, err, dynalock.ErrInvalid)
		check(e, strings.Contains(err.Error(), `"locks"`) && strings.Contains(err.Error(), `"other"`), "it says: %v", err)
		check(e, l.Held(), "the lock is %v", l.Err())
		_, err = other.Resume(e.ctx, oldHandle(e, l))
		wantErr(e, err, dynalock.ErrLost)
		check(e, strings.Contains(err.Error(), "no such item"), "it says: %v", err)
	})
}

func TestAHandleOfAnotherSortValueIsRefused(t *testing.T) {
	t.Parallel()
	inBubble(t, "kind", func(e *env) {
		c, _ := e.client()
		l := e.acquire(c, "key")
		other, _ := e.client(func(o *dynalock.Options) { o.SortValue = "other" })
		_, err := other.Resume(e.ctx, l.Handle())
		wantErr(e, err, dynalock.ErrInvalid)
		check(e, strings.Contains(err.Error(), `"lock"`) && strings.Contains(err.Error(), `"other"`), "it says: %v", err)
		_, err = c.Resume(e.ctx, l.Handle())
		must(e, err)
	})
}

// A name may stand for an ARN, and the replicas of a strongly consistent table differ in the Region alone.
func TestATablesNameAndItsARNAreOneTableAndAnotherAccountsIsNot(t *testing.T) {
	const (
		arn      = "arn:aws:dynamodb:eu-west-1:111111111111:table/locks"
		replica  = "arn:aws:dynamodb:eu-north-1:111111111111:table/locks"
		stranger = "arn:aws:dynamodb:eu-west-1:222222222222:table/locks"
		another  = "arn:aws:dynamodb:eu-west-1:111111111111:table/locks2"
	)
	for _, tt := range []struct {
		handle string
		client string
		same   bool
	}{
		{"locks", "locks", true},
		{arn, "locks", true},
		{"locks", arn, true},
		{arn, arn, true},
		{arn, replica, true},
		{arn, stranger, false},
		{arn, another, false},
		{"locks", another, false},
		{"locks2", "locks", false},
		{"arn:aws:dynamodb", "locks", false},
	} {
		virtually(t, tt.handle+" at "+tt.client, func(e *env) {
			c, _ := e.client()
			text := handle(e, e.acquire(c, "key"), map[string]any{"n": tt.handle})
			named, err := dynalock.New(refusing{row: goRow("somebody", "version")}, tt.client)
			must(e, err)
			_, err = named.Resume(e.ctx, text)
			want := dynalock.ErrInvalid
			if tt.same {
				want = dynalock.ErrLost // it was asked for
			}
			wantErr(e, err, want)
			must(e, named.Close(e.ctx))
		})
	}
}

func virtually(t *testing.T, name string, test func(e *env)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { virtual(t, test) })
}

func TestAHandleWithoutATableIsResumedAsBefore(t *testing.T) {
	onServerWithSortKey(t, "kind", func(e *env) {
		c, _ := e.client()
		l := e.acquire(c, "key")
		resumed, err := c.Resume(e.ctx, oldHandle(e, l))
		must(e, err)
		check(e, resumed.Held() && resumed.Token() > l.Token(), "held %v, token %d after %d", resumed.Held(), resumed.Token(),
			l.Token())
	})
}

func TestTheHandleOfARunIsRefusedAndTheRunGoesOn(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client()
		other, wire := e.client()
		run, err := c.Once(e.ctx, "job", "period", func(_ context.Context, l *dynalock.Lock) error {
			before := wire.Count()
			_, err := other.Resume(e.ctx, l.Handle())
			wantErr(e, err, dynalock.ErrInvalid)
			check(e, strings.Contains(err.Error(), "Once") && wire.Count() == before, "%d requests, and it says: %v",
				wire.Count()-before, err)
			return l.Renew(e.ctx)
		})
		must(e, err)
		check(e, run.Ran && !run.FinishedAt.IsZero(), "%+v", run)
		run, err = other.Once(e.ctx, "job", "period", func(context.Context, *dynalock.Lock) error { return nil })
		must(e, err)
		check(e, !run.Ran && !run.FinishedAt.IsZero(), "it ran again: %+v", run)
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
	// null
	f.Add("bnVsbA")
	// {}
	f.Add("e30")
	// an id that is too short
	f.Add("eyJ2IjoxLCJrIjoieCIsImkiOiIwMTIzIiwibCI6MTAwMH0")
	// well formed, of no tenure
	f.Add("eyJ2IjoxLCJrIjoieCIsImkiOiIwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZiIsImwiOjEwMDB9")
	// a lease and a dialect that cannot be
	f.Add("eyJ2IjoxLCJrIjoieCIsImkiOiIwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZiIsImwiOjkyMjMzNzIwMzY4NTQ3NzU4MDcsImQiOi0xfQ")
	// another format
	f.Add("eyJ2IjoyLCJrIjoieCIsImkiOiIwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZiIsImwiOjEwMDB9")
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

func TestResumeContinuesInAnotherProcessAndTheOldCopyIsInert(t *testing.T) {
	onServer(t, func(e *env) {
		c1, _ := e.client()
		c2, _ := e.client()
		l := e.acquire(c1, "key", func(o *dynalock.AcquireOptions) { o.Data = []byte("step 1") })
		must(e, l.Renew(e.ctx))
		l2, err := c2.Resume(e.ctx, l.Handle())
		must(e, err)
		check(e, l2.Held() && l2.Token() > l.Token() && string(l2.Data()) == "step 1", "held %v, token %d after %d, data %q",
			l2.Held(), l2.Token(), l.Token(), l2.Data())
		wantErr(e, l.Renew(e.ctx), dynalock.ErrLost)
		check(e, !l.Held(), "the old copy is not inert")
		wantErr(e, l.Release(e.ctx), dynalock.ErrLost)
		time.Sleep(2 * lease)
		check(e, l2.Held(), "lost: %v", l2.Err())
		must(e, l2.Release(e.ctx))
		_, err = c1.Resume(e.ctx, l2.Handle())
		wantErr(e, err, dynalock.ErrLost)
	})
}

// dynamolock copies the token that it does not know, so the token alone names no tenure.
func TestAHandleIsOfNoUseForALockThatDynamolockTookOver(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long)
		l := e.acquire(c, "key")
		row := takenByDynamolock(e.item("key"), "theirs")
		e.put("key", row)
		other, _ := e.client(long)
		_, err := other.Resume(e.ctx, l.Handle())
		wantErr(e, err, dynalock.ErrLost)
		check(e, reflect.DeepEqual(e.item("key"), row), "the row of a live holder became %v", e.item("key"))
	})
}

func TestAResumeThatGivesUpInDoubtLeavesNobodysTenure(t *testing.T) {
	for name, tt := range map[string]struct {
		lost int           // answers
		wait time.Duration // of the caller
		want error
	}{
		"after its attempts": {3, time.Minute, dynalock.ErrStore},
		// the answer takes 2 ms, the next attempt follows 10 ms later
		"between two": {1, 5 * time.Millisecond, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, _ := e.client(long)
				l := e.acquire(c, "key")
				other, wire := e.client(long)
				wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: tt.lost})
				_, err := other.Resume(e.within(tt.wait), l.Handle())
				wantErr(e, err, tt.want)
				wantErr(e, err, dynalock.ErrStore)
				time.Sleep(time.Second)
				check(e, text(e.item("key")["isReleased"]) == "1", "a second later, of a lease of a minute, nobody holds %v",
					e.item("key"))
			})
		})
	}
}

func TestACopyInTheSameClientIsEndedBeforeResumeReturns(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		old := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.Lease = 50 * time.Second })
		l, err := c.Resume(e.ctx, old.Handle())
		must(e, err)
		before := wire.Count()
		check(e, !old.Held() && old.Context().Err() != nil, "the old copy is held")
		wantErr(e, old.Err(), dynalock.ErrLost)
		wantErr(e, old.Renew(e.ctx), dynalock.ErrLost)
		check(e, wire.Count() == before, "%d requests of a copy that is over", wire.Count()-before)
		check(e, l.Held(), "not held: %v", l.Err())
		check(e, text(e.item("key")["leaseDuration"]) == "50000", "the lease became %v", text(e.item("key")["leaseDuration"]))
	})
}

func TestAHandleOfAnotherNamespaceIsRefusedAndOneOfAWiderIsNot(t *testing.T) {
	virtual(t, func(e *env) {
		in := func(namespace string) *dynalock.Client {
			c, _ := e.client(func(o *dynalock.Options) { o.Namespace = namespace })
			return c
		}
		l := e.acquire(in("a/"), "key")
		_, err := in("b/").Resume(e.ctx, l.Handle())
		wantErr(e, err, dynalock.ErrInvalid)
		m, err := in("").Resume(e.ctx, l.Handle())
		must(e, err)
		check(e, m.Key() == "a/key" && m.Token() > l.Token(), "key %q, token %d after %d", m.Key(), m.Token(), l.Token())
	})
}
