//go:build !race

package dynalock_test

const (
	defaultSchedules = coveringSchedules
	underRace        = false
)
