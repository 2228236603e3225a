package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/dynalock"
)

// filter says which locks are listed.
type filter struct {
	states        []string
	prefix, owner string
	expired, jobs bool
}

func (f *filter) validate() error {
	for _, s := range f.states {
		if !slices.Contains([]string{"free", "held", "foreign"}, s) {
			return usagef("--state is %q, allowed: free, held or foreign", s)
		}
	}
	return nil
}

func (f *filter) match(r dynalock.Record, now time.Time) bool {
	return (len(f.states) == 0 || slices.Contains(f.states, r.State.String())) &&
		strings.HasPrefix(r.Key, f.prefix) && strings.HasPrefix(r.Owner, f.owner) &&
		(!f.expired || expired(r, now)) &&
		(f.jobs || strings.HasPrefix(f.prefix, jobsPrefix) || !isRecordOfJob(r))
}

// isRecordOfJob reports whether a free item is the record of a job, or of a run that is over, and not a free lock.
func isRecordOfJob(r dynalock.Record) bool {
	_, _, ok := jobOf(r.Key)
	return ok && r.State == dynalock.Free
}

func (a *app) listCommand() *cobra.Command {
	var f filter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the locks of the table, sorted by key",
		Long: `List the locks of the table, or of the namespace, sorted by key. This reads the whole table.

  KEY       in double quotes, as in Go, if it is not printable, or begins or ends with a space
  STATE     free, held or foreign (not a lock). A held lock that is expired stays held until another process takes it
  OWNER     the holder; of a free lock, its last holder
  SINCE     when a held lock was acquired, or a free lock was released
  EXPIRES   by the holder's clock, as all times here
  WAITERS   an estimate made when the lock was acquired
  REASON    why the lock is held; of a free lock, who freed it if that was not its holder

The records of jobs, and of their runs that are over, are not free locks. Of keys that begin with once/ only those that
are held or foreign are listed, unless --jobs or a --prefix asks for the others. "runs" shows these runs.

The JSON output is one document, {"locks": [...]}. Each lock has key, state (free, held, foreign), owner, token,
reason, leaseMillis, acquiredAt, renewedAt, expiresAt (RFC 3339), expired, waiters, releasedAt and releasedBy (of a free
lock; who freed it if that was not its holder), version, problem (why an item is foreign), data (base64), and job and
period if it belongs to a job. What is not known is left out.`,
		Args: noArgs,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			if err := f.validate(); err != nil {
				return err
			}
			c, err := a.client(ctx)
			if err != nil {
				return err
			}
			ctx, cancel := a.bounded(ctx)
			defer cancel()
			now, found := time.Now(), []dynalock.Record{}
			for r, err := range c.Records(ctx) {
				if err != nil {
					return err
				}
				if r.Key == "" && a.namespace == "" {
					return &exitError{
						exitUnfit,
						fmt.Errorf("table %q has no string %q in its items, so that is not its partition key: see table check", c.Table(),
							a.partitionKey),
					}
				}
				if f.match(r, now) {
					found = append(found, r)
				}
			}
			slices.SortStableFunc(found, func(a, b dynalock.Record) int { return cmp.Compare(a.Key, b.Key) })
			return a.showList(found, time.Now())
		}),
	}
	cmd.Flags().StringSliceVar(&f.states, "state", nil, "only locks that are held, free or foreign; may be repeated")
	cmd.Flags().StringVar(&f.prefix, "prefix", "", "only keys that begin with this")
	cmd.Flags().StringVar(&f.owner, "owner", "", "only locks whose owner begins with this")
	cmd.Flags().BoolVar(&f.expired, "expired", false, "only held locks whose lease has expired, by this machine's clock")
	cmd.Flags().BoolVar(&f.jobs, "jobs", false, "also the records of jobs, and of their runs that are over")
	completes(cmd, "state", "held", "free", "foreign")
	allow(cmd, "state", "free, held or foreign")
	return cmd
}

func (a *app) showList(found []dynalock.Record, now time.Time) error {
	if a.output == formatJSON {
		locks := make([]lockJSON, len(found))
		for i, r := range found {
			locks[i] = toJSON(r, now)
		}
		return writeJSON(a.out, map[string]any{"locks": locks})
	}
	rows := [][]string{{"KEY", "STATE", "OWNER", "TOKEN", "SINCE", "RENEWED", "EXPIRES", "WAITERS", "REASON"}}
	for _, r := range found {
		rows = append(rows, listRow(r, now))
	}
	return writeTable(a.out, rows)
}

func listRow(r dynalock.Record, now time.Time) []string {
	row := []string{
		quoted(r.Key), r.State.String(), r.Owner, token(r), relative(r.AcquiredAt, now),
		relative(r.RenewedAt, now), relative(r.ExpiresAt, now), "", r.Reason,
	}
	switch r.State {
	case dynalock.Held:
		row[7] = strconv.Itoa(r.Waiters)
	case dynalock.Free: // its last write was the release
		row[4], row[5] = row[5], ""
		if r.ReleasedBy != "" {
			row[8] = fmt.Sprintf("freed by %q", r.ReleasedBy)
		}
		if job, _, ok := jobOf(r.Key); ok {
			row[8] = fmt.Sprintf("of a job: see runs %q", job)
		}
	case dynalock.Foreign:
		row[8] = "not a lock: " + r.Problem
	}
	return row
}

func token(r dynalock.Record) string {
	if r.Token == 0 {
		return ""
	}
	return strconv.FormatUint(r.Token, 10)
}
