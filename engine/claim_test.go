package engine

import (
	"os"
	"strings"
	"testing"
)

// Of two runs that find the same directory free, one takes it.
func TestOneRunTakesADirectory(t *testing.T) {
	dir := t.TempDir()
	first, second := &runDir{path: dir, recipe: []byte("first")}, &runDir{path: dir, recipe: []byte("second")}
	for _, d := range []*runDir{first, second} {
		if err := d.check(false); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.claim(); err != nil {
		t.Fatal(err)
	}
	if err := second.claim(); err == nil || !strings.Contains(err.Error(), "another run has just begun there") {
		t.Errorf("the second run: %v", err)
	}
	if text, err := os.ReadFile(dir + "/recipe.yaml"); err != nil || string(text) != "first" {
		t.Errorf("the first run's recipe is %q, %v", text, err)
	}
}
