package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// measurement is all that compare found, as -o json writes it.
type measurement struct {
	Began       time.Time       `json:"began"`
	Go          string          `json:"go"`
	CPUs        int             `json:"cpus"`
	LoadBefore  string          `json:"load_before"` // averages over 1, 5 and 15 minutes
	LoadAfter   string          `json:"load_after"`
	DynamoDB    string          `json:"dynamodb"`
	RoundTripMS float64         `json:"round_trip_ms"` // added by the proxy
	Runs        int             `json:"runs"`
	LeftOut     []leftOut       `json:"left_out,omitempty"`
	Scenarios   []scenarioFound `json:"scenarios"`
}

// leftOut is a contender that could not be measured here.
type leftOut struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

type scenarioFound struct {
	Name       string           `json:"name"`
	Text       string           `json:"text"`
	Clients    int              `json:"clients"`
	HoldMS     float64          `json:"hold_ms"`
	PairsMS    []float64        `json:"two_bare_updates_ms"` // one figure a run
	FairRatio  float64          `json:"fair_longest_over_mean"`
	Contenders []contenderFound `json:"contenders"`
}

type contenderFound struct {
	Name   string    `json:"name"`
	Label  string    `json:"label"`
	Failed []string  `json:"failed,omitempty"` // what ended runs that have no figures
	Median *figures  `json:"median,omitempty"`
	Runs   []figures `json:"runs"`
	// WaitsMS are quantiles of the waits of all runs, every hundredth.
	WaitsMS []float64 `json:"all_wait_quantiles_ms"`
	waits   []float64
}

const formats = "table, json or markdown"

// showReport renders a file that compare wrote.
func showReport(args []string) error {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	format := flags.String("o", "table", formats)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("report takes one FILE that compare -o json wrote, after its flags; it got %d", flags.NArg())
	}
	if err := checkFormat(*format); err != nil {
		return err
	}
	text, err := os.ReadFile(flags.Arg(0))
	if err != nil {
		return err
	}
	var m measurement
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("%s: %w", flags.Arg(0), err)
	}
	return m.write(os.Stdout, *format)
}

func checkFormat(format string) error {
	if !slices.Contains([]string{"table", "json", "markdown"}, format) {
		return fmt.Errorf("-o %q: it is %s", format, formats)
	}
	return nil
}

func (m measurement) write(to io.Writer, format string) error {
	switch format {
	case "json":
		text, err := json.Marshal(m)
		if err != nil {
			return err
		}
		// A line for each scenario and contender: indented, every quantile would have one.
		_, err = fmt.Fprintln(to, strings.ReplaceAll(string(text), `{"name":`, "\n"+`{"name":`))
		return err
	case "markdown":
		return m.markdown(to)
	}
	return m.table(to)
}

// conditions says what was measured on, in lines.
func (m measurement) conditions() []string {
	lines := []string{
		fmt.Sprintf("%s, %d CPUs, load %s before and %s after. %s. The proxy adds a round trip of %v ms.", m.Go, m.CPUs,
			m.LoadBefore, m.LoadAfter, m.DynamoDB, m.RoundTripMS),
		fmt.Sprintf("Medians of the runs, %d where nothing else is said. Best: hold and two bare UpdateItem of the same run.",
			m.Runs),
	}
	for _, out := range m.LeftOut {
		lines = append(lines, fmt.Sprintf("%s was left out: %s.", out.Name, out.Why))
	}
	return lines
}

// columns of a scenario's table. Those of the greedy pair say how its turns were shared out.
func (s scenarioFound) columns() []string {
	c := []string{"lock", "turn / best", "requests", "of them writes", "read units", "write units", "USD / million"}
	if s.Name == sceneGreedy {
		c = append(c, "turns of one", "of the other")
	}
	return append(c, "mean wait", "median", "longest", "longest / mean")
}

func (s scenarioFound) row(c contenderFound) []string {
	cells := []string{c.Label}
	if c.Median == nil {
		return append(cells, "failed")
	}
	f := *c.Median
	cells = append(cells, fmt.Sprintf("%.2f", f.OverBest), optional(f.Requests), optional(f.Writes),
		optional(f.ReadUnits), optional(f.WriteUnits), optional(f.USD))
	if s.Name == sceneGreedy {
		cells = append(cells, fmt.Sprintf("%.0f", f.MostTurns), fmt.Sprintf("%.0f", f.LeastTurns))
	}
	cells = append(cells, wait(f.MeanMS), wait(f.MedianMS), wait(f.LongestMS))
	if s.Clients == 1 {
		return append(cells, "–") // nobody to be unfair to
	}
	return append(cells, fmt.Sprintf("%.2f", f.Unfair))
}

// heading is a scenario's, with what the figures are to be compared with.
func (s scenarioFound) heading() string {
	if len(s.PairsMS) == 0 {
		return s.Text + ": not measured"
	}
	pairs := slices.Sorted(slices.Values(s.PairsMS))
	text := fmt.Sprintf("%s; two bare UpdateItem %.1f ms", s.Text, quantileOf(pairs, 0.5))
	if s.FairRatio > 1 {
		text += fmt.Sprintf("; first come, first served without gaps: longest / mean %.2f", s.FairRatio)
	}
	return text
}

// remarks are what a table cannot say: runs that failed or are fewer than elsewhere.
func (s scenarioFound) remarks(runs int) []string {
	var lines []string
	for _, c := range s.Contenders {
		for _, why := range c.Failed {
			lines = append(lines, fmt.Sprintf("A run of %s failed: %s.", c.Label, why))
		}
	}
	if len(s.PairsMS) != runs {
		lines = append(lines, fmt.Sprintf("Runs: %d.", len(s.PairsMS)))
	}
	return lines
}

func (m measurement) table(to io.Writer) error {
	fmt.Fprintln(to, strings.Join(m.conditions(), "\n"))
	for _, s := range m.Scenarios {
		fmt.Fprintf(to, "\n%s\n\n", s.heading())
		out := &sheet{}
		out.row(cells(s.columns())...)
		for _, c := range s.Contenders {
			out.row(cells(s.row(c))...)
		}
		if err := out.write(to); err != nil {
			return err
		}
		for _, line := range s.remarks(m.Runs) {
			fmt.Fprintln(to, line)
		}
	}
	_, err := fmt.Fprintln(to, `
turn        from the start to the last release, a turn
requests    a turn: HTTP requests, gRPC calls and messages, commands. A heartbeat is one, too; being told is none
units       a turn: as DynamoDB says; a refused condition counts as 1 write unit
USD         a million turns on demand in us-east-1; etcd and Redis want servers of their own
wait        from asking for the lock to having it; one that the end cuts short counts with its length so far
longest     of a run`)
	return err
}

func cells(texts []string) []any {
	var all []any
	for _, text := range texts {
		all = append(all, text)
	}
	return all
}

func (m measurement) markdown(to io.Writer) error {
	fmt.Fprintf(to, "## Beside etcd, Redis and dynamolock\n\n%s\n", filled(strings.Join(m.conditions(), " ")))
	for _, s := range m.Scenarios {
		columns := s.columns()
		fmt.Fprintf(to, "\n%s:\n\n| %s |\n|%s\n", filled(s.heading()), strings.Join(columns, " | "),
			strings.Repeat("---|", len(columns)))
		for _, c := range s.Contenders {
			row := s.row(c)
			for len(row) < len(columns) {
				row = append(row, "–")
			}
			fmt.Fprintf(to, "| %s |\n", strings.Join(row, " | "))
		}
		if remarks := s.remarks(m.Runs); len(remarks) > 0 {
			fmt.Fprintf(to, "\n%s\n", filled(strings.Join(remarks, " ")))
		}
	}
	_, err := fmt.Fprintln(to, "\n"+`Requests, units and USD are those of a turn, and of a million turns on demand in us-east-1. A refused condition counts
as one write unit. A wait that the end of a run cut short counts with its length so far.`)
	return err
}

// filled breaks a text into lines of at most 120 columns.
func filled(text string) string {
	var lines []string
	for _, word := range strings.Fields(text) {
		last := len(lines) - 1
		if last >= 0 && len([]rune(lines[last]+" "+word)) <= 120 {
			lines[last] += " " + word
			continue
		}
		lines = append(lines, word)
	}
	return strings.Join(lines, "\n")
}

func optional(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.2f", *v)
}

// wait writes milliseconds as a reader wants them.
func wait(milliseconds float64) string {
	if milliseconds < 1000 {
		return fmt.Sprintf("%.0f ms", milliseconds)
	}
	return fmt.Sprintf("%.1f s", milliseconds/1000)
}
