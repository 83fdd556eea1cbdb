//go:build linux

// Package check holds the check of a host with a GPU, which `make gpu-check` packs. Its test runs the script that goes
// through the steps, on steps of its own.
package check

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A line of the results.
type line struct {
	Step    int
	Name    string
	Outcome string
	Status  int
	Seconds float64
	Limit   int
	Reason  string
	Command string
	Output  string
	Results []json.RawMessage

	Check  string
	From   int
	Passed int
	Failed []string
	Next   int
}

// check is a run of the script in the folder out with a plan and settings.
func check(t *testing.T, out, plan string, settings ...string) *exec.Cmd {
	t.Helper()
	for _, tool := range []string{"bash", "timeout", "awk", "setsid"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the script needs %s", tool)
		}
	}
	file := filepath.Join(t.TempDir(), "plan.sh")
	if err := os.WriteFile(file, []byte(plan), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "run.sh")
	cmd.Env = append(append(os.Environ(), "OUT="+out, "PLAN="+file), settings...)
	return cmd
}

// run lets the script come to its end, whose exit status must be the one that is wanted.
func run(t *testing.T, status int, out, plan string, settings ...string) string {
	t.Helper()
	cmd := check(t, out, plan, settings...)
	text, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Fatalf("exit status %d, want %d: %v\n%s", got, status, err, text)
	}
	return string(text)
}

// results parses every line of the results.
func results(t *testing.T, out string) (lines []line) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(out, "results.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(string(raw)) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("not JSON: %v\n%s", err, text)
		}
		lines = append(lines, l)
	}
	return lines
}

// outcomes are the steps' lines in short.
func outcomes(lines []line) (short []string) {
	for _, l := range lines {
		if l.Step > 0 {
			short = append(short, fmt.Sprintf("%d %s", l.Step, l.Outcome))
		}
	}
	return short
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// ended is the last line about a step.
func ended(t *testing.T, lines []line, step int) line {
	t.Helper()
	for _, l := range slices.Backward(lines) {
		if l.Step == step {
			return l
		}
	}
	t.Fatalf("nothing about step %d", step)
	return line{}
}

// gone requires that no process has a word among its arguments.
func gone(t *testing.T, word string) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if raw, err := os.ReadFile(p); err == nil && slices.Contains(strings.Split(string(raw), "\x00"), word) {
			t.Errorf("%s is there still: %q", p, raw)
		}
	}
}

// seconds is a number of seconds for `sleep` that no other process has.
func seconds(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("%d.%d", 1000+os.Getpid(), time.Now().Nanosecond())
}

func TestEveryOutcome(t *testing.T) {
	t.Parallel()
	out, sleep := t.TempDir(), seconds(t)
	// Not all that looks like JSON is. A benchmark that hangs has printed what it had, and half a line.
	file := filepath.Join(t.TempDir(), "output")
	printed := "tab\there \\ \"quoted\" µs \x1b[1m\n" + `{"a": [1.5e-3, {}, []], "b": "{\"x\""}` + "\n{map[a:1]}\n{1 2}\n{\"a\": 1 2}\n{\"a\": [1,]}\n{}\n"
	if err := os.WriteFile(file, []byte(printed), 0o644); err != nil {
		t.Fatal(err)
	}
	plan := `
step 'says "much"' 60 . cat ` + file + `
step fails 60 . bash -c 'echo why; exit 3'
step hangs 1 . bash -c 'trap "" TERM
  sleep ` + sleep + ` & setsid sleep ` + sleep + ` &
  echo "{\"n\": 1}"; echo "{\"n\": 2}"; printf "{\"n\": "; while true; do sleep ` + sleep + `; done'
skip 'has no tool' 5 'no tool here'
step dies 60 . bash -c 'kill -SEGV $$'
step 'ends in time' 1 . bash -c 'sleep ` + sleep + ` & echo "a child is left"'
step 'is not there' 60 . ./no-such-command
step 'no tests' 60 . echo 'testing: warning: no tests to run'
step 'tests that pass over all' 60 . echo '--- SKIP: TestX'
step 'some pass' 60 . printf -- '--- SKIP: TestX\n--- PASS: TestY\n'
`
	began := time.Now()
	text := run(t, 1, out, plan)
	if took := time.Since(began); took > 60*time.Second {
		t.Errorf("it took %v", took)
	}
	gone(t, sleep)
	lines := results(t, out)
	equal(t, outcomes(lines), "1 started", "1 passed", "2 started", "2 failed", "3 started", "3 timeout", "4 skipped", "5 started", "5 killed",
		"6 started", "6 passed", "7 started", "7 failed", "8 started", "8 failed", "9 started", "9 skipped", "10 started", "10 passed")
	much := ended(t, lines, 1)
	if want := "tab\there \\ \"quoted\" ??s ?[1m"; much.Output != want || much.Name != `says "much"` || len(much.Results) != 2 {
		t.Errorf("%q printed %q and %s", much.Name, much.Output, much.Results)
	}
	var figures struct{ A []any }
	if err := json.Unmarshal(much.Results[0], &figures); err != nil || len(figures.A) != 3 {
		t.Errorf("figures %s: %v", much.Results[0], err)
	}
	if l := ended(t, lines, 2); l.Status != 3 || l.Output != "why" || l.Command != "bash -c echo why; exit 3" {
		t.Errorf("%+v", l)
	}
	if l := ended(t, lines, 3); len(l.Results) != 2 || string(l.Results[1]) != `{"n": 2}` || l.Limit != 1 || l.Seconds < 6 || l.Seconds > 20 {
		t.Errorf("%+v", l)
	}
	if l := ended(t, lines, 4); l.Reason != "no tool here" {
		t.Errorf("%+v", l)
	}
	if l := ended(t, lines, 5); l.Status != 128+int(syscall.SIGSEGV) {
		t.Errorf("%+v", l)
	}
	last := lines[len(lines)-1]
	equal(t, last.Failed, "2 fails", "3 hangs", "5 dies", "7 is not there", "8 no tests")
	if last.Check != "ended" || last.Passed != 3 || last.Next != 0 || !strings.Contains(text, "failed: 3 hangs") {
		t.Errorf("%+v\n%s", last, text)
	}
	if raw, err := os.ReadFile(filepath.Join(out, "03-hangs.txt")); err != nil || string(raw) != "{\"n\": 1}\n{\"n\": 2}\n{\"n\": " {
		t.Errorf("the output is %q, %v", raw, err)
	}
}

// interrupted starts a check and sends it a signal in the midst of its second step.
func interrupted(t *testing.T, out, plan string, signal syscall.Signal) {
	t.Helper()
	cmd := check(t, out, plan)
	printed, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(printed); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "== 2 ") {
			break
		}
	}
	for wait := time.Now(); ; time.Sleep(10 * time.Millisecond) { // the step has started what it starts
		if raw, _ := os.ReadFile(filepath.Join(out, "02-second.txt")); len(raw) > 0 {
			break
		}
		if time.Since(wait) > 20*time.Second {
			t.Fatal("the second step does not start")
		}
	}
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it ended well")
	}
}

// threeSteps note in a file that they ran. The second one hangs, the first time.
func threeSteps(sleep, notes string) string {
	return `
step first 60 . bash -c 'echo first >> ` + notes + `'
step second 60 . bash -c 'echo second >> ` + notes + `; echo "{\"n\": 1}"; [ $(grep -c second ` + notes + `) -gt 1 ] || { setsid sleep ` + sleep + ` & sleep ` + sleep + `; }'
step third 60 . bash -c 'echo third >> ` + notes + `'
`
}

func notesOf(t *testing.T, file string) []string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(raw))
}

func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	out, sleep := t.TempDir(), seconds(t)
	notes := filepath.Join(t.TempDir(), "notes")
	plan := threeSteps(sleep, notes)
	interrupted(t, out, plan, syscall.SIGKILL)
	lines := results(t, out)
	equal(t, outcomes(lines), "1 started", "1 passed", "2 started")

	// The machine stopped while a line was written.
	file, err := os.OpenFile(filepath.Join(out, "results.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(`{"step":2,"na`); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, 0, out, plan, "FROM=2")
	gone(t, sleep) // what the killed check left
	lines = results(t, out)
	equal(t, outcomes(lines), "1 started", "1 passed", "2 started", "2 started", "2 passed", "3 started", "3 passed")
	equal(t, notesOf(t, notes), "first", "second", "second", "third")
	if second := lines[4]; second.Check != "started" || second.From != 2 {
		t.Errorf("%+v", second)
	}
}

func TestStopped(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		out, sleep := t.TempDir(), seconds(t)
		interrupted(t, out, threeSteps(sleep, filepath.Join(t.TempDir(), "notes")), signal)
		gone(t, sleep)
		lines := results(t, out)
		equal(t, outcomes(lines), "1 started", "1 passed", "2 started", "2 killed")
		if l := ended(t, lines, 2); len(l.Results) != 1 {
			t.Errorf("%+v", l)
		}
		if last := lines[len(lines)-1]; last.Check != "ended" || last.Next != 2 {
			t.Errorf("%+v", last)
		}
	}
}

// The clock cuts the limit of a step that it leaves some time, and passes over those that it leaves too little.
func TestClock(t *testing.T) {
	t.Parallel()
	out, sleep := t.TempDir(), seconds(t)
	plan := "step first 60 . true\nstep second 60 . sleep " + sleep + "\nstep third 60 . true\nstep fourth 60 . true\n"
	text := run(t, 1, out, plan, "BUDGET=3", "LEAST=1")
	gone(t, sleep)
	lines := results(t, out)
	equal(t, outcomes(lines), "1 started", "1 passed", "2 started", "2 timeout", "3 skipped", "4 skipped")
	if l := ended(t, lines, 2); l.Limit < 1 || l.Limit > 3 {
		t.Errorf("%+v", l)
	}
	if l := ended(t, lines, 3); l.Reason != "0 s are left of 3" {
		t.Errorf("%+v", l)
	}
	if last := lines[len(lines)-1]; last.Next != 2 || !strings.Contains(text, "resume with FROM=2") {
		t.Errorf("%+v\n%s", last, text)
	}
	run(t, 2, out, "step first 60 . true\nstep second 2 . true\n", "BUDGET=14") // the second needs no 15
	equal(t, outcomes(results(t, out)[len(lines):]), "1 skipped", "2 started", "2 passed")
	for _, wrong := range []string{"BUDGET=x", "FROM=0", "LIMITS=-1"} {
		run(t, 64, out, plan, wrong)
	}
}

// A plan that finds no GPU ends the check.
func TestEnd(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	run(t, 1, out, "step first 60 . echo none\nif grep -qs none \"$output\"; then end 'no GPU'; fi\nstep second 60 . true\n")
	lines := results(t, out)
	equal(t, outcomes(lines), "1 started", "1 passed")
	equal(t, lines[len(lines)-1].Failed, "no GPU")
}

// The steps have the same numbers and limits whatever there is on a host, and the order that their worth gives them.
func TestPlan(t *testing.T) {
	t.Parallel()
	list := func(settings ...string) []string {
		cmd := exec.Command("bash", "run.sh", "--list")
		cmd.Env = append(os.Environ(), settings...)
		text, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	steps := list("PYTHON=/nonexistent", "BROADSIDE_LIBNCCL=")
	equal(t, list("BROADSIDE_LIBNCCL=/somewhere/libnccl.so.2", "SMOKE=1"), steps...)
	at := 0
	for _, want := range []string{"doctor", "names and versions", "convolutions, strided", "strided, without Hopper", "layers of ResNet-50", "ResNet-50, bf16",
		"PyTorch: ResNet-50, eager", "PyTorch: ResNet-50, compiled", "ResNet-20, bf16", "PyTorch: ResNet-20", "other kernels", "goldens", "same bits", "NCCL",
		"memcheck", "racecheck", "Hessian products", "PyTorch: Hessian products"} {
		i := slices.IndexFunc(steps[at:], func(s string) bool { return strings.Contains(s, want) })
		if i < 0 {
			t.Fatalf("no %s behind %s", want, steps[at])
		}
		at += i
	}
	if _, err := os.Stat("results"); err == nil {
		t.Error("--list has made a folder")
	}
}
