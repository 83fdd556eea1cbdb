package emu

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"broadside/cgo/cpu"
	"broadside/kernels"
	"broadside/kernels/conformance"
)

// sanitizers are those that the emulated kernels are compiled with, as `make test-emu` asks for; usually none.
var sanitizers = os.Getenv("BROADSIDE_EMU_SANITIZE")

// The sources are read so that Go's test cache knows when they change.
func readSources(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"*", "runtime/*", "testdata/*", "../*.h", "../cuda/*", "../cuda/ptx/*", "../../Makefile"} {
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

// build makes a file in the folder of emulated builds, whose path it returns.
func build(t *testing.T, name string) string {
	t.Helper()
	readSources(t)
	folder := "build/emu"
	if sanitizers != "" {
		folder = "build/emu-sanitized"
	}
	file := filepath.Join(folder, name)
	cmd := exec.Command("make", "-s", "-C", "../..", "EMU="+folder, "EMU_SANITIZE="+sanitizers, file)
	cmd.Env = append(os.Environ(), "LD_PRELOAD=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v\n%s", file, err, out)
	}
	return filepath.Join("../..", file)
}

// emulated is the emulated table as a device of a compute capability, 80 or 90.
func emulated(t *testing.T, capability int) kernels.Device {
	t.Helper()
	table, err := Table(build(t, "libbroadside_emu.so"), capability)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := cpu.Of(table)
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

func TestConformance(t *testing.T) {
	dev := emulated(t, 80)
	if sanitizers != "" {
		conformance.Run(t, conformance.Apart(dev))
		return
	}
	conformance.Run(t, dev)
}

// Compute capability 9.0 has kernels of its own for these.
func TestConformanceHopper(t *testing.T) {
	dev := emulated(t, 90)
	if sanitizers != "" {
		dev = conformance.Apart(dev)
	}
	for _, k := range []kernels.Kernel{kernels.Conv2DForward, kernels.Conv2DBackwardInput} {
		t.Run(k.String(), func(t *testing.T) { conformance.Kernel(t, dev, k) })
	}
}

// The emulator sees what would go wrong on a GPU.
func TestFaults(t *testing.T) {
	faults := build(t, "faults")
	behindShared, behindArgument := "the block wrote behind its shared memory", "right" // reading goes unseen
	if sanitizers != "" {
		behindShared, behindArgument = "AddressSanitizer: use-after-poison", "AddressSanitizer: heap-buffer-overflow"
	}
	for name, want := range map[string]string{
		"two barriers":                                 "right",
		"no first barrier":                             "wrong",
		"no second barrier":                            "wrong",
		"a warp barrier":                               "right",
		"no warp barrier":                              "wrong",
		"waiting for a copy":                           "right",
		"not waiting for a copy":                       "wrong",
		"48 KiB of shared memory":                      "right",
		"more shared memory":                           "wrong",
		"227 KiB asked for":                            "right",
		"more asked for":                               "wrong",
		"writing behind shared memory":                 behindShared,
		"reading behind an argument":                   behindArgument,
		"threads that wait for each other":             "emu: every thread waits",
		"copies and products of a warpgroup":           "right",
		"not waiting for a bulk copy":                  "emu: more threads arrive at a barrier",
		"waiting for the wrong phase":                  "emu: more threads arrive at a barrier",
		"giving back a stage that products read":       "wrong",
		"not waiting for products":                     "wrong",
		"products without a fence":                     "emu: a product without a fence",
		"a barrier that the copy engine does not know": "emu: the copy engine does not know a barrier",
		"announcing too few bytes":                     "emu: every thread waits",
		"changing a fragment that is being multiplied": "emu: a fragment was changed",
		"lanes that name different lanes":              "emu: lanes of a warp wait for different lanes",
	} {
		t.Run(name, func(t *testing.T) {
			out, err := exec.Command(faults, name).CombinedOutput()
			if ended := err == nil; ended != (want == "right" || want == "wrong") || !strings.Contains(string(out), want) {
				t.Errorf("it ends with %v and says %q, want %q", err, out, want)
			}
		})
	}
}

// Convolutions refuse what their indexes cannot reach, and their tiles are free of bank conflicts.
func TestPlan(t *testing.T) {
	if out, err := exec.Command(build(t, "plan")).CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}
