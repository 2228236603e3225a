package main

import (
	"math"
	"slices"
	"time"
)

// figures are those of one run of one contender, or their medians over runs. A figure that cannot be counted is nil.
// Times are in milliseconds.
type figures struct {
	BestMS      float64   `json:"best_ms"` // hold and two bare UpdateItem
	TurnMS      float64   `json:"turn_ms"`
	OverBest    float64   `json:"turn_over_best"`
	Turns       float64   `json:"turns"`
	MostTurns   float64   `json:"most_turns"`  // of one client
	LeastTurns  float64   `json:"least_turns"` // of one client
	Requests    *float64  `json:"requests_a_turn,omitempty"`
	Writes      *float64  `json:"writes_a_turn,omitempty"`
	ReadUnits   *float64  `json:"read_units_a_turn,omitempty"`
	WriteUnits  *float64  `json:"write_units_a_turn,omitempty"`
	USD         *float64  `json:"usd_a_million_turns,omitempty"`
	MeanMS      float64   `json:"mean_wait_ms"`
	MedianMS    float64   `json:"median_wait_ms"`
	LongestMS   float64   `json:"longest_wait_ms"`
	Unfair      float64   `json:"longest_over_mean"`
	Cut         float64   `json:"waits_cut_short"`   // by the end of the run; they count with their length so far
	QuantilesMS []float64 `json:"wait_quantiles_ms"` // evenly spaced, from the shortest to the longest
}

// On demand in us-east-1, as docs/costs.md has it.
const (
	usdPerMillionReads  = 0.125
	usdPerMillionWrites = 0.625
)

// figuresOf sums a run up. best is the least time that a turn could have taken.
func figuresOf(out outcome, used usage, c contender, best time.Duration) figures {
	f := figures{
		BestMS: ms(best), Turns: float64(len(out.waits)), Cut: float64(len(out.cut)),
		MostTurns: float64(slices.Max(out.turns)), LeastTurns: float64(slices.Min(out.turns)),
	}
	waits := allWaits(out)
	if len(out.waits) == 0 {
		return f
	}
	f.TurnMS = rounded(ms(out.total) / f.Turns)
	f.OverBest = rounded(ms(out.total) / f.Turns / f.BestMS)
	a := func(total float64) *float64 { return new(rounded(total / f.Turns)) }
	f.Requests = a(float64(used.requests))
	if c.writesTold {
		f.Writes = a(float64(used.writes))
	}
	if c.server == serverDynamoDB {
		f.ReadUnits, f.WriteUnits = a(used.readUnits), a(used.writeUnits)
		f.USD = a(used.readUnits*usdPerMillionReads + used.writeUnits*usdPerMillionWrites)
	}
	f.MeanMS, f.MedianMS = rounded(mean(waits)), rounded(quantileOf(waits, 0.5))
	f.LongestMS = rounded(waits[len(waits)-1])
	f.Unfair = rounded(waits[len(waits)-1] / mean(waits))
	f.QuantilesMS = evenly(waits, 20)
	return f
}

// allWaits are the waits of a run in milliseconds, sorted. Those that the end cut short count with their length so far.
func allWaits(out outcome) []float64 {
	var waits []float64
	for _, wait := range slices.Concat(out.waits, out.cut) {
		waits = append(waits, ms(wait))
	}
	slices.Sort(waits)
	return waits
}

// medians takes the median of each figure for itself.
func medians(runs []figures) figures {
	of := func(get func(figures) float64) float64 {
		var values []float64
		for _, f := range runs {
			values = append(values, get(f))
		}
		slices.Sort(values)
		return rounded(quantileOf(values, 0.5))
	}
	optional := func(get func(figures) *float64) *float64 {
		for _, f := range runs {
			if get(f) == nil {
				return nil
			}
		}
		return new(of(func(f figures) float64 { return *get(f) }))
	}
	m := figures{
		BestMS:     of(func(f figures) float64 { return f.BestMS }),
		TurnMS:     of(func(f figures) float64 { return f.TurnMS }),
		OverBest:   of(func(f figures) float64 { return f.OverBest }),
		Turns:      of(func(f figures) float64 { return f.Turns }),
		MostTurns:  of(func(f figures) float64 { return f.MostTurns }),
		LeastTurns: of(func(f figures) float64 { return f.LeastTurns }),
		Requests:   optional(func(f figures) *float64 { return f.Requests }),
		Writes:     optional(func(f figures) *float64 { return f.Writes }),
		ReadUnits:  optional(func(f figures) *float64 { return f.ReadUnits }),
		WriteUnits: optional(func(f figures) *float64 { return f.WriteUnits }),
		USD:        optional(func(f figures) *float64 { return f.USD }),
		MeanMS:     of(func(f figures) float64 { return f.MeanMS }),
		MedianMS:   of(func(f figures) float64 { return f.MedianMS }),
		LongestMS:  of(func(f figures) float64 { return f.LongestMS }),
		Unfair:     of(func(f figures) float64 { return f.Unfair }),
		Cut:        of(func(f figures) float64 { return f.Cut }),
	}
	for i := range runs[0].QuantilesMS {
		m.QuantilesMS = append(m.QuantilesMS, of(func(f figures) float64 { return f.QuantilesMS[i] }))
	}
	return m
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// quantileOf is the value below which the share q of the sorted values lies, linear between two of them: at 1/2 the
// median, the mean of the middle two of an even number.
func quantileOf(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

// evenly are the quantiles of sorted values at 0, 1/steps, and so on to 1.
func evenly(sorted []float64, steps int) []float64 {
	var values []float64
	for i := range steps + 1 {
		values = append(values, rounded(quantileOf(sorted, float64(i)/float64(steps))))
	}
	return values
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// rounded has three decimals: of a millisecond, more would be noise.
func rounded(v float64) float64 { return math.Round(v*1000) / 1000 }
