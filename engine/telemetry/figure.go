package telemetry

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"broadside/engine/internal/durable"
	"broadside/engine/suggest"
)

// Figure is curves of runs, to be written as a file.
type Figure struct {
	names  []string // of the runs, if there are several
	panels []panel
}

// NewFigure reads runs and picks what to draw: one plot for each of ys, over x.
func NewFigure(runDirs []string, x string, ys []string) (*Figure, error) {
	over, ok := axes[x]
	if !ok {
		return nil, suggest.Unknown("axis", x, []string{"epoch", "updates", "samples", "time"})
	}
	runs, err := readRuns(runDirs)
	if err != nil {
		return nil, err
	}
	f := &Figure{}
	for _, y := range ys {
		panels, err := panelsOf(y, over, runs)
		if err != nil {
			return nil, err
		}
		f.panels = append(f.panels, panels...)
	}
	if len(runs) > 1 {
		for _, r := range runs {
			f.names = append(f.names, r.name)
		}
	}
	return f, nil
}

// readRuns reads run directories, and gives those of one name their paths instead.
func readRuns(runDirs []string) ([]curves, error) {
	c, err := Compare(runDirs)
	if err != nil {
		return nil, err
	}
	runs := make([]curves, len(c.Runs))
	for i, r := range c.Runs {
		runs[i] = r.curves
	}
	return runs, nil
}

// panelsOf are the plots of one of --y.
func panelsOf(y string, x axis, runs []curves) (out []panel, err error) {
	wanting := "none of the runs has it"
	switch y {
	case plotDensity:
		out, wanting = []panel{densityChart(runs)}, "measure it by 'broadside curvature RUN --density'"
	case plotLandscape:
		out, wanting = landscapePanels(runs), "measure it by 'broadside curvature RUN --landscape'"
	default:
		q, err := quantityOf(y, runs)
		if err != nil {
			return nil, err
		}
		out = []panel{q.chart(x, runs)}
	}
	if !slices.ContainsFunc(out, func(p panel) bool { return !p.empty() }) {
		return nil, fmt.Errorf("there is no %s to plot: %s", y, wanting)
	}
	return out, nil
}

// Sizes of a figure, in points of 1/72 inch.
const (
	titleHeight = 20
	keyHeight   = 18
	gap         = 12
	pixels      = 200 // of a PNG, per inch
)

// fileFormats are the canvases by the ends of files' names.
var fileFormats = map[string]func(w, h vg.Length) vg.CanvasWriterTo{
	".png": func(w, h vg.Length) vg.CanvasWriterTo {
		return vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(w, h), vgimg.UseDPI(pixels))}
	},
	".svg": newSVG,
}

// CheckFigureFile refuses the name of a file that Write cannot write.
func CheckFigureFile(path string) error {
	if fileFormats[strings.ToLower(filepath.Ext(path))] == nil {
		return fmt.Errorf("%s: a plot's file ends in .png or .svg", path)
	}
	return nil
}

// Write draws the figure to a PNG or SVG file, by its name.
func (f *Figure) Write(path string) error {
	if err := CheckFigureFile(path); err != nil {
		return err
	}
	columns := min(len(f.panels), 2)
	rows := (len(f.panels) + columns - 1) / columns
	width := vg.Length(columns*plotWidth + (columns+1)*gap)
	keys := f.keys(width - 2*gap)
	height := vg.Length(len(keys)*keyHeight + rows*(plotHeight+titleHeight+gap) + gap)
	canvas := fileFormats[strings.ToLower(filepath.Ext(path))](width, height)
	c := draw.New(canvas)
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	f.drawKeys(c, keys)
	for i, p := range f.panels {
		x := vg.Length(gap + i%columns*(plotWidth+gap))
		y := height - vg.Length(gap+len(keys)*keyHeight+i/columns*(plotHeight+titleHeight+gap))
		if err := f.drawPanel(c, p, vg.Point{X: x, Y: y}); err != nil {
			return fmt.Errorf("plotting %s: %w", p.heading(), err)
		}
	}
	err := durable.Replace(path, func(w io.Writer) error {
		_, err := canvas.WriteTo(w)
		return err
	})
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// drawPanel draws a plot and its title below and right of a point.
func (f *Figure) drawPanel(c draw.Canvas, p panel, at vg.Point) error {
	c.FillText(textStyle(13), vg.Point{X: at.X, Y: at.Y - titleHeight + 6}, p.heading())
	area := vg.Rectangle{Min: vg.Point{X: at.X, Y: at.Y - titleHeight - plotHeight}, Max: vg.Point{X: at.X + plotWidth, Y: at.Y - titleHeight}}
	if p.empty() {
		return errors.New("there is nothing to plot")
	}
	return p.draw(draw.Canvas{Canvas: c.Canvas, Rectangle: area}, paperTheme)
}

func textStyle(size vg.Length) text.Style {
	f := font.From(plot.DefaultFont, size)
	f.Variant = "Sans"
	return text.Style{Color: paperTheme.ink, Font: f, Handler: plot.DefaultTextHandler}
}

// key is a run's name and line above the plots.
type key struct {
	name  string
	index int
	x     vg.Length
}

const keyLine = 28 // length of the line before a name

// keys places the runs' names in rows.
func (f *Figure) keys(width vg.Length) (rows [][]key) {
	style := textStyle(11)
	at := vg.Length(math.Inf(1))
	for i, name := range f.names {
		need := keyLine + 6 + style.Width(name) + 18
		if at+need > width {
			rows, at = append(rows, nil), 0
		}
		rows[len(rows)-1] = append(rows[len(rows)-1], key{name, i, at})
		at += need
	}
	return rows
}

// drawKeys draws the names at the top.
func (f *Figure) drawKeys(c draw.Canvas, rows [][]key) {
	for i, row := range rows {
		y := c.Max.Y - gap - vg.Length(i*keyHeight) - keyHeight/2
		for _, k := range row {
			style := draw.LineStyle{Color: paperTheme.seriesColor(k.index), Width: 1.6, Dashes: seriesDashes(k.index)}
			x := c.Min.X + gap + k.x
			c.StrokeLine2(style, x, y, x+keyLine, y)
			c.FillText(textStyle(11), vg.Point{X: x + keyLine + 6, Y: y - 4}, k.name)
		}
	}
}
