package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/checkpoint"
	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/engine/telemetry"
)

// spoiled weighs all samples by 1, but by the given weight in one update, which is then anomalous.
type spoiled struct {
	tr    *trainer
	spoil map[int64]float32 // by the leaves of the run done before
}

func (s *spoiled) Weigh(_ methods.Training, _ methods.Draw, _ []int32, weights []float32) {
	w := float32(1)
	if v, ok := s.spoil[s.tr.at.Samples/int64(s.tr.fleet.leaf.Capacity)]; ok {
		w = v
	}
	for i := range weights {
		weights[i] = w
	}
}

// guardedRun is how TestAnomalies trains: eleven leaves an epoch, two an update, three epochs.
type guardedRun struct {
	sets    []string
	method  string
	spoil   map[int64]float32
	devices string
	stopAt  int
	from    *checkpoint.Checkpoint
	kept    []*checkpoint.Checkpoint // before from
}

func (g guardedRun) train(t *testing.T) (*tape, *checkpoint.Checkpoint, error) {
	t.Helper()
	text := smallText
	if g.method != "" {
		text += "methods:\n  - " + settings[g.method] + "\n"
	}
	r := parseRecipe(t, text, append([]string{"checkpoint.every_updates=4"}, g.sets...)...)
	devices, o := devicetest.Open(t, 1), Options{}
	if g.devices == "2" {
		devices = devicetest.Open(t, 2)
	} else if g.devices == "memories" {
		devices = devicetest.OpenApart(t, 2, 1)
	}
	s := &tape{stopAt: g.stopAt, checkpoints: g.kept}
	tr := startTrainerOn(t, r, &data.Pair{Train: synthetic(11*32+5, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}, devices, o, s)
	tr.weigher = &spoiled{tr: tr, spoil: g.spoil}
	if g.from != nil {
		if err := tr.restore(g.from); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.cancel = cancel
	err := tr.train(ctx)
	if err != nil && ctx.Err() == nil {
		return s, nil, err
	}
	return s, s.checkpoints[len(s.checkpoints)-1], nil
}

// must trains and returns the events of anomalies and the last checkpoint.
func (g guardedRun) must(t *testing.T) (events []telemetry.Event, ck *checkpoint.Checkpoint) {
	t.Helper()
	s, ck, err := g.train(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range s.events {
		if e.Type == telemetry.TypeAnomaly {
			events = append(events, e)
		}
	}
	return events, ck
}

// differentTensors is difference, but for the place in training.
func differentTensors(a, b *checkpoint.Checkpoint) string {
	delete(a.Meta, metaProgress)
	delete(b.Meta, metaProgress)
	return difference(a, b)
}

var nan = float32(math.NaN())

// An update whose loss is no number, or far above those before, is left out: the parameters that follow do not depend on
// what was wrong with it, but do differ from those with it. Nor do they on devices and memories.
func TestAnomaliesAreSkipped(t *testing.T) {
	skip := []string{"train.on_anomaly=skip"}
	events, number := guardedRun{sets: skip, spoil: map[int64]float32{8: nan}}.must(t)
	if len(events) != 1 || events[0].Updates != 4 || events[0].Trigger != "skip" || !strings.Contains(events[0].Message, "loss is NaN: update left out") {
		t.Fatalf("events %+v", events)
	}
	_, infinite := guardedRun{sets: skip, spoil: map[int64]float32{8: float32(math.Inf(1))}}.must(t)
	if d := difference(number, infinite); d != "" {
		t.Errorf("NaN and infinity differ: %s", d)
	}
	if _, whole := (guardedRun{sets: skip}).must(t); difference(number, whole) == "" {
		t.Error("the update makes no difference")
	}
	for _, devices := range []string{"2", "memories"} {
		if _, other := (guardedRun{sets: skip, spoil: map[int64]float32{8: nan}, devices: devices}).must(t); difference(number, other) != "" {
			t.Errorf("devices %s: %s", devices, difference(number, other))
		}
	}
}

// A leaf's NaN is not in the means of its epoch, which all other leaves are.
func TestLostLeavesAreNotInTheMeans(t *testing.T) {
	s, _, err := guardedRun{sets: []string{"train.on_anomaly=skip"}, spoil: map[int64]float32{8: nan}}.train(t)
	if err != nil {
		t.Fatal(err)
	}
	whole, _, err := guardedRun{}.train(t)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range s.epochs {
		if !(math.Abs(e.TrainLoss-whole.epochs[i].TrainLoss) < 0.2) || e.TrainAccuracy > 1 {
			t.Errorf("epoch %d: loss %g, accuracy %g; undisturbed %g", i+1, e.TrainLoss, e.TrainAccuracy, whole.epochs[i].TrainLoss)
		}
	}
}

// A finite spike is judged by the standard deviations of the updates before it, once there are enough of them.
func TestSpikes(t *testing.T) {
	long := []string{"train.epochs=9", "train.on_anomaly=skip", "train.anomaly_z=8"}
	events, spike := guardedRun{sets: long, spoil: map[int64]float32{60: 1000}}.must(t)
	if len(events) != 1 || events[0].Updates != 30 || !strings.Contains(events[0].Message, "standard deviations above") {
		t.Fatalf("events %+v", events)
	}
	_, other := guardedRun{sets: long, spoil: map[int64]float32{60: nan}}.must(t)
	if d := differentTensors(spike, other); d != "" {
		t.Errorf("a spike and a NaN that were left out differ: %s", d)
	}
	if events, _ := (guardedRun{sets: long[:2], spoil: map[int64]float32{60: 1000}}).must(t); len(events) != 0 {
		t.Errorf("without anomaly_z: events %+v", events)
	}
	if events, _ := (guardedRun{sets: long, spoil: map[int64]float32{8: 1000}}).must(t); len(events) != 0 {
		t.Errorf("a spike in update 5 was judged: %+v", events)
	}
}

// With stop, and with anomalies that do not end, the run ends with an error that says what to do.
func TestAnomaliesThatEndTheRun(t *testing.T) {
	_, _, err := guardedRun{sets: []string{"train.epochs=9", "train.anomaly_z=8"}, spoil: map[int64]float32{60: 1000}}.train(t)
	if err == nil || !strings.Contains(err.Error(), "update 31: the gradient norm is") || !strings.Contains(err.Error(), "on_anomaly is stop") {
		t.Errorf("stop: %v", err)
	}
	all := map[int64]float32{}
	for i := range int64(30) {
		all[2*i] = nan
	}
	var found *anomaly
	_, _, err = guardedRun{sets: []string{"train.on_anomaly=skip"}, spoil: all}.train(t)
	if !errors.As(err, &found) || !strings.Contains(err.Error(), "as in 9 updates before it: training has diverged") {
		t.Errorf("skip: %v", err)
	}
}

// After a rollback the parameters are those of the checkpoint, and training goes on with the next samples.
func TestRollback(t *testing.T) {
	back := []string{"train.on_anomaly=rollback"}
	g := guardedRun{sets: back, spoil: map[int64]float32{12: nan}, stopAt: 4}
	_, before := g.must(t)
	g.stopAt = 0
	events, want := g.must(t)
	if len(events) != 1 || events[0].Updates != 6 || !strings.Contains(events[0].Message, "back to the parameters after 4 updates") {
		t.Fatalf("events %+v", events)
	}
	var at progress
	if err := decode(want, metaProgress, &at); err != nil || at.Before != 2 {
		t.Errorf("the step rule counts %d updates less than the run, %v; want the 2 that were undone", at.Before, err)
	}
	byHand := g
	byHand.from, byHand.spoil = movedOn(t, before, g), nil
	_, got := byHand.must(t)
	for _, devices := range []string{"2", "memories"} {
		g.devices = devices
		if _, other := g.must(t); difference(want, other) != "" {
			t.Errorf("devices %s: %s", devices, difference(want, other))
		}
	}
	if _, skipped := (guardedRun{sets: []string{"train.on_anomaly=skip"}, spoil: g.spoil}).must(t); difference(want, skipped) == "" {
		t.Error("a rollback is no more than a skip")
	}
	if d := differentTensors(want, got); d != "" {
		t.Errorf("by hand: %s", d)
	}
}

// Before the first update methods act as at the start of the run: here one measures.
func TestRollbackToTheStart(t *testing.T) {
	g := guardedRun{sets: []string{"train.on_anomaly=rollback"}, method: "sgs", stopAt: 1}
	_, first := g.must(t)
	g.spoil, g.stopAt = map[int64]float32{2: nan}, 2
	events, second := g.must(t)
	if len(events) != 1 || !strings.Contains(events[0].Message, "back to the parameters after 0 updates") {
		t.Fatalf("events %+v", events)
	}
	if want, got := first.Meta[metaMethod+"sgs"], second.Meta[metaMethod+"sgs"]; want != got || strings.Contains(got, "[1,1,1,") {
		t.Errorf("factors %s; at the start of the run they were %s", got, want)
	}
}

// movedOn returns a checkpoint of a run at the place among the samples after its update 7, which was left out.
func movedOn(t *testing.T, ck *checkpoint.Checkpoint, g guardedRun) *checkpoint.Checkpoint {
	t.Helper()
	g.stopAt = 6
	_, sixth := g.must(t)
	var at progress
	if err := decode(sixth, metaProgress, &at); err != nil {
		t.Fatal(err)
	}
	if at.Epoch != 1 || at.Leaf != 1 {
		t.Fatalf("update 6 ends at %+v", at)
	}
	at.Leaf += 2
	at.Samples += 64
	text, err := json.Marshal(at)
	if err != nil {
		t.Fatal(err)
	}
	moved := &checkpoint.Checkpoint{Tensors: ck.Tensors, Meta: maps.Clone(ck.Meta)}
	moved.Meta[metaProgress] = string(text)
	return moved
}

// A run with anomalies that stops at any update and goes on has the bits of one that does not stop.
func TestResumeWithAnomalies(t *testing.T) {
	for _, policy := range []string{"skip", "rollback"} {
		for _, method := range []string{"", "absa", "conadv", "gns", "sam", "lamb"} {
			t.Run(policy+" "+method, func(t *testing.T) {
				g := guardedRun{sets: []string{"train.on_anomaly=" + policy, "train.anomaly_z=8"}, method: method, spoil: map[int64]float32{12: nan, 16: nan}}
				_, want := g.must(t)
				for _, stop := range []int{3, 6, 9} {
					g.stopAt, g.from, g.kept = stop, nil, nil
					s, from, err := g.train(t)
					if err != nil {
						t.Fatal(err)
					}
					g.stopAt, g.from, g.kept = 0, from, s.checkpoints
					if _, got := g.must(t); difference(want, got) != "" {
						t.Errorf("stopped after update %d: %s", stop, difference(want, got))
					}
				}
			})
		}
	}
}

// The trend is the mean and the variance of the values, while there are few.
func TestTrend(t *testing.T) {
	var tr trend
	for i := range trendWarmup {
		if got := tr.score(1e9); got != 0 {
			t.Errorf("after %d values a score of %g", i, got)
		}
		tr.add(float64(i % 5))
	}
	if math.Abs(tr.Mean-2) > 1e-12 || math.Abs(tr.Variance-2) > 1e-12 {
		t.Errorf("mean %g, variance %g; want 2 and 2", tr.Mean, tr.Variance)
	}
	if got, want := tr.score(9), 7/math.Sqrt2; math.Abs(got-want) > 1e-12 {
		t.Errorf("score %g, want %g", got, want)
	}
	for range 2000 {
		tr.add(3)
	}
	if fmt.Sprintf("%.6f %.6f", tr.Mean, tr.Variance) != "3.000000 0.000000" {
		t.Errorf("mean %g, variance %g of a constant", tr.Mean, tr.Variance)
	}
}
