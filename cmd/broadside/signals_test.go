package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"broadside/engine/checkpoint"
	"broadside/engine/telemetry"
)

// process is a broadside of its own.
type process struct {
	*exec.Cmd
	lines chan string // of its log
}

// startTraining trains in the folder run for as long as it is let.
func startTraining(t *testing.T, args ...string) *process {
	t.Helper()
	p := startProcess(t, append([]string{"train", "tiny.yaml", "--set", "train.epochs=100000", "--run", "run"}, args...)...)
	p.wait(t, "train_loss") // of the first epoch
	return p
}

// startProcess starts a broadside of its own.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{exec.Command(os.Args[0], args...), make(chan string, 1<<20)}
	p.Env = append(os.Environ(), commandVariable+"=1")
	r, w := io.Pipe()
	p.Stderr = w
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill() })
	go func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
	}()
	return p
}

// wait waits for a line of the log that holds a text.
func (p *process) wait(t *testing.T, text string) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case line := <-p.lines:
			if strings.Contains(line, text) {
				return
			}
		case <-late:
			t.Fatalf("it logs no %s", text)
		}
	}
}

// end waits for the end and returns the exit status, -1 if a signal was the cause.
func (p *process) end(t *testing.T) int {
	t.Helper()
	stuck := time.AfterFunc(time.Minute, func() { p.Process.Kill() })
	p.Wait()
	if !stuck.Stop() {
		t.Error("it did not end within a minute")
	}
	p.Stderr.(io.Closer).Close()
	return p.ProcessState.ExitCode()
}

// newest returns how many updates the newest checkpoint has seen, 0 if there is none.
func newest(t *testing.T) int64 {
	t.Helper()
	found, err := checkpoint.Dir("run/checkpoints").Latest()
	if err != nil {
		return 0
	}
	return found.Updates
}

// SIGINT and SIGTERM end a run after the update under way, with a checkpoint of it.
func TestStopSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		tinyFolder(t)
		p := startTraining(t, "--set", "checkpoint.every_updates=0")
		p.Process.Signal(s)
		if status := p.end(t); status != exitInterrupted {
			t.Errorf("%v: exit status %d", s, status)
		}
		events, err := telemetry.ReadEvents(filepath.Join("run", telemetry.EventsFile))
		if err != nil {
			t.Fatal(err)
		}
		last := events[len(events)-1]
		if last.Type != telemetry.TypeCheckpoint || newest(t) != int64(last.Updates) || last.Updates == 0 {
			t.Errorf("%v: the last event is %+v, the newest checkpoint after %d updates", s, last, newest(t))
		}
	}
}

// A second signal ends a process at once that cannot stop as it should.
func TestSecondSignal(t *testing.T) {
	tinyFolder(t)
	t.Setenv("BROADSIDE_FAULT", "hang 0 13")
	p := startTraining(t, "--set", "checkpoint.every_updates=0", "--devices", "1", "--collective-timeout", "1h")
	p.wait(t, "epoch=2")
	again := time.NewTicker(100 * time.Millisecond) // it cannot stop: a device hangs
	defer again.Stop()
	p.Process.Signal(syscall.SIGTERM)
	go func() {
		for range again.C {
			p.Process.Signal(syscall.SIGTERM)
		}
	}()
	if status := p.end(t); status != -1 || p.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("exit status %d, %v", status, p.ProcessState)
	}
}

// SIGUSR1 asks for a checkpoint, and training goes on.
func TestSaveSignal(t *testing.T) {
	tinyFolder(t)
	p := startTraining(t, "--set", "checkpoint.every_updates=0")
	for range 2 {
		before := newest(t)
		p.Process.Signal(syscall.SIGUSR1)
		for late := time.Now().Add(time.Minute); newest(t) == before; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("no checkpoint after that of update %d", before)
			}
		}
		p.wait(t, "train_loss")
	}
}

// Checkpoints come by time too.
func TestCheckpointsByTime(t *testing.T) {
	tinyFolder(t)
	p := startTraining(t, "--set", "checkpoint.every_updates=0", "--set", "checkpoint.every_minutes=0.001")
	for late := time.Now().Add(time.Minute); newest(t) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("no checkpoint")
		}
	}
	p.Process.Kill()
	p.end(t)
}

// Training that stands still ends with a status of its own.
func TestHang(t *testing.T) {
	tinyFolder(t)
	t.Setenv("BROADSIDE_FAULT", "hang 0 9")
	p := startTraining(t, "--devices", "1", "--collective-timeout", "1h", "--step-timeout", "2s")
	if status := p.end(t); status != exitHang {
		t.Errorf("exit status %d", status)
	}
	if dumps, _ := filepath.Glob("run/hang-*.txt"); len(dumps) != 1 {
		t.Errorf("dumps %v", dumps)
	}
}

// sockets are the open sockets of a process.
func (p *process) sockets(t *testing.T) (out []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", p.Process.Pid)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) == 0 {
		t.Skipf("no list of open files: %v", err)
	}
	for _, f := range files {
		if to, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			out = append(out, to)
		}
	}
	return out
}

// Training opens no socket unless it is told to.
func TestNoSocketsUnlessAskedFor(t *testing.T) {
	tinyFolder(t)
	p := startTraining(t)
	if open := p.sockets(t); len(open) > 0 {
		t.Errorf("sockets %v", open)
	}
	p.Process.Kill()
	p.end(t)
	p = startTraining(t, "--run", "other", "--metrics", "127.0.0.1:0")
	if len(p.sockets(t)) == 0 {
		t.Error("a process that listens is taken for one that does not")
	}
}

// The first signal ends a command that has nothing to keep, in the middle of what it does.
func TestSignalEndsCurvature(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "run")
	p := startProcess(t, "curvature", "run", "--samples", "32", "--iterations", "1000000000", "--tolerance", "1e-300")
	time.Sleep(time.Second) // it would go on for hours
	p.Process.Signal(syscall.SIGINT)
	if status := p.end(t); status != -1 || p.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		t.Errorf("exit status %d, %v", status, p.ProcessState)
	}
}

// While a process trains in a run directory, no other goes on with that run.
func TestOneProcessTrainsInARun(t *testing.T) {
	tinyFolder(t)
	p := startTraining(t, "--set", "checkpoint.every_updates=0")
	if r := broadside("train", "--run", "run", "--resume"); r.status != exitFailure || !strings.Contains(r.errors, "run/events.jsonl: another process") {
		t.Errorf("status %d, %s", r.status, r.errors)
	}
	p.wait(t, "train_loss") // and the first one goes on
	p.Process.Signal(syscall.SIGINT)
	if status := p.end(t); status != exitInterrupted {
		t.Errorf("exit status %d", status)
	}
}
