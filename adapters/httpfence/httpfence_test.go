package httpfence_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/dynalock/dynalock/adapters/httpfence"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func send(t *testing.T, h http.Handler, sign func(*http.Request)) int {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
	sign(r)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

func TestARequestOfAnEarlierHolderIsRefused(t *testing.T) {
	srv := dynalocktest.NewServer()
	t.Cleanup(srv.Close)
	for _, table := range []string{"locks", "fences"} {
		if err := dynalock.CreateTable(t.Context(), srv.Client(), table); err != nil {
			t.Fatal(err)
		}
	}
	for name, store := range map[string]httpfence.Store{
		"memory": &httpfence.Memory{}, "table": &httpfence.Table{DB: srv.Client(), Name: "fences"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := dynalock.New(srv.Client(), "locks", func(o *dynalock.Options) { o.Namespace = name })
			if err != nil {
				t.Fatal(err)
			}
			var tokens []uint64
			h := httpfence.Middleware(store, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				token, _ := httpfence.Token(r.Context())
				tokens = append(tokens, token)
			}))
			hold := func() *dynalock.Lock {
				l, err := c.Acquire(t.Context(), "key")
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
				return l
			}
			old, young := hold(), hold()
			for _, step := range []struct {
				l    *dynalock.Lock
				want int
			}{{old, 200}, {old, 200}, {young, 200}, {old, 409}, {young, 200}} {
				if got := send(t, h, func(r *http.Request) { httpfence.Sign(r, step.l) }); got != step.want {
					t.Errorf("token %d gets %d, want %d", step.l.Token(), got, step.want)
				}
			}
			if len(tokens) != 4 || tokens[0] != old.Token() || tokens[3] != young.Token() {
				t.Errorf("the handler saw %v", tokens)
			}
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

type broken struct{}

func (broken) UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return nil, errors.New("no network")
}

func TestNothingPassesUnchecked(t *testing.T) {
	h := httpfence.Middleware(&httpfence.Table{DB: broken{}, Name: "fences"}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the handler was called")
	}))
	if got := send(t, h, func(r *http.Request) {
		r.Header.Set(httpfence.HeaderKey, "key")
		r.Header.Set(httpfence.HeaderToken, "7")
	}); got != http.StatusServiceUnavailable {
		t.Errorf("a broken store gives %d", got)
	}
	for _, token := range []string{"", "x", "-1", "0"} {
		if got := send(t, h, func(r *http.Request) {
			r.Header.Set(httpfence.HeaderKey, "key")
			r.Header.Set(httpfence.HeaderToken, token)
		}); got != http.StatusBadRequest {
			t.Errorf("token %q gives %d", token, got)
		}
	}
}
