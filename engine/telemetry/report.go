package telemetry

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strings"
	"time"

	"broadside/engine/curvature"
	"broadside/engine/recipe"
)

//go:embed *.html.tmpl
var pageFiles embed.FS

// pages are the templates report.html.tmpl and compare.html.tmpl, and the style that they share.
var pages = template.Must(template.ParseFS(pageFiles, "*.html.tmpl"))

// Style is the style sheet that reports, comparisons and the dashboard share.
func Style() string {
	var out strings.Builder
	if err := pages.ExecuteTemplate(&out, "style", nil); err != nil {
		panic(err) // the template is part of the program
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(out.String()), "<style>"), "</style>")
}

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
	Hessian              *hessianPart
	Growths              []growth
	Phases               []phase
	Anomalies            []anomaly
	Stopped              string // why training has ended before its time
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
// its summary. The page needs no network and no script. It also writes the records as tables, epochs.csv
// and updates.csv.
func Report(runDir string) error {
	events, err := ReadEvents(filepath.Join(runDir, EventsFile))
	if err != nil {
		return fmt.Errorf("report of %s: %w", runDir, err)
	}
	text, err := recipe.ReadFile(filepath.Join(runDir, RecipeFile))
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
	if err == nil {
		p.Hessian, err = newHessianPart(runDir)
	}
	if err != nil {
		return fmt.Errorf("report of %s: %w", runDir, err)
	}
	p.Recipe = string(text)
	if err := writeTables(runDir, events); err != nil {
		return fmt.Errorf("report of %s: %w", runDir, err)
	}
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
	run := curves{name: s.Name}
	run.take(events)
	for _, e := range events {
		switch e.Type {
		case TypePhase:
			p.Phases = append(p.Phases, phase{e.Phase, fmt.Sprint(e.Epoch), grouped(int64(e.Updates)), fmt.Sprintf("%.2f%%", 100*e.accuracy())})
		case TypeAnomaly:
			p.Anomalies = append(p.Anomalies, anomaly{fmt.Sprint(e.Epoch), grouped(int64(e.Updates)), e.Message})
		case TypeEarlyStop:
			p.Stopped = e.Message
		case TypeGrowth:
			p.Growths = append(p.Growths, growth{fmt.Sprint(e.Epoch), grouped(int64(e.Updates)), grouped(int64(e.From)), grouped(int64(e.To)), triggerText(e.Trigger)})
		}
		p.When = e.Time.Format("2006-01-02 15:04 MST")
	}
	if ended {
		p.Subtitle = fmt.Sprintf("%s on %s, seed %d, %d × %s", s.Model, s.Data, s.Seed, s.Devices, s.Device)
		p.Facts = facts(s)
	}
	for _, e := range run.epochs {
		p.Epochs = append(p.Epochs, rowOf(e))
	}
	var err error
	p.Charts, err = drawings(charts(run), panel.heading)
	return p, err
}

// drawings draws the panels that are not empty.
func drawings(panels []panel, title func(panel) string) (out []drawing, err error) {
	for _, p := range panels {
		svg, err := inline(p)
		if err != nil {
			return nil, err
		}
		if svg != "" {
			out = append(out, drawing{title(p), svg})
		}
	}
	return out, nil
}

// hessianPart is what a page shows of the newest measurement of the Hessian.
type hessianPart struct {
	Problem string // why it cannot be shown
	What    string
	Values  []measured
	Charts  []drawing
}

type measured struct{ Name, Value, Note string }

// newHessianPart is the part for curvature.json; nil where there is none. A run's own report does not fail for it.
func newHessianPart(runDir string) (*hessianPart, error) {
	m, err := curvature.Read(filepath.Join(runDir, curvature.File))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return &hessianPart{Problem: err.Error()}, nil
	}
	h := &hessianPart{What: fmt.Sprintf("Of the mean loss over %s training samples after epoch %d, update %s, batch normalisation in %s mode: %s Hessian-vector products.",
		grouped(int64(m.Samples)), m.Epoch, grouped(int64(m.Updates)), m.BatchNorm, grouped(int64(m.HVPs)))}
	for i, e := range m.Eigenvalues {
		row := measured{fmt.Sprintf("eigenvalue %d", i+1), fmt.Sprintf("%.6g", e.Value), fmt.Sprintf("after %d iterations", e.Iterations)}
		if !e.Converged {
			row.Note += ", not converged"
		}
		h.Values = append(h.Values, row)
	}
	if t := m.Trace; t != nil {
		h.Values = append(h.Values, measured{"trace", fmt.Sprintf("%.6g", t.Mean), fmt.Sprintf("standard error %.2g, from %d probes", t.StandardError, len(t.Samples))})
	}
	runs := []curves{{hessian: m}}
	h.Charts, err = drawings(append([]panel{densityChart(runs)}, landscapePanels(runs)...), panel.heading)
	return h, err
}

// epochsOf are the records of the epochs.
func epochsOf(events []Event) (records []Epoch) {
	for _, e := range events {
		if e.Record != nil {
			records = append(records, *e.Record)
		}
	}
	return records
}

// Text says in words what happened, for events that are worth a line; "" for others, such as epochs.
func (e *Event) Text() string {
	switch e.Type {
	case TypeStart:
		return "started"
	case TypeEnd:
		return "ended"
	case TypeGrowth:
		return fmt.Sprintf("batch %s to %s (%s)", grouped(int64(e.From)), grouped(int64(e.To)), triggerText(e.Trigger))
	case TypeRate:
		return strings.TrimSuffix(fmt.Sprintf("learning rate times %.4g (%s)", e.LRScale, e.Trigger), " ()")
	case TypePhase:
		return fmt.Sprintf("end of %s: test accuracy %.2f%%", e.Phase, 100*e.accuracy())
	case TypeResume:
		return strings.TrimSuffix("resumed: "+e.Message, ": ")
	}
	return e.Message
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
	out := []fact{
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
	if s.DataWait != nil {
		out = append(out, fact{"Waiting for data", percent(s.DataWait), "of the time"})
	}
	return out
}

func rowOf(e Epoch) row {
	return row{fmt.Sprint(e.Epoch), grouped(int64(e.Updates)), fmt.Sprintf("%.4f", e.TrainLoss), percent(&e.TrainAccuracy),
		optional("%.4f", e.TestLoss, 1), percent(e.TestAccuracy), grouped(int64(e.Batch)), fmt.Sprintf("%.4g", e.LR),
		optional("%.4g", e.Eigenvalue, 1), fmt.Sprintf("%.0f", e.ImagesPerSecond)}
}

// charts are the run's curves.
func charts(run curves) (out []panel) {
	for _, name := range []string{"loss", "accuracy", "batch", "lr", "gradient_norm", "eigenvalue", "speed"} {
		q, _ := quantityOf(name, nil)
		out = append(out, q.chart(axes["epoch"], []curves{run}))
	}
	return out
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
