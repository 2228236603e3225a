//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
	_ "time/tzdata" // a container may have none

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/adapters/cron"
	"github.com/dynalock/dynalock/dynalock"
)

// ticks are the flags of a job that ticks.
type ticks struct {
	every            time.Duration
	cron, zone, miss string
	catchUp          dynalock.CatchUp

	schedule dynalock.Schedule // nil: the job runs for one period
}

const ticksHelp = `With --every or --cron there is no PERIOD. dynalock-admin stays, and runs the command at each tick: of all processes
that were started for the job, one does. The tick's time (UTC, RFC 3339) is the period.

  --every      due at each multiple of this time: with 5m every 5 minutes since midnight UTC
  --cron       five fields, in the time zone --tz. A tick that the clocks skip comes when they change, and a tick that
               they repeat comes once
  --catch-up   which of the missed ticks run, late: the latest one, all of them (the oldest first, at most 100), or
               none. A tick is missed if it becomes due while another one runs, while the job is paused, or while no
               process is there to run it

Ticks are due by DynamoDB's clock, whatever the machine's clock says. They never run at the same time. If a command
fails, standard error says so (with -o json there is a document of each run), and the next tick comes. A signal that
tells dynalock-admin to stop ends the command, if one runs, and then dynalock-admin, with exit code 128+n.`

func (t *ticks) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&t.every, "every", 0, "run at each multiple of this, in whole seconds, instead of for a PERIOD")
	f.StringVar(&t.cron, "cron", "", "run when this cron expression says, instead of for a PERIOD")
	f.StringVar(&t.zone, "tz", "UTC", "time zone of --cron, such as Europe/Berlin")
	f.StringVar(&t.miss, "catch-up", "latest", "which missed ticks run: latest, all or none")
	allow(cmd, "tz", "a time zone such as Europe/Berlin")
	allow(cmd, "catch-up", "latest, all or none")
	completes(cmd, "catch-up", "latest", "all", "none")
}

// asked reports whether the job has ticks.
func (t *ticks) asked(cmd *cobra.Command) bool {
	return cmd.Flags().Changed("every") || cmd.Flags().Changed("cron")
}

// parse makes the schedule, if there is to be one.
func (t *ticks) parse(cmd *cobra.Command) error {
	f := cmd.Flags()
	unused := []string{"tz", "catch-up"}
	switch {
	case f.Changed("every") && f.Changed("cron"):
		return usagef("--every and --cron are both set, allowed: one of them")
	case f.Changed("every"):
		unused = []string{"tz", "wait", "no-wait", "held-exit-code", "at-least"}
		t.schedule = dynalock.Every(t.every, 0)
	case f.Changed("cron"):
		unused = []string{"wait", "no-wait", "held-exit-code", "at-least"}
		zone, err := time.LoadLocation(t.zone)
		if err != nil || t.zone == "Local" {
			return usagef("--tz is %q, allowed: a time zone such as Europe/Berlin", t.zone)
		}
		schedule, err := cron.Parse(t.cron, zone)
		if err != nil {
			return usagef("--cron: %v", err)
		}
		t.schedule = schedule
	}
	for _, name := range unused {
		if f.Changed(name) {
			return usagef("--%s is of no use here: see dynalock-admin once --help", name)
		}
	}
	for _, u := range []dynalock.CatchUp{dynalock.CatchUpLatest, dynalock.CatchUpAll, dynalock.CatchUpNone} {
		if u.String() == t.miss {
			t.catchUp = u
			return nil
		}
	}
	return usagef("--catch-up is %q, allowed: latest, all or none", t.miss)
}

// tick runs the command at each tick until a signal comes.
func (r *onceRun) tick(ctx context.Context, c *dynalock.Client) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	err := c.Tick(work, r.job, r.ticks.schedule, func(_ context.Context, l *dynalock.Lock, due time.Time) error {
		r.won = true
		err := r.heard()
		defer r.listen(cancel) // from the command's end on, signals are ours again
		if err != nil {
			return err
		}
		r.ended, r.refused, r.period = nil, nil, due.UTC().Format(time.RFC3339)
		err = r.do(l, cancel)
		if r.told != 0 {
			cancel()
		}
		return err
	}, func(o *dynalock.TickOptions) {
		o.CatchUp, o.Done = r.ticks.catchUp, r.reportTick
		o.Lease, o.MaxAttempts, o.Keep, o.Reason = r.once.Lease, r.once.MaxAttempts, r.once.Keep, r.once.Reason
		o.RetryOnError, o.RetryPause = r.once.RetryOnError, r.once.RetryPause
	})
	heard := r.heard()
	if r.told != 0 {
		heard = &exitError{exitSignal + int(r.told), interrupted{r.told}}
	}
	r.close(context.WithoutCancel(ctx), c)
	return cmp.Or(heard, err)
}

// reportTick says what became of a tick, as far as there is anything to say.
func (r *onceRun) reportTick(run dynalock.Run, err error) {
	r.hush()
	r.failures = 0
	if r.ended != nil && (r.ended.lost || r.ended.killed) {
		run.FinishedAt, run.Err = time.Time{}, ""
	}
	if shown := r.a.showRun(run, statusOf(run)); shown != nil {
		r.warn(message(shown))
	}
	what := fmt.Sprintf("%q of %q ", run.Period, run.Job)
	switch {
	case err == nil || errors.Is(err, dynalock.ErrLost): // which has been told
	case r.refused != nil:
		r.warn(what + "is not finished, and " + r.again(run) + ": " + message(r.refused))
	case r.ended != nil && r.ended.killed && run.FinishedAt.IsZero():
		r.warn(fmt.Sprintf("%sis not finished, and %s: the command was killed (%v)", what, r.again(run),
			syscall.Signal(r.ended.code-exitSignal)))
	case errors.Is(err, dynalock.ErrExhausted):
		text := what + "was begun as often as allowed, and did not finish"
		if run.Err != "" {
			text += ": " + run.Err
		}
		r.warn(text)
	case run.FinishedAt.IsZero():
		r.warn(what + "is not finished, and " + r.again(run) + ": " + message(err))
	default:
		r.warn(what + "failed: " + message(err))
	}
}
