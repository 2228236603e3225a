package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/cmd/dynalock-admin/internal/guard"
	"github.com/dynalock/dynalock/dynalock"
)

func (a *app) releaseCommand() *cobra.Command {
	var (
		yes   bool
		owner string
		token uint64
	)
	cmd := &cobra.Command{
		Use:   "release KEY",
		Short: "Free a lock whose holder is gone or is to be overruled",
		Long: `Free a lock whose holder is gone or is to be overruled. The command shows the lock and asks, unless --yes is
given. It frees exactly the tenure that it has shown. Exit codes:

  0    the lock was freed, or was free already
  66   the key was never locked, so it is probably mistyped
  77   the lock has changed hands or was released in the meantime: nothing was changed

A holder that is alive learns of this with its next heartbeat, and may go on until then. Only a resource that checks the
fencing token, or the lock itself in its transactions, rejects its writes at once. The one who freed the lock is stored,
and "get" shows it.`,
		Args: oneKey,
		RunE: a.do(func(ctx context.Context, args []string) error {
			c, err := a.client(ctx, operator(owner))
			if err != nil {
				return err
			}
			r, err := a.look(ctx, c, args[0])
			if err != nil {
				return err
			}
			switch {
			case r.State == dynalock.Free && r.Version == "":
				return a.neverLocked(r.Key)
			case token != 0 && (r.State != dynalock.Held || r.Token != token):
				return fmt.Errorf("%w: %q is %v with token %d, not held with token %d", dynalock.ErrChanged, r.Key, r.State,
					r.Token, token)
			case r.State == dynalock.Foreign:
				return &dynalock.ForeignError{Key: r.Key, Problem: r.Problem}
			case r.State == dynalock.Free:
				return a.showReleased(r, false)
			}
			if !yes {
				if err := a.confirm(r); err != nil {
					return err
				}
			}
			forced, cancel := a.bounded(ctx)
			defer cancel()
			if err := c.ForceRelease(forced, r); err != nil {
				return err
			}
			return a.showReleased(r, true)
		}),
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().Uint64Var(&token, "token", 0, "free the lock only if it is held with this fencing token")
	allow(cmd, "token", "a whole number, as get shows it")
	cmd.Flags().StringVar(&owner, "owner", "", "label that is stored as the one who freed the lock (default user@host)")
	return cmd
}

// look reads one lock.
func (a *app) look(ctx context.Context, c *dynalock.Client, key string) (dynalock.Record, error) {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	return c.Get(ctx, key)
}

// confirm shows the lock on the terminal and asks whether to free it.
func (a *app) confirm(r dynalock.Record) error {
	if !guard.IsTerminal(a.in) {
		return usagef("release needs --yes if there is no terminal to ask on")
	}
	now := time.Now()
	if err := showLock(a.err, r, now); err != nil {
		return err
	}
	if !expired(r, now) {
		a.say("\nIts lease has not expired: its holder may be alive and at work.")
	}
	yes, err := a.ask("Free this lock?")
	if err == nil && !yes {
		return &exitError{exitOther, fmt.Errorf("%q was not freed", r.Key)}
	}
	return err
}

// ask asks on the terminal.
func (a *app) ask(question string) (yes bool, err error) {
	if _, err := fmt.Fprintf(a.err, "\n%s [y/N] ", question); err != nil {
		return false, err
	}
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) { // the end of the input is an answer, too
		return false, err
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}

func (a *app) showReleased(r dynalock.Record, freed bool) error {
	if a.output == formatJSON {
		return writeJSON(a.out, struct {
			Released bool     `json:"released"`
			Was      lockJSON `json:"was"`
		}{freed, toJSON(r, time.Now())})
	}
	if !freed {
		_, err := fmt.Fprintf(a.out, "%q is free already%s\n", r.Key, whoReleased(r, time.Now()))
		return err
	}
	_, err := fmt.Fprintf(a.out, "%q freed, was held by %q with token %d\n", r.Key, r.Owner, r.Token)
	return err
}

// whoReleased says who released a free lock, and when.
func whoReleased(r dynalock.Record, now time.Time) string {
	text := ""
	switch {
	case r.ReleasedBy != "":
		text = fmt.Sprintf(": %q freed it", r.ReleasedBy)
	case r.Owner != "":
		text = fmt.Sprintf(": its holder %q released it", r.Owner)
	}
	if text != "" && !r.RenewedAt.IsZero() {
		text += " " + absolute(r.RenewedAt, now)
	}
	return text
}

// neverLocked says that a key was never locked, and how it may be mistyped.
func (a *app) neverLocked(key string) error {
	text := fmt.Sprintf("%q was never locked in table %q", key, a.table)
	if a.namespace != "" {
		text += fmt.Sprintf(" under the namespace %q", a.namespace)
	}
	return &exitError{exitNothing, errors.New(text + ", or its item was deleted" + advice(key))}
}

// advice is for those who may have meant another key than one that was never locked.
func advice(key string) string {
	pattern := strings.IndexAny(key, "*?[")
	unescaped, err := strconv.Unquote(`"` + key + `"`)
	switch {
	case pattern >= 0:
		return fmt.Sprintf("; patterns are not taken: see list --prefix %q", key[:pattern])
	case err == nil && unescaped != key:
		return fmt.Sprintf(`; a key that list prints in quotes is given in them: '"%s"'`, key)
	}
	return ""
}

// operator sets the label of somebody who changes one thing by hand: user@host, so that others know whom to ask.
func operator(label string) func(*dynalock.Options) {
	return func(o *dynalock.Options) { o.Owner = cmp.Or(label, userAtHost()) }
}

// userAtHost says who we are: under sudo not root, but who called it.
func userAtHost() string {
	name := ""
	if os.Geteuid() == 0 {
		name = os.Getenv("SUDO_USER")
	}
	if u, err := user.Current(); err == nil {
		name = cmp.Or(name, u.Username)
	}
	name = cmp.Or(name, os.Getenv("USER"), os.Getenv("LOGNAME"), "user "+strconv.Itoa(os.Getuid()))
	host, _ := os.Hostname()
	const longest = 256
	label := strings.ToValidUTF8(name+"@"+cmp.Or(host, "unknown"), "?")
	for len(label) > longest {
		_, last := utf8.DecodeLastRuneInString(label)
		label = label[:len(label)-last]
	}
	return label
}
