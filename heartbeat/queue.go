package heartbeat

import (
	"container/heap"
	"time"
)

// queue orders leases by a time, the earliest first. A lease knows its place in the queue (-1: none), so that it can be
// moved and removed.
type queue struct {
	leases []*Lease
	key    func(*Lease) time.Duration
	place  func(*Lease) *int
}

func (q *queue) first() *Lease { return q.leases[0] }

// put adds l, or moves it to where its key now belongs.
func (q *queue) put(l *Lease) {
	if i := *q.place(l); i >= 0 {
		heap.Fix(q, i)
		return
	}
	heap.Push(q, l)
}

func (q *queue) remove(l *Lease) {
	if i := *q.place(l); i >= 0 {
		heap.Remove(q, i)
	}
}

// The methods of heap.Interface.

func (q *queue) Len() int           { return len(q.leases) }
func (q *queue) Less(i, j int) bool { return q.key(q.leases[i]) < q.key(q.leases[j]) }

func (q *queue) Swap(i, j int) {
	q.leases[i], q.leases[j] = q.leases[j], q.leases[i]
	*q.place(q.leases[i]), *q.place(q.leases[j]) = i, j
}

func (q *queue) Push(x any) {
	l := x.(*Lease)
	*q.place(l) = len(q.leases)
	q.leases = append(q.leases, l)
}

func (q *queue) Pop() any {
	last := len(q.leases) - 1
	l := q.leases[last]
	q.leases[last] = nil
	q.leases = q.leases[:last]
	*q.place(l) = -1
	return l
}
