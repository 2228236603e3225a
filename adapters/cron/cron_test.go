package cron_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	robfig "github.com/robfig/cron/v3"

	"github.com/dynalock/dynalock/adapters/cron"
	"github.com/dynalock/dynalock/dynalock"
)

var _ dynalock.Schedule = (*cron.Schedule)(nil)

func parse(t *testing.T, expression, zone string) *cron.Schedule {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cron.Parse(expression, loc)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ticks are those between two instants, as the clocks of the zone show them.
func ticks(s *cron.Schedule, from, to time.Time, zone string) (shown []string) {
	loc, _ := time.LoadLocation(zone)
	for t := s.Next(from); !t.IsZero() && !t.After(to); t = s.Next(t) {
		shown = append(shown, t.In(loc).Format("02 15:04 -07"))
	}
	return shown
}

func TestATickThatIsSkippedComesAtTheChangeAndOneThatRepeatsComesOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		expression, from string
		hours            int
		want             string
	}{
		{"30 2 * * *", "2026-03-28T12:00:00Z", 36, "29 03:00 +02"}, // there is no 02:30
		{"30 2 * * *", "2026-10-24T12:00:00Z", 36, "25 02:30 +02"}, // there are two
		{"0,30 2 * * *", "2026-03-28T12:00:00Z", 24, "29 03:00 +02"},
		{"0 3 * * *", "2026-03-28T12:00:00Z", 24, "29 03:00 +02"},
		{"0 2,3 * * *", "2026-03-28T12:00:00Z", 24, "29 03:00 +02"},
		{"0 4 * * *", "2026-03-28T12:00:00Z", 24, "29 04:00 +02"},
		{"15 0-3 * * *", "2026-10-24T20:00:00Z", 12, "25 00:15 +02|25 01:15 +02|25 02:15 +02|25 03:15 +01"},
		{"15 0-3 * * *", "2026-03-28T20:00:00Z", 12, "29 00:15 +01|29 01:15 +01|29 03:00 +02|29 03:15 +02"},
		{"0 * * * *", "2026-03-29T00:00:00Z", 2, "29 03:00 +02|29 04:00 +02"},
		{"30 * * * *", "2026-10-25T00:00:00Z", 2, "25 02:30 +02|25 02:30 +01"},
		{"*/30 * * * *", "2026-03-29T00:00:00Z", 2, "29 01:30 +01|29 03:00 +02|29 03:30 +02|29 04:00 +02"},
		{"@daily", "2026-03-28T12:00:00Z", 36, "29 00:00 +01|30 00:00 +02"},
	} {
		from, err := time.Parse(time.RFC3339, tt.from)
		if err != nil {
			t.Fatal(err)
		}
		s := parse(t, tt.expression, "Europe/Berlin")
		for _, from := range []time.Time{from, from.In(time.FixedZone("", -5*3600))} {
			if got := strings.Join(ticks(s, from, from.Add(time.Duration(tt.hours)*time.Hour), "Europe/Berlin"),
				"|"); got != tt.want {
				t.Errorf("%q after %v: %s, want %s", tt.expression, from, got, tt.want)
			}
		}
	}
}

func TestTheTicksAroundAChangeOfClocksAreThoseThatCountingMinutesFinds(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	for zone, change := range map[string][]string{
		"Europe/Berlin":       {"2026-03-29", "2026-10-25"},
		"America/New_York":    {"2026-03-08", "2026-11-01"},
		"Australia/Lord_Howe": {"2026-04-05", "2026-10-04"}, // by half an hour
		"America/Havana":      {"2026-03-08", "2026-11-01"}, // at midnight
		"Asia/Beirut":         {"2025-03-30", "2025-10-26"}, // the same
		"Pacific/Apia":        {"2011-12-30"},               // a day that never was
		"Asia/Kolkata":        {"2026-03-29"},               // none
	} {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for _, day := range change {
			middle, _ := time.Parse(time.DateOnly, day)
			from, to := middle.Add(-40*time.Hour), middle.Add(40*time.Hour)
			for range 12 {
				hour := []string{"*", fmt.Sprint(random.IntN(4)), "1,2,3", "*/2", fmt.Sprint(random.IntN(24))}[random.IntN(5)]
				minute := []string{"0", fmt.Sprint(random.IntN(60)), "*/15", "5,35"}[random.IntN(4)]
				expression := minute + " " + hour + " * * *"
				got := ticks(parse(t, expression, zone), from, to, zone)
				if want := counted(t, expression, hour == "*", from, to, loc); !slices.Equal(got, want) {
					i := 0
					for i < min(len(got), len(want)) && got[i] == want[i] {
						i++
					}
					t.Fatalf("%q in %s from tick %d: %q, want %q", expression, zone, i, got[i:min(i+3, len(got))],
						want[i:min(i+3, len(want))])
				}
			}
		}
	}
}

// counted finds the ticks minute by minute.
func counted(t *testing.T, expression string, hourly bool, from, to time.Time, loc *time.Location) (shown []string) {
	t.Helper()
	schedule, err := robfig.ParseStandard(expression)
	if err != nil {
		t.Fatal(err)
	}
	const face = "2006-01-02 15:04"
	due := func(shown time.Time) bool { return schedule.Next(shown.Add(-time.Second)).Equal(shown) }
	showing := func(at time.Time) time.Time { // what the clocks show, as a time of UTC
		w, err := time.Parse(face, at.In(loc).Format(face))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	seen := map[time.Time]bool{}
	for at := from.Add(-24 * time.Hour); at.Before(from); at = at.Add(time.Minute) {
		seen[showing(at)] = true
	}
	last := showing(from)
	seen[last] = true
	for at := from.Add(time.Minute); !at.After(to); at = at.Add(time.Minute) {
		now := showing(at)
		tick := due(now) && (hourly || !seen[now])
		for skipped := last.Add(time.Minute); skipped.Before(now); skipped = skipped.Add(time.Minute) {
			tick = tick || !hourly && due(skipped)
		}
		if tick {
			shown = append(shown, at.In(loc).Format("02 15:04 -07"))
		}
		seen[now], last = true, now
	}
	return shown
}

func TestABadExpressionOrTimeZoneIsToldWithWhatIsAllowed(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{
		"", "* * * *", "* * * * * *", "61 * * * *", "* * 30 2 *", "@every 5m", "@reboot", "TZ=Europe/Berlin * * * * *", "TZ=",
		"CRON_TZ=", "*/0 * * * *", "a b c d e",
	} {
		if s, err := cron.Parse(expression, nil); err == nil || !strings.Contains(err.Error(), "allowed: five fields") {
			t.Errorf("%q: %v, %v", expression, s, err)
		}
	}
	if _, err := cron.Parse("* * * * *", time.Local); err == nil {
		t.Error("the machine's time zone is accepted")
	}
	if s, err := cron.Parse("*/5 * * * *", nil); err != nil || s.String() != "*/5 * * * * UTC" {
		t.Errorf("%v, %v", s, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"*/5 * * * *", "0 2 29 2 *", "@daily", "TZ=", "1-59/7,3 */2 1-31 jan-dec sun",
		"? ? ? ? ?",
	} {
		f.Add(seed)
	}
	loc, err := time.LoadLocation("America/Havana")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		s, err := cron.Parse(expression, loc)
		if err != nil {
			return
		}
		at := time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC)
		for range 20 {
			next := s.Next(at)
			if next.IsZero() {
				break
			}
			if !next.After(at) || next.Nanosecond() != 0 || next.Unix()%60 != 0 {
				t.Fatalf("%q after %v: %v", expression, at, next)
			}
			if again := s.Next(next.Add(-time.Nanosecond)); !again.Equal(next) {
				t.Fatalf("%q: %v is the tick after %v, and not after the instant before it, which has %v", expression, next, at,
					again)
			}
			at = next
		}
	})
}
