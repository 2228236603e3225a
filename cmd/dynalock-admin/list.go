package main

import (
	"cmp"
	"context"
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
	expired       bool
}

func (f *filter) validate() error {
	for _, s := range f.states {
		if !slices.Contains([]string{"free", "held", "foreign"}, s) {
			return usagef("state is %q, allowed: free, held or foreign", s)
		}
	}
	return nil
}

func (f *filter) match(r dynalock.Record, now time.Time) bool {
	return (len(f.states) == 0 || slices.Contains(f.states, r.State.String())) &&
		strings.HasPrefix(r.Key, f.prefix) && strings.HasPrefix(r.Owner, f.owner) &&
		(!f.expired || expired(r, now))
}

func (a *app) listCommand() *cobra.Command {
	var f filter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the locks of the table, sorted by key",
		Long: `List the locks of the table, or of the namespace, sorted by key. This reads the whole table.

SINCE is when a held lock was acquired or a free one was released; OWNER of a free lock is the last one. Times are
those of the holder's clock. A held lock that is expired has run out of its lease, but is free only once somebody
takes it. WAITERS is an estimate made when the lock was acquired.

The JSON output is one document, {"locks": [...]}, each lock with key, state (free, held, foreign), owner, token,
reason, leaseMillis, acquiredAt, renewedAt, expiresAt (RFC 3339), expired, waiters, version, problem (why an item is
foreign) and data (base64); what is not known is left out.`,
		Args: cobra.NoArgs,
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
	cmd.Flags().BoolVar(&f.expired, "expired", false, "only held locks whose lease has run out, by this machine's clock")
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
	row := []string{r.Key, r.State.String(), r.Owner, token(r), relative(r.AcquiredAt, now), relative(r.RenewedAt, now), relative(r.ExpiresAt, now), "", r.Reason}
	switch r.State {
	case dynalock.Held:
		row[7] = strconv.Itoa(r.Waiters)
	case dynalock.Free: // its last write was the release
		row[4], row[5] = row[5], ""
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
