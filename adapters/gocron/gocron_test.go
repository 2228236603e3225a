package gocron_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	upstream "github.com/go-co-op/gocron/v2"
	"go.uber.org/goleak"

	"github.com/dynalock/dynalock/adapters/gocron"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t *testing.T, srv *dynalocktest.Server) *dynalock.Client {
	t.Helper()
	if err := dynalock.CreateTable(t.Context(), srv.Client(), "locks"); err != nil {
		t.Fatal(err)
	}
	c, err := dynalock.New(srv.Client(), "locks")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestOneOfTwoSchedulersRunsAJobThatIsLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.Latency = 2 * time.Millisecond })
		t.Cleanup(srv.Close)
		var runs, both atomic.Int32
		running := make(chan struct{}, 1)
		for range 2 {
			s, err := upstream.NewScheduler(upstream.WithDistributedLocker(gocron.NewLocker(client(t, srv), "cron/")))
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.NewJob(upstream.DurationJob(time.Minute), upstream.NewTask(func() {
				select {
				case running <- struct{}{}:
				default:
					both.Add(1)
				}
				runs.Add(1)
				time.Sleep(10 * time.Second)
				<-running
			}), upstream.WithName("report"))
			if err != nil {
				t.Fatal(err)
			}
			s.Start()
			t.Cleanup(func() {
				if err := s.Shutdown(); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(10*time.Minute + 30*time.Second)
		if runs.Load() != 10 || both.Load() != 0 {
			t.Errorf("%d runs in 10 minutes, %d at the same time, want 10 and 0", runs.Load(), both.Load())
		}
	})
}

func TestOnlyTheLeaderSchedules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.Latency = 2 * time.Millisecond })
		t.Cleanup(srv.Close)
		ctx, stop := context.WithCancel(t.Context())
		var electors []*gocron.Elector
		ended := make(chan error, 2)
		for _, name := range []string{"a", "b"} {
			e := gocron.NewElector(
				client(t, srv).Election("scheduler", func(o *dynalock.ElectionOptions) { o.Candidate = name }))
			electors = append(electors, e)
			go func() { ended <- e.Run(ctx) }()
		}
		time.Sleep(time.Minute)
		a, b := electors[0].IsLeader(ctx), electors[1].IsLeader(ctx)
		if (a == nil) == (b == nil) {
			t.Errorf("leaders: %v and %v, want one", a, b)
		}
		if !errors.Is(errors.Join(a, b), gocron.ErrNotLeader) {
			t.Errorf("the other one says %v", errors.Join(a, b))
		}
		stop()
		for range 2 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
}
