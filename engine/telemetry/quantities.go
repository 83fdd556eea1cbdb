package telemetry

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot/plotter"

	"broadside/engine/curvature"
	"broadside/engine/suggest"
)

// curves are what of a run can be drawn.
type curves struct {
	name    string
	epochs  []Epoch
	updates []Event // those that were recorded
	probes  []Event
	hessian *curvature.Measurement // nil if none was kept
}

// readCurves reads a run directory.
func readCurves(dir string) (curves, error) {
	c := curves{name: nameOf(dir)}
	events, err := ReadEvents(filepath.Join(dir, EventsFile))
	if err != nil {
		return c, err
	}
	c.take(events)
	c.hessian, err = curvature.Read(filepath.Join(dir, curvature.File))
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	return c, err
}

// take picks the curves out of the events.
func (c *curves) take(events []Event) {
	c.epochs = epochsOf(events)
	for _, e := range events {
		switch {
		case e.Type == TypeUpdate:
			c.updates = append(c.updates, e)
		case e.Type == TypeProbe && e.Eigenvalue != nil:
			c.probes = append(c.probes, e)
		}
	}
}

// samplesAt is how many samples had been seen after so many updates, by the records around them.
func (c *curves) samplesAt(updates int) float64 {
	before, seen := 0, 0.0
	for _, e := range c.epochs {
		if e.Updates >= updates {
			share := float64(updates-before) / float64(max(e.Updates-before, 1))
			return seen + share*(float64(e.SamplesSeen)-seen)
		}
		before, seen = e.Updates, float64(e.SamplesSeen)
	}
	return seen
}

// axis is what curves are drawn over.
type axis struct {
	label  string // of one of it
	epoch  func(Epoch) float64
	update func(Event) float64
	probe  func(*curves, Event) float64
}

// axes are what --x takes.
var axes = map[string]axis{
	"epoch":   {"epoch", func(e Epoch) float64 { return float64(e.Epoch) }, func(e Event) float64 { return float64(e.Epoch) + e.Update.EpochFraction }, func(_ *curves, e Event) float64 { return float64(e.Epoch) }},
	"updates": {"update", func(e Epoch) float64 { return float64(e.Updates) }, func(e Event) float64 { return float64(e.Updates) }, func(_ *curves, e Event) float64 { return float64(e.Updates) }},
	"samples": {"sample", func(e Epoch) float64 { return float64(e.SamplesSeen) }, func(e Event) float64 { return float64(e.Update.SamplesSeen) }, func(c *curves, e Event) float64 { return c.samplesAt(e.Updates) }},
	"time":    {"second", func(e Epoch) float64 { return e.WallSeconds }, func(e Event) float64 { return e.WallSeconds }, func(_ *curves, e Event) float64 { return e.WallSeconds }},
}

// line is a curve of a quantity.
type line struct {
	name   string
	value  func(Epoch) *float64  // nil if only updates have it
	update func(Update) *float64 // nil if only epochs have it
}

// quantity is something to draw over an axis.
type quantity struct {
	name, title, unit string
	log, zero, steps  bool
	lines             []line // the last is the one that matters most
	probes            bool   // comes from the probes, where there are any
}

// quantities are what --y takes, beside what methods report.
var quantities = []quantity{
	{name: "loss", title: "Loss", unit: "cross-entropy (nats)", zero: true, lines: []line{
		{"train", trainLoss, updateLoss}, {name: "test", value: func(e Epoch) *float64 { return e.TestLoss }}}},
	{name: "accuracy", title: "Accuracy", unit: "correct (%)", lines: []line{
		{name: "train", value: func(e Epoch) *float64 { return scaled(&e.TrainAccuracy, 100) }}, {name: "test", value: func(e Epoch) *float64 { return scaled(e.TestAccuracy, 100) }}}},
	single("train_loss", "Train loss", "cross-entropy (nats)", trainLoss).fromZero().within(updateLoss),
	single("test_loss", "Test loss", "cross-entropy (nats)", func(e Epoch) *float64 { return e.TestLoss }).fromZero(),
	single("train_accuracy", "Train accuracy", "correct (%)", func(e Epoch) *float64 { return scaled(&e.TrainAccuracy, 100) }),
	single("test_accuracy", "Test accuracy", "correct (%)", func(e Epoch) *float64 { return scaled(e.TestAccuracy, 100) }),
	single("batch", "Batch size", unitBatch, func(e Epoch) *float64 { return new(float64(e.Batch)) }).stepped().within(func(u Update) *float64 { return new(float64(u.Batch)) }),
	single("lr", "Learning rate", unitLR, func(e Epoch) *float64 { return &e.LR }).stepped().within(func(u Update) *float64 { return &u.LR }),
	{name: "eigenvalue", title: "Top eigenvalue of the Hessian", unit: "eigenvalue", zero: true, probes: true,
		lines: []line{{name: "eigenvalue", value: func(e Epoch) *float64 { return e.Eigenvalue }}}},
	single("gradient_norm", "Gradient norm", "norm of the mean gradient", nil).fromZero().within(gradientNorm),
	single("speed", "Speed", "images/s", func(e Epoch) *float64 { return &e.ImagesPerSecond }).fromZero().within(func(u Update) *float64 { return &u.ImagesPerSecond }),
	single("data_wait", "Waiting for data", "of the time (%)", func(e Epoch) *float64 { return scaled(e.DataWait, 100) }).fromZero(),
	single("attack_fraction", "Adversarial share", "of the samples", func(e Epoch) *float64 { return &e.AttackFraction }).fromZero(),
	single("grad_passes", "Gradient passes", "samples", func(e Epoch) *float64 { return new(float64(e.GradPasses)) }).fromZero(),
	single("hvps", "Hessian-vector products", "products", func(e Epoch) *float64 { return new(float64(e.HVPs)) }).fromZero(),
}

func single(name, title, unit string, value func(Epoch) *float64) quantity {
	return quantity{name: name, title: title, unit: unit, lines: []line{{name: name, value: value}}}
}

func (q quantity) fromZero() quantity { q.zero = true; return q }

// within is the quantity with points between the epochs too, of the updates that were recorded.
func (q quantity) within(update func(Update) *float64) quantity {
	q.lines[0].update = update
	return q
}

func trainLoss(e Epoch) *float64 { return &e.TrainLoss }

func updateLoss(u Update) *float64 { return &u.Loss }

func gradientNorm(u Update) *float64 {
	if u.GradientNorm == 0 {
		return nil
	}
	return &u.GradientNorm
}

func (q quantity) stepped() quantity { q.log, q.steps = true, true; return q }

// quantityOf is the quantity of a name, among them what methods report.
func quantityOf(name string, runs []curves) (quantity, error) {
	known := map[string]bool{}
	for _, q := range quantities {
		if q.name == name {
			return q, nil
		}
		known[q.name] = true
	}
	for _, r := range runs {
		for _, e := range r.epochs {
			if _, ok := e.Values[name]; ok {
				return single(name, name, name, func(e Epoch) *float64 { return valueOf(e, name) }), nil
			}
			for key := range e.Values {
				known[key] = true
			}
		}
	}
	return quantity{}, suggest.Unknown("quantity", name, append(slices.Sorted(maps.Keys(known)), plotDensity, plotLandscape))
}

func valueOf(e Epoch, key string) *float64 {
	if v, ok := e.Values[key]; ok {
		return &v
	}
	return nil
}

// chart draws the quantity of a run, its lines apart by colour, or of several, the lines but the last thin.
func (q quantity) chart(x axis, runs []curves) chart {
	c := chart{title: q.title, over: x.label, unit: q.unit, log: q.log, zero: q.zero, legend: len(runs) == 1}
	for i, r := range runs {
		for j, l := range q.lines {
			s := series{name: l.name, steps: q.steps, points: q.points(l, x, &r)}
			if len(runs) > 1 {
				s.name, s.index, s.thin = r.name, i+1, j < len(q.lines)-1
			}
			c.series = append(c.series, s)
		}
	}
	if len(runs) > 1 && len(q.lines) > 1 {
		c.title += fmt.Sprintf(" (thin: %s)", q.lines[0].name)
	}
	return c
}

func (q quantity) points(l line, x axis, r *curves) (out plotter.XYs) {
	if q.probes && len(r.probes) > 0 {
		for _, e := range r.probes {
			out = append(out, plotter.XY{X: x.probe(r, e), Y: *e.Eigenvalue})
		}
		return out
	}
	within := updatePoints(l, x, r)
	for _, e := range r.epochs {
		if len(within) > 0 && e.Updates >= r.updates[0].Updates || l.value == nil {
			break // an older version may have begun the run, and recorded no updates
		}
		if v := l.value(e); v != nil {
			out = append(out, plotter.XY{X: x.epoch(e), Y: *v})
		}
	}
	return append(out, thinned(within, q.steps)...)
}

// updatePoints are the points of the updates that were recorded.
func updatePoints(l line, x axis, r *curves) (out plotter.XYs) {
	if l.update == nil {
		return nil
	}
	for _, e := range r.updates {
		if v := l.update(e.Update); v != nil {
			out = append(out, plotter.XY{X: x.update(e), Y: *v})
		}
	}
	return out
}

// mostPoints is how many points of updates a line has at most.
const mostPoints = 400

// thinned puts the mean in the place of neighbours where there are many points: the loss of single updates is noisy. Of a
// line that goes in steps it takes the last.
func thinned(points plotter.XYs, steps bool) (out plotter.XYs) {
	size := (len(points) + mostPoints - 1) / mostPoints
	if size <= 1 {
		return points
	}
	for group := range slices.Chunk(points, size) {
		last := group[len(group)-1]
		if !steps {
			last.Y = 0
			for _, p := range group {
				last.Y += p.Y / float64(len(group))
			}
		}
		out = append(out, last)
	}
	return out
}
