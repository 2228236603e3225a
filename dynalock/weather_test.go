package dynalock_test

import (
	"context"
	"sync"

	"github.com/dynalock/dynalock/dynalock"
)

// observed collects events.
type observed struct {
	mu     sync.Mutex
	events []dynalock.Event
}

func (o *observed) Observe(_ context.Context, e dynalock.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
}

// of lists the events of a kind.
func (o *observed) of(kind dynalock.EventKind) []dynalock.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []dynalock.Event
	for _, e := range o.events {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}
