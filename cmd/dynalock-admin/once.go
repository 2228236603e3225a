//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/dynalock"
)

// onceRun is one invocation of once.
type onceRun struct {
	guarded
	job, period string
	once        dynalock.OnceOptions
	ticks       ticks

	ended    *ending // how the command ended, if it was started
	refused  error   // why it was not
	failures int     // of the command in this run
}

func (a *app) onceCommand() *cobra.Command {
	r := &onceRun{guarded: guarded{a: a}}
	cmd := &cobra.Command{
		Use:   "once JOB [PERIOD] -- COMMAND [ARGS...]",
		Short: "Run a command unless it has run for this period, anywhere, or at each tick",
		Long: `Run the command, and exit with its exit code, unless it has run for this period already, on any machine. PERIOD is
the logical tick, the same text on all machines: a date, the id of a deploy. A call that comes while the command runs
waits for the result. A call that comes later has the result at once. Both say who ran the command, when and with what
result, and exit with 0, or with 79 if that run failed.

What the command's end means for the period:

  - It exits with 0: the period is finished.
  - It exits with another code: it is run again, --retries times. After that the period is finished, with a failure.
    Only "rerun" opens it again.
  - It exits with 75 (EX_TEMPFAIL), which means "not done, try again": the period is left open.
  - It is killed by a signal, or cannot be started, or the lock is lost: the period is left open.
  - dynalock-admin or its machine dies: the period is left open when the lease has expired.
  - It was told to stop (dynalock-admin has passed on a SIGTERM, SIGINT, SIGQUIT or SIGHUP), and exits with a code
    other than 0, or is killed by the signal: the period is left open, and the run does not count as an attempt, up to
    100 times per period.

The next call for a period that is open begins it again, at most --attempts times. The earlier run may have done half of
its work.

The command gets DYNALOCK_JOB and DYNALOCK_PERIOD, and the environment that "run" gives it. Signals, loss, guardian and
limits are those of "run". A run's lock has the key once/JOB/PERIOD, with JOB escaped as in a URL. "get" shows the lock,
and "release" frees it, so that the period is begun again.

With -o json standard output has one document about the run, and the output of the command goes to standard error. The
document has job, period, status (done, failed, interrupted), ran (by this call), by, startedAt, finishedAt, attempt,
token and error. If nothing is known of a run (an error other than 76, 79, or the command's), there is no document.

` + ticksHelp + "\n\n" + exitCodes,
	}
	takes(cmd, "JOB", "PERIOD")
	onePeriod := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if r.ticks.asked(cmd) {
			takes(cmd, "JOB")
			return cmd.Args(cmd, args)
		}
		err := onePeriod(cmd, args)
		if err != nil && cmd.ArgsLenAtDash() == 1 {
			return usagef("%v; or for each tick: once JOB --every 5m -- COMMAND, or --cron", err)
		}
		return err
	}
	r.lockFlags(cmd)
	r.waitFlags(cmd)
	f := cmd.Flags()
	f.IntVar(&r.once.MaxAttempts, "attempts", usualAttempts,
		"how often a period may be begun if it does not finish, 1 to 1000")
	allow(cmd, "attempts", "1 to 1000")
	f.IntVar(&r.once.RetryOnError, "retries", 0,
		"how often a command that failed is run again before the period is finished, 0 to 1000")
	allow(cmd, "retries", "0 to 1000")
	f.DurationVar(&r.once.RetryPause, "retry-pause", 0, "time before each retry, while the lock is held")
	r.ticks.flags(cmd)
	f.DurationVar(&r.once.AtLeast, "at-least", 0,
		"do not start within this time of the job's last start, for another period (default: no limit)")
	f.DurationVar(&r.once.Keep, "keep", 7*24*time.Hour,
		"how long a finished run stays known if the table has DynamoDB's TTL; otherwise forever")
	f.StringVar(&r.once.Reason, "reason", "", "shown to waiters")
	cmd.RunE = a.do(func(ctx context.Context, args []string) error {
		r.job, r.ownOutput = args[0], a.output == formatJSON
		if err := r.ticks.parse(cmd); err != nil {
			return err
		}
		if r.once.MaxAttempts == 0 || r.once.Keep == 0 { // which the library takes for its defaults
			return usagef("--attempts is %d and --keep is %v, allowed: 1 to 1000, and 15m to 10 years", r.once.MaxAttempts,
				r.once.Keep)
		}
		args = args[1:]
		if r.ticks.schedule == nil {
			r.period, args = args[0], args[1:]
		}
		c, err := r.prepare(ctx, cmd, args)
		if err == nil && r.ticks.schedule == nil {
			err = r.nested(ctx, c, periodKey(r.job, r.period))
		}
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		r.listen(cancel)
		if r.ticks.schedule != nil {
			return r.tick(ctx, c)
		}
		var run dynalock.Run
		err = r.patiently(ctx, func(ctx context.Context, wait bool) (err error) {
			run, err = r.attempt(ctx, c, wait)
			return err
		})
		heard := r.heard()
		r.futile = r.futile || errors.Is(err, dynalock.ErrStore)
		r.close(context.WithoutCancel(ctx), c)
		return r.report(run, err, heard)
	})
	return cmd
}

// attempt asks for the period. ctx bounds the wait, not the run.
func (r *onceRun) attempt(ctx context.Context, c *dynalock.Client, wait bool) (dynalock.Run, error) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	waiting := context.AfterFunc(ctx, cancel)
	defer waiting()
	return c.Once(work, r.job, r.period, func(_ context.Context, l *dynalock.Lock) error {
		err := r.heard()
		defer r.listen(cancel) // from the command's end on, signals are ours again
		if r.won {             // it is retried
			return cmp.Or(err, r.do(l, cancel))
		}
		r.won = true
		if !waiting() { // it was won as the wait ended
			code := exitStore
			if wait || r.wait > 0 {
				code = r.heldCode
			}
			r.refused = cmp.Or(err,
				error(&exitError{
					code,
					fmt.Errorf("the time for %q of %q was over when it was won, so it was released", r.period, r.job),
				}))
			return r.giveBack(l)
		}
		return r.do(l, cancel)
	}, func(o *dynalock.OnceOptions) {
		*o = r.once
		o.NoWait = !wait
	})
}

// do runs the command. What it returns is recorded; a run whose lock was given back counts as not finished.
func (r *onceRun) do(l *dynalock.Lock, cancel func()) error {
	end, err := r.work(context.Background(), l, r.options.Owner, "DYNALOCK_JOB="+r.job, "DYNALOCK_PERIOD="+r.period)
	if err != nil {
		r.refused = err
		return r.giveBack(l)
	}
	r.ended = &end
	switch {
	case end.lost && r.ticks.schedule != nil:
		return nil
	case end.lost: // the release only spares waiters some time
		time.AfterFunc(courtesy, cancel)
		return nil
	case r.told != 0 && end.code != 0:
		cancel() // so that it is known to have been told to stop
		return fmt.Errorf("told to stop by %v: exit code %d", r.told, end.code)
	case end.killed:
		return r.giveBack(l)
	case end.code == exitHeld:
		return fmt.Errorf("exit code %d: %w", end.code, dynalock.ErrNotDone)
	case end.code != 0:
		if r.failures++; r.failures <= r.once.RetryOnError { // it is retried, and nothing is written before
			r.hush()
		}
		return fmt.Errorf("exit code %d", end.code)
	}
	return nil
}

// again says whether a run that did not finish is begun again. Of the attempts that are known some may not count.
func (r *onceRun) again(run dynalock.Run) string {
	if r.told == 0 && run.Attempt >= r.once.MaxAttempts {
		return "is not begun again if this was the last of its --attempts"
	}
	return "is begun again by whoever asks"
}

// giveBack leaves the period to be begun again.
func (r *onceRun) giveBack(l *dynalock.Lock) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return l.Release(ctx)
}

// report says how the period's run ended, and makes the exit code. heard is the signal that ended a wait.
func (r *onceRun) report(run dynalock.Run, err, heard error) error {
	switch {
	case r.refused != nil:
		return cmp.Or(heard, r.refused)
	case r.ended == nil:
		return r.reportOthers(run, err, heard)
	}
	end, recorded := *r.ended,
		!errors.Is(err, dynalock.ErrStore) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	open := errors.Is(err, dynalock.ErrNotDone)
	switch {
	case !end.lost && errors.Is(err, dynalock.ErrLost): // which the end of the run noticed
		end.lost = true
		r.warn(message(err))
	case !end.lost && !recorded && !open:
		r.warn(fmt.Sprintf("warning: what became of %q of %q was not recorded, and it may be begun again: %s", r.period,
			r.job, message(err)))
	}
	if end.lost || end.killed || open || !recorded {
		run.FinishedAt, run.Err = time.Time{}, ""
	}
	shown := r.a.showRun(run, statusOf(run))
	switch err := end.err(); {
	case shown != nil && err == nil:
		return shown
	case shown != nil: // the command's code says more
		r.warn(message(shown))
		return err
	case open && heard != nil && !end.lost: // it came between two tries
		return heard
	case open && !end.killed && !end.lost:
		return &exitError{
			end.code,
			fmt.Errorf("exit code %d: %q of %q is not finished, and %s", end.code, r.period, r.job, r.again(run)),
		}
	case end.killed && !end.lost:
		return &exitError{
			end.code,
			fmt.Errorf("the command was killed (%v): %q of %q is not finished, and may be begun again",
				syscall.Signal(end.code-exitSignal), r.period, r.job),
		}
	case err != nil || recorded:
		return err
	}
	return cmp.Or(heard, error(&exitError{code: exitStore}))
}

// reportOthers is about a period that another process runs, or has run.
func (r *onceRun) reportOthers(run dynalock.Run, err, heard error) error {
	if run.Attempt > 0 {
		status := statusOf(run)
		if errors.Is(err, dynalock.ErrHeld) {
			status = statusRunning
		}
		if err := r.a.showRun(run, status); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, dynalock.ErrRunFailed):
		return &exitError{
			exitFailed,
			fmt.Errorf("%q of %q failed: %s: %s", run.Period, run.Job, ranBy(run, time.Now()), run.Err),
		}
	case err != nil:
		return cmp.Or(heard, r.heldError(err))
	case r.a.output == formatJSON:
		return nil
	}
	_, err = fmt.Fprintln(r.a.out, clean(fmt.Sprintf("%q of %q has run: %s", run.Period, run.Job, ranBy(run, time.Now()))))
	return err
}

// ranBy says who ran a period that is finished, and when.
func ranBy(run dynalock.Run, now time.Time) string {
	text := fmt.Sprintf("by %q, %s, for %v", run.By, absolute(run.StartedAt, now), took(run))
	if run.Attempt > 1 {
		text += fmt.Sprintf(", attempt %d", run.Attempt)
	}
	return text
}
