package dynalock_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/internal/testserver"
)

// benchClient is a client on the embedded server, and the wire that counts its requests.
func benchClient(b *testing.B, optFns ...func(*dynalock.Options)) (*dynalock.Client, *testserver.Wire) {
	b.Helper()
	db, wire := benchStore(b)
	return benchOpen(b, db, optFns...), wire
}

func benchOpen(b *testing.B, db dynalock.DynamoDB, optFns ...func(*dynalock.Options)) *dynalock.Client {
	b.Helper()
	c, err := dynalock.New(db, "locks", optFns...)
	must(b, err)
	b.Cleanup(func() { _ = c.Close(context.WithoutCancel(b.Context())) })
	return c
}

func benchStore(b *testing.B) (dynalock.DynamoDB, *testserver.Wire) {
	b.Helper()
	// No history: it would be the better part of the heap.
	srv := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.History = -1 })
	b.Cleanup(srv.Close)
	db, wire := testserver.Tap(srv.Client())
	must(b, dynalock.CreateTable(b.Context(), db, "locks"))
	return db, wire
}

// What the code under a lock asks again and again.
func BenchmarkHeld(b *testing.B) {
	c, _ := benchClient(b)
	l, err := c.Acquire(b.Context(), "key")
	must(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if !l.Held() {
			b.Fatal("not held")
		}
	}
}

// The same while a heartbeat hangs: a lock that is held over a request would show here.
func BenchmarkHeldWhileAHeartbeatHangs(b *testing.B) {
	c, wire := benchClient(b, func(o *dynalock.Options) {
		o.Lease, o.Heartbeat, o.AttemptTimeout = 24*time.Hour, time.Millisecond, 12*time.Hour
	})
	l, err := c.Acquire(b.Context(), "key")
	must(b, err)
	hung := make(chan struct{})
	var once sync.Once
	defer wire.Inject(testserver.Fault{Kind: testserver.HangBefore, Match: func(string, []byte) bool {
		once.Do(func() { close(hung) })
		return true
	}})()
	<-hung
	b.ReportAllocs()
	for b.Loop() {
		if !l.Held() {
			b.Fatal("not held")
		}
	}
}

func BenchmarkHeldByManyGoroutines(b *testing.B) {
	c, _ := benchClient(b)
	l, err := c.Acquire(b.Context(), "key")
	must(b, err)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if !l.Held() {
				b.Error("not held")
			}
		}
	})
}

// An uncontended lock and its release on a store that answers at once: what the library, the SDK and the embedded
// server cost. Two requests.
func BenchmarkAcquireRelease(b *testing.B) {
	c, wire := benchClient(b)
	b.ReportAllocs()
	before := wire.Count()
	for b.Loop() {
		l, err := c.Acquire(b.Context(), "key")
		must(b, err)
		must(b, l.Release(b.Context()))
	}
	b.ReportMetric(float64(wire.Count()-before)/float64(b.N), "requests/op")
}

// A lock that goroutines of one process pass among themselves: one request.
func BenchmarkHandOver(b *testing.B) {
	c, wire := benchClient(b)
	before := wire.Count()
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l, err := c.Acquire(b.Context(), "key")
			must(b, err)
			must(b, l.Release(b.Context()))
		}
	})
	b.ReportMetric(float64(wire.Count()-before)/float64(b.N), "requests/op")
}

// A look at a lock that somebody else holds.
func BenchmarkTryAcquireHeld(b *testing.B) {
	c, wire := benchClient(b, func(o *dynalock.Options) { o.Lease = time.Hour })
	_, err := c.Acquire(b.Context(), "key")
	must(b, err)
	b.ReportAllocs()
	before := wire.Count()
	for b.Loop() {
		if _, err := c.TryAcquire(b.Context(), "key"); err == nil {
			b.Fatal("acquired twice")
		}
	}
	b.ReportMetric(float64(wire.Count()-before)/float64(b.N), "requests/op")
}

// What a lock that is held weighs, with its share of the scheduler and of the client's books and after a heartbeat, and
// how many goroutines 10,000 of them need.
func BenchmarkHold10000(b *testing.B) {
	const n = 10_000
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%05d", i)
	}
	for b.Loop() {
		b.StopTimer()
		db, _ := benchStore(b)
		// The items are in this process, too. Another client writes them, so that only the locks are added.
		hour := func(o *dynalock.Options) { o.Lease = time.Hour } // no heartbeats meanwhile
		other := benchOpen(b, db, hour)
		hold(b, other, keys)
		must(b, other.Close(b.Context()))
		goroutines, before := runtime.NumGoroutine(), heap()

		c := benchOpen(b, db, hour)
		b.StartTimer()
		locks := hold(b, c, keys)
		b.StopTimer()
		after := heap()
		b.ReportMetric(float64(int64(after)-int64(before))/n, "B/lock")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "goroutines")
		runtime.KeepAlive(locks)
		must(b, c.Close(b.Context()))
		b.StartTimer()
	}
}

// hold acquires all keys, some at a time, and renews each once.
func hold(b *testing.B, c *dynalock.Client, keys []string) []*dynalock.Lock {
	b.Helper()
	locks := make([]*dynalock.Lock, len(keys))
	var wg sync.WaitGroup
	const workers = 8
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(keys); i += workers {
				l, err := c.Acquire(b.Context(), keys[i])
				if err == nil {
					err = l.Renew(b.Context())
				}
				if err != nil {
					b.Error(err)
					return
				}
				locks[i] = l
			}
		})
	}
	wg.Wait()
	return locks
}

// heap is what is in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Many goroutines that wait for one key, and whose contexts end at once: until the last has returned.
func BenchmarkEndOfManyWaits(b *testing.B) {
	const many = 40_000
	c, _ := benchClient(b, func(o *dynalock.Options) { o.Lease, o.MinPoll, o.MaxPoll = time.Hour, time.Hour, time.Hour })
	l, err := c.Acquire(b.Context(), "key")
	must(b, err)
	for b.Loop() {
		b.StopTimer()
		ctx, cancel := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		for range many {
			wg.Go(func() {
				if l, err := c.Acquire(ctx, "key"); err == nil {
					b.Error("held twice", l.Release(b.Context()))
				}
			})
		}
		for dynalock.Waiting(c, "key") < many {
			time.Sleep(time.Millisecond)
		}
		b.StartTimer()
		cancel()
		wg.Wait()
	}
	must(b, l.Release(b.Context()))
}
