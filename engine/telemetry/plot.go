package telemetry

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg/draw"
)

// Plots are drawn at the width of a phone, and scaled up from there.
const (
	plotWidth  = 380
	plotHeight = 230
)

// panel is one plot of a page or a file.
type panel interface {
	// heading is its title, and caption what it shows.
	heading() string
	caption() string
	// empty reports whether there is nothing to draw.
	empty() bool
	draw(c draw.Canvas, t *theme) error
}

// series is one line of a chart.
type series struct {
	name   string
	points plotter.XYs
	steps  bool // holds its value over an epoch
	thin   bool // beside another line of the same colour
	index  int  // of its colour, from 1; 0: its place in the chart
}

// chart is a plot of lines.
type chart struct {
	title  string
	over   string // the horizontal axis; "" is "epoch"
	plain  bool   // which does not count things
	unit   string // of the vertical axis
	log    bool
	logX   bool
	zero   bool // the vertical axis starts at 0, unless values are below
	series []series
	legend bool // in the plot, where there are several series
	below  bool // the legend is at the bottom left, which the curves leave free
}

func (c chart) heading() string { return c.title }

func (c chart) empty() bool { return len(c.finite().series) == 0 }

// draw draws the chart.
func (c chart) draw(canvas draw.Canvas, t *theme) error {
	c = c.finite()
	p := plot.New()
	c.style(p, t)
	for i, s := range c.series {
		if err := c.add(p, t, s, i); err != nil {
			return err
		}
	}
	c.scale(p)
	p.Draw(canvas)
	return nil
}

// inline draws a panel for a page that defines the colours and chooses the size; "" if it is empty.
func inline(p panel) (template.HTML, error) {
	if p.empty() {
		return "", nil
	}
	canvas := newSVG(plotWidth, plotHeight)
	if err := p.draw(draw.New(canvas), pageTheme); err != nil {
		return "", fmt.Errorf("plotting %s: %w", p.heading(), err)
	}
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", fmt.Errorf("plotting %s: %w", p.heading(), err)
	}
	_, rest, found := strings.Cut(out.String(), "<svg")
	_, body, closed := strings.Cut(rest, ">")
	if !found || !closed {
		return "", fmt.Errorf("plotting %s: the drawing is not SVG", p.heading())
	}
	head := fmt.Sprintf(`<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, plotWidth, plotHeight, html.EscapeString(p.caption()))
	return template.HTML(head + pageColors.Replace(body)), nil
}

// largest is what an axis takes, with room for its margins.
const largest = 1e305

// finite drops what cannot be drawn: values that are not finite or, on a logarithmic axis, not
// well above 0, and then series without points.
func (c chart) finite() chart {
	kept := c
	kept.series = nil
	for _, s := range c.series {
		var points plotter.XYs
		for _, p := range s.points {
			if math.Abs(p.X) <= largest && math.Abs(p.Y) <= largest && (!c.log || p.Y >= 1/largest) { // NaN is not
				points = append(points, p)
			}
		}
		if s.points = points; len(points) > 0 {
			kept.series = append(kept.series, s)
		}
	}
	return kept
}

// style sets what all charts share.
func (c chart) style(p *plot.Plot, t *theme) {
	styleAxes(p, t)
	p.X.Label.Text, p.Y.Label.Text = cmp.Or(c.over, "epoch"), c.unit
	p.X.Tick.Marker = plot.TickerFunc(wholeTicks)
	if c.plain {
		p.X.Tick.Marker = plot.TickerFunc(plainTicks)
	}
	p.Legend.TextStyle.Color, p.Legend.TextStyle.Font.Variant, p.Legend.TextStyle.Font.Size = t.ink, "Sans", 11
	p.Legend.Top, p.Legend.ThumbnailWidth, p.Legend.Padding = true, 18, 2
	grid := plotter.NewGrid()
	for _, s := range []*draw.LineStyle{&grid.Horizontal, &grid.Vertical} {
		s.Color, s.Width, s.Dashes = t.grid, 0.5, nil
	}
	p.Add(grid)
}

// styleAxes sets what all plots share.
func styleAxes(p *plot.Plot, t *theme) {
	p.BackgroundColor = nil
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle.Color, a.LineStyle.Width = t.ink, 0.6
		a.Tick.LineStyle.Color, a.Tick.LineStyle.Width = t.ink, 0.6
		a.Tick.Label.Color, a.Label.TextStyle.Color = t.ink, t.ink
		a.Tick.Label.Font.Variant, a.Label.TextStyle.Font.Variant = "Sans", "Sans"
		a.Tick.Label.Font.Size, a.Label.TextStyle.Font.Size = 11, 11
		a.Label.Padding = 3
	}
}

// add draws a line, and a dot at each point while there are few.
func (c chart) add(p *plot.Plot, t *theme, s series, index int) error {
	line, dots, err := plotter.NewLinePoints(s.points)
	if err != nil {
		return err
	}
	if s.index > 0 {
		index = s.index - 1
	}
	line.Color, line.Dashes, line.Width = t.seriesColor(index), seriesDashes(index), 1.6
	switch {
	case s.thin:
		line.Width = 0.7
	case len(s.points) > 150 && !s.steps && !c.plain: // losses of updates would run into each other
		line.Width = 1
	}
	if s.steps {
		line.StepStyle = plotter.MidStep
	}
	p.Add(line)
	if !s.thin && len(s.points) <= 30 {
		dots.Color, dots.Shape, dots.Radius = line.Color, draw.CircleGlyph{}, 2
		p.Add(dots)
	}
	if c.legend && len(c.series) > 1 {
		p.Legend.Add(s.name, line)
	}
	return nil
}

// scale sets the ranges and the ticks of the vertical axis.
func (c chart) scale(p *plot.Plot) {
	if c.logX {
		p.X.Min, p.X.Max = p.X.Min/1.1, p.X.Max*1.1
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.TickerFunc(c.logTicks)
	} else if p.X.Max-p.X.Min < 1 && !c.plain {
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
		} else {
			p.Y.Max += 0.04 * (p.Y.Max - p.Y.Min) // for the dots and lines at the top
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
	if c.below {
		p.Legend.Top, p.Legend.Left = false, true
		return
	}
	points := c.series[0].points
	p.Legend.Left = points[len(points)-1].Y > points[0].Y
	p.Y.Max += 0.12 * (p.Y.Max - p.Y.Min)
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
	for i := math.Ceil(lo/step) + 0; i*step <= hi && len(out) < 50; i++ { // + 0: no -0
		out = append(out, plot.Tick{Value: i * step, Label: label(i * step)})
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

// mostTicks is how many labels an axis has room for.
const mostTicks = 7

// logTicks labels powers of two for batches, and 1, 2 and 5 times powers of ten for others, or the powers alone where the
// range is wide.
func (c chart) logTicks(lo, hi float64) []plot.Tick {
	var values []float64
	switch fine := powers(10, lo, hi, 1, 2, 5); {
	case c.unit == unitBatch:
		values = powers(2, lo, hi, 1)
	case len(fine) <= mostTicks:
		values = fine
	default:
		values = powers(10, lo, hi, 1)
	}
	every := (len(values) + mostTicks - 1) / mostTicks
	var out []plot.Tick
	for i := 0; i < len(values); i += every {
		out = append(out, plot.Tick{Value: values[i], Label: short(values[i])})
	}
	return out
}

// powers are the multiples of powers of a base from lo to hi.
func powers(base, lo, hi float64, multiples ...float64) (out []float64) {
	for e := math.Floor(math.Log(lo) / math.Log(base)); math.Pow(base, e) <= hi; e++ {
		for _, m := range multiples {
			if v := m * math.Pow(base, e); v >= lo && v <= hi {
				out = append(out, v)
			}
		}
	}
	return out
}

// label is short, with thousands and millions as k and M.
func label(f float64) string {
	switch size := math.Abs(f); {
	case size >= 1e15:
		return short(f)
	case size >= 1e6:
		return short(f/1e6) + "M"
	case size >= 1e4:
		return short(f/1e3) + "k"
	}
	return short(f)
}

// short writes a number with at most six significant digits, so 0.1+0.2 is 0.3.
func short(f float64) string { return strconv.FormatFloat(f, 'g', 6, 64) }
