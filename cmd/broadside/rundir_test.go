package main

import (
	"os"
	"strings"
	"testing"
)

// A run without a directory gets one that does not exist, and says which.
func TestRunsAreNamed(t *testing.T) {
	tinyFolder(t)
	short := []string{"train", "tiny.yaml", "--set", "train.epochs=1", "--set", "schedule={name: constant, at: []}"}
	for _, want := range []string{"runs/tiny", "runs/tiny-2", "runs/tiny-3"} {
		r := broadside(short...)
		if r.status != 0 || !strings.HasPrefix(r.errors, "run directory: "+want+"\n") || !strings.HasSuffix(r.out, "report: "+want+"/report.html\n") {
			t.Fatalf("%s: status %d, %s%s", want, r.status, r.errors, r.out)
		}
	}
	before := read(t, "runs/tiny-2/events.jsonl")
	for _, other := range []string{"runs/tiny-sweep", "runs/tiny-07", "runs/tiny-1", "runs/tiny-x9"} { // none of these is a run's number
		if err := os.Mkdir(other, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if r := broadside(append(short, "--resume")...); r.status != 0 || !strings.HasPrefix(r.errors, "run directory: runs/tiny-3\n") || !strings.Contains(r.errors, "INF resume") {
		t.Errorf("resume: status %d, %s", r.status, r.errors)
	}
	if read(t, "runs/tiny-2/events.jsonl") != before {
		t.Error("another run was written to")
	}
	if r := broadside(append(short, "--set", "name=other", "--resume")...); r.status != exitFailure || !strings.Contains(r.errors, "runs/other holds no run to resume") {
		t.Errorf("resume of nothing: status %d, %s", r.status, r.errors)
	}
	if err := os.RemoveAll("runs/tiny"); err != nil {
		t.Fatal(err)
	}
	if r := broadside(short...); !strings.HasPrefix(r.errors, "run directory: runs/tiny-4\n") {
		t.Errorf("after the first was removed: %s", r.errors)
	}
}
