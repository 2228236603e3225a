package dynalock_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/dynalock/dynalock/dynalock"
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
		check(e, resumed.Held() && resumed.Token() > l.Token(), "held %v, token %d after %d", resumed.Held(), resumed.Token(), l.Token())
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
			check(e, strings.Contains(err.Error(), "Once") && wire.Count() == before, "%d requests, and it says: %v", wire.Count()-before, err)
			return l.Renew(e.ctx)
		})
		must(e, err)
		check(e, run.Ran && !run.FinishedAt.IsZero(), "%+v", run)
		run, err = other.Once(e.ctx, "job", "period", func(context.Context, *dynalock.Lock) error { return nil })
		must(e, err)
		check(e, !run.Ran && !run.FinishedAt.IsZero(), "it ran again: %+v", run)
	})
}
