package telemetry

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/plot/palette/moreland"
	"gonum.org/v1/plot/plotter"

	"broadside/engine/curvature"
)

// measurement has a density and a landscape of so many rows, 1 or 5.
func measurement(rows int) *curvature.Measurement {
	m := &curvature.Measurement{Checkpoint: "step-000000009.safetensors", Epoch: 3, Updates: 9000, Samples: 1024, Parameters: 3, BatchNorm: "ghost", HVPs: 1234,
		Eigenvalues: []curvature.Eigenvalue{{Value: 66.5, Iterations: 14, Converged: true}, {Value: -2, Iterations: 100}},
		Trace:       &curvature.Trace{Mean: 323.778, StandardError: 28, Samples: make([]float64, 20)},
		Density:     &curvature.Density{Runs: []curvature.Quadrature{{Nodes: []float64{-2, 0, 66.5}, Weights: []float64{0.1, 0.8, 0.1}}}},
		Landscape:   &curvature.Landscape{Offsets: []float64{-1, -0.5, 0, 0.5, 1}}}
	for j := range rows {
		row := make([]float64, 5)
		for i := range row {
			row[i] = 1 + math.Pow(float64(i-2), 2) + 0.5*math.Pow(float64(j), 2)
		}
		m.Landscape.Losses = append(m.Landscape.Losses, row)
	}
	return m
}

// plottedRuns makes two runs, the first with a measurement.
func plottedRuns(t *testing.T) []string {
	t.Helper()
	root := t.TempDir()
	var dirs []string
	for i, name := range []string{"bl", "absa"} {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		writeRun(t, dir, 20+20*i)
		dirs = append(dirs, dir)
	}
	keep(t, dirs[0], measurement(5))
	return dirs
}

func keep(t *testing.T, dir string, m *curvature.Measurement) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, curvature.File)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := m.Keep(dir); err != nil {
		t.Fatal(err)
	}
}

// figure draws runs to a file and returns its path.
func figure(t *testing.T, name string, dirs []string, x string, ys ...string) string {
	t.Helper()
	f, err := NewFigure(dirs, x, ys)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := f.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPNG(t *testing.T) {
	dirs := plottedRuns(t)
	open := func(ys ...string) image.Image {
		file, err := os.Open(figure(t, "plot.PNG", dirs, "epoch", ys...))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		img, err := png.Decode(file)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	one, four := open("loss"), open("loss", "accuracy", "batch", "lr")
	scale := pixels / 72.0
	for _, check := range []struct {
		img           image.Image
		columns, rows float64
	}{{one, 1, 1}, {four, 2, 2}} {
		width := (check.columns*plotWidth + (check.columns+1)*gap) * scale
		height := (keyHeight + check.rows*(plotHeight+titleHeight+gap) + gap) * scale
		if size := check.img.Bounds().Size(); math.Abs(float64(size.X)-width) > 1 || math.Abs(float64(size.Y)-height) > 1 {
			t.Errorf("%v pixels; want %f, %f", size, width, height)
		}
	}
	found := map[color.RGBA]int{}
	for y := range one.Bounds().Dy() {
		for x := range one.Bounds().Dx() {
			found[color.RGBAModel.Convert(one.At(x, y)).(color.RGBA)]++
		}
	}
	for name, c := range map[string]color.RGBA{"paper": {255, 255, 255, 255}, "first line": paperTheme.series[0], "second line": paperTheme.series[1]} {
		if found[c] < 100 {
			t.Errorf("%d pixels of the %s", found[c], name)
		}
	}
}

// text are the words of an SVG file, which it holds to be well-formed.
func svgText(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for d := xml.NewDecoder(strings.NewReader(string(content))); ; {
		token, err := d.Token()
		if err == io.EOF {
			return strings.Join(out, "|")
		} else if err != nil {
			t.Fatalf("%s is not well-formed: %v", path, err)
		}
		if words, ok := token.(xml.CharData); ok && strings.TrimSpace(string(words)) != "" {
			out = append(out, strings.TrimSpace(string(words)))
		}
	}
}

func TestSVG(t *testing.T) {
	dirs := plottedRuns(t)
	words := svgText(t, figure(t, "plot.svg", dirs, "updates", "loss", "test_accuracy", "eigenvalue", "density", "landscape"))
	for _, want := range []string{"bl", "absa", "Loss (thin: train)", "Test accuracy", "update", "Top eigenvalue of the Hessian", "Density of the Hessian's eigenvalues",
		"Loss over the plane of the top two eigenvectors: bl", "offset along eigenvector 2"} {
		if !slices.Contains(strings.Split(words, "|"), want) {
			t.Errorf("%q is missing in %s", want, words)
		}
	}
	keep(t, dirs[1], measurement(1))
	words = svgText(t, figure(t, "plot.svg", dirs[1:], "samples", "landscape", "speed"))
	for _, want := range []string{"Loss along the top eigenvector", "offset", "images/s", "sample"} {
		if !slices.Contains(strings.Split(words, "|"), want) {
			t.Errorf("%q is missing in %s", want, words)
		}
	}
	if strings.Contains(words, "absa") {
		t.Error("a single run is named")
	}
}

// Every quantity that the help names can be drawn over every axis, at the values of the records.
func TestQuantities(t *testing.T) {
	second, tenth := 30.0, 0.1
	run := curves{name: "r",
		epochs: []Epoch{{Epoch: 1, Updates: 10, SamplesSeen: 100, WallSeconds: 2, TrainLoss: 3, TestLoss: &second, TrainAccuracy: 0.25, TestAccuracy: &tenth, Batch: 8, LR: 0.5,
			ImagesPerSecond: 7, AttackFraction: 0.2, GradPasses: 120, HVPs: 4, Values: map[string]float64{"gns": 11}},
			{Epoch: 2, Updates: 20, SamplesSeen: 300, WallSeconds: 4, TrainLoss: 2}},
		probes: []Event{{Type: TypeProbe, Epoch: 2, Updates: 15, WallSeconds: 3, Eigenvalue: ptr(42)}}}
	for name, want := range map[string][]float64{"loss": {3, 30}, "accuracy": {25, 10}, "train_loss": {3}, "test_loss": {30}, "train_accuracy": {25}, "test_accuracy": {10},
		"batch": {8}, "lr": {0.5}, "eigenvalue": {42}, "speed": {7}, "attack_fraction": {0.2}, "grad_passes": {120}, "hvps": {4}, "gns": {11}} {
		q, err := quantityOf(name, []curves{run})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		at := map[string]float64{"epoch": 1, "updates": 10, "samples": 100, "time": 2}
		if name == "eigenvalue" {
			at = map[string]float64{"epoch": 2, "updates": 15, "samples": 200, "time": 3}
		}
		for x, place := range at {
			c := q.chart(axes[x], []curves{run})
			if len(c.series) != len(want) {
				t.Fatalf("%s: %d lines", name, len(c.series))
			}
			for i, v := range want {
				if got := c.series[i].points[0]; math.Abs(got.X-place) > 1e-12 || math.Abs(got.Y-v) > 1e-12 {
					t.Errorf("%s over %s: %v; want %v at %v", name, x, got, v, place)
				}
			}
		}
	}
}

func TestFigureErrors(t *testing.T) {
	dirs := plottedRuns(t)
	for _, test := range []struct {
		x, y string
		want string
	}{{"epochs", "loss", "did you mean epoch?"}, {"epoch", "los", "did you mean loss?"}, {"epoch", "densty", "did you mean density?"},
		{"epoch", "density", "broadside curvature RUN --density"}, {"epoch", "landscape", "broadside curvature RUN --landscape"}} {
		if _, err := NewFigure(dirs[1:], test.x, []string{test.y}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s over %s: %v; want %q", test.y, test.x, err, test.want)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	appendAll(t, openLog(t, empty), Event{Type: TypeStart})
	if _, err := NewFigure([]string{empty}, "epoch", []string{"loss"}); err == nil || !strings.Contains(err.Error(), "there is no loss to plot") {
		t.Errorf("a run without epochs: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dirs[0], curvature.File), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := NewFigure(dirs, "epoch", []string{"loss"}); err == nil || !strings.Contains(err.Error(), curvature.File) {
		t.Errorf("a broken measurement: %v", err)
	}
	if err := CheckFigureFile("a.jpg"); err == nil || !strings.Contains(err.Error(), ".png or .svg") {
		t.Errorf("a.jpg: %v", err)
	}
}

// The plane's picture has the largest loss where both offsets are largest, in the top right corner.
func TestPlane(t *testing.T) {
	p := plane{"", &curvature.Landscape{Offsets: []float64{-1, 0, 1}, Losses: [][]float64{{0, 1, 2}, {3, 4, 5}, {6, 7, 8}}}}
	colors := moreland.ExtendedBlackBody()
	low, high := p.span()
	colors.SetMin(low)
	colors.SetMax(high)
	img := p.image(colors)
	last := planePixels - 1
	for at, loss := range map[image.Point]float64{{X: 0, Y: last}: 0, {X: last, Y: last}: 2, {X: 0, Y: 0}: 6, {X: last, Y: 0}: 8} {
		want, err := colors.At(loss)
		if err != nil {
			t.Fatal(err)
		}
		if got := img.At(at.X, at.Y); got != color.RGBAModel.Convert(want) {
			t.Errorf("at %v the colour is %v; want %v of loss %v", at, got, want, loss)
		}
	}
	if got := p.between(0.5, 1.5); got != 5 {
		t.Errorf("between four points %v; want 5", got)
	}
	flat := plane{"flat", &curvature.Landscape{Offsets: []float64{-1, 1}, Losses: [][]float64{{2, 2}, {2, 2}}}}
	if svg, err := inline(flat); err != nil || svg == "" {
		t.Errorf("a flat landscape: %v", err)
	}
}

// Files have the colours that pages have in light.
func TestPaperIsTheLightPage(t *testing.T) {
	style, err := pageFiles.ReadFile("style.html.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	light, _, _ := strings.Cut(string(style), "@media")
	for name, c := range paperTheme.variables() {
		match := regexp.MustCompile(`--` + name + `: (#[0-9a-f]{6})`).FindStringSubmatch(light)
		if want := fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B); match == nil || match[1] != want {
			t.Errorf("--%s is %v; want %s", name, match, want)
		}
	}
}

func TestAxisLabels(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.25: "0.25", 9999: "9999", 10000: "10k", 12500: "12.5k", 2e6: "2M", -3e4: "-30k", 1e20: "1e+20"} {
		if got := label(v); got != want {
			t.Errorf("%v is %s; want %s", v, got, want)
		}
	}
	for _, tick := range plainTicks(-0.5, 3) {
		if tick.Label == "-0" {
			t.Error("a tick at -0")
		}
	}
}

func TestReportOfTheHessian(t *testing.T) {
	dir := t.TempDir()
	writeRun(t, dir, 10)
	keep(t, dir, measurement(5))
	html := readReport(t, dir)
	for _, want := range []string{"1,024 training samples after epoch 3, update 9,000", "ghost mode", "1,234 Hessian-vector products", "66.5", "after 14 iterations",
		"after 100 iterations, not converged", "323.778", "standard error 28, from 20 probes", `aria-label="Loss over the plane of the top two eigenvectors"`} {
		if !strings.Contains(html, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if n := strings.Count(html, "<svg "); n != 8 {
		t.Errorf("%d plots; want 8", n)
	}
	checkSelfContained(t, html)
	if err := os.WriteFile(filepath.Join(dir, curvature.File), []byte(`{"density": {}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if html := readReport(t, dir); !strings.Contains(html, "The measurement cannot be shown: ") || !strings.Contains(html, "density: no runs") {
		t.Error("a broken measurement is not told of")
	}
}

// Whatever is read can be drawn.
func FuzzDrawMeasurement(f *testing.F) {
	for _, rows := range []int{1, 5} {
		text, err := json.Marshal(measurement(rows))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"landscape": {"offsets": [-1e-300, 1e-300], "losses": [[1e100, -1e100], [0, 0]]}}`))
	f.Add([]byte(`{"density": {"runs": [{"nodes": [-1e100, 1e100], "weights": [-1, 0]}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := curvature.Parse(text)
		if err != nil {
			return
		}
		runs := []curves{{hessian: m}}
		svgs, err := drawings(append([]panel{densityChart(runs)}, landscapePanels(runs)...), panel.heading)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range svgs {
			if strings.Contains(string(d.SVG), "NaN") || strings.Contains(string(d.SVG), "Inf") {
				t.Errorf("%s has coordinates that are not numbers", d.Title)
			}
		}
	})
}

func TestCompareDensities(t *testing.T) {
	dirs := plottedRuns(t)
	keep(t, dirs[1], measurement(1))
	c, err := Compare(dirs)
	if err != nil {
		t.Fatal(err)
	}
	density := densityChart([]curves{c.Runs[0].curves, c.Runs[1].curves})
	if len(density.series) != 2 || len(density.series[1].points) != densityPoints || density.series[1].index != 2 {
		t.Errorf("%d densities", len(density.series))
	}
	if !slices.ContainsFunc(density.series[0].points, func(p plotter.XY) bool { return p.Y > 1 }) {
		t.Error("the density has no peak")
	}
	path := filepath.Join(t.TempDir(), "compare.html")
	if err := c.WritePage(path); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "Density of the Hessian&#39;s eigenvalues") {
		t.Error("the page has no densities")
	}
	checkSelfContained(t, string(page))
}
