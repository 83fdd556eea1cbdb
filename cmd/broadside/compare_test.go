package main

import (
	"os"
	"strings"
	"testing"
)

func TestCompareCommand(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "runs/small")
	must(t, "train", "tiny.yaml", "--run", "runs/large", "--set", "batch.size=48")
	out := must(t, "compare", "runs/small", "runs/large")
	if lines := strings.Split(out, "\n"); !strings.HasPrefix(lines[1], "small ") || !strings.HasPrefix(lines[2], "large ") || lines[3] != "compare.html" {
		t.Errorf("compare printed %q", out)
	}
	if err := os.Remove("compare.html"); err != nil {
		t.Fatal(err)
	}
	c := decode[struct {
		Runs []struct {
			Name    string
			Summary struct{ Updates int }
		}
		Differences []struct {
			Key    string
			Values []string
		} `json:"recipe_differences"`
	}](t, must(t, "compare", "runs/small", "runs/large", "--json"))
	if len(c.Runs) != 2 || c.Runs[0].Summary.Updates != 18 || c.Runs[1].Summary.Updates != 6 {
		t.Errorf("runs %+v; want 18 and 6 updates", c.Runs)
	}
	if len(c.Differences) != 1 || c.Differences[0].Key != "batch.size" || c.Differences[0].Values[1] != "48" {
		t.Errorf("differences %+v; want batch.size 16 and 48", c.Differences)
	}
	if _, err := os.Stat("compare.html"); err == nil {
		t.Error("--json wrote a page that nobody asked for")
	}
	if r := broadside("compare", "runs/small", "nowhere"); r.status != exitFailure || !strings.Contains(r.errors, "nowhere") || !strings.Contains(r.errors, "name run directories") {
		t.Errorf("a run that does not exist: %+v", r)
	}
}
