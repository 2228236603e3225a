package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// queue is a lock that is handed to whoever has waited longest, in no time.
type queue struct {
	mu      sync.Mutex
	held    bool
	waiting []chan struct{}
	free    bool // nobody is kept out
	greedy  bool // whoever comes last is the next
	failing error
}

func (q *queue) acquire(ctx context.Context, _ string) (held, error) {
	q.mu.Lock()
	if q.failing != nil {
		defer q.mu.Unlock()
		return nil, q.failing
	}
	if !q.held || q.free {
		q.held = true
		q.mu.Unlock()
		return q, nil
	}
	mine := make(chan struct{})
	q.waiting = append(q.waiting, mine)
	q.mu.Unlock()
	select {
	case <-mine:
		return q, nil
	case <-ctx.Done():
		q.mu.Lock()
		defer q.mu.Unlock()
		if i := slices.Index(q.waiting, mine); i >= 0 {
			q.waiting = slices.Delete(q.waiting, i, i+1)
			return nil, ctx.Err()
		}
		return q, nil // it was handed over meanwhile
	}
}

func (q *queue) release(context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = false
	if len(q.waiting) > 0 && !q.greedy {
		q.held = true
		close(q.waiting[0])
		q.waiting = q.waiting[1:]
	}
	return nil
}

func (q *queue) close(context.Context) error { return nil }

// same is n clients of one lock.
func same(q *queue, n int) []client {
	clients := make([]client, n)
	for i := range clients {
		clients[i] = q
	}
	return clients
}

func TestALineWithoutGapsHasTheFairRatioAndNoTimeBetweenTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := scenario{clients: 4, hold: 20 * time.Millisecond, turns: 5}
		out, err := s.play(t.Context(), same(&queue{}, 4), "key")
		if err != nil {
			t.Fatal(err)
		}
		if out.total != 20*20*time.Millisecond || !slices.Equal(out.turns, []int{5, 5, 5, 5}) || len(out.cut) > 0 {
			t.Errorf("%v, turns %v, cut short %v", out.total, out.turns, out.cut)
		}
		f := figuresOf(out, usage{}, contender{}, 20*time.Millisecond)
		if f.OverBest != 1 || f.LongestMS != 60 || f.Unfair != rounded(s.fairRatio()) {
			t.Errorf("turn / best %v, longest %v ms, longest / mean %v, want 1, 60, %v", f.OverBest, f.LongestMS, f.Unfair,
				s.fairRatio())
		}
	})
}

func TestAGreedyPairOnAnUnfairLockLeavesOneWaitingToTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out, err := greedy(time.Minute).play(t.Context(), same(&queue{greedy: true}, 2), "key")
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(out.turns)
		if out.turns[0] != 0 || out.turns[1] < 59 {
			t.Errorf("turns %v", out.turns)
		}
		if len(out.cut) != 1 || out.cut[0] != time.Minute {
			t.Errorf("waits cut short: %v", out.cut)
		}
	})
}

func TestAGreedyPairOnAFairLockTakesTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out, err := greedy(time.Minute).play(t.Context(), same(&queue{}, 2), "key")
		if err != nil {
			t.Fatal(err)
		}
		if d := out.turns[0] - out.turns[1]; d < -1 || d > 1 || out.turns[0] < 29 {
			t.Errorf("turns %v", out.turns)
		}
	})
}

func TestALockThatTwoHoldAtOnceHasNoFigures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, err := scenario{clients: 2, hold: time.Second, turns: 1}.play(t.Context(), same(&queue{free: true}, 2), "key")
		if !errors.Is(err, errTwoHolders) {
			t.Errorf("err: %v", err)
		}
	})
}

func TestAnErrorOfOneClientEndsTheRunOfAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("the server is gone")
		q := &queue{}
		clients := append(same(q, 3), &queue{failing: broken})
		_, err := scenario{clients: 4, hold: time.Hour, turns: 3}.play(t.Context(), clients, "key")
		if !errors.Is(err, broken) || q.held {
			t.Errorf("err: %v, held: %v", err, q.held)
		}
	})
}

func TestAnInterruptedRunReleasesWhatItHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithTimeout(t.Context(), time.Second)
		defer interrupt()
		q := &queue{}
		began := time.Now()
		_, err := scenario{clients: 3, hold: time.Hour, turns: 3}.play(ctx, same(q, 3), "key")
		if !errors.Is(err, context.DeadlineExceeded) || q.held || time.Since(began) != time.Second {
			t.Errorf("err: %v, held: %v, after %v", err, q.held, time.Since(began))
		}
	})
}

func TestABadFlagIsNamedTogetherWithWhatItMayBe(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-runs 0":                   "-runs 0: it is between 1 and 100",
		"-runs 101":                 "-runs 101: it is between 1 and 100",
		"-greedy-runs 0":            "-greedy-runs 0: it is between 1 and 100",
		"-turns -1":                 "-turns -1: it is between 0 and 10000",
		"-greedy 1s":                "-greedy 1s: it is between 2s and 1h0m0s",
		"-round-trip 2s":            "-round-trip 2s: it is between 0s and 1s",
		"-round-trip -1ms":          "-round-trip -1ms: it is between 0s and 1s",
		"-o xml":                    `-o "xml": it is table, json or markdown`,
		"-contenders zookeeper":     `-contenders: "zookeeper" is none of dynalock, dynamolock, dynamolock-50ms, etcd, redislock`,
		"-scenarios 8x20":           `-scenarios: "8x20" is not alone, greedy, or CLIENTSxHOLD`,
		"-scenarios 0x20ms":         "with 1 to 256 clients",
		"-scenarios 257x20ms":       "with 1 to 256 clients",
		"-scenarios 2x10s":          "a hold below 10s",
		"-scenarios alone,alone":    "-scenarios: alone is named twice",
		"-endpoint localhost:8000":  `-endpoint: "localhost:8000" is not http://HOST:PORT`,
		"-endpoint http://some.net": `-endpoint: "http://some.net" is not http://HOST:PORT`,
		"fast":                      `compare takes flags only, not "fast"`,
	} {
		if _, err := parsePlan(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", args, err, want)
		}
	}
}

func TestAPlanHasTheScenariosThatWereNamed(t *testing.T) {
	t.Parallel()
	p, err := parsePlan(strings.Fields("-scenarios 8x20ms,16x50ms,greedy -greedy 10s -turns 3 -contenders etcd,dynalock"))
	if err != nil {
		t.Fatal(err)
	}
	want := []scenario{
		{name: "8x20ms", clients: 8, hold: 20 * time.Millisecond, turns: 3},
		{name: "16x50ms", clients: 16, hold: 50 * time.Millisecond, turns: 3},
		{name: "greedy", clients: 2, hold: time.Second, length: 10 * time.Second},
	}
	if !slices.Equal(p.scenarios, want) {
		t.Errorf("scenarios %+v", p.scenarios)
	}
	if len(p.contenders) != 2 || p.contenders[0].name != "etcd" || p.contenders[1].name != "dynalock" {
		t.Errorf("%d contenders", len(p.contenders))
	}
}

func TestAScenarioSaysWhatItIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s    scenario
		want string
	}{
		{scenarios[0], "One client, 200 turns that hold nothing up"},
		{scenarios[1], "8 clients hold for 20 ms, 10 turns each"},
		{scenarios[5], "2 clients hold for 5 s, 3 turns each"},
		{greedy(3 * time.Minute), "Two greedy workers, 1 s of work, for 3 min"},
		{greedy(10 * time.Second), "Two greedy workers, 1 s of work, for 10 s"},
	} {
		if got := c.s.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
