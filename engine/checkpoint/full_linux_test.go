package checkpoint

import (
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gorgonia.org/tensor"
)

// TestFullDisk writes in a process that may write only 64 KiB to a file: the kernel's own refusal must
// come back as an error, with the old file whole and no temporary left.
func TestFullDisk(t *testing.T) {
	const variable = "BROADSIDE_TEST_FULL_DISK"
	if path := os.Getenv(variable); path != "" {
		signal.Ignore(syscall.SIGXFSZ)
		limit := syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
		const n = 1 << 20
		err := Write(path, &Checkpoint{Tensors: map[string]*tensor.Dense{"w": dense(make([]float32, n), n)}})
		t.Fatalf("result: %v", err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "a.safetensors")
	old := mustWrite(t, path, sample())
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$")
	cmd.Env = append(os.Environ(), variable+"="+path)
	out, _ := cmd.CombinedOutput() // it fails on purpose, to print the error
	if !strings.Contains(string(out), "file too large") {
		t.Fatalf("the write did not fail as it should:\n%s", out)
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(old, now) {
		t.Error("the old file changed")
	}
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}
