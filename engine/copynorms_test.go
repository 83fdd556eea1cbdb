package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/kernels"
	"broadside/kernels/ref"
)

// length is the norm of a combination of vectors.
func length(factors []float64, vectors ...[]float32) float64 {
	sum := 0.0
	for i := range vectors[0] {
		x := 0.0
		for k, v := range vectors {
			x += factors[k] * float64(v[i])
		}
		sum += x * x
	}
	return math.Sqrt(sum)
}

// The gradient is scaled to the mean norm of the gradients of single copies. Those are found from runs without the
// factor: the sum over k copies is that over k - 1 and the k-th.
func TestGradientHasTheNormOfACopy(t *testing.T) {
	pair := &data.Pair{Train: synthetic(128, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	start := func(options string) *trainer {
		r := parseRecipe(t, smallText+"methods: [batchaug: {"+options+"}]\n", "optimizer.weight_decay=0", "optimizer.momentum=0")
		return startTrainerOn(t, r, pair, []kernels.Device{ref.New()}, Options{}, &tape{})
	}
	var sums [][]float32 // over so many copies
	for copies := 1; copies <= 3; copies++ {
		sums = append(sums, summed(t, start(fmt.Sprintf("copies: %d", copies))))
	}
	one, two, three := length([]float64{1}, sums[0]), length([]float64{1, -1}, sums[1], sums[0]), length([]float64{1, -1}, sums[2], sums[1])
	want := (one + two + three) / length([]float64{1}, sums[2])
	if want < 1.05 {
		t.Fatalf("factor %g: the copies are too much alike to tell", want)
	}
	plain, scaled := start("copies: 3"), start("copies: 3, adapt_grad_norm: 2")
	before := read(plain.fleet.params)
	step(t, plain)
	step(t, scaled)
	a, b := read(plain.fleet.params), read(scaled.fleet.params)
	got := length([]float64{1, -1}, b, before) / length([]float64{1, -1}, a, before)
	near(t, "the factor", got, want, 1e-5)
	// Parameters are read in single precision: that is what remains.
	near(t, "the direction", length([]float64{1, -got, got - 1}, b, a, before)/length([]float64{1, -1}, b, before), 0, 1e-4)
	if !slices.Equal(read(plain.fleet.state), read(scaled.fleet.state)) {
		t.Error("the running statistics took in more than the update's")
	}
	if got, want := scaled.at.GradPasses, 2*plain.at.GradPasses; got != want {
		t.Errorf("%d passes; want %d", got, want)
	}
	step(t, scaled)
	if got, want := scaled.at.GradPasses, int64(3*3*64); got != want {
		t.Errorf("%d passes after an update that is not measured; want %d", got, want)
	}
}

// listener scales by 1 and keeps the norms.
type listener struct {
	each []float64
	all  float64
}

func (*listener) MeasuresCopies(int) bool { return true }
func (*listener) Factor() float64         { return 1 }
func (l *listener) ReadCopies(each []float64, all float64) {
	l.each, l.all = slices.Clone(each), all
}

// Measuring changes nothing by itself: on one memory and several, in an update of two epochs, attacked samples, and a
// batch that grows in the middle of it. Copies that are all the same have the norm of the whole.
func TestMeasuringCopiesLeavesNoTrace(t *testing.T) {
	set := synthetic(11*32, 8, 3, 4)
	for row := 0; row < len(set.Images); row += 8 * 3 {
		for x := range 4 {
			copy(set.Images[row+(7-x)*3:row+(8-x)*3], set.Images[row+x*3:row+(x+1)*3])
		}
	}
	pair := &data.Pair{Train: set, Test: set}
	for _, devices := range [][]kernels.Device{devicetest.Open(t, 2), devicetest.OpenApart(t, 4, 1)} {
		train := func(adapt string, l *listener) []float32 {
			text := smallText + "methods: [absa: {max_batch: 3200, attack_fraction: 0.5, epsilon: 0.1}, batchaug: {copies: 3" + adapt + "}]\n"
			r := parseRecipe(t, text, "batch.size=128", "train.epochs=6", "data.augment=[flip]")
			tr := startTrainerOn(t, r, pair, devices, Options{}, &tape{})
			if l != nil {
				tr.copyNorms.method = l
			}
			step(t, tr)
			tr.at.Leaf = 9
			if err := tr.computeLeaves(); err != nil {
				t.Fatal(err)
			}
			if err := tr.endEpoch(); err != nil {
				t.Fatal(err)
			}
			if err := (control{tr}).SetBatch(32*12, methods.KeepWeights, "test"); err != nil {
				t.Fatal(err)
			}
			if err := tr.computeLeaves(); err != nil {
				t.Fatal(err)
			}
			if err := tr.update(); err != nil {
				t.Fatal(err)
			}
			return append(read(tr.fleet.params), read(tr.fleet.state)...)
		}
		l := &listener{}
		if !slices.Equal(train("", nil), train(", adapt_grad_norm: 1", l)) {
			t.Error("measuring changes the update")
		}
		for i, n := range l.each {
			if math.Abs(n-l.all) > 1e-4*l.all {
				t.Errorf("copy %d has the norm %g, all copies %g: they are the same", i, n, l.all)
			}
		}
	}
}

func TestStepsWithMeasuredCopiesAllocateNothing(t *testing.T) {
	if devicetest.OnGPU() {
		t.Skip("calls of the GPU's driver allocate a little")
	}
	pair := &data.Pair{Train: synthetic(200*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	tr := startTrainer(t, parseRecipe(t, smallText+"methods: [batchaug: {adapt_grad_norm: 1}]\n", "train.epochs=100"), pair, 2, &tape{})
	for range 3 {
		step(t, tr)
	}
	if n := testing.AllocsPerRun(20, func() { step(t, tr) }); n != 0 {
		t.Errorf("%g allocations per step; want 0", n)
	}
}

func TestCopiesAreNotMeasuredBesideASecondGradient(t *testing.T) {
	pair := &data.Pair{Train: synthetic(128, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	tr := startTrainer(t, smallRecipe(t, ""), pair, 1, &tape{})
	_, err := newTrainer(tr.fleet, parseRecipe(t, smallText+"methods: [sam: {}, batchaug: {adapt_grad_norm: 1}]\n"), &tape{})
	if err == nil || !strings.Contains(err.Error(), "do not go together") {
		t.Errorf("error %v", err)
	}
}
