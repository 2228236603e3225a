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

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
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

// jobOf tells the job to which a key belongs, and the period, which is empty for the job's own item.
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
		Job: run.Job, Period: run.Period, Status: status, By: run.By, StartedAt: utc(run.StartedAt), FinishedAt: utc(run.FinishedAt),
		Attempt: run.Attempt, Token: run.Token, Error: run.Err,
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

// pause is what a job's own item says.
type pause struct {
	paused     bool
	by, reason string
}

// readPause looks whether a job is paused. The library tells it only to those who are about to run the job, so the item
// is read here: an attribute "paused" is the reason, and who wrote it the owner.
func (a *app) readPause(ctx context.Context, c *dynalock.Client, job string) (dynalock.Record, pause, error) {
	r, err := c.Get(ctx, jobKey(job)) // which also says what is wrong with the key, the table, the credentials
	if err != nil || r.State != dynalock.Free || r.Version == "" {
		return r, pause{}, err
	}
	db, err := a.connect(ctx)
	if err != nil {
		return r, pause{}, err
	}
	table, consistent := c.Table(), true
	key := map[string]types.AttributeValue{a.partitionKey: &types.AttributeValueMemberS{Value: a.namespace + jobKey(job)}}
	if a.sortKey != "" {
		key[a.sortKey] = &types.AttributeValueMemberS{Value: a.sortValue}
	}
	out, err := db.GetItem(ctx, &dynamodb.GetItemInput{TableName: &table, Key: key, ConsistentRead: &consistent})
	if err != nil {
		return r, pause{}, &dynalock.StoreError{Op: "look at job", Table: table, Key: jobKey(job), Err: err}
	}
	stored, paused := out.Item["paused"]
	if !paused {
		return r, pause{}, nil
	}
	p := pause{paused: true, by: r.Owner}
	if reason, ok := stored.(*types.AttributeValueMemberS); ok {
		p.reason = reason.Value
	}
	return r, p, nil
}

// readJob is readPause for those who are about to write the job's item: it must not be somebody's lock.
func (a *app) readJob(ctx context.Context, c *dynalock.Client, job string) (pause, error) {
	r, p, err := a.readPause(ctx, c, job)
	switch {
	case err != nil:
		return p, err
	case r.State == dynalock.Foreign:
		return p, &dynalock.ForeignError{Key: r.Key, Problem: r.Problem}
	case r.State == dynalock.Held:
		return p, &dynalock.HeldError{Record: r}
	}
	return p, nil
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

A run is done, failed (it finished with an error), running, expired (its lease has run out, by this machine's clock: its
process may be dead, and whoever asks for the period watches it for its lease and begins it again) or interrupted (it
gave its lock back, or an operator freed it, and it did not finish: whoever asks for the period begins it again). ATTEMPT
says how often the period was begun. Times are those of the runs' clocks.

The JSON output is one document: job, paused, pausedBy, reason, and runs, each with job, period, status, by, startedAt,
finishedAt (RFC 3339), attempt, token and error; what is not known is left out.`,
		Args: oneJob,
		RunE: a.do(func(ctx context.Context, args []string) error {
			c, err := a.client(ctx)
			if err != nil {
				return err
			}
			ctx, cancel := a.bounded(ctx)
			defer cancel()
			_, p, err := a.readPause(ctx, c, args[0])
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
			return a.showRuns(args[0], p, runs, time.Now())
		}),
	}
}

// unfinished is the status of a run that is not finished: its lock tells.
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

func (a *app) showRuns(job string, p pause, runs []runJSON, now time.Time) error {
	if a.output == formatJSON {
		return writeJSON(a.out, struct {
			jobJSON
			Runs []runJSON `json:"runs"`
		}{jobJSON{job, p.paused, p.by, p.reason}, runs})
	}
	if p.paused {
		if err := a.showPause(job, p); err != nil {
			return err
		}
	}
	rows := [][]string{{"PERIOD", "STATUS", "BY", "STARTED", "TOOK", "ATTEMPT", "TOKEN", "ERROR"}}
	for _, r := range runs {
		row := []string{r.Period, r.Status, r.By, relative(r.StartedAt, now), "", strconv.Itoa(r.Attempt), strconv.FormatUint(r.Token, 10), r.Error}
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
}

// showPause says whether a job is paused.
func (a *app) showPause(job string, p pause) error {
	if a.output == formatJSON {
		return writeJSON(a.out, jobJSON{job, p.paused, p.by, p.reason})
	}
	text := fmt.Sprintf("job %q is not paused", job)
	if p.paused {
		text = fmt.Sprintf("job %q is paused by %q", job, p.by)
	}
	if p.reason != "" {
		text += fmt.Sprintf(": %s", p.reason)
	}
	_, err := fmt.Fprintln(a.out, clean(text))
	return err
}

func (a *app) pauseCommand() *cobra.Command {
	var owner, reason string
	cmd := &cobra.Command{
		Use:   "pause JOB",
		Short: "Keep a job from starting",
		Long: `Keep a job from starting: "once" says that it is paused, by whom and why, and exits with 80. A run under way goes on.
A job that is paused already is paused by you from now on, for your reason. The JSON output has job, paused, pausedBy
and reason.`,
		Args: oneJob,
		RunE: a.do(func(ctx context.Context, args []string) error {
			if !utf8.ValidString(reason) {
				return usagef("--reason is %q, allowed: valid UTF-8", reason)
			}
			c, err := a.client(ctx, func(o *dynalock.Options) { o.Owner = owner })
			if err != nil {
				return err
			}
			ctx, cancel := a.bounded(ctx)
			defer cancel()
			if _, err := a.readJob(ctx, c, args[0]); err != nil {
				return err
			}
			if err := c.Pause(ctx, args[0], reason); err != nil {
				return err
			}
			return a.showPause(args[0], pause{true, c.Options().Owner, reason})
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "shown to those who would run the job")
	cmd.Flags().StringVar(&owner, "owner", "", "label to store as the one who paused it (default host/pid/random)")
	return cmd
}

func (a *app) unpauseCommand() *cobra.Command {
	var owner string
	cmd := &cobra.Command{
		Use:   "unpause JOB",
		Short: "Let a job start again",
		Long:  `Let a job start again. One that is not paused is success, and left as it is. The JSON output is that of pause.`,
		Args:  oneJob,
		RunE: a.do(func(ctx context.Context, args []string) error {
			c, err := a.client(ctx, func(o *dynalock.Options) { o.Owner = owner })
			if err != nil {
				return err
			}
			ctx, cancel := a.bounded(ctx)
			defer cancel()
			p, err := a.readJob(ctx, c, args[0])
			if err == nil && p.paused { // else it would get an item
				err = c.Unpause(ctx, args[0])
			}
			if err != nil {
				return err
			}
			return a.showPause(args[0], pause{})
		}),
	}
	cmd.Flags().StringVar(&owner, "owner", "", "label to store as the one who let it start (default host/pid/random)")
	return cmd
}
