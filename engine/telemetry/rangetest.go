package telemetry

import (
	"fmt"

	"gonum.org/v1/plot/plotter"
)

// RangeTest is a learning-rate range test as it is plotted: rates in rising order, and the losses at them.
type RangeTest struct {
	Title                   string
	Rates, Losses, Smoothed []float64
	Suggested               *float64
}

// Figure draws the test. Losses far above all smoothed ones are left out.
func (r RangeTest) Figure() *Figure {
	smoothed, losses, top := series{name: "smoothed", index: 1}, series{name: "loss", index: 2, thin: true}, 0.
	for i, rate := range r.Rates {
		smoothed.points = append(smoothed.points, plotter.XY{X: rate, Y: r.Smoothed[i]})
		top = max(top, r.Smoothed[i])
	}
	low := top
	for i, rate := range r.Rates {
		if l := r.Losses[i]; l <= 1.25*top {
			losses.points = append(losses.points, plotter.XY{X: rate, Y: l})
			low = min(low, l, r.Smoothed[i])
		}
	}
	c := chart{title: r.Title, over: "learning rate", plain: true, unit: "cross-entropy (nats)", logX: true, legend: true, below: true, series: []series{smoothed, losses}}
	if r.Suggested != nil {
		c.series = append(c.series, series{name: fmt.Sprintf("suggested: %.3g", *r.Suggested), index: 3,
			points: plotter.XYs{{X: *r.Suggested, Y: low}, {X: *r.Suggested, Y: top}}})
	}
	return &Figure{panels: []panel{c}}
}
