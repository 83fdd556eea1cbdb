package main

import (
	"encoding/csv"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"broadside/engine"
)

func TestLRFind(t *testing.T) {
	tinyFolder(t)
	args := []string{"lr-find", "tiny.yaml", "--updates", "12", "--smoothing", "0.5", "--set", "methods.absa.max_batch=64"}
	before := contents(t)
	out := must(t, append(args, "--json")...)
	if contents(t) != before {
		t.Error("--json alone changed files")
	}
	found := decode[engine.LRFind](t, out)
	if len(found.Points) != 12 || found.Points[0].LR != 1e-5 || found.Batch != 16 || found.Suggested == nil || !strings.Contains(out, `"suggested_lr"`) {
		t.Fatalf("found %+v", found)
	}
	text := must(t, append(args, "--plot", "p.png", "--csv", "rates.csv", "--devices", "1")...)
	rate := fmt.Sprintf("%.3g", *found.Suggested)
	want := `^left out: .* methods: absa\n12 updates of 16 samples, learning rates from 1e-05 to 10\nsuggested learning rate: ` + regexp.QuoteMeta(rate) +
		`, where .*\n  broadside train tiny.yaml --set optimizer.lr=` + regexp.QuoteMeta(rate) + `\np.png\n$`
	if !regexp.MustCompile(want).MatchString(text) {
		t.Errorf("printed %q; want %s", text, want)
	}
	if !strings.HasPrefix(read(t, "p.png"), "\x89PNG") {
		t.Error("the plot is no PNG")
	}
	checkRates(t, "rates.csv", found.Points)
	must(t, "train", "tiny.yaml", "--set", "optimizer.lr="+rate, "--run", "r", "--set", "train.epochs=1", "--set", "schedule={name: constant, at: []}")

	must(t, args...)
	if !strings.Contains(read(t, "lr-find.svg"), "Learning rates of tiny, batch 16") {
		t.Error("the plot has no title")
	}
	if strings.Contains(before, "runs") || strings.Contains(contents(t), "\nruns") {
		t.Error("the test made a run")
	}
}

// checkRates reads the table back: it has every bit.
func checkRates(t *testing.T, path string, points []engine.LRPoint) {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(read(t, path))).ReadAll()
	if err != nil || len(rows) != len(points)+1 || strings.Join(rows[0], " ") != "lr loss smoothed_loss" {
		t.Fatalf("rows %v, %v", rows, err)
	}
	for i, p := range points {
		for j, want := range []float64{p.LR, p.Loss, p.Smoothed} {
			if got, err := strconv.ParseFloat(rows[i+1][j], 64); err != nil || got != want {
				t.Errorf("row %d has %s; want %v", i, rows[i+1][j], want)
			}
		}
	}
}

// A loss that never falls gives no suggestion, and says so.
func TestLRFindWithoutASuggestion(t *testing.T) {
	tinyFolder(t)
	out := must(t, "lr-find", "tiny.yaml", "--from", "1e3", "--to", "1e30", "--updates", "10", "--smoothing", "0", "--set", "model.name=c1", "--plot", "")
	if !strings.Contains(out, "stopped early: the loss ") || !strings.Contains(out, "no suggestion: the loss never falls") {
		t.Errorf("printed %q", out)
	}
	if _, err := os.Stat("lr-find.svg"); err == nil {
		t.Error("a plot was drawn")
	}
}

func TestLRFindMistakes(t *testing.T) {
	tinyFolder(t)
	refused(t, []mistake{
		{"no recipe", "lr-find", exitUsage, []string{"0 arguments", "lr-find RECIPE"}},
		{"rate of 0", "lr-find tiny.yaml --from 0", exitUsage, []string{"--from 0", "above 0"}},
		{"falling rates", "lr-find tiny.yaml --from 1 --to 0.1", exitUsage, []string{"--to 0.1", "above --from 1"}},
		{"rates without end", "lr-find tiny.yaml --to inf", exitUsage, []string{"--to +Inf", "at most 1e30"}},
		{"few updates", "lr-find tiny.yaml --updates 9", exitUsage, []string{"--updates 9", "at least 10"}},
		{"smoothing", "lr-find tiny.yaml --smoothing 1", exitUsage, []string{"--smoothing 1", "below 1"}},
		{"diverge", "lr-find tiny.yaml --diverge 1", exitUsage, []string{"--diverge 1", "above 1"}},
		{"plot", "lr-find tiny.yaml --plot p.jpg", exitUsage, []string{"--plot: p.jpg", ".png or .svg"}},
		{"folder of the plot", "lr-find tiny.yaml --plot no/p.svg", exitFailure, []string{"no", "no such file"}},
		{"folder of the table", "lr-find tiny.yaml --csv no/p.csv", exitFailure, []string{"no", "no such file"}},
		{"key", "lr-find tiny.yaml --set batch.sise=3", exitFailure, []string{"batch.sise", "did you mean batch.size?"}},
		{"batch larger than the data", "lr-find tiny.yaml --set batch.size=304", exitFailure, []string{"batch.size 304", "never update"}},
	})
}
