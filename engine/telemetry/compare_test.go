package telemetry

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// comparedRuns makes runs of the given numbers of epochs and compares them.
func comparedRuns(t *testing.T, recipes []string, epochs ...int) *Comparison {
	t.Helper()
	root := t.TempDir()
	var dirs []string
	for i, n := range epochs {
		dir := filepath.Join(root, string(rune('a'+i)))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		writeRun(t, dir, n)
		if err := os.WriteFile(filepath.Join(dir, RecipeFile), []byte(recipes[i%len(recipes)]), 0o644); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	c, err := Compare(dirs)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCompare(t *testing.T) {
	recipes := []string{
		"name: a\nbatch: {size: 128}\nschedule: {at: [30, 60]}\nmethods: []\n",
		"name: b\nbatch: {size: 256}\nschedule: {at: [30, 60]}\nmethods:\n  - absa: {max_batch: 1024}\n  - clip: {}\n",
	}
	c := comparedRuns(t, recipes, 90, 40)
	want := []Difference{{"batch.size", []string{"128", "256"}}, {"methods.absa.max_batch", []string{"", "1024"}}, {"methods.clip", []string{"", "on"}}}
	if !slices.EqualFunc(c.Differences, want, func(a, b Difference) bool { return a.Key == b.Key && slices.Equal(a.Values, b.Values) }) {
		t.Errorf("differences %+v; want %+v", c.Differences, want)
	}
	path := filepath.Join(t.TempDir(), "compare.html")
	if err := c.WritePage(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	html := string(text)
	if n := strings.Count(html, `role="img"`); n != 8 {
		t.Errorf("%d plots, want 8", n)
	}
	for _, want := range []string{"2 runs compared", `aria-label="Test accuracy over updates"`, "methods.absa.max_batch", "4,950,000", "var(--second)"} {
		if !strings.Contains(html, want) {
			t.Errorf("%q is missing", want)
		}
	}
	checkSelfContained(t, html)
}

// A run that has not ended is compared by what its events tell; runs of one name by their paths.
func TestCompareUnendedAndNames(t *testing.T) {
	c := comparedRuns(t, []string{"name: a\n"}, 10, 20)
	first, second := c.Runs[0].Path, filepath.Join(t.TempDir(), filepath.Base(c.Runs[0].Path))
	if err := os.CopyFS(second, os.DirFS(first)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(second, SummaryFile)); err != nil {
		t.Fatal(err)
	}
	c, err := Compare([]string{first, second})
	if err != nil {
		t.Fatal(err)
	}
	if c.Runs[0].Name != first || c.Runs[1].Name != second {
		t.Errorf("names %q and %q; want the paths", c.Runs[0].Name, c.Runs[1].Name)
	}
	last := c.Runs[1].curves.epochs[len(c.Runs[1].curves.epochs)-1]
	if s := c.Runs[1].Summary; c.Runs[1].Ended || s.Updates != last.Updates || s.TestAccuracy != *last.TestAccuracy || s.BestTestAccuracy < s.TestAccuracy {
		t.Errorf("a run that has not ended: %+v; its last epoch %+v", s, last)
	}
	raw, err := json.Marshal(c)
	if err != nil || !strings.Contains(string(raw), `"test_accuracy"`) || !strings.Contains(string(raw), `"recipe_differences"`) {
		t.Errorf("as JSON: %s, %v", raw, err)
	}
}

// No two of many runs have the same line.
func TestLinesDiffer(t *testing.T) {
	seen := map[string]int{}
	for i := range 4 * len(seriesNames) {
		s := string(swatch(i))
		if other, ok := seen[s]; ok {
			t.Errorf("runs %d and %d have the same line, %s", other, i, s)
		}
		seen[s] = i
	}
}

func TestCompareErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Compare([]string{dir}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder without a run gives %v", err)
	}
	writeRun(t, dir, 3)
	if err := os.WriteFile(filepath.Join(dir, RecipeFile), []byte("a: [1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Compare([]string{dir}); err == nil || !strings.Contains(err.Error(), RecipeFile) {
		t.Errorf("a broken recipe gives %v", err)
	}
}

func TestFlatRecipe(t *testing.T) {
	flat, err := FlatRecipe([]byte("a: 1\nb: {c: [1, x], d: {}}\ne: null\nmethods:\n  - absa: {n: 2}\n  - clip: {}\n"))
	if want := "map[a:1 b.c:1, x b.d:on methods.absa.n:2 methods.clip:on]"; err != nil || fmt.Sprint(flat) != want {
		t.Errorf("%v, %v; want %s", flat, err, want)
	}
	if flat, err := FlatRecipe(nil); err != nil || len(flat) != 0 {
		t.Errorf("of nothing: %v, %v", flat, err)
	}
	deep, many := strings.Repeat("[", 1<<20), strings.Repeat("a: [1]\n", 5000)
	for _, text := range []string{"a: &x [1]\nb: *x\n", "a: [", "\ta: 1", "a: 1\n---\nb: 2\n", deep, many} {
		if flat, err := FlatRecipe([]byte(text)); err == nil {
			t.Errorf("%.50q is taken for %.50v", text, flat)
		}
	}
}

func FuzzFlatRecipe(f *testing.F) {
	f.Add([]byte("a: 1\nb: {c: [1, x], d: {}}\ne: null\nmethods:\n  - absa: {n: 2}\n"))
	f.Add([]byte("a: &x [1]\nb: *x\n---\n? [c]\n: |\n  d\n"))
	f.Fuzz(func(t *testing.T, text []byte) { FlatRecipe(text) })
}
