package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/checkpoint"
	"broadside/engine/data"
	"broadside/engine/graph"
	"broadside/kernels"
)

// trainText trains a recipe on some devices up to an update, or to the end, and returns its last checkpoint and what it
// told.
func trainText(t *testing.T, text string, devices []kernels.Device, stopAt int, from *checkpoint.Checkpoint, change func(*trainer)) (*checkpoint.Checkpoint, *tape) {
	t.Helper()
	pair := &data.Pair{Train: synthetic(11*32+5, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	s := &tape{stopAt: stopAt, keepSteps: true}
	tr := startTrainerOn(t, parseRecipe(t, text), pair, devices, Options{}, s)
	if change != nil {
		change(tr)
	}
	if from != nil {
		if err := tr.restore(from); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.cancel = cancel
	if err := tr.train(ctx); err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	return s.checkpoints[len(s.checkpoints)-1], s
}

// networksDiffer names a tensor of the network in which two checkpoints differ.
func networksDiffer(a, b *checkpoint.Checkpoint) string {
	for name, x := range a.Tensors {
		u, ok := x.Data().([]float32)
		if ok && !strings.HasPrefix(name, optimizerPrefix) && !slices.Equal(u, b.Tensors[name].Data().([]float32)) {
			return name
		}
	}
	return ""
}

// A stale attack is that of the parameters of an update ago, on the samples of this one.
func TestStaleAttacksDifferByTheParametersOnly(t *testing.T) {
	const conadv, disadv = "methods: [conadv: {epsilon: %g}]\n", "methods: [disadv: {epsilon: %g}]\n"
	run := func(method string, eps float64, stopAt int, change func(*trainer)) *checkpoint.Checkpoint {
		ck, _ := trainText(t, smallText+fmt.Sprintf(method, eps), devicetest.Open(t, 2), stopAt, nil, change)
		return ck
	}
	still := func(tr *trainer) { tr.cfg.lr = 0 }
	for _, c := range []struct {
		name   string
		eps    float64
		stopAt int
		change func(*trainer)
		same   bool
	}{
		{"no learning", 0.1, 0, still, true}, // parameters of an update ago are those of now
		{"no attack", 0, 0, nil, true},
		{"first update", 0.1, 1, nil, true}, // attacked in it
		{"second update", 0.1, 2, nil, false},
	} {
		diff := networksDiffer(run(conadv, c.eps, c.stopAt, c.change), run(disadv, c.eps, c.stopAt, c.change))
		if c.same && diff != "" {
			t.Errorf("%s: conadv and disadv differ in %s", c.name, diff)
		}
		if !c.same && diff == "" {
			t.Errorf("%s: conadv and disadv are the same: nothing was stale", c.name)
		}
	}
}

// Stale attacks outlive batches that change, epochs that end in the middle of an update, stops, and other devices.
func TestStaleAttacksWithAGrowingBatch(t *testing.T) {
	for _, view := range []string{"", ", view: [flip]"} {
		checkStaleGrowth(t, smallText+"methods: [conadv: {epsilon: 0.1"+view+"}, abs: {max_batch: 256, patience: 1}]\n")
	}
}

func checkStaleGrowth(t *testing.T, text string) {
	t.Helper()
	want, whole := trainText(t, text, devicetest.Open(t, 1), 0, nil, nil)
	last := whole.steps[len(whole.steps)-1]
	if last.Batch != 256 {
		t.Fatalf("the last update's batch is %d: the batch did not grow", last.Batch)
	}
	for i, devices := range [][]kernels.Device{devicetest.Open(t, 3), devicetest.OpenApart(t, 2, 2), devicetest.OpenApart(t, 4, 1)} {
		if got, _ := trainText(t, text, devices, 0, nil, nil); difference(want, got) != "" {
			t.Errorf("devices %d: %s", i, difference(want, got))
		}
	}
	for stop := 1; stop < last.Updates; stop++ {
		half, _ := trainText(t, text, devicetest.Open(t, 2), stop, nil, nil)
		if got, _ := trainText(t, text, devicetest.OpenApart(t, 2, 1), 0, half, nil); difference(want, got) != "" {
			t.Errorf("resumed after update %d of %d: %s", stop, last.Updates, difference(want, got))
		}
	}
}

func TestDroppedStaleAttacksAreNoticed(t *testing.T) {
	text := smallText + "methods: [conadv: {epsilon: 0.1}]\n"
	want, _ := trainText(t, text, devicetest.Open(t, 1), 0, nil, nil)
	for name, drop := range map[string]func(ck *checkpoint.Checkpoint){
		"parameters": func(ck *checkpoint.Checkpoint) {
			clear(ck.Tensors["broadside.attack.conv1.weight"].Data().([]float32))
		},
		"leaves": func(ck *checkpoint.Checkpoint) { ck.Meta[metaAhead] = "[]" },
		"set":    func(ck *checkpoint.Checkpoint) { clear(ck.Tensors["bn1_adv.running_mean"].Data().([]float32)) },
	} {
		half, _ := trainText(t, text, devicetest.Open(t, 1), 5, nil, nil)
		drop(half)
		if got, _ := trainText(t, text, devicetest.Open(t, 1), 0, half, nil); difference(want, got) == "" {
			t.Errorf("a resume without the %s went unnoticed", name)
		}
	}
}

// Without an attack a twin is the leaf: what both share gets the gradient of plain SGD, the first set half of it.
func TestTwinsWithoutAnAttack(t *testing.T) {
	sgd, _ := trainText(t, smallText, devicetest.Open(t, 2), 1, nil, nil)
	twins, s := trainText(t, smallText+"methods: [disadv: {epsilon: 0}]\n", devicetest.Open(t, 2), 1, nil, nil)
	floats := func(ck *checkpoint.Checkpoint, name string) []float32 { return ck.Tensors[name].Data().([]float32) }
	for name := range sgd.Tensors {
		if _, ok := sgd.Tensors[name].Data().([]float32); !ok || strings.HasPrefix(name, optimizerPrefix) {
			continue
		}
		layer, norm := strings.CutSuffix(name, ".weight")
		if !norm {
			layer, norm = strings.CutSuffix(name, ".bias")
		}
		if norm && twins.Tensors[layer+"_adv.weight"] != nil {
			adv := strings.Replace(name, layer, layer+"_adv", 1)
			if !slices.Equal(floats(twins, name), floats(twins, adv)) || slices.Equal(floats(twins, name), floats(sgd, name)) {
				t.Errorf("%s: both sets must move alike, by half", name)
			}
			continue
		}
		if !slices.Equal(floats(sgd, name), floats(twins, name)) {
			t.Errorf("%s differs from plain SGD", name)
		}
	}
	if len(s.steps) != 1 || s.steps[0].Samples != 64 {
		t.Errorf("steps %+v; want one of the 64 samples of the batch", s.steps)
	}
}

// The weights of the second set are not decayed where those of the first are not.
func TestFurtherSetsAreExcludedFromDecay(t *testing.T) {
	run := func(exclude string) *checkpoint.Checkpoint {
		text := strings.Replace(smallText, "weight_decay: 0.001, decay_exclude: [bn]", "weight_decay: 0.5, decay_exclude: "+exclude, 1)
		ck, _ := trainText(t, text+"methods: [disadv: {}]\n", devicetest.Open(t, 1), 1, nil, nil)
		return ck
	}
	with, without := run("[]"), run("[bn]")
	for _, name := range []string{"bn1.weight", "bn1_adv.weight"} {
		a, b := with.Tensors[name].Data().([]float32), without.Tensors[name].Data().([]float32)
		if slices.Equal(a, b) {
			t.Errorf("%s is decayed in spite of optimizer.decay_exclude", name)
		}
	}
}

// Twins cost more than clean leaves: every device gets as many, where the number of leaves allows it.
func TestTwinsAreDealtEvenly(t *testing.T) {
	for _, pair := range []*pairing{{}, {further: further{augment: augmentation{flip: true}}}} {
		f := &fleet{pair: pair}
		for _, devices := range []int{2, 4, 8} {
			twins := make([]int, devices)
			for leaf := range devices {
				var kinds []viewKind
				for place := leaf * f.views(); place < (leaf+1)*f.views(); place++ {
					of, copy, kind := f.view(place)
					if of != leaf || (kind == twinView) != (place == pair.twinPlace(leaf)) || (copy > 0) != (kind == augmentedView) {
						t.Fatalf("place %d is of leaf %d, copy %d, kind %d; want leaf %d", place, of, copy, kind, leaf)
					}
					kinds = append(kinds, kind)
				}
				slices.Sort(kinds)
				if want := []viewKind{cleanView, augmentedView, twinView}; !slices.Equal(kinds, want) && !slices.Equal(kinds, slices.Delete(want, 1, 2)) {
					t.Fatalf("leaf %d has the views %v", leaf, kinds)
				}
				twins[pair.twinPlace(leaf)%devices]++
			}
			if slices.Max(twins) != 1 {
				t.Errorf("%d leaves on %d devices: %v twins each; want one", devices, devices, twins)
			}
		}
	}
}

func TestStepsWithTwinsAllocateNothing(t *testing.T) {
	if devicetest.OnGPU() {
		t.Skip("calls of the GPU's driver allocate a little")
	}
	pair := &data.Pair{Train: synthetic(200*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for _, method := range []string{"conadv: {}", "conadv: {view: [flip]}", "disadv: {}", "pgd: {iterations: 1}", "free: {}"} {
		tr := startTrainer(t, parseRecipe(t, smallText+"methods: ["+method+"]\n", "train.epochs=100"), pair, 2, &tape{})
		step := func() {
			if err := tr.computeLeaves(); err != nil {
				t.Fatal(err)
			}
			if err := tr.update(); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			step()
		}
		if n := testing.AllocsPerRun(20, step); n != 0 {
			t.Errorf("%s: %g allocations per step; want 0", method, n)
		}
	}
}

// An evaluation uses the first set, and so it needs no other.
func TestEvaluationUsesTheFirstSet(t *testing.T) {
	ck, s := trainText(t, smallText+"methods: [disadv: {}]\n", devicetest.Open(t, 1), 0, nil, nil)
	pair := &data.Pair{Train: synthetic(11*32+5, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	plain := startTrainer(t, smallRecipe(t, ""), pair, 1, &tape{}).fleet
	if err := plain.loadNetwork(ck); err != nil {
		t.Fatal(err)
	}
	e, err := plain.evaluate(plain.test)
	if err != nil {
		t.Fatal(err)
	}
	if want := s.epochs[len(s.epochs)-1]; e.Loss != *want.TestLoss || e.Accuracy != *want.TestAccuracy {
		t.Errorf("%+v; training found loss %v and accuracy %v", e, *want.TestLoss, *want.TestAccuracy)
	}
	var names []string
	if err := json.Unmarshal([]byte(ck.Meta[metaNormSets]), &names); err != nil || !slices.Equal(names, []string{"adv"}) {
		t.Errorf("norm sets %v, %v", names, err)
	}
	delete(ck.Meta, metaNormSets)
	if err := plain.loadNetwork(ck); err == nil || !strings.Contains(err.Error(), "_adv") {
		t.Errorf("unnamed tensors of another set: %v; want an error that names one", err)
	}
}

// Losses and passes: the record is of the clean samples, the gradient of both.
func TestRecordsOfPairs(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for _, c := range []struct {
		method string
		passes int64
	}{{"conadv: {}", 3}, {"conadv: {view: [flip]}", 4}, {"disadv: {}", 3}, {"advprop: {}", 7}, {"pgd: {pairs: true, iterations: 4}", 6}, {"pgd: {iterations: 4}", 5},
		{"pgd: {iterations: 4, mix: 0.25}", 2}, {"fgsmrs: {}", 2}} {
		s := &tape{}
		tr := startTrainer(t, parseRecipe(t, smallText+"methods: ["+c.method+"]\n", "batch.size=352"), pair, 1, s)
		if err := tr.train(context.Background()); err != nil {
			t.Fatal(err)
		}
		if want := c.passes * 3 * 11 * 32; tr.at.GradPasses != want || tr.at.Samples != 3*11*32 || tr.at.Updates != 3 {
			t.Errorf("%s: %d passes, %d samples, %d updates; want %d, 1056, 3", c.method, tr.at.GradPasses, tr.at.Samples, tr.at.Updates, want)
		}
		if first := s.epochs[0]; first.TrainAccuracy < 0 || first.TrainAccuracy > 1 {
			t.Errorf("%s: training accuracy %g", c.method, first.TrainAccuracy)
		}
	}
}

// Where the end of an epoch is dropped, the next update is of the next epoch, and its leaves are attacked ahead too.
func TestStaleAttacksWithDroppedLeaves(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for size, leaves := range map[int]int{128: 8, 352: 11, 160: 10} {
		tr := startTrainer(t, parseRecipe(t, smallText+"methods: [conadv: {}]\n", fmt.Sprintf("batch.size=%d", size), "batch.drop_last=true"), pair, 1, &tape{})
		if err := tr.train(context.Background()); err != nil {
			t.Fatal(err)
		}
		if want := int64(3 * 3 * leaves * 32); tr.at.GradPasses != want {
			t.Errorf("batch %d: %d passes; want %d, one attack of every leaf that is trained on", size, tr.at.GradPasses, want)
		}
	}
}

// pgd with pairs needs no further set; its twins fold into the first one's statistics.
func TestPairsWithoutFurtherSets(t *testing.T) {
	ck, _ := trainText(t, smallText+"methods: [pgd: {pairs: true, iterations: 1}]\n", devicetest.Open(t, 2), 0, nil, nil)
	again, _ := trainText(t, smallText+"methods: [pgd: {pairs: true, iterations: 1}]\n", devicetest.Open(t, 1), 0, nil, nil)
	if diff := difference(ck, again); diff != "" {
		t.Errorf("two devices and one: %s", diff)
	}
	for name := range ck.Tensors {
		if strings.Contains(name, "_adv") {
			t.Errorf("a tensor %s", name)
		}
	}
	for _, p := range startTrainer(t, parseRecipe(t, smallText+"methods: [disadv: {aux_bn: false}]\n"),
		&data.Pair{Train: synthetic(64, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}, 1, &tape{}).fleet.net.Params {
		if p.Role == graph.Gamma && strings.Contains(p.Name, "_adv") {
			t.Errorf("aux_bn: false, and a parameter %s", p.Name)
		}
	}
}
