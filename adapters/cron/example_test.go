package cron_test

import (
	"fmt"
	"time"

	"github.com/dynalock/dynalock/adapters/cron"
)

// On weekdays at six, by the clocks of Berlin. The result is a dynalock.Schedule, for Client.Tick.
func ExampleParse() {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		panic(err)
	}
	weekdays, err := cron.Parse("0 6 * * mon-fri", berlin)
	fmt.Println(weekdays, err)
	_, err = cron.Parse("@every 5m", nil)
	fmt.Println(err)
	// Output:
	// 0 6 * * mon-fri Europe/Berlin <nil>
	// cron expression is "@every 5m", allowed: five fields, or one of @hourly, @daily, @weekly, @monthly, @yearly: @every counts from the start of a process
}

// The clocks of Berlin are set forward in the night to March 29, 2026: 02:30 is skipped, and the tick comes at 03:00.
func ExampleSchedule_Next() {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		panic(err)
	}
	nightly, err := cron.Parse("30 2 * * *", berlin)
	if err != nil {
		panic(err)
	}
	tick := time.Date(2026, 3, 27, 12, 0, 0, 0, berlin)
	for range 3 {
		tick = nightly.Next(tick)
		fmt.Println(tick)
	}
	// Output:
	// 2026-03-28 02:30:00 +0100 CET
	// 2026-03-29 03:00:00 +0200 CEST
	// 2026-03-30 02:30:00 +0200 CEST
}
