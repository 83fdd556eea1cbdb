package telemetry

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"time"

	"gonum.org/v1/plot/plotter"
)

//go:embed *.html.tmpl
var pageFiles embed.FS

// pages are the templates report.html.tmpl and compare.html.tmpl, and the style that they share.
var pages = template.Must(template.ParseFS(pageFiles, "*.html.tmpl"))

// Units of the vertical axes.
const (
	unitBatch = "samples"
	unitLR    = "learning rate"
)

// page is what the template shows.
type page struct {
	Name, Subtitle, When string
	Facts                []fact
	Charts               []drawing
	Growths              []growth
	Phases               []phase
	Anomalies            []anomaly
	Epochs               []row
	Recipe               string
	Running              bool
}

type fact struct{ Name, Value, Note string }

type drawing struct {
	Title string
	SVG   template.HTML
}

type growth struct{ Epoch, Updates, From, To, Trigger string }

type phase struct{ Name, Epoch, Updates, Accuracy string }

type anomaly struct{ Epoch, Updates, What string }

type row struct{ Epoch, Updates, TrainLoss, TrainAccuracy, TestLoss, TestAccuracy, Batch, LR, Eigenvalue, Speed string }

// Report writes report.html of a run directory from its events, its recipe and, if the run has ended,
// its summary. The page needs no network and no script.
func Report(runDir string) error {
	events, err := ReadEvents(filepath.Join(runDir, EventsFile))
	if err != nil {
		return fmt.Errorf("report of %s: %w", runDir, err)
	}
	recipe, err := os.ReadFile(filepath.Join(runDir, RecipeFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("report of %s: %w", runDir, err)
	}
	summary, err := ReadSummary(runDir)
	ended := err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("report of %s: %w", runDir, err)
	}
	if summary.Name == "" {
		summary.Name = nameOf(runDir)
	}
	p, err := newPage(events, summary, ended)
	if err != nil {
		return fmt.Errorf("report of %s: %w", runDir, err)
	}
	p.Recipe = string(recipe)
	return writePage(filepath.Join(runDir, ReportFile), "report.html.tmpl", p)
}

// writePage fills in a template.
func writePage(path, name string, content any) error {
	var out bytes.Buffer
	if err := pages.ExecuteTemplate(&out, name, content); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return WriteFile(path, out.Bytes())
}

// nameOf names a run by its folder.
func nameOf(runDir string) string {
	if full, err := filepath.Abs(runDir); err == nil {
		return filepath.Base(full)
	}
	return filepath.Base(runDir)
}

func newPage(events []Event, s Summary, ended bool) (*page, error) {
	p := &page{Name: s.Name, Running: !ended}
	var records []Epoch
	for _, e := range events {
		switch e.Type {
		case TypeEpoch:
			records = append(records, *e.Record)
		case TypePhase:
			p.Phases = append(p.Phases, phase{e.Phase, fmt.Sprint(e.Epoch), grouped(int64(e.Updates)), fmt.Sprintf("%.2f%%", 100*e.accuracy())})
		case TypeAnomaly:
			p.Anomalies = append(p.Anomalies, anomaly{fmt.Sprint(e.Epoch), grouped(int64(e.Updates)), e.Message})
		case TypeGrowth:
			p.Growths = append(p.Growths, growth{fmt.Sprint(e.Epoch), grouped(int64(e.Updates)), grouped(int64(e.From)), grouped(int64(e.To)), triggerText(e.Trigger)})
		}
		p.When = e.Time.Format("2006-01-02 15:04 MST")
	}
	if ended {
		p.Subtitle = fmt.Sprintf("%s on %s, seed %d, %d × %s", s.Model, s.Data, s.Seed, s.Devices, s.Device)
		p.Facts = facts(s)
	}
	for _, e := range records {
		p.Epochs = append(p.Epochs, rowOf(e))
	}
	for _, c := range charts(records, events) {
		svg, err := c.svg()
		if err != nil {
			return nil, err
		}
		if svg != "" {
			p.Charts = append(p.Charts, drawing{c.title, svg})
		}
	}
	return p, nil
}

// triggerText says in words why a batch grew.
func triggerText(trigger string) string {
	switch trigger {
	case "eig":
		return "eig: the top eigenvalue of the Hessian has fallen far enough"
	case "duration":
		return "duration: no growth for as many epochs as the patience allows"
	case "gg":
		return "gg: a milestone of the learning-rate schedule"
	}
	return trigger
}

func facts(s Summary) []fact {
	return []fact{
		{"Test accuracy", percent(&s.TestAccuracy), "best " + percent(&s.BestTestAccuracy)},
		{"Test loss", fmt.Sprintf("%.4f", s.TestLoss), ""},
		{"Updates", grouped(int64(s.Updates)), fmt.Sprintf("in %d epochs", s.Epochs)},
		{"Final batch", grouped(int64(s.FinalBatch)), "samples"},
		{"Samples seen", grouped(s.SamplesSeen), ""},
		{"Gradient passes", grouped(s.GradPasses), "samples, attacks included"},
		{"Hessian-vector products", grouped(int64(s.HVPs)), ""},
		{"Training time", duration(time.Duration(s.WallSeconds * float64(time.Second))), ""},
		{"Speed", fmt.Sprintf("%.0f", s.ImagesPerSecond), "images per second"},
		{"Peak memory", fmt.Sprintf("%.0f", float64(s.PeakMemoryBytes)/(1<<20)), "MiB"},
	}
}

func rowOf(e Epoch) row {
	return row{fmt.Sprint(e.Epoch), grouped(int64(e.Updates)), fmt.Sprintf("%.4f", e.TrainLoss), percent(&e.TrainAccuracy),
		optional("%.4f", e.TestLoss, 1), percent(e.TestAccuracy), grouped(int64(e.Batch)), fmt.Sprintf("%.4g", e.LR),
		optional("%.4g", e.Eigenvalue, 1), fmt.Sprintf("%.0f", e.ImagesPerSecond)}
}

// charts picks the curves out of the records. Eigenvalues come from the probes, which know them even
// where no method puts them into an epoch's record.
func charts(records []Epoch, events []Event) []chart {
	curve := func(name string, steps bool, value func(e Epoch) *float64) series {
		s := series{name: name, steps: steps}
		for _, e := range records {
			if v := value(e); v != nil {
				s.points = append(s.points, plotter.XY{X: float64(e.Epoch), Y: *v})
			}
		}
		return s
	}
	eigen := series{name: "eigenvalue"}
	for _, e := range events {
		if e.Type == TypeProbe && e.Eigenvalue != nil {
			eigen.points = append(eigen.points, plotter.XY{X: float64(e.Epoch), Y: *e.Eigenvalue})
		}
	}
	if len(eigen.points) == 0 {
		eigen = curve("eigenvalue", false, func(e Epoch) *float64 { return e.Eigenvalue })
	}
	return []chart{
		{title: "Loss", legend: true, unit: "cross-entropy (nats)", zero: true, series: []series{
			curve("train", false, func(e Epoch) *float64 { return &e.TrainLoss }),
			curve("test", false, func(e Epoch) *float64 { return e.TestLoss })}},
		{title: "Accuracy", legend: true, unit: "correct (%)", series: []series{
			curve("train", false, func(e Epoch) *float64 { return scaled(&e.TrainAccuracy, 100) }),
			curve("test", false, func(e Epoch) *float64 { return scaled(e.TestAccuracy, 100) })}},
		{title: "Batch size", unit: unitBatch, log: true, series: []series{
			curve("batch", true, func(e Epoch) *float64 { b := float64(e.Batch); return &b })}},
		{title: "Learning rate", unit: unitLR, log: true, series: []series{
			curve("lr", true, func(e Epoch) *float64 { return &e.LR })}},
		{title: "Top eigenvalue of the Hessian", unit: "eigenvalue", zero: true, series: []series{eigen}},
		{title: "Speed", unit: "images/s", zero: true, series: []series{
			curve("speed", false, func(e Epoch) *float64 { return &e.ImagesPerSecond })}},
	}
}

func percent(v *float64) string { return optional("%.2f%%", v, 100) }

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	first := 0
	if n < 0 {
		first = 1
	}
	for i := len(s) - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
