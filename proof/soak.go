package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// soakCommand goes on for hours with all faults, and looks at the memory of the workers.
func soakCommand(ctx context.Context, args []string) error {
	o := options{Out: os.Stdout, Kills: math.MaxInt32, Stops: math.MaxInt32}
	flags := runFlags("soak", &o)
	flags.DurationVar(&o.For, "for", 3*time.Hour, "how long")
	flags.DurationVar(&o.Sample, "sample", 0,
		"between two looks at the memory of a worker (default: 300 looks in all, 1s at least)")
	picture := flags.String("plot", "soak.png", "`file` for the plot of heap, RSS and goroutines")
	race := flags.Bool("race", true,
		"build the workers with the race detector, but for every other one of those whose memory is looked at")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.For < 30*time.Second {
		return fmt.Errorf("-for is %v, allowed: 30s and more", o.For)
	}
	if o.Sample == 0 {
		o.Sample = max(time.Second, o.For/300)
	}
	build, err := os.MkdirTemp("", "proof-build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(build) }() // a folder for temporary files
	if *race {
		if o.Plain, err = os.Executable(); err != nil {
			return err
		}
		o.Binary = filepath.Join(build, "worker")
		cmd := exec.CommandContext(ctx, "go", "build", "-race", "-o", o.Binary, "github.com/dynalock/dynalock/proof")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("the workers cannot be built: %w", err)
		}
	}
	clean, err := o.prepare()
	if err != nil {
		return err
	}
	out, series, err := soak(ctx, o)
	err = errors.Join(err, out.verdict(o.Out), flat(o.Out, series), draws(series, *picture))
	if err == nil {
		clean()
		fmt.Fprintln(o.Out, "the plot is in", *picture)
	} else {
		fmt.Fprintln(o.Out, "the histories are in", o.Dir)
	}
	return err
}

// soak is a run that kills half of its workers, and looks at the memory of the others.
func soak(ctx context.Context, o options) (outcome, map[string][]memory, error) {
	o.Steady = (o.Workers - 1) / 2
	out, err := run(ctx, o)
	series, loadErr := loadMemory(o.Dir)
	return out, series, errors.Join(err, loadErr)
}

// loadMemory reads what the workers said of their memory, by worker.
func loadMemory(dir string) (map[string][]memory, error) {
	names, err := filepath.Glob(filepath.Join(dir, "memory-*.jsonl"))
	if err != nil {
		return nil, err
	}
	all := map[string][]memory{}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		worker := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "memory-"), ".jsonl")
		lines := json.NewDecoder(f)
		for {
			var m memory
			if err = lines.Decode(&m); err != nil {
				break
			}
			all[worker] = append(all[worker], m)
		}
		if err = errors.Join(f.Close(), err); !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return all, nil
}

// measure is one of the figures that have to be flat: the median of the last third may be above that of the first by a
// tenth and a constant, which is what the collector leaves from one look to the next.
type measure struct {
	name  string
	unit  float64
	slack float64
	plain bool // it means something only without the race detector
	of    func(m memory) float64
}

var measures = []measure{
	{"heap after a collection, MiB", 1 << 20, 0.25, false, func(m memory) float64 { return float64(m.Heap) }},
	{"RSS, MiB", 1 << 20, 8, true, func(m memory) float64 { return float64(m.RSS) }},
	{"goroutines", 1, 5, false, func(m memory) float64 { return float64(m.Goroutines) }},
}

const growth = 1.1

// flat compares the first and the last third after a warm-up of a fifth.
func flat(w io.Writer, series map[string][]memory) error {
	var errs []error
	fmt.Fprintf(w, "flat: median of the last third at most %v x that of the first, and a constant\n", growth)
	for _, name := range slices.Sorted(maps.Keys(series)) {
		all := series[name][len(series[name])/5:]
		if len(all) < 9 {
			errs = append(errs, fmt.Errorf("%s was looked at %d times only", name, len(series[name])))
			continue
		}
		line := fmt.Sprintf("%-10s", label(name, all))
		for _, m := range measures {
			first, last := m.median(all[:len(all)/3]), m.median(all[len(all)-len(all)/3:])
			line += fmt.Sprintf("  %s: %.2f -> %.2f", m.name, first, last)
			if bound := growth*first + m.slack; last > bound && (!m.plain || !all[0].Race) {
				errs = append(errs, fmt.Errorf("%s grew: %s %.2f, then %.2f, allowed: %.2f", name, m.name, first, last, bound))
			}
		}
		fmt.Fprintln(w, line)
	}
	if len(series) == 0 {
		errs = append(errs, errors.New("no worker was looked at"))
	}
	return errors.Join(errs...)
}

// label names a worker, and its race detector.
func label(name string, all []memory) string {
	if len(all) > 0 && all[0].Race {
		return name + " race"
	}
	return name
}

func (m measure) median(all []memory) float64 {
	values := make([]float64, len(all))
	for i, x := range all {
		values[i] = m.of(x) / m.unit
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// draws one plot for each measure, one line for each worker.
func draws(series map[string][]memory, file string) error {
	const width, height = 24 * vg.Centimeter, 9 * vg.Centimeter
	rows := make([][]*plot.Plot, len(measures))
	began := int64(math.MaxInt64)
	for _, all := range series {
		if len(all) > 0 {
			began = min(began, all[0].At)
		}
	}
	for i, m := range measures {
		p := plot.New()
		p.Title.Text = m.name
		p.X.Label.Text = "minutes"
		p.Y.Min = 0
		p.Legend.Top = false
		p.Legend.Left = true
		p.Add(plotter.NewGrid())
		for j, name := range slices.Sorted(maps.Keys(series)) {
			points := make(plotter.XYs, len(series[name]))
			for k, x := range series[name] {
				points[k].X, points[k].Y = time.Duration(x.At-began).Minutes(), m.of(x)/m.unit
			}
			line, err := plotter.NewLine(points)
			if err != nil {
				return fmt.Errorf("the plot: %w", err)
			}
			line.Color = colors[j%len(colors)]
			p.Add(line)
			p.Legend.Add(label(name, series[name]), line)
		}
		rows[i] = []*plot.Plot{p}
	}
	image := vgimg.New(width, height*vg.Length(len(rows)))
	tiles := draw.Tiles{
		Rows: len(rows), Cols: 1, PadX: vg.Centimeter, PadY: vg.Centimeter / 2, PadTop: vg.Centimeter / 4,
		PadBottom: vg.Centimeter / 4, PadLeft: vg.Centimeter / 4, PadRight: vg.Centimeter / 2,
	}
	for i, canvases := range plot.Align(rows, tiles, draw.New(image)) {
		rows[i][0].Draw(canvases[0])
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = vgimg.PngCanvas{Canvas: image}.WriteTo(f)
	return errors.Join(err, f.Close())
}

var colors = []color.Color{
	color.RGBA{0x1f, 0x77, 0xb4, 0xff},
	color.RGBA{0xff, 0x7f, 0x0e, 0xff},
	color.RGBA{0x2c, 0xa0, 0x2c, 0xff},
	color.RGBA{0xd6, 0x27, 0x28, 0xff},
	color.RGBA{0x94, 0x67, 0xbd, 0xff},
	color.RGBA{0x8c, 0x56, 0x4b, 0xff},
	color.RGBA{0xe3, 0x77, 0xc2, 0xff},
	color.RGBA{0x7f, 0x7f, 0x7f, 0xff},
	color.RGBA{0xbc, 0xbd, 0x22, 0xff},
	color.RGBA{0x17, 0xbe, 0xcf, 0xff},
}
