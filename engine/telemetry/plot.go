package telemetry

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"html/template"
	"image/color"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colours that plots are drawn with stand for CSS variables, by which the page makes them light
// or dark. Their values only have to differ.
var (
	inkColor  = themeColor(0)
	gridColor = themeColor(1)
	// seriesNames are the variables of the lines' colours.
	seriesNames = []string{"first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"}
	themeColors = newTheme()
)

func themeColor(number int) color.RGBA {
	return color.RGBA{R: 0x11, G: 0x11, B: uint8(number + 1), A: 0xff}
}

// seriesColor is the colour of a line; they repeat.
func seriesColor(index int) color.RGBA { return themeColor(2 + index%len(seriesNames)) }

// newTheme puts CSS variables in the place of colours.
func newTheme() *strings.Replacer {
	// Any font of Arial's widths fits the layout, which is computed with Liberation Sans.
	pairs := []string{"font-family:Liberation Sans;", "font-family:Arial,'Liberation Sans',Helvetica,sans-serif;", "font-variant:none;", ""}
	for i, name := range append([]string{"ink", "grid"}, seriesNames...) {
		c := themeColor(i)
		pairs = append(pairs, fmt.Sprintf("#%02X%02X%02X", c.R, c.G, c.B), "var(--"+name+")")
	}
	return strings.NewReplacer(pairs...)
}

// seriesDashes tells lines apart without their colour, and those of one colour; nil is a line without gaps.
func seriesDashes(index int) []vg.Length {
	patterns := [][]vg.Length{nil, {5, 3}, {1.5, 2}, {7, 2, 1.5, 2}}
	return patterns[(index+index/len(seriesNames))%len(patterns)]
}

// Plots are drawn at the width of a phone, and scaled up from there.
const (
	plotWidth  = 380
	plotHeight = 230
)

// series is one line of a chart.
type series struct {
	name   string
	points plotter.XYs
	steps  bool // holds its value over an epoch
	index  int  // of its colour, from 1; 0: its place in the chart
}

// chart is one plot of a page.
type chart struct {
	title  string
	over   string // the horizontal axis; "" is "epoch"
	unit   string // of the vertical axis
	log    bool
	logX   bool
	zero   bool // the vertical axis starts at 0, unless values are below
	series []series
	legend bool // in the plot, where there are several series
}

// draw makes the plot of the chart, in stand-ins for colours. It returns nil for a chart without points.
func (c chart) draw() (*plot.Plot, error) {
	c = c.finite()
	if len(c.series) == 0 {
		return nil, nil
	}
	p := plot.New()
	c.style(p)
	for i, s := range c.series {
		if err := addSeries(p, s, i, c.legend && len(c.series) > 1); err != nil {
			return nil, fmt.Errorf("plotting %s: %w", c.title, err)
		}
	}
	c.scale(p)
	return p, nil
}

// svg draws the chart for a page that defines the colours. It returns "" for a chart without points.
func (c chart) svg() (template.HTML, error) {
	p, err := c.draw()
	if p == nil || err != nil {
		return "", err
	}
	canvas := vgsvg.New(plotWidth, plotHeight)
	p.Draw(draw.New(canvas))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", fmt.Errorf("plotting %s: %w", c.title, err)
	}
	return c.inline(out.String())
}

// finite drops what cannot be drawn: values that are not finite or, on a logarithmic axis, not
// positive, and then series without points.
func (c chart) finite() chart {
	kept := c
	kept.series = nil
	for _, s := range c.series {
		var points plotter.XYs
		for _, p := range s.points {
			if !math.IsNaN(p.Y) && !math.IsInf(p.Y, 0) && (!c.log || p.Y > 0) {
				points = append(points, p)
			}
		}
		if s.points = points; len(points) > 0 {
			kept.series = append(kept.series, s)
		}
	}
	return kept
}

// style sets what all plots share.
func (c chart) style(p *plot.Plot) {
	p.BackgroundColor = nil
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle.Color, a.LineStyle.Width = inkColor, 0.6
		a.Tick.LineStyle.Color, a.Tick.LineStyle.Width = inkColor, 0.6
		a.Tick.Label.Color, a.Label.TextStyle.Color = inkColor, inkColor
		a.Tick.Label.Font.Variant, a.Label.TextStyle.Font.Variant = "Sans", "Sans"
		a.Tick.Label.Font.Size, a.Label.TextStyle.Font.Size = 11, 11
		a.Label.Padding = 3
	}
	p.X.Label.Text, p.Y.Label.Text = cmp.Or(c.over, "epoch"), c.unit
	p.X.Tick.Marker = plot.TickerFunc(wholeTicks)
	p.Legend.TextStyle.Color, p.Legend.TextStyle.Font.Variant, p.Legend.TextStyle.Font.Size = inkColor, "Sans", 11
	p.Legend.Top, p.Legend.ThumbnailWidth, p.Legend.Padding = true, 18, 2
	grid := plotter.NewGrid()
	for _, s := range []*draw.LineStyle{&grid.Horizontal, &grid.Vertical} {
		s.Color, s.Width, s.Dashes = gridColor, 0.5, nil
	}
	p.Add(grid)
}

// addSeries draws a line, and a dot at each point while there are few.
func addSeries(p *plot.Plot, s series, index int, legend bool) error {
	line, dots, err := plotter.NewLinePoints(s.points)
	if err != nil {
		return err
	}
	if s.index > 0 {
		index = s.index - 1
	}
	line.Color, line.Dashes = seriesColor(index), seriesDashes(index)
	line.Width = 1.6
	if s.steps {
		line.StepStyle = plotter.MidStep
	}
	p.Add(line)
	if len(s.points) <= 30 {
		dots.Color, dots.Shape, dots.Radius = line.Color, draw.CircleGlyph{}, 2
		p.Add(dots)
	}
	if legend {
		p.Legend.Add(s.name, line)
	}
	return nil
}

// scale sets the ranges and the ticks of the vertical axis.
func (c chart) scale(p *plot.Plot) {
	if c.logX {
		p.X.Min, p.X.Max = p.X.Min/1.1, p.X.Max*1.1
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.TickerFunc(c.logTicks)
	} else if p.X.Max-p.X.Min < 1 {
		p.X.Min, p.X.Max = p.X.Min-0.5, p.X.Max+0.5
	}
	if !c.log {
		if c.zero {
			p.Y.Min = math.Min(p.Y.Min, 0)
		}
		if p.Y.Max == p.Y.Min {
			p.Y.Min, p.Y.Max = p.Y.Min-0.5*math.Max(1, math.Abs(p.Y.Min)), p.Y.Max+0.5*math.Max(1, math.Abs(p.Y.Max))
		}
		if c.legend && len(c.series) > 1 {
			c.makeRoom(p)
		}
		p.Y.Tick.Marker = plot.TickerFunc(plainTicks)
		return
	}
	p.Y.Min, p.Y.Max = p.Y.Min/1.3, p.Y.Max*1.3
	p.Y.Scale = plot.LogScale{}
	p.Y.Tick.Marker = plot.TickerFunc(c.logTicks)
}

// makeRoom leaves the top of the plot to the legend, where a falling curve leaves the right and a
// rising one the left free.
func (c chart) makeRoom(p *plot.Plot) {
	points := c.series[0].points
	p.Legend.Left = points[len(points)-1].Y > points[0].Y
	p.Y.Max += 0.12 * (p.Y.Max - p.Y.Min)
}

// inline turns an SVG file into a part of the page: its size is the page's to choose.
func (c chart) inline(svg string) (template.HTML, error) {
	_, rest, found := strings.Cut(svg, "<svg")
	_, body, closed := strings.Cut(rest, ">")
	if !found || !closed {
		return "", fmt.Errorf("plotting %s: the drawing is not SVG", c.title)
	}
	head := fmt.Sprintf(`<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, plotWidth, plotHeight, html.EscapeString(c.caption()))
	return template.HTML(head + themeColors.Replace(body)), nil
}

// caption says what is drawn over what.
func (c chart) caption() string { return c.title + " over " + cmp.Or(c.over, "epoch") + "s" }

// wholeTicks marks whole numbers only: there is no epoch 2.5.
func wholeTicks(lo, hi float64) []plot.Tick {
	return ticks(lo, hi, math.Max(1, niceStep((hi-lo)/6)))
}

// plainTicks marks round numbers.
func plainTicks(lo, hi float64) []plot.Tick { return ticks(lo, hi, niceStep((hi-lo)/5)) }

func ticks(lo, hi, step float64) []plot.Tick {
	var out []plot.Tick
	for i := math.Ceil(lo / step); i*step <= hi && len(out) < 50; i++ {
		out = append(out, plot.Tick{Value: i * step, Label: short(i * step)})
	}
	return out
}

// niceStep rounds up to 1, 2 or 5 times a power of ten.
func niceStep(raw float64) float64 {
	if !(raw > 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= raw {
			return m * power
		}
	}
	return 10 * power
}

// logTicks labels powers of two for batches and 1, 2, 5 times powers of ten for rates, fewer where
// the range is wide.
func (c chart) logTicks(lo, hi float64) []plot.Tick {
	mantissas, base := []float64{1, 2, 5}, 10.0
	if c.unit == unitBatch {
		mantissas, base = []float64{1}, 2
	}
	var values []float64
	first := math.Floor(math.Log(lo) / math.Log(base))
	for e := first; math.Pow(base, e) <= hi; e++ {
		for _, m := range mantissas {
			if v := m * math.Pow(base, e); v >= lo && v <= hi {
				values = append(values, v)
			}
		}
	}
	every := (len(values) + 6) / 7
	var out []plot.Tick
	for i := 0; i < len(values); i += max(every, 1) {
		out = append(out, plot.Tick{Value: values[i], Label: short(values[i])})
	}
	return out
}

// short writes a number with at most six significant digits, so 0.1+0.2 is 0.3.
func short(f float64) string { return strconv.FormatFloat(f, 'g', 6, 64) }
