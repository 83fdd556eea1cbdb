package emu

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"broadside/cgo/cpu"
	"broadside/kernels/conformance"
)

// The sources are read so that Go's test cache knows when they change.
func readSources(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"*", "runtime/*", "../*.h", "../cuda/*", "../cuda/ptx/*", "../../Makefile"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			if info, err := os.Stat(file); err != nil || info.IsDir() {
				continue
			}
			if _, err := os.ReadFile(file); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestConformance(t *testing.T) {
	readSources(t)
	if out, err := exec.Command("make", "-s", "-C", "../..", "emu").CombinedOutput(); err != nil {
		t.Fatalf("make emu: %v\n%s", err, out)
	}
	table, err := Table("../../build/emu/libbroadside_emu.so")
	if err != nil {
		t.Fatal(err)
	}
	dev, err := cpu.Of(table)
	if err != nil {
		t.Fatal(err)
	}
	conformance.Run(t, dev)
}
