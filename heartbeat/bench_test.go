package heartbeat

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

func benchConfig(s *Scheduler) Config {
	return Config{
		Period: 2 * time.Second, Trust: 8 * time.Second, AttemptTimeout: time.Second, Acked: s.clock.Now(),
		Renew: func(context.Context, Attempt) error { return nil }, Ended: func(error) {},
	}
}

func TestValidAllocatesNothing(t *testing.T) {
	s := New()
	defer s.Close()
	l, err := s.Add(benchConfig(s))
	if err != nil {
		t.Fatal(err)
	}
	valid := false
	if n := testing.AllocsPerRun(1000, func() { valid = l.Valid() }); n != 0 || !valid {
		t.Errorf("%v allocations, Valid is %v", n, valid)
	}
}

func BenchmarkNow(b *testing.B) {
	clock := SystemClock()
	b.ReportAllocs()
	for b.Loop() {
		clock.Now()
	}
}

func BenchmarkValid(b *testing.B) {
	s := New()
	defer s.Close()
	l, err := s.Add(benchConfig(s))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !l.Valid() {
			b.Fatal("not valid")
		}
	}
}

// BenchmarkValidWhileRenewalsHang is what a mutex across the renewal would ruin.
func BenchmarkValidWhileRenewalsHang(b *testing.B) {
	s := New()
	defer s.Close()
	var leases []*Lease
	for range 100 {
		cfg := benchConfig(s)
		cfg.Trust = time.Hour
		cfg.Renew = func(ctx context.Context, _ Attempt) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		l, err := s.Add(cfg)
		if err != nil {
			b.Fatal(err)
		}
		l.Kick()
		leases = append(leases, l)
	}
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if !leases[len(took)%len(leases)].Valid() {
			b.Fatal("not valid")
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*999/1000].Nanoseconds()), "p99.9-ns")
}

func BenchmarkAddAndStop(b *testing.B) {
	s := New()
	defer s.Close()
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		l, err := s.Add(benchConfig(s))
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Stop(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRenewal is what the scheduler spends on one renewal, among 10,000 leases.
func BenchmarkRenewal(b *testing.B) {
	s := New()
	defer s.Close()
	renewed := make(chan struct{}, 1)
	leases := make([]*Lease, 10_000)
	for i := range leases {
		cfg := benchConfig(s)
		cfg.Period, cfg.Trust = 20*time.Minute, time.Hour
		cfg.Renew = func(context.Context, Attempt) error {
			renewed <- struct{}{}
			return nil
		}
		var err error
		if leases[i], err = s.Add(cfg); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		leases[i%len(leases)].Kick()
		<-renewed
		i++
	}
}

// BenchmarkTenThousandLeases keeps 10,000 leases for three periods of a second and reports how late renewals began,
// beside the memory of a lease. An operation is one renewal.
func BenchmarkTenThousandLeases(b *testing.B) {
	const n, period = 10_000, time.Second
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var mu sync.Mutex
	var late []time.Duration
	lost := 0
	renew := func(_ context.Context, a Attempt) error {
		mu.Lock()
		defer mu.Unlock()
		late = append(late, a.Late)
		return nil
	}
	ended := func(error) {
		mu.Lock()
		defer mu.Unlock()
		lost++
	}
	for b.Loop() {
		s := New()
		leases := make([]*Lease, n)
		before := heap()
		for i := range leases {
			cfg := Config{Period: period, Trust: 4 * period, Acked: s.clock.Now(), Renew: renew, Ended: ended}
			var err error
			if leases[i], err = s.Add(cfg); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heap()-before)/n, "B/lease")
		time.Sleep(3 * period)
		b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
		s.Close()
		runtime.KeepAlive(leases)
	}
	slices.Sort(late)
	at := func(q float64) float64 { return float64(late[int(q*float64(len(late)-1))].Microseconds()) }
	b.ReportMetric(at(0.5), "late-p50-µs")
	b.ReportMetric(at(0.999), "late-p99.9-µs")
	b.ReportMetric(at(1), "late-max-µs")
	b.ReportMetric(float64(len(late))/float64(b.N), "renewals")
	b.ReportMetric(float64(lost), "lost")
}
