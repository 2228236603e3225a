package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"image/color"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The plotting library knows one colour for a thing, and a picture has two. So each name stands for a colour that is
// used for nothing else, and that embed puts the name back for.
var names = []string{"ink", "soft", "line", "good", "bad", "other"}

func colour(name string) color.Color {
	for i, n := range names {
		if n == name {
			return color.RGBA{R: 1, G: 2, B: uint8(i + 1), A: 255}
		}
	}
	panic("no colour " + name)
}

var (
	placeholder = regexp.MustCompile(`#0102(\d\d)`)
	fontFamily  = regexp.MustCompile(`font-family:[^;"]*;[^"]*?font-size`)
	body        = regexp.MustCompile(`(?s)<svg[^>]*>\n(.*)</svg>`)
)

// embed draws a plot into a scene, below its title.
func embed(s *scene, p *plot.Plot, top float64) error {
	h := float64(s.height) - top - 12
	canvas := vgsvg.New(vg.Length(width-32), vg.Length(h))
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	inner := body.FindStringSubmatch(b.String())
	if inner == nil {
		return fmt.Errorf("no picture in %.80q", b.String())
	}
	text := fontFamily.ReplaceAllString(inner[1], "font-size")
	text = placeholder.ReplaceAllStringFunc(text, func(c string) string {
		i, _ := strconv.Atoi(c[5:]) // two digits
		return "var(--" + names[i-1] + ")"
	})
	s.add(`<g transform="translate(16 %.1f)">`, top)
	s.body.WriteString(text)
	s.add("</g>")
	return nil
}

// newPlot has axes in the colours of both themes.
func newPlot() *plot.Plot {
	plot.DefaultFont.Variant = "Sans" // its widths are close to those of the fonts that a page is shown in
	p := plot.New()
	p.BackgroundColor = color.Transparent
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle.Color = colour("line")
		a.Tick.LineStyle.Color = colour("line")
		a.Label.TextStyle.Color = colour("soft")
		a.Tick.Label.Color = colour("ink")
		a.Label.TextStyle.Font.Size, a.Tick.Label.Font.Size = 13, 13
		a.Label.Padding = 6
	}
	return p
}

// run is one row of held.csv.
type run struct {
	library     string
	locks, lost int
}

func readRuns(file string) ([]run, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	r := csv.NewReader(f)
	r.Comment, r.FieldsPerRecord = '#', 3
	rows, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	var runs []run
	for _, row := range rows[1:] {
		locks, err := strconv.Atoi(row[1])
		if err != nil {
			return nil, err
		}
		lost, err := strconv.Atoi(row[2])
		if err != nil {
			return nil, err
		}
		runs = append(runs, run{row[0], locks, lost})
	}
	return runs, nil
}

// lostPlot shows the share of the locks that each library lost.
func lostPlot(runs []run) ([]byte, error) {
	s := &scene{height: 268, name: "Locks lost while their holder was alive:"}
	p := newPlot()
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 128, -0.6, float64(len(runs))-0.4
	var rows []string
	var held, lost plotter.Values
	labels := plotter.XYLabels{}
	for i := range runs {
		r := runs[len(runs)-1-i] // the first one is on top
		share := 100 * float64(r.lost) / float64(r.locks)
		rows = append(rows, fmt.Sprintf("%s, %s locks", r.library, thousands(r.locks)))
		lost, held = append(lost, share), append(held, 100-share)
		labels.XYs = append(labels.XYs, plotter.XY{X: 101, Y: float64(i)})
		labels.Labels = append(labels.Labels, fmt.Sprintf("%s of %s lost", thousands(r.lost), thousands(r.locks)))
	}
	for _, r := range runs {
		s.name += fmt.Sprintf(" %s %s of %s.", r.library, thousands(r.lost), thousands(r.locks))
	}
	bad, err := bars(lost, "bad")
	if err != nil {
		return nil, err
	}
	good, err := bars(held, "good")
	if err != nil {
		return nil, err
	}
	good.StackOn(bad)
	words, err := plotter.NewLabels(labels)
	if err != nil {
		return nil, err
	}
	for i := range words.TextStyle {
		words.TextStyle[i].Color = colour("ink")
		words.TextStyle[i].Font.Size = 13
		words.TextStyle[i].YAlign = -0.4
	}
	p.Add(bad, good, words)
	p.NominalY(rows...)
	p.Y.Padding = 12
	p.X.Tick.Marker = plot.ConstantTicks{
		{Value: 0, Label: "0 %"},
		{Value: 25, Label: "25 %"},
		{Value: 50, Label: "50 %"},
		{Value: 75, Label: "75 %"},
		{Value: 100, Label: "100 %"},
	}
	s.text(16, 30, "start", "title", "Locks lost while their holder was alive and connected")
	s.text(16, 52, "start", "small soft",
		"One client, lease 5 s, heartbeat 1.5 s, held for 12 s; round trip +5 ms, two busy CPUs.")
	s.text(width-130, 52, "end", "small bad strong", "■ lost")
	s.text(width-120, 52, "start", "small good strong", "■ held to the end")
	if err := embed(s, p, 62); err != nil {
		return nil, err
	}
	return s.svg(), nil
}

func bars(values plotter.Values, name string) (*plotter.BarChart, error) {
	b, err := plotter.NewBarChart(values, 22)
	if err != nil {
		return nil, err
	}
	b.Horizontal = true
	b.Color = colour(name)
	b.LineStyle.Width = 0
	return b, nil
}

func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// What docs/costs.md computes with: a heartbeat every fifth of the lease, at the latest, on average after 0.19 of it.
const (
	usdPerWrite     = 0.625e-6
	secondsPerMonth = 30 * 24 * 3600
	writeEvery      = 0.19 // of the lease
)

// usd is what a lock costs that is held for a month.
func usd(lease float64) float64 { return secondsPerMonth / (writeEvery * lease) * usdPerWrite }

// leases are those that docs/costs.md has a row for.
var leases = []struct {
	seconds float64
	name    string
}{{2, "2 s"}, {10, "10 s (default)"}, {60, "60 s"}, {300, "5 min"}}

// costPlot shows what a lease costs.
func costPlot() ([]byte, error) {
	s := &scene{height: 340, name: "What it costs to hold a lock for a month, by its lease:"}
	p := newPlot()
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 1, 1000, 0.01, 10
	p.X.Label.Text = "lease: how long the others wait after a crash"
	p.Y.Label.Text = "USD a month"
	var points plotter.XYs
	labels := plotter.XYLabels{}
	for _, l := range leases {
		cost := usd(l.seconds)
		points = append(points, plotter.XY{X: l.seconds, Y: cost})
		labels.Labels = append(labels.Labels, fmt.Sprintf("%s: %.2f USD", l.name, cost))
		s.name += fmt.Sprintf(" %s %.2f USD.", l.name, cost)
	}
	labels.XYs = points
	var curve plotter.XYs
	for e := 0.0; e <= math.Log10(1000); e += 0.05 {
		curve = append(curve, plotter.XY{X: math.Pow(10, e), Y: usd(math.Pow(10, e))})
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = colour("line"), colour("line")
	line, err := plotter.NewLine(curve)
	if err != nil {
		return nil, err
	}
	line.Color, line.Width = colour("other"), 2
	dots, err := plotter.NewScatter(points)
	if err != nil {
		return nil, err
	}
	dots.Color, dots.Radius, dots.Shape = colour("other"), 5, draw.CircleGlyph{}
	words, err := plotter.NewLabels(labels)
	if err != nil {
		return nil, err
	}
	words.Offset = vg.Point{X: 9, Y: 5}
	for i := range words.TextStyle {
		words.TextStyle[i].Color = colour("ink")
		words.TextStyle[i].Font.Size = 13
	}
	p.Add(grid, line, dots, words)
	p.X.Tick.Marker = ticks(
		map[float64]string{1: "1 s", 2: "2 s", 5: "5 s", 10: "10 s", 30: "30 s", 60: "1 min", 300: "5 min", 600: "10 min"})
	p.Y.Tick.Marker = ticks(map[float64]string{0.01: "0.01", 0.1: "0.10", 1: "1.00", 10: "10.00"})
	s.text(16, 30, "start", "title", "What it costs to hold a lock for a month, by its lease")
	s.text(16, 52, "start", "small soft",
		"One write unit a heartbeat, on demand, at 0.625 USD a million; both axes are logarithmic.")
	if err := embed(s, p, 66); err != nil {
		return nil, err
	}
	return s.svg(), nil
}

// ticks are those that are given, in order.
func ticks(at map[float64]string) plot.ConstantTicks {
	var all plot.ConstantTicks
	for _, v := range slices.Sorted(maps.Keys(at)) {
		all = append(all, plot.Tick{Value: v, Label: at[v]})
	}
	return all
}
