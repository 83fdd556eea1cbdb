package engine

import (
	"path/filepath"
	"strings"
	"testing"
)

// Of two runs that find the same name free, one takes it; a directory that was there, and empty, may be taken.
func TestOneRunTakesADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "runs", "a")
	first, second := &runDir{path: dir}, &runDir{path: dir}
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
	third := &runDir{path: dir}
	if err := third.check(false); err != nil {
		t.Fatal(err)
	}
	if err := third.claim(); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
}
