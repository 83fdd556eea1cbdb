package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"broadside/engine/checkpoint"
	"broadside/engine/internal/durable"
)

// diskRun trains where the n-th call that changes a file fails, and all that follow if the machine is to stop there. It
// returns how many calls there were.
func diskRun(t *testing.T, dir string, n int64, stops bool) (calls int64, err error) {
	t.Helper()
	var count atomic.Int64
	durable.SetFault(func(call, path string) error {
		if i := count.Add(1); i == n || stops && n > 0 && i > n {
			return syscall.ENOSPC
		}
		return nil
	})
	defer durable.SetFault(nil)
	err = trainOrResume(dir, faultRecipe(t))
	return count.Load(), err
}

// finish resumes a run, or starts it where nothing was kept, and returns its last checkpoint.
func finish(t *testing.T, dir string) *checkpoint.Checkpoint {
	t.Helper()
	if err := trainOrResume(dir, faultRecipe(t)); err != nil {
		t.Fatal(err)
	}
	return lastCheckpoint(t, dir)
}

// Every call of a run that changes a file fails in turn, alone or with all that follow, as where the machine stops; and
// so of a resume of what such a stop left: the run goes on or ends with an error that says that the disk is full, and the
// next start ends with the bits of an undisturbed run, in a directory with the files of one.
func TestEveryCallThatChangesAFileFails(t *testing.T) {
	whole, torn := t.TempDir(), filepath.Join(t.TempDir(), "run")
	calls, err := diskRun(t, whole, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := diskRun(t, torn, calls/2, true); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("a run that is to stop halfway: %v", err)
	}
	resumed := copyOfRun(t, torn)
	left, err := diskRun(t, resumed, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	want, files := lastCheckpoint(t, whole), listing(t, whole)
	for _, stops := range []bool{false, true} {
		failEveryCall(t, "", calls, stops, want, files)
		failEveryCall(t, torn, left, stops, want, files)
	}
}

// copyOfRun copies a run directory; of none it names a new one.
func copyOfRun(t *testing.T, from string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	if from != "" {
		if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// failEveryCall fails the calls of a run that goes on from a copy of a directory, or begins where there is none.
func failEveryCall(t *testing.T, from string, calls int64, stops bool, want *checkpoint.Checkpoint, files string) {
	t.Helper()
	step := int64(6)
	switch {
	case os.Getenv("BROADSIDE_LONG") != "":
		step = 1
	case testing.Short():
		step = 14
	}
	runs, ended := 0, 0
	for n := int64(1); n <= calls; n += step {
		dir := copyOfRun(t, from)
		_, err := diskRun(t, dir, n, stops)
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("call %d of %d: error %v", n, calls, err)
		}
		if runs++; err != nil {
			ended++
		}
		if d := difference(want, finish(t, dir)); d != "" {
			t.Errorf("call %d of %d: %s", n, calls, d)
		}
		if got := listing(t, dir); got != files {
			t.Errorf("call %d of %d left %s; want %s", n, calls, got, files)
		}
	}
	t.Logf("a resume %t, all later calls too %t: %d of %d calls failed, %d runs ended by it", from != "", stops, runs, calls, ended)
	if ended == 0 {
		t.Error("no failure was noticed")
	}
}

// A slow disk slows a run down, no more: checkpoints are written beside training, and the watchdog sees headway.
func TestSlowDisk(t *testing.T) {
	whole, slow := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "run")
	if err := trainOrResume(whole, faultRecipe(t)); err != nil {
		t.Fatal(err)
	}
	durable.SetFault(func(string, string) error {
		time.Sleep(50 * time.Millisecond)
		return nil
	})
	defer durable.SetFault(nil)
	if _, err := Train(context.Background(), faultRecipe(t), Options{Device: "cpu", Devices: 1, RunDir: slow, StepTimeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if d := difference(lastCheckpoint(t, whole), lastCheckpoint(t, slow)); d != "" {
		t.Error(d)
	}
}

// listing names the files of a run directory.
func listing(t *testing.T, dir string) (out string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		out += fmt.Sprintln(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
