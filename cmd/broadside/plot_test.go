package main

import (
	"strings"
	"testing"
)

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
	must(t, "report", "s")
	if page := read(t, "s/report.html"); !strings.Contains(page, "Of the mean loss over 16 training samples after epoch 3, update 18") {
		t.Error("the report has no measurement")
	}
}
