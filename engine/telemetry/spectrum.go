package telemetry

import (
	"image"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/palette"
	"gonum.org/v1/plot/palette/moreland"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg/draw"

	"broadside/engine/curvature"
)

// What --y takes of a measurement of the Hessian.
const (
	plotDensity   = "density"
	plotLandscape = "landscape"
)

const (
	densityPoints = 1000
	densityFloor  = 1e-7 // PyHessian's: between the eigenvalues the density falls to nothing
)

// densityChart draws the spectral densities of runs.
func densityChart(runs []curves) chart {
	c := chart{title: "Density of the Hessian's eigenvalues", over: "eigenvalue", plain: true, unit: "density", log: true}
	for i, r := range runs {
		if r.hessian == nil || r.hessian.Density == nil {
			continue
		}
		s := series{name: r.name, index: i + 1}
		if curve, err := r.hessian.Density.Curve(densityPoints); err == nil {
			for j, x := range curve.Eigenvalue {
				s.points = append(s.points, plotter.XY{X: x, Y: max(curve.Density[j], densityFloor)})
			}
		}
		c.series = append(c.series, s)
	}
	return c
}

// landscapePanels draw the losses along the first eigenvectors of runs together, and those over planes one by one.
func landscapePanels(runs []curves) (out []panel) {
	lines := chart{title: "Loss along the top eigenvector", over: "offset", plain: true, unit: "cross-entropy (nats)"}
	for i, r := range runs {
		if r.hessian == nil || r.hessian.Landscape == nil {
			continue
		}
		l := r.hessian.Landscape
		if len(l.Losses) > 1 {
			title := "Loss over the plane of the top two eigenvectors"
			if len(runs) > 1 {
				title += ": " + r.name
			}
			out = append(out, plane{title, l})
			continue
		}
		s := series{name: r.name, index: i + 1}
		for j, x := range l.Offsets {
			s.points = append(s.points, plotter.XY{X: x, Y: l.Losses[0][j]})
		}
		lines.series = append(lines.series, s)
	}
	if !lines.empty() {
		out = append([]panel{lines}, out...)
	}
	return out
}

// plane is the losses over a plane, as colours with lines of equal loss.
type plane struct {
	title string
	*curvature.Landscape
}

func (p plane) heading() string { return p.title }
func (p plane) caption() string { return p.title }
func (p plane) empty() bool     { return false }

// Dims, X, Y and Z are what plotter.GridXYZ wants.
func (p plane) Dims() (columns, rows int) { return len(p.Offsets), len(p.Offsets) }
func (p plane) X(column int) float64      { return p.Offsets[column] }
func (p plane) Y(row int) float64         { return p.Offsets[row] }
func (p plane) Z(column, row int) float64 { return p.Losses[row][column] }

// span is the smallest and the largest loss; they differ.
func (p plane) span() (low, high float64) {
	low, high = p.Losses[0][0], p.Losses[0][0]
	for _, row := range p.Losses {
		for _, v := range row {
			low, high = min(low, v), max(high, v)
		}
	}
	if low == high {
		high = low + max(1e-9, math.Abs(low)*1e-9)
	}
	return low, high
}

const (
	contours    = 10
	barWidth    = 62 // of the scale beside the plane
	barBottom   = 39 // where the plane has its axis
	planePixels = 160
)

// draw draws the plane, and its scale to the right.
func (p plane) draw(c draw.Canvas, t *theme) error {
	low, high := p.span()
	colors := moreland.ExtendedBlackBody()
	colors.SetMin(low)
	colors.SetMax(high)

	left := plot.New()
	styleAxes(left, t)
	left.X.Label.Text, left.Y.Label.Text = "offset along eigenvector 1", "offset along eigenvector 2"
	left.X.Tick.Marker, left.Y.Tick.Marker = plot.TickerFunc(plainTicks), plot.TickerFunc(plainTicks)
	n := len(p.Offsets) - 1
	left.Add(plotter.NewImage(p.image(colors), p.Offsets[0], p.Offsets[0], p.Offsets[n], p.Offsets[n]))
	lines := plotter.NewContour(p, p.levels(low, high), nil)
	lines.LineStyles = []draw.LineStyle{{Color: t.contour, Width: 0.4}}
	left.Add(lines)
	left.Draw(draw.Crop(c, 0, -barWidth, 0, 0))

	right := plot.New()
	styleAxes(right, t)
	right.HideX()
	right.Y.Label.Text = "loss"
	right.Y.Tick.Marker = plot.TickerFunc(plainTicks)
	right.Add(&plotter.ColorBar{ColorMap: colors, Vertical: true})
	right.Draw(draw.Crop(c, c.Max.X-c.Min.X-barWidth+6, 0, barBottom, -2.5))
	return nil
}

// levels are the losses of the lines, close where the loss is low.
func (p plane) levels(low, high float64) (out []float64) {
	for i := 1; i < contours; i++ {
		share := float64(i) / contours
		out = append(out, low+(high-low)*share*share)
	}
	return out
}

// image is the plane with the losses between its points.
func (p plane) image(colors palette.ColorMap) image.Image {
	out := image.NewRGBA(image.Rect(0, 0, planePixels, planePixels))
	for y := range planePixels {
		for x := range planePixels {
			at := func(pixel int) float64 { return float64(pixel) / (planePixels - 1) * float64(len(p.Offsets)-1) }
			loss := p.between(at(x), at(planePixels-1-y))
			if c, err := colors.At(min(max(loss, colors.Min()), colors.Max())); err == nil { // rounding aside, between them
				out.Set(x, y, c)
			}
		}
	}
	return out
}

// between is the loss at a place between four points, bilinearly.
func (p plane) between(x, y float64) float64 {
	last := len(p.Offsets) - 2
	i, j := min(int(x), last), min(int(y), last)
	u, v := x-float64(i), y-float64(j)
	return (1-v)*((1-u)*p.Losses[j][i]+u*p.Losses[j][i+1]) + v*((1-u)*p.Losses[j+1][i]+u*p.Losses[j+1][i+1])
}
