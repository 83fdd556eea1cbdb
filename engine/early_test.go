package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/telemetry"
)

// ends keeps what every epoch ends with.
type ends struct {
	tape
	trainer       *trainer
	params, state [][]float32
}

func (e *ends) Epoch(r telemetry.Epoch) error {
	e.params, e.state = append(e.params, read(e.trainer.fleet.params)), append(e.state, read(e.trainer.fleet.state))
	return e.tape.Epoch(r)
}

// trainToEnd trains the variant that stops, with an early_stop, and returns what its epochs ended with.
func trainToEnd(t *testing.T, earlyStop string, more ...string) (*ends, *trainer) {
	t.Helper()
	sets := slices.Concat(variants["fgsmrs, stopped"], []string{"methods=[fgsmrs: {epsilon: 0.1, early_stop: " + earlyStop + "}]"}, more)
	r, s := parseRecipe(t, smallText, sets...), &ends{}
	tr := startTrainer(t, r, smallPair(r), 2, &s.tape)
	tr.sink, s.trainer = s, tr
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s, tr
}

// A run in which the accuracy under PGD falls ends early, with the bits that the epoch before ended with. One that tolerates
// the fall, and one that does not look, go on with the same bits up to there.
func TestStopEndsWithTheEpochBefore(t *testing.T) {
	for _, more := range [][]string{nil, {"batch.size=96"}, {"train.eval_every=2"}} { // an epoch may end within an update
		off, _ := trainToEnd(t, "0", more...)
		on, _ := trainToEnd(t, "1", more...)
		if len(off.epochs) != 5 || len(on.epochs) != 5 {
			t.Fatalf("%d and %d epochs without a stop; want 5", len(off.epochs), len(on.epochs))
		}
		robust := func(e telemetry.Epoch) float64 { return e.Values["robust_accuracy"] }
		falls := slices.Clone(on.epochs)
		last := 1 + slices.IndexFunc(falls[1:], func(e telemetry.Epoch) bool { return robust(falls[e.Epoch-2])-robust(e) > 0.1 })
		if last == 0 {
			t.Fatalf("%v: the accuracy never falls", more)
		}
		stopped, tr := trainToEnd(t, "0.1", more...)
		if len(stopped.epochs) != last+1 {
			t.Fatalf("%v: stopped after %d epochs; want %d", more, len(stopped.epochs), last+1)
		}
		for i := range stopped.epochs {
			if !slices.Equal(stopped.params[i], off.params[i]) || !slices.Equal(on.params[i], off.params[i]) {
				t.Errorf("%v: epoch %d ends with other parameters", more, i+1)
			}
		}
		if !slices.Equal(read(tr.fleet.params), off.params[last-1]) || !slices.Equal(read(tr.fleet.state), off.state[last-1]) {
			t.Errorf("%v: the run does not end with what epoch %d ended with", more, last)
		}
		if e, err := tr.fleet.evaluate(tr.fleet.test); err != nil || e.Accuracy != tr.at.Test || e.Loss != tr.at.TestLoss {
			t.Errorf("%v: the run ends with a test accuracy of %g; it is %g, %v", more, tr.at.Test, e.Accuracy, err)
		}
		checkStopEvent(t, stopped, tr, fmt.Sprintf("the accuracy under PGD fell from %.1f%% to %.1f%% in an epoch (catastrophic overfitting); training ends with the network of epoch %d",
			100*robust(falls[last-1]), 100*robust(falls[last]), last))
	}
}

func checkStopEvent(t *testing.T, s *ends, tr *trainer, want string) {
	t.Helper()
	e := s.events[len(s.events)-1]
	if e.Type != telemetry.TypeEarlyStop || !strings.Contains(e.Message, want) || *e.Accuracy != tr.at.Test {
		t.Errorf("the last event is %+v; want a stop with %q", e, want)
	}
	if got := tr.summary(parseRecipe(t, smallText)).Stopped; got != e.Message {
		t.Errorf("the summary says %q", got)
	}
}

// A run that was stopped has nothing left to train; the network of the epoch before is gone from its checkpoint.
func TestAStoppedRunStaysStopped(t *testing.T) {
	_, want := trainSmall(t, "fgsmrs, stopped", 2, 0, nil)
	s, got := trainSmall(t, "fgsmrs, stopped", 2, 0, want)
	if len(s.steps) != 0 || difference(want, got) != "" {
		t.Errorf("trained %d updates more: %s", len(s.steps), difference(want, got))
	}
	_, half := trainSmall(t, "fgsmrs, stopped", 2, 8, nil)
	name := beforePrefix + "conv1.weight"
	if half.Tensors[name] == nil || want.Tensors[name] != nil {
		t.Errorf("%s is in the checkpoint of a run that goes on: %t, that ended: %t", name, half.Tensors[name] != nil, want.Tensors[name] != nil)
	}
	clear(half.Tensors[name].Data().([]float32))
	if _, got := trainSmall(t, "fgsmrs, stopped", 2, 12, half); slices.Equal(got.Tensors[name].Data().([]float32), make([]float32, 3*3*3*16)) {
		t.Error("the network of the epoch before was not remembered anew")
	}
}

// Without an attack the accuracy is that of training on the same samples with the same augmentation; with a large one it
// is worse. It has the same bits on all devices and memories, and leaves no trace.
func TestRobustAccuracy(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	attack := func(eps float64, train bool) methods.Attack {
		return methods.Attack{Samples: 32, TrainMode: train, Attack: graph.Attack{Eps: eps, Step: eps / 4, Iterations: 5, RandomStart: true, Pixels: true, Clamp: graph.ToBox}}
	}
	r := parseRecipe(t, smallText, "batch.size=320")
	for i, devices := range []int{1, 4} {
		open := devicetest.Open(t, devices)
		if i == 1 {
			open = devicetest.OpenApart(t, 2, 2)
		}
		tr := startTrainerOn(t, r, pair, open, Options{}, &tape{})
		step(t, tr)
		tr.at.Leaf = 0
		if err := tr.computeLeaves(); err != nil {
			t.Fatal(err)
		}
		tr.at.Epoch = 1
		state := read(tr.fleet.state)
		for leaves, samples := range map[int]int{2: 64, 10: 320, 3: 100} {
			correct := 0
			for _, n := range tr.job.correct[:leaves] {
				correct += n
			}
			want := float64(correct) / float64(32*leaves)
			if got, err := (control{tr}).RobustAccuracy(samples, attack(0, true)); err != nil || got != want {
				t.Errorf("%d samples, no attack: an accuracy of %g, %v; training had %g", samples, got, err, want)
			}
			if got, err := (control{tr}).RobustAccuracy(samples, attack(0.3, true)); err != nil || got >= want {
				t.Errorf("%d samples, attacked: an accuracy of %g, %v; want less than %g", samples, got, err, want)
			}
		}
		before := tr.at.GradPasses
		eval, err := (control{tr}).RobustAccuracy(1<<30, attack(0, false))
		if whole, _ := (control{tr}).RobustAccuracy(11*32, attack(0, true)); err != nil || eval == whole {
			t.Errorf("the running statistics come to the accuracy of the batch's, %g, %v", eval, err)
		}
		if got := tr.at.GradPasses - before; got != 2*5*11*32 {
			t.Errorf("%d gradient passes were counted", got)
		}
		if !slices.Equal(read(tr.fleet.state), state) {
			t.Error("the running statistics changed")
		}
	}
}

func TestTwoEndsAreRefused(t *testing.T) {
	r := parseRecipe(t, smallText+"methods: [fgsmrs: {early_stop: 0.2}, swap: {epochs: 1, batch: 32}]")
	pair := smallPair(r)
	net, err := newNetwork("resnet8", pair.Train)
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFleet(net, devicetest.Open(t, 1), configOf(r, Options{}))
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if err := f.load(pair, false); err != nil {
		t.Fatal(err)
	}
	if _, err := newTrainer(f, r, &tape{}); err == nil || !strings.Contains(err.Error(), "both decide when the recipe's own epochs end") {
		t.Errorf("error %v", err)
	}
}
