package main

import (
	"testing"
	"time"
)

func TestAVisibilityTimeoutIsTheNextWholeSecondWithinWhatSQSAllows(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]int32{
		-time.Second: 0, 0: 0, 1: 1, 10 * time.Millisecond: 1, time.Second: 1, time.Second + 1: 2,
		75 * time.Second: 75, 12 * time.Hour: 43200, 24 * time.Hour: 43200, 1<<63 - 1: 43200,
	} {
		if got := seconds(wait); got != want {
			t.Errorf("seconds(%v) = %d, want %d", wait, got, want)
		}
	}
}
