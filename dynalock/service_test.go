package dynalock_test

import (
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/heartbeat"
)

// offClient makes a client whose wall clock is ahead of the test's by offset.
func offClient(e *env, offset time.Duration) *dynalock.Client {
	clock := &clocks{}
	clock.wall.Store(int64(offset))
	c, _ := e.client(dynalock.WithClock(clock))
	return c
}

// ask gives a client an answer, and with it the service's time.
func ask(e *env, c *dynalock.Client) {
	_, err := c.Get(e.ctx, "a key that nobody locks")
	must(e, err)
}

func TestTokensOfAThousandTenuresIncreaseAcrossDeletionsAndSkewedClocks(t *testing.T) {
	virtual(t, func(e *env) {
		random := rand.New(rand.NewPCG(1, 2))
		last := uint64(0)
		for i := range 1000 {
			c := offClient(e, time.Duration(i%3-1)*15*time.Second) // 30 s between the first and the last
			time.Sleep(time.Duration(random.Int64N(int64(time.Second))))
			ask(e, c) // in whatever part of the server's second, and a new client each time: it has one answer and no more
			time.Sleep(2*time.Second - time.Second*time.Duration(i%2)/2)
			l := e.acquire(c, "key")
			check(e, l.Token() > last, "tenure %d: token %d after %d", i, l.Token(), last)
			check(e, l.Token() < 1<<53, "token %d does not fit 53 bits", l.Token())
			last = l.Token()
			must(e, l.Release(e.ctx))
			e.delete("key")
			time.Sleep(500 * time.Millisecond * time.Duration(i%2)) // with what follows, 2 s at least
		}
	})
}

func TestWhileTheItemExistsNoClockMattersToTheToken(t *testing.T) {
	onServer(t, func(e *env) {
		last := uint64(0)
		for _, offset := range []time.Duration{
			0, -10 * 365 * 24 * time.Hour, 365 * 24 * time.Hour, -time.Hour, time.Hour,
			0,
		} {
			l := e.acquire(offClient(e, offset), "key")
			check(e, last == 0 || l.Token() == last+1, "token %d after %d, with a clock that is off by %v", l.Token(), last,
				offset)
			last = l.Token()
			must(e, l.Release(e.ctx))
		}
	})
}

// afterDeletion is a tenure of one client, the deletion of the item, and a tenure of another client a distance later.
func afterDeletion(e *env, first, second *dynalock.Client, distance time.Duration) (before, after uint64) {
	l := e.acquire(first, "key")
	must(e, l.Release(e.ctx))
	began := time.Now()
	e.delete("key")
	time.Sleep(distance - time.Since(began))
	l2 := e.acquire(second, "key")
	must(e, l2.Release(e.ctx))
	e.delete("key")
	return l.Token(), l2.Token()
}

// The service tells its time in whole seconds, so one answer leaves a second of doubt. These are the two clients that
// are furthest apart: one was answered at the begin of a second, the other one at its end.
func TestAfterADeletionOneAnswerOrdersTokensThatAreASecondApart(t *testing.T) {
	virtual(t, func(e *env) {
		apart := func() (early, late *dynalock.Client) {
			early, late = offClient(e, 15*time.Second), offClient(e, -15*time.Second)
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
			ask(e, early)
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(990 * time.Millisecond)))
			ask(e, late)
			return early, late
		}
		for _, d := range []time.Duration{1050 * time.Millisecond, 1500 * time.Millisecond, 2 * time.Second} {
			early, late := apart()
			before, after := afterDeletion(e, early, late, d)
			check(e, after > before, "%v later: token %d after %d", d, after, before)
		}
		// What is not promised: a shorter distance, of clients that know as little.
		early, late := apart()
		before, after := afterDeletion(e, early, late, 200*time.Millisecond)
		check(e, after < before, "200ms later: token %d after %d; if that is in order now, the documentation says too little",
			after, before)
	})
}

func TestEveryFurtherAnswerShortensTheDistanceAfterWhichTokensAreInOrder(t *testing.T) {
	virtual(t, func(e *env) {
		first, second := offClient(e, 15*time.Second), offClient(e, -15*time.Second)
		for range 20 { // in twenty parts of the second
			ask(e, first)
			time.Sleep(25 * time.Millisecond)
			ask(e, second)
			time.Sleep(1025 * time.Millisecond)
		}
		for range 50 {
			before, after := afterDeletion(e, first, second, 150*time.Millisecond)
			check(e, after > before, "token %d after %d", after, before)
			first, second = second, first
		}
	})
}

func TestOneProcessNeverGivesASmallerTokenAtAnyDistance(t *testing.T) {
	virtual(t, func(e *env) {
		clock := &clocks{}
		c, _ := e.client(dynalock.WithClock(clock))
		last := uint64(0)
		for i := range 100 {
			l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.DeleteOnRelease = true })
			check(e, l.Token() > last, "token %d after %d", l.Token(), last)
			last = l.Token()
			must(e, l.Release(e.ctx))
			clock.wall.Add(int64(time.Duration(i%3-1) * time.Minute)) // a clock that is set forward and back all the time
		}
	})
}

// What remains: the very first request of a process has nothing but the local clock.
func TestAfterADeletionOnlyTheFirstRequestOfAClientWhoseClockIsAheadGivesTokensThatAreAhead(t *testing.T) {
	virtual(t, func(e *env) {
		right := offClient(e, 0)
		ask(e, right)
		// its first answer puts it right
		before, after := afterDeletion(e, right, offClient(e, -30*time.Second), 3*time.Second)
		check(e, after > before, "token %d after %d", after, before)
		ahead := offClient(e, 30*time.Second)
		before, after = afterDeletion(e, ahead, right, 3*time.Second)
		check(e, after < before, "token %d after %d: was there an answer before the first request?", after, before)
		asked := offClient(e, 30*time.Second)
		ask(e, asked)
		before, after = afterDeletion(e, asked, right, 3*time.Second)
		check(e, after > before, "token %d after %d", after, before)
	})
}

func TestARowThatAnotherClientRewroteWithoutTheTokenStartsAboveIt(t *testing.T) {
	onServer(t, func(e *env) {
		first, second := offClient(e, 30*time.Second), offClient(e, -30*time.Second)
		ask(e, first)
		ask(e, second)
		l := e.acquire(first, "key")
		must(e, l.Release(e.ctx))
		e.put("key", with(javaRow("5d1e8a1c-0000-4000-8000-000000000000"), attributes{"isReleased": s("1")}))
		time.Sleep(1500 * time.Millisecond)
		l2 := e.acquire(second, "key")
		check(e, l2.Token() > l.Token(), "token %d after %d", l2.Token(), l.Token())
		row := e.item("key")
		check(e, text(row["fencingToken"]) == strconv.FormatUint(l2.Token(), 10), "stored is %v, the lock says %d",
			text(row["fencingToken"]), l2.Token())
	})
}

// stepped is a clock whose wall time is wrong.
type stepped struct {
	heartbeat.Clock
	by *atomic.Int64
}

func (s stepped) Now() heartbeat.Reading {
	r := s.Clock.Now()
	r.Wall = r.Wall.Add(time.Duration(s.by.Load()))
	return r
}

func TestNoClientGivesATokenBelowOneThatItHasSeen(t *testing.T) {
	virtual(t, func(e *env) {
		var ahead atomic.Int64
		ahead.Store(int64(time.Hour)) // and nobody has told the client yet
		clock := dynalock.WithClock(stepped{heartbeat.SystemClock(), &ahead})
		c, _ := e.client(clock)
		l := e.acquire(c, "held by itself")
		record(e, c, "another") // two answers that agree put its idea of the time right
		record(e, c, "another")
		e.delete("held by itself")
		m, err := c.TryAcquire(e.ctx, "held by itself")
		must(e, err)
		check(e, m.Token() > l.Token(), "token %d after %d", m.Token(), l.Token())

		c, _ = e.client(clock)
		l = e.acquire(c, "seen held", func(o *dynalock.AcquireOptions) { o.DeleteOnRelease = true })
		d, _ := e.client()
		_, err = d.TryAcquire(e.ctx, "seen held")
		wantErr(e, err, dynalock.ErrHeld)
		must(e, l.Release(e.ctx))
		m = e.acquire(d, "seen held")
		check(e, m.Token() > l.Token(), "token %d after %d", m.Token(), l.Token())
	})
}
