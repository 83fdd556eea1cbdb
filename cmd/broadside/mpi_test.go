//go:build mpi

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"broadside/engine"
	"broadside/engine/checkpoint"
	"broadside/engine/telemetry"
)

// mpirun prepares a command line in n processes.
func mpirun(t *testing.T, n int, line string) (cmd *exec.Cmd, out, errors *bytes.Buffer) {
	t.Helper()
	path, err := exec.LookPath("mpirun")
	if err != nil {
		t.Skip("no mpirun: `make mpi-deps` installs it")
	}
	args := append([]string{"--oversubscribe", "--allow-run-as-root", "-np", strconv.Itoa(n), os.Args[0]}, strings.Fields(line)...)
	cmd = exec.Command(path, args...)
	cmd.Env = append(os.Environ(), commandVariable+"=1")
	out, errors = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, errors
	return cmd, out, errors
}

// weights are the bits of all tensors of a run's last checkpoint.
func weights(t *testing.T, run string) string {
	t.Helper()
	found, err := checkpoint.Dir(filepath.Join(run, "checkpoints")).Latest()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, name := range []string{"conv1.weight", "bn1.running_var", "fc.bias", "broadside.momentum.conv1.weight"} {
		fmt.Fprintf(&b, "%s %x\n", name, found.Tensors[name].Data())
	}
	return b.String()
}

// The batch grows by ABSA's probes, which are spread over the processes too.
const absaTiny = " --set batch.size=32 --set batch.leaf=16 --set methods=[{absa:{max_batch:64,patience:1,probe_samples:32,epsilon:0.05}}]"

// Statistics of a batch are those of leaves of all processes, of which an epoch leaves some to the next.
const syncTiny = " --set batch.size=64 --set batch.ghost=16 --set batch.sync_bn=true"

// The batch follows the spread between the lanes of all processes, which also damps the gradient.
const spreadTiny = " --set batch.size=48 --set batch.leaf=16" +
	" --set methods=[{gns:{control:true,ema:0.5,max_batch:192}},{vrsgd:{gamma:0.1}},{structure:{every:2}}]"

func TestProcessesHaveTheSameBits(t *testing.T) {
	tinyFolder(t)
	for name, sets := range map[string]string{"sgd": "", "absa": absaTiny, "spread": spreadTiny, "sync": syncTiny} {
		must(t, strings.Fields("train tiny.yaml --devices 4 --run one-"+name+sets)...)
		want := weights(t, "one-"+name)
		for _, n := range []int{1, 2, 4} {
			dir := fmt.Sprintf("%s-%d", name, n)
			cmd, out, errors := mpirun(t, n, "train tiny.yaml --devices 1 --json --run "+dir+sets)
			if err := cmd.Run(); err != nil {
				t.Fatalf("%s in %d processes: %v\n%s", name, n, err, errors)
			}
			if s := decode[telemetry.Summary](t, out.String()); s.Epochs != 3 || s.Updates == 0 {
				t.Errorf("%s in %d processes: printed %s", name, n, out)
			}
			if weights(t, dir) != want {
				t.Errorf("%s: %d processes have other bits than one with 4 devices", name, n)
			}
		}
	}
}

// All that is measured of a Hessian is the same in any number of processes.
func TestCurvatureInProcesses(t *testing.T) {
	tinyFolder(t)
	must(t, strings.Fields("train tiny.yaml --run run")...)
	for _, bn := range []string{"eval", "ghost"} {
		line := "curvature run --json --samples 60 --top 2 --iterations 5 --trace --probes 3 --density --lanczos-steps 4 --starts 2" +
			" --landscape --dimensions 2 --points 3 --bn " + bn + " --devices "
		want := must(t, strings.Fields(line+"4")...)
		for _, n := range []int{1, 2, 4} {
			cmd, out, errors := mpirun(t, n, line+"1")
			if err := cmd.Run(); err != nil {
				t.Fatalf("%d processes: %v\n%s", n, err, errors)
			}
			if out.String() != want {
				t.Errorf("%s: %d processes print %s; want %s", bn, n, out, want)
			}
		}
	}
}

// A process that is killed ends the others within seconds, and the run goes on from its last checkpoint with another
// number of processes, with the same bits.
func TestKilledProcess(t *testing.T) {
	tinyFolder(t)
	const line = "train tiny.yaml --devices 1 --set train.epochs=40 --run "
	must(t, strings.Fields(line+"whole")...)
	cmd, _, errors := mpirun(t, 4, line+"killed")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ { // until there is a checkpoint
		if files, _ := filepath.Glob("killed/checkpoints/step-*"); len(files) > 0 {
			break
		}
		if i > 6000 {
			t.Fatalf("no checkpoint: %s", errors)
		}
		time.Sleep(10 * time.Millisecond)
	}
	children, err := exec.Command("pgrep", "-P", strconv.Itoa(cmd.Process.Pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	pids := strings.Fields(string(children))
	victim, err := strconv.Atoi(pids[len(pids)-1])
	if err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("mpirun succeeded without one of its processes")
	}
	if took := time.Since(killed); took > 30*time.Second {
		t.Errorf("the others ended after %v", took)
	}
	for _, pid := range pids {
		for alive(pid) {
			if time.Since(killed) > 30*time.Second {
				t.Fatalf("process %s is left", pid)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	cmd, _, errors = mpirun(t, 2, line+"killed --resume")
	if err := cmd.Run(); err != nil {
		t.Fatalf("resuming: %v\n%s", err, errors)
	}
	if weights(t, "killed") != weights(t, "whole") {
		t.Error("the resumed run has other bits")
	}
}

// A process that is killed, hangs or fails ends all with the cause, named by the process that knows it.
func TestFaultyProcess(t *testing.T) {
	tinyFolder(t)
	for i, c := range []struct {
		kind, sets, want string
		statuses         []int // mpirun's is that of the first process to end
	}{
		{"kill", "", "signal 9", []int{137}},
		{"hang", "", "update 7: ", []int{exitDevice}},
		{"error", "", "update 7: device 0, cpu", []int{exitDevice}},
		{"memory", "", "out of memory", []int{exitFailure, exitDevice}},
		{"kill", syncTiny, "signal 9", []int{137}},
		{"hang", syncTiny, "update 7: ", []int{exitDevice}},
		{"error", syncTiny, "update 7: device 0, cpu", []int{exitDevice}},
		{"memory", syncTiny, "out of memory", []int{exitFailure, exitDevice}},
	} {
		run := fmt.Sprint(c.kind, i)
		t.Setenv(engine.FaultVariable, fmt.Sprintf("%s %d 7", c.kind, i%4))
		cmd, _, errors := mpirun(t, 4, "train tiny.yaml --devices 1 --set batch.size=64 --set train.epochs=9 --collective-timeout 3s --run "+run+c.sets)
		start := time.Now()
		if err := cmd.Run(); err == nil {
			t.Errorf("%s: it went well", run)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%s: it took %v", run, took)
		}
		if text := errors.String(); !strings.Contains(text, c.want) || !slices.Contains(c.statuses, cmd.ProcessState.ExitCode()) {
			t.Errorf("%s: status %d, want one of %d, and an error with %q:\n%s", run, cmd.ProcessState.ExitCode(), c.statuses, c.want, text)
		}
		weights(t, run) // the checkpoint of update 4 is whole
	}
}

// alive reports whether a process has not ended; one whose end nobody has asked for yet has.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	_, state, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

func TestProcessesThatCannotTrainTogether(t *testing.T) {
	tinyFolder(t)
	for _, c := range []struct {
		n          int
		line, want string
	}{
		{2, "train tiny.yaml --all-reduce ring", "processes use tree or nccl"},
		{3, "train tiny.yaml", "power of two"},
		{2, "train tiny.yaml --device cpu:0,1", "this process has 2 separate memories"},
		{2, "train tiny.yaml --set batch.lanes=1 --devices 1", "their number must divide batch.lanes, 1"},
		{2, "train nothing.yaml", "nothing.yaml"},
	} {
		cmd, out, errors := mpirun(t, c.n, c.line)
		if err := cmd.Run(); err == nil || !strings.Contains(errors.String(), c.want) {
			t.Errorf("%s in %d processes: %v, %s%s; want an error with %q", c.line, c.n, err, out, errors, c.want)
		}
	}
}
