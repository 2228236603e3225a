package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/dynalock"
)

// What is known of a run.
const (
	statusDone        = "done"
	statusFailed      = "failed"
	statusRunning     = "running"
	statusExpired     = "expired"     // it holds its lock, but the lease has run out
	statusInterrupted = "interrupted" // it does not hold its lock any more, and never finished
)

// statusOf is the status of a run, as far as the run itself tells.
func statusOf(run dynalock.Run) string {
	switch {
	case run.FinishedAt.IsZero():
		return statusInterrupted
	case run.Err != "":
		return statusFailed
	}
	return statusDone
}

// took is how long a finished run took, by its clock.
func took(run dynalock.Run) time.Duration {
	d := run.FinishedAt.Sub(run.StartedAt)
	if d >= time.Second {
		return d.Round(time.Second)
	}
	return d.Round(time.Millisecond)
}

// The keys under which the library keeps jobs and their runs; a test compares them with what it writes.
const jobsPrefix = "once/"

func jobKey(job string) string            { return jobsPrefix + url.PathEscape(job) }
func periodKey(job, period string) string { return jobKey(job) + "/" + period }

// jobOf is the job to which a key belongs, and the period, which is empty for the job's own item.
func jobOf(key string) (job, period string, ok bool) {
	escaped, found := strings.CutPrefix(key, jobsPrefix)
	escaped, period, _ = strings.Cut(escaped, "/")
	job, err := url.PathUnescape(escaped)
	if !found || err != nil || job == "" {
		return "", "", false
	}
	return job, period, true
}

// runJSON is a run in the JSON output. Its field names are documented and stay.
type runJSON struct {
	Job        string    `json:"job"`
	Period     string    `json:"period"`
	Status     string    `json:"status"`
	Ran        *bool     `json:"ran,omitempty"` // by this call; nil where none could have
	By         string    `json:"by,omitempty"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	Attempt    int       `json:"attempt"`
	Token      uint64    `json:"token,omitempty"`
	Error      string    `json:"error,omitempty"`
}

func runToJSON(run dynalock.Run, status string) runJSON {
	return runJSON{
		Job: run.Job, Period: run.Period, Status: status, By: run.By, StartedAt: utc(run.StartedAt),
		FinishedAt: utc(run.FinishedAt),
		Attempt:    run.Attempt, Token: run.Token, Error: run.Err,
	}
}

// showRun writes the document on a run, where documents are asked for.
func (a *app) showRun(run dynalock.Run, status string) error {
	if a.output != formatJSON {
		return nil
	}
	doc := runToJSON(run, status)
	doc.Ran = &run.Ran
	return writeJSON(a.out, doc)
}

// oneJob accepts a single argument, the job.
func oneJob(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("%s needs exactly one JOB, got %d arguments", cmd.Name(), len(args))
	}
	if args[0] == "" {
		return usagef("JOB is empty, allowed: the job's name")
	}
	return nil
}

func (a *app) runsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "runs JOB",
		Short: "List the runs of a job that are known, the latest last, and whether it is paused",
		Long: `List the runs of a job that are known, the latest last, and whether it is paused. This reads the whole table.

A run is

  done          it finished
  failed        it finished with an error
  running       its lock is held
  expired       its lock is held, but the lease has expired by this machine's clock: its process may be dead
  interrupted   it released its lock, or an operator freed the lock, and it did not finish

An expired or interrupted run is begun again by the next call for its period. Of an expired run that call first watches
the lock for its lease. A run is not begun again

  - if it was begun as often as its program allows (--attempts, MaxAttempts; 3 by default), which is not known here.
    ATTEMPT says how often it was begun. It includes runs that were told to stop, and those before a rerun, which do
    not count. "rerun" gives the period all its attempts again. Free the lock of an expired run first, with
    "release once/JOB/PERIOD".
  - if it is that of a tick, and a later tick has begun.

Times are those of the clocks of the runs' machines.

The JSON output is one document: job, paused, pausedBy, reason, pausedAt, lastStart and lastPeriod (of the last start
that was noted, with --at-least or of a tick), lastTick, and runs. Each run has job, period, status, by, startedAt,
finishedAt, attempt, token and error. Times are in RFC 3339. What is not known is left out.`,
		Args: oneJob,
		RunE: a.do(func(ctx context.Context, args []string) error {
			c, err := a.client(ctx)
			if err != nil {
				return err
			}
			ctx, cancel := a.bounded(ctx)
			defer cancel()
			job, err := c.Job(ctx, args[0])
			if err != nil {
				return err
			}
			runs := []runJSON{}
			for run, err := range c.Runs(ctx, args[0]) {
				if err != nil {
					return err
				}
				status := statusOf(run)
				if status == statusInterrupted {
					if status, err = unfinished(ctx, c, run); err != nil {
						return err
					}
				}
				runs = append(runs, runToJSON(run, status))
			}
			slices.SortStableFunc(runs, func(a, b runJSON) int {
				return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.Period, b.Period))
			})
			if a.output != formatJSON && slices.ContainsFunc(runs, maybeExhausted) {
				if _, err := fmt.Fprintf(a.out, "a run that did not finish was begun %d times or more: "+
					"if its program allows no more attempts, it is not begun again before \"rerun\"\n", usualAttempts); err != nil {
					return err
				}
			}
			return a.showRuns(args[0], job, runs, time.Now())
		}),
	}
}

// unfinished is the status of a run that is not finished, by its lock.
func unfinished(ctx context.Context, c *dynalock.Client, run dynalock.Run) (string, error) {
	r, err := c.Get(ctx, periodKey(run.Job, run.Period))
	switch {
	case err != nil:
		return "", err
	case expired(r, time.Now()):
		return statusExpired, nil
	case r.State == dynalock.Held:
		return statusRunning, nil
	}
	return statusInterrupted, nil
}

// usualAttempts is how often a period may be begun where its program does not say otherwise.
const usualAttempts = 3

// maybeExhausted reports whether a run that did not finish may have been begun as often as its program allows.
func maybeExhausted(r runJSON) bool {
	return r.Attempt >= usualAttempts && (r.Status == statusExpired || r.Status == statusInterrupted)
}

func (a *app) showRuns(name string, job dynalock.Job, runs []runJSON, now time.Time) error {
	if a.output == formatJSON {
		return writeJSON(a.out, struct {
			jobJSON
			Runs []runJSON `json:"runs"`
		}{jobToJSON(name, job), runs})
	}
	if job.Paused {
		if err := a.showPause(name, job); err != nil {
			return err
		}
	}
	rows := [][]string{{"PERIOD", "STATUS", "BY", "STARTED", "TOOK", "ATTEMPT", "TOKEN", "ERROR"}}
	for _, r := range runs {
		row := []string{
			quoted(r.Period), r.Status, r.By, relative(r.StartedAt, now), "", strconv.Itoa(r.Attempt),
			strconv.FormatUint(r.Token, 10), r.Error,
		}
		if !r.FinishedAt.IsZero() {
			row[4] = took(dynalock.Run{StartedAt: r.StartedAt, FinishedAt: r.FinishedAt}).String()
		}
		rows = append(rows, row)
	}
	return writeTable(a.out, rows)
}

// jobJSON is a job in the JSON output.
type jobJSON struct {
	Job      string `json:"job"`
	Paused   bool   `json:"paused"`
	PausedBy string `json:"pausedBy,omitempty"`
	Reason   string `json:"reason,omitempty"`

	PausedAt   time.Time `json:"pausedAt,omitzero"`
	LastStart  time.Time `json:"lastStart,omitzero"`
	LastPeriod string    `json:"lastPeriod,omitempty"`
	LastTick   time.Time `json:"lastTick,omitzero"`
}

func jobToJSON(name string, j dynalock.Job) jobJSON {
	return jobJSON{
		Job: name, Paused: j.Paused, PausedBy: j.PausedBy, Reason: j.Reason,
		PausedAt: utc(j.PausedAt), LastStart: utc(j.LastStart), LastPeriod: j.LastPeriod, LastTick: utc(j.LastTick),
	}
}

// showPause says whether a job is paused.
func (a *app) showPause(name string, j dynalock.Job) error {
	if a.output == formatJSON {
		return writeJSON(a.out, jobToJSON(name, j))
	}
	text := fmt.Sprintf("job %q is not paused", name)
	if j.Paused {
		text = fmt.Sprintf("job %q is paused by %q", name, j.PausedBy)
		if !j.PausedAt.IsZero() {
			text += " since " + absolute(j.PausedAt, time.Now())
		}
	}
	if j.Reason != "" {
		text += fmt.Sprintf(": %s", j.Reason)
	}
	_, err := fmt.Fprintln(a.out, clean(text))
	return err
}

func (a *app) pauseCommand() *cobra.Command {
	var owner, reason string
	cmd := &cobra.Command{
		Use:   "pause JOB",
		Short: "Keep a job from starting",
		Long: `Keep a job from starting: "once" says that it is paused, by whom and why, and exits with 80. A run under way goes
on. If the job is paused already, the owner and the reason of the pause are replaced. The JSON output has job, paused,
pausedBy, reason, pausedAt, lastStart, lastPeriod and lastTick.`,
		Args: oneJob,
		RunE: a.do(func(ctx context.Context, args []string) error {
			if !utf8.ValidString(reason) {
				return usagef("--reason is %q, allowed: valid UTF-8", reason)
			}
			c, err := a.client(ctx, operator(owner))
			if err != nil {
				return err
			}
			ctx, cancel := a.bounded(ctx)
			defer cancel()
			if err := c.Pause(ctx, args[0], reason); err != nil {
				return err
			}
			job, err := c.Job(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showPause(args[0], job)
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "shown to the calls that would run the job")
	cmd.Flags().StringVar(&owner, "owner", "", "label that is stored as the one who paused the job (default user@host)")
	return cmd
}

func (a *app) unpauseCommand() *cobra.Command {
	var owner string
	cmd := &cobra.Command{
		Use:   "unpause JOB",
		Short: "Let a job start again",
		Long: `Let a job start again. A job that is not paused is left as it is, and that is success. The JSON output is that of
pause.`,
		Args: oneJob,
		RunE: a.do(func(ctx context.Context, args []string) error {
			c, err := a.client(ctx, operator(owner))
			if err != nil {
				return err
			}
			ctx, cancel := a.bounded(ctx)
			defer cancel()
			if err := c.Unpause(ctx, args[0]); err != nil {
				return err
			}
			return a.showPause(args[0], dynalock.Job{})
		}),
	}
	cmd.Flags().StringVar(&owner, "owner", "", "label that is stored as the one who let the job start (default user@host)")
	return cmd
}
