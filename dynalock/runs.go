package dynalock

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// updReopenRemove goes with a release that opens a period again.
const updReopenRemove = " REMOVE #finished"

// Runs yields the runs of a job that are known, in no order. It is for operators, and scans the whole table. It ends
// after the first error, which matches ErrInvalid, ErrStore or ctx.Err().
func (c *Client) Runs(ctx context.Context, job string) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		if job == "" {
			yield(Run{}, invalid([]error{errors.New("job is empty, allowed: the job's name")}))
			return
		}
		prefix := jobKey(job) + "/"
		for r, err := range c.store.scan(ctx, prefix) {
			if err != nil {
				yield(Run{}, err)
				return
			}
			if s := readRun(&r); s.attempt+s.uncounted == 0 {
				// nothing began under this key: a lock, or a claim whose caller had gone
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

// GetRun reads the run of a period, strongly consistent: one read unit. The run of a period that was never begun, or is
// not known any more, has Attempt 0. Errors match ErrInvalid, ErrForeign (the item under the key is not that of a run),
// ErrStore or ctx.Err().
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

// seeRun reads the record of a period. The record of one that was never begun has no version.
func (c *Client) seeRun(ctx context.Context, job, period string) (Record, error) {
	key := periodKey(job, period)
	a := c.store.look(ctx, key, true)
	if a.err != nil {
		return Record{}, c.store.storeError("look at period", key, a.err)
	}
	r := decode(key, a.item)
	switch {
	case r.State == Foreign:
		return r, &ForeignError{Key: key, Problem: r.Problem}
	case r.Version != "" && !readRun(&r).is:
		return r, &ForeignError{Key: key, Problem: notARun}
	}
	return r, nil
}

const notARun = "it is not the run of a period"

// Reopen opens a period again that is over: finished, with an error or without, or begun as often as allowed. The next
// call of [Client.Once] for the period begins it, with all its attempts. A period that is open gets all its attempts
// again. run is what [Client.GetRun], [Client.Runs], [Client.Once] or a [RunError] showed. Reopen reads first and then
// writes: two requests.
//
// nil means that the period is open. Errors match
//
//   - [ErrChanged], if the run has changed since run was read;
//   - [ErrHeld], if the run is under way. Its lock may be freed first, with [Client.ForceRelease];
//   - ErrInvalid, if the run was never begun, for example;
//   - ErrForeign;
//   - ErrStore or ctx.Err(): then the period may have been opened, or be opened later.
func (c *Client) Reopen(ctx context.Context, run Run) error {
	if err := c.checkPeriod(run.Job, run.Period); err != nil {
		return err
	}
	if run.Attempt < 1 || run.Token == 0 {
		return invalid([]error{fmt.Errorf(
			"run has attempt %d and token %d, allowed: a run that was begun, as GetRun returns it",
			run.Attempt, run.Token)})
	}
	key, id, n, doubt := periodKey(run.Job, run.Period), newID(), uint64(0), false
	return c.store.persist(ctx, func() (bool, error) {
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
			":now": num(c.store.service.stamp(key, c.opt.clock.Now().Wall, r.stamp()+1)),
		}}
		a := c.store.ask(ctx, key, w)
		doubt = doubt || a.verdict == inDoubt
		switch a.verdict {
		case applied:
			return true, nil
		case fatal:
			return true, c.store.storeError("reopen", key, a.err)
		}
		return false, c.store.storeError("reopen", key, a.err) // refused: the next look says why
	})
}

// same reports whether two readings of a run show it in the same state. The times are not compared, because the client
// that ran it has them by another clock.
func (r *Run) same(o Run) bool {
	return r.Token == o.Token && r.Attempt == o.Attempt && r.FinishedAt.IsZero() == o.FinishedAt.IsZero()
}
