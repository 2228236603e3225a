// Package cron makes schedules of cron expressions, for the ticks of dynalock's Client.Tick. The expressions are parsed
// by github.com/robfig/cron/v3, the parser of Kubernetes' CronJobs. Its behaviour when clocks change is replaced by
// that of cron itself.
package cron

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Schedule is a cron expression in a time zone. It is a dynalock.Schedule, and safe for concurrent use.
type Schedule struct {
	expression string
	zone       *time.Location
	spec       *cron.SpecSchedule // by clocks that never change
	hourly     bool
}

// anyHour is the bit that the parser sets in a field that was given as "*".
const anyHour = 1 << 63

// Parse reads a cron expression: five fields (minute, hour, day of the month, month, day of the week), or one of
// @hourly, @daily, @weekly, @monthly and @yearly. If both days are given, one of them is enough. The expression is read
// by the clocks of zone; nil is UTC.
//
// When clocks change:
//
//   - They are set forward: a tick whose time is skipped comes once, at the moment of the change.
//   - They are set back: a tick whose time comes twice comes the first time.
//   - An expression whose hour is "*" comes in each hour that passes, in both cases.
//
// The error says what is wrong:
//
//   - The expression cannot be read.
//   - The expression never comes: on February 30, for example.
//   - "@every" would count from the start of each process. dynalock.Every does not.
//   - "TZ=": the time zone is an argument of its own.
//   - zone is time.Local, on which machines need not agree.
func Parse(expression string, zone *time.Location) (*Schedule, error) {
	bad := func(err error) (*Schedule, error) {
		return nil, fmt.Errorf("cron expression is %q, allowed: five fields, or one of %s: %w", expression,
			"@hourly, @daily, @weekly, @monthly, @yearly", err)
	}
	switch zone {
	case time.Local:
		return nil, errors.New("time zone is that of the machine, allowed: a named one, so that all machines agree")
	case nil:
		zone = time.UTC
	}
	if strings.Contains(expression, "=") { // the parser panics at a zone without an expression
		return bad(errors.New("the time zone is an argument of its own"))
	}
	parsed, err := cron.ParseStandard(expression)
	if err != nil {
		return bad(err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return bad(errors.New("@every counts from the start of a process"))
	}
	spec.Location = time.UTC
	s := &Schedule{expression: expression, zone: zone, spec: spec, hourly: spec.Hour&anyHour != 0}
	if s.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return bad(errors.New("it never comes"))
	}
	return s, nil
}

// String is the expression and the time zone.
func (s *Schedule) String() string { return s.expression + " " + s.zone.String() }

// Next is the first tick after t, whatever the location of t. The zero time means that there is none in the next five
// years.
func (s *Schedule) Next(t time.Time) time.Time {
	after := t.In(s.zone)
	for { // from one change of the clocks to the next
		shift := offset(after)
		shown := s.spec.Next(after.UTC().Add(shift)) // what the clocks show, as a time of UTC
		if shown.IsZero() {
			return shown
		}
		tick := shown.Add(-shift).In(s.zone)
		_, change := after.ZoneBounds()
		if !change.IsZero() && !change.After(after) { // the bounds of a leap year after 2037 may lie behind
			change = after.Add(time.Hour)
		}
		switch {
		case change.IsZero() || tick.Before(change):
			if s.hourly || !repeats(tick) {
				return tick
			}
			after = tick
			continue
		case !s.hourly && shown.Before(change.UTC().Add(offset(change))): // skipped
			return change
		}
		after = change
		at := change.UTC().Add(offset(change))
		if s.spec.Next(at.Add(-time.Second)).Equal(at) && (s.hourly || !repeats(change)) {
			return change
		}
	}
}

// offset is that of a zone's clocks from UTC.
func offset(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}

// repeats reports that the clocks show this time for the second time.
func repeats(t time.Time) bool {
	change, _ := t.ZoneBounds()
	return !change.IsZero() && t.Sub(change) < offset(change.Add(-time.Second))-offset(change)
}
