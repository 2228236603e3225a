package dynalock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"time"
)

// The attributes of a job that has ticks.
const (
	attrTick   = "tick"     // S the last tick that was begun, or where the schedule begins, in RFC 3339
	attrTicked = "tickedAt" // N unix milliseconds by DynamoDB's clock, when the tick was begun
)

var tickNames = map[string]string{"#tick": attrTick, "#ticked": attrTicked}

const (
	// condTicked: the job is not paused, and no tick was begun since the one that :seenTick names, or ever.
	condTicked   = condJob + " AND attribute_not_exists(#paused) AND #tick = :seenTick"
	condUnticked = condJob + " AND attribute_not_exists(#tick)"

	// updTick notes that a tick is begun, which is a start. updSchedule notes where a schedule begins.
	updTick     = updStart + ", #tick = :tick, #ticked = :now"
	updSchedule = updJob + ", #tick = :tick"
)

// Schedule says when a job is due. It is the interface of the usual parsers of cron expressions, and of package
// adapters/cron. Next is called with times in UTC, and its result must follow from t alone. All processes have to agree
// on the ticks, so a schedule must not depend on when its process began, nor on the machine's time zone.
type Schedule interface {
	// Next is the first tick after t. The zero time means that there is none.
	Next(t time.Time) time.Time
}

// Every makes a schedule that is due at each multiple of d, plus offset: Every(24*time.Hour, 2*time.Hour) is due at
// 02:00 UTC. Multiples count as [time.Time.Truncate] counts them, so a week begins on Monday, 00:00 UTC. d is 1 s to 1
// year (366 days), and offset is 0 to less than d, both in whole seconds. [Client.Tick] refuses others.
func Every(d, offset time.Duration) Schedule { return every{d, offset} }

type every struct{ d, offset time.Duration }

// Next implements Schedule.
func (e every) Next(t time.Time) time.Time {
	if e.d <= 0 {
		return time.Time{}
	}
	return t.UTC().Add(-e.offset).Truncate(e.d).Add(e.d + e.offset)
}

func (e every) validate() (errs []error) {
	if e.d < time.Second || e.d > 366*24*time.Hour || e.d%time.Second != 0 {
		errs = append(errs, badField("Every", e.d, "1s to 1 year in whole seconds"))
	}
	if e.offset < 0 || e.offset >= max(e.d, 1) || e.offset%time.Second != 0 {
		errs = append(errs, badField("offset", e.offset, "0 to less than the interval in whole seconds"))
	}
	return errs
}

// CatchUp says which ticks run of those that were missed, because no process ran, the job was paused, or an earlier
// tick took longer than the interval.
type CatchUp int

// The ways to catch up.
const (
	CatchUpLatest CatchUp = iota // the latest missed tick runs, late
	CatchUpAll                   // all missed ticks run, the oldest first, at most MaxCatchUp
	CatchUpNone                  // no tick runs that is late: by a minute, or by half of the time to the next tick
)

// String names the constant.
func (u CatchUp) String() string {
	switch u {
	case CatchUpLatest:
		return "latest"
	case CatchUpAll:
		return "all"
	case CatchUpNone:
		return "none"
	}
	return fmt.Sprintf("CatchUp(%d)", int(u))
}

// TickOptions of one call of [Client.Tick]. Zero fields take the documented defaults. All processes of a job should use
// the same.
type TickOptions struct {
	// CatchUp says which ticks run of those that were missed. Default CatchUpLatest.
	CatchUp CatchUp
	// MaxCatchUp bounds how many missed ticks run with CatchUpAll: the latest ones. 1 to 10000, default 100.
	MaxCatchUp int

	// The options of the run of each tick, as in [OnceOptions].
	Lease        time.Duration
	MaxAttempts  int
	RetryOnError int
	RetryPause   time.Duration
	Keep         time.Duration
	Reason       string

	// Done, if set, is called after each run that this call began, with the error of that run, and for a tick that could
	// not be run (ErrExhausted, ErrForeign). Tick waits for it. An error goes to the client's Logger, too. Default: none.
	Done func(run Run, err error)
}

// Tick runs fn at each tick of a schedule until ctx is done. Each tick runs once, however many processes call Tick for
// the job. fn gets the time at which the tick was due. The run of a tick is one of [Client.Once], and its period is
// that time in UTC (RFC 3339): [Client.Runs] lists it, and MaxAttempts, RetryOnError and the result of fn mean the
// same. [Client.Reopen] has a tick run again if it is still the last one.
//
// All processes of a job have to pass the same schedule. If they do not, because a rolling deploy changes it or one of
// them is mistyped, the ticks of all these schedules run, still one at a time. A process that finds that the last tick
// is not one of its own schedule logs that, at most once a minute.
//
// When ticks run:
//
//   - Ticks are due by DynamoDB's clock, which is known to about a second, whatever the machine's clock says. No tick
//     begins before its time. If nothing is in the way, it begins within about two seconds.
//   - A job that is new begins with the first tick after the first call of Tick.
//   - Ticks of a job never run at the same time. Those that become due while one runs count as missed, as do those of
//     an outage or a pause, and CatchUp says which of them run. The job's item keeps the last tick that was begun, so
//     what was missed is known after a restart.
//   - A run whose process dies is begun again by another process when its lease has expired. A run that was told to
//     stop is begun again at once.
//
// Tick returns
//
//   - nil, if the schedule has no more ticks;
//   - ctx.Err() after an ordinary stop, by the end of ctx, when fn has returned;
//   - an error that matches ErrInvalid or ErrClosed;
//   - an error that matches ErrHeld or ErrForeign, if the job's key ("once/" and its name) is that of a lock or of an
//     item that is not a job;
//   - an error that matches ErrStore, if DynamoDB refuses the first request for a cause that does not pass by itself:
//     no table, no permission.
//
// It retries any other failure, from the first request on, and logs it. An error of fn ends nothing.
//
// It costs three writes for each tick, by the process that runs it. Every process reads the job once for each tick.
// Every other process reads the run until it is finished: mostly once if it takes less than a second, at most every
// MaxPoll, and in the end every half lease. Each of these reads is half a read unit. The process that ran a tick goes
// first at the next one, so that others do not write in vain.
func (c *Client) Tick(
	ctx context.Context, job string, s Schedule, fn func(ctx context.Context, l *Lock, due time.Time) error,
	optFns ...func(*TickOptions),
) error {
	o := TickOptions{MaxCatchUp: maxCatchUp, MaxAttempts: maxAttempts, Keep: keepRuns}
	apply(&o, optFns)
	o.MaxCatchUp = cmp.Or(o.MaxCatchUp, maxCatchUp)
	t := &ticker{
		c: c, job: job, schedule: s, fn: fn, options: o,
		once: OnceOptions{
			Lease: o.Lease, MaxAttempts: o.MaxAttempts, RetryOnError: o.RetryOnError, RetryPause: o.RetryPause,
			Keep: o.Keep, Reason: o.Reason, NoWait: true,
		},
	}
	t.once.defaults()
	t.options.Keep = t.once.Keep
	if err := t.validate(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.run(ctx)
}

// ticker is one call of Tick.
type ticker struct {
	c        *Client
	job      string
	schedule Schedule
	fn       func(ctx context.Context, l *Lock, due time.Time) error
	options  TickOptions
	once     OnceOptions

	answered bool          // the table has answered
	hopeless bool          // it has not, and a retry does not help
	fresh    bool          // the next look at the job has to be consistent
	due      time.Time     // before that there is nothing to do
	alarm    time.Duration // the same by the monotonic clock
	noted    time.Time     // the last tick that this call has noted as begun
	watched  time.Time     // a tick that another process runs
	begun    time.Time     // when watched was begun
	over     time.Time     // the last tick that is known to be over
	mine     bool          // this call ran it
	odd      time.Duration // monotonic clock when another schedule was last logged; 0: never
}

func (t *ticker) validate() error {
	errs := t.options.validate()
	if t.schedule == nil {
		errs = append(errs, errors.New("schedule is nil, allowed: a Schedule"))
	}
	if e, ok := t.schedule.(every); ok {
		errs = append(errs, e.validate()...)
	}
	if err := t.once.validate(t.c, t.job, periodOf(time.Unix(0, 0)), t.fn == nil); err != nil {
		errs = append(errs, err)
	}
	return invalid(errs)
}

func (o *TickOptions) validate() (errs []error) {
	if o.CatchUp < CatchUpLatest || o.CatchUp > CatchUpNone {
		errs = append(errs, badField("CatchUp", o.CatchUp, "CatchUpLatest, CatchUpAll or CatchUpNone"))
	}
	if o.MaxCatchUp < 1 || o.MaxCatchUp > 10_000 {
		errs = append(errs, badField("MaxCatchUp", o.MaxCatchUp, "1 to 10000"))
	}
	return errs
}

// periodOf names the run of a tick.
func periodOf(tick time.Time) string { return tick.UTC().Format(time.RFC3339Nano) }

// maxSleep is how long a process sleeps before it looks at its clock again, because no timer notices a suspension, or a
// clock that is set.
const maxSleep = 10 * time.Second

// run goes from tick to tick.
func (t *ticker) run(ctx context.Context) error {
	failures := 0
	for {
		wait, err := t.step(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			failures = 0
		case errors.Is(err, errNoMoreTicks):
			return nil
		case errors.Is(err, ErrClosed), errors.Is(err, ErrInvalid), errors.Is(err, ErrForeign), errors.Is(err, ErrHeld),
			t.hopeless:
			return err
		default:
			failures++
			wait = backoff(failures)
			t.c.opt.Logger.WarnContext(ctx, "ticks of a job are delayed", "key", jobKey(t.job),
				"failures", failures, "error", err)
		}
		if err := t.c.tasks.rest(ctx, min(wait, maxSleep)); err != nil {
			return err
		}
	}
}

var errNoMoreTicks = errors.New("the schedule has no more ticks")

// step does what is due, if anything is, and says how long to wait before the next step.
func (t *ticker) step(ctx context.Context) (wait time.Duration, err error) {
	// A wall clock that was set back is overruled by the monotonic clock, and a monotonic clock that stood still during a
	// suspension by the wall clock. The look at the job tells which one is right.
	if wait := min(t.due.Sub(t.now()), t.alarm-t.c.now()); wait > 0 {
		return wait, nil
	}
	if !t.watched.IsZero() {
		over, wait, err := t.glance(ctx, t.watched, t.begun)
		switch {
		case err != nil || wait > 0:
			return wait, err
		case over:
			t.over = t.watched
		}
		t.watched = time.Time{}
	}
	job, begun, err := t.look(ctx)
	switch last := job.LastTick; {
	case err != nil:
		return 0, err
	case last.IsZero():
		_, err := t.note(ctx, condUnticked, updSchedule, item{":tick": str(periodOf(t.now()))})
		return 0, err
	case !begun.IsZero() && !t.schedule.Next(last.Add(-1)).Equal(last):
		t.differs(ctx, last)
	}
	switch last := job.LastTick; {
	case job.Paused:
	case !last.Equal(t.over) && !begun.IsZero(): // zero: no tick, but where the schedule begins
		if over, wait, err := t.settle(ctx, last, begun); err != nil || !over {
			return wait, err
		}
		t.over = last
		fallthrough
	default:
		if tick := t.choose(last); !tick.IsZero() {
			return t.begin(ctx, last, tick)
		}
	}
	return t.untilNext(job.LastTick)
}

// differs logs, once a minute, that the last tick is not one of this schedule.
func (t *ticker) differs(ctx context.Context, last time.Time) {
	if now := t.c.now(); t.odd == 0 || now-t.odd >= time.Minute {
		t.odd = now
		t.c.opt.Logger.WarnContext(ctx, "last tick of a job is not one of this schedule", "key", jobKey(t.job), "tick", last)
	}
}

// now is DynamoDB's time, or a little before it, so that no tick begins before it is due.
func (t *ticker) now() time.Time { return t.c.store.service.earliest(t.c.opt.clock.Now().Wall) }

// look reads the job, and when its last tick was begun. The answer carries DynamoDB's time, too, so that a clock that
// was set is noticed before a tick counts as due.
func (t *ticker) look(ctx context.Context) (job Job, begun time.Time, err error) {
	for range 3 {
		a := t.c.store.look(ctx, jobKey(t.job), t.fresh)
		if a.err != nil {
			t.hopeless = !t.answered && a.verdict == fatal
			return job, begun, t.c.store.storeError("look at job", jobKey(t.job), a.err)
		}
		if job, err = t.c.readJob(t.job, a.item); err != nil {
			return job, begun, err
		}
		begun = (&parser{it: a.item}).time(attrTicked)
		t.answered, t.fresh = true, false
		if t.c.store.service.settled() {
			break
		}
	}
	return job, begun, nil
}

// note writes the job's item. It reports false if the condition does not hold, because another process was faster.
func (t *ticker) note(ctx context.Context, cond, update string, values item) (noted bool, err error) {
	w, id := t.c.jobWrite(update), newID()
	w.cond = cond
	maps.Copy(w.values, values)
	w.values[":next"] = str(versionOf(id, 1))
	err = t.c.store.persist(ctx, func() (bool, error) {
		a := t.c.store.ask(ctx, jobKey(t.job), w)
		if a.verdict == refused {
			now := decode(jobKey(t.job), a.item)
			noted = now.id() == id // by an attempt whose answer was lost
			t.fresh = true
			return true, nil
		}
		noted = a.verdict == applied
		return noted || a.verdict == fatal, t.c.store.storeError("note tick", jobKey(t.job), a.err)
	})
	if noted {
		err = nil
	}
	return noted, err
}

// begin notes a tick as begun, and runs it.
func (t *ticker) begin(ctx context.Context, last, tick time.Time) (wait time.Duration, err error) {
	noted, err := t.note(ctx, condTicked, updTick, item{
		":seenTick": str(periodOf(last)), ":tick": str(periodOf(tick)), ":period": str(periodOf(tick)),
		":now": num(t.now().UnixMilli()),
	})
	if err != nil || !noted {
		return 0, err
	}
	t.noted = tick
	if first := t.schedule.Next(last); first.Before(tick) {
		t.c.opt.Logger.WarnContext(ctx, "ticks of a job were missed, and are not caught up", "key", jobKey(t.job),
			"first", first, "next", tick)
	}
	over, wait, err := t.attempt(ctx, tick)
	if over && t.choose(tick).IsZero() { // there is nothing to look at
		return t.untilNext(tick)
	}
	return wait, err
}

// attempt runs a tick that no process runs, and reports whether it is over then.
func (t *ticker) attempt(ctx context.Context, tick time.Time) (over bool, wait time.Duration, err error) {
	fn := func(ctx context.Context, l *Lock) error { return t.fn(ctx, l, tick) }
	run, err := t.c.runPeriod(ctx, t.job, periodOf(tick), fn, &t.once)
	t.mine = run.Ran
	hopeless := errors.Is(err, ErrExhausted) || errors.Is(err, ErrForeign)
	if run.Ran || hopeless {
		if err != nil {
			level, what := t.became(ctx, run, err)
			t.c.opt.Logger.Log(ctx, level, what, "key", periodKey(t.job, run.Period),
				"token", run.Token, "attempt", run.Attempt, "error", err)
		}
		if t.options.Done != nil {
			t.options.Done(run, err)
		}
	}
	switch {
	case hopeless || !run.FinishedAt.IsZero():
		t.over = tick
		return true, 0, nil
	case run.Ran || errors.Is(err, ErrHeld) || errors.Is(err, ErrPaused): // it is open, or another process runs it
		return false, t.c.opt.MaxPoll, nil
	}
	return false, 0, err
}

// became says how the run of a tick that has an error ended.
func (t *ticker) became(ctx context.Context, run Run, err error) (level slog.Level, what string) {
	switch {
	case !run.Ran:
		return slog.LevelWarn, "tick of a job is given up"
	case !run.FinishedAt.IsZero():
		return slog.LevelWarn, "tick of a job failed"
	case !errors.Is(err, ErrLost) && (ctx.Err() != nil || errors.Is(err, ErrClosed)):
		return slog.LevelInfo, "run interrupted"
	}
	return slog.LevelWarn, "tick of a job is not done, and is begun again"
}

// settle finds out whether the last tick that was begun is over, and watches it if it is not. If its run has stopped,
// settle begins it again.
func (t *ticker) settle(ctx context.Context, tick, begun time.Time) (over bool, wait time.Duration, err error) {
	over, wait, err = t.glance(ctx, tick, begun)
	switch {
	case err != nil || over:
		return over, 0, err
	case wait > 0:
		t.watched, t.begun = tick, begun
		return false, wait, nil
	}
	return t.attempt(ctx, tick)
}

// glance reads the run of a tick. It reports whether the run is over and, if it is under way, when to look again.
func (t *ticker) glance(ctx context.Context, tick, begun time.Time) (over bool, wait time.Duration, err error) {
	c, key := t.c, periodKey(t.job, periodOf(tick))
	a := c.store.look(ctx, key, false)
	if a.err != nil {
		return false, 0, c.store.storeError("look at period", key, a.err)
	}
	r := decode(key, a.item)
	age, lease := t.now().Sub(begun), cmp.Or(t.once.Lease, c.opt.Lease)
	poll := func(seen time.Duration) time.Duration {
		most := max(c.opt.MaxPoll, min(seen/2, lease/2))
		return most/2 + rand.N(most/2+1)
	}
	switch {
	case !readRun(&r).finished.IsZero():
		return true, 0, nil
	case r.Version == "" && age > t.options.Keep-time.Minute: // it is finished, and forgotten since
		return true, 0, nil
	case r.Version == "" && age < lease && !tick.Equal(t.noted): // the process that has noted it is about to begin it
		return false, min(poll(age), lease-age), nil
	case r.State == Held:
		still, seen := c.sightings.observe(&r, a.got.Mono)
		if still < r.Lease {
			return false, min(poll(seen), r.Lease-still), nil
		}
	}
	return false, 0, nil
}

// choose is the tick after the last one that is to be begun now; zero if there is none.
func (t *ticker) choose(last time.Time) time.Time {
	now, limit := t.now(), 1
	if t.options.CatchUp == CatchUpAll {
		limit = t.options.MaxCatchUp
	}
	due := missed(t.schedule, last, now, limit)
	if len(due) == 0 {
		return time.Time{}
	}
	if t.options.CatchUp == CatchUpNone && now.Sub(due[0]) > t.grace(due[0]) {
		return time.Time{}
	}
	return due[0]
}

// grace is how late a tick may begin and not count as late.
func (t *ticker) grace(tick time.Time) time.Duration {
	if next := t.schedule.Next(tick); next.After(tick) {
		return min(time.Minute, next.Sub(tick)/2)
	}
	return time.Minute
}

// missed are the ticks after a time that are due, at most the latest n of them.
func missed(s Schedule, after, now time.Time, n int) (due []time.Time) {
	for window := time.Minute; ; window *= 4 { // as few as need be are computed
		from := now.Add(-window)
		all := !from.After(after) || window > 100*365*24*time.Hour
		if all {
			from = after
		}
		due = due[:0]
		for tick := s.Next(from); tick.After(from) && !tick.After(now); tick = s.Next(from) {
			due = append(due, tick)
			from = tick
		}
		if all || len(due) >= n {
			return due[max(0, len(due)-n):]
		}
	}
}

// untilNext is the time until the next tick. A process that did not run the last tick leaves the first chance to the
// one that did, because two writes at the same time cost twice as much.
func (t *ticker) untilNext(last time.Time) (wait time.Duration, err error) {
	from := t.now()
	if last.After(from) {
		from = last
	}
	next := t.schedule.Next(from)
	switch {
	case next.IsZero():
		return 0, errNoMoreTicks
	case !next.After(from):
		return 0, invalid([]error{fmt.Errorf("the schedule's tick after %v is %v, allowed: a later time", from, next)})
	}
	t.due = next
	if !t.mine {
		spread := min(t.c.opt.MaxPoll, t.grace(next)/2, 2*time.Second)
		t.due = next.Add(spread/2 + rand.N(spread/2+1))
	}
	wait = t.due.Sub(t.now())
	t.alarm = t.c.now() + wait
	return wait, nil
}
