package examples

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// outage has holders live through a network that is gone for a while, beginning at different points between two
// heartbeats, and counts those that still hold their lock.
func outage(t *testing.T, lease, length time.Duration) (survived, lost int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.Latency = 5 * time.Millisecond })
		defer srv.Close()
		if err := dynalock.CreateTable(t.Context(), srv.Client(), "locks"); err != nil {
			t.Fatal(err)
		}
		locks, err := dynalock.New(srv.Client(), "locks", func(o *dynalock.Options) { o.Lease = lease })
		if err != nil {
			t.Fatal(err)
		}
		for i := range 12 {
			l, err := locks.Acquire(t.Context(), fmt.Sprint("key ", i))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(lease * time.Duration(i) / 30)
			back := srv.Inject(dynalocktest.Fault{Kind: dynalocktest.LostRequest})
			time.Sleep(length)
			back()
			time.Sleep(lease)
			if l.Held() {
				survived++
			} else {
				lost++
			}
			if err := l.Release(t.Context()); err != nil && !errors.Is(err, dynalock.ErrLost) {
				t.Error(err)
			}
		}
		if err := locks.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return survived, lost
}

func TestALockOutlivesTheOutagesThatTheTableOfLeasesNames(t *testing.T) {
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
		lease, length := duration(t, row[1]), duration(t, row[2])
		if survived, lost := outage(t, lease, length); lost > 0 {
			t.Errorf("lease %v: of %d outages of %v, %d lost the lock", lease, survived+lost, length, lost)
		}
		if survived, _ := outage(t, lease, lease*4/5); survived > 0 {
			t.Errorf("lease %v: %d holders believe in a lock after %v without an answer", lease, survived, lease*4/5)
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
