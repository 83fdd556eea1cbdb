package telemetry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The plot of a range test has a logarithmic axis of rates, both losses, and the suggestion; a loss far out of range
// does not squeeze the others.
func TestRangeTestFigure(t *testing.T) {
	r := RangeTest{Title: "Learning rates of x", Suggested: new(1e-3)}
	rate := 1e-5
	for i := range 50 {
		r.Rates, r.Losses, r.Smoothed = append(r.Rates, rate), append(r.Losses, 3-float64(i)/20), append(r.Smoothed, 3-float64(i)/25)
		rate *= 1.3
	}
	r.Losses[40] = 1e6
	path := filepath.Join(t.TempDir(), "a.svg")
	if err := r.Figure().Write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"#0B62B8", "#C2500B", "#0A7A55", "suggested: 0.001", ">0.0001<", ">0.001<", ">0.01<", ">2<", ">learning rate<", "Learning rates of x"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in the drawing", want)
		}
	}
	if err := (RangeTest{}).Figure().Write(filepath.Join(t.TempDir(), "b.svg")); err == nil || !strings.Contains(err.Error(), "nothing to plot") {
		t.Errorf("no points: %v", err)
	}
}
