//go:build mpi

package mpi

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"broadside/cgo/cuda"
)

// roleVariable names what a process that mpirun started does: the tests start their own binary.
const roleVariable = "BROADSIDE_MPI_TEST_ROLE"

// memoryVariable names the kind of memory: the host's, some that only a device reaches, or a GPU's.
const memoryVariable = "BROADSIDE_MPI_TEST_MEMORY"

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		os.Exit(play(name))
	}
	os.Exit(m.Run())
}

// job is what mpirun did.
type job struct {
	out    string
	status int // exit status of mpirun
	took   time.Duration
	pids   []int // of the ranks
}

// launch runs a role in n processes. No process may be left.
func launch(t *testing.T, role string, n int, env map[string]string, flags ...string) job {
	t.Helper()
	mpirun, err := exec.LookPath("mpirun")
	if err != nil {
		t.Skip("no mpirun: `make mpi-deps` installs it")
	}
	folder := t.TempDir()
	args := append([]string{"--oversubscribe", "--allow-run-as-root", "--bind-to", "none", "-np", strconv.Itoa(n)}, flags...)
	cmd := exec.Command(mpirun, append(args, os.Args[0])...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role, "BROADSIDE_MPI_TEST_PIDS="+folder)
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 10 * time.Second // for a process that outlives mpirun and holds its output
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hung := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	err = cmd.Wait()
	if !hung.Stop() {
		t.Errorf("%s in %d processes hangs", role, n)
	}
	j := job{out: out.String(), took: time.Since(start), status: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Errorf("mpirun: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(files) != n {
		t.Errorf("%d of %d processes ran: %v\n%s", len(files), n, err, j.out)
	}
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(file))
		if err != nil {
			t.Fatal(err)
		}
		j.pids = append(j.pids, pid)
	}
	j.noneLeft(t)
	return j
}

// noneLeft checks that every rank has ended.
func (j job) noneLeft(t *testing.T) {
	t.Helper()
	for _, pid := range j.pids {
		left := func() bool {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			return err == nil && strings.HasPrefix(string(text), os.Args[0])
		}
		for i := 0; left() && i < 50; i++ {
			time.Sleep(100 * time.Millisecond)
		}
		if left() {
			t.Errorf("process %d is left", pid)
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// expect checks the end of a job and what it said.
func (j job) expect(t *testing.T, ok bool, within time.Duration, texts ...string) {
	t.Helper()
	if (j.status == 0) != ok {
		t.Errorf("exit status %d, want success: %v", j.status, ok)
	}
	if j.took > within {
		t.Errorf("it took %v, want less than %v", j.took, within)
	}
	for _, text := range texts {
		if !strings.Contains(j.out, text) {
			t.Errorf("nobody said %q", text)
		}
	}
	if t.Failed() {
		t.Logf("%s", j.out)
	}
}

func TestCollectives(t *testing.T) {
	memories := []string{"host", "device"}
	if _, err := cuda.GPUs(); err == nil { // make test-mpi-cuda emulates one
		memories = append(memories, "cuda")
	}
	for _, n := range []int{1, 2, 4} {
		for _, memory := range memories {
			for _, chunk := range []string{"", "37"} {
				t.Run(fmt.Sprintf("%d processes, %s memory, chunk %s", n, memory, chunk), func(t *testing.T) {
					j := launch(t, "collectives", n, map[string]string{"BROADSIDE_MPI_CHUNK": chunk, memoryVariable: memory})
					j.expect(t, true, time.Minute)
					if got := strings.Count(j.out, "all collectives are right"); got != n {
						t.Errorf("%d of %d ranks are right\n%s", got, n, j.out)
					}
				})
			}
		}
	}
}

// overSockets has processes of one host talk as those of several hosts do.
var overSockets = []string{"--mca", "btl", "tcp,self"}

func TestCollectivesOverSockets(t *testing.T) {
	j := launch(t, "collectives", 4, map[string]string{memoryVariable: "host"}, overSockets...)
	j.expect(t, true, time.Minute)
	if got := strings.Count(j.out, "all collectives are right"); got != 4 {
		t.Errorf("%d of 4 ranks are right\n%s", got, j.out)
	}
}

func TestThreeProcessesAreRefused(t *testing.T) {
	launch(t, "collectives", 3, nil).expect(t, false, time.Minute, "3 processes", "power of two")
}

func TestPanicsStayGo(t *testing.T) {
	launch(t, "panic", 1, nil).expect(t, true, time.Minute, "recovered from runtime error: invalid memory address")
}

// Rank 2 never comes to a collective that the others have started.
func TestDeadline(t *testing.T) {
	for _, op := range []string{"all-reduce", "all-reduce of 4 bytes", "reduce-scatter", "all-gather", "broadcast", "barrier", "exchange"} {
		t.Run(op, func(t *testing.T) {
			j := launch(t, "late", 4, map[string]string{"BROADSIDE_MPI_TEST_OP": op})
			j.expect(t, false, 20*time.Second, "waiting for rank [2]: not within the timeout of 2s",
				"the next one fails at once: the group is broken", "rank 0: "+op, "rank 1: "+op, "rank 3: "+op)
		})
	}
}

// Rank 1 closes its end while the others wait for it. They learn that long before the timeout.
func TestLeaving(t *testing.T) {
	j := launch(t, "leaver", 4, nil)
	j.expect(t, false, 20*time.Second, "rank 0: all-reduce of 4.0 kB: waiting for rank [1]: it has left the group",
		"rank 3: all-reduce of 4.0 kB: waiting for rank [1]: it has left the group")
}

// Rank 3 is killed in the midst of a large sum. Usually mpirun ends the others; where it is told not to, they end by
// themselves.
func TestKilledRank(t *testing.T) {
	j := launch(t, "victim", 4, nil)
	j.expect(t, false, 20*time.Second, "rank 3", "signal 9")
	j = launch(t, "victim", 4, nil, overSockets...)
	j.expect(t, false, 20*time.Second, "rank 3", "signal 9")
	j = launch(t, "victim", 4, nil, "--enable-recovery") // its own exit status is then 0
	j.expect(t, true, 30*time.Second, "waiting for rank [3]")
	if got := strings.Count(j.out, "exit status 1"); got != 3 {
		t.Errorf("%d of 3 survivors end with an error\n%s", got, j.out)
	}
	launch(t, "victim", 4, nil, append(overSockets, "--enable-recovery")...).expect(t, true, 30*time.Second, "exit status 1")
}

func TestAbortEndsAll(t *testing.T) {
	j := launch(t, "aborter", 4, nil)
	j.expect(t, false, 20*time.Second, "rank 1 aborts")
	if j.status != 7 {
		t.Errorf("exit status %d, want that of Abort, 7", j.status)
	}
}
