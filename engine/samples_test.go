package engine

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/checkpoint"
	"broadside/engine/data"
	"broadside/engine/methods"
)

// step computes and makes one update.
func step(t *testing.T, tr *trainer) {
	t.Helper()
	if err := tr.computeLeaves(); err != nil {
		t.Fatal(err)
	}
	if err := tr.update(); err != nil {
		t.Fatal(err)
	}
}

// alike reports whether two vectors agree to a relative error of their largest element.
func alike(a, b []float32, tolerance float64) bool {
	largest := 0.
	for _, v := range a {
		largest = max(largest, math.Abs(float64(v)))
	}
	for i := range a {
		if !(math.Abs(float64(a[i]-b[i])) <= tolerance*largest) {
			return false
		}
	}
	return true
}

// summed returns the sum of the lanes after the leaves of an update are computed.
func summed(t *testing.T, tr *trainer) []float32 {
	t.Helper()
	if err := tr.computeLeaves(); err != nil {
		t.Fatal(err)
	}
	sum, err := tr.fleet.reduce.finish(tr.fleet.sums, tr.pending.places)
	if err != nil {
		t.Fatal(err)
	}
	return read(sum)
}

// Where every image is its own mirror image, copies that differ by flips are all the same: three of them must make the
// update that one makes, by the weight 1/(3 B), but for the rounding of sums.
func TestCopiesAreAveraged(t *testing.T) {
	set := synthetic(128, 8, 3, 4)
	for row := 0; row < len(set.Images); row += 8 * 3 {
		for x := range 4 {
			copy(set.Images[row+(7-x)*3:row+(8-x)*3], set.Images[row+x*3:row+(x+1)*3])
		}
	}
	pair := &data.Pair{Train: set, Test: set}
	var params [][]float32
	for _, method := range []string{"", "batchaug: {copies: 3}"} {
		tr := startTrainer(t, parseRecipe(t, smallText+"methods: ["+method+"]\n", "data.augment=[flip]"), pair, 2, &tape{})
		step(t, tr)
		params = append(params, read(tr.fleet.params))
	}
	if !alike(params[0], params[1], 1e-5) {
		t.Error("three equal copies do not make the update of one")
	}
}

// Each copy has an augmentation of its own, the first one that of a run without copies; what is counted are distinct
// samples, but for the passes.
func TestCopiesDiffer(t *testing.T) {
	pair := &data.Pair{Train: synthetic(128, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	plain := startTrainer(t, smallRecipe(t, ""), pair, 1, &tape{})
	s := &tape{keepSteps: true}
	tr := startTrainer(t, smallRecipe(t, "batchaug"), pair, 1, s)
	for _, tr := range []*trainer{plain, tr} {
		if err := tr.computeLeaves(); err != nil {
			t.Fatal(err)
		}
	}
	want, got := plain.job.loss, tr.job.loss // of two leaves, and of three copies of each
	if got[0] != want[0] || got[3] != want[1] {
		t.Errorf("losses of the first copies %g and %g; without copies they are %g", got[0], got[3], want)
	}
	if got[0] == got[1] || got[1] == got[2] || got[0] == got[2] {
		t.Errorf("copies of a leaf have the losses %g", got[:3])
	}
	loss := tr.at.EpochLoss
	if err := tr.update(); err != nil {
		t.Fatal(err)
	}
	if tr.at.Samples != 64 || tr.at.GradPasses != 3*64 || tr.at.Leaf != 2 || s.steps[0].Samples != 64 {
		t.Errorf("counted %d samples, %d passes, %d leaves of the epoch, an update of %d", tr.at.Samples, tr.at.GradPasses, tr.at.Leaf, s.steps[0].Samples)
	}
	if mean := loss / (3 * 64); math.Abs(s.steps[0].Loss-mean) > 1e-12 {
		t.Errorf("recorded loss %g; want the mean over all copies, %g", s.steps[0].Loss, mean)
	}
}

func TestCopiesNeedAugmentation(t *testing.T) {
	pair := &data.Pair{Train: synthetic(128, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	tr := startTrainer(t, smallRecipe(t, ""), pair, 1, &tape{})
	_, err := newTrainer(tr.fleet, parseRecipe(t, smallText+"methods: [batchaug]\n", "data.augment=none"), &tape{})
	if err == nil || !strings.Contains(err.Error(), "batchaug") || !strings.Contains(err.Error(), "data.augment") {
		t.Errorf("equal copies: %v", err)
	}
}

// weigher weighs samples by their number.
type weigher func(sample int32) float32

func (w weigher) Weigh(_ methods.Training, _ methods.Draw, samples []int32, weights []float32) {
	for i, s := range samples {
		weights[i] = w(s)
	}
}

// The gradient is linear in the weights of samples: twice for weights of 2, and that of the odd and of the even ones
// add up. The losses that are recorded are those of the samples.
func TestWeightsOfSamples(t *testing.T) {
	pair := &data.Pair{Train: synthetic(128, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	gradient := func(w methods.Weigher) ([]float32, *trainer) {
		tr := startTrainer(t, smallRecipe(t, ""), pair, 2, &tape{})
		tr.weigher = w
		return summed(t, tr), tr
	}
	plain, without := gradient(nil)
	one, _ := gradient(weigher(func(int32) float32 { return 1 }))
	two, with := gradient(weigher(func(int32) float32 { return 2 }))
	odd, _ := gradient(weigher(func(s int32) float32 { return float32(s % 2) }))
	even, _ := gradient(weigher(func(s int32) float32 { return float32(1 - s%2) }))
	if !slices.Equal(plain, one) {
		t.Error("weights of 1 change the gradient")
	}
	both := make([]float32, len(plain))
	for i := range plain {
		if two[i] != 2*plain[i] {
			t.Fatalf("gradient %d is %g; with weights of 2 %g", i, plain[i], two[i])
		}
		both[i] = odd[i] + even[i]
	}
	if !alike(plain, both, 1e-4) || alike(plain, odd, .1) {
		t.Error("the gradients of odd and even samples do not add up to that of all")
	}
	if with.at.EpochLoss != without.at.EpochLoss {
		t.Errorf("recorded loss %g; want %g", with.at.EpochLoss, without.at.EpochLoss)
	}
}

// The update trains on the samples of the largest losses of the whole batch, as a batch of them alone would.
func TestSelectedSamples(t *testing.T) {
	pair := &data.Pair{Train: synthetic(4*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	start := func(method string, devices int) *trainer {
		return startTrainer(t, parseRecipe(t, smallText+"methods: ["+method+"]\n", "batch.size=128", "batch.drop_last=true"), pair, devices, &tape{})
	}
	plain, tr := start("", 1), start("smallloss: {keep: 0.5}", 2)
	if err := plain.computeLeaves(); err != nil {
		t.Fatal(err)
	}
	got := summed(t, tr)
	var losses []float32
	for i := range 4 {
		losses = append(losses, plain.job.each[i].loss...)
	}
	order := make([]int, len(losses))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(math.Copysign(1, float64(losses[b]-losses[a]))) })
	order = order[:64]
	slices.Sort(order)
	if !slices.Equal(tr.scores.kept, order) {
		t.Fatalf("kept %v; the largest losses of a training pass are at %v", tr.scores.kept, order)
	}
	if tr.at.EpochLoss != plain.at.EpochLoss || tr.at.EpochCorrect != plain.at.EpochCorrect {
		t.Errorf("recorded loss %g, %d correct; want those of all samples, %g and %d", tr.at.EpochLoss, tr.at.EpochCorrect, plain.at.EpochLoss, plain.at.EpochCorrect)
	}
	if tr.at.Samples != 128 || tr.at.GradPasses != 64 || tr.pending.samples != 64 {
		t.Errorf("%d samples seen, %d passes, a mean over %d; want 128, 64, 64", tr.at.Samples, tr.at.GradPasses, tr.pending.samples)
	}

	// A threshold between the losses of places 40 and 41, by size, keeps the same two leaves.
	bySize := slices.Clone(losses)
	slices.Sort(bySize)
	floor := (float64(bySize[128-40]) + float64(bySize[128-41])) / 2
	threshold := start(fmt.Sprintf("smallloss: {rule: threshold, min_loss: %.9g}", floor), 2)
	if !slices.Equal(got, summed(t, threshold)) || !slices.Equal(threshold.scores.kept, order) {
		t.Errorf("a threshold of %g keeps %v", floor, threshold.scores.kept)
	}

	alone := start("", 1)
	j := &alone.job
	j.draw, j.augment, j.update, j.last = methods.Draw{Seed: 7}, alone.cfg.augment, 1, 2
	for _, place := range order {
		j.indices = append(j.indices, plain.job.indices[place])
	}
	j.resize(2, 32)
	if err := alone.fleet.growStats(2); err != nil {
		t.Fatal(err)
	}
	if err := alone.fleet.compute(j, &j.results, 0, 2); err != nil {
		t.Fatal(err)
	}
	sum, err := alone.fleet.reduce.finish(alone.fleet.sums, 2)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, read(sum)) {
		t.Error("the gradient is not that of the kept samples")
	}
}

// Keeping all samples is SGD, whose epochs end with their last whole batch too.
func TestKeepingAllIsSGD(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	var all []*checkpoint.Checkpoint
	var losses []float64
	for _, method := range []string{"", "smallloss: {keep: 1}", "smallloss: {keep: 0.5, start: 1}", "smallloss: {rule: threshold, min_loss: 1.0e-30}"} {
		s := &tape{}
		tr := startTrainer(t, parseRecipe(t, smallText+"methods: ["+method+"]\n", "batch.drop_last=true"), pair, 1, s)
		if err := tr.train(context.Background()); err != nil {
			t.Fatal(err)
		}
		all = append(all, s.checkpoints[0])
		if losses = append(losses, s.epochs[2].TrainLoss); losses[0] != losses[len(losses)-1] {
			t.Errorf("%s: recorded loss %g; plain SGD's is %g", method, losses[len(losses)-1], losses[0])
		}
	}
	for _, ck := range all[1:] {
		for name, x := range all[0].Tensors {
			if a, ok := x.Data().([]float32); ok && !slices.Equal(a, ck.Tensors[name].Data().([]float32)) {
				t.Fatalf("%s differs from plain SGD", name)
			}
		}
	}
}

// Divided by the samples of the whole batch, the gradient of the kept half is half as large; SAM's first one too, which
// moves as far as ever along it.
func TestMeanOverTheWholeBatch(t *testing.T) {
	pair := &data.Pair{Train: synthetic(4*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for _, other := range []string{"", ", sam: {rho: 0.5}"} {
		moved := func(mean string) []float32 {
			text := smallText + "methods: [smallloss: {keep: 0.5, mean: " + mean + "}" + other + "]\n"
			tr := startTrainer(t, parseRecipe(t, text, "batch.size=128", "batch.drop_last=true", "optimizer={lr: 0.0625, momentum: 0, weight_decay: 0}"), pair, 2, &tape{})
			before := read(tr.fleet.params)
			step(t, tr)
			after := read(tr.fleet.params)
			for i := range after {
				after[i] -= before[i]
			}
			return after
		}
		kept, batch := moved("kept"), moved("batch")
		for i := range batch {
			batch[i] *= 2
		}
		if !alike(kept, batch, 1e-4) { // differences of parameters in single precision
			t.Errorf("smallloss%s: half the batch does not move half as far", other)
		}
	}
}

func TestSelectionNeedsDropLast(t *testing.T) {
	pair := &data.Pair{Train: synthetic(128, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	tr := startTrainer(t, smallRecipe(t, ""), pair, 1, &tape{})
	_, err := newTrainer(tr.fleet, parseRecipe(t, smallText+"methods: [smallloss]\n"), &tape{})
	if err == nil || !strings.Contains(err.Error(), "batch.drop_last") {
		t.Errorf("updates over two epochs: %v", err)
	}
}

// Masters' identity: the rate per sample times the sum of gradients is the rate of a step times their mean.
func TestRatePerSample(t *testing.T) {
	pair := &data.Pair{Train: synthetic(128, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	sum := startTrainer(t, parseRecipe(t, smallText+"methods: [persample]\n", "optimizer={lr: 0.0009765625, momentum: 0, weight_decay: 0}"), pair, 2, &tape{})
	mean := startTrainer(t, parseRecipe(t, smallText, "optimizer={lr: 0.0625, momentum: 0, weight_decay: 0}"), pair, 2, &tape{})
	before, gradient := read(sum.fleet.params), summed(t, startTrainer(t, smallRecipe(t, ""), pair, 2, &tape{}))
	step(t, sum)
	step(t, mean)
	after := read(sum.fleet.params)
	if !slices.Equal(after, read(mean.fleet.params)) {
		t.Error("64 times the rate per sample is not the rate of a step of 64 samples")
	}
	for i := range before {
		if want := before[i] - gradient[i]/1024; math.Abs(float64(after[i]-want)) > 1e-6*(1+math.Abs(float64(want))) {
			t.Fatalf("parameter %d went from %g to %g; want the sum of gradients, %g, by the rate: %g", i, before[i], after[i], gradient[i], want)
		}
	}
}

// Ghosts of 8 samples make the same update in leaves of 8 and of 64: statistics belong to ghosts, whatever else is
// computed together. Ghosts of 64 make another one.
func TestGhostsAreApartFromBatchAndLeaf(t *testing.T) {
	pair := &data.Pair{Train: synthetic(128, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	update := func(batch string) []float32 {
		tr := startTrainer(t, parseRecipe(t, smallText, "batch="+batch), pair, 2, &tape{})
		step(t, tr)
		return read(tr.fleet.params)
	}
	small := update("{size: 64, leaf: 8, ghost: 8}")
	if !alike(small, update("{size: 64, leaf: 64, ghost: 8}"), 1e-5) {
		t.Error("ghosts of 8 in a leaf of 64 are not those of leaves of 8")
	}
	if alike(small, update("{size: 64, leaf: 64, ghost: 64}"), 1e-3) {
		t.Error("the size of ghosts makes no difference")
	}
}

// A run that trains longer keeps a recipe that says so, and the same epochs when it goes on from it.
func TestLongerRecipeIsLengthenedOnce(t *testing.T) {
	r := parseRecipe(t, smallText+"methods:\n  - regime: {base_batch: 16, longer: true}\n", "schedule.warmup_epochs=0.5")
	for range 2 {
		if _, err := openMethods(r); err != nil {
			t.Fatal(err)
		}
		text, err := r.YAML()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"epochs: 12\n", "at: [4, 8]\n", "warmup_epochs: 2\n", "longer: true, longer_by: 4}"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("the recipe lacks %q:\n%s", want, text)
			}
		}
		r = parseRecipe(t, string(text))
	}
}

// What selects, copies and weighs samples goes together with devices of any number; a pair that does not is refused.
func TestSampleMethodsTogether(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	text := smallText + "methods: [batchaug: {copies: 2}, noise: {base_batch: 32}, adabatch: {every: 1}]\n"
	var all []*checkpoint.Checkpoint
	for _, devices := range []int{1, 3} {
		s := &tape{}
		tr := startTrainerOn(t, parseRecipe(t, text), pair, devicetest.Open(t, devices), Options{}, s)
		if err := tr.train(context.Background()); err != nil {
			t.Fatal(err)
		}
		all = append(all, s.checkpoints[0])
	}
	if d := difference(all[0], all[1]); d != "" {
		t.Errorf("on 3 devices: %s", d)
	}
	if _, err := openMethods(parseRecipe(t, smallText+"methods: [batchaug, smallloss]\n")); err == nil || !strings.Contains(err.Error(), "samples") {
		t.Errorf("copies of selected samples: %v", err)
	}
}
