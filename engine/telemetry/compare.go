package telemetry

import (
	"errors"
	"fmt"
	"html/template"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"broadside/engine/recipe"
)

// Comparison is several runs side by side.
type Comparison struct {
	Runs []ComparedRun `json:"runs"`
	// Differences are the recipe's keys in which the runs differ.
	Differences []Difference `json:"recipe_differences"`
}

// ComparedRun is a run of a comparison. The summary of a run that has not ended is what its events tell.
type ComparedRun struct {
	Name    string  `json:"name"` // unique in the comparison
	Path    string  `json:"path"`
	Ended   bool    `json:"ended"`
	Summary Summary `json:"summary"`

	curves curves
	recipe map[string]string
}

// Difference is a key of the recipe and its value in every run; "" where a run has no such key.
type Difference struct {
	Key    string   `json:"key"`
	Values []string `json:"values"`
}

// Compare reads run directories. Their order is kept.
func Compare(runDirs []string) (*Comparison, error) {
	c := &Comparison{}
	for _, dir := range runDirs {
		r, err := readCompared(dir)
		if err != nil {
			return nil, fmt.Errorf("comparing %s: %w", dir, err)
		}
		c.Runs = append(c.Runs, r)
	}
	c.name()
	var recipes []map[string]string
	for _, r := range c.Runs {
		recipes = append(recipes, r.recipe)
	}
	c.Differences = Differences(recipes)
	return c, nil
}

func readCompared(dir string) (ComparedRun, error) {
	r := ComparedRun{Path: dir, Name: nameOf(dir), recipe: map[string]string{}}
	var err error
	if r.curves, err = readCurves(dir); err != nil {
		return r, err
	}
	switch r.Summary, err = ReadSummary(dir); {
	case err == nil:
		r.Ended = true
	case errors.Is(err, os.ErrNotExist):
		r.Summary = summaryOf(r.curves.epochs)
	default:
		return r, err
	}
	return r, r.readRecipe()
}

// summaryOf sums up the epochs of a run that has not ended.
func summaryOf(epochs []Epoch) Summary {
	s := NewSummary()
	for _, e := range epochs {
		s.Add(e)
	}
	return s
}

// NewSummary is the summary of a run that has done nothing yet.
func NewSummary() Summary {
	return Summary{TestAccuracy: math.NaN(), BestTestAccuracy: math.NaN(), TestLoss: math.NaN(), ImagesPerSecond: math.NaN()}
}

// Add takes in the next epoch of a run that has not ended.
func (s *Summary) Add(e Epoch) {
	s.Epochs, s.Updates, s.SamplesSeen, s.GradPasses = e.Epoch, e.Updates, e.SamplesSeen, e.GradPasses
	s.HVPs, s.FinalBatch, s.WallSeconds, s.ImagesPerSecond = e.HVPs, e.Batch, e.WallSeconds, e.ImagesPerSecond
	if e.TestAccuracy != nil {
		s.TestAccuracy = *e.TestAccuracy
		if !(s.BestTestAccuracy >= s.TestAccuracy) {
			s.BestTestAccuracy = s.TestAccuracy
		}
	}
	if e.TestLoss != nil {
		s.TestLoss = *e.TestLoss
	}
}

// readRecipe flattens the run's recipe to dotted keys.
func (r *ComparedRun) readRecipe() error {
	path := filepath.Join(r.Path, RecipeFile)
	text, err := recipe.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if r.recipe, err = FlatRecipe(text); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// FlatRecipe reads a run's recipe.yaml, of this version or another, as values by dotted keys.
func FlatRecipe(text []byte) (map[string]string, error) {
	tree, err := recipe.Values(RecipeFile, text)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	flatten(out, "", tree)
	return out, nil
}

// RecipeDifferences returns the keys in which resolved recipes differ, their names aside.
func RecipeDifferences(texts ...[]byte) ([]Difference, error) {
	var recipes []map[string]string
	for _, text := range texts {
		r, err := FlatRecipe(text)
		if err != nil {
			return nil, err
		}
		recipes = append(recipes, r)
	}
	return Differences(recipes), nil
}

// flatten writes a tree's leaves by their dotted keys. A list of mappings, as of methods, counts as one mapping.
func flatten(out map[string]string, key string, tree any) {
	switch v := tree.(type) {
	case map[string]any:
		if len(v) == 0 {
			out[key] = "on"
		}
		for k, child := range v {
			flatten(out, strings.TrimPrefix(key+"."+k, "."), child)
		}
	case []any:
		var items []string
		for _, item := range v {
			if m, ok := item.(map[string]any); ok {
				flatten(out, key, m)
				continue
			}
			items = append(items, fmt.Sprint(item))
		}
		if len(items) > 0 {
			out[key] = strings.Join(items, ", ")
		}
	case nil:
	default:
		out[key] = fmt.Sprint(v)
	}
}

// name gives runs of the same name their paths instead.
func (c *Comparison) name() {
	count := map[string]int{}
	for _, r := range c.Runs {
		count[r.Name]++
	}
	for i, r := range c.Runs {
		if count[r.Name] > 1 {
			c.Runs[i].Name = r.Path
		}
		c.Runs[i].curves.name = c.Runs[i].Name
	}
}

// Differences are the keys in which flat recipes differ, but for the name.
func Differences(recipes []map[string]string) (out []Difference) {
	keys := map[string]bool{}
	for _, r := range recipes {
		for k := range r {
			keys[k] = true
		}
	}
	delete(keys, "name")
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		d := Difference{Key: k}
		same := true
		for _, r := range recipes {
			d.Values = append(d.Values, r[k])
			same = same && r[k] == recipes[0][k]
		}
		if !same {
			out = append(out, d)
		}
	}
	return out
}

// comparePage is what compare.html.tmpl shows.
type comparePage struct {
	Runs        []compareRow
	Charts      []drawing
	Differences []Difference
	When        string
}

type compareRow struct {
	Name, Note                                                                   string
	Swatch                                                                       template.HTML
	Accuracy, Best, Loss, Updates, Samples, GradPasses, HVPs, Batch, Time, Speed string
	Top, Fewest                                                                  bool
}

// WritePage writes the comparison as an HTML page that needs no network and no script.
func (c *Comparison) WritePage(path string) error {
	p := comparePage{Differences: c.Differences, When: time.Now().Format("2006-01-02 15:04 MST")}
	for i, r := range c.Runs {
		p.Runs = append(p.Runs, c.row(i, r))
	}
	var err error
	if p.Charts, err = drawings(c.panels(), panel.caption); err != nil {
		return err
	}
	return writePage(path, "compare.html.tmpl", p)
}

func (c *Comparison) row(i int, r ComparedRun) compareRow {
	s := r.Summary
	row := compareRow{Name: r.Name, Swatch: swatch(i), Accuracy: number(100*s.TestAccuracy, "%.2f%%"), Best: number(100*s.BestTestAccuracy, "%.2f%%"),
		Loss: number(s.TestLoss, "%.4f"), Updates: grouped(int64(s.Updates)), Samples: grouped(s.SamplesSeen), GradPasses: grouped(s.GradPasses),
		HVPs: grouped(int64(s.HVPs)), Batch: grouped(int64(s.FinalBatch)), Time: duration(time.Duration(s.WallSeconds * float64(time.Second))),
		Speed: number(s.ImagesPerSecond, "%.0f")}
	if !r.Ended {
		row.Note = "has not ended"
	}
	row.Top, row.Fewest = true, true
	for _, other := range c.Runs {
		row.Top = row.Top && !(other.Summary.TestAccuracy > s.TestAccuracy)
		row.Fewest = row.Fewest && other.Summary.Updates >= s.Updates
	}
	row.Top = row.Top && !math.IsNaN(s.TestAccuracy)
	return row
}

// number writes a value, or nothing where there is none.
func number(v float64, format string) string {
	if math.IsNaN(v) {
		return ""
	}
	return fmt.Sprintf(format, v)
}

// swatch draws the line that a run has in every chart.
func swatch(index int) template.HTML {
	dashes := ""
	for _, d := range seriesDashes(index) {
		dashes += fmt.Sprintf("%g ", float64(d))
	}
	return template.HTML(fmt.Sprintf(`<svg class="swatch" viewBox="0 0 28 8" aria-hidden="true"><line x1="0" y1="4" x2="28" y2="4" stroke="var(--%s)" stroke-width="2.5" stroke-dasharray="%s"/></svg>`,
		seriesNames[index%len(seriesNames)], strings.TrimSpace(dashes)))
}

// panels overlay the runs' curves: over epochs, and the accuracy over updates and time too.
func (c *Comparison) panels() []panel {
	runs := make([]curves, len(c.Runs))
	for i, r := range c.Runs {
		runs[i] = r.curves
	}
	over := func(x axis, names ...string) (out []panel) {
		for _, name := range names {
			q, _ := quantityOf(name, runs)
			out = append(out, q.chart(x, runs))
		}
		return out
	}
	out := over(axes["epoch"], "test_accuracy")
	out = append(out, over(axes["updates"], "test_accuracy")...)
	out = append(out, over(axes["time"], "test_accuracy")...)
	out = append(out, over(axes["epoch"], "train_loss", "test_loss", "batch", "lr", "eigenvalue")...)
	return append(out, densityChart(runs))
}

// scaled multiplies a value that may be absent.
func scaled(v *float64, by float64) *float64 {
	if v == nil {
		return nil
	}
	return new(by * *v)
}
