package main

import (
	"slices"
	"testing"
	"time"
)

func TestAQuantileIsLinearBetweenTwoValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values  []float64
		q, want float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{1, 3}, 0.5, 2},
		{[]float64{1, 2, 10}, 0.5, 2},
		{[]float64{1, 2, 10}, 0, 1},
		{[]float64{1, 2, 10}, 1, 10},
		{[]float64{0, 10}, 0.25, 2.5},
	} {
		if got := quantileOf(c.values, c.q); got != c.want {
			t.Errorf("quantile %v of %v is %v, want %v", c.q, c.values, got, c.want)
		}
	}
	if got, want := evenly([]float64{0, 1, 2, 3, 4}, 2), []float64{0, 2, 4}; !slices.Equal(got, want) {
		t.Errorf("evenly: %v, want %v", got, want)
	}
}

// twoTurns took 100 ms: a waited 10 ms, b 20 ms, and the end found a waiting for 60 ms.
var twoTurns = outcome{
	total: 100 * time.Millisecond, waits: []time.Duration{10 * time.Millisecond, 20 * time.Millisecond},
	cut: []time.Duration{60 * time.Millisecond}, turns: []int{1, 1},
}

func TestFiguresAreThoseOfATurnAndAWaitThatWasCutShortCounts(t *testing.T) {
	t.Parallel()
	used := usage{requests: 9, writes: 5, readUnits: 4, writeUnits: 6}
	f := figuresOf(twoTurns, used, contender{server: serverDynamoDB, writesTold: true}, 40*time.Millisecond)
	for what, got := range map[string][2]float64{
		"best": {f.BestMS, 40}, "turn": {f.TurnMS, 50}, "turn / best": {f.OverBest, 1.25}, "requests": {*f.Requests, 4.5},
		"writes": {*f.Writes, 2.5}, "read units": {*f.ReadUnits, 2}, "write units": {*f.WriteUnits, 3},
		"USD": {*f.USD, 2*0.125 + 3*0.625}, "mean": {f.MeanMS, 30}, "median": {f.MedianMS, 20}, "longest": {f.LongestMS, 60},
		"longest / mean": {f.Unfair, 2}, "cut": {f.Cut, 1}, "turns": {f.Turns, 2}, "most": {f.MostTurns, 1},
		"first quantile": {f.QuantilesMS[0], 10}, "last": {f.QuantilesMS[20], 60},
	} {
		if got[0] != got[1] {
			t.Errorf("%s is %v, want %v", what, got[0], got[1])
		}
	}
}

func TestWhatCannotBeCountedHasNoFigure(t *testing.T) {
	t.Parallel()
	f := figuresOf(twoTurns, usage{requests: 8}, contender{server: serverRedis}, time.Millisecond)
	if *f.Requests != 4 || f.Writes != nil || f.ReadUnits != nil || f.WriteUnits != nil || f.USD != nil {
		t.Errorf("%+v", f)
	}
	if m := medians([]figures{f, f}); m.Requests == nil || m.Writes != nil || m.USD != nil {
		t.Errorf("medians: %+v", m)
	}
}

func TestEachFigureHasItsOwnMedian(t *testing.T) {
	t.Parallel()
	one := func(turn, unfair, requests float64) figures {
		return figures{TurnMS: turn, Unfair: unfair, Requests: &requests, QuantilesMS: []float64{turn, unfair}}
	}
	m := medians([]figures{one(1, 30, 5), one(3, 10, 7), one(2, 20, 6)})
	if m.TurnMS != 2 || m.Unfair != 20 || *m.Requests != 6 || !slices.Equal(m.QuantilesMS, []float64{2, 20}) {
		t.Errorf("%+v, requests %v", m, *m.Requests)
	}
}
