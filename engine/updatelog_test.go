package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/engine/telemetry"
)

// recorded is what of an update's record has to be the same bits in every run: all but the times.
func recorded(e telemetry.Event) string {
	u := e.Update
	return fmt.Sprintf("%d %d %x %d %x %d %x %x", e.Epoch, e.Updates, u.EpochFraction, u.SamplesSeen, u.Loss, u.Batch, u.LR, u.GradientNorm)
}

func allRecorded(events []telemetry.Event) (out []string) {
	for _, e := range events {
		if e.Type == telemetry.TypeUpdate {
			out = append(out, recorded(e))
		}
	}
	return out
}

// updatesOf are the records of updates in a run directory.
func updatesOf(t *testing.T, run string) []string {
	t.Helper()
	events, err := telemetry.ReadEvents(filepath.Join(run, telemetry.EventsFile))
	if err != nil {
		t.Fatal(err)
	}
	return allRecorded(events)
}

// An epoch's records are as many as asked for at most, evenly spaced, with what the updates were; the same on any devices.
func TestUpdatesAreRecorded(t *testing.T) {
	pair := &data.Pair{Train: synthetic(40*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	train := func(devices int, sets ...string) *tape {
		s := &tape{keepSteps: true}
		sets = append([]string{"train.epochs=2", "batch={size: 64, leaf: 32, ghost: 32}"}, sets...)
		if err := startTrainer(t, parseRecipe(t, smallText, sets...), pair, devices, s).train(context.Background()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for perEpoch, want := range map[int]string{0: "[]", 1: "[20 40]", 4: "[5 10 15 20 25 30 35 40]", 3: "[7 14 20 27 34 40]"} {
		s := train(1, fmt.Sprintf("train.log_per_epoch=%d", perEpoch))
		got := []int{}
		for _, e := range s.updates {
			got = append(got, e.Updates)
			step := s.steps[e.Updates-1]
			if u := e.Update; u.Loss != step.UpdateLoss || u.LR != step.LR || u.Batch != 64 || u.SamplesSeen != int64(64*e.Updates) || u.EpochFraction != step.EpochFraction ||
				e.Epoch != step.Epoch || !(u.ImagesPerSecond > 0) || u.GradientNorm != 0 {
				t.Errorf("%d an epoch: record %+v of update %+v", perEpoch, e, step)
			}
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%d an epoch: records of updates %v; want %s", perEpoch, got, want)
		}
	}
	all := train(1, "train.log_per_epoch=1000000")
	if len(all.updates) != len(all.steps) {
		t.Errorf("%d records of %d updates", len(all.updates), len(all.steps))
	}
	guarded := train(1, "train.on_anomaly=skip", "train.log_per_epoch=1000000")
	for i, e := range guarded.updates {
		if !(e.Update.GradientNorm > 0) || e.Update.Loss != all.updates[i].Update.Loss {
			t.Errorf("with a guard: record %+v; without %+v", e, all.updates[i])
		}
	}
	for _, devices := range []int{2, 4} {
		if got, want := fmt.Sprint(allRecorded(train(devices, "train.on_anomaly=skip", "train.log_per_epoch=1000000").updates)), fmt.Sprint(allRecorded(guarded.updates)); got != want {
			t.Errorf("%d devices: records\n%s\nwant\n%s", devices, got, want)
		}
	}
}

// An update that goes over the end of an epoch is recorded in the epoch that it ends in.
func TestUpdatesOverEpochsAreRecorded(t *testing.T) {
	pair := &data.Pair{Train: synthetic(7*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	s := &tape{keepSteps: true}
	if err := startTrainer(t, parseRecipe(t, smallText, "train.epochs=3", "batch={size: 96, leaf: 32, ghost: 32}", "train.log_per_epoch=2"), pair, 1, s).train(context.Background()); err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, e := range s.updates {
		got += fmt.Sprintf("%d at %d+%.0f/7, ", e.Updates, e.Epoch, 7*e.Update.EpochFraction)
	}
	// Seven updates of three leaves end after leaves 3, 6, 9 (2 of the second epoch), 12 (5), 15 (1 of the third), 18 (4), 21 (7).
	if want := "2 at 0+6/7, 4 at 1+5/7, 6 at 2+4/7, 7 at 2+7/7, "; got != want {
		t.Errorf("records of updates %s; want %s", got, want)
	}
}

// Whether updates are recorded changes nothing of a run.
func TestRecordsAreNoInput(t *testing.T) {
	dirs := []string{filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "all")}
	for i, n := range []string{"0", "1000"} {
		if _, err := Train(context.Background(), faultRecipe(t, "train.log_per_epoch="+n), Options{Device: "cpu", Devices: 1, RunDir: dirs[i]}); err != nil {
			t.Fatal(err)
		}
	}
	if d := differentRun(lastCheckpoint(t, dirs[0]), lastCheckpoint(t, dirs[1])); d != "" {
		t.Error(d)
	}
	if none, all := updatesOf(t, dirs[0]), updatesOf(t, dirs[1]); len(none) != 0 || len(all) == 0 {
		t.Errorf("%d and %d records", len(none), len(all))
	}
	if _, err := Train(context.Background(), faultRecipe(t, "train.log_per_epoch=7"), Options{Device: "cpu", Devices: 1, RunDir: dirs[0], Resume: true}); err != nil {
		t.Errorf("a resume with other records: %v", err)
	}
}

// Recording takes no memory, to the end of the event log.
func TestRecordedStepAllocatesNothing(t *testing.T) {
	if devicetest.OnGPU() {
		t.Skip("calls of the GPU's driver allocate a little")
	}
	pair := &data.Pair{Train: synthetic(200*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	tr := startTrainer(t, parseRecipe(t, smallText, "train.epochs=100", "train.log_per_epoch=1000000", "train.on_anomaly=skip"), pair, 2, &tape{})
	log, err := telemetry.OpenEventLog(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	log.Wall = tr.wall
	tr.sink = &runDir{log: log, progress: telemetry.Several{telemetry.Discard{}}}
	updateAllocatesNothing(t, "a record of every update", tr)
}

// BenchmarkLogUpdate is what recording every update costs the step, to the end of the event log.
func BenchmarkLogUpdate(b *testing.B) {
	pair := &data.Pair{Train: synthetic(200*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	tr := startTrainer(b, parseRecipe(b, smallText, "train.epochs=100", "train.log_per_epoch=1000000"), pair, 1, &tape{})
	log, err := telemetry.OpenEventLog(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	log.Wall = tr.wall
	tr.sink = &runDir{log: log, progress: telemetry.Several{telemetry.Discard{}}}
	u := methods.Update{Loss: 2.3456789012345, LR: 0.05}
	tr.at.Leaf = 5
	for b.Loop() {
		if err := tr.logUpdate(u, 1); err != nil {
			b.Fatal(err)
		}
	}
}
