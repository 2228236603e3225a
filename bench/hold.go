package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// hold lets one client of a library hold many locks, and tells how many it lost and what they cost.
func hold(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("hold", flag.ContinueOnError)
	names := flags.String("library", "dynalock", "comma-separated: dynalock, dynamolock")
	counts := flags.String("locks", "10000", "comma-separated numbers of locks, one run each")
	lease := flags.Duration("lease", 10*time.Second, "lease of every lock")
	heartbeat := flags.Duration("heartbeat", 3*time.Second, "heartbeat of every lock")
	latency := flags.Duration("latency", 5*time.Millisecond, "added round trip of every request")
	length := flags.Duration("for", 60*time.Second, "how long the locks are held after the last was acquired")
	if err := flags.Parse(args); err != nil {
		return err
	}
	fmt.Printf("%s, %d CPUs, GOMAXPROCS %d, round trip +%v, lease %v, heartbeat %v, held for %v\n\n",
		runtime.Version(), runtime.NumCPU(), runtime.GOMAXPROCS(0), *latency, *lease, *heartbeat, *length)
	out := &sheet{}
	out.row("library", "locks", "invalid", "silent", "heartbeats", "goroutines", "heap/lock", "stacks", "client CPU",
		"server CPU",
		"late p50", "p99.9", "max", "gap p50", "p99.9", "max", "trip p50", "p99.9")
	for _, name := range strings.Split(*names, ",") {
		lib, ok := libraries[name]
		if !ok {
			return fmt.Errorf("no library %q", name)
		}
		for _, count := range strings.Split(*counts, ",") {
			n, err := strconv.Atoi(count)
			if err != nil || n < 1 {
				return fmt.Errorf("-locks %q is not a number above 0", count)
			}
			r, err := holdMany(ctx, lib, n, settings{owner: "bench", lease: *lease, heartbeat: *heartbeat}, *latency, *length)
			if err != nil {
				return fmt.Errorf("%s, %d locks: %w", name, n, err)
			}
			out.row(name, n, r.invalid, r.silent, r.heartbeats, r.goroutines, fmt.Sprint(r.heapPerLock, " B"),
				fmt.Sprint(r.stacks>>10, " kB"),
				fmt.Sprintf("%.0f%%", 100*r.clientCPU), fmt.Sprintf("%.0f%%", 100*r.serverCPU),
				quantile(r.late, .5), quantile(r.late, .999), quantile(r.late, 1), quantile(r.gaps, .5), quantile(r.gaps, .999),
				quantile(r.gaps, 1),
				quantile(r.trips, .5), quantile(r.trips, .999))
		}
	}
	if err := out.print(); err != nil {
		return err
	}
	fmt.Println(`
invalid     locks that the library itself says are not held at the end
silent      gaps between two writes of one key, longer than the lease: another client could have taken it
goroutines  most of the process while the locks were held, those of the HTTP connections included
heap/lock   live heap with the locks less that without them, after a collection; stacks: all goroutines' stacks
CPU         of one CPU, while the locks were held
late        how long after its due time a heartbeat began, as the library tells
gap         between two writes of one key
trip        how long a request took, as the client saw it`)
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		fmt.Printf("\nload of the machine at the end: %s", load)
	}
	return nil
}

type result struct {
	invalid, silent, heartbeats, goroutines int
	heapPerLock                             int
	stacks                                  uint64
	clientCPU, serverCPU                    float64
	late, gaps, trips                       []time.Duration
}

func holdMany(ctx context.Context, lib library, n int, s settings, latency, length time.Duration) (result, error) {
	var r result
	endpoint, take, stop, err := serverProcess(latency)
	if err != nil {
		return r, err
	}
	defer stop()
	took := &trips{}
	db := newDB(endpoint, took)
	if err := createTable(ctx, db); err != nil {
		return r, err
	}
	c, err := lib.open(db, table, s)
	if err != nil {
		return r, err
	}
	// Connections, and what the SDK makes once, are not the locks' cost.
	if err := acquireMany(ctx, c, "warm", 256, nil); err != nil {
		return r, err
	}
	before := liveHeap()
	locks := make([]held, n)
	if err := acquireMany(ctx, c, "key", n, locks); err != nil {
		return r, err
	}
	acquired := len(c.late())
	took.take()
	if _, err := take(); err != nil {
		return r, err
	}
	startCPU, serverStart, start := cpuTime(), time.Duration(0), time.Now()
	if t, err := take(); err == nil {
		serverStart = t.CPU
	}
	r.heapPerLock = int(liveHeap()-before) / n
	for time.Since(start) < length {
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		r.goroutines = max(r.goroutines, runtime.NumGoroutine())
	}
	wall := time.Since(start)
	r.clientCPU = (cpuTime() - startCPU).Seconds() / wall.Seconds()
	t, err := take()
	if err != nil {
		return r, err
	}
	r.serverCPU = (t.CPU - serverStart).Seconds() / wall.Seconds()
	for _, l := range locks {
		if !c.valid(l) {
			r.invalid++
		}
	}
	for _, gap := range t.Gaps {
		if gap > s.lease {
			r.silent++
		}
	}
	r.gaps, r.late, r.trips, r.heartbeats = t.Gaps, c.late()[acquired:], took.take(), t.total()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	r.stacks = mem.StackInuse
	// The server goes before the client: releasing what is left would only take time.
	return r, nil
}

// acquireMany takes n locks through 64 goroutines; with nil locks it releases each at once.
func acquireMany(ctx context.Context, c client, prefix string, n int, locks []held) error {
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	for worker := range 64 {
		wg.Go(func() {
			for i := worker; i < n; i += 64 {
				l, err := c.acquire(ctx, fmt.Sprintf("%s-%06d", prefix, i))
				if err == nil && locks == nil {
					err = l.release(ctx)
				}
				if err != nil {
					errs <- err
					return
				}
				if locks != nil {
					locks[i] = l
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func liveHeap() uint64 {
	var mem runtime.MemStats
	// Twice for what pools hold; and requests that are under way end meanwhile.
	for range 3 {
		runtime.GC()
		time.Sleep(100 * time.Millisecond)
	}
	runtime.ReadMemStats(&mem)
	return mem.HeapAlloc
}

// cpuTime is what this process has used of all CPUs so far.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// quantile is the value below which the share q of them lies, "-" of none.
func quantile(values []time.Duration, q float64) string {
	if len(values) == 0 {
		return "-"
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(10 * time.Microsecond).String()
}
