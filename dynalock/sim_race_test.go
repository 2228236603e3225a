//go:build race

package dynalock_test

// The race detector makes a schedule ten times as expensive.
const defaultSchedules = 100

// underRace has the dearest tests try fewer cases: one finds the races that all of them have.
const underRace = true
