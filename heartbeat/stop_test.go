package heartbeat

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func (k *kept) wantNoNews() {
	k.w.Helper()
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.ended) != 0 {
		k.w.Errorf("Ended was called: %v", k.ended)
	}
}

func TestStopWaitsForTheRenewalInFlight(t *testing.T) {
	inBubble(t, func(w *world) {
		var cause error
		k := w.add(func(ctx context.Context, _ Attempt) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			time.Sleep(300 * time.Millisecond) // to tidy up
			return nil
		})
		time.Sleep(w.firstDue(k))
		synctest.Wait()
		began := time.Now()
		if err := k.Stop(w.Context()); err != nil || !errors.Is(cause, ErrStopped) {
			w.Errorf("Stop: %v; the renewal was cancelled with: %v", err, cause)
		}
		if d := time.Since(began); d != 300*time.Millisecond {
			w.Errorf("Stop returned after %v, want when the renewal did", d)
		}
		if k.Valid() || k.Remaining() > 0 {
			w.Error("valid after Stop")
		}
		k.Kick()
		k.Acknowledge(w.clock.Now())
		k.End(ErrGone)
		time.Sleep(trust)
		k.wantNoNews()
		if n := len(k.attempts()); n != 1 || k.Valid() {
			w.Errorf("%d attempts, Valid is %v after Stop", n, k.Valid())
		}
	})
}

func TestStopReturnsWithItsContextAndCanBeCalledAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		release := make(chan struct{})
		k := w.add(deaf(release))
		time.Sleep(period)
		ctx, cancel := context.WithTimeoutCause(w.Context(), 20*time.Millisecond, errStore)
		defer cancel()
		began := time.Now()
		if err := k.Stop(ctx); !errors.Is(err, errStore) || time.Since(began) != 20*time.Millisecond {
			w.Errorf("Stop returned %v after %v, want its context's cause after 20ms", err, time.Since(began))
		}
		if k.Valid() {
			w.Error("valid though Stop began")
		}
		close(release)
		if err := k.Stop(w.Context()); err != nil {
			w.Errorf("the second Stop: %v", err)
		}
		k.wantNoNews()
	})
}

func TestManyMayStopALeaseAtOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(obedient)
		time.Sleep(period)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := k.Stop(w.Context()); err != nil {
					w.Error(err)
				}
			})
		}
		wg.Wait()
		k.wantNoNews()
	})
}

func TestALossThatWasNotYetAnnouncedIsNotAfterStop(t *testing.T) {
	inBubble(t, func(w *world) {
		release := make(chan struct{})
		busy := w.add(nil, func(c *Config) { c.Ended = func(error) { <-release } })
		k := w.add(nil)
		busy.End(nil)
		k.End(nil)
		synctest.Wait()
		if err := k.Stop(w.Context()); err != nil {
			w.Error(err)
		}
		close(release)
		time.Sleep(trust)
		k.wantNoNews()
	})
}

func TestEndedMayStopItsLease(t *testing.T) {
	inBubble(t, func(w *world) {
		var k *Lease
		told := 0
		w.add(obedient, func(c *Config) {
			c.Bind = func(l *Lease) { k = l }
			c.Ended = func(error) {
				told++
				if err := k.Stop(context.Background()); err != nil {
					w.Error(err)
				}
				k.Kick()
				k.End(ErrGone)
			}
		})
		time.Sleep(trust)
		synctest.Wait()
		if told != 1 {
			w.Errorf("Ended was called %d times", told)
		}
	})
}

func TestRenewMayStopItsLease(t *testing.T) {
	for name, derive := range map[string]func(context.Context) context.Context{
		"with its own context":              func(ctx context.Context) context.Context { return ctx },
		"with one that outlives its cancel": context.WithoutCancel,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				var lease *Lease
				k := w.add(func(ctx context.Context, _ Attempt) error {
					if err := lease.Stop(derive(ctx)); !errors.Is(err, ErrStopped) {
						w.Errorf("Stop: %v", err)
					}
					return nil
				}, func(c *Config) { c.Bind = func(l *Lease) { lease = l } })
				time.Sleep(trust)
				if n := len(k.attempts()); n != 1 {
					w.Errorf("%d attempts, want 1", n)
				}
				k.wantNoNews()
			})
		})
	}
}

func TestStoppingOneLeaseLeavesAnotherOfTheSameNameAlone(t *testing.T) {
	inBubble(t, func(w *world) {
		old := w.add(nil)
		again := w.add(nil)
		for range 3 {
			if err := old.Stop(w.Context()); err != nil {
				w.Fatal(err)
			}
			time.Sleep(trust)
			again.wantAlive()
		}
	})
}

func TestALeaseThatIsStoppedBeforeAddKeepsItIsNotKept(t *testing.T) {
	inBubble(t, func(w *world) {
		k := w.add(nil, func(c *Config) {
			c.Bind = func(l *Lease) {
				l.Kick()
				if err := l.Stop(w.Context()); err != nil || l.Valid() {
					w.Errorf("Stop: %v, Valid %v", err, l.Valid())
				}
			}
		})
		time.Sleep(2 * trust)
		k.wantNoNews()
		if at := k.attempts(); len(at) != 0 || k.Valid() {
			w.Errorf("renewals at %v, Valid %v", at, k.Valid())
		}
	})
}

func TestCloseJoinsARenewalThatLeftByGoexit(t *testing.T) {
	inBubble(t, func(w *world) {
		w.add(func(context.Context, Attempt) error {
			runtime.Goexit()
			return nil
		})
		w.sleepUntil(period)
		w.Close()
		if w.elapsed() != period {
			w.Errorf("Close took %v", w.elapsed()-period)
		}
	})
}

func TestARenewalThatLeftByGoexitCountsAsFailed(t *testing.T) {
	inBubble(t, func(w *world) {
		goexit := func(context.Context, Attempt) error {
			runtime.Goexit()
			return nil
		}
		lost := w.add(goexit)
		stopped := w.add(goexit)
		once := w.add(func(_ context.Context, a Attempt) error {
			if a.N == 1 {
				runtime.Goexit()
			}
			return nil
		})
		w.sleepUntil(trust - time.Millisecond)
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if err := stopped.Stop(ctx); err != nil {
			w.Errorf("Stop: %v", err)
		}
		w.sleepUntil(trust)
		lost.wantLost(ErrDeadline, trust)
		lost.wantLost(errLeft, trust)
		if n := len(lost.attempts()); n < 2 {
			w.Errorf("%d attempts, want it to be tried again", n)
		}
		once.wantAlive()
		stopped.wantNoNews()
	}, func(o *Options) { o.Parallelism = 1 }) // a slot that is not given back would show
}

func TestAnEndedThatLeftByGoexitHoldsUpNoOtherNews(t *testing.T) {
	inBubble(t, func(w *world) {
		for range 2 {
			w.add(nil, static, func(c *Config) { c.Ended = func(error) { runtime.Goexit() } })
		}
		same, later := w.add(nil, static), w.add(nil, static, func(c *Config) { c.Trust += time.Second })
		w.sleepUntil(trust + time.Second)
		same.wantLost(ErrDeadline, trust)
		later.wantLost(ErrDeadline, trust+time.Second)
	})
}

func TestCloseStopsEverythingWithoutAWordAndJoinsIt(t *testing.T) {
	inBubble(t, func(w *world) {
		leases := []*kept{w.add(nil), w.add(obedient), w.add(nil, static), w.add(obedient), w.add(nil)}
		returned := false
		w.add(func(ctx context.Context, _ Attempt) error {
			<-ctx.Done()
			time.Sleep(40 * time.Millisecond)
			returned = errors.Is(context.Cause(ctx), ErrClosed)
			return nil
		})
		w.sleepUntil(period)
		leases[0].End(nil) // lost, but Close comes before the news
		for range 2 {
			w.Close()
		}
		if !returned {
			w.Error("Close returned before a renewal did")
		}
		if w.elapsed() != period+40*time.Millisecond {
			w.Errorf("Close took %v, want 40ms", w.elapsed()-period)
		}
		for _, k := range leases[1:] {
			k.wantNoNews()
			if k.Valid() {
				w.Error("valid after Close")
			}
			if err := k.Stop(w.Context()); err != nil {
				w.Error(err)
			}
		}
		var refused *Lease
		if _, err := w.Add(Config{Trust: trust, Acked: w.clock.Now(), Bind: func(l *Lease) { refused = l }}); !errors.Is(err,
			ErrClosed) {
			w.Errorf("Add after Close: %v", err)
		}
		if refused.Valid() {
			w.Error("a lease that was refused is valid")
		}
	})
}

func TestALossThatWasNotYetAnnouncedIsNotAfterClose(t *testing.T) {
	inBubble(t, func(w *world) {
		busy := w.add(nil, func(c *Config) { c.Ended = func(error) { time.Sleep(time.Second) } })
		k := w.add(nil)
		busy.End(nil)
		synctest.Wait()
		k.End(nil)
		w.Close()
		if w.elapsed() != time.Second {
			w.Errorf("Close returned after %v, want when the Ended that ran had returned", w.elapsed())
		}
		k.wantNoNews()
	})
}

func TestARenewalThatHasNotBegunWhenItsLeaseIsStoppedDoesNotBegin(t *testing.T) {
	inBubble(t, func(w *world) {
		done, cancel := context.WithCancel(w.Context())
		cancel()
		k := w.add(nil)
		time.Sleep(period / 4)
		var once sync.Once
		w.clock.onNow(func() {
			if readByRenewal() {
				once.Do(func() {
					if err := k.Stop(done); !errors.Is(err, context.Canceled) {
						w.Errorf("Stop: %v", err)
					}
				})
			}
		})
		k.Kick()
		synctest.Wait()
		if at := k.attempts(); len(at) != 0 || k.Valid() {
			w.Errorf("renewals at %v, Valid is %v", at, k.Valid())
		}
	})
}

func TestCloseOfAnUnusedSchedulerReturns(t *testing.T) {
	inBubble(t, func(w *world) {
		w.Close()
		if w.elapsed() != 0 {
			w.Errorf("after %v", w.elapsed())
		}
	})
}

func TestShutdownGivesUpOnARenewalThatIgnoresItsContext(t *testing.T) {
	inBubble(t, func(w *world) {
		release := make(chan struct{})
		w.add(deaf(release))
		w.sleepUntil(period)
		ctx, cancel := context.WithTimeout(w.Context(), 20*time.Millisecond)
		defer cancel()
		if err := w.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("Shutdown: %v", err)
		}
		if d := w.elapsed() - period; d != 20*time.Millisecond {
			w.Errorf("Shutdown took %v", d)
		}
		close(release)
		if err := w.Shutdown(w.Context()); err != nil {
			w.Errorf("once it had returned: %v", err)
		}
	})
}
