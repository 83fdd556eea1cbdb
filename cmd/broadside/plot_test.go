package main

import (
	"strings"
	"testing"
)

// plottedNames are the names that the help lists for --y.
func plottedNames(t *testing.T) []string {
	_, rest, _ := strings.Cut(newPlot().Long, "--y takes ")
	list, _, found := strings.Cut(strings.ReplaceAll(rest, "(of training and test together)", ""), ", and the names")
	names := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
	if !found || len(names) != 13 {
		t.Fatalf("the help lists %q", names)
	}
	return names
}

func TestPlot(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "r")
	if out := must(t, "plot", "r"); out != "plot.png\n" || !strings.HasPrefix(read(t, "plot.png"), "\x89PNG\r\n") {
		t.Errorf("plot printed %q", out)
	}
	must(t, "train", "tiny.yaml", "--run", "s", "--set", "train.seed=2")
	must(t, "curvature", "s", "--samples", "16", "--iterations", "2", "--landscape", "--points", "3", "--dimensions", "2")
	must(t, "plot", "r", "s", "--y", "test_accuracy,landscape", "--x", "time", "--out", "two.svg")
	if svg := read(t, "two.svg"); !strings.Contains(svg, ">Test accuracy<") || !strings.Contains(svg, "<image preserveAspectRatio=") {
		t.Errorf("the plot is %.200q", svg)
	}
	for _, name := range plottedNames(t) {
		if r := broadside("plot", "s", "--y", name); r.status != 0 && !strings.Contains(r.errors, "none of the runs has it") {
			t.Errorf("the help names %s: %s", name, r.errors)
		}
	}
	must(t, "report", "s")
	if page := read(t, "s/report.html"); !strings.Contains(page, "Of the mean loss over 16 training samples after epoch 3, update 18") {
		t.Error("the report has no measurement")
	}
}
