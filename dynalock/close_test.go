package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

// guarded are the calls that run a function under a lock of key, and the key in the table.
var guarded = map[string]struct {
	key  string
	call func(ctx context.Context, c *dynalock.Client, fn func(context.Context, *dynalock.Lock) error) error
}{
	"Do": {"key", func(ctx context.Context, c *dynalock.Client, fn func(context.Context, *dynalock.Lock) error) error {
		return c.Do(ctx, "key", fn)
	}},
	"Once": {
		"once/key/1",
		func(ctx context.Context, c *dynalock.Client, fn func(context.Context, *dynalock.Lock) error) error {
			_, err := c.Once(ctx, "key", "1", fn)
			return err
		},
	},
	"Election.Run": {
		"key",
		func(ctx context.Context, c *dynalock.Client, fn func(context.Context, *dynalock.Lock) error) error {
			return c.Election("key").Run(ctx, fn)
		},
	},
}

// watcher is an Observer.
type watcher func(ctx context.Context, e dynalock.Event)

func (w watcher) Observe(ctx context.Context, e dynalock.Event) { w(ctx, e) }

func TestCloseTellsAFunctionToStopAndGivesItsLockUpOnlyWhenItHasReturned(t *testing.T) {
	for name, g := range guarded {
		t.Run(name, func(t *testing.T) {
			onServer(t, func(e *env) {
				c, _ := e.client()
				other, _ := e.client()
				began, told, stop, over := make(chan struct{}), make(chan error, 1), make(chan struct{}), make(chan error, 1)
				var own, second *dynalock.Lock
				go func() {
					over <- g.call(e.ctx, c, func(ctx context.Context, l *dynalock.Lock) (err error) {
						own = l
						if second, err = c.Acquire(ctx, "second"); err != nil { // under which it works, too
							return err
						}
						close(began)
						<-ctx.Done()
						told <- context.Cause(ctx)
						<-stop
						return nil
					})
				}()
				<-began
				closed := make(chan error, 1)
				go func() { closed <- c.Close(e.within(10 * lease)) }()
				wantErr(e, <-told, dynalock.ErrClosed)
				time.Sleep(2 * lease) // it is renewed meanwhile
				for _, l := range []*dynalock.Lock{own, second} {
					check(e, l.Held(), "%q was given up while its function runs: %v", l.Key(), l.Err())
					r, err := other.Get(e.ctx, l.Key())
					must(e, err)
					check(e, r.State == dynalock.Held && r.Token == l.Token(), "%q while its function runs: %+v", l.Key(), r)
				}
				select {
				case err := <-closed:
					e.Errorf("Close returned while the function runs: %v", err)
				default:
				}
				close(stop)
				must(e, <-closed)
				err := <-over
				if name == "Election.Run" {
					wantErr(e, err, dynalock.ErrClosed)
				} else {
					must(e, err)
				}
				for _, l := range []*dynalock.Lock{own, second} {
					r, err := other.Get(e.ctx, l.Key())
					must(e, err)
					check(e, r.State == dynalock.Free && !l.Held(), "%q after Close: %+v", l.Key(), r)
				}
			})
		})
	}
}

func TestCloseLeavesTheLockOfAFunctionThatDoesNotStopToItsLeaseAndSaysSo(t *testing.T) {
	for name, g := range guarded {
		t.Run(name, func(t *testing.T) {
			onServer(t, func(e *env) {
				c, wire := e.client()
				other, _ := e.client()
				began, stop, over := make(chan *dynalock.Lock, 1), make(chan struct{}), make(chan error, 1)
				go func() {
					over <- g.call(e.ctx, c, func(_ context.Context, l *dynalock.Lock) error {
						began <- l
						<-stop
						return nil
					})
				}()
				l := <-began
				start := time.Now()
				err := c.Close(e.within(lease / 3))
				wantErr(e, err, context.DeadlineExceeded)
				check(e, strings.Contains(err.Error(), fmt.Sprintf("%q", g.key)), "it does not name the key: %v", err)
				check(e, !strings.Contains(err.Error(), "requests"), "it tells of requests that there are not: %v", err)
				check(e, time.Since(start) < lease*2/3, "Close took %v", time.Since(start))
				check(e, !l.Held(), "a lock that nothing renews any more is held")
				wantErr(e, l.Err(), dynalock.ErrLost)
				wantErr(e, l.Err(), dynalock.ErrClosed)
				r, err := other.Get(e.ctx, g.key)
				must(e, err)
				check(e, r.State == dynalock.Held && r.Token == l.Token(), "released while its function runs: %+v", r)
				wantErr(e, c.Close(e.within(lease/10)), context.DeadlineExceeded)

				sent := wire.Count()
				close(stop)
				err = <-over
				wantErr(e, err, dynalock.ErrClosed)
				check(e, wire.Count() == sent, "%d requests after Close had returned", wire.Count()-sent)
				must(e, c.Close(e.ctx)) // now all is done
			})
		})
	}
}

func TestAFunctionThatCallsCloseWithItsOwnContextDoesNotWaitForItself(t *testing.T) {
	for name, g := range guarded {
		t.Run(name, func(t *testing.T) {
			onServer(t, func(e *env) {
				c, _ := e.client()
				other, _ := e.client()
				err := g.call(e.ctx, c, func(ctx context.Context, outer *dynalock.Lock) error {
					return c.Do(ctx, "inner", func(ctx context.Context, inner *dynalock.Lock) error {
						shutdown, cancel := context.WithTimeout(ctx, 100*lease)
						defer cancel()
						start := time.Now()
						must(e, c.Close(shutdown))
						check(e, time.Since(start) < lease, "Close took %v", time.Since(start))
						<-ctx.Done()
						for _, l := range []*dynalock.Lock{outer, inner} {
							wantErr(e, l.Err(), dynalock.ErrReleased)
							r, err := other.Get(e.ctx, l.Key())
							must(e, err)
							check(e, r.State == dynalock.Free, "%q after Close: %+v", l.Key(), r)
						}
						wantErr(e, c.Do(ctx, "another", nothing), context.Canceled)
						return nil
					})
				})
				if name == "Do" {
					must(e, err)
				} else {
					check(e, errors.Is(err, dynalock.ErrReleased) || errors.Is(err, dynalock.ErrClosed), "%v", err)
				}
			})
		})
	}
}

func TestACloseFromAFunctionStillEndsWithItsContext(t *testing.T) {
	for name, bound := range map[string]func(ctx context.Context, stop func()) (context.Context, func()){
		"deadline": func(ctx context.Context, _ func()) (context.Context, func()) {
			return context.WithTimeout(ctx, lease/3)
		},
		"its caller's end": func(ctx context.Context, stop func()) (context.Context, func()) {
			time.AfterFunc(lease/3, stop)
			return ctx, func() {}
		},
		"its own cancelled": func(ctx context.Context, _ func()) (context.Context, func()) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(lease/3, cancel)
			return ctx, cancel
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Minute })
				e.acquire(c, "another")
				caller, stop := context.WithCancel(e.ctx)
				err := c.Do(caller, "key", func(ctx context.Context, _ *dynalock.Lock) error {
					crash(wire)
					ctx, cancel := bound(ctx, stop)
					defer cancel()
					start := time.Now()
					err := c.Close(ctx)
					check(e, time.Since(start) <= lease/3+50*time.Millisecond, "Close took %v", time.Since(start))
					check(e, errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled), "Close: %v", err)
					check(e, strings.Contains(err.Error(), `"another"`), "it does not tell of the lock that is left: %v", err)
					return nil
				})
				check(e, err != nil, "the release of a lock on a dead network was done")
			})
		})
	}
}

func TestACloseThatAnotherOneWaitsForReturnsAtOnce(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		began, closed := make(chan struct{}), make(chan error, 1)
		go func() {
			<-began
			closed <- c.Close(e.ctx)
		}()
		must(e, c.Do(e.ctx, "key", func(ctx context.Context, _ *dynalock.Lock) error {
			close(began)
			<-ctx.Done()
			wantErr(e, c.Close(context.WithoutCancel(ctx)), dynalock.ErrClosed)
			return nil
		}))
		must(e, <-closed)
	})
}

// An observer gets values of the context that the lock was acquired with. It is no part of the function under it.
func TestACloseThatDoesNotComeFromAFunctionWaitsForItWhateverContextItWasObservedWith(t *testing.T) {
	virtual(t, func(e *env) {
		observed := make(chan context.Context, 1)
		c, _ := e.client(func(o *dynalock.Options) {
			o.Observer = watcher(func(ctx context.Context, ev dynalock.Event) {
				if ev.Kind == dynalock.EventRenewed {
					select {
					case observed <- ctx:
					default:
					}
				}
			})
		})
		over := make(chan error, 1)
		go func() {
			over <- c.Do(e.ctx, "key", func(ctx context.Context, _ *dynalock.Lock) error {
				<-ctx.Done()
				time.Sleep(lease)
				return nil
			})
		}()
		ctx := <-observed
		start := time.Now()
		must(e, c.Close(ctx))
		check(e, time.Since(start) >= lease, "Close returned after %v, while the function ran", time.Since(start))
		must(e, <-over)
	})
}

func TestACallWhoseLockIsWonWhenCloseBeginsDoesNotRunItsFunction(t *testing.T) {
	for name, g := range guarded {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				var c *dynalock.Client
				closed := make(chan error, 1)
				c, _ = e.client(func(o *dynalock.Options) {
					o.Observer = watcher(func(_ context.Context, ev dynalock.Event) {
						if ev.Kind == dynalock.EventAcquired { // in the call itself: the lock is won, the function not begun
							go func() { closed <- c.Close(e.within(lease)) }()
							time.Sleep(lease / 10)
						}
					})
				})
				ran := false
				err := g.call(e.ctx, c, func(context.Context, *dynalock.Lock) error { ran = true; return nil })
				wantErr(e, err, dynalock.ErrClosed)
				must(e, <-closed)
				check(e, !ran, "the function ran")
				other, _ := e.client()
				r, err := other.Get(e.ctx, g.key)
				must(e, err)
				check(e, r.State == dynalock.Free, "after Close: %+v", r)
				if name == "Once" {
					run, err := other.Once(e.ctx, "key", "1", nothing, func(o *dynalock.OnceOptions) { o.MaxAttempts = 1 })
					must(e, err)
					check(e, run.Ran && run.Attempt == 1, "a run that never began counts: %+v", run)
				}
			})
		})
	}
}

func TestAPeriodIsFinishedWhenItsFunctionReturnsNilThoughCloseToldItToStop(t *testing.T) {
	for name, tt := range map[string]struct {
		err   func(ctx context.Context) error
		again bool
	}{
		"nil":                 {func(context.Context) error { return nil }, false},
		"its context's error": {func(ctx context.Context) error { return ctx.Err() }, true},
		"an error of the cause": {
			func(ctx context.Context) error { return fmt.Errorf("half done: %w", context.Cause(ctx)) },
			true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			onServer(t, func(e *env) {
				a, _ := e.client()
				b, _ := e.client()
				began, closed := make(chan struct{}), make(chan error, 1)
				go func() { <-began; closed <- a.Close(e.ctx) }()
				run, err := a.Once(e.ctx, "job", "1", func(ctx context.Context, _ *dynalock.Lock) error {
					close(began)
					<-ctx.Done()
					return tt.err(ctx)
				})
				must(e, <-closed)
				check(e, run.Ran && run.FinishedAt.IsZero() == tt.again, "run %+v", run)
				if tt.again {
					wantErr(e, err, dynalock.ErrClosed)
				} else {
					must(e, err)
				}
				start := time.Now()
				run, err = b.Once(e.ctx, "job", "1", nothing)
				must(e, err)
				check(e, run.Ran == tt.again && time.Since(start) < lease/2, "after %v: %+v", time.Since(start), run)
			})
		})
	}
}

func TestCloseGivesWayToAHandOverAndAResignationThatAreUnderWay(t *testing.T) {
	for name, end := range map[string]func(e *env, el *dynalock.Election) error{
		"hand-over":   func(e *env, el *dynalock.Election) error { return el.HandOver(e.within(20*lease), "b") },
		"resignation": func(e *env, el *dynalock.Election) error { return el.Resign(e.within(20 * lease)) },
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				a, _ := e.client()
				b, _ := e.client()
				leads, stopping, ended, over := make(chan *dynalock.Lock, 1), make(chan error, 1), make(chan error, 1),
					make(chan error, 2)
				el := a.Election("leader", func(o *dynalock.ElectionOptions) { o.Candidate = "a" })
				go func() {
					over <- el.Run(e.ctx, func(ctx context.Context, l *dynalock.Lock) error {
						leads <- l
						<-ctx.Done()
						stopping <- context.Cause(ctx)
						time.Sleep(2 * lease)
						check(e, l.Held(), "the lock is gone while its leader stops: %v", l.Err())
						return nil
					})
				}()
				<-leads
				ctx, cancel := context.WithCancel(e.ctx)
				follows := make(chan *dynalock.Lock, 1)
				go func() {
					over <- b.Election("leader", func(o *dynalock.ElectionOptions) { o.Candidate = "b" }).Run(ctx,
						func(ctx context.Context, l *dynalock.Lock) error {
							follows <- l
							<-ctx.Done()
							return nil
						})
				}()
				go func() { ended <- end(e, el) }()
				cause := <-stopping
				check(e, errors.Is(cause, dynalock.ErrHandedOver) || errors.Is(cause, dynalock.ErrResigned), "%v", cause)
				start := time.Now()
				must(e, a.Close(e.within(10*lease)))
				check(e, time.Since(start) >= 2*lease-50*time.Millisecond, "Close returned after %v, while lead ran",
					time.Since(start))
				wantErr(e, <-over, dynalock.ErrClosed)
				must(e, <-ended)
				<-follows
				cancel()
				wantErr(e, <-over, context.Canceled)
			})
		})
	}
}

func TestWhatLeadReturnsWhenCloseEndsItsTermIsTold(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		began, closed := make(chan struct{}), make(chan error, 1)
		go func() { <-began; closed <- c.Close(e.ctx) }()
		broken := errors.New("could not flush")
		err := c.Election("leader").Run(e.ctx, func(ctx context.Context, _ *dynalock.Lock) error {
			close(began)
			<-ctx.Done()
			return broken
		})
		wantErr(e, err, dynalock.ErrClosed)
		wantErr(e, err, broken)
		must(e, <-closed)
	})
}

// invalid refuses every request in a way that no repetition mends.
var invalid = testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ValidationException"}

func TestCloseTriesAReleaseThatFailedAgainUntilItsLeaseIsOver(t *testing.T) {
	for name, f := range map[string]testserver.Fault{"refused": invalid, "too long": {Kind: testserver.LoseRequest}} {
		for end, mended := range map[string]bool{"mended": true, "not mended": false} {
			for when, later := range map[string]time.Duration{"at once": 0, "after its lease": lease} {
				t.Run(name+"/"+end+"/"+when, func(t *testing.T) {
					virtual(t, func(e *env) {
						c, wire := e.client()
						l := e.acquire(c, "key")
						mend := wire.Inject(f)
						wantErr(e, l.Release(e.ctx), dynalock.ErrStore)
						if mended {
							mend()
						}
						time.Sleep(later)
						over := later > 0 || name == "too long" // it was tried for a lease
						sent := wire.Count()
						err := c.Close(e.within(lease))
						switch {
						case over:
							must(e, err)
							check(e, wire.Count() == sent, "%d requests for what is nobody's any more", wire.Count()-sent)
						case mended:
							must(e, err)
							check(e, text(e.item("key")["isReleased"]) == "1", "Close left it held")
						default:
							wantErr(e, err, dynalock.ErrStore)
						}
					})
				})
			}
		}
	}
}

func TestAReleaseThatIsRepeatedAfterItsLeaseTellsTheTruth(t *testing.T) {
	for name, taken := range map[string]bool{"still there": false, "taken over": true} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, wire := e.client()
				l := e.acquire(c, "key")
				mend := wire.Inject(invalid)
				wantErr(e, l.Release(e.ctx), dynalock.ErrStore)
				time.Sleep(3 * lease)
				wantErr(e, l.Release(e.ctx), dynalock.ErrStore)
				mend()
				if !taken {
					must(e, l.Release(e.ctx))
					check(e, text(e.item("key")["isReleased"]) == "1", "not released")
					return
				}
				other, _ := e.client()
				next := e.acquire(other, "key")
				err := l.Release(e.ctx) // nil, too: one of those before may have been applied after all
				check(e, err == nil || errors.Is(err, dynalock.ErrLost), "%v", err)
				check(e, next.Held(), "the successor lost it")
				must(e, next.Renew(e.ctx))
			})
		})
	}
}

func TestLocksWhoseReleaseFailedAreForgottenAfterTheirLease(t *testing.T) {
	virtual(t, func(e *env) {
		const many = 300
		c, wire := e.client()
		remove := wire.Inject(
			testserver.Fault{
				Kind: invalid.Kind, Status: invalid.Status, Type: invalid.Type, Op: "UpdateItem",
				Match: func(_ string, body []byte) bool {
					return strings.Contains(string(body), "SET #released")
				},
			})
		defer remove()
		before := runtime.NumGoroutine()
		for i := range many {
			l := e.acquire(c, fmt.Sprint("key ", i))
			wantErr(e, l.Release(e.ctx), dynalock.ErrStore)
		}
		check(e, dynalock.Tenures(c) > many/2, "%d tenures are kept for Close to try again", dynalock.Tenures(c))
		check(e, runtime.NumGoroutine() < before+many/2, "%d goroutines more than before", runtime.NumGoroutine()-before)
		time.Sleep(lease + 2*time.Second)
		check(e, dynalock.Tenures(c) == 0, "%d tenures are kept that are nobody's", dynalock.Tenures(c))
		l := e.acquire(c, "one more")
		wantErr(e, l.Release(e.ctx), dynalock.ErrStore)
		wantErr(e, c.Close(e.ctx), dynalock.ErrStore)
	})
}

func TestTheErrorOfCloseTellsOfTheFirstOfManyLocksAndCountsTheRest(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Hour })
		for i := range 300 {
			e.acquire(c, fmt.Sprint("key ", i))
		}
		wire.Inject(invalid)
		err := c.Close(e.ctx)
		wantErr(e, err, dynalock.ErrStore)
		var store *dynalock.StoreError
		check(e, errors.As(err, &store) && strings.HasPrefix(store.Key, "key "), "%v", store)
		told := strings.Split(err.Error(), "; dynalock: ")
		check(e, len(told) == 11 && strings.Contains(told[10], "290 more"), "%d are told, the last: %s", len(told),
			told[len(told)-1])
	})
}

func TestCloseBlamesTheReleaseThatHangsNotTheFunctionThatHasReturned(t *testing.T) {
	for name, g := range guarded {
		for how, o := range outages {
			if how == "a refusal" { // this does not hang
				continue
			}
			virtually(t, name+" meets "+how, func(e *env) {
				c, wire := e.client()
				began, over := make(chan struct{}), make(chan error, 1)
				go func() {
					over <- g.call(e.ctx, c, func(ctx context.Context, _ *dynalock.Lock) error {
						close(began)
						<-ctx.Done()
						return nil
					})
				}()
				<-began
				wire.Inject(o.fault)
				err := c.Close(e.within(lease / 3))
				wantErr(e, err, context.DeadlineExceeded)
				wantErr(e, err, dynalock.ErrStore)
				text := err.Error()
				check(e, strings.Contains(text, fmt.Sprintf("release %q", g.key)) && !strings.Contains(text, "has not returned"),
					"%v", err)
				check(e, <-over != nil, "its call has not failed")
			})
		}
	}
}

func TestCloseWithAnEndedContextStillReleases(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		keys := make([]string, 200)
		for i := range keys {
			keys[i] = fmt.Sprint("key", i)
			e.acquire(c, keys[i])
		}
		ctx, cancel := context.WithCancel(e.ctx)
		cancel()
		start := time.Now()
		err := c.Close(ctx)
		check(e, time.Since(start) <= 50*time.Millisecond, "took %v", time.Since(start))
		must(e, err)
		for _, key := range keys {
			check(e, text(e.item(key)["isReleased"]) == "1", "%s is still held", key)
		}
	})
}

func TestCloseReleasesEverythingAndLeavesNoGoroutine(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		var locks []*dynalock.Lock
		for _, key := range []string{"a", "b", "c", "d"} {
			locks = append(locks, e.acquire(c, key))
		}
		other, _ := e.client()
		e.acquire(other, "held")
		waiting := make(chan error)
		go func() { _, err := c.Acquire(e.ctx, "held"); waiting <- err }()
		synctest.Wait()
		wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ValidationException", Times: 1})
		err := c.Close(e.ctx)
		wantErr(e, err, dynalock.ErrStore) // the one that failed is told, and the others were tried
		wantErr(e, <-waiting, dynalock.ErrClosed)
		free := 0
		for _, l := range locks {
			r, err := other.Get(e.ctx, l.Key())
			must(e, err)
			if r.State == dynalock.Free {
				free++
			}
			check(e, !l.Held(), "%s is held after Close", l.Key())
		}
		check(e, free == 3, "%d of 4 are free, want all but the one that failed", free)
		_, err = c.Acquire(e.ctx, "a")
		wantErr(e, err, dynalock.ErrClosed)
		must(e, c.Close(e.ctx))
	})
}

func TestCloseEndsRequestsThatHang(t *testing.T) {
	for name, call := range map[string]func(e *env, c *dynalock.Client) error{
		"a waiter's look": func(e *env, c *dynalock.Client) error {
			_, err := c.Acquire(e.ctx, "key")
			return err
		},
		"Get": func(e *env, c *dynalock.Client) error {
			_, err := c.Get(e.within(lease), "key")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				other, _ := e.client()
				e.acquire(other, "key")
				c, wire := e.client(func(o *dynalock.Options) { o.AttemptTimeout = lease * 3 / 4 })
				wire.Inject(testserver.Fault{Kind: testserver.HangBefore, Op: "GetItem"})
				over := make(chan error, 1)
				go func() { over <- call(e, c) }()
				time.Sleep(lease / 4)
				start := time.Now()
				err := c.Close(e.within(lease / 10))
				if name == "Get" { // it may still have an answer until the end
					check(e, err == nil || errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "ignore"),
						"Close: %v", err)
				} else {
					must(e, err)
					wantErr(e, <-over, dynalock.ErrClosed)
					check(e, time.Since(start) <= 50*time.Millisecond, "it took %v", time.Since(start))
				}
			})
		})
	}
}

func TestCloseReleasesAllOfManyLocksAFewAtATimeThoughTheFirstFails(t *testing.T) {
	virtual(t, func(e *env) {
		const many, delay = 300, 10 * time.Millisecond
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Hour })
		for i := range many {
			e.acquire(c, fmt.Sprint("key ", i))
		}
		wire.Inject(testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ValidationException", Times: 1})
		wire.Inject(testserver.Fault{Delay: delay})
		start := time.Now()
		wantErr(e, c.Close(e.ctx), dynalock.ErrStore)
		check(e, time.Since(start) >= 4*delay, "%d locks were released in %v: more than 64 at a time", many,
			time.Since(start))
		free := 0
		for i := range many {
			if text(e.item(fmt.Sprint("key ", i))["isReleased"]) == "1" {
				free++
			}
		}
		check(e, free == many-1, "%d of %d are free, want all but the one that failed", free, many)
	})
}

func TestASecondCloseWaitsForTheFirstButNotLongerThanItsContext(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(long)
		e.acquire(c, "key")
		remove := wire.Inject(testserver.Fault{Kind: testserver.HangBefore})
		first := make(chan error, 1)
		go func() { first <- c.Close(e.ctx) }()
		synctest.Wait()

		start := time.Now()
		err := c.Close(e.within(time.Second))
		wantErr(e, err, context.DeadlineExceeded)
		took := time.Since(start)
		check(e, took >= time.Second && took <= time.Second+50*time.Millisecond, "it returned after %v, want 1 s", took)

		second := make(chan error, 1)
		go func() { second <- c.Close(e.ctx) }()
		synctest.Wait()
		select {
		case err := <-second:
			e.Errorf("it returned before the first one: %v", err)
		default:
		}
		remove()
		must(e, <-first)
		must(e, <-second)
		must(e, c.Close(e.within(time.Second)))
	})
}

func TestCloseOnADeadNetworkLeavesNothingBehind(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Hour })
		locks := []*dynalock.Lock{e.acquire(c, "a"), e.acquire(c, "b")}
		crash(wire)
		errs := make(chan error, 3)
		go func() { _, err := c.Acquire(e.ctx, "c"); errs <- err }()
		go func() { _, err := c.TryAcquire(e.ctx, "d"); errs <- err }()
		go func() { errs <- locks[0].Renew(e.ctx) }()
		time.Sleep(time.Millisecond)
		start := time.Now()
		err := c.Close(e.within(time.Second))
		wantErr(e, err, context.DeadlineExceeded)
		check(e, strings.Contains(err.Error(), `"a"`) && strings.Contains(err.Error(), `"b"`),
			"it does not say what could not be released: %v", err)
		check(e, time.Since(start) <= 1050*time.Millisecond, "Close took %v", time.Since(start))
		for range 3 {
			err := <-errs
			check(e, errors.Is(err, dynalock.ErrClosed) || errors.Is(err, dynalock.ErrReleased), "a call ended with %v", err)
		}
		for _, l := range locks {
			check(e, !l.Held(), "held after Close")
		}
		// The bubble ends here: a goroutine that was left would fail it.
	})
}

// deadWithManyLocks is a client that holds more locks than Close releases at a time, and is cut off for good.
func deadWithManyLocks(e *env) (*dynalock.Client, []*dynalock.Lock) {
	c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Minute })
	var locks []*dynalock.Lock
	for i := range 500 {
		locks = append(locks, e.acquire(c, fmt.Sprint("key", i)))
	}
	crash(wire)
	return c, locks
}

func TestCloseOfManyLocksOnADeadNetworkEndsWithItsContext(t *testing.T) {
	virtual(t, func(e *env) {
		c, locks := deadWithManyLocks(e)
		start := time.Now()
		wantErr(e, c.Close(e.within(100*time.Millisecond)), context.DeadlineExceeded)
		check(e, time.Since(start) <= 150*time.Millisecond, "returned %v after its context's end",
			time.Since(start)-100*time.Millisecond)
		for _, l := range locks { // also those whose turn to be released never came
			wantErr(e, context.Cause(l.Context()), dynalock.ErrReleased)
			wantErr(e, l.Err(), dynalock.ErrReleased)
			check(e, !errors.Is(l.Err(), dynalock.ErrLost) && !l.Held(), "%q after Close: held is %v, %v", l.Key(), l.Held(),
				l.Err())
		}
	})
}

// The heartbeats go on until the turn of a lock comes: none is silently over meanwhile.
func TestALockThatWaitsForItsReleaseByCloseIsHeldOrSaysThatItIsNot(t *testing.T) {
	virtual(t, func(e *env) {
		c, locks := deadWithManyLocks(e)
		closed := make(chan error, 1)
		go func() { closed <- c.Close(e.within(3 * time.Minute)) }()
		for range 18 {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			for _, l := range locks {
				check(e, l.Held() == (l.Context().Err() == nil), "%q: held is %v, its context says %v", l.Key(), l.Held(),
					l.Context().Err())
			}
		}
		wantErr(e, <-closed, context.DeadlineExceeded)
	})
}

func TestAClosedClientRefusesCallsButStillReads(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		l := e.acquire(c, "key")
		must(e, c.Close(e.ctx))
		_, err := c.Acquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrClosed)
		_, err = c.TryAcquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrClosed)
		_, err = c.Resume(e.ctx, l.Handle())
		wantErr(e, err, dynalock.ErrClosed)
		wantErr(e, c.Do(e.ctx, "key", nothing), dynalock.ErrClosed)
		must(e, l.Release(e.ctx)) // Close has released it
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		check(e, r.State == dynalock.Free, "%+v", r)
	})
}
