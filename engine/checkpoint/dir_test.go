package checkpoint

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gorgonia.org/tensor"
)

func save(t *testing.T, d Dir, updates int64) string {
	t.Helper()
	path, err := d.Save(updates, &Checkpoint{Tensors: map[string]*tensor.Dense{"updates": dense([]int64{updates}, 1)}})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func touch(t *testing.T, d Dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(string(d), name), []byte("half a file"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLatest(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "run", "checkpoints"))
	if _, err := d.Latest(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if got := filepath.Base(save(t, d, 1234)); got != "step-000001234.safetensors" {
		t.Errorf("name %s", got)
	}
	save(t, d, 999)
	newest := save(t, d, 1234567890) // ten digits: sorted as a number, not as text
	touch(t, d, "step-999999999.safetensors.tmp-1")
	touch(t, d, "notes.txt")
	found, err := d.Latest()
	if err != nil {
		t.Fatal(err)
	}
	if found.Path != newest || found.Updates != 1234567890 || len(found.Warnings) != 0 {
		t.Errorf("found %+v", found)
	}
	if got := found.Tensors["updates"].Data().([]int64)[0]; got != 1234567890 {
		t.Errorf("tensor %d", got)
	}
}

func TestLatestFallsBack(t *testing.T) {
	d := Dir(t.TempDir())
	if _, err := d.Latest(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty folder: %v", err)
	}
	good := save(t, d, 1)
	bad := save(t, d, 2)
	raw, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 0x80
	if err := os.WriteFile(bad, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	found, err := d.Latest()
	if err != nil {
		t.Fatal(err)
	}
	if found.Path != good || found.Updates != 1 {
		t.Errorf("found %s", found.Path)
	}
	if len(found.Warnings) != 1 || !strings.Contains(found.Warnings[0], bad) {
		t.Errorf("warnings %q", found.Warnings)
	}
	if err := os.Truncate(good, 20); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Latest(); err == nil || !strings.Contains(err.Error(), good) || !strings.Contains(err.Error(), bad) {
		t.Errorf("all damaged: %v", err)
	}
}

func TestPrune(t *testing.T) {
	d := Dir(t.TempDir())
	for updates := range int64(5) {
		save(t, d, 10*updates)
	}
	touch(t, d, "step-000000030.safetensors.tmp-77") // left by a dead process
	touch(t, d, "step-000000050.safetensors.tmp-78") // in the making
	touch(t, d, "best.safetensors")
	if err := d.Prune(0, 0); err == nil {
		t.Error("prune to nothing: no error")
	}
	if err := d.Prune(2, 0); err != nil {
		t.Fatal(err)
	}
	want := []string{"best.safetensors", "step-000000030.safetensors", "step-000000040.safetensors", "step-000000050.safetensors.tmp-78"}
	if got := names(t, string(d)); !reflect.DeepEqual(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
	if err := d.Prune(7, 0); err != nil || len(names(t, string(d))) != 4 {
		t.Errorf("prune to more than there are: %v", err)
	}
	if err := Dir(t.TempDir()).Prune(1, 0); err != nil {
		t.Errorf("prune an empty folder: %v", err)
	}
}

func TestSaveRefusesNegativeUpdates(t *testing.T) {
	if _, err := Dir(t.TempDir()).Save(-1, &Checkpoint{}); err == nil {
		t.Error("no error")
	}
}
