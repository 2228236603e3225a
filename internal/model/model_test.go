package model

import (
	"testing"
	"time"
)

func TestExplore(t *testing.T) {
	for _, m := range []*Model{
		{Rates: []uint8{90, 110}, Attempt: 1, Faults: 2, Crashes: 1},
	} {
		start := time.Now()
		r := m.Search(100_000_000)
		t.Logf("%v a%d f%d c%d o%d g%v: %v complete %v %v", m.Rates, m.Attempt, m.Faults, m.Crashes, m.Operators, m.Guarded, &r, r.Complete, time.Since(start))
		if r.Violation != nil {
			t.Fatal(m.Trace(r.Path))
		}
	}
}
