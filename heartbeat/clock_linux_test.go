package heartbeat

import (
	"testing"
	"time"
)

func TestSuspensionIsNotInventedByAThreadThatLostItsCPU(t *testing.T) {
	t.Parallel()
	const ms = int64(time.Millisecond)
	for name, c := range map[string]struct {
		last, want, reads int64
		seen              []int64
	}{
		"nothing happened":                 {5000 * ms, 5000 * ms, 1, []int64{5000*ms + 400}},
		"one read was torn":                {5000 * ms, 5000 * ms, 2, []int64{5100 * ms, 5000*ms + 300}},
		"two reads were torn":              {5000 * ms, 5000 * ms, 3, []int64{5100 * ms, 5070 * ms, 5000*ms + 300}},
		"the machine was suspended":        {5000 * ms, 9000*ms + 300, 3, []int64{9000*ms + 400, 9100 * ms, 9000*ms + 300}},
		"the last answer had been too big": {5100 * ms, 5000*ms + 200, 1, []int64{5000*ms + 200}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reads := int64(0)
			got := steady(c.last, func() int64 { reads++; return c.seen[reads-1] })
			if got != c.want || reads != c.reads {
				t.Errorf("steady = %d after %d reads, want %d after %d", got, reads, c.want, c.reads)
			}
		})
	}
}

func TestTheKernelsClocksCanBeRead(t *testing.T) {
	t.Parallel()
	if mono, boot := clockGettime(clockMonotonic), clockGettime(clockBoottime); mono <= 0 || boot < mono {
		t.Errorf("CLOCK_MONOTONIC %d, CLOCK_BOOTTIME %d: want the latter no smaller", mono, boot)
	}
	if got := clockGettime(1 << 20); got != 0 {
		t.Errorf("a clock that does not exist reads %d, want 0", got)
	}
}
