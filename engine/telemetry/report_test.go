package telemetry

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gonum.org/v1/plot/plotter"
)

// writeRun makes the run directory of an ABSA run that never was: smooth made-up curves.
func writeRun(t *testing.T, dir string, epochs int) {
	t.Helper()
	l := openLog(t, dir)
	defer l.Close()
	appendAll(t, l, Event{Type: TypeStart})
	batch, lr, updates := 128, 0.1, 0
	for n := 1; n <= epochs; n++ {
		updates += 50000 / batch
		eigen := 40 * math.Exp(-float64(n)/9) * (1 + 0.3*math.Sin(float64(5*n)))
		appendAll(t, l, Event{Type: TypeProbe, Epoch: n, Updates: updates, Eigenvalue: &eigen, Iterations: 10})
		x := float64(n) / float64(epochs)
		e := sampleEpoch(n)
		e.Updates, e.Batch, e.LR, e.Eigenvalue = updates, batch, lr, &eigen
		e.TrainLoss, e.TrainAccuracy = 2*math.Exp(-4*x)+0.02, 1-0.65*math.Exp(-4*x)
		e.TestLoss, e.TestAccuracy = ptr(1.6*math.Exp(-4*x)+0.35+0.03*math.Sin(float64(3*n))), ptr(0.9-0.55*math.Exp(-5*x))
		e.ImagesPerSecond = 850 + 40*math.Sin(float64(n))
		if err := l.Epoch(e); err != nil {
			t.Fatal(err)
		}
		if n%max(epochs/6, 1) == 0 && batch < 16384 {
			trigger := []string{"eig", "duration", "gg"}[n*6/epochs%3]
			appendAll(t, l, Event{Type: TypeGrowth, Epoch: n, Updates: updates, Trigger: trigger, From: batch, To: 2 * batch})
			batch, lr = 2*batch, 2*lr
		}
		if n%30 == 0 {
			lr /= 5
		}
	}
	appendAll(t, l, Event{Type: TypePhase, Epoch: epochs, Updates: updates, Phase: "replica 3", Accuracy: ptr(0.8765)},
		Event{Type: TypeEnd, Updates: updates})
	recipe := "name: demo <script>alert(1)</script>\nmodel: {name: resnet20}\n"
	if err := os.WriteFile(filepath.Join(dir, RecipeFile), []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	s := Summary{Name: "demo & <b>co</b>", Model: "resnet20", Data: "cifar10", Seed: 1, Device: "cpu avx2", Devices: 2, TestAccuracy: 0.9012, BestTestAccuracy: 0.9034,
		TestLoss: 0.3512, Updates: updates, SamplesSeen: 4500000, Epochs: epochs, FinalBatch: batch, HVPs: 900, GradPasses: 4950000,
		WallSeconds: 5321, ImagesPerSecond: 846, PeakMemoryBytes: 512 << 20}
	if err := WriteSummary(dir, s); err != nil {
		t.Fatal(err)
	}
}

func readReport(t *testing.T, dir string) string {
	t.Helper()
	if err := Report(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, ReportFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	writeRun(t, dir, 90)
	html := readReport(t, dir)
	for _, want := range []string{"<title>demo &amp; &lt;b&gt;co&lt;/b&gt;: Broadside report</title>", "&lt;script&gt;alert(1)&lt;/script&gt;",
		"90.12%", "best 90.34%", "1h28m", "resnet20 on cifar10, seed 1, 2 × cpu avx2", "All 90 epochs as a table", "prefers-color-scheme: dark",
		`name="viewport"`, "eig: the top eigenvalue of the Hessian has fallen far enough", "duration: no growth", "gg: a milestone", "4,500,000", "replica 3", "87.65%"} {
		if !strings.Contains(html, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if n := strings.Count(html, "<svg "); n != 6 {
		t.Errorf("%d plots, want 6", n)
	}
	for _, title := range []string{"Loss", "Accuracy", "Batch size", "Learning rate", "Top eigenvalue of the Hessian", "Speed"} {
		if !strings.Contains(html, `aria-label="`+title+` over epochs"`) {
			t.Errorf("the plot of %s is missing", title)
		}
	}
	checkSelfContained(t, html)
}

// checkSelfContained holds the page to what it promises: no script, nothing from the network and no
// colour that the theme does not know.
func checkSelfContained(t *testing.T, html string) {
	t.Helper()
	for _, bad := range []string{"<script", "http:", "https:", "src=", "@import", "url(", "<link", "<?xml"} {
		if strings.Contains(html, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	for _, svg := range regexp.MustCompile(`(?s)<svg .*?</svg>`).FindAllString(html, -1) {
		if colour := regexp.MustCompile(`#[0-9A-Fa-f]{6}`).FindString(svg); colour != "" {
			t.Errorf("a plot has the fixed colour %s", colour)
		}
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("a plot is not well-formed: %v", err)
			}
		}
	}
}

func TestReportOfARunThatEndedEarly(t *testing.T) {
	dir := t.TempDir()
	writeRun(t, dir, 3)
	if html := readReport(t, dir); strings.Contains(html, "Ended early") {
		t.Error("the page says that the run has ended early")
	}
	appendAll(t, openLog(t, dir), Event{Type: TypeEarlyStop, Epoch: 3, Accuracy: ptr(0.5), Message: "it fell & fell"})
	if html := readReport(t, dir); !strings.Contains(html, "Ended early: it fell &amp; fell.") {
		t.Error("the page does not say why the run has ended early")
	}
}

func TestReportOfARunThatHasNotEnded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my-run")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir)
	appendAll(t, l, Event{Type: TypeStart})
	html := readReport(t, dir)
	for _, want := range []string{"<h1>my-run</h1>", "This run has not ended", "Nothing is recorded yet.", "The batch did not change."} {
		if !strings.Contains(html, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(html, "<svg") || strings.Contains(html, "<pre>") {
		t.Error("the page shows what is not there")
	}
	e := sampleEpoch(1)
	e.TrainLoss, e.LR = math.NaN(), math.NaN() // diverged in the first epoch
	if err := l.Epoch(e); err != nil {
		t.Fatal(err)
	}
	html = readReport(t, dir)
	if n := strings.Count(html, "<svg "); n != 3 { // accuracy, batch and speed have one point each
		t.Errorf("%d plots, want 3", n)
	}
	checkSelfContained(t, html)
}

func TestReportErrors(t *testing.T) {
	dir := t.TempDir()
	if err := Report(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder without events gives %v", err)
	}
	openLog(t, dir)
	if err := os.WriteFile(filepath.Join(dir, SummaryFile), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Report(dir); err == nil {
		t.Error("a damaged summary was accepted")
	}
	if _, err := os.Stat(filepath.Join(dir, ReportFile)); err == nil {
		t.Error("a failed report was written")
	}
}

func TestChartsOfOddValues(t *testing.T) {
	for name, ys := range map[string][]float64{
		"one": {1}, "flat": {3, 3, 3}, "zero": {0, 0}, "negative": {-5, 2}, "tiny": {1e-300, 2e-300}, "huge": {1e300, -1e300},
		"holes": {math.NaN(), 1, math.Inf(1), 2}, "wide": {1e-12, 1e12},
	} {
		for _, logarithmic := range []bool{false, true} {
			c := chart{title: name, unit: "u", log: logarithmic, series: []series{{name: "s"}}}
			for i, y := range ys {
				c.series[0].points = append(c.series[0].points, plotter.XY{X: float64(i), Y: y})
			}
			svg, err := inline(c)
			if err != nil {
				t.Errorf("%s, log %v: %v", name, logarithmic, err)
			}
			if strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "Inf") {
				t.Errorf("%s, log %v: the drawing has coordinates that are not numbers", name, logarithmic)
			}
			if empty := svg == ""; empty != (logarithmic && name == "zero") {
				t.Errorf("%s, log %v: %d bytes", name, logarithmic, len(svg))
			}
		}
	}
}

func TestTicks(t *testing.T) {
	labels := func(lo, hi float64, unit string) string {
		var out bytes.Buffer
		for _, k := range (chart{unit: unit}).logTicks(lo, hi) {
			out.WriteString(k.Label + " ")
		}
		return strings.TrimSpace(out.String())
	}
	for _, test := range []struct{ got, want string }{
		{labels(100, 1100, unitBatch), "128 256 512 1024"},
		{labels(100, 20000, unitBatch), "128 512 2048 8192"},
		{labels(0.009, 0.25, unitLR), "0.01 0.02 0.05 0.1 0.2"},
		{labels(0.0008, 0.25, unitLR), "0.001 0.01 0.1"},
		{labels(0.9e-7, 30, "density"), "1e-07 1e-05 0.001 0.1 10"},
	} {
		if test.got != test.want {
			t.Errorf("got %s, want %s", test.got, test.want)
		}
	}
	for _, span := range []float64{1, 2, 3, 10, 90, 1000} {
		for _, k := range wholeTicks(0.5, span) {
			if k.Value != math.Trunc(k.Value) {
				t.Errorf("up to %v epochs: tick at %v", span, k.Value)
			}
		}
	}
	if got := plainTicks(0, 1); len(got) != 6 || got[3].Label != "0.6" {
		t.Errorf("got %+v", got)
	}
}

// Updates that were left out are told of: when, and why.
func TestReportOfAnomalies(t *testing.T) {
	dir := t.TempDir()
	writeRun(t, dir, 2)
	if err := Report(dir); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(readReport(t, dir), "Anomalies") {
		t.Error("a run without anomalies tells of them")
	}
	appendAll(t, openLog(t, dir), Event{Type: TypeAnomaly, Epoch: 2, Updates: 1234, Trigger: "skip", Message: "the loss is NaN & <b>more</b>: update left out"})
	if err := Report(dir); err != nil {
		t.Fatal(err)
	}
	want := `<tr><td>2</td><td>1,234</td><td class="text">the loss is NaN &amp; &lt;b&gt;more&lt;/b&gt;: update left out</td></tr>`
	if html := readReport(t, dir); !strings.Contains(html, "<h2>Anomalies</h2>") || !strings.Contains(html, want) {
		t.Errorf("no %s", want)
	}
}
