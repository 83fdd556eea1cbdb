package engine

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/recipe"
	"broadside/engine/telemetry"
	"broadside/kernels"
	"broadside/kernels/ref"
)

// trainSync trains four updates of 64 samples.
func trainSync(t *testing.T, devices []kernels.Device, model string, leaf int, sync bool) (*trainer, []telemetry.Step) {
	t.Helper()
	s := &tape{keepSteps: true}
	pair := &data.Pair{Train: synthetic(4*64, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	r := parseRecipe(t, smallText, "model.name="+model, fmt.Sprintf("batch.leaf=%d", leaf), fmt.Sprintf("batch.ghost=%d", leaf),
		fmt.Sprintf("batch.sync_bn=%t", sync), "train.epochs=1")
	tr := startTrainerOn(t, r, pair, devices, Options{}, s)
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	return tr, s.steps
}

// furthest returns the largest difference of two vectors, in units of the largest number of the second.
func furthest(a, b []float32) float64 {
	off, size := 0.0, 0.0
	for i := range b {
		off, size = max(off, math.Abs(float64(a[i]-b[i]))), max(size, math.Abs(float64(b[i])))
	}
	return off / size
}

// Statistics of all samples of an update are those of one leaf with all of them: losses, parameters and running
// statistics agree to the last float in the arithmetic of the oracle, and but for rounding on the CPU, where rounding
// may also move a number across the kink of a ReLU.
func TestSyncEqualsOneLeaf(t *testing.T) {
	cpu := func() []kernels.Device { return devicetest.Open(t, 2) }
	exact := func() []kernels.Device { return []kernels.Device{ref.New()} }
	for _, c := range []struct {
		model   string
		leaf    int
		devices func() []kernels.Device
		within  float64
	}{
		{"resnet8", 32, exact, 1e-6}, {"resnet8", 8, exact, 1e-6}, {"mlp", 1, exact, 1e-6},
		{"resnet8", 32, cpu, 1e-3}, {"resnet8", 8, cpu, 1e-3}, {"mlp", 16, cpu, 2e-5}, {"mlp", 1, cpu, 2e-5}, {"smooth", 4, cpu, 2e-5},
	} {
		one, want := trainSync(t, c.devices(), c.model, 64, false)
		sync, got := trainSync(t, c.devices(), c.model, c.leaf, true)
		where := fmt.Sprintf("%s, leaf %d, %s", c.model, c.leaf, sync.fleet.dev.Name())
		for i := range want {
			if off := math.Abs(got[i].Loss/want[i].Loss - 1); off > c.within {
				t.Errorf("%s: loss %d is %g, want %g: off by %.2g", where, i, got[i].Loss, want[i].Loss, off)
			}
		}
		for name, m := range map[string][2]kernels.Memory{"parameters": {sync.fleet.params, one.fleet.params}, "statistics": {sync.fleet.state, one.fleet.state}} {
			if off := furthest(read(m[0]), read(m[1])); off > c.within {
				t.Errorf("%s: %s are off by %.2g", where, name, off)
			}
		}
		ghosts, _ := trainSync(t, c.devices(), c.model, max(c.leaf, 2), false)
		if off := furthest(read(ghosts.fleet.params), read(one.fleet.params)); off < 4*c.within {
			t.Errorf("%s: training by ghosts is off by %.2g only: this test shows nothing", where, off)
		}
	}
}

// The gradient of a first update is that of one leaf, tensor by tensor.
func TestSyncGradientEqualsOneLeaf(t *testing.T) {
	gradient := func(leaf int, sync bool) ([]float32, *graph.Network) {
		pair := &data.Pair{Train: synthetic(4*64, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
		tr := startTrainer(t, parseRecipe(t, smallText, fmt.Sprintf("batch.leaf=%d", leaf), fmt.Sprintf("batch.ghost=%d", leaf),
			fmt.Sprintf("batch.sync_bn=%t", sync)), pair, 1, &tape{})
		if err := tr.computeLeaves(); err != nil {
			t.Fatal(err)
		}
		sum, err := tr.fleet.reduce.finish(tr.fleet.sums, tr.pending.leaves)
		if err != nil {
			t.Fatal(err)
		}
		return read(sum), tr.fleet.net
	}
	want, net := gradient(64, false)
	got, _ := gradient(16, true)
	for _, p := range net.Params {
		if off := furthest(got[p.Offset:p.Offset+p.Size()], want[p.Offset:p.Offset+p.Size()]); off > 1e-5 {
			t.Errorf("gradient of %s: off by %.2g", p.Name, off)
		}
	}
}

// All ranks hold the same after updates of any number of leaves, which have the bits of one memory.
func TestSyncRanksAgree(t *testing.T) {
	pair := &data.Pair{Train: synthetic(20*32, 8, 3, 4), Test: synthetic(20, 8, 3, 4)}
	for _, leaves := range []int{1, 3, 8, 9} {
		r := parseRecipe(t, smallText, fmt.Sprintf("batch.size=%d", 32*leaves), "batch.ghost=32", "batch.sync_bn=true")
		tr := startTrainerOn(t, r, pair, devicetest.OpenApart(t, 4, 1), Options{BucketBytes: 20000}, &tape{})
		one := startTrainer(t, r, pair, 1, &tape{})
		for _, tr := range []*trainer{tr, one} {
			for range 2 {
				if err := tr.computeLeaves(); err != nil {
					t.Fatal(err)
				}
				if err := tr.update(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for rank := range 4 {
			if !slices.Equal(read(part(tr.fleet.params, rank)), read(one.fleet.params)) || !slices.Equal(read(part(tr.fleet.state, rank)), read(one.fleet.state)) {
				t.Errorf("%d leaves: rank %d has other parameters or running statistics", leaves, rank)
			}
		}
	}
}

// Leaves that an epoch leaves over are computed with the rest of their update, and counted then.
func TestSyncUpdateAcrossEpochs(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	s := &tape{keepSteps: true}
	tr := startTrainer(t, parseRecipe(t, smallText, "batch.size=128", "batch.ghost=32", "batch.sync_bn=true"), pair, 2, s)
	for range 3 {
		if err := tr.computeLeaves(); err != nil {
			t.Fatal(err)
		}
		if tr.pending.leaves == tr.leavesPerUpdate() {
			if err := tr.update(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(tr.held) != 3 || tr.pending.loss != 0 || tr.computedLeaves() != 8 {
		t.Fatalf("%d leaves wait with a loss of %g, %d were computed; want 3, 0 and 8", len(tr.held), tr.pending.loss, tr.computedLeaves())
	}
	if err := tr.endEpoch(); err != nil {
		t.Fatal(err)
	}
	if err := (control{tr}).SetBatch(64, 0, "test"); err != nil { // less than waits: an update of three leaves
		t.Fatal(err)
	}
	if err := tr.update(); err != nil {
		t.Fatal(err)
	}
	if last := s.steps[2]; last.Samples != 96 || last.Loss < 0.5 || last.Loss > 5 {
		t.Errorf("the update across epochs is %+v; want 96 samples and their mean loss", last)
	}
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, e := range s.epochs {
		if e.TrainLoss < 0.5 || e.TrainLoss > 5 || e.TrainAccuracy > 1 {
			t.Errorf("epoch %d: loss %g, accuracy %g", e.Epoch, e.TrainLoss, e.TrainAccuracy)
		}
	}
	if at := tr.at; at.Epoch != 3 || at.Samples != 3*11*32 {
		t.Errorf("the run ended at %+v", at)
	}
}

func TestSyncRefusals(t *testing.T) {
	pair := &data.Pair{Train: synthetic(4*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	start := func(sets ...string) (*trainer, error) {
		r := parseRecipe(t, smallText, append(sets, "batch.ghost=32", "batch.sync_bn=true")...)
		net, err := openNetwork(recipe.Model{Name: "resnet8"}, pair.Train)
		if r.Model.Name == "linear" {
			net = graph.New("linear", net.Input, 4)
			net, err = net.Build(net.Linear("fc", net.In(), 4))
		}
		if err != nil {
			t.Fatal(err)
		}
		f, err := newFleet(net, devicetest.Open(t, 1), configOf(r, Options{}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.close)
		if err := f.load(pair, false); err != nil {
			t.Fatal(err)
		}
		tr, err := newTrainer(f, r, &tape{})
		if err == nil {
			t.Cleanup(tr.free)
		}
		return tr, err
	}
	want := func(err error, text string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v; want an error with %q", err, text)
		}
	}
	_, err := start("batch.size=160")
	want(err, "batch.size 160 is more than an epoch of 128 samples: with batch.sync_bn true use a smaller batch.size")
	_, err = start("methods=[gg: {max_batch: 256}]")
	want(err, "max_batch is 256: must be at most an epoch of whole leaves (128 samples): batch.drop_last or batch.sync_bn is true")
	_, err = start("model.name=linear")
	want(err, "batch.sync_bn is true: model linear has no batch norm")

	tr, err := start()
	if err != nil {
		t.Fatal(err)
	}
	for _, claim := range []string{"samples", "attack"} { // an attack of another kind than Perturber's
		tr.methods = []method{{info: methods.Info{Name: "other", Claims: []string{"batch", claim}}}}
		want(tr.checkSync(), "method other, which controls the "+claim+", does not work with batch.sync_bn true")
	}
	tr.methods = nil
	want((control{tr}).SetBatch(160, 0, "test"), "batch size 160 is more than an epoch of 128 samples")
	_, err = newHessian(tr.fleet, tr.fleet.train, firstSamples(64), true, 1, 0)
	want(err, "use the running statistics (--bn eval)")
}

// Memory is planned for the activations of all leaves of the largest batch, and what is planned is what is allocated.
func TestSyncMemory(t *testing.T) {
	pair := &data.Pair{Train: synthetic(512, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	tr := startTrainer(t, parseRecipe(t, smallText, "batch.size=256", "batch.ghost=32", "batch.sync_bn=true", "schedule.name=step",
		"methods=[gg: {max_batch: 512}]"), pair, 2, &tape{})
	if got := tr.plannedBatch(); got != 512 {
		t.Errorf("memory is planned for a batch of %d; want 512", got)
	}
	if err := tr.computeLeaves(); err != nil {
		t.Fatal(err)
	}
	f := tr.fleet
	need, err := f.need(32, 32, 256, len(tr.updater.slots))
	if err != nil {
		t.Fatal(err)
	}
	cells := 0
	for _, m := range slices.Concat([]kernels.Memory{f.sync.joint, f.sync.stats[0], f.sync.plans[8].parts}, f.sums, tr.updater.slots) {
		cells += m.Len()
	}
	for _, w := range f.workers {
		for _, s := range w.seats {
			cells += s.leaf.Len() + s.arena.Len()
		}
	}
	if got := need.total(f.seats(0, 256)); got != int64(4*cells) {
		t.Errorf("%d bytes were planned, %d allocated", got, 4*cells)
	}

	real := f.homes[0]
	defer func() { f.homes[0] = real }()
	quarter, err := f.need(32, 32, 64, 1)
	if err != nil {
		t.Fatal(err)
	}
	for free, text := range map[int64]string{
		need.total(8):                "",
		quarter.total(2):             fmt.Sprintf("%s for each of 8 leaves of a batch of 256 (batch.sync_bn)", gigabytes(need.device)),
		quarter.total(2) + 1:         "a batch of 64 would fit, with " + gigabytes(quarter.total(2)),
		quarter.total(1) - 1_000_000: "no batch would fit",
	} {
		f.homes[0] = smallDevice{real, free}
		if err := f.checkMemory(256, 1); (err == nil) != (text == "") || err != nil && !strings.Contains(err.Error(), text) {
			t.Errorf("%d bytes free: %v; want an error with %q", free, err, text)
		}
	}
}
