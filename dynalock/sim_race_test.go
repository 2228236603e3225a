//go:build race

package dynalock_test

// The race detector makes a schedule ten times as expensive.
const defaultSchedules = 100
