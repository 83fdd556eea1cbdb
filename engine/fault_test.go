package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"broadside/engine/checkpoint"
	"broadside/engine/recipe"
	"broadside/engine/telemetry"
)

// faultRecipe is five updates an epoch, with a checkpoint after every third.
func faultRecipe(t *testing.T, sets ...string) *recipe.Recipe {
	t.Helper()
	r, err := recipe.Load("quickstart", append([]string{"data.train_limit=320", "data.test_limit=32", "train.epochs=2", "batch.size=64", "batch.leaf=16",
		"checkpoint.every_updates=3", "methods=[{absa: {max_batch: 128, patience: 1, probe_samples: 32, epsilon: 0.05}}]"}, sets...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lastCheckpoint reads a run's newest checkpoint.
func lastCheckpoint(t *testing.T, run string) *checkpoint.Checkpoint {
	t.Helper()
	found, err := checkpoint.Dir(filepath.Join(run, checkpointDir)).Latest()
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Warnings) > 0 {
		t.Errorf("%s: %v", run, found.Warnings)
	}
	return found.Checkpoint
}

// differentRun is difference, but for what the recipe says of lost devices.
func differentRun(a, b *checkpoint.Checkpoint) string {
	delete(a.Meta, metaRecipe)
	delete(b.Meta, metaRecipe)
	return difference(a, b)
}

// trial is a fault of one run.
type trial struct {
	kind, devices, loss string
	victim, update      int
}

// newTrial draws the i-th trial: every kind in turn, all else at random.
func newTrial(i int) trial {
	rng := rand.New(rand.NewPCG(5, uint64(i)))
	list := []string{"cpu:0,0", "cpu:0,1", "cpu:0,1,2,3", "cpu:0,0,1,1"}[rng.IntN(4)]
	return trial{kind: []string{"error", "hang", "memory", "kill"}[i%4], devices: list, loss: []string{"stop", "redistribute"}[rng.IntN(2)],
		victim: rng.IntN(strings.Count(list, ",") + 1), update: 1 + rng.IntN(7)}
}

// A device that fails, hangs or has no memory left stops the run within its deadline, with an error that names it and
// the update; or the run goes on without it and ends with the same bits. A process that is killed leaves a run that
// goes on with the same bits. The last checkpoint is whole.
func TestFaults(t *testing.T) {
	if dir := os.Getenv(childVariable); dir != "" {
		trainChild(t, dir)
		return
	}
	whole := t.TempDir()
	if _, err := Train(context.Background(), faultRecipe(t), Options{Device: "cpu", Devices: 2, RunDir: whole}); err != nil {
		t.Fatal(err)
	}
	want, records := lastCheckpoint(t, whole), fmt.Sprint(updatesOf(t, whole))
	faults := 16
	switch {
	case os.Getenv("BROADSIDE_LONG") != "":
		faults = 200
	case testing.Short():
		faults = 8
	}
	for i := range faults {
		c := newTrial(i)
		t.Run(fmt.Sprintf("%s of device %d of %s in update %d, %s", c.kind, c.victim, c.devices, c.update, c.loss), func(t *testing.T) {
			t.Setenv(FaultVariable, fmt.Sprintf("%s %d %d", c.kind, c.victim, c.update))
			dir := t.TempDir()
			start := time.Now()
			var err error
			if c.kind == "kill" {
				c.kill(t, dir)
			} else {
				_, err = Train(context.Background(), faultRecipe(t, "train.on_device_loss="+c.loss), c.options(dir))
			}
			if took := time.Since(start); took > 60*time.Second {
				t.Errorf("it took %v", took)
			}
			c.check(t, dir, err, want, records)
		})
	}
}

func (c trial) options(dir string) Options {
	return Options{Device: c.devices, RunDir: dir, Timeout: 2 * time.Second}
}

// check holds the run to what it promises after the fault.
func (c trial) check(t *testing.T, dir string, err error, want *checkpoint.Checkpoint, records string) {
	t.Helper()
	if c.kind == "kill" || c.loss == "redistribute" && c.kind != "memory" {
		if err != nil {
			t.Fatal(err)
		}
		if d := differentRun(want, lastCheckpoint(t, dir)); d != "" {
			t.Errorf("it went on with other bits: %s", d)
		}
		if got := fmt.Sprint(updatesOf(t, dir)); got != records {
			t.Errorf("it recorded the updates\n%s\nwant\n%s", got, records)
		}
		events, _ := os.ReadFile(filepath.Join(dir, "events.jsonl"))
		if c.kind != "kill" && !strings.Contains(string(events), "going on with other devices") {
			t.Error("the event log does not tell of the loss")
		}
		return
	}
	cause := map[string]string{"error": "the device failed", "hang": "does not answer: no headway for 2s", "memory": "out of memory"}[c.kind]
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("update %d: ", c.update)) || !strings.Contains(err.Error(), cause) {
		t.Fatalf("error %v", err)
	}
	var failed *DeviceError
	if c.kind != "memory" && !errors.As(err, &failed) {
		t.Errorf("%v names no device", err)
	}
	if c.update > 3 {
		lastCheckpoint(t, dir)
	}
}

// childVariable names the run directory of a process of this test that is to be killed, and childDevices its devices.
const childVariable, childDevices = "BROADSIDE_TEST_CHILD", "BROADSIDE_TEST_CHILD_DEVICES"

// killed starts a process that trains in dir, kills it after a while, and reports whether it was still training.
func killed(t *testing.T, dir string, after time.Duration) bool {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestKills$")
	child.Env = append(os.Environ(), childVariable+"="+dir)
	started, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var first [1]byte // which it writes when it is about to train
	if _, err := started.Read(first[:]); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	child.Process.Kill()
	return child.Wait() != nil
}

// killsRecipe takes about 40 updates, with a checkpoint after every third and much to write beside it.
func killsRecipe(t *testing.T) *recipe.Recipe { return faultRecipe(t, "train.epochs=8") }

// Processes are killed at random moments, again and again: each goes on from a whole checkpoint, none is older than the
// last interval before the kill, and the run ends with the bits and the events of an undisturbed one.
func TestKills(t *testing.T) {
	if dir := os.Getenv(childVariable); dir != "" {
		fmt.Println()
		if err := trainOrResume(dir, killsRecipe(t)); err != nil {
			t.Fatal(err)
		}
		return
	}
	whole := filepath.Join(t.TempDir(), "run")
	start := time.Now()
	if err := trainOrResume(whole, killsRecipe(t)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	want, events := lastCheckpoint(t, whole), eventsOf(t, whole)
	wanted := 6
	switch {
	case os.Getenv("BROADSIDE_LONG") != "":
		wanted = 1000
	case testing.Short():
		wanted = 2
	}
	rng := rand.New(rand.NewPCG(8, 15))
	kills, runs, same := 0, 0, 0
	for ; kills < wanted; runs++ {
		dir, before := filepath.Join(t.TempDir(), "run"), kills
		for kills < wanted && killed(t, dir, time.Duration(rng.Int64N(int64(took)/2+1))) {
			kills++
			checkKept(t, dir)
		}
		if err := trainOrResume(dir, killsRecipe(t)); err != nil {
			t.Fatal(err)
		}
		if d := difference(want, lastCheckpoint(t, dir)); d != "" {
			t.Errorf("after %d kills: %s", kills, d)
		} else {
			same++
		}
		if got := eventsOf(t, dir); got != events {
			t.Errorf("after %d kills the event log is\n%s\nwant\n%s", kills, got, events)
		}
		t.Logf("run %d: %d kills; in all %d kills, %d runs with the bits of the undisturbed one", runs+1, kills-before, kills, same)
	}
	t.Logf("%d kills and as many restarts in %d runs, of which %d ended with the bits of the undisturbed one", kills, runs, same)
}

// trainOrResume trains in a directory, or goes on with the run there.
func trainOrResume(dir string, r *recipe.Recipe) error {
	_, err := os.Stat(filepath.Join(dir, telemetry.RecipeFile))
	_, err = Train(context.Background(), r, Options{Device: "cpu", Devices: 1, RunDir: dir, Resume: err == nil})
	return err
}

// checkKept holds what a killed process leaves to its promise: the newest checkpoint is whole, and not older than the
// last interval but one, whose checkpoint may have been under way.
func checkKept(t *testing.T, dir string) {
	t.Helper()
	log, err := telemetry.ReadEvents(filepath.Join(dir, telemetry.EventsFile))
	if errors.Is(err, os.ErrNotExist) {
		return // it had not begun
	}
	if err != nil {
		t.Fatal(err)
	}
	reached := 0
	for _, e := range log {
		if e.Type != telemetry.TypeUpdate { // which comes before the checkpoint of the same update begins
			reached = max(reached, e.Updates)
		}
	}
	found, err := checkpoint.Dir(filepath.Join(dir, checkpointDir)).Latest()
	if errors.Is(err, os.ErrNotExist) && reached < 6 {
		return
	}
	if err != nil || len(found.Warnings) > 0 {
		t.Fatalf("after update %d: error %v, warnings %v", reached, err, found.Warnings)
	}
	if int(found.Updates) < reached-5 {
		t.Errorf("killed after update %d, the newest checkpoint is of update %d", reached, found.Updates)
	}
}

// eventsOf describes a run's events but for times, starts and resumes, its updates to the last bit. A run that was killed between its last checkpoint
// and its end has that checkpoint twice; it counts once.
func eventsOf(t *testing.T, dir string) string {
	t.Helper()
	log, err := telemetry.ReadEvents(filepath.Join(dir, telemetry.EventsFile))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range log {
		if e.Type == telemetry.TypeUpdate {
			lines = append(lines, fmt.Sprint(e.Type, " ", recorded(e)))
		} else if e.Type != telemetry.TypeStart && e.Type != telemetry.TypeResume {
			lines = append(lines, fmt.Sprint(e.Type, " ", e.Epoch, e.Updates, e.From, e.To, e.Trigger, filepath.Base(e.Path)))
		}
	}
	return strings.Join(slices.Compact(lines), "\n")
}

// kill trains in a process that is killed by the fault, and goes on with its run, or starts it where nothing was kept.
func (c trial) kill(t *testing.T, dir string) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestFaults$")
	child.Env = append(os.Environ(), childVariable+"="+dir, childDevices+"="+c.devices)
	out, err := child.CombinedOutput()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process was not killed: %v\n%s", err, out)
	}
	t.Setenv(FaultVariable, "")
	o := c.options(dir)
	o.Resume = true
	if _, err := Train(context.Background(), faultRecipe(t), o); err != nil {
		t.Fatal(err)
	}
}

// trainChild is the process that is killed.
func trainChild(t *testing.T, dir string) {
	_, err := Train(context.Background(), faultRecipe(t), trial{devices: os.Getenv(childDevices)}.options(dir))
	t.Fatalf("it was to be killed: %v", err)
}

func TestFaultVariable(t *testing.T) {
	for text, want := range map[string]string{"": "", "hang 1 7": "", "hang": "want KIND DEVICE UPDATE", "burn 1 2": "must be kill, hang"} {
		t.Setenv(FaultVariable, text)
		if _, err := plannedFault(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
}

// A memory is lost with all its devices, and of the others a power of two is kept.
func TestDevicesToGoOnWithout(t *testing.T) {
	for _, c := range []struct {
		homes  []int // of each device
		device int
		before []int
		want   []int
	}{
		{[]int{0, 0, 0}, 1, nil, []int{1}},
		{[]int{0, 0}, 1, []int{0}, []int{0, 2}},
		{[]int{0}, 0, nil, nil},
		{[]int{0, 1}, 0, nil, []int{0}},
		{[]int{0, 0, 1, 1}, 2, nil, []int{2, 3}},
		{[]int{0, 1, 2, 3}, 0, nil, []int{0, 3}},
		{[]int{0, 1, 2, 3}, 3, nil, []int{2, 3}},
		{[]int{0, 1, 2, 3}, 2, nil, []int{2, 3}},
		{[]int{0, 1}, 1, []int{2, 3}, []int{1, 2, 3}},
	} {
		f := &fleet{}
		for i, h := range c.homes {
			f.workers = append(f.workers, &worker{id: i, home: h})
			for len(f.homes) <= h {
				f.homes = append(f.homes, nil)
			}
		}
		got := f.without(c.device, c.before)
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
