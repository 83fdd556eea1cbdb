package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"broadside/engine/checkpoint"
	"broadside/engine/internal/durable"
)

// Writes, syncs and renames of the best checkpoint fail in turn, and all that follow: the run ends with the error,
// what was the best before is whole, and a resume ends with the best of an undisturbed run and no other file.
func TestBestCheckpointAfterFailures(t *testing.T) {
	best := func(dir string) *checkpoint.Checkpoint {
		t.Helper()
		ck, err := checkpoint.Read(filepath.Join(dir, checkpointDir, "best.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return ck
	}
	sets := []string{"checkpoint.best=true", "checkpoint.every_updates=0", "methods=[]", "data.train_limit=128", "optimizer.lr=0.02", "batch={size: 32, leaf: 16}", "train.epochs=4", "schedule.at=[3]"}
	train := func(dir string, n int) (calls int, err error) {
		durable.SetFault(func(call, path string) error {
			if strings.Contains(path, "best") {
				calls++
			}
			if n > 0 && calls >= n {
				return syscall.ENOSPC
			}
			return nil
		})
		defer durable.SetFault(nil)
		_, err = Train(context.Background(), faultRecipe(t, sets...), Options{Device: "cpu", Devices: 1, RunDir: dir})
		return calls, err
	}
	whole := filepath.Join(t.TempDir(), "run")
	calls, err := train(whole, 0)
	if err != nil {
		t.Fatal(err)
	}
	want, files := best(whole), listing(t, whole)
	t.Logf("%d calls", calls)
	if calls < 8 {
		t.Fatalf("%d calls: the run is no test, its best epoch is the first", calls)
	}
	step := 3
	if os.Getenv("BROADSIDE_LONG") != "" {
		step = 1
	}
	for n := 1; n <= calls; n += step {
		dir := filepath.Join(t.TempDir(), "run")
		if _, err := train(dir, n); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("call %d of %d: error %v", n, calls, err)
		}
		if _, err := os.Stat(filepath.Join(dir, checkpointDir, "best.safetensors")); err == nil {
			best(dir)
		}
		if err := trainOrResume(dir, faultRecipe(t, sets...)); err != nil {
			t.Fatal(err)
		}
		if d := networksDiffer(want, best(dir)); d != "" {
			t.Errorf("call %d of %d: the best checkpoint: %s", n, calls, d)
		}
		if got := listing(t, dir); got != files {
			t.Errorf("call %d of %d left %s; want %s", n, calls, got, files)
		}
	}
}
