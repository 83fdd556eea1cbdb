package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"broadside/cgo/device/devicetest"
	"broadside/engine/checkpoint"
	"broadside/engine/telemetry"
)

// stoppedAt trains the small recipe until its devices have begun so many leaves, and stops it there without grace; with
// none, before it begins. It
// returns what was told and kept, and whether anything was given up; with no checkpoint if the run came to its end first.
func stoppedAt(t *testing.T, method string, devices int, leaves int64) (s *tape, half *checkpoint.Checkpoint, gaveUp bool) {
	t.Helper()
	r, s := smallRecipe(t, method), &tape{keepSteps: true}
	tr := startTrainerOn(t, r, smallPair(r), devicetest.Open(t, devices), Options{}, s)
	tr.cfg.haste = haste{}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if leaves == 0 {
		cancel()
	}
	go func() {
		for tr.fleet.headway()-tr.fleet.beats.Load() < leaves && ctx.Err() == nil {
			time.Sleep(20 * time.Microsecond)
		}
		cancel()
	}()
	err := tr.train(ctx)
	if err == nil {
		return s, nil, false
	}
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return s, s.checkpoints[len(s.checkpoints)-1], tr.at == tr.retreat.at
}

// A stop that gives up what is under way, be it an update, an evaluation or a probe, leaves a checkpoint from which the
// run goes on as if nothing had been: with the same bits, and the same told of it.
func TestStopGivesUp(t *testing.T) {
	list, places := []string{"", "absa", "free", "swap", "sync_bn"}, int64(4)
	switch {
	case os.Getenv("BROADSIDE_LONG") != "":
		list, places = allMethods(), 8
	case testing.Short():
		list = []string{"absa"}
	}
	given, stops := 0, 0
	for i, method := range list {
		t.Run(method, func(t *testing.T) {
			whole, want := trainSmall(t, method, 1, 0, nil)
			leaves := leavesBegun(t, method)
			for place := range places {
				first, half, gaveUp := stoppedAt(t, method, 1+i%3, leaves*place/places)
				if half == nil {
					continue
				}
				stops++
				if gaveUp {
					given++
				}
				second, got := trainSmall(t, method, 1+(i+int(place))%3, 0, half)
				if d := difference(want, got); d != "" {
					t.Errorf("given up (%v) at %d of %d leaves: %s", gaveUp, leaves*place/places, leaves, d)
				}
				if got, want := toldOfAll(t, append(first.epochs, second.epochs...)), toldOfAll(t, whole.epochs); !slices.Equal(got, want) {
					t.Errorf("given up (%v) at %d of %d leaves: told of epochs\n%v\nwant\n%v", gaveUp, leaves*place/places, leaves, got, want)
				}
				if got, want := allRecorded(append(first.updates, second.updates...)), allRecorded(whole.updates); !slices.Equal(got, want) {
					t.Errorf("given up (%v) at %d of %d leaves: recorded\n%v\nwant\n%v", gaveUp, leaves*place/places, leaves, got, want)
				}
			}
		})
	}
	t.Logf("%d stops, %d of them within an update or at the end of an epoch", stops, given)
	if given == 0 && stops > int(places) { // of fewer, all may have come too late on a busy machine
		t.Error("nothing was given up")
	}
}

// leavesBegun is how many leaves a run of the small recipe begins.
func leavesBegun(t *testing.T, method string) int64 {
	t.Helper()
	r := smallRecipe(t, method)
	tr := startTrainerOn(t, r, smallPair(r), devicetest.Open(t, 1), Options{}, &tape{})
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	return tr.fleet.headway() - tr.fleet.beats.Load()
}

func toldOfAll(t *testing.T, epochs []telemetry.Epoch) (out []string) {
	t.Helper()
	for _, e := range epochs {
		out = append(out, toldOf(t, e))
	}
	return out
}

// Stop after stop, none of which waits, a run in a directory comes to the end of an undisturbed one, with its events: on
// devices with one memory and with several, whose sums are under way.
func TestStopsThatGiveUp(t *testing.T) {
	whole, dir := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "run")
	start := time.Now()
	if err := trainOrResume(whole, killsRecipe(t)); err != nil {
		t.Fatal(err)
	}
	step := time.Since(start) / 8
	stops := 0
	for wait := step / 2; ; wait += step / 2 { // so that every update is made some time
		ctx, cancel := context.WithTimeoutCause(context.Background(), wait, context.Canceled)
		_, err := Train(ctx, killsRecipe(t), Options{Device: []string{"cpu:0,0", "cpu:0,1"}[stops%2], RunDir: dir, Resume: stops > 0, haste: haste{1, 1}})
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		found, missing := checkpoint.Dir(filepath.Join(dir, checkpointDir)).Latest()
		if missing != nil {
			t.Fatal(missing)
		}
		if want := fmt.Sprintf("stopped after update %d with", found.Updates); !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
		stops++
	}
	if t.Logf("%d stops", stops); stops == 0 {
		t.Error("the run was never stopped")
	}
	if d := difference(lastCheckpoint(t, whole), lastCheckpoint(t, dir)); d != "" {
		t.Error(d)
	}
	kept := regexp.MustCompile(`(?m)^checkpoint .*\n`) // of the stops too
	if got, want := kept.ReplaceAllString(eventsOf(t, dir), ""), kept.ReplaceAllString(eventsOf(t, whole), ""); got != want {
		t.Errorf("the event log is\n%s\nwant\n%s", got, want)
	}
}

// The state is held before what may take long, by what has taken long before: leaves of a larger batch, the end of an
// epoch with an evaluation after some without, what comes after the last epoch.
func TestOnlyLongStretchesAreHeld(t *testing.T) {
	r := smallRecipe(t, "")
	tr := startTrainerOn(t, r, smallPair(r), devicetest.Open(t, 1), Options{}, &tape{})
	tr.cfg.epochs, tr.cfg.evalEvery = 10, 3
	end := tr.sampler.LeavesPerEpoch()
	mark := func(epoch, leaf int) bool {
		t.Helper()
		tr.at.Epoch, tr.at.Leaf = epoch, leaf
		if err := tr.mark(); err != nil {
			t.Fatal(err)
		}
		return tr.retreat.keep != nil
	}
	took := func(all, ending time.Duration, evaluated bool) {
		tr.retreat.began = time.Now().Add(-all)
		if ending > 0 {
			tr.retreat.ended(evaluated, ending)
		}
	}
	want := func(name string, held, expected bool) {
		t.Helper()
		if held != expected {
			t.Errorf("%s: held %v", name, held)
		}
	}
	want("the first stretch", mark(0, 0), true)
	took(time.Second, 0, false)
	want("after a short one", mark(0, 0), false)
	want("the first end of an epoch", mark(0, end), true)
	took(time.Second+time.Millisecond, time.Millisecond, false)
	want("another", mark(1, end), false)
	took(time.Second, 0, false)
	want("the first end of an epoch with an evaluation", mark(2, end), true)
	took(time.Minute+time.Second, time.Minute, true)
	want("an end without one after that", mark(3, end), false)
	took(time.Second, 0, false)
	want("the next one with one", mark(5, end), true)
	took(time.Second, 0, false)
	want("after it", mark(6, 0), false)
	took(time.Second, 0, false)
	tr.at.Batch *= 16
	want("a batch 16 times as large", mark(6, 0), true)
	tr.at.Batch /= 16
	took(time.Second, 0, false)
	want("the last epoch's end", mark(9, end), true)
}
