package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"broadside/engine"
	"broadside/engine/checkpoint"
	"broadside/engine/telemetry"
)

const bestFile = "/checkpoints/best.safetensors"

// bumpy is a run whose last epoch is not its best one, whatever the last bits of its sums: it learns for four epochs,
// and a learning rate of 10 then leaves a network that guesses.
var bumpy = []string{"train", "tiny.yaml", "--set", "optimizer.lr=0.1", "--set", "schedule={name: step, at: [4], factor: 100}", "--set", "train.epochs=6",
	"--set", "checkpoint.best=true", "--set", "checkpoint.keep=3"}

// bestOf returns the best checkpoint of a run and the epoch that it is of.
func bestOf(t *testing.T, run string) (ck *checkpoint.Checkpoint, epoch int) {
	t.Helper()
	ck, err := checkpoint.Read(run + bestFile)
	if err != nil {
		t.Fatal(err)
	}
	var at struct{ Epoch int }
	if err := json.Unmarshal([]byte(ck.Meta["broadside.progress"]), &at); err != nil {
		t.Fatal(err)
	}
	return ck, at.Epoch
}

// The best checkpoint is of the first epoch with the best test accuracy, and evaluates to it.
func TestBestCheckpoint(t *testing.T) {
	tinyFolder(t)
	summary := decode[telemetry.Summary](t, must(t, append(bumpy, "--run", "r", "--json")...))
	events, err := telemetry.ReadEvents("r/events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, e := range events {
		if e.Record != nil && *e.Record.TestAccuracy == summary.BestTestAccuracy && want == 0 {
			want = e.Record.Epoch
		}
	}
	if want == 6 || summary.BestTestAccuracy == summary.TestAccuracy {
		t.Fatalf("the run is no test: its last epoch is the best one, %+v", summary)
	}
	if _, epoch := bestOf(t, "r"); epoch != want {
		t.Errorf("the best checkpoint is of epoch %d; want %d", epoch, want)
	}
	if e := decode[engine.Evaluation](t, must(t, "eval", "r", "--best", "--json")); e.Accuracy != summary.BestTestAccuracy {
		t.Errorf("eval --best: %+v; want an accuracy of %g", e, summary.BestTestAccuracy)
	}
	if e := decode[engine.Evaluation](t, must(t, "eval", "r", "--json")); e.Accuracy != summary.TestAccuracy {
		t.Errorf("eval: %+v; want an accuracy of %g", e, summary.TestAccuracy)
	}
	must(t, "curvature", "r", "--best", "--samples", "16", "--iterations", "1")
	if out := must(t, "eval", "r"+bestFile); !strings.HasPrefix(out, "test accuracy ") {
		t.Errorf("eval of the file printed %q", out)
	}
}

// A run that is stopped in any epoch and resumed keeps the same best checkpoint, also when the stop left one of a later
// update than it resumes from.
func TestBestCheckpointAfterResume(t *testing.T) {
	tinyFolder(t)
	must(t, append(bumpy, "--run", "whole")...)
	want, epoch := bestOf(t, "whole")
	for _, after := range []string{"epoch=1", "epoch=2", "epoch=3", "epoch=4"} {
		dir := "half-" + after
		ctx, cancel := context.WithCancel(context.Background())
		log := &canceller{on: after + " ", cancel: cancel}
		if status := run(ctx, append(bumpy, "--run", dir), new(bytes.Buffer), log); status != exitInterrupted {
			t.Fatalf("status %d, %s", status, log.String())
		}
		cancel()
		// What a process leaves that is killed while it writes, after its newest checkpoint.
		found, err := checkpoint.Dir(dir + "/checkpoints").Latest()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(found.Path); err != nil {
			t.Fatal(err)
		}
		write(t, dir+bestFile+".tmp-1", "torn")
		must(t, "train", "--run", dir, "--resume", "--devices", "1")
		got, at := bestOf(t, dir)
		if at != epoch || !sameTensors(got, want) {
			t.Errorf("stopped after %s: the best checkpoint is of epoch %d; want that of %d, with the same bits", after, at, epoch)
		}
		if e := decode[engine.Evaluation](t, must(t, "eval", dir, "--best", "--json")); e != decode[engine.Evaluation](t, must(t, "eval", "whole", "--best", "--json")) {
			t.Errorf("stopped after %s: %+v", after, e)
		}
		if _, err := os.Stat(dir + bestFile + ".tmp-1"); err == nil && epoch > 1 && after == "epoch=1" {
			t.Error("a torn file is left")
		}
	}
}

func sameTensors(a, b *checkpoint.Checkpoint) bool {
	for name, x := range a.Tensors {
		if y := b.Tensors[name]; y == nil || !reflect.DeepEqual(x.Data(), y.Data()) {
			return false
		}
	}
	return len(a.Tensors) == len(b.Tensors)
}

// A run directory from before a key of the recipe existed can be resumed.
func TestResumeWithANewKey(t *testing.T) {
	tinyFolder(t)
	interrupted(t, "half")
	old := read(t, "half/recipe.yaml")
	if !strings.Contains(old, "  best: false\n") {
		t.Fatalf("no best in %s", old)
	}
	write(t, "half/recipe.yaml", strings.Replace(old, "  best: false\n", "", 1))
	must(t, "train", "tiny.yaml", "--run", "half", "--resume", "--set", "checkpoint.best=true")
}

func TestBestMistakes(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "r", "--set", "train.epochs=1", "--set", "schedule={name: constant, at: []}")
	refused(t, []mistake{
		{"not kept", "eval r --best", exitFailure, []string{"r has no best checkpoint", "checkpoint.best true"}},
		{"no run", "eval none --best", exitFailure, []string{"none is no run directory"}},
		{"a file", "curvature tiny.yaml --best", exitFailure, []string{"tiny.yaml is no run directory"}},
	})
}
