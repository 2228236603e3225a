package dynalocktest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/engine"
)

// TB is what Start needs of a test. *testing.T, *testing.B and *testing.F implement it.
type TB interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Start makes a server for a test, with an empty table of this name, whose partition key is a string called "key" and
// which has no sort key. If the name is empty, it makes no table: dynalock.CreateTable makes one of another shape.
//
//	db := dynalocktest.Start(t, "locks").Client()
//
// The server is closed when the test ends, after the cleanups that were registered later and after everything that was
// deferred. A test that leaves a lock held then fails, with the lock's key and owner: it has forgotten to call Release,
// or Close on its client, whose goroutines live on. It does not fail for that if ServerOptions.LeaveLocks is set, or if
// it has failed before. A lock counts as held until it is released or deleted, or until its lease has expired since it
// was last written. It does not matter which of the libraries that share the table's format wrote it.
func Start(t TB, table string, optFns ...func(*ServerOptions)) *Server {
	t.Helper()
	s := NewServer(optFns...)
	s.mu.Lock()
	s.held = map[string]heldLock{}
	s.mu.Unlock()
	t.Cleanup(func() {
		t.Helper()
		s.Close()
		if left := s.stillHeld(); len(left) > 0 && !s.opts.LeaveLocks && !t.Failed() {
			t.Errorf("dynalocktest: at the end of the test %s. Call Release on the lock or Close on its client; "+
				"where a test leaves locks on purpose, set ServerOptions.LeaveLocks.", strings.Join(left, ", and "))
		}
	})
	if table != "" {
		if err := s.createTable(table); err != nil {
			t.Fatalf("dynalocktest: no table %q: %v", table, err)
		}
	}
	return s
}

// createTable makes a table of locks. That is no request of a client.
func (s *Server) createTable(table string) error {
	type pair map[string]any
	body, err := json.Marshal(pair{
		"TableName":            table,
		"BillingMode":          "PAY_PER_REQUEST",
		"AttributeDefinitions": []pair{{"AttributeName": "key", "AttributeType": "S"}},
		"KeySchema":            []pair{{"AttributeName": "key", "KeyType": "HASH"}},
	})
	if err != nil {
		return err
	}
	call, failed := s.engine.Prepare("CreateTable", body)
	if failed != nil {
		return failed
	}
	if status, answer := call.Apply(func(engine.Applied) {}); status != http.StatusOK {
		return fmt.Errorf("%s", answer)
	}
	return nil
}

// heldLock is a lock that was not released since it was last written.
type heldLock struct {
	table, key, owner string
	lease             time.Duration
	at                time.Time // of the last write
}

// heldLockOf reads a written item as a lock that is held, by the attributes that dynalock, dynamolock and the AWS Labs
// Java client share.
func heldLockOf(w Write) (l heldLock, ok bool) {
	text := func(name string) string {
		if v := w.new[name]; v.Kind == attr.S {
			return v.Str
		}
		return ""
	}
	if text("recordVersionNumber") == "" || text("isReleased") == "1" {
		return l, false
	}
	lease, err := time.ParseDuration(text("leaseDuration"))
	if err != nil {
		lease, err = time.ParseDuration(text("leaseDuration") + "ms")
	}
	return heldLock{w.Table, w.Key, text("ownerName"), lease, time.Now()}, err == nil
}

// watch keeps account of the locks that a write left held. It runs under s.mu.
func (s *Server) watch(w Write) {
	if s.held == nil {
		return
	}
	if l, ok := heldLockOf(w); ok {
		s.held[w.id] = l
	} else {
		delete(s.held, w.id)
	}
}

// stillHeld describes the locks that are held, in order.
func (s *Server) stillHeld() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.held {
		if time.Since(l.at) < l.lease {
			list = append(list, fmt.Sprintf("the lock %q of table %q is still held by %q", l.key, l.table, l.owner))
		}
	}
	slices.Sort(list)
	return list
}
