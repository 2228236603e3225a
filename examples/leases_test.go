package examples

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// outage is one that a holder meets at the worst moment: it begins with a heartbeat that comes as late as heartbeats
// come, and ends as soon as it has swallowed one more attempt.
type outage struct {
	// the attempt that is the last one to be swallowed comes so long after the last acknowledged one, or later
	silence time.Duration
	begun   chan struct{} // closed
	held    bool          // the holder outlived it

	mu     sync.Mutex
	last   time.Time     // when the last acknowledged request was sent
	began  time.Time     // when the first one was swallowed
	length time.Duration // 0: it has not ended
}

// swallows decides on the holder's next request.
func (o *outage) swallows(lease time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	quiet := now.Sub(o.last)
	switch {
	case o.length > 0:
		return false
	case o.last.IsZero(), o.began.IsZero() && quiet < lease/5*97/100:
		o.last = now
		return false
	case o.began.IsZero():
		o.began = now
		close(o.begun)
	}
	if quiet >= o.silence {
		o.length = now.Sub(o.began)
	}
	return true
}

// outages has n holders meet one each, with silences of up to to, most of them close to it.
func outages(t *testing.T, n int, lease, from, to time.Duration) []*outage {
	t.Helper()
	met := make([]*outage, n)
	synctest.Test(t, func(t *testing.T) {
		srv := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.Latency = 5 * time.Millisecond })
		defer srv.Close()
		if err := dynalock.CreateTable(t.Context(), srv.Client(), "locks"); err != nil {
			t.Fatal(err)
		}
		var holders sync.WaitGroup
		for i := range met {
			o := &outage{silence: to - (to-from)*time.Duration(i*i)/time.Duration(n*n), begun: make(chan struct{})}
			met[i] = o
			holders.Go(func() { live(t, srv, fmt.Sprint("holder ", i), lease, o) })
		}
		holders.Wait()
	})
	return met
}

// live is what becomes of one holder.
func live(t *testing.T, srv *dynalocktest.Server, name string, lease time.Duration, o *outage) {
	t.Helper()
	srv.Inject(dynalocktest.Fault{
		Kind: dynalocktest.LostRequest, Operation: "UpdateItem", Client: name,
		Match: func(dynalocktest.Request) bool { return o.swallows(lease) },
	})
	locks, err := dynalock.New(srv.ClientFor(name), "locks", func(o *dynalock.Options) { o.Lease = lease })
	if err != nil {
		t.Error(err)
		return
	}
	l, err := locks.Acquire(t.Context(), name)
	if err != nil {
		t.Error(err)
		return
	}
	<-o.begun
	time.Sleep(lease)
	o.held = l.Held()
	if err := locks.Close(t.Context()); err != nil && !errors.Is(err, dynalock.ErrLost) {
		t.Error(err)
	}
}

func TestTheTableOfLeasesNamesTheLongestOutageThatEveryHolderOutlives(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/leases.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+ (?:s|min)) \| (\d+(?:\.\d+)? s) \|`).FindAllStringSubmatch(string(text), -1)
	if len(rows) < 4 {
		t.Fatalf("%d rows were found: %q", len(rows), rows)
	}
	for _, row := range rows {
		lease, named := duration(t, row[1]), duration(t, row[2])
		hardly := lease / 20
		outlived, lost := 0, 0
		for _, o := range outages(t, 200, lease, lease/5+named/3, lease/5+named) {
			switch {
			case o.length == 0: // no attempt came so late
			case o.length <= named && !o.held:
				t.Errorf("lease %v: an outage of %v lost the lock, and %v are said to be outlived", lease, o.length, named)
			case o.length <= named:
				outlived++
			case o.length <= named+hardly && !o.held:
				lost++
			}
		}
		t.Logf("lease %v: %d outages of up to %v were outlived, %d of up to %v more were not", lease, outlived, named, lost,
			hardly)
		if outlived == 0 {
			t.Errorf("lease %v: no outage of up to %v was outlived", lease, named)
		}
		if lost == 0 {
			t.Errorf("lease %v: an outage of %v is said to be the longest that is always outlived, and so is one of %v", lease,
				named, named+hardly)
		}
		for _, o := range outages(t, 12, lease, lease*4/5, lease*4/5) {
			if o.held {
				t.Errorf("lease %v: a holder believes in its lock after %v without an answer", lease, lease*4/5)
			}
		}
	}
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	var n float64
	var unit string
	if _, err := fmt.Sscan(s, &n, &unit); err != nil {
		t.Fatal(err)
	}
	if unit == "min" {
		n *= 60
	}
	return time.Duration(n * float64(time.Second))
}

func TestTheErrorOfAWaitTellsAnOutageFromALockThatIsHeld(t *testing.T) {
	for name, tt := range map[string]struct {
		from        time.Duration // when the outage begins; 0: before the wait
		held, store bool
	}{
		"answered until the end": {time.Hour, true, false}, "answered at first": {5 * time.Second, true, true},
		"never answered": {0, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := dynalocktest.Start(t, "locks")
				holder, err := dynalock.New(srv.ClientFor("holder"), "locks")
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = holder.Close(t.Context()) }()
				if _, err := holder.Acquire(t.Context(), "import"); err != nil {
					t.Fatal(err)
				}
				waiter, err := dynalock.New(srv.ClientFor("waiter"), "locks")
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = waiter.Close(t.Context()) }()
				cut := func() { srv.Inject(dynalocktest.Fault{Kind: dynalocktest.LostRequest, Client: "waiter"}) }
				if tt.from == 0 {
					cut()
				} else {
					defer time.AfterFunc(tt.from, cut).Stop()
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				_, err = waiter.Acquire(ctx, "import")
				if errors.Is(err, dynalock.ErrHeld) != tt.held || errors.Is(err, dynalock.ErrStore) != tt.store ||
					!errors.Is(err, ctx.Err()) {
					t.Errorf("it matches ErrHeld: %v, ErrStore: %v, the context's: %v", errors.Is(err, dynalock.ErrHeld),
						errors.Is(err, dynalock.ErrStore), errors.Is(err, ctx.Err()))
				}
			})
		})
	}
}
