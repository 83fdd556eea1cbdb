package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"broadside/engine/sweep"
	"broadside/engine/telemetry"
)

// swept is what sweep prints as JSON.
type swept struct {
	Runs   []sweep.Run
	Points []sweep.Point
}

// smallGrid is a sweep of two batch sizes and two seeds over the tiny recipe, a single epoch each.
var smallGrid = []string{"sweep", "tiny.yaml", "--set", "batch.size=16,32", "--set", "train.epochs=1", "--set", "schedule={name: constant, at: []}",
	"--seeds", "1,2", "--run", "grid"}

func TestSweep(t *testing.T) {
	tinyFolder(t)
	before := contents(t)
	if out := must(t, append(smallGrid, "--dry-run")...); strings.Count(out, "waiting") != 4 || !strings.Contains(out, "grid/batch.size=16,train.seed=1 ") {
		t.Errorf("the dry run printed %q", out)
	}
	if contents(t) != before {
		t.Error("the dry run changed files")
	}

	// A run trained by itself is taken over, one that was stopped goes on: both as the sweep would have made them.
	alone := []string{"train", "tiny.yaml", "--set", "train.epochs=1", "--set", "schedule={name: constant, at: []}"}
	must(t, append(alone, "--set", "train.seed=2", "--run", "grid/batch.size=16,train.seed=2")...)
	stopped := "grid/batch.size=32,train.seed=1"
	must(t, append(alone, "--set", "batch.size=32", "--run", stopped)...)
	want := decode[telemetry.Summary](t, read(t, stopped+"/summary.json"))
	if err := os.Remove(stopped + "/summary.json"); err != nil {
		t.Fatal(err)
	}
	if out := must(t, append(smallGrid, "--dry-run")...); !regexp.MustCompile(`seed=1 +waiting\n.*seed=2 +done\n.*seed=1 +begun\n.*seed=2 +waiting\n`).MatchString(out) {
		t.Errorf("the dry run printed %q", out)
	}

	r := broadside(append(smallGrid, "--json")...)
	got := decode[swept](t, r.out)
	if strings.Count(r.errors, "run ") != 3 || strings.Contains(r.errors, "run 2 of 4") {
		t.Errorf("the sweep trained again what was done: %s", r.errors)
	}
	for i, updates := range []int{6, 6, 3, 3} {
		if run := got.Runs[i]; run.State != sweep.Done || run.Summary.Updates != updates || run.Summary.Seed != uint64(1+i%2) || run.Median != run.Summary.TestAccuracy {
			t.Errorf("run %d: %+v", i, run)
		}
	}
	if s := got.Runs[2].Summary; s.TestLoss != want.TestLoss {
		t.Errorf("the stopped run came to a loss of %g; it had %g", s.TestLoss, want.TestLoss)
	}
	if p := got.Points; len(p) != 2 || p[0].Done != 2 || p[1].Updates.Mean != 3 || p[0].Accuracy.Deviation == nil ||
		p[0].Accuracy.Mean != (got.Runs[0].Summary.TestAccuracy+got.Runs[1].Summary.TestAccuracy)/2 {
		t.Errorf("points %+v", p)
	}

	before = contents(t)
	out := must(t, smallGrid...)
	if !regexp.MustCompile(`^batch\.size +TEST ACCURACY .*\n16 +\d+\.\d\d% ± \d+\.\d\d .* 6 +\d+ +2 done\n32 .* 3 +\d+ +2 done\n$`).MatchString(out) {
		t.Errorf("the table is\n%s", out)
	}
	if contents(t) != before {
		t.Error("a sweep that is done changed files")
	}
}

// A run that diverges is noted, the others are trained, and it is not tried again.
func TestSweepOverDivergence(t *testing.T) {
	tinyFolder(t)
	args := []string{"sweep", "tiny.yaml", "--set", "optimizer.lr=1e30,0.01", "--set", "train.epochs=1", "--set", "schedule={name: constant, at: []}",
		"--set", "model.name=c1", "--run", "grid"}
	for range 2 {
		out := must(t, args...)
		if !regexp.MustCompile(`\n1e30 +- .* 0 done, 1 diverged\n0\.01 +\d.* 1 done\n$`).MatchString(out) {
			t.Errorf("the table is\n%s", out)
		}
	}
	if got := decode[swept](t, must(t, append(args, "--json")...)); got.Runs[0].State != sweep.Diverged || !strings.Contains(got.Runs[0].Error, "diverged") {
		t.Errorf("run %+v", got.Runs[0])
	}
}

func TestInterruptedSweep(t *testing.T) {
	tinyFolder(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var out bytes.Buffer
	log := &canceller{on: "run 2 of 4", cancel: cancel}
	if status := run(ctx, smallGrid, &out, log); status != exitInterrupted || !strings.Contains(log.String(), "the same command goes on") {
		t.Fatalf("status %d, %s", status, log.String())
	}
	if out := must(t, smallGrid...); strings.Count(out, "2 done") != 2 {
		t.Errorf("the table is\n%s", out)
	}
}

// Every recipe of a grid is checked before one is trained.
func TestSweepMistakes(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "grid/run")
	grid := "sweep tiny.yaml --run new "
	refused(t, []mistake{
		{"no recipe", "sweep", exitUsage, []string{"0 arguments", "RECIPE"}},
		{"no value", grid + "--set batch.size", exitUsage, []string{"--set batch.size", "key=value"}},
		{"seeds", grid + "--seeds one", exitUsage, []string{"--seeds", "whole numbers"}},
		{"twice", grid + "--set train.epochs=1,1", exitUsage, []string{"train.epochs", "1 is listed twice"}},
		{"key twice", grid + "--set train.epochs=1 --set train.epochs=2", exitFailure, []string{"train.epochs is swept twice"}},
		{"no such recipe", "sweep quickstar --run new", exitFailure, []string{"quickstar", "did you mean quickstart?"}},
		{"a key of the grid", grid + "--set train.epoch=1 --set batch.size=16", exitFailure, []string{"train.epoch", "did you mean train.epochs?"}},
		{"the last value", grid + "--set batch.size=16,32,24", exitFailure, []string{"batch.size=24", "not a multiple of batch.leaf 16"}},
		{"a method's option", grid + "--set methods.absa.max_batch=64,40 --set methods.absa.probe_samples=32", exitFailure, []string{"max_batch=40", "multiple of batch.leaf (16)"}},
		{"a model that does not fit", grid + "--set model.name=resnet8,c2", exitFailure, []string{"model.name=c2", "8x8x1"}},
		{"ghosts of one", grid + "--set batch.ghost=8,1 --set model.name=f1", exitFailure, []string{"batch.ghost=1", "no variance"}},
		{"data", grid + "--set data.path=data,none", exitFailure, []string{"data.path=none", "none"}},
		{"another recipe's runs", "sweep tiny.yaml --run grid --set optimizer.lr=0.5", exitFailure, []string{"grid/run", "lr: 0.5", "must not change"}},
	})
}
