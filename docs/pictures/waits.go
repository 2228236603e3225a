package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// compared is what the picture of waits takes from waits.json, which bench compare -o json has written.
type compared struct {
	RoundTripMS float64 `json:"round_trip_ms"`
	Scenarios   []struct {
		Name, Text string
		Contenders []waiters
	}
}

type waiters struct {
	Label  string
	Median *struct {
		OverBest float64 `json:"turn_over_best"`
		Unfair   float64 `json:"longest_over_mean"`
	}
	// WaitsMS are quantiles of all waits, every hundredth from the shortest to the longest.
	WaitsMS []float64 `json:"all_wait_quantiles_ms"`
}

// pictured is the scenario that the picture shows.
const pictured = "8x20ms"

// readWaits returns what the picture says below its title, and the contenders that have figures.
func readWaits(file string) (subtitle string, rows []waiters, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", nil, err
	}
	var c compared
	if err := json.Unmarshal(text, &c); err != nil {
		return "", nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, s := range c.Scenarios {
		if s.Name != pictured {
			continue
		}
		for _, one := range s.Contenders {
			if one.Median == nil {
				continue
			}
			if len(one.WaitsMS) != 101 {
				return "", nil, fmt.Errorf("%s: %d quantiles of %s, not 101", file, len(one.WaitsMS), one.Label)
			}
			rows = append(rows, one)
		}
		return fmt.Sprintf("%s; round trip +%v ms. The axis is logarithmic.", s.Text, c.RoundTripMS), rows, nil
	}
	return "", nil, fmt.Errorf("%s has no scenario %s", file, pictured)
}

// waitsPlot shows how the waits of each contender are distributed: a line from the shortest to the longest, a bar for
// the middle 80 of 100, a dot at the median.
func waitsPlot(subtitle string, rows []waiters) ([]byte, error) {
	s := &scene{height: 110 + 42*len(rows), name: "How long clients wait for their turn:"}
	p := newPlot()
	p.X.Scale = plot.LogScale{}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 1, 1, -0.6, float64(len(rows))-0.4
	var names []string
	for i := range rows {
		r := rows[len(rows)-1-i] // the first one is on top
		names = append(names, r.Label)
		at := func(hundredth int) float64 { return math.Max(r.WaitsMS[hundredth], p.X.Min) }
		p.X.Max = math.Max(p.X.Max, 40*at(100)) // with room for the words
		fill := "other"
		if r.Label == "dynalock" {
			fill = "good"
		}
		for _, piece := range []struct {
			from, to int
			wide     vg.Length
		}{{0, 100, 1.5}, {10, 90, 14}} {
			line, err := plotter.NewLine(plotter.XYs{{X: at(piece.from), Y: float64(i)}, {X: at(piece.to), Y: float64(i)}})
			if err != nil {
				return nil, err
			}
			line.Color, line.Width = colour(fill), piece.wide
			p.Add(line)
		}
		for _, mark := range []struct {
			hundredth int
			shape     draw.GlyphDrawer
			radius    vg.Length
			name      string
		}{{50, draw.CircleGlyph{}, 5, "ink"}, {100, draw.CircleGlyph{}, 4, "bad"}} {
			dot, err := plotter.NewScatter(plotter.XYs{{X: at(mark.hundredth), Y: float64(i)}})
			if err != nil {
				return nil, err
			}
			dot.Color, dot.Radius, dot.Shape = colour(mark.name), mark.radius, mark.shape
			p.Add(dot)
		}
		words, err := plotter.NewLabels(plotter.XYLabels{
			XYs:    plotter.XYs{{X: at(100), Y: float64(i)}},
			Labels: []string{fmt.Sprintf("%s; longest / mean %.1f", milliseconds(r.WaitsMS[100]), r.Median.Unfair)},
		})
		if err != nil {
			return nil, err
		}
		words.Offset = vg.Point{X: 10}
		for j := range words.TextStyle {
			words.TextStyle[j].Color = colour("ink")
			words.TextStyle[j].Font.Size = 13
			words.TextStyle[j].YAlign = -0.4
		}
		p.Add(words)
	}
	for _, r := range rows {
		s.name += fmt.Sprintf(" %s: half of the waits below %s, the longest %s.", r.Label, milliseconds(r.WaitsMS[50]),
			milliseconds(r.WaitsMS[100]))
	}
	p.NominalY(names...)
	p.Y.Padding = 12
	var marks plot.ConstantTicks
	for _, t := range []float64{1, 10, 100, 1000, 10_000, 100_000} {
		if t <= slices.Max(longest(rows))*1.5 {
			marks = append(marks, plot.Tick{Value: t, Label: milliseconds(t)})
		}
	}
	p.X.Tick.Marker = marks
	s.text(16, 30, "start", "title", "How long clients wait for their turn")
	s.text(16, 52, "start", "small soft", subtitle)
	s.text(16, 74, "start", "small", "● median")
	s.text(90, 74, "start", "small bad", "● longest")
	s.text(166, 74, "start", "small soft", "line: all waits; bar: the middle 80 of 100")
	if err := embed(s, p, 84); err != nil {
		return nil, err
	}
	return s.svg(), nil
}

func longest(rows []waiters) []float64 {
	var all []float64
	for _, r := range rows {
		all = append(all, r.WaitsMS[100])
	}
	return all
}

// milliseconds writes a time as a reader wants it.
func milliseconds(ms float64) string {
	if ms < 1000 {
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.3g s", ms/1000)
}
