package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dynalock/dynalock/dynalock"
)

// format is how results are written.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
)

// Set implements pflag.Value.
func (f *format) Set(s string) error {
	if s != string(formatTable) && s != string(formatJSON) {
		return errors.New("unknown format")
	}
	*f = format(s)
	return nil
}

// String implements pflag.Value.
func (f *format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *format) Type() string { return "format" }

// writeJSON writes one document that is as safe to show on a terminal as a table. JSON itself does not escape much that
// is not printable.
func writeJSON(w io.Writer, v any) error { return encodeJSON(w, v, "  ") }

func encodeJSON(w io.Writer, v any, indent string) error {
	var doc, safe bytes.Buffer
	enc := json.NewEncoder(&doc)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	for _, r := range doc.String() { // outside of texts there are only spaces and line ends
		if r == '\n' || !unprintable(r) {
			safe.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&safe, `\u%04x`, unit)
		}
	}
	_, err := w.Write(safe.Bytes())
	return err
}

// writeTable aligns rows of cells in columns. An empty cell is a dash, unless it is the last one of a row.
func writeTable(w io.Writer, rows [][]string) error {
	var aligned strings.Builder
	t := tabwriter.NewWriter(&aligned, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = clean(cell)
			if cell == "" && i < len(row)-1 {
				cells[i] = "-"
			}
		}
		if _, err := fmt.Fprintln(t, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(aligned.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// lockJSON is a lock in the JSON output. Its field names are documented and stay.
type lockJSON struct {
	Key         string    `json:"key"`
	State       string    `json:"state"`
	Owner       string    `json:"owner,omitempty"`
	Token       uint64    `json:"token,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	LeaseMillis int64     `json:"leaseMillis,omitempty"`
	AcquiredAt  time.Time `json:"acquiredAt,omitzero"`
	RenewedAt   time.Time `json:"renewedAt,omitzero"`
	ExpiresAt   time.Time `json:"expiresAt,omitzero"`
	Expired     bool      `json:"expired"`
	Waiters     int       `json:"waiters"`
	ReleasedAt  time.Time `json:"releasedAt,omitzero"`
	ReleasedBy  string    `json:"releasedBy,omitempty"`
	Version     string    `json:"version,omitempty"`
	Problem     string    `json:"problem,omitempty"`
	Data        []byte    `json:"data,omitempty"`
	Job         string    `json:"job,omitempty"`
	Period      string    `json:"period,omitempty"`
}

func toJSON(r dynalock.Record, now time.Time) lockJSON {
	job, period, _ := jobOf(r.Key)
	var released time.Time
	if r.State == dynalock.Free { // its last write
		released = utc(r.RenewedAt)
	}
	return lockJSON{
		Key: r.Key, State: r.State.String(), Owner: r.Owner, Token: r.Token, Reason: r.Reason,
		LeaseMillis: r.Lease.Milliseconds(), AcquiredAt: utc(r.AcquiredAt), RenewedAt: utc(r.RenewedAt),
		ExpiresAt: utc(r.ExpiresAt), Expired: expired(r, now), Waiters: r.Waiters, Version: r.Version,
		ReleasedAt: released, ReleasedBy: r.ReleasedBy, Problem: r.Problem, Data: r.Data, Job: job, Period: period,
	}
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// expired reports whether the lease of a held lock has expired, by this machine's clock and the expiry that the holder
// stored. The lock stays held until another process takes it.
func expired(r dynalock.Record, now time.Time) bool {
	return r.State == dynalock.Held && !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(now)
}

// relative is a time as people say it: "12s ago", "in 3m5s". Empty for the zero time.
func relative(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := now.Sub(t)
	switch {
	case d >= time.Second:
		return coarse(d) + " ago"
	case d <= -time.Second:
		return "in " + coarse(-d)
	}
	return "now"
}

// coarse writes a duration with its two largest units: 12s, 3m5s, 2h10m, 4d3h.
func coarse(d time.Duration) string {
	units := []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		if d < u.size {
			continue
		}
		text := fmt.Sprintf("%d%s", d/u.size, u.name)
		if i+1 < len(units) {
			if rest := d % u.size / units[i+1].size; rest > 0 {
				text += fmt.Sprintf("%d%s", rest, units[i+1].name)
			}
		}
		return text
	}
	return "0s"
}

// absolute is a time for machines and, in parentheses, for people.
func absolute(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s (%s)", t.UTC().Format(time.RFC3339), relative(t, now))
}

// clean makes a text that any program may have stored safe to show on a terminal and in one cell of a table: what is
// not printable is escaped as in Go.
func clean(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case unprintable(r) && r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case unprintable(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		s = s[n:]
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
