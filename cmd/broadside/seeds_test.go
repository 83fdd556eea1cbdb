package main

import (
	"bytes"
	"context"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"

	"broadside/engine/sweep"
	"broadside/engine/telemetry"
)

var threeSeeds = []string{"train", "tiny.yaml", "--seeds", "1,2,3", "--run", "r", "--set", "train.epochs=2", "--set", "schedule={name: constant, at: []}",
	"--set", "data.augment=[pad_crop, flip]"}

// The runs are those that train makes of the recipe with each seed; mean and deviation are of their accuracies.
func TestSeeds(t *testing.T) {
	tinyFolder(t)
	alone := decode[telemetry.Summary](t, must(t, "train", "tiny.yaml", "--run", "alone", "--json", "--set", "train.seed=2", "--set", "train.epochs=2",
		"--set", "schedule={name: constant, at: []}", "--set", "data.augment=[pad_crop, flip]"))

	// Stopped in the second run, the same command goes on.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	log := &canceller{on: "run 2 of 3: r/seed-2", cancel: cancel}
	if status := run(ctx, threeSeeds, new(bytes.Buffer), log); status != exitInterrupted || !strings.Contains(log.String(), "the same command goes on") {
		t.Fatalf("status %d, %s", status, log.String())
	}
	out := must(t, threeSeeds...)
	line := `\d+\.\d\d% +\d+\.\d\d% +12 +\d+ +r/seed-`
	if !regexp.MustCompile(`^SEED +TEST ACCURACY .*\n1 +` + line + `1\n2 +` + line + `2\n3 +` + line + `3\n` +
		`test accuracy \d+\.\d\d% ± \d+\.\d\d \(best .*\), mean and standard deviation over 3 seeds\n$`).MatchString(out) {
		t.Errorf("printed\n%s", out)
	}
	before := contents(t)
	got := decode[swept](t, must(t, append(threeSeeds, "--json")...))
	if contents(t) != before {
		t.Error("seeds that are done changed files")
	}
	mean, square := 0., 0.
	for i, r := range got.Runs {
		if r.State != sweep.Done || r.Seed != uint64(i+1) || r.Summary.Seed != r.Seed {
			t.Errorf("run %d: %+v", i, r)
		}
		mean += r.Summary.TestAccuracy / 3
	}
	for _, r := range got.Runs {
		square += (r.Summary.TestAccuracy - mean) * (r.Summary.TestAccuracy - mean)
	}
	if a := got.Points[0].Accuracy; len(got.Points) != 1 || math.Abs(a.Mean-mean) > 1e-12 || math.Abs(*a.Deviation-math.Sqrt(square/2)) > 1e-12 {
		t.Errorf("points %+v; want a mean of %g", got.Points, mean)
	}
	if s := got.Runs[1].Summary; s.TestLoss != alone.TestLoss {
		t.Errorf("seed 2 came to a loss of %g; alone to %g", s.TestLoss, alone.TestLoss)
	}
	if got.Runs[0].Summary.TestLoss == got.Runs[1].Summary.TestLoss {
		t.Error("two seeds came to the same loss")
	}
}

func TestSeedsOverDivergence(t *testing.T) {
	tinyFolder(t)
	r := broadside("train", "tiny.yaml", "--seeds", "1,2", "--set", "optimizer.lr=1e30", "--set", "model.name=c1")
	if r.status != 0 || !strings.HasPrefix(r.errors, "run 1 of 2: runs/tiny-seeds/seed-1\n") || !regexp.MustCompile(`\n1 +diverged .*\n2 +diverged .*\nno run is done; 2 diverged\n$`).MatchString(r.out) {
		t.Errorf("status %d, %s%s", r.status, r.errors, r.out)
	}
	if _, err := os.Stat("runs/tiny-seeds/seed-2/recipe.yaml"); err != nil {
		t.Error(err)
	}
}

func TestSeedMistakes(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "r/seed-2", "--set", "train.epochs=1", "--set", "schedule={name: constant, at: []}")
	refused(t, []mistake{
		{"no recipe", "train --seeds 1,2", exitUsage, []string{"--seeds needs a recipe"}},
		{"not a number", "train tiny.yaml --seeds one", exitUsage, []string{"--seeds", "whole numbers"}},
		{"twice", "train tiny.yaml --seeds 1,1 --run new", exitFailure, []string{"--seeds: 1 is listed twice"}},
		{"by --set too", "train tiny.yaml --seeds 1,2 --run new --set train.seed=3", exitFailure, []string{"--set train.seed=3", "given by --seeds"}},
		{"a value", "train tiny.yaml --seeds 1,2 --run new --set batch.size=24", exitFailure, []string{"batch.size 24"}},
		{"no value", "train tiny.yaml --seeds 1,2 --run new --set batch.size", exitFailure, []string{"--set batch.size", "key=value"}},
		{"another recipe's runs", "train tiny.yaml --seeds 2 --run r", exitFailure, []string{"r/seed-2", "must not change"}},
	})
}
