package dynalock

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The attributes of a job, in an item that looks like a released lock.
const (
	attrPaused   = "paused"    // S why it is paused
	attrPausedAt = "pausedAt"  // N unix milliseconds by DynamoDB's clock, since when it is paused
	attrUnpaused = "unpaused"  // S the version of the write that ended the last pause
	attrStarted  = "startedAt" // N unix milliseconds by DynamoDB's clock, its last start
	attrPeriod   = "period"    // S the period of that start
)

var jobNames = map[string]string{
	"#paused": attrPaused, "#pausedAt": attrPausedAt, "#unpaused": attrUnpaused, "#started": attrStarted,
	"#period": attrPeriod,
}

const (
	// condJob: there is no item under the job's key, or one in which this library keeps a job. It is not a lock that is
	// held, nor a foreign item.
	condJob = "(attribute_not_exists(#key) OR #released = :one AND #stamp = #version)"

	// condNotUnpaused: no pause has ended since the one that :seen0 ended, or ever. A late copy of a Pause must not begin
	// the pause again. The version cannot tell, because a late copy of a start may bring it back.
	condNotUnpaused = condJob + " AND #unpaused = :seen0"
	condNeverPaused = condJob + " AND attribute_not_exists(#unpaused)"

	// condSpaced: the job is not paused, and its last start is long enough ago, or was that of this very period.
	condSpaced = condJob +
		" AND attribute_not_exists(#paused) AND (attribute_not_exists(#started) OR #started <= :limit OR #period = :period)"

	// updStart notes the start of a job. updPause and updUnpause pause it and let it start again.
	updJob     = "SET #lease = :lease, #version = :next, #stamp = :next, #owner = :owner, #released = :one"
	updStart   = updJob + ", #started = :now, #period = :period"
	updPause   = updJob + ", #paused = :paused, #pausedAt = :now"
	updUnpause = updJob + ", #unpaused = :next REMOVE #paused, #pausedAt"
)

// insist retries an operation that failed for a cause that may pass, until ctx ends or Close begins.
func (c *Client) insist(ctx context.Context, op func() (passes bool, err error)) error {
	var err error
	stopped := retry(c.tasks.resting(ctx), func(n int) bool {
		var passes bool
		if passes, err = op(); !passes || err == nil {
			return true
		}
		c.store.failed(ctx, n, err)
		return false
	})
	switch {
	case errors.Is(stopped, ErrClosed):
		return stopped
	case stopped != nil:
		return fmt.Errorf("%w: %w", stopped, err)
	}
	return err
}

// mayStart reads whether the job is paused, and with AtLeast notes its start, on condition that the last one is long
// ago. passes reports that the error may pass by itself.
func (c *Client) mayStart(ctx context.Context, job, period string, atLeast time.Duration) (passes bool, err error) {
	if atLeast > 0 {
		a := c.store.look(ctx, periodKey(job, period), false)
		if a.err != nil {
			return a.verdict != fatal, c.store.storeError("look at period", periodKey(job, period), a.err)
		}
		if len(a.item) > 0 { // a period that was begun already is no start: the call comes late, or its run crashed
			atLeast = 0
		}
	}
	if atLeast == 0 {
		return c.notPaused(ctx, job)
	}
	err = c.store.persist(ctx, func() (bool, error) {
		now := c.store.service.millis(c.opt.clock.Now().Wall)
		w := c.jobWrite(updStart)
		w.cond = condSpaced
		w.values[":now"], w.values[":limit"] = num(now), num(now-atLeast.Milliseconds())
		w.values[":period"] = str(period)
		a := c.store.ask(ctx, jobKey(job), w)
		passes = false
		switch a.verdict {
		case applied:
			return true, nil
		case refused:
			if err := join(c.jobError(job, a.item), pausedError(job, a.item)); err != nil {
				return true, err
			}
			p := parser{it: a.item}
			return true, fmt.Errorf("%w: %q began for period %q at %s", ErrTooSoon, job, p.str(attrPeriod),
				p.time(attrStarted).UTC().Format(time.RFC3339))
		}
		passes = a.verdict != fatal
		return !passes, c.store.storeError("start job", jobKey(job), a.err)
	})
	return passes, err
}

// notPaused reads whether the job is paused. The read is consistent, so that a pause holds from the moment that Pause
// returned.
func (c *Client) notPaused(ctx context.Context, job string) (passes bool, err error) {
	a := c.store.look(ctx, jobKey(job), true)
	if a.err != nil {
		return a.verdict != fatal, c.store.storeError("look at job", jobKey(job), a.err)
	}
	return false, pausedError(job, a.item)
}

// jobWrite is a write of the job's item, which looks like a released lock.
func (c *Client) jobWrite(update string) *write {
	return &write{update: update, values: item{
		":lease": str(leaseText(c.opt.Lease, c.opt.Dialect)), ":next": str(versionOf(newID(), 1)), ":owner": str(c.opt.Owner),
	}}
}

// jobError is the error if the item under a job's key is not that of a job: a lock that is held, or a foreign item.
func (c *Client) jobError(job string, it item) error {
	switch r := decode(jobKey(job), it); r.State {
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

// Pause keeps a job from starting. From now on [Client.Once] returns an error that matches ErrPaused and says who
// paused the job and why, and [Client.Tick] begins no run. Runs under way go on. Pause reads first and then writes: two
// requests.
//
// nil means that the job is paused. Errors match
//
//   - ErrInvalid;
//   - ErrHeld or ErrForeign, if the job's key ("once/" and its name) is that of a lock or of an item that is not a job;
//   - ErrStore or ctx.Err().
func (c *Client) Pause(ctx context.Context, job, reason string) error {
	w := c.jobWrite(updPause)
	w.values[":paused"], w.values[":now"] = str(reason), num(c.store.service.millis(c.opt.clock.Now().Wall))
	return c.setPause(ctx, job, w, badText("reason", reason, maxLabelBytes))
}

// Unpause lets a job start again. A job that is not paused is left as it is. Errors are those of [Client.Pause].
func (c *Client) Unpause(ctx context.Context, job string) error {
	return c.setPause(ctx, job, c.jobWrite(updUnpause), nil)
}

// setPause writes on condition of what it has just read: a late copy undoes no later pause, and begins no pause again
// that is over.
func (c *Client) setPause(ctx context.Context, job string, w *write, errs []error) error {
	if job == "" {
		errs = append(errs, errors.New("job is empty, allowed: the job's name"))
	}
	if err := invalid(append(errs, c.checkKey(jobKey(job))...)); err != nil {
		return err
	}
	id, attempts := newID(), uint64(0)
	return c.store.persist(ctx, func() (bool, error) {
		a := c.store.look(ctx, jobKey(job), true)
		if a.verdict != applied {
			return true, c.store.storeError("look at job", jobKey(job), a.err)
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
		case writer == id || w.update == updUnpause && !paused: // done by an attempt whose answer was lost, for example
			return true, nil
		case w.update == updUnpause:
			w.cond, w.values[":seen0"] = condJob+" AND "+condVersion(1), str(version)
		case unpaused != "":
			w.cond, w.values[":seen0"] = condNotUnpaused, str(unpaused)
		default:
			w.cond = condNeverPaused
		}
		a = c.store.ask(ctx, jobKey(job), w)
		if a.verdict == applied {
			return true, nil
		}
		return a.verdict == fatal, c.store.storeError("pause", jobKey(job), a.err) // refused: it has changed meanwhile
	})
}

// Job is what is known of a job itself. [Client.Runs] lists its runs.
type Job struct {
	Name     string
	Paused   bool
	PausedBy string    // label of the client that paused it
	Reason   string    // why
	PausedAt time.Time // zero if an earlier version of this library paused it

	// The last start that was noted: that of a call of Once with AtLeast, or of a tick. Zero if there was none.
	LastStart  time.Time
	LastPeriod string
	LastTick   time.Time // the last tick that was begun, or where the schedule begins; see Client.Tick
}

// Job reads whether a job is paused, by whom, why and since when, and when it started last. The read is strongly
// consistent: one read unit. Times are DynamoDB's, as the writer knew it. A job of which nothing was noted is Job{Name:
// job}. Errors match
//
//   - ErrInvalid;
//   - ErrHeld or ErrForeign, if the job's key ("once/" and its name) is that of a lock or of an item that is not a job;
//   - ErrStore or ctx.Err().
func (c *Client) Job(ctx context.Context, job string) (Job, error) {
	var errs []error
	if job == "" {
		errs = append(errs, errors.New("job is empty, allowed: the job's name"))
	}
	if err := invalid(append(errs, c.checkKey(jobKey(job))...)); err != nil {
		return Job{Name: job}, err
	}
	a := c.store.look(ctx, jobKey(job), true)
	if a.err != nil {
		return Job{Name: job}, c.store.storeError("look at job", jobKey(job), a.err)
	}
	return c.readJob(job, a.item)
}

// readJob decodes a job's item.
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
