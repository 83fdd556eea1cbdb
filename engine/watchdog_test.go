package engine

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// Training that stands still is given up, with a file that tells what every device was doing.
func TestWatchdog(t *testing.T) {
	t.Setenv(FaultVariable, "hang 1 4")
	dir := t.TempDir()
	_, err := Train(context.Background(), faultRecipe(t), Options{Device: "cpu:0,1", RunDir: dir, Timeout: time.Hour, StepTimeout: 2 * time.Second})
	var hang *HangError
	if !errors.As(err, &hang) || !strings.Contains(err.Error(), "training made no headway for 2s: device 0, cpu") {
		t.Fatalf("error %v", err)
	}
	text, err := os.ReadFile(hang.File)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"device 1, cpu", "in leaves, ", "rank 1 of 2, tree over 2 memories: ", " collectives begun, ", " over, the last begun is ", "strike(", "(*trainer).computeLeaves("} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the file has no %q:\n%.2000s", want, text)
		}
	}
	lastCheckpoint(t, dir) // is whole
}

// A device that the others wait for in vain leaves such a file too.
func TestHungDeviceLeavesADump(t *testing.T) {
	t.Setenv(FaultVariable, "hang 1 4")
	_, err := Train(context.Background(), faultRecipe(t), Options{Device: "cpu", Devices: 2, RunDir: t.TempDir(), Timeout: time.Second})
	var failed *DeviceError
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "stacks of all goroutines are in ") {
		t.Fatalf("error %v", err)
	}
}

// Training that is slow, but goes on, is left alone; and so is one whose watchdog is off.
func TestWatchdogIsPatient(t *testing.T) {
	for _, limit := range []time.Duration{0, time.Minute} {
		if _, err := Train(context.Background(), faultRecipe(t), Options{Device: "cpu", Devices: 1, RunDir: t.TempDir(), StepTimeout: limit}); err != nil {
			t.Errorf("limit %v: %v", limit, err)
		}
	}
}
