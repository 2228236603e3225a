package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
)

// The rules of runs that happen once per period.
const (
	ruleFinish   = "a period is finished once, and by the run that holds it"
	ruleStopped  = "a run that failed after it was told to stop is not finished, and does not count"
	ruleAttempts = "a period is begun as often as allowed at most, and not after it was finished"
	ruleRun      = "what a Run tells is what the item says"
	rulePaused   = "a job that was paused before the call does not start"
	ruleSpaced   = "two periods of a job do not start closer to each other than asked for"
)

// jobPlan is what all processes of a job agree on.
type jobPlan struct {
	Periods, Attempts int
	AtLeast           time.Duration
}

func newJobPlans(d dice, p *simPlan) (jobs []jobPlan) {
	for range pick(d, 1, 1, 2) {
		j := jobPlan{Periods: pick(d, 1, 2, 3), Attempts: pick(d, 1, 2, 2, 3, 3)}
		if d.chance(0.4) { // the service's time is known to a second, so that less would never be kept
			j.AtLeast = d.between(2*time.Second, max(2*p.horizon(), 15*time.Second))
		}
		jobs = append(jobs, j)
	}
	return jobs
}

func jobName(i int) string            { return "once/j" + strconv.Itoa(i) }
func periodName(job, n int) string    { return jobName(job) + "/p" + strconv.Itoa(n) }
func isJob(key string) bool           { return strings.HasPrefix(key, "once/") && strings.Count(key, "/") == 1 }
func splitPeriod(key string) []string { return strings.Split(key, "/")[1:] }

// job of a key of its own or of one of its periods.
func (p *simPlan) job(key string) *jobPlan {
	n, err := strconv.Atoi(splitPeriod(key)[0][1:])
	if err != nil {
		panic(err) // the plan's own name
	}
	return &p.Jobs[n]
}

// newRun is a call of Once, or one of an operator of jobs.
func newRun(d dice, p *simPlan) action {
	job := d.IntN(len(p.Jobs))
	a := action{
		Op: opOnce, Key: periodName(job, d.IntN(p.Jobs[job].Periods)), Wait: d.upTo(2 * p.Lease),
		Timeout: d.between(p.Lease/2, 8*p.Lease),
		NoWait:  d.chance(0.25), Hold: newSteps(d, p),
	}
	newFunction(d, p, &a)
	switch {
	case d.chance(0.1):
		a.Fails = panics
	case d.chance(0.1):
		a.Timeout = d.upTo(p.Lease / 5)
	case d.chance(0.3):
		a.Op, a.Key, a.Hold = pick(d, opPause, opUnpause, opUnpause, opRuns), jobName(job), nil
	}
	if a.Op == opOnce && a.Wait%3 == 0 { // it is told to stop; not one of the dice: schedules stay what they were
		a.Fails, a.Stay, a.Timeout = failsWithError, 3*p.Lease, min(a.Timeout, 2*p.Lease)
	}
	if d.chance(0.2) {
		a.Lease = max(d.between(p.Lease/2, 2*p.Lease).Truncate(time.Millisecond), 100*time.Millisecond)
	}
	return a
}

// attempt is the begin of a run, or its end, as the item showed it.
type attempt struct {
	id, owner       string
	attempt, token  uint64
	begun, finished uint64 // unix milliseconds
	result          string
	lower           uint64 // its token before it was raised, which others may have read
}

func attemptOf(it map[string]types.AttributeValue) attempt {
	return attempt{
		id: idOf(textOf(it, "recordVersionNumber")), owner: textOf(it, "ownerName"),
		attempt: number(it, "attempt") + number(it, "uncounted"),
		token:   number(it, "fencingToken"), begun: number(it, "acquiredAt"), finished: number(it, "finishedAt"),
		result: textOf(it, "result"),
	}
}

// tells checks a Run.
func (x attempt) tells(r dynalock.Run) bool {
	return r.By == x.owner && uint64(r.Attempt) == x.attempt &&
		(r.Token == x.token || !r.Ran && x.lower > 0 && r.Token == x.lower) && uint64(r.StartedAt.UnixMilli()) == x.begun
}

// jobState is the item of a job, by the order of writes.
type jobState struct {
	paused  bool
	since   time.Duration // it is paused, or is not
	starts  bool          // it has been started with AtLeast
	start   *sentWrite
	applied map[*sentWrite]time.Duration // starts, and when they were first
	started time.Duration
	period  string
}

var errWork = errors.New("the work failed")

// work is a function under a lock that a call runs.
func (a *actor) work(ctx context.Context, call *waitingCall, t *tenure, act action) error {
	w := a.w
	w.mu.Lock()
	st := w.check.key(t.key)
	t.working = ctx
	st.working = append(st.working, t)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.check.look(t.key)
		t.working, call.worked = nil, w.now()
		st.working = slices.DeleteFunc(st.working, func(x *tenure) bool { return x == t })
		w.history.add(w.now(), a.name, t.key, "ends its work under %s", t.id)
	}()
	a.use(ctx, act.Hold, t)
	if a.alive(ctx) && act.Stay > 0 {
		select {
		case <-time.After(act.Stay):
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil && !a.c.crashed() {
		time.Sleep(act.Linger)
	}
	call.stopped = ctx.Err() != nil && act.Fails == failsWithError
	switch act.Fails {
	case failsWithError:
		return errWork
	case panics:
		panic("at work")
	}
	return nil
}

// once runs a period, if nobody else has.
func (a *actor) once(parent context.Context, act action) {
	w, c, job := a.w, a.c, a.w.plan.job(act.Key)
	call := &waitingCall{client: c, key: act.Key, waits: !act.NoWait, asks: true, spaced: job.AtLeast > 0}
	ctx, cancel := a.within(context.WithValue(parent, callTag{}, call), act.Timeout)
	defer cancel()
	names := splitPeriod(act.Key)
	var t *tenure
	var run dynalock.Run
	begin := w.now()
	err := w.call(ctx, c, a.name, act.Key, "Once", func(ctx context.Context) (err error) {
		run, err = c.lock.Once(ctx, names[0], names[1], func(ctx context.Context, l *dynalock.Lock) error {
			a.waited(call)
			t = a.given(l, act)
			w.mu.Lock()
			w.check.runs(t)
			w.mu.Unlock()
			return a.work(ctx, call, t, act)
		}, func(o *dynalock.OnceOptions) {
			o.Lease, o.MaxAttempts, o.AtLeast, o.NoWait = a.lease(act), job.Attempts, job.AtLeast, act.NoWait
		})
		return err
	})
	a.waited(call)
	if !a.alive(parent) {
		return
	}
	a.documented("Once", act.Key, err, dynalock.ErrHeld, dynalock.ErrLost, dynalock.ErrReleased, dynalock.ErrClosed,
		dynalock.ErrStore,
		dynalock.ErrPaused, dynalock.ErrTooSoon, dynalock.ErrExhausted, dynalock.ErrPanicked, dynalock.ErrRunFailed,
		dynalock.ErrNotDone, errWork)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.check.told(act, call, begin, t, run, err)
}

// runs takes note that a run begins its work.
func (k *checker) runs(t *tenure) {
	st := k.key(t.key)
	k.count.Runs++
	if st.begun++; st.begun > k.w.plan.job(t.key).Attempts+st.uncounted {
		k.fail(ruleAttempts, t.key, "%s begins run %d", t.client.name, st.begun)
	}
	if len(st.finishes) > 0 && t.lock.Held() && !t.overruled && !t.client.crashed() {
		k.fail(ruleAttempts, t.key, "%s begins to work on a period that %s has finished", t.client.name, st.finishes[0].owner)
	}
}

// claimed checks the write that begins a run.
func (k *checker) claimed(st, before *keyState, q *sentWrite) {
	x := attemptOf(st.item)
	st.claims = append(st.claims, x)
	if jb, c := k.jobState(q.key), q.client; jb.paused {
		// it may have looked just before, and the answer come as late as it waits for one
		if late := q.at - jb.since - c.clock.paused(jb.since,
			q.at); late > scale(10*time.Second+c.plan.MinPoll+k.w.plan.Lease, 1/c.plan.Clock.Mono) {
			k.fail(rulePaused, q.key, "%s begins a run %v after the job was paused", c.name, late)
		}
	}
	last := attemptOf(before.item).attempt // those that never began do not count
	if most := uint64(k.w.plan.job(q.key).Attempts + st.uncounted); x.attempt != last+1 || x.attempt > most {
		k.fail(ruleAttempts, q.key, "%s begins attempt %d after %d, allowed are %d", q.client.name, x.attempt, last, most)
	}
	if x.attempt > 1 {
		k.count.Repeated++
	}
	if len(before.finishes) > 0 {
		k.fail(ruleAttempts, q.key, "%s begins attempt %d of a period that %s has finished", q.client.name, x.attempt,
			before.finishes[0].owner)
	}
}

// finished checks the write that ends a run: the first one, or the same again after its answer was lost.
func (k *checker) finished(st *keyState, t *tenure) {
	x := attemptOf(st.item)
	if len(st.finishes) > 0 && st.finishes[0].id != t.id || t.lock == nil {
		k.fail(ruleFinish, t.key, "%s finishes %s, finished before: %+v", t.client.name, t.id, st.finishes)
	}
	if len(st.finishes) == 0 {
		k.count.Finished++
	}
	st.finishes = append(st.finishes, x)
}

// told checks what a call of Once says.
func (k *checker) told(act action, call *waitingCall, begin time.Duration, t *tenure, run dynalock.Run, err error) {
	st, jb := k.key(act.Key), k.jobState(act.Key)
	fail := func(rule, format string, args ...any) {
		k.fail(rule, act.Key, "Once of %s gave %+v, error %v: %s", call.client.name, run, err, fmt.Sprintf(format, args...))
	}
	if run.Ran != (t != nil) {
		fail(ruleRun, "the function was run: %v", t != nil)
	}
	known := func(list []attempt, id string) bool {
		return slices.ContainsFunc(list, func(x attempt) bool { return x.tells(run) && (id == "" || x.id == id) })
	}
	failed := err != nil && (errors.Is(err, errWork) || errors.Is(err, dynalock.ErrPanicked))
	switch {
	case run.Ran:
		if !known(st.claims, t.id) {
			fail(ruleRun, "the claims are %+v", st.claims)
		}
		if jb.paused && jb.since < begin {
			fail(rulePaused, "the job is paused since %v", jb.since)
		}
		recorded := slices.ContainsFunc(st.finishes, func(x attempt) bool { return x.id == t.id && x.result == run.Err })
		ended := errors.Is(err, dynalock.ErrLost) || errors.Is(err, dynalock.ErrStore) ||
			errors.Is(err, dynalock.ErrClosed) ||
			errors.Is(err, dynalock.ErrReleased) || errors.Is(err, dynalock.ErrNotDone) || errors.Is(err, context.Canceled) ||
			errors.Is(err, context.DeadlineExceeded)
		if !ended && !recorded {
			fail(ruleNil, "the item says %+v", st.finishes)
		}
		if failed != (run.Err != "") {
			fail(ruleRun, "the function failed: %v", failed)
		}
		if call.stopped && slices.ContainsFunc(st.finishes, func(x attempt) bool { return x.id == t.id }) {
			fail(ruleStopped, "the item says %+v", st.finishes)
		}
		if errors.Is(err, dynalock.ErrNotDone) && !errors.Is(err, dynalock.ErrReleased) && !errors.Is(err, dynalock.ErrLost) {
			k.count.Stopped++
			if !errors.Is(err, errWork) { // the context may have ended just after the function returned
				fail(ruleStopped, "it did not fail")
			}
		}
	case err == nil || errors.Is(err, dynalock.ErrRunFailed):
		k.count.Told++
		if (err == nil) != (run.Err == "") {
			fail(ruleRun, "the run's own error is %q", run.Err)
		}
		i := slices.IndexFunc(st.finishes, func(x attempt) bool { return x.finished == uint64(run.FinishedAt.UnixMilli()) })
		if i < 0 || !st.finishes[i].tells(run) || st.finishes[i].result != run.Err {
			fail(ruleRun, "the item says %+v", st.finishes)
		}
	case errors.Is(err, dynalock.ErrExhausted):
		k.count.Exhausted++
		if !known(st.claims, "") || run.Attempt < k.w.plan.job(act.Key).Attempts {
			fail(ruleRun, "the claims are %+v", st.claims)
		}
	case errors.Is(err, dynalock.ErrPaused):
		k.count.Paused++
		if !jb.paused && (jb.since == 0 || jb.since < begin-k.w.plan.Lease) {
			fail(ruleRun, "the job is not paused since %v", jb.since)
		}
	case errors.Is(err, dynalock.ErrTooSoon):
		k.count.TooSoon++
		least := k.w.plan.job(act.Key).AtLeast
		if !jb.starts || k.w.plan.job(act.Key).Periods == 1 { // its own start is no reason to wait
			fail(ruleRun, "the job was never started for another period")
		} else if off := call.client.off(call.client.answered, call.client.vague(k.w.now())) + k.off(jb.start) +
			(begin-jb.started)/10; begin-jb.started > least+off {
			fail(ruleRun, "it was started %v before the call, allowed is %v", begin-jb.started, least)
		}
	case errors.Is(err, dynalock.ErrHeld) && run.By != "":
		if !known(st.claims, "") {
			fail(ruleRun, "the claims are %+v", st.claims)
		}
	}
}

func (k *checker) jobState(key string) *jobState {
	name := "once/" + splitPeriod(key)[0]
	jb := k.jobs[name]
	if jb == nil {
		jb = &jobState{applied: map[*sentWrite]time.Duration{}}
		k.jobs[name] = jb
	}
	return jb
}

// noted takes note of a write of a job's item.
func (k *checker) noted(key string, item map[string]types.AttributeValue, q *sentWrite) {
	jb, now := k.jobState(key), k.w.now()
	switch q.site {
	case sitePause, siteUnpause:
		if paused := q.site == sitePause; paused != jb.paused {
			if q.last < jb.since {
				k.fail(rulePaused, key, "a %s of %s that was sent before what it undoes", q.site, q.client.name)
			}
			jb.paused, jb.since = paused, now
		}
	case siteStart:
		if jb.paused {
			k.fail(rulePaused, key, "%s starts it for period %s", q.client.name, textOf(item, "period"))
		}
		if period := textOf(item, "period"); jb.starts && period != jb.period {
			// the clocks run at rates of their own meanwhile
			off := k.off(q) + k.off(jb.start) + (now-jb.started)/10 + (now - q.at)
			if least := k.w.plan.job(key).AtLeast; now-jb.started < least-off {
				k.fail(ruleSpaced, key, "%s starts period %s %v after %s, allowed %v", q.client.name, period, now-jb.started,
					jb.period, least)
			}
		}
		if _, again := jb.applied[q]; !again { // a late copy writes the time of the first again
			jb.applied[q] = now
		}
		jb.starts, jb.start, jb.started, jb.period = true, q, jb.applied[q], textOf(item, "period")
	default:
		k.fail(ruleOwnTenure, key, "%s wrote the job", q.site)
	}
	if _, paused := item["paused"]; paused != jb.paused {
		k.fail(rulePaused, key, "after %s the item says %v", q.site, paused)
	}
}

// pause keeps a job from starting, or lets it start again.
func (a *actor) pause(ctx context.Context, act action) error {
	w, name, paused := a.w, splitPeriod(act.Key)[0], act.Op == opPause
	w.mu.Lock()
	idle := !paused && !w.check.jobState(act.Key).paused
	w.mu.Unlock()
	if idle { // there has to be something to end
		pause := act
		pause.Op = opPause
		if err := a.pause(ctx, pause); err != nil {
			return err
		}
	}
	begin := w.now()
	err := w.call(ctx, a.c, a.name, act.Key, string(act.Op), func(ctx context.Context) error {
		if paused {
			return a.c.lock.Pause(ctx, name, "for a test")
		}
		return a.c.lock.Unpause(ctx, name)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if jb := w.check.jobState(act.Key); err == nil && jb.paused != paused && jb.since < begin {
		w.check.fail(ruleNil, act.Key, "%s returned nil, but the job's being paused is %v since %v", act.Op, jb.paused,
			jb.since)
	}
	return err
}

// list lists the runs of a job.
func (a *actor) list(ctx context.Context, act action) error {
	w := a.w
	return w.call(ctx, a.c, a.name, act.Key, "Runs", func(ctx context.Context) error {
		for run, err := range a.c.lock.Runs(ctx, splitPeriod(act.Key)[0]) {
			if err != nil {
				return err
			}
			w.mu.Lock()
			st := w.check.key(act.Key + "/" + run.Period)
			unbegun := run // a claim that was given back does not count
			unbegun.Attempt++
			if !slices.ContainsFunc(st.claims,
				func(x attempt) bool { return x.tells(run) || run.FinishedAt.IsZero() && x.tells(unbegun) }) {
				w.check.fail(ruleRun, act.Key, "Runs gave %+v, the claims are %+v", run, st.claims)
			}
			w.mu.Unlock()
		}
		return nil
	})
}
