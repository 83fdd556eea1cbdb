package telemetry

import (
	"fmt"
	"image/color"
	"io"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"broadside/engine/internal/durable"
)

// The colours of a plot in a file of its own: those of a page in light, on white.
var paper = map[color.RGBA]color.Color{
	inkColor:       rgb(0x1f2933),
	gridColor:      rgb(0xe1e5ea),
	seriesColor(0): rgb(0x0b62b8),
	seriesColor(1): rgb(0xc2500b),
	seriesColor(2): rgb(0x0a7a55),
	seriesColor(3): rgb(0xa3337f),
	seriesColor(4): rgb(0x7a6000),
	seriesColor(5): rgb(0x5546c8),
	seriesColor(6): rgb(0x4d5866),
	seriesColor(7): rgb(0xb3261e),
}

func rgb(v uint32) color.RGBA {
	return color.RGBA{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v), A: 0xff}
}

// painted is a canvas on which the stand-ins for colours get the colours themselves.
type painted struct{ vg.CanvasSizer }

// SetColor sets the colour that c stands for.
func (p painted) SetColor(c color.Color) {
	if key, ok := c.(color.RGBA); ok && paper[key] != nil {
		c = paper[key]
	}
	p.CanvasSizer.SetColor(c)
}

// CheckPlotFile refuses the name of a plot's file that does not say a format.
func CheckPlotFile(path string) error {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".svg", ".png":
		return nil
	}
	return fmt.Errorf("%q: name a file that ends in .svg or .png", path)
}

// writeFile writes the chart to a file of its own, as SVG or PNG by its name.
func (c chart) writeFile(path string) error {
	if err := CheckPlotFile(path); err != nil {
		return err
	}
	p, err := c.draw()
	if err != nil {
		return err
	}
	if p == nil {
		return fmt.Errorf("plotting %s: there is nothing to draw", c.title)
	}
	p.BackgroundColor = color.White
	p.Title.Text, p.Title.Padding = c.title, 6
	p.Title.TextStyle.Color, p.Title.TextStyle.Font.Variant, p.Title.TextStyle.Font.Size = inkColor, "Sans", 12
	const width, height, margin = 1.5 * plotWidth, 1.5 * plotHeight, 8
	var canvas interface {
		vg.CanvasSizer
		io.WriterTo
	} = vgsvg.New(width, height)
	if strings.EqualFold(filepath.Ext(path), ".png") {
		canvas = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(144), vgimg.UseBackgroundColor(color.White))}
	}
	p.Draw(draw.Crop(draw.New(painted{canvas}), margin, -margin, margin, -margin))
	err = durable.Replace(path, func(w io.Writer) error {
		_, err := canvas.WriteTo(w)
		return err
	})
	if err != nil {
		return fmt.Errorf("writing the plot to %s: %w", path, err)
	}
	return nil
}

// RangeTest is a learning-rate range test as it is plotted: rates in rising order, and the losses at them.
type RangeTest struct {
	Title                   string
	Rates, Losses, Smoothed []float64
	Suggested               *float64
}

// WritePlot writes the plot of a range test to a file, as SVG or PNG by its name. Losses far above all smoothed ones
// are left out.
func (r RangeTest) WritePlot(path string) error {
	smoothed, losses, top := series{name: "smoothed"}, series{name: "loss"}, 0.
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
	c := chart{title: r.Title, over: "learning rate", unit: "cross-entropy (nats)", logX: true, legend: true, series: []series{smoothed, losses}}
	if r.Suggested != nil {
		c.series = append(c.series, series{name: "suggested: " + fmt.Sprintf("%.3g", *r.Suggested), points: plotter.XYs{{X: *r.Suggested, Y: low}, {X: *r.Suggested, Y: top}}})
	}
	return c.writeFile(path)
}
