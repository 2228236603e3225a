package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/dynalock"
)

// leaderJSON is a leader in the JSON output. Its field names are documented and stay.
type leaderJSON struct {
	Key       string    `json:"key"`
	Led       bool      `json:"led"`
	Candidate string    `json:"candidate,omitempty"`
	Term      uint64    `json:"term,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Expired   bool      `json:"expired"`
	Value     []byte    `json:"value,omitempty"`
}

func leaderToJSON(r dynalock.Record, now time.Time) leaderJSON {
	if r.State == dynalock.Free {
		return leaderJSON{Key: r.Key}
	}
	return leaderJSON{
		Key: r.Key, Led: true, Candidate: r.Owner, Term: r.Token, Since: utc(r.AcquiredAt),
		Expired: expired(r, now), Value: r.Data,
	}
}

func (a *app) leaderCommand() *cobra.Command {
	var watch, state bool
	cmd := &cobra.Command{
		Use:   "leader KEY",
		Short: "Show the leader of an election, since when it leads, its term and its value",
		Long: `Show the leader of an election, since when it leads, its term, and the value that it has published. If there is no
leader, that is success, too. A leader that died is shown as expired until another one was elected.

With --exit-code the exit code shows the state: 0 there is a leader, 66 there is none, 82 the leader's lease has
expired. The output is the same. An item that is not a lock is an error (65) in any case.

With --watch the command writes a line now, and whenever leader, term or value have changed. It reads once a second. It
exits with 0 on SIGINT, SIGTERM or SIGHUP. If DynamoDB stops answering, it says so once, and goes on.

The JSON output has key, led, candidate, term, since (RFC 3339, by the leader's clock), expired (by this machine's
clock) and value (base64). What is not known is left out. With --watch each line is one document, which also has
changedAt: when the change was seen, by this machine's clock.`,
		Args: oneKey,
		RunE: a.do(func(ctx context.Context, args []string) error {
			if watch && state {
				return usagef("--watch and --exit-code are both set, allowed: one of them")
			}
			c, err := a.client(ctx)
			if err != nil {
				return err
			}
			e := c.Election(args[0])
			if watch {
				ctx, stop := untilAsked(ctx)
				defer stop()
				return a.watch(ctx, e)
			}
			ctx, cancel := a.bounded(ctx)
			defer cancel()
			r, err := e.Leader(ctx)
			switch {
			case err != nil:
				return err
			case r.State == dynalock.Foreign:
				return &dynalock.ForeignError{Key: r.Key, Problem: r.Problem}
			}
			now := time.Now()
			if err := a.showLeader(r, now); err != nil || !state {
				return err
			}
			switch {
			case r.State == dynalock.Free:
				return &exitError{code: exitNothing}
			case expired(r, now):
				return &exitError{code: exitExpired}
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&state, "exit-code", false, "show by the exit code, too, whether there is a leader")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on, with a line for every change, until interrupted")
	return cmd
}

// watch writes a line for every change until ctx ends. What goes wrong before the first answer ends it.
func (a *app) watch(ctx context.Context, e *dynalock.Election) error {
	answered, said := false, ""
	for r, err := range e.Observe(ctx) {
		switch text := ""; {
		case err != nil && !answered:
			return err
		case err != nil:
			if text = message(err); text != said {
				a.say("dynalock-admin: " + text)
			}
			said = text
		default:
			answered, said = true, ""
			if err := a.showChange(r, time.Now()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *app) showChange(r dynalock.Record, now time.Time) error {
	if a.output == formatJSON {
		return encodeJSON(a.out, struct {
			ChangedAt time.Time `json:"changedAt"`
			leaderJSON
			Problem string `json:"problem,omitempty"`
		}{now.UTC(), leaderToJSON(r, now), r.Problem}, "")
	}
	line := now.UTC().Format(time.RFC3339) + " "
	switch r.State {
	case dynalock.Free:
		line += "nobody leads"
	case dynalock.Held:
		line += fmt.Sprintf("%q leads, term %d", r.Owner, r.Token)
		if !r.AcquiredAt.IsZero() {
			line += ", since " + r.AcquiredAt.UTC().Format(time.RFC3339)
		}
		if len(r.Data) > 0 {
			line += fmt.Sprintf(", value %s", showData(r.Data))
		}
	case dynalock.Foreign:
		line += "not a lock: " + r.Problem
	}
	_, err := fmt.Fprintln(a.out, clean(line))
	return err
}

// showLeader writes who leads, for people or as a document.
func (a *app) showLeader(r dynalock.Record, now time.Time) error {
	switch {
	case a.output == formatJSON:
		return writeJSON(a.out, leaderToJSON(r, now))
	case r.State == dynalock.Free:
		_, err := fmt.Fprintln(a.out, clean(fmt.Sprintf("nobody leads %q", r.Key)))
		return err
	}
	rows := [][]string{{"leader", r.Owner}, {"term", token(r)}, {"since", absolute(r.AcquiredAt, now)}}
	if expired(r, now) {
		rows = append(rows, []string{
			"expired",
			absolute(r.ExpiresAt, now) + ": it may be dead; the next candidate who watches it for " + r.Lease.String() +
				" leads",
		})
	}
	if len(r.Data) > 0 {
		rows = append(rows, []string{"value", showData(r.Data)})
	}
	return writeTable(a.out, rows)
}

func (a *app) handOverCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hand-over KEY CANDIDATE",
		Short: "Have the leader of an election hand over to another candidate",
		Long: `Have the leader of an election hand over to another candidate, which has to campaign already. The leader ends its
work, and then the candidate leads before any other can. It is an error if the candidate does not lead within --timeout,
or if another one leads in the end. A leader that was asked still hands over when it can. The output is that of leader.

Candidates are not stored, so a name that none of them has is not refused. The leader ends its work all the same, and
there is no leader until its lease has expired and a candidate has looked (with the defaults 10 to 11 s), or until
hand-over is run again with the right name: that candidate leads at its next look.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("%s needs exactly KEY CANDIDATE, got %d arguments", cmd.Name(), len(args))
			}
			return nil
		},
		RunE: a.do(func(ctx context.Context, args []string) error {
			c, err := a.client(ctx)
			if err != nil {
				return err
			}
			e := c.Election(args[0])
			limited, cancel := a.bounded(ctx)
			defer cancel()
			asked := e.HandOver(limited, args[1])
			if asked != nil && limited.Err() == nil {
				return asked
			}
			if end, bounded := limited.Deadline(); bounded {
				ctx, cancel = context.WithDeadline(ctx, end.Add(courtesy))
				defer cancel()
			}
			r, err := e.Leader(ctx)
			switch {
			case err != nil:
				return err
			case asked != nil && (r.State != dynalock.Held || r.Owner != args[1]): // time is up, and not for the store's sake
				return &exitError{
					exitChanged,
					fmt.Errorf("%q does not lead %q after %v: does it campaign, and does the leader end its work?", args[1], args[0],
						a.timeout),
				}
			}
			return a.showLeader(r, time.Now())
		}),
	}
}
