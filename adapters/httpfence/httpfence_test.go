package httpfence_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"go.uber.org/goleak"

	"github.com/dynalock/dynalock/adapters/httpfence"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func TestEveryKeyHasAFenceOfItsOwnOnTheWire(t *testing.T) {
	srv := dynalocktest.NewServer()
	t.Cleanup(srv.Close)
	if err := dynalock.CreateTable(t.Context(), srv.Client(), "locks"); err != nil {
		t.Fatal(err)
	}
	c, err := dynalock.New(srv.Client(), "locks")
	if err != nil {
		t.Fatal(err)
	}
	store := recorder{}
	service := httptest.NewServer(
		httpfence.Middleware(store, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	t.Cleanup(service.Close)
	keys := []string{"key", "key ", " key", "key\n", "a\x00b", "a+b", "a b", "50%", "orders/42", "ключ"}
	for _, key := range keys {
		l, err := c.Acquire(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, service.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		httpfence.Sign(r, l)
		resp, err := service.Client().Do(r)
		if err != nil {
			t.Errorf("key %q: %v", key, err)
			continue
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if resp.StatusCode != http.StatusOK || store[key] != l.Token() {
			t.Errorf("key %q: status %d, fences %v", key, resp.StatusCode, store)
		}
	}
	if len(store) != len(keys) {
		t.Errorf("%d fences for %d keys: %v", len(store), len(keys), store)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// recorder is a Store that lets everything pass.
type recorder map[string]uint64

func (r recorder) Advance(_ context.Context, key string, token uint64) error {
	r[key] = token
	return nil
}

type broken struct{}

func (broken) UpdateItem(
	context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options),
) (*dynamodb.UpdateItemOutput, error) {
	return nil, errors.New("no network")
}

func TestNothingPassesUnchecked(t *testing.T) {
	h := httpfence.Middleware(&httpfence.Table{DB: broken{}, Name: "fences"},
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
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
	for _, key := range []string{"", "%", "%zz", "%ff"} {
		if got := send(t, h, func(r *http.Request) {
			r.Header.Set(httpfence.HeaderKey, key)
			r.Header.Set(httpfence.HeaderToken, "7")
		}); got != http.StatusBadRequest {
			t.Errorf("key %q gives %d", key, got)
		}
	}
}
