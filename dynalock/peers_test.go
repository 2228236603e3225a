package dynalock_test

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

// Eighteen ways in which the two established lock clients for DynamoDB fail, read from their code and their users'
// reports, each with a test that this library does not. "Java" is the AWS Labs client, "Go" is dynamolock. A comment
// says what failed there and which change of this library the test would catch.

type attributes = map[string]types.AttributeValue

func n(v string) types.AttributeValue { return &types.AttributeValueMemberN{Value: v} }

func b(v string) types.AttributeValue { return &types.AttributeValueMemberB{Value: []byte(v)} }

// javaRow is a held lock as the AWS Labs Java client writes it.
func javaRow(version string) attributes {
	return attributes{
		"ownerName": s("java"), "leaseDuration": s(fmt.Sprint(lease.Milliseconds())),
		"recordVersionNumber": s(version),
	}
}

// goRow is a held lock as dynamolock writes it.
func goRow(owner, version string) attributes {
	return attributes{"ownerName": s(owner), "leaseDuration": s(lease.String()), "recordVersionNumber": s(version)}
}

// with is row with some attributes set, or removed where nil.
func with(row, changes attributes) attributes {
	row = maps.Clone(row)
	for name, v := range changes {
		if v == nil {
			delete(row, name)
		} else {
			row[name] = v
		}
	}
	return row
}

// brisk is a client that beats like the others, with a lease that a busy machine does not run out of.
func brisk(o *dynalock.Options) {
	o.Lease, o.Heartbeat, o.AttemptTimeout = time.Minute, lease/5, 10*time.Second
}

// 1. Go and Java: a heartbeat that was applied, but whose answer was lost, had changed the version; the next one
// asked for the old version, was refused, and a healthy lock was dropped. Caught here: the versions in doubt are not
// remembered, or not offered by the next condition.
func TestAHeartbeatWhoseAnswerWasLostDropsNoHealthyLock(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(brisk)
		l := e.acquire(c, "key")
		before := text(e.item("key")["recordVersionNumber"])
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 2})
		time.Sleep(2 * lease)
		check(e, l.Held() && l.Err() == nil, "dropped: %v", l.Err())
		check(e, text(e.item("key")["recordVersionNumber"]) != before, "no heartbeat was applied")
		deadline := l.Deadline()
		time.Sleep(lease)
		check(e, l.Deadline().After(deadline), "heartbeats are not acknowledged any more")
		must(e, l.Release(e.ctx))
	})
}

// 2. Both: the retry of an acquire whose answer was lost was refused by the item that the first attempt had written,
// and nobody had the lock for a lease. Caught here: the refusing item is not recognised as this acquisition's own; the
// cleaning up behind a caller who has gone is missing.
func TestAnAcquireWhoseAnswerWasLostOrphansNoKey(t *testing.T) {
	onServer(t, func(e *env) {
		c, wire := e.client(long)
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1})
		l, err := c.TryAcquire(e.ctx, "key")
		must(e, err)
		check(e, wire.Count() == 2, "%d requests, want the lost one and its retry", wire.Count())
		must(e, l.Release(e.ctx))

		// The same, and the caller gives up before the retry.
		ctx, cancel := context.WithCancel(e.ctx)
		wire.Inject(testserver.Fault{
			Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1,
			Match: func(string, []byte) bool {
				cancel()
				return true
			},
		})
		_, err = c.TryAcquire(ctx, "key")
		wantErr(e, err, context.Canceled)
		other, _ := e.client(long)
		start := time.Now()
		e.acquire(other, "key")
		check(e, time.Since(start) < 20*time.Second, "orphaned for %v of a lease of a minute", time.Since(start))
	})
}

// 3. Both: after a lost answer the holder counted its lease from the retry, which only found what the first attempt
// had written, and went on believing while others already might take it. Caught here: the deadline counts from the
// last send, or from an answer.
func TestAfterALostAnswerTheDeadlineCountsFromTheFirstSend(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		// no heartbeat is due yet when the retry is answered
		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Op: "UpdateItem", Times: 1, Delay: lease / 20})
		start := time.Now()
		l := e.acquire(c, "key")
		check(e, time.Since(start) > lease/20, "no answer was lost")
		check(e, wire.Count() == 2, "%d requests, want the lost one and the one that found its item", wire.Count())
		crash(wire)
		end := start.Add(lease * 4 / 5)
		check(e, !l.Deadline().After(end), "the deadline is %v after the first send, want at most %v",
			l.Deadline().Sub(start), end.Sub(start))
		time.Sleep(time.Until(end))
		check(e, !l.Held(), "held %v after the first send", time.Since(start))
	})
}

// 4. Go: asking whether the lock is expired waited for a mutex that the hanging heartbeat held, for 0.95 s. Caught
// here: any of these methods takes a lock that is held over a request (in a bubble that is a deadlock).
func TestAskingWhetherTheLockIsHeldDoesNotWaitForAHungHeartbeat(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client(func(o *dynalock.Options) { o.AttemptTimeout = lease / 2 })
		l := e.acquire(c, "key")
		before := wire.Count()
		crash(wire)
		time.Sleep(lease / 4)
		check(e, wire.Count() > before, "no heartbeat is under way")
		start := time.Now()
		check(e, l.Held() && l.Err() == nil && l.Context().Err() == nil && time.Until(l.Deadline()) > 0, "lost already: %v",
			l.Err())
		select {
		case <-l.Done():
			e.Error("done already")
		default:
		}
		_, _, _, _ = l.Key(), l.Token(), l.Data(), l.Handle()
		check(e, time.Since(start) == 0, "the answers took %v", time.Since(start))
	})
}

// 5. Go: Close waited for the same read-write mutex that a pending acquire held over its whole wait, and the
// heartbeats waited behind Close: other locks were stolen while their holders worked on. Caught here: Close or a
// waiter holds a mutex over its wait; Close stops the heartbeats before the locks are given back.
func TestClosingWithAPendingWaiterLetsNoOtherLockBeStolen(t *testing.T) {
	virtual(t, func(e *env) {
		stranger, _ := e.client()
		e.acquire(stranger, "busy")
		c, wire := e.client()
		l := e.acquire(c, "mine")
		waiting := make(chan error, 1)
		go func() {
			_, err := c.Acquire(e.ctx, "busy")
			waiting <- err
		}()
		time.Sleep(5 * lease)
		check(e, l.Held(), "lost while another key was waited for: %v", l.Err())

		stolen := make(chan *dynalock.Lock, 1)
		go func() {
			l2, err := stranger.Acquire(e.ctx, "mine")
			check(e, err == nil, "%v", err)
			check(e, !l.Held(), "stolen while its holder believed in it")
			stolen <- l2
		}()
		time.Sleep(lease)
		wire.Inject(testserver.Fault{Delay: lease / 10}) // a slow network: Close takes its time
		start := time.Now()
		must(e, c.Close(e.ctx))
		check(e, time.Since(start) < lease/4, "Close took %v", time.Since(start))
		wantErr(e, <-waiting, dynalock.ErrClosed)
		wantErr(e, l.Err(), dynalock.ErrReleased)
		l2 := <-stolen
		check(e, l2.Token() == l.Token()+1, "token %d after %d", l2.Token(), l.Token())
	})
}

// 6. Both: the callback that tells of a loss came from the heartbeat, so it never came when that hung, nor when the
// lock had expired before it was looked at. Caught here: the loss is announced by the return of a request, or only to
// those who ask.
func TestTheLossIsAnnouncedThoughTheHeartbeatHangsAndNobodyLooks(t *testing.T) {
	for name, static := range map[string]bool{"hung heartbeat": false, "no heartbeat at all": true} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				seen := &observed{}
				c, wire := e.client(func(o *dynalock.Options) { o.Observer, o.AttemptTimeout = seen, lease*3/4 })
				l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = static })
				deadline := l.Deadline()
				crash(wire)
				<-l.Done()
				check(e, time.Since(deadline).Abs() <= time.Millisecond, "announced %v after the deadline", time.Since(deadline))
				synctest.Wait()
				lost := seen.of(dynalock.EventLost)
				check(e, len(lost) == 1, "%d events of the loss, want 1", len(lost))
				wantErr(e, lost[0].Err, heartbeat.ErrDeadline)
				wantErr(e, context.Cause(l.Context()), dynalock.ErrLost)
			})
		})
	}
}

// 7. Both: the lock was marked released before the write, so a release that failed could not be repeated and the row
// stayed held; and Close stopped at the first release that failed. Caught here: the outcome of a failed release is
// kept; releasing all ends with the first error.
func TestAReleaseThatFailedCanBeRepeatedAndCloseTriesThemAll(t *testing.T) {
	virtual(t, func(e *env) {
		denied := testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: "ValidationException", Times: 1}
		c, wire := e.client(func(o *dynalock.Options) { o.Lease = time.Hour })
		l := e.acquire(c, "repeated")
		wire.Inject(denied)
		wantErr(e, l.Release(e.ctx), dynalock.ErrStore)
		check(e, !l.Held(), "held after a release began")
		check(e, e.item("repeated")["isReleased"] == nil, "the failed release was applied")
		must(e, l.Release(e.ctx))
		check(e, text(e.item("repeated")["isReleased"]) == "1", "the row stays held")

		var locks []*dynalock.Lock
		for i := range 5 {
			locks = append(locks, e.acquire(c, fmt.Sprint("key", i)))
		}
		wire.Inject(denied)
		wantErr(e, c.Close(e.ctx), dynalock.ErrStore)
		free := 0
		for _, l := range locks {
			if text(e.item(l.Key())["isReleased"]) == "1" {
				free++
			}
		}
		check(e, free == 4, "%d of 5 are free, want all but the one that failed", free)
	})
}

// 8. Both: heartbeats were kept by key, so releasing an old handle stopped those of the new tenure of the same
// client. Caught here: the client's bookkeeping of tenures is by key.
func TestReleasingAnOldHandleLeavesTheNewTenureAlone(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(brisk)
		old := e.acquire(c, "key")
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		must(e, c.ForceRelease(e.ctx, r))
		l, err := c.TryAcquire(e.ctx, "key")
		must(e, err)
		wantErr(e, old.Release(e.ctx), dynalock.ErrLost)
		check(e, old.Renew(e.ctx) != nil && !old.Held(), "the old handle is of use")
		deadline := l.Deadline()
		time.Sleep(lease)
		check(e, l.Held() && l.Deadline().After(deadline), "the heartbeats of the new tenure were stopped: %v", l.Err())
		must(e, l.Release(e.ctx))
	})
}

// 9. Java: a take-over left isReleased behind, which one place tested by presence and another by value: the lock was
// held and free at once. Caught here: any of the readers tests the presence; the acquire does not remove it.
func TestATakeOverLeavesNoReleasedMarkAndAllReadItsValue(t *testing.T) {
	onServer(t, func(e *env) {
		e.put("key", with(goRow("dead", "version of the dead"), attributes{"isReleased": s("0")}))
		c, _ := e.client(long)
		r, err := c.Get(e.ctx, "key")
		must(e, err)
		check(e, r.State == dynalock.Held, "isReleased 0 reads as %v", r.State)
		_, err = c.TryAcquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrHeld)
		l := e.acquire(c, "key")
		check(e, e.item("key")["isReleased"] == nil, "the take-over left %v", e.item("key"))
		must(e, l.Release(e.ctx))
		l = e.acquire(c, "key")
		check(e, e.item("key")["isReleased"] == nil, "the acquire of a free lock left %v", e.item("key"))

		// With the mark back, though 0, the holder still holds it, for all of its writes, for others and for an operator.
		e.put("key", with(e.item("key"), attributes{"isReleased": s("0")}))
		must(e, l.Transact(e.ctx, put(e, "guarded", "1")))
		_, err = c.TryAcquire(e.ctx, "key")
		wantErr(e, err, dynalock.ErrHeld)
		same, _ := e.client() // with the very lease of the row: what is free it takes without having seen it
		e.put("theirs", with(javaRow("version"), attributes{"isReleased": s("0")}))
		_, err = same.TryAcquire(e.ctx, "theirs")
		wantErr(e, err, dynalock.ErrHeld)
		r, err = c.Get(e.ctx, "key")
		must(e, err)
		must(e, c.ForceRelease(e.ctx, r))
		wantErr(e, l.Transact(e.ctx, put(e, "guarded", "2")), dynalock.ErrLost)
	})
}

// 10. Java: the name of a lock was made by joining partition and sort key, and two locks became one. Caught here: the
// keys are joined, or the sort key is left out of the item's key.
func TestPartitionAndSortKeyAreNotJoined(t *testing.T) {
	onServerWithSortKey(t, "sort", func(e *env) {
		sorted := func(value string) *dynalock.Client {
			c, _ := e.client(long, func(o *dynalock.Options) { o.SortValue = value })
			return c
		}
		var held []*dynalock.Lock
		for _, k := range []struct{ key, sort string }{{"a", "bc"}, {"ab", "c"}, {"a", "c"}, {"a|b", "c"}, {"a", "b|c"}} {
			l, err := sorted(k.sort).TryAcquire(e.ctx, k.key)
			must(e, err)
			held = append(held, l)
		}
		_, err := sorted("c").TryAcquire(e.ctx, "a")
		wantErr(e, err, dynalock.ErrHeld)
		must(e, held[0].Release(e.ctx))
		for _, l := range held[1:] {
			must(e, l.Renew(e.ctx))
		}
	})
}

// 11. Both: a release with data kept the version, so that who had watched the old holder took the lock again and wrote
// the data that he had read before; and an acquire of a released item wrote back the data that it had read earlier.
// Caught here: the release keeps the version; the acquire writes data that nobody gave it.
func TestDataThatWasReadBeforeNeverOverwritesNewerData(t *testing.T) {
	onServer(t, func(e *env) {
		writer, _ := e.client(long)
		reader, _ := e.client(long)
		l := e.acquire(writer, "key", func(o *dynalock.AcquireOptions) { o.Data = []byte("old") })
		_, err := reader.TryAcquire(e.ctx, "key") // has read "old"
		wantErr(e, err, dynalock.ErrHeld)
		must(e, l.SetData(e.ctx, []byte("new")))
		before := text(e.item("key")["recordVersionNumber"])
		must(e, l.Release(e.ctx))
		check(e, text(e.item("key")["recordVersionNumber"]) != before, "the release kept the version %s", before)
		l2, err := reader.TryAcquire(e.ctx, "key")
		must(e, err)
		check(e, string(l2.Data()) == "new", "the next holder found %q", l2.Data())
		must(e, l2.Release(e.ctx))
		r, err := reader.Get(e.ctx, "key")
		must(e, err)
		check(e, string(r.Data) == "new", "stored is %q", r.Data)
	})
}

// 12. Java: a record that was only read carried the live version, and where owners share a name it could release
// another process's lock. Caught here: the forced release asks for the owner only, or for no tenure at all.
func TestARecordThatWasReadFreesNoOtherTenureOfTheSameOwnerName(t *testing.T) {
	onServer(t, func(e *env) {
		shared := func(o *dynalock.Options) { o.Owner = "one name for all" }
		c1, _ := e.client(long, shared)
		c2, _ := e.client(long, shared)
		old := e.acquire(c1, "key")
		seen, err := c2.Get(e.ctx, "key")
		must(e, err)
		must(e, old.Release(e.ctx))
		l := e.acquire(c1, "key")
		wantErr(e, c2.ForceRelease(e.ctx, seen), dynalock.ErrChanged)
		must(e, l.Renew(e.ctx))

		// Rows of other libraries have no acquisition id: owner and version together stand for the tenure.
		e.put("theirs", goRow("one name for all", "version 1"))
		seen, err = c2.Get(e.ctx, "theirs")
		must(e, err)
		e.put("theirs", goRow("one name for all", "version 2"))
		wantErr(e, c2.ForceRelease(e.ctx, seen), dynalock.ErrChanged)
		e.put("theirs", goRow("another name", "version 1"))
		wantErr(e, c2.ForceRelease(e.ctx, seen), dynalock.ErrChanged)
		e.put("theirs", goRow("one name for all", "version 1"))
		must(e, c2.ForceRelease(e.ctx, seen))
		e.put("nobody's", with(goRow("", "version 1"), attributes{"ownerName": nil}))
		seen, err = c2.Get(e.ctx, "nobody's")
		must(e, err)
		must(e, c2.ForceRelease(e.ctx, seen))
	})
}

// 13. Go: an item without lease or version was taken for a lock that expired long ago, and overwritten after a second.
// Caught here: missing attributes read as zero; the write's condition does not look at what it replaces.
func TestARowThatIsNoLockIsNotTakenHoweverLongItStandsStill(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client()
		rows := map[string]attributes{
			"an order":   {"orderId": n("17"), "total": n("99.5")},
			"no lease":   with(goRow("somebody", "version"), attributes{"leaseDuration": nil}),
			"no version": with(goRow("somebody", "version"), attributes{"recordVersionNumber": nil}),
		}
		for key, row := range rows {
			e.put(key, row)
		}
		for range 3 {
			for key, row := range rows {
				_, err := c.TryAcquire(e.ctx, key)
				wantErr(e, err, dynalock.ErrForeign)
				_, err = c.Acquire(e.within(lease), key)
				wantErr(e, err, dynalock.ErrForeign)
				check(e, reflect.DeepEqual(e.item(key), row), "%s was changed to %v", key, e.item(key))
			}
			time.Sleep(lease)
		}
	})
}

// 14. Both: the try mode never took over a dead lock, and a process that lives shorter than a lease never could: a
// one-shot function was locked out for ever. Caught here: what was seen is forgotten between calls; TryAcquire does not
// take over; MaxClockSkew is without effect.
func TestADeadLockIsTakenByTryAcquireAndByProcessesShorterThanALease(t *testing.T) {
	onServer(t, func(e *env) {
		dead, wire := e.client()
		e.acquire(dead, "key")
		e.acquire(dead, "other key")
		crash(wire)

		function, _ := e.client() // one process, frozen between short calls
		tries := 0
		for start := time.Now(); ; tries++ {
			_, err := function.TryAcquire(e.ctx, "key")
			if err == nil {
				check(e, time.Since(start) >= lease, "taken after %v", time.Since(start))
				break
			}
			wantErr(e, err, dynalock.ErrHeld)
			check(e, time.Since(start) < 3*lease, "locked out")
			if e.Failed() {
				return
			}
			time.Sleep(lease / 4)
		}
		check(e, tries > 0, "the dead holder's lock was taken at first sight without MaxClockSkew")

		for attempt := 1; ; attempt++ { // a process for every call
			once, _ := e.client(func(o *dynalock.Options) { o.MaxClockSkew = 50 * time.Millisecond })
			_, err := once.TryAcquire(e.ctx, "other key")
			must(e, once.Close(e.ctx))
			if err == nil {
				break
			}
			wantErr(e, err, dynalock.ErrHeld)
			check(e, attempt < 10, "one-shot processes are locked out")
			if e.Failed() {
				return
			}
			time.Sleep(lease / 4)
		}
	})
}

// 15. Java renewed with one thread, Go with as many workers as there are CPUs: one hung request, or a few, held up all
// other heartbeats. Caught here: renewals one after the other, or a bound that hung requests use up.
func TestHungRequestsDelayNoOtherHeartbeat(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		hung := 4 * min(runtime.GOMAXPROCS(0), 8) // fewer than renewals may be in flight
		var healthy, sick []*dynalock.Lock
		for i := range hung {
			sick = append(sick, e.acquire(c, fmt.Sprint("sick ", i)))
			healthy = append(healthy, e.acquire(c, fmt.Sprint("healthy ", i)))
		}
		wire.Inject(testserver.Fault{
			Kind:  testserver.HangBefore,
			Match: func(_ string, body []byte) bool { return strings.Contains(string(body), "sick") },
		})
		for range 20 {
			time.Sleep(lease / 4)
			for _, l := range healthy {
				// A heartbeat every fifth of a lease: what is left never falls below that much by much.
				left := time.Until(l.Deadline())
				check(e, l.Held() && left > lease/2, "%s has %v left: %v", l.Key(), left, l.Err())
			}
		}
		for _, l := range sick {
			check(e, !l.Held(), "%s is held without an answer", l.Key())
		}
	})
}

// 16. Both: after a refused write the time to wait was not looked at, and a deferred release with the cancelled context
// of its function left the lock held for a lease. Caught here: the context is looked at between requests only; the
// release runs on the caller's context.
func TestTheWaitEndsWithItsContextAndADeferredReleaseDoesNot(t *testing.T) {
	virtual(t, func(e *env) {
		holder, _ := e.client()
		l := e.acquire(holder, "key")
		c, wire := e.client()
		ctx, cancel := context.WithCancel(e.ctx)
		wire.Inject(testserver.Fault{Op: "UpdateItem", Times: 1, Match: func(string, []byte) bool { cancel(); return true }})
		_, err := c.Acquire(ctx, "key") // ends while its write is being refused
		wantErr(e, err, context.Canceled)
		time.Sleep(5 * lease)
		check(e, wire.Count() == 1, "%d requests, want no more after the end of the wait", wire.Count())

		start := time.Now()
		_, err = c.Acquire(e.within(lease/3), "key")
		wantErr(e, err, context.DeadlineExceeded)
		wantErr(e, err, dynalock.ErrHeld)
		check(e, time.Since(start)-lease/3 <= 50*time.Millisecond, "returned after %v", time.Since(start))

		must(e, l.Release(e.ctx))
		func() {
			ctx, cancel := context.WithCancel(e.ctx)
			l, err := c.Acquire(ctx, "key")
			must(e, err)
			defer func() { must(e, l.Release(ctx)) }()
			cancel()
		}()
		_, err = holder.TryAcquire(e.ctx, "key")
		must(e, err)
	})
}

// 17. Java, on purpose: while the service was unavailable the lease was extended without an acknowledgement, and two
// processes held the lock. Caught here: any error of a heartbeat moves the deadline.
func TestAnUnavailableServiceNeverExtendsTheLease(t *testing.T) {
	for name, f := range map[string]testserver.Fault{
		"unavailable": {Kind: testserver.FailBefore, Status: 503, Type: "ServiceUnavailable"},
		"throttled":   {Kind: testserver.FailBefore, Status: 400, Type: "ProvisionedThroughputExceededException"},
		"error":       {Kind: testserver.FailAfter, Status: 500, Type: "InternalServerError"},
		"conflict":    {Kind: testserver.FailBefore, Status: 400, Type: "TransactionConflictException"},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, wire := e.client()
				l := e.acquire(c, "key")
				time.Sleep(2 * lease)
				wire.Inject(f)
				time.Sleep(10 * time.Millisecond) // one that was under way is answered
				deadline, n := l.Deadline(), wire.Count()
				for l.Held() {
					check(e, l.Deadline().Equal(deadline), "the deadline moved by %v without an acknowledgement",
						l.Deadline().Sub(deadline))
					time.Sleep(lease / 50)
				}
				check(e, wire.Count()-n >= 3, "%d attempts until the deadline", wire.Count()-n)
				check(e, time.Since(deadline) < lease/25, "held until %v after its deadline", time.Since(deadline))
				wantErr(e, l.Err(), dynalock.ErrLost)
			})
		})
	}
}

// 18. Both: releasing deletes the item (Java's default), and with it whatever had been counted in it as a token.
// Caught here: the token of a new item starts at a constant.
func TestAnItemThatGoesAfterItsReleaseDoesNotRestartTheToken(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(long)
		last := uint64(0)
		for range 5 {
			l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.DeleteOnRelease = true })
			check(e, l.Token() > last, "token %d after %d", l.Token(), last)
			last = l.Token()
			must(e, l.Release(e.ctx))
			e.delete("key") // as DynamoDB does later, and other libraries at once
		}
		other, _ := e.client(long) // another process has seen none of these tokens
		_, err := other.Get(e.ctx, "key")
		must(e, err)
		// more than the second that two clients' ideas of the service's time may differ by
		time.Sleep(1200 * time.Millisecond)
		l := e.acquire(other, "key")
		check(e, l.Token() > last, "token %d after %d", l.Token(), last)
	})
}

// put writes an item of the caller's own.
func put(e *env, key, value string) types.TransactWriteItem {
	item := with(e.key(key), attributes{"value": s(value)})
	return types.TransactWriteItem{Put: &types.Put{TableName: &e.table, Item: item}}
}
