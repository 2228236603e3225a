// Package httpfence carries fencing tokens over HTTP. The holder of a lock sends its token with every request. The
// service rejects requests whose token is smaller than one that it has seen for the same key. That is the recipe "fence
// <= :token" of Martin Kleppmann's essay on distributed locking, as a middleware.
//
// The middleware decides when a request comes in. A request that was let in and is slow can still write after a newer
// holder. If that matters, let the handler pass the token ([Token]) on to the write itself.
package httpfence

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
)

// The headers that carry the key, escaped as by url.QueryEscape because a header cannot carry every key, and the token
// in decimal.
const (
	HeaderKey   = "Dynalock-Key"
	HeaderToken = "Dynalock-Token"
)

// ErrStale says that a request's token is smaller than one seen before.
var ErrStale = errors.New("httpfence: stale fencing token")

// Sign puts the lock's key and token on a request.
func Sign(r *http.Request, l *dynalock.Lock) {
	r.Header.Set(HeaderKey, url.QueryEscape(l.Key()))
	r.Header.Set(HeaderToken, strconv.FormatUint(l.Token(), 10))
}

// Store remembers the largest token of every key.
type Store interface {
	// Advance remembers token. If a larger token was seen for key, it remembers nothing, and the error matches ErrStale.
	Advance(ctx context.Context, key string, token uint64) error
}

// Memory is a Store for one process. Its tokens are lost when the process ends. The zero value is ready for use.
type Memory struct {
	mu      sync.Mutex
	highest map[string]uint64
}

// Advance implements Store.
func (m *Memory) Advance(_ context.Context, key string, token uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if token < m.highest[key] {
		return fmt.Errorf("%w: %d of %q, after %d", ErrStale, token, key, m.highest[key])
	}
	if m.highest == nil {
		m.highest = map[string]uint64{}
	}
	m.highest[key] = token
	return nil
}

// Updater is the part of *dynamodb.Client that [Table] calls.
type Updater interface {
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
}

// Table is a Store for all processes of a service: one item for each key in a table of its own, with a string
// partition key "key". A request costs one write unit.
type Table struct {
	DB   Updater
	Name string
}

// condNotStale lets equal tokens pass: a holder makes many requests.
const condNotStale = "attribute_not_exists(#fence) OR #fence <= :token"

// Advance implements Store.
func (t *Table) Advance(ctx context.Context, key string, token uint64) error {
	cond, update := condNotStale, "SET #fence = :token"
	_, err := t.DB.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                 &t.Name,
		Key:                       map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: key}},
		ConditionExpression:       &cond,
		UpdateExpression:          &update,
		ExpressionAttributeNames:  map[string]string{"#fence": "fence"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":token": &types.AttributeValueMemberN{Value: strconv.FormatUint(token, 10)}},
	})
	if _, refused := errors.AsType[*types.ConditionalCheckFailedException](err); refused {
		return fmt.Errorf("%w: %d of %q", ErrStale, token, key)
	}
	return err
}

type tokenKey struct{}

// Token is the fencing token of the request that ctx belongs to, for the handler's own writes.
func Token(ctx context.Context) (token uint64, ok bool) {
	token, ok = ctx.Value(tokenKey{}).(uint64)
	return token, ok
}

// Middleware rejects
//
//   - requests without a key and a token (status 400),
//   - requests with a stale token (409),
//   - all requests while the store returns errors (503).
//
// The others go to the handler, with the token in their context.
func Middleware(s Store, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, err1 := url.QueryUnescape(r.Header.Get(HeaderKey))
		token, err2 := strconv.ParseUint(r.Header.Get(HeaderToken), 10, 64)
		if err1 != nil || key == "" || !utf8.ValidString(key) || err2 != nil || token == 0 {
			http.Error(w, fmt.Sprintf("%s and %s are %q and %q, allowed: the escaped key and the fencing token of a lock",
				HeaderKey, HeaderToken, r.Header.Get(HeaderKey), r.Header.Get(HeaderToken)), http.StatusBadRequest)
			return
		}
		switch err := s.Advance(r.Context(), key, token); {
		case errors.Is(err, ErrStale):
			http.Error(w, err.Error(), http.StatusConflict)
		case err != nil:
			http.Error(w, "the fencing tokens cannot be checked", http.StatusServiceUnavailable)
		default:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tokenKey{}, token)))
		}
	})
}
