package dynalock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"
)

// The errors of runs. Match them with errors.Is.
var (
	// ErrPaused: an operator has paused the job; see Client.Pause.
	ErrPaused = errors.New("dynalock: job is paused")
	// ErrTooSoon: see OnceOptions.AtLeast.
	ErrTooSoon = errors.New("dynalock: the job's last start is too recent")
	// ErrExhausted: see OnceOptions.MaxAttempts.
	ErrExhausted = errors.New("dynalock: run was begun as often as allowed and never finished")
	// ErrRunFailed: the run failed in another call. The error is a *RunError.
	ErrRunFailed = errors.New("dynalock: the run of the period failed")
	// ErrNotDone: the period stays open; see Client.Once.
	ErrNotDone = errors.New("dynalock: run is not done")
)

// RunError says that the run of a period is over, and has failed. It matches [ErrRunFailed].
type RunError struct{ Run Run }

// Error says which client's run failed, when and with what error.
func (e *RunError) Error() string {
	return fmt.Sprintf("%v: %q of %q by %q at %s: %s", ErrRunFailed, e.Run.Period, e.Run.Job, e.Run.By,
		e.Run.FinishedAt.UTC().Format(time.RFC3339), printable(e.Run.Err))
}

// Is matches ErrRunFailed.
func (*RunError) Is(target error) bool { return target == ErrRunFailed }

// OnceOptions of one call of [Client.Once]. Zero fields take the documented defaults. All processes of a job should use
// the same.
type OnceOptions struct {
	// Lease of a run: how long after a crash it is begun again. 100 ms to 24 h, rounded up to a millisecond. Default: the
	// client's.
	Lease time.Duration
	// NoHeartbeat makes the lease of the run static, as in [AcquireOptions]: nothing is renewed in the background, and the
	// run is lost at its deadline unless [Lock.Renew] is called. It is for Lambda functions, with a Lease of 5/4 of the
	// time that is left of the invocation ([LeaseUntilDeadline]).
	NoHeartbeat bool
	// MaxAttempts is how often a period may be begun if its earlier runs did not finish: they crashed, were freed by an
	// operator, or returned ErrNotDone. A run that was told to stop does not count, up to 100 times per period. 1 to 1000,
	// default 3.
	MaxAttempts int
	// RetryOnError is how often a function that returned an error, or panicked, is called again before the run is finished
	// with that error: by the same call, under the same lock, RetryPause later. It is not called again if its context has
	// ended, if the job was paused, or if its error matches ErrNotDone. 0 to 1000, default 0.
	RetryOnError int
	// RetryPause is the time between an error of the function and its next call. The lock is held meanwhile, at the price
	// of its heartbeats. 0 to 24 h, default 0.
	RetryPause time.Duration
	// AtLeast keeps a job from starting for another period within this time of its last start. It is for callers that
	// derive periods from clocks that differ (ShedLock calls it lockAtLeastFor). It is measured by DynamoDB's clock, which
	// is known to a second, and costs one more write. 0 to 1 year, default 0.
	AtLeast time.Duration
	// Keep is how long a run stays known after it was finished or released. It needs TTL on the attribute "ttl"; without
	// TTL on the table the run stays forever. After that the same period would run again. 15 min to 10 years, default 7
	// days.
	Keep time.Duration
	// NoWait makes the call return at once, with an error that matches ErrHeld, if the period is being run elsewhere, and
	// with one that matches ErrStore after three attempts if DynamoDB does not answer, or throttles. By default the call
	// waits for the result, takes the run over if its holder dies, and retries what fails for a cause that may pass, until
	// ctx ends.
	NoWait bool
	// Reason is shown to waiters, at most 256 bytes.
	Reason string
}

// Run is what is known of the run of one period.
type Run struct {
	Job, Period string
	Ran         bool   // this call ran the function
	By          string // label of the client that ran it
	// StartedAt and FinishedAt are by that client's clock. FinishedAt is zero while the function runs, and if no end was
	// recorded: the run crashed, lost its lock, or was not done.
	StartedAt, FinishedAt time.Time
	Attempt               int    // 1 for the first run; higher if it was begun again
	Token                 uint64 // fencing token of the attempt
	Err                   string // the last error of the function, at most 256 bytes; empty for success
}

// finishedError says that a period's run is over: it was finished, or begun too often.
type finishedError struct{ record Record }

var errFinished = errors.New("dynalock: the run of the period is over") // a *finishedError

func (e *finishedError) Error() string {
	s := readRun(&e.record)
	if s.finished.IsZero() {
		return fmt.Sprintf("dynalock: %q was begun %d times and never finished", e.record.Key, s.attempt+s.uncounted)
	}
	return fmt.Sprintf("dynalock: %q has run", e.record.Key)
}

func (*finishedError) Is(target error) bool { return target == errFinished }

// The attributes of a run, in the item of its period.
const (
	attrAttempt   = "attempt"    // N how often it was begun
	attrUncounted = "uncounted"  // N how often it was begun without counting: it was told to stop, or was reopened
	attrFinished  = "finishedAt" // N unix milliseconds, when it ended
	attrResult    = "result"     // S the error that it ended with
)

var runNames = map[string]string{
	"#attempt": attrAttempt, "#uncounted": attrUncounted, "#finished": attrFinished, "#result": attrResult,
}

const (
	// condRepeat: the run of a period was begun, not finished, and not as often as allowed. condReleased (an operator
	// freed it) or condVersion (its holder is dead) follows.
	condRepeat = "#attempt < :max AND attribute_not_exists(#finished) AND "

	setAttempt  = ", #attempt = if_not_exists(#attempt, :0) + :1"
	setAttempts = ", #attempt = :attempts"
	setUnbegun  = ", #attempt = #attempt - :1"
	setResult   = ", #result = :result, #ttl = :ttl"
	setFinished = ", #finished = :now"

	// setUncounted notes how often a period was begun without counting as an attempt.
	setUncounted = ", #uncounted = :uncounted"
)

// runState is the run in the item of a period.
type runState struct {
	attempt, uncounted int
	finished           time.Time
	result             string
	is                 bool // the item is that of a run, and can be read
}

func readRun(r *Record) runState {
	p, q := parser{it: r.extra}, parser{it: r.extra}
	s := runState{
		attempt: int(min(p.uint(attrAttempt), math.MaxInt32)), uncounted: int(min(p.uint(attrUncounted), math.MaxInt32)),
		finished: p.time(attrFinished), result: q.str(attrResult),
	}
	s.is = r.extra[attrAttempt] != nil && p.problem == "" && (r.extra[attrFinished] == nil) == s.finished.IsZero()
	return s
}

// period is the kind of a run: its key gives tenures until one of them is finished, or too many were begun.
type period struct {
	plain
	job      string
	attempts int           // how often it may be begun
	stays    time.Duration // how long it stays known
}

func (k *period) claim(w *write, free, seen string) {
	w.cond = condNew + " OR (" + condRepeat + free + ")" // redundant parentheses are refused
	if seen != "" {
		w.cond += " OR (" + condRepeat + seen + ")"
	}
	w.update += setAttempt
	w.values[":max"] = num(k.attempts)
}

// allows reads whether the job is paused: it may have been paused while the call waited.
func (k *period) allows(ctx context.Context, a *acquisition) (answer, error) {
	got := a.look(ctx, jobKey(k.job), true)
	return got, pausedError(k.job, got.item)
}

// bars is final for a run that is over, and for a lock, or an item that was rewritten, with which every claim would be
// refused.
func (k *period) bars(r *Record, open bool) error {
	s := readRun(r)
	switch {
	case !s.finished.IsZero():
		return &finishedError{*r}
	case !open || r.Version == "":
	case !s.is:
		return &ForeignError{Key: r.Key, Problem: notARun}
	case s.attempt >= k.attempts:
		return &finishedError{*r}
	}
	return nil
}

// unbegun undoes the attempt of a run that never began, so that it does not count.
func (k *period) unbegun(l *Lock) func(*write) {
	return func(w *write) {
		w.update = updRelease + setHold + setAttempts
		w.values[":attempts"] = num(l.run().attempt - 1) // not one less: it may be sent again
		l.c.store.retain(w, k.stays)
		w.update += updReleaseRemove
	}
}

func (*period) ghost(w *write)        { w.update += setUnbegun }
func (k *period) keep() time.Duration { return k.stays }
func (*period) ends() bool            { return true }
func (*period) portable() bool        { return false } // only Once can record the end of a run

// run is the state of the run in the item when this tenure began.
func (l *Lock) run() runState { return readRun(&Record{extra: l.extra}) }

// Once runs fn at most once per period, across all processes, whatever their clocks and however short fn is. period is
// the logical tick ("2026-11-21T12:00Z", a date, a deploy id), the same text in every process. A call that comes second
// waits for the result (see NoWait), and gets a Run that says who ran the period, when and with what result.
//
// fn holds a lock while it runs. It gets the lock, and a context that ends when the lease can no longer be trusted or
// ctx is done. What fn returns decides about the period:
//
//   - nil finishes it, also when fn's context has ended.
//   - An error finishes it, too, after RetryOnError further calls. A panic ([*PanicError]) finishes it at any time.
//     Only [Client.Reopen] opens it again.
//   - An error that matches ErrNotDone leaves it open: the next call begins it again at once, at most MaxAttempts
//     times.
//   - An error after the end of fn's context (a deploy has ended ctx, for example) says that fn was told to stop. The
//     period is left open, and the run does not count as an attempt. After the period was begun 100 times without
//     counting, such runs count, so that a function that never gets its time is not begun forever.
//
// A period is left open as well when fn crashed, lost its lock, or released it. A crashed run is begun again when its
// lease has expired. So a run is finished once, but its effects may have been half done before, or done if the crash
// came after them. Therefore write with [Lock.Transact], which rejects the write of a run that has lost its lock,
// together with a condition of your own, such as that the period's row does not exist, which rejects the write of a run
// that comes second.
//
// [Client.Close], called elsewhere, ends fn's context (the cause is ErrClosed), which tells fn to stop, and waits for
// fn. Called by fn itself, with a context derived from its own, it releases the lock.
//
// nil means that the period's run succeeded: in this call (Run.Ran) or in another one. The error of a call that ran fn
// is fn's, joined with
//
//   - a [*LostError] (ErrLost) if the lock was lost. If the error does not match ErrNotDone as well, the end was
//     recorded (Run.FinishedAt), or, if FinishedAt is zero, DynamoDB did not answer.
//   - ErrNotDone if the period was left open, by fn or by a loss. The error may match ErrReleased (fn or Close released
//     the lock) or ErrClosed, too.
//
// The error of a call that did not run fn matches
//
//   - ErrRunFailed (a [*RunError]), if the period's run failed in another call;
//   - ErrHeld and ctx.Err(), if the wait ended first, or ErrHeld alone with NoWait;
//   - ErrPaused, ErrTooSoon or ErrExhausted;
//   - ErrInvalid, for an empty job or period, for example;
//   - ErrForeign, ErrStore or ErrClosed.
//
// It costs a read unit for the pause, one conditional write to claim the period, and one to finish it. A call that
// comes second costs the read and the rejected write, half a read unit for each look while it waits, and a read unit
// for the pause before it begins a run again.
func (c *Client) Once(
	ctx context.Context, job, period string, fn func(ctx context.Context, l *Lock) error, optFns ...func(*OnceOptions),
) (Run, error) {
	run := Run{Job: job, Period: period}
	o := OnceOptions{MaxAttempts: maxAttempts, Keep: keepRuns}
	apply(&o, optFns)
	o.defaults()
	if err := o.validate(c, job, period, fn == nil); err != nil {
		return run, err
	}
	select {
	case <-c.tasks.closing:
		return run, ErrClosed
	default:
	}
	start := func() (passes bool, err error) { return c.mayStart(ctx, job, period, o.AtLeast) }
	var err error
	if o.NoWait {
		_, err = start()
	} else {
		err = c.insist(ctx, start)
	}
	if err != nil {
		return run, err
	}
	return c.runPeriod(ctx, job, period, fn, &o)
}

// runPeriod is Once for a job that may start.
func (c *Client) runPeriod(
	ctx context.Context, job, name string, fn func(ctx context.Context, l *Lock) error, o *OnceOptions,
) (Run, error) {
	run := Run{Job: job, Period: name}
	d := c.tasks.undertake(ctx, periodKey(job, name))
	defer d.end()
	acquire := c.acquire
	if o.NoWait {
		acquire = c.tryAcquire
	}
	kind := &period{job: job, attempts: o.MaxAttempts, stays: o.Keep}
	l, err := acquire(d.caller, periodKey(job, name), kind, []func(*AcquireOptions){func(a *AcquireOptions) {
		a.Lease, a.NoHeartbeat, a.Reason = o.Lease, o.NoHeartbeat, o.Reason
	}})
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
		return run, join(ErrClosed, l.finally(ctx))
	}
	began := l.run()
	run.Ran, run.By, run.StartedAt, run.Attempt, run.Token = true, c.opt.Owner, l.acquired, began.attempt+began.uncounted,
		l.token

	err = errExited
	defer func() {
		returned()
		if errors.Is(err, errExited) { // the caller does not hear of it, but the lock must not stay
			_ = l.conclude(ctx, &run, o.Keep, err, runFinished)
		}
	}()
	var how ending
	how, err = c.call(l.within(d.ctx), l, job, o, fn)
	returned()
	if how == runStopped && d.stopped() { // by Close
		err = join(err, fmt.Errorf("%w: the run of %q is not finished", ErrClosed, l.key))
	}
	err = l.conclude(ctx, &run, o.Keep, err, how)
	return run, err
}

// over is the error of a call whose period is finished, or was begun too often.
func (r *Run) over() error {
	switch {
	case r.FinishedAt.IsZero():
		err := fmt.Errorf("%w: %q of %q, %d times, last by %q", ErrExhausted, r.Period, r.Job, r.Attempt, r.By)
		if r.Err != "" {
			err = fmt.Errorf("%w; the last error was: %s", err, printable(r.Err))
		}
		return err
	case r.Err != "":
		return &RunError{*r}
	}
	return nil
}

// ending is what a call makes of its period when the function has returned.
type ending int

const (
	runFinished ending = iota + 1 // with the function's result
	runOpen                       // it is begun again
	runStopped                    // the same, and the attempt does not count
)

// maxUncounted bounds how often a period is begun without counting as an attempt.
const maxUncounted = 100

// call calls the function, again after an error as often as the options say, and says what its result makes of the
// period.
func (c *Client) call(
	ctx context.Context, l *Lock, job string, o *OnceOptions, fn func(ctx context.Context, l *Lock) error,
) (ending, error) {
	for n := 1; ; n++ {
		err := protect(func() error { return fn(ctx, l) })
		var panicked *PanicError
		switch {
		case err == nil:
			return runFinished, nil
		case errors.As(err, &panicked) && (ctx.Err() != nil || n > o.RetryOnError): // a panic is no stop in good order
			return runFinished, err
		case ctx.Err() != nil && errors.Is(context.Cause(ctx), ErrLost):
			return runOpen, err
		case ctx.Err() != nil:
			return runStopped, err
		case errors.Is(err, ErrNotDone):
			return runOpen, err
		case n > o.RetryOnError:
			return runFinished, err
		}
		c.opt.Logger.WarnContext(ctx, "run failed, and is retried", "key", l.key, "token", l.token,
			"failures", n, "pause", o.RetryPause, "error", err)
		paused := c.tasks.rest(ctx, o.RetryPause)
		if paused == nil {
			paused = c.insist(ctx, func() (passes bool, err error) { return c.notPaused(ctx, job) })
		}
		switch {
		case paused == nil:
		case errors.Is(context.Cause(ctx), ErrLost):
			return runOpen, err
		case ctx.Err() != nil || errors.Is(paused, ErrClosed):
			return runStopped, err
		default:
			return runOpen, join(err, paused)
		}
	}
}

// conclude records how a run ended, and releases its lock.
func (l *Lock) conclude(ctx context.Context, run *Run, keep time.Duration, err error, how ending) error {
	if err != nil {
		run.Err = cutLabel(err.Error())
	}
	began := l.run()
	if how == runStopped && began.uncounted >= maxUncounted {
		how = runOpen
	}
	ttl := num(l.c.store.ttl(keep))
	if !l.endWith(func(w *write) {
		w.values[":result"], w.values[":ttl"] = str(run.Err), ttl
		w.update = updRelease + setResult
		switch how {
		case runFinished:
			w.update += setFinished
		case runStopped: // numbers, not one less and one more: it may be sent again
			w.update += setAttempts + setUncounted
			w.values[":attempts"], w.values[":uncounted"] = num(began.attempt-1), num(began.uncounted+1)
		}
		w.update += updReleaseRemove
	}) { // by fn or by Close, before anything could be recorded
		open := fmt.Errorf("%w: %w: the run of %q is not recorded as finished", ErrNotDone, ErrReleased, l.key)
		return join(err, open, l.finally(ctx))
	}
	now, lost := l.c.opt.clock.Now().Wall, l.Err()
	ended := l.Release(ctx)
	gone := errors.Is(ended, ErrLost)
	switch unknown := errors.Is(ended, ErrStore) || gone && errors.Is(ended, ctx.Err()); {
	case unknown:
	case how == runFinished && !gone:
		if ended == nil {
			run.FinishedAt = now
		}
	case !errors.Is(err, ErrNotDone):
		err = join(err, fmt.Errorf("%w: the run of %q is left open, to be begun again", ErrNotDone, l.key))
	}
	if errors.Is(lost, ErrLost) {
		ended = lost
	}
	return join(err, ended)
}

// cutLabel cuts a text to what is kept of it.
func cutLabel(s string) string {
	if len(s) > maxLabelBytes {
		s = s[:maxLabelBytes]
	}
	return strings.ToValidUTF8(s, "")
}

// The defaults of a job.
const (
	maxAttempts = 3
	keepRuns    = 7 * 24 * time.Hour
	maxCatchUp  = 100
)

func (o *OnceOptions) defaults() {
	o.MaxAttempts, o.Keep = cmp.Or(o.MaxAttempts, maxAttempts), cmp.Or(o.Keep, keepRuns)
}

func (o *OnceOptions) validate(c *Client, job, period string, noFn bool) error {
	var errs []error
	if noFn {
		// it would panic, and finish the period
		errs = append(errs, errors.New("fn is nil, allowed: a function"))
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
	if _, err := (&AcquireOptions{Lease: o.Lease, Reason: o.Reason}).validate(c, periodKey(job, period)); err != nil {
		errs = append(errs, err)
	}
	return invalid(errs)
}

// periodErrors are the errors of a period's name.
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

// read copies what a period's record says.
func (r *Run) read(rec *Record) {
	s := readRun(rec)
	r.By, r.StartedAt, r.Attempt, r.Token = rec.Owner, rec.AcquiredAt, s.attempt+s.uncounted, rec.Token
	r.FinishedAt, r.Err = s.finished, s.result
}
