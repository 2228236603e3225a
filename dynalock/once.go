package dynalock

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strings"
	"time"
)

// What can become of a run. Match with errors.Is.
var (
	ErrPaused    = errors.New("dynalock: job is paused")                                        // by an operator
	ErrTooSoon   = errors.New("dynalock: the job's last start is too recent")                   // see OnceOptions.AtLeast
	ErrExhausted = errors.New("dynalock: run was begun as often as allowed and never finished") // see OnceOptions.MaxAttempts

	// In another call; the error is a *RunError.
	ErrRunFailed = errors.New("dynalock: the run of the period failed")
	// Its period stays open; see Client.Once.
	ErrNotDone = errors.New("dynalock: run is not done")
)

// RunError says that the run of a period is over, and failed. It matches [ErrRunFailed].
type RunError struct{ Run Run }

// Error tells whose run failed, when and with what error.
func (e *RunError) Error() string {
	return fmt.Sprintf("%v: %q of %q by %q at %s: %s", ErrRunFailed, e.Run.Period, e.Run.Job, e.Run.By,
		e.Run.FinishedAt.UTC().Format(time.RFC3339), printable(e.Run.Err))
}

// Is matches ErrRunFailed.
func (*RunError) Is(target error) bool { return target == ErrRunFailed }

// OnceOptions of one call of [Client.Once]. All processes of a job should use the same.
type OnceOptions struct {
	// Lease of a run: how long after its crash it is begun again. 100 ms to 24 h, rounded up to a millisecond. Default: the client's.
	Lease time.Duration
	// NoHeartbeat makes the lease of the run static, as in [AcquireOptions]: nothing is renewed in the background, and
	// the run is lost at its deadline unless [Lock.Renew] is called. For Lambda functions, with a Lease of 5/4 of the
	// time that is left of the invocation.
	NoHeartbeat bool
	// MaxAttempts is how often a period may be begun if the runs before did not finish: they crashed, were freed by an
	// operator, or said ErrNotDone. 1 to 1000, default 3. A run that was told to stop does not count, 100 times a
	// period.
	MaxAttempts int
	// RetryOnError is how often a function that returned an error, or panicked, is called again before the run is
	// finished with that error: by the same call, under the same lock, RetryPause later. It is not called again once
	// its context has ended, the job was paused, or its error matches ErrNotDone. 0 to 1000, default 0.
	RetryOnError int
	// RetryPause is how long the lock is held, at the price of its heartbeats, between an error of the function and its
	// next call. 0 to 24 h, default 0.
	RetryPause time.Duration
	// AtLeast keeps a job from starting, for another period, within this time of its last start, for callers who
	// derive periods from clocks that differ (what ShedLock calls lockAtLeastFor). By the service's clock, known to a
	// second. It costs one write more. Default 0.
	AtLeast time.Duration
	// Keep is how long a run stays known after it was finished or given back (TTL on the attribute "ttl"; without TTL on
	// the table, for ever). A period that comes again after that runs again. 15 min to 10 years, default 7 days.
	Keep time.Duration
	// NoWait returns an error that matches ErrHeld at once when the period is being run elsewhere. Default: wait for
	// the result, and take the run over if its holder dies.
	NoWait bool
	// Reason is shown to those who wait, at most 256 bytes.
	Reason string
}

// Run is what is known of the run of one period.
type Run struct {
	Job, Period           string
	Ran                   bool      // this call ran the function
	By                    string    // label of the client that did
	StartedAt, FinishedAt time.Time // by its clock; FinishedAt is zero while it runs, and when no end was recorded: crashed, lost
	Attempt               int       // 1 for the first; higher when it was begun again
	Token                 uint64    // fencing token of the attempt
	Err                   string    // what the function returned last, at most 256 bytes; empty for success
}

// finishedError says that a period's run is over: finished, or begun too often.
type finishedError struct{ record Record }

func (e *finishedError) Error() string { return fmt.Sprintf("dynalock: %q has run", e.record.Key) }

// Once runs fn at most once per period, across all processes, whatever their clocks and however short fn is. period
// is the logical tick ("2026-11-21T12:00Z", a date, a deploy id), the same text in every process. The loser waits
// for the result (see NoWait) and gets a Run that tells who ran it, when and with what result; the error is nil if the
// run succeeded, and a [*RunError] (ErrRunFailed) if it failed.
//
// fn holds a lock while it runs, and gets it, and a context that ends when the lease can no longer be trusted or ctx
// is done. What fn returns decides about the period:
//
//   - nil finishes it, also when fn's context has ended.
//   - An error finishes it, too, after RetryOnError further calls. So does a panic, a [*PanicError], at any time. Only
//     [Client.Reopen] opens it again.
//   - An error that matches ErrNotDone leaves it open: whoever asks begins it again at once, at most MaxAttempts times.
//   - An error after the end of fn's context (a deploy has ended ctx, say) says that fn was told to stop: the same, but
//     it does not count as an attempt. So that a function that never gets its time is not begun for ever, it counts
//     when the period was begun 100 times without counting.
//
// A period is left open as well when fn crashed, lost its lock, or released it. A crashed run is begun again when its
// lease has run out. So a run is finished once, but its effects may be half done before or, where the crash came after
// them, done: guard writes with the lock ([Lock.Transact]).
//
// [Client.Close], called elsewhere, ends fn's context (the cause is ErrClosed) and waits for fn, which is told to stop by
// that. Called by fn itself, with a context derived from its own, it releases the lock.
//
// The error of a call that ran fn is fn's, and matches ErrNotDone where the period was left open by it; then it may
// match ErrReleased (fn or Close released the lock) or ErrClosed, too. Other errors match ErrLost (Ran says whether fn was
// run), ErrHeld and ctx.Err() when the wait ended first, ErrRunFailed, ErrPaused, ErrTooSoon, ErrExhausted,
// ErrInvalid (an empty job or period, for one), ErrForeign, ErrStore or ErrClosed.
//
// Cost: a read unit for the pause, one conditional write to claim, one to finish; the loser pays the read and the refused
// write, half a read unit for each look while it waits, and a read unit for the pause before it begins a run again.
func (c *Client) Once(ctx context.Context, job, period string, fn func(ctx context.Context, l *Lock) error, optFns ...func(*OnceOptions)) (Run, error) {
	run := Run{Job: job, Period: period}
	o := OnceOptions{MaxAttempts: 3, Keep: 7 * 24 * time.Hour}
	apply(&o, optFns)
	if err := o.validate(c, job, period, fn == nil); err != nil {
		return run, err
	}
	select {
	case <-c.closing:
		return run, ErrClosed
	default:
	}
	if err := c.mayStart(ctx, job, period, o.AtLeast); err != nil {
		return run, err
	}
	return c.runPeriod(ctx, job, period, fn, &o)
}

// runPeriod is Once for a job that may start.
func (c *Client) runPeriod(
	ctx context.Context, job, period string, fn func(ctx context.Context, l *Lock) error, o *OnceOptions,
) (Run, error) {
	run := Run{Job: job, Period: period}
	d := c.undertake(ctx, periodKey(job, period))
	defer d.end()
	acquire := c.Acquire
	if o.NoWait {
		acquire = c.TryAcquire
	}
	l, err := acquire(d.caller, periodKey(job, period), func(a *AcquireOptions) {
		a.Lease, a.NoHeartbeat, a.Reason = o.Lease, o.NoHeartbeat, o.Reason
		a.claim, a.keep, a.job = o.MaxAttempts, o.Keep, job
	})
	if err != nil {
		if finished, ok := errors.AsType[*finishedError](err); ok {
			run.read(&finished.record)
			return run, run.over()
		}
		if held, ok := errors.AsType[*HeldError](err); ok {
			run.read(&held.Record)
		}
		return run, err
	}
	returned := d.guard(l)
	if d.stopped() { // before fn had begun
		returned()
		l.unbegin()
		return run, errors.Join(ErrClosed, l.finally(ctx))
	}
	run.Ran, run.By, run.StartedAt, run.Attempt, run.Token = true, c.opt.Owner, l.acquired, l.attempt+l.besides, l.token

	err = errExited
	defer func() {
		returned()
		if errors.Is(err, errExited) { // nobody hears of it, but the lock must not stay
			_ = l.conclude(ctx, &run, o.Keep, err, finished)
		}
	}()
	var how ending
	how, err = c.try(l.within(d.ctx), l, job, o, fn)
	returned()
	if how == stopped && d.stopped() { // by Close
		err = errors.Join(err, fmt.Errorf("%w: the run of %q is not finished", ErrClosed, l.key))
	}
	err = l.conclude(ctx, &run, o.Keep, err, how)
	return run, err
}

// over is the error of a call that comes when the run of its period is finished, or was begun too often.
func (r *Run) over() error {
	switch {
	case r.FinishedAt.IsZero():
		return fmt.Errorf("%w: %q of %q, %d times, last by %q", ErrExhausted, r.Period, r.Job, r.Attempt, r.By)
	case r.Err != "":
		return &RunError{*r}
	}
	return nil
}

// ending is what becomes of a period when its function has returned.
type ending int

const (
	finished ending = iota + 1 // with the function's result
	open                       // it is begun again
	stopped                    // the same, and the attempt does not count
)

// maxUncounted bounds how often a period is begun without counting as an attempt.
const maxUncounted = 100

// try calls the function, as often as is asked for, and says what its result makes of the period.
func (c *Client) try(
	ctx context.Context, l *Lock, job string, o *OnceOptions, fn func(ctx context.Context, l *Lock) error,
) (ending, error) {
	for n := 1; ; n++ {
		err := protect(func() error { return fn(ctx, l) })
		var panicked *PanicError
		switch {
		case err == nil:
			return finished, nil
		case errors.As(err, &panicked) && (ctx.Err() != nil || n > o.RetryOnError): // that is no good order
			return finished, err
		case ctx.Err() != nil && errors.Is(context.Cause(ctx), ErrLost):
			return open, err
		case ctx.Err() != nil:
			return stopped, err
		case errors.Is(err, ErrNotDone):
			return open, err
		case n > o.RetryOnError:
			return finished, err
		}
		c.opt.Logger.WarnContext(ctx, "run failed, and is tried again", "key", l.key, "token", l.token,
			"failures", n, "pause", o.RetryPause, "error", err)
		if rest := c.rest(ctx, o.RetryPause); rest != nil {
			if errors.Is(context.Cause(ctx), ErrLost) {
				return open, err
			}
			return stopped, err
		}
		if paused := c.notPaused(ctx, job); paused != nil {
			return open, errors.Join(err, paused)
		}
	}
}

// conclude records how a run ended, and gives its lock back.
func (l *Lock) conclude(ctx context.Context, run *Run, keep time.Duration, err error, how ending) error {
	if err != nil {
		run.Err = label(err.Error())
	}
	if how == stopped && l.besides >= maxUncounted {
		how = open
	}
	ttl := num(l.c.ttl(keep))
	if !l.endWith(func(w *write) {
		w.values[":result"], w.values[":ttl"] = str(run.Err), ttl
		w.update = updRelease + setResult
		switch how {
		case finished:
			w.update += setFinished
		case stopped: // numbers, not one less and one more: it may be sent again
			w.update += setAttempts + setUncounted
			w.values[":attempts"], w.values[":uncounted"] = num(l.attempt-1), num(l.besides+1)
		}
		w.update += updReleaseRemove
	}) { // by fn or by Close, before anything could be recorded
		open := fmt.Errorf("%w: %w: the run of %q is not recorded as finished", ErrNotDone, ErrReleased, l.key)
		return errors.Join(err, open, l.finally(ctx))
	}
	now := l.c.opt.clock.Now().Wall
	ended := l.finally(ctx)
	switch {
	case errors.Is(ended, ErrLost) || errors.Is(ended, ErrStore): // as far as is known it has no end
	case how == finished:
		run.FinishedAt = now
	case !errors.Is(err, ErrNotDone):
		err = errors.Join(err, fmt.Errorf("%w: the run of %q is left open, to be begun again", ErrNotDone, l.key))
	}
	return errors.Join(err, ended)
}

// label cuts a text to what is kept of it.
func label(s string) string {
	if len(s) > maxLabelBytes {
		s = s[:maxLabelBytes]
	}
	return strings.ToValidUTF8(s, "")
}

func (o *OnceOptions) validate(c *Client, job, period string, noFn bool) error {
	var errs []error
	if noFn {
		errs = append(errs, errors.New("fn is nil, allowed: a function")) // it would panic, and the period be finished with that
	}
	errs = append(errs, periodErrors(job, period)...)
	if o.MaxAttempts < 1 || o.MaxAttempts > 1000 {
		errs = append(errs, badField("MaxAttempts", o.MaxAttempts, "1 to 1000"))
	}
	if o.RetryOnError < 0 || o.RetryOnError > 1000 {
		errs = append(errs, badField("RetryOnError", o.RetryOnError, "0 to 1000"))
	}
	if o.RetryPause < 0 || o.RetryPause > maxLease {
		errs = append(errs, badField("RetryPause", o.RetryPause, "0 to 24h"))
	}
	if o.AtLeast < 0 || o.AtLeast > 365*24*time.Hour {
		errs = append(errs, badField("AtLeast", o.AtLeast, "0 to 1 year"))
	}
	if o.Keep < tombstone || o.Keep > 10*365*24*time.Hour {
		errs = append(errs, badField("Keep", o.Keep, "15m to 10 years"))
	}
	if err := invalid(errs); err != nil {
		return err
	}
	_, err := (&AcquireOptions{Lease: o.Lease, Reason: o.Reason}).validate(c, periodKey(job, period))
	return err
}

// periodErrors says what is missing of a period's name.
func periodErrors(job, period string) (errs []error) {
	if job == "" {
		errs = append(errs, errors.New("job is empty, allowed: the job's name"))
	}
	if period == "" {
		errs = append(errs, errors.New("period is empty, allowed: the logical tick, the same in every process"))
	}
	return errs
}

// The keys of a job and of its periods. The job is escaped, so that no two pairs of job and period meet.
func jobKey(job string) string            { return "once/" + url.PathEscape(job) }
func periodKey(job, period string) string { return jobKey(job) + "/" + period }

// read takes what a period's record says.
func (r *Run) read(rec *Record) {
	r.By, r.StartedAt, r.Attempt, r.Token = rec.Owner, rec.AcquiredAt, rec.attempt+rec.uncounted, rec.Token
	r.FinishedAt, r.Err = rec.finished, rec.result
}

// mayStart looks whether the job is paused, and with AtLeast notes its start on condition that the last is long ago.
func (c *Client) mayStart(ctx context.Context, job, period string, atLeast time.Duration) error {
	if atLeast > 0 {
		a := c.look(ctx, periodKey(job, period), false)
		if a.err != nil {
			return c.storeError("look at period", periodKey(job, period), a.err)
		}
		if len(a.item) > 0 { // a period that was begun already is no start: delivered late, or crashed
			atLeast = 0
		}
	}
	if atLeast == 0 {
		return c.notPaused(ctx, job)
	}
	return c.persist(ctx, func() (bool, error) {
		now := c.service.millis(c.opt.clock.Now().Wall)
		w := c.jobWrite(updStart)
		w.cond = condSpaced
		w.values[":now"], w.values[":limit"] = num(now), num(now-atLeast.Milliseconds())
		w.values[":period"] = str(period)
		a := c.ask(ctx, jobKey(job), w)
		switch a.verdict {
		case applied:
			return true, nil
		case refused:
			if err := errors.Join(c.jobError(job, a.item), pausedError(job, a.item)); err != nil {
				return true, err
			}
			p := parser{it: a.item}
			return true, fmt.Errorf("%w: %q began for period %q at %s", ErrTooSoon, job, p.str(attrPeriod), p.time(attrStarted).UTC().Format(time.RFC3339))
		}
		return a.verdict == fatal, c.storeError("start job", jobKey(job), a.err)
	})
}

// notPaused looks whether the job is paused. The look is consistent: a pause counts from the moment that Pause returned.
func (c *Client) notPaused(ctx context.Context, job string) error {
	a := c.look(ctx, jobKey(job), true)
	if a.err != nil {
		return c.storeError("look at job", jobKey(job), a.err)
	}
	return pausedError(job, a.item)
}

// jobWrite is a write of the job's item, which looks like a released lock.
func (c *Client) jobWrite(update string) *write {
	return &write{update: update, values: item{
		":lease": str(leaseText(c.opt.Lease, c.opt.Dialect)), ":next": str(versionOf(newID(), 1)), ":owner": str(c.opt.Owner),
	}}
}

// jobError says that what is under a job's key is not of a job: a lock that is held, or a foreign item.
func (c *Client) jobError(job string, it item) error {
	switch r := c.decode(jobKey(job), it); r.State {
	case Foreign:
		return &ForeignError{Key: r.Key, Problem: r.Problem}
	case Held:
		return &HeldError{Record: r, RetryAfter: c.opt.MaxPoll}
	}
	return nil
}

func pausedError(job string, it item) error {
	if _, paused := it[attrPaused]; !paused {
		return nil
	}
	p := parser{it: it}
	return fmt.Errorf("%w: %q by %q: %s", ErrPaused, job, p.str(attrOwner), printable(p.str(attrPaused)))
}

// Pause keeps a job from starting: from now on Once returns an error that matches ErrPaused and tells who paused it
// and why. Runs under way go on. It looks first and then writes: two requests. Errors match ErrInvalid, ErrHeld or
// ErrForeign (the job's key, "once/" and its name, is that of something else), ErrStore or ctx.Err().
func (c *Client) Pause(ctx context.Context, job, reason string) error {
	w := c.jobWrite(updPause)
	w.values[":paused"], w.values[":now"] = str(reason), num(c.service.millis(c.opt.clock.Now().Wall))
	return c.setPause(ctx, job, w, badText("reason", reason, maxLabelBytes))
}

// Unpause lets a job start again. A job that is not paused is left as it is. Errors are those of Pause.
func (c *Client) Unpause(ctx context.Context, job string) error {
	return c.setPause(ctx, job, c.jobWrite(updUnpause), nil)
}

// setPause writes on condition of what it has just seen: a copy that comes late undoes no later pause, and begins none
// again that is over.
func (c *Client) setPause(ctx context.Context, job string, w *write, errs []error) error {
	if job == "" {
		errs = append(errs, errors.New("job is empty, allowed: the job's name"))
	}
	if err := invalid(append(errs, c.checkKey(jobKey(job))...)); err != nil {
		return err
	}
	id, attempts := newID(), uint64(0)
	return c.persist(ctx, func() (bool, error) {
		a := c.look(ctx, jobKey(job), true)
		if a.verdict != applied {
			return true, c.storeError("look at job", jobKey(job), a.err)
		}
		if err := c.jobError(job, a.item); err != nil {
			return true, err
		}
		seen := parser{it: a.item}
		version, unpaused := seen.str(attrVersion), seen.str(attrUnpaused)
		_, paused := a.item[attrPaused]
		attempts++ // each writes a version of its own: one that came back would let a late Unpause pass
		w.values[":next"] = str(versionOf(id, attempts))
		writer, _ := splitVersion(version)
		switch {
		case writer == id || w.update == updUnpause && !paused: // by an attempt whose answer was lost, for one
			return true, nil
		case w.update == updUnpause:
			w.cond, w.values[":seen0"] = condJob+" AND "+condVersion(1), str(version)
		case unpaused != "":
			w.cond, w.values[":seen0"] = condNotUnpaused, str(unpaused)
		default:
			w.cond = condNeverPaused
		}
		a = c.ask(ctx, jobKey(job), w)
		if a.verdict == applied {
			return true, nil
		}
		return a.verdict == fatal, c.storeError("pause", jobKey(job), a.err) // refused: it has changed meanwhile
	})
}

// Runs yields the runs of a job that are known, in no order: a scan of the table, for operators. It ends after the
// first error, which matches ErrInvalid, ErrStore or ctx.Err().
func (c *Client) Runs(ctx context.Context, job string) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		if job == "" {
			yield(Run{}, invalid([]error{errors.New("job is empty, allowed: the job's name")}))
			return
		}
		prefix := jobKey(job) + "/"
		for r, err := range c.scan(ctx, prefix) {
			if err != nil {
				yield(Run{}, err)
				return
			}
			if r.attempt+r.uncounted == 0 { // nothing began under this key: a lock, or a claim whose caller had gone
				continue
			}
			run := Run{Job: job, Period: strings.TrimPrefix(r.Key, prefix)}
			run.read(&r)
			if !yield(run, nil) {
				return
			}
		}
	}
}

// GetRun reads what is known of the run of a period, strongly consistent: one read unit. A period that was never begun,
// or is not known any more, is a Run with Attempt 0. Errors match ErrInvalid, ErrForeign (the key is that of something
// else), ErrStore or ctx.Err().
func (c *Client) GetRun(ctx context.Context, job, period string) (Run, error) {
	run := Run{Job: job, Period: period}
	if err := c.checkPeriod(job, period); err != nil {
		return run, err
	}
	r, err := c.seeRun(ctx, job, period)
	if err == nil {
		run.read(&r)
	}
	return run, err
}

// checkPeriod refuses what cannot be a period.
func (c *Client) checkPeriod(job, period string) error {
	errs := periodErrors(job, period)
	return invalid(append(errs, c.checkKey(periodKey(job, period))...))
}

// seeRun reads the record of a period. One that was never begun has no version.
func (c *Client) seeRun(ctx context.Context, job, period string) (Record, error) {
	key := periodKey(job, period)
	a := c.look(ctx, key, true)
	if a.err != nil {
		return Record{}, c.storeError("look at period", key, a.err)
	}
	r := c.decode(key, a.item)
	switch {
	case r.State == Foreign:
		return r, &ForeignError{Key: key, Problem: r.Problem}
	case r.Version != "" && !r.run:
		return r, &ForeignError{Key: key, Problem: notARun}
	}
	return r, nil
}

const notARun = "it is not the run of a period"

// Reopen has a period run again that is over: finished, with an error or without, or begun as often as allowed. Whoever
// asks for it begins it, with all its attempts. run is what [Client.GetRun], [Client.Runs], [Client.Once] or a
// [RunError] showed; where that has changed since, the error matches [ErrChanged], and where the run is under way
// [ErrHeld]: it may be freed ([Client.ForceRelease]) first. A period that is open gets all its attempts again.
//
// It looks first and then writes: two requests. Other errors match ErrInvalid (the run was never begun, for one),
// ErrForeign, ErrStore or ctx.Err(): then the period may have been opened, or be opened yet.
func (c *Client) Reopen(ctx context.Context, run Run) error {
	if err := c.checkPeriod(run.Job, run.Period); err != nil {
		return err
	}
	if run.Attempt < 1 || run.Token == 0 {
		return invalid([]error{fmt.Errorf("run has attempt %d and token %d, allowed: a run that was begun, as GetRun gives it",
			run.Attempt, run.Token)})
	}
	key, id, n, doubt := periodKey(run.Job, run.Period), newID(), uint64(0), false
	return c.persist(ctx, func() (bool, error) {
		r, err := c.seeRun(ctx, run.Job, run.Period)
		if err != nil {
			return true, err
		}
		now := Run{Job: run.Job, Period: run.Period}
		now.read(&r)
		switch {
		case r.id() == id || doubt && r.Token > run.Token: // an attempt whose answer was lost
			return true, nil
		case r.State == Held && r.Token == run.Token:
			return true, &HeldError{Record: r, RetryAfter: c.opt.MaxPoll}
		case r.Version == "":
			return true, fmt.Errorf("%w: the run of %q is not known any more", ErrChanged, key)
		case !now.same(run):
			return true, fmt.Errorf("%w: the run of %q is attempt %d by %q now", ErrChanged, key, now.Attempt, now.By)
		}
		n++
		update := updRelease + setAttempts + setUncounted + setBy + updReopenRemove
		w := &write{cond: condVersion(1), update: update, values: item{
			":seen0": str(r.Version), ":next": str(versionOf(id, n)), ":by": str(c.opt.Owner),
			":attempts": num(0), ":uncounted": num(now.Attempt),
			":now": num(c.service.stamp(key, c.opt.clock.Now().Wall, r.stamp()+1)),
		}}
		a := c.ask(ctx, key, w)
		doubt = doubt || a.verdict == inDoubt
		switch a.verdict {
		case applied:
			return true, nil
		case fatal:
			return true, c.storeError("reopen", key, a.err)
		}
		return false, c.storeError("reopen", key, a.err) // refused: the next look says why
	})
}

// same tells whether two readings of a run show it in the same state. Who ran it knows its times by another clock.
func (r *Run) same(o Run) bool {
	return r.Token == o.Token && r.Attempt == o.Attempt && r.FinishedAt.IsZero() == o.FinishedAt.IsZero()
}

// Job is what is known of a job itself. [Client.Runs] lists its runs.
type Job struct {
	Name     string
	Paused   bool
	PausedBy string    // label of the client that paused it
	Reason   string    // why
	PausedAt time.Time // zero where it was paused by an earlier version of this library

	// The last start that was noted: of Once with AtLeast, or of a tick. Zero where there was none.
	LastStart  time.Time
	LastPeriod string
	LastTick   time.Time // the last tick that was begun or let pass; see Client.Tick
}

// Job reads whether a job is paused, by whom, why and since when, and when it started last, strongly consistent: one
// read unit. Times are DynamoDB's, as the writer knew it. A job that never noted anything is Job{Name: job}. Errors
// match ErrInvalid, ErrHeld or ErrForeign (the job's key, "once/" and its name, is that of something else), ErrStore or
// ctx.Err().
func (c *Client) Job(ctx context.Context, job string) (Job, error) {
	var errs []error
	if job == "" {
		errs = append(errs, errors.New("job is empty, allowed: the job's name"))
	}
	if err := invalid(append(errs, c.checkKey(jobKey(job))...)); err != nil {
		return Job{Name: job}, err
	}
	a := c.look(ctx, jobKey(job), true)
	if a.err != nil {
		return Job{Name: job}, c.storeError("look at job", jobKey(job), a.err)
	}
	return c.readJob(job, a.item)
}

// readJob takes what a job's item says.
func (c *Client) readJob(job string, it item) (Job, error) {
	j := Job{Name: job}
	if err := c.jobError(job, it); err != nil {
		return j, err
	}
	p := parser{it: it}
	if _, j.Paused = it[attrPaused]; j.Paused {
		j.PausedBy, j.Reason, j.PausedAt = p.str(attrOwner), p.str(attrPaused), p.time(attrPausedAt)
	}
	j.LastStart, j.LastPeriod = p.time(attrStarted), p.str(attrPeriod)
	if tick := p.str(attrTick); tick != "" {
		var err error
		if j.LastTick, err = time.Parse(time.RFC3339Nano, tick); err != nil {
			p.misfit(attrTick, "a time of RFC 3339")
		}
	}
	if p.problem != "" {
		return j, &ForeignError{Key: jobKey(job), Problem: p.problem}
	}
	return j, nil
}
