package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/dynalock"
)

func (a *app) getCommand() *cobra.Command {
	var state bool
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Show one lock: who holds it, since when and why, or who released it or freed it by force",
		Long: `Show one lock:

  - of a lock that is held, who holds it, since when and why;
  - of a free lock, when it was released, and who freed it if that was not its holder;
  - of a key that was never locked, that it is free;
  - of an item that is not a lock (foreign), what is wrong with it.

All of these are success. The waiters of a lock are not stored: each waiter logs that it waits (run -v does), and the
lock has only an estimate of how many waited when it was acquired. The fields of the JSON output are those of list.

With --exit-code the exit code shows the state: 0 free, 75 held, 82 held but expired, 65 foreign. The output is the
same.`,
		Args: oneKey,
		RunE: a.do(func(ctx context.Context, args []string) error {
			c, err := a.client(ctx)
			if err != nil {
				return err
			}
			ctx, cancel := a.bounded(ctx)
			defer cancel()
			r, err := c.Get(ctx, args[0])
			if err != nil {
				return err
			}
			now := time.Now()
			if a.output == formatJSON {
				err = writeJSON(a.out, toJSON(r, now))
			} else {
				err = showLock(a.out, r, now)
			}
			if err == nil && state {
				err = stateError(r, now)
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&state, "exit-code", false, "show the state by the exit code, too")
	return cmd
}

// stateError is the exit code of a lock's state. It has no text, because the output has shown the state.
func stateError(r dynalock.Record, now time.Time) error {
	switch {
	case r.State == dynalock.Foreign:
		return &exitError{code: exitForeign}
	case expired(r, now):
		return &exitError{code: exitExpired}
	case r.State == dynalock.Held:
		return &exitError{code: exitHeld}
	}
	return nil
}

// showLock writes what is known about a lock, for people.
func showLock(w io.Writer, r dynalock.Record, now time.Time) error {
	var rows [][]string
	field := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	field("key", quoted(r.Key))
	switch {
	case r.State == dynalock.Free && r.Version == "":
		field("state", "free, never locked"+advice(r.Key))
	case expired(r, now):
		field("state", "held, but its lease has run out: the next who watches it for "+r.Lease.String()+" takes it over")
	default:
		field("state", r.State.String())
	}
	field("problem", r.Problem)
	if r.State == dynalock.Free {
		field("last owner", r.Owner)
		field("last token", token(r))
		field("released", absolute(r.RenewedAt, now))
		field("freed by", r.ReleasedBy)
	} else {
		field("owner", r.Owner)
		field("token", token(r))
		field("reason", r.Reason)
		field("since", absolute(r.AcquiredAt, now))
		field("renewed", absolute(r.RenewedAt, now))
		field("expires", absolute(r.ExpiresAt, now))
		if r.Lease > 0 {
			field("lease", r.Lease.String())
		}
		if r.State == dynalock.Held {
			field("waiters", strconv.Itoa(r.Waiters)+" when it was acquired, about")
		}
	}
	field("version", r.Version)
	if len(r.Data) > 0 {
		field("data", showData(r.Data))
	}
	return writeTable(w, rows)
}

// showData writes a payload as it is if it is a short text, and otherwise its length.
func showData(data []byte) string {
	const longest = 200
	if len(data) > longest || !utf8.Valid(data) {
		return fmt.Sprintf("%d bytes (all of them: -o json)", len(data))
	}
	return string(data)
}
