package dynalocktest

import (
	"maps"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/engine"
)

// Usage is what the clients of a server have used since it was made or since ResetUsage.
type Usage struct {
	// Requests counts the requests that were sent, by operation ("UpdateItem"), also those that a fault kept from being
	// applied.
	Requests map[string]int
	// ReadUnits and WriteUnits are the capacity units consumed, whether or not a request asked for ReturnConsumedCapacity.
	ReadUnits, WriteUnits float64
}

// Total is the number of requests of all operations.
func (u Usage) Total() int {
	n := 0
	for _, count := range u.Requests {
		n += count
	}
	return n
}

// Usage returns the requests and units since the server was made, or since ResetUsage.
func (s *Server) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usage
	u.Requests = maps.Clone(u.Requests)
	if u.Requests == nil {
		u.Requests = map[string]int{}
	}
	return u
}

// ResetUsage starts to count from zero.
func (s *Server) ResetUsage() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.usage = Usage{}
}

func (u *Usage) count(operation string) {
	if u.Requests == nil {
		u.Requests = map[string]int{}
	}
	u.Requests[operation]++
}

func (u *Usage) consume(a engine.Applied) {
	u.ReadUnits += a.Read
	u.WriteUnits += a.Write
}
