package main

import (
	"context"
	"flag"
	"fmt"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// compare measures every library at two things that a lock is mostly used for: alone, and in a crowd.
func compare(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	latency := flags.Duration("latency", 5*time.Millisecond, "added round trip of every request")
	cycles := flags.Int("cycles", 200, "uncontended cycles")
	work := flags.Duration("work", 20*time.Millisecond, "how long the contended lock is held each time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	contenders := []struct {
		label, library string
		poll           time.Duration
	}{
		{"dynamolock v2.0.2", "dynamolock", 0},
		{"dynamolock v2.0.2, looks every 50 ms", "dynamolock", 50 * time.Millisecond},
		{"dynalock", "dynalock", 0},
	}
	fmt.Printf("%s, %d CPUs, round trip +%v\n\nuncontended acquire and release, %d cycles\n\n", runtime.Version(),
		runtime.NumCPU(), *latency, *cycles)
	out := &sheet{}
	out.row("library", "requests/cycle", "time/cycle")
	for _, one := range contenders {
		if one.poll > 0 {
			continue
		}
		r, err := alone(ctx, libraries[one.library], *latency, *cycles)
		if err != nil {
			return fmt.Errorf("%s: %w", one.label, err)
		}
		out.row(one.label, fmt.Sprintf("%.2f", r.requests), r.each.Round(10*time.Microsecond))
	}
	if err := out.print(); err != nil {
		return err
	}
	const clients, each = 8, 5
	fmt.Printf("\n%d clients, one key, %d acquisitions held %v each; at best %v\n\n", clients, clients*each, *work,
		clients*each*(*work+2**latency))
	out = &sheet{}
	out.row("library", "total", "requests/acquisition", "longest wait", "median wait", "first client done",
		"last client done", "changes of client")
	for _, one := range contenders {
		r, err := crowd(ctx, libraries[one.library], one.poll, *latency, clients, each, *work)
		if err != nil {
			return fmt.Errorf("%s: %w", one.label, err)
		}
		ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
		out.row(one.label, ms(r.total), fmt.Sprintf("%.1f", r.requests), ms(r.longest), ms(r.median), ms(r.firstDone),
			ms(r.lastDone),
			fmt.Sprintf("%d of %d", r.handOvers, clients*each-1))
	}
	return out.print()
}

// start runs a server with a latency on the loopback interface, in this process.
func start(ctx context.Context, latency time.Duration) (s *seen, endpoint string, stop func(), err error) {
	s = newSeen()
	server := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) {
		o.Latency, o.History, o.OnRequest = latency, -1, s.observe
	})
	listener := httptest.NewServer(server)
	stop = func() {
		server.Close()
		listener.Close()
	}
	if err := createTable(ctx, newDB(listener.URL, &trips{})); err != nil {
		stop()
		return nil, "", nil, err
	}
	return s, listener.URL, stop, nil
}

type aloneResult struct {
	requests float64
	each     time.Duration
}

func alone(ctx context.Context, lib library, latency time.Duration, cycles int) (aloneResult, error) {
	var r aloneResult
	s, endpoint, stop, err := start(ctx, latency)
	if err != nil {
		return r, err
	}
	defer stop()
	c, err := lib.open(newDB(endpoint, &trips{}), table,
		settings{owner: "alone", lease: 10 * time.Second, heartbeat: 2 * time.Second})
	if err != nil {
		return r, err
	}
	cycle := func() error {
		l, err := c.acquire(ctx, "key")
		if err != nil {
			return err
		}
		return l.release(ctx)
	}
	if err := cycle(); err != nil { // connections and the like
		return r, err
	}
	s.take()
	began := time.Now()
	for range cycles {
		if err := cycle(); err != nil {
			return r, err
		}
	}
	r.each = time.Since(began) / time.Duration(cycles)
	r.requests = float64(s.take().total()) / float64(cycles)
	return r, c.close(ctx)
}

type crowdResult struct {
	total, longest, median, firstDone, lastDone time.Duration
	requests                                    float64
	handOvers                                   int
}

func crowd(
	ctx context.Context, lib library, poll, latency time.Duration, clients, each int, work time.Duration,
) (crowdResult, error) {
	var r crowdResult
	s, endpoint, stop, err := start(ctx, latency)
	if err != nil {
		return r, err
	}
	defer stop()
	opened := make([]client, clients)
	for i := range opened {
		opened[i], err = lib.open(newDB(endpoint, &trips{}), table,
			settings{owner: fmt.Sprintf("client-%d", i), lease: 10 * time.Second, heartbeat: 2 * time.Second, poll: poll})
		if err != nil {
			return r, err
		}
		// Connections; also, nobody is the first to learn the address.
		l, err := opened[i].acquire(ctx, fmt.Sprintf("warm-%d", i))
		if err != nil {
			return r, err
		}
		if err := l.release(ctx); err != nil {
			return r, err
		}
	}
	s.take()
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		order  []int
		waits  []time.Duration
		done   = make([]time.Duration, clients)
		failed error
		holder int
	)
	began := time.Now()
	for i, c := range opened {
		wg.Go(func() {
			for range each {
				asked := time.Now()
				l, err := c.acquire(ctx, "key")
				mu.Lock()
				if err == nil {
					waits, order = append(waits, time.Since(asked)), append(order, i)
					if holder++; holder > 1 {
						err = fmt.Errorf("%d holders at once", holder)
					}
				}
				if err != nil {
					failed = err
				}
				mu.Unlock()
				if err != nil {
					return
				}
				time.Sleep(work)
				mu.Lock()
				holder--
				mu.Unlock()
				if err := l.release(ctx); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
			}
			done[i] = time.Since(began)
		})
	}
	wg.Wait()
	r.total = time.Since(began)
	if failed != nil {
		return r, failed
	}
	r.requests = float64(s.take().total()) / float64(clients*each)
	slices.Sort(waits)
	r.longest, r.median = waits[len(waits)-1], waits[len(waits)/2]
	r.firstDone, r.lastDone = slices.Min(done), slices.Max(done)
	for i := 1; i < len(order); i++ {
		if order[i] != order[i-1] {
			r.handOvers++
		}
	}
	for _, c := range opened {
		if err := c.close(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}
