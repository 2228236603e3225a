package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/cmd/dynalock-admin/internal/guard"
	"github.com/dynalock/dynalock/dynalock"
)

func (a *app) rerunCommand() *cobra.Command {
	var (
		yes   bool
		owner string
	)
	cmd := &cobra.Command{
		Use:   "rerun JOB PERIOD",
		Short: "Open a period again that failed, is done, or was begun as often as allowed",
		Long: `Open a period again that failed, is done, or was begun as often as allowed. The command shows its run and asks,
unless --yes is given. It runs nothing itself: the next call for the period ("once", or Client.Once in a program) begins
it, with all its attempts. Processes with ticks ("once --every", Client.Tick) do not look again at a tick that they know
to be over: run it by its name, with "once JOB PERIOD".

The command opens exactly the run that it has shown. Exit codes:

  66   nothing is known of the period
  75   the run is under way, and is left alone. "release" frees its lock
  77   the period was begun or opened in the meantime: nothing was changed

The JSON output is one document: reopened, and was, the run as "runs" shows it.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 || args[0] == "" || args[1] == "" {
				return usagef("%s needs exactly JOB and PERIOD, neither empty, got %q", cmd.Name(), args)
			}
			return nil
		},
		RunE: a.do(func(ctx context.Context, args []string) error {
			c, err := a.client(ctx, operator(owner))
			if err != nil {
				return err
			}
			run, status, err := a.readRun(ctx, c, args[0], args[1])
			if err != nil {
				return err
			}
			if !yes {
				if err := a.confirmRerun(run, status); err != nil {
					return err
				}
			}
			bounded, cancel := a.bounded(ctx)
			defer cancel()
			if err := c.Reopen(bounded, run); err != nil {
				return err
			}
			if a.output == formatJSON {
				return writeJSON(a.out, struct {
					Reopened bool    `json:"reopened"`
					Was      runJSON `json:"was"`
				}{true, runToJSON(run, status)})
			}
			_, err = fmt.Fprintf(a.out, "%q of %q may be run again, was %s in attempt %d by %q\n", run.Period, run.Job, status,
				run.Attempt, run.By)
			return err
		}),
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().StringVar(&owner, "owner", "", "label to store as the one who opened it (default user@host)")
	return cmd
}

// readRun reads a run that is not under way, and its status.
func (a *app) readRun(
	ctx context.Context, c *dynalock.Client, job, period string,
) (run dynalock.Run, status string, err error) {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	run, err = c.GetRun(ctx, job, period)
	switch {
	case err != nil:
		return run, "", err
	case run.Attempt == 0:
		return run, "", &exitError{
			exitNothing,
			fmt.Errorf("%q of %q was never begun, or is not known any more: see runs %[2]q", period, job),
		}
	case !run.FinishedAt.IsZero():
		return run, statusOf(run), nil
	}
	r, err := c.Get(ctx, periodKey(job, period))
	if err == nil && r.State == dynalock.Held {
		err = &dynalock.HeldError{Record: r}
	}
	return run, statusInterrupted, err
}

// confirmRerun shows the run on the terminal and asks whether to open its period.
func (a *app) confirmRerun(run dynalock.Run, status string) error {
	if !guard.IsTerminal(a.in) {
		return usagef("rerun needs --yes if there is no terminal to ask on")
	}
	table := *a
	table.out, table.output = a.err, formatTable
	if err := table.showRuns(run.Job, dynalock.Job{}, []runJSON{runToJSON(run, status)}, time.Now()); err != nil {
		return err
	}
	if status == statusDone {
		a.say("\nIt succeeded: what it did is done again.")
	}
	yes, err := a.ask("Run this period again?")
	if err == nil && !yes {
		return &exitError{exitOther, fmt.Errorf("%q of %q was not opened", run.Period, run.Job)}
	}
	return err
}
