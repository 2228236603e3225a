package dynalocktest

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/engine"
)

// Request is one request as the server saw it.
type Request struct {
	Operation string // "UpdateItem"
	Client    string
	Table     string    // of the first item named
	Key       string    // the partition key of the first item named, as text; "" for requests on no item
	At        time.Time // by time.Now, whatever ServerOptions.ClockOffset is
	// Applied reports that the request reached the tables: it was executed, or the tables refused it. It is false for a
	// request that was lost, malformed, signed too long ago, or answered with an injected error.
	Applied bool
	// Error is the code of the error with which the tables, or an injected fault, answered; "" for success. If a stranger
	// answered, and the request was not applied, it is "HTTP 502", for example, with the status of the answer.
	Error string
	// Writes are the items that the request changed.
	Writes []Write
}

// Write is the change of one item.
type Write struct {
	Table, Key string
	id         string // of the item among those of all tables
	old, new   attr.Item
}

// Old is the item before the write; nil if there was none.
func (w Write) Old() map[string]types.AttributeValue { return sdkItem(w.old) }

// New is the item after the write; nil if it was deleted.
func (w Write) New() map[string]types.AttributeValue { return sdkItem(w.new) }

// Requests lists the last requests (see ServerOptions.History) in the order in which they were applied.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.history.list()
}

// request describes m, which has not been applied.
func (m *message) request(code string) Request {
	r := Request{Operation: m.name, Client: m.client, At: time.Now(), Error: code}
	if len(m.targets) > 0 {
		r.Table, r.Key = m.targets[0].Table, m.targets[0].Key
	}
	return r
}

// noteApplied writes down what the engine did with m. It runs under the engine's mutex, so the order is that of the
// applications.
func (s *Server) noteApplied(m *message, a engine.Applied) {
	r := m.request("")
	r.Applied = true
	if a.Err != nil {
		r.Error = a.Err.Code
	}
	if len(m.targets) == 0 && len(a.Writes) > 0 {
		r.Table, r.Key = a.Writes[0].Table, a.Writes[0].Key
	}
	for _, w := range a.Writes {
		r.Writes = append(r.Writes, Write{w.Table, w.Key, w.ID, w.Old, w.New})
	}
	s.mu.Lock()
	s.usage.consume(a)
	s.mu.Unlock()
	s.note(r)
}

func (s *Server) note(r Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range r.Writes {
		s.watch(w)
	}
	s.history.add(r)
	if s.opts.OnRequest != nil {
		s.opts.OnRequest(r)
	}
}

// history is a ring of the last requests.
type history struct {
	limit int
	ring  []Request
	next  int
}

func (h *history) add(r Request) {
	switch {
	case len(h.ring) < h.limit:
		h.ring = append(h.ring, r)
	case h.limit > 0:
		h.ring[h.next] = r
		h.next = (h.next + 1) % h.limit
	}
}

func (h *history) list() []Request {
	return append(append([]Request{}, h.ring[h.next:]...), h.ring[:h.next]...)
}

// sdkItem turns a stored item into the SDK's types.
func sdkItem(it attr.Item) map[string]types.AttributeValue {
	if it == nil {
		return nil
	}
	out := make(map[string]types.AttributeValue, len(it))
	for name, v := range it {
		out[name] = sdkValue(v)
	}
	return out
}

func sdkValue(v attr.Value) types.AttributeValue {
	switch v.Kind {
	case attr.S:
		return &types.AttributeValueMemberS{Value: v.Str}
	case attr.N:
		return &types.AttributeValueMemberN{Value: v.Str}
	case attr.B:
		return &types.AttributeValueMemberB{Value: []byte(v.Str)}
	case attr.BOOL:
		return &types.AttributeValueMemberBOOL{Value: v.Bool}
	case attr.SS:
		return &types.AttributeValueMemberSS{Value: append([]string{}, v.Set...)}
	case attr.NS:
		return &types.AttributeValueMemberNS{Value: append([]string{}, v.Set...)}
	case attr.BS:
		set := make([][]byte, len(v.Set))
		for i, e := range v.Set {
			set[i] = []byte(e)
		}
		return &types.AttributeValueMemberBS{Value: set}
	case attr.L:
		list := make([]types.AttributeValue, len(v.List))
		for i, e := range v.List {
			list[i] = sdkValue(e)
		}
		return &types.AttributeValueMemberL{Value: list}
	case attr.M:
		return &types.AttributeValueMemberM{Value: sdkItem(v.Map)}
	}
	return &types.AttributeValueMemberNULL{Value: true}
}
