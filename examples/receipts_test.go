package examples

import (
	"errors"
	"regexp"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// delivery is a message of a queue whose lock somebody holds with heartbeats.
type delivery struct {
	lease, held time.Duration // held: 0 if the holder died
	minPoll     time.Duration // 0: the default
	warm        bool          // one instance gets it each time, not a new one
}

// receipts is how often the message is received until its lock is got.
func (d delivery) receipts(t *testing.T) (n int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		srv := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.Latency = 5 * time.Millisecond })
		defer srv.Close()
		if err := dynalock.CreateTable(ctx, srv.Client(), "locks"); err != nil {
			t.Fatal(err)
		}
		instance := func(name string) *dynalock.Client {
			locks, err := dynalock.New(srv.ClientFor(name), "locks", func(o *dynalock.Options) {
				o.Lease, o.MinPoll, o.MaxPoll, o.MaxClockSkew = d.lease, d.minPoll, 30*time.Second, 10*time.Second
			})
			if err != nil {
				t.Fatal(err)
			}
			return locks
		}
		closed := func(locks *dynalock.Client) {
			if err := locks.Close(ctx); err != nil {
				t.Error(err)
			}
		}
		holder := instance("holder")
		defer closed(holder)
		l, err := holder.TryAcquire(ctx, "order")
		if err != nil {
			t.Fatal(err)
		}
		if d.held > 0 {
			defer time.AfterFunc(d.held, func() { _ = l.Release(ctx) }).Stop() // an error keeps the message coming back
		} else {
			srv.Inject(dynalocktest.Fault{Kind: dynalocktest.LostRequest, Client: "holder"})
		}
		warm := instance("consumer")
		defer closed(warm)
		for {
			n++
			locks := warm
			if !d.warm {
				locks = instance("consumer")
			}
			got, err := locks.TryAcquire(ctx, "order")
			if err == nil {
				err = got.Release(ctx)
			}
			if !d.warm {
				closed(locks)
			}
			held, ok := errors.AsType[*dynalock.HeldError](err)
			switch {
			case err == nil:
				return
			case !ok || n > 1000:
				t.Fatalf("receipt %d: %v", n, err)
			}
			time.Sleep((held.RetryAfter + time.Second - 1).Truncate(time.Second)) // as a queue hides it
		}
	})
	return n
}

func TestTheReceiptsThatALockWithHeartbeatsCostsAreThoseOfThePage(t *testing.T) {
	row := regexp.MustCompile(
		`(?m)^\| (is held for|its holder died, lease) (\d+ (?:s|min)) \| (\d+) \| (\d+) \| (\d+) \|$`)
	rows := row.FindAllStringSubmatch(pages(t)["../docs/lambda.md"], -1)
	if len(rows) < 4 {
		t.Fatalf("%d rows were found: %q", len(rows), rows)
	}
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, r := range rows {
		d := delivery{lease: duration(t, r[2])}
		if r[1] == "is held for" {
			d.lease, d.held = 10*time.Second, d.lease
		}
		for column, minPoll := range map[int]time.Duration{3: 0, 4: 5 * time.Second} {
			d.minPoll = minPoll
			if n, most := d.receipts(t), number(r[column]); n > most || n < most-1 {
				t.Errorf("%q, MinPoll %v: %d receipts by new instances", r[0], minPoll, n)
			}
		}
		d.minPoll, d.warm = 0, true
		sum := 0
		for range 20 {
			sum += d.receipts(t)
		}
		if mean, said := float64(sum)/20, float64(number(r[5])); mean < said-2 || mean > said+2 {
			t.Errorf("%q: %.1f receipts by one instance", r[0], mean)
		}
	}
}
