package httpfence_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/dynalock/dynalock/adapters/httpfence"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

var ctx = context.Background()

func fatal(err error) {
	if err != nil {
		panic(err)
	}
}

// open is a client on an embedded server. A program makes its own with dynamodb.NewFromConfig.
func open() (*dynalocktest.Server, *dynalock.Client) {
	server := dynalocktest.NewServer()
	for _, table := range []string{"locks", "fences"} {
		fatal(dynalock.CreateTable(ctx, server.Client(), table))
	}
	locks, err := dynalock.New(server.Client(), "locks")
	fatal(err)
	return server, locks
}

// post sends a request of a lock's holder, and gives the status of the answer.
func post(service *httptest.Server, l *dynalock.Lock) string {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, service.URL, http.NoBody)
	fatal(err)
	httpfence.Sign(r, l)
	answer, err := service.Client().Do(r)
	fatal(err)
	fatal(answer.Body.Close())
	return answer.Status
}

// A service rejects the request of a holder whose successor has already sent one.
func ExampleMiddleware() {
	server, locks := open()
	defer server.Close()
	defer locks.Close(ctx) //nolint:errcheck // as short as the code of a document is
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	service := httptest.NewServer(httpfence.Middleware(&httpfence.Table{DB: server.Client(), Name: "fences"}, handler))
	defer service.Close()

	early, err := locks.Acquire(ctx, "account")
	fatal(err)
	fatal(early.Release(ctx))
	late, err := locks.Acquire(ctx, "account")
	fatal(err)
	fmt.Println(post(service, late))
	fmt.Println(post(service, early))
	// Output:
	// 200 OK
	// 409 Conflict
}

// The holder signs its requests.
func ExampleSign() {
	server, locks := open()
	defer server.Close()
	defer locks.Close(ctx) //nolint:errcheck // as short as the code of a document is
	l, err := locks.Acquire(ctx, "orders/42")
	fatal(err)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://service.example/", http.NoBody)
	fatal(err)
	httpfence.Sign(r, l)
	fmt.Println(r.Header.Get(httpfence.HeaderKey), r.Header.Get(httpfence.HeaderToken) != "")
	// Output: orders%2F42 true
}

// The handler passes the token on to its own write, which rejects it once more: "... WHERE fence <= :token".
func ExampleToken() {
	server, locks := open()
	defer server.Close()
	defer locks.Close(ctx) //nolint:errcheck // as short as the code of a document is
	l, err := locks.Acquire(ctx, "account")
	fatal(err)
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		token, ok := httpfence.Token(r.Context())
		fmt.Println(token == l.Token(), ok)
	})
	service := httptest.NewServer(httpfence.Middleware(&httpfence.Memory{}, handler))
	defer service.Close()
	fmt.Println(post(service, l))
	// Output:
	// true true
	// 200 OK
}
