package engine

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/kernels"
)

// reader keeps the moments of every update.
type reader struct{ seen []methods.Moments }

func (r *reader) Prepare(methods.Training) error { return nil }

func (r *reader) ReadMoments(m *methods.Moments) {
	kept := *m
	kept.Sizes, kept.Tensors = append([]int(nil), m.Sizes...), append([]methods.TensorMoments(nil), m.Tensors...)
	r.seen = append(r.seen, kept)
}

// withReader gives a trainer a method that reads moments.
func withReader(t *testing.T, tr *trainer) *reader {
	t.Helper()
	r := &reader{}
	var err error
	if tr.updater.moments, err = newMoments(tr.fleet, []method{{methods.Info{Name: "reader"}, r}}); err != nil {
		t.Fatal(err)
	}
	tr.fleet.whole = true
	return r
}

// wanted computes the moments from the lanes' sums, in double precision.
func wanted(tr *trainer, leaves int) methods.Moments {
	f := tr.fleet
	out := methods.Moments{Samples: leaves * f.leaf.Capacity, Tensors: make([]methods.TensorMoments, len(f.net.Params))}
	n := float64(out.Samples)
	mean := make([]float64, f.net.ParamCells())
	scatter := 0.0
	for lane := range min(leaves, f.lanes) {
		size := (leaves - lane + f.lanes - 1) / f.lanes * f.leaf.Capacity
		out.Sizes = append(out.Sizes, size)
		g := read(part(f.sums[lane/f.ranks], lane%f.ranks))
		for i, p := range f.net.Params {
			square := 0.0
			for k := p.Offset; k < p.Offset+p.Size(); k++ {
				mean[k] += float64(g[k]) / n
				square += float64(g[k]) / float64(size) * float64(g[k]) / float64(size)
			}
			scatter += float64(size) * square
			out.Tensors[i].MeanNorm += float64(size) / n * math.Sqrt(square)
		}
	}
	for i, p := range f.net.Params {
		square := 0.0
		for k := p.Offset; k < p.Offset+p.Size(); k++ {
			square += mean[k] * mean[k]
		}
		out.Tensors[i].Norm = math.Sqrt(square)
		out.SquaredNorm += square
	}
	out.Trace = (scatter - n*out.SquaredNorm) / float64(len(out.Sizes)-1)
	return out
}

// The moments are those of the lanes, also of lanes that differ in size, and have the same bits on all devices and
// memories.
func TestMomentsAreThoseOfTheLanes(t *testing.T) {
	pair := &data.Pair{Train: synthetic(22*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for _, leaves := range []int{2, 8, 11} {
		r := parseRecipe(t, smallText, fmt.Sprintf("batch.size=%d", 32*leaves))
		var first methods.Moments
		for i, open := range []func() []kernels.Device{
			func() []kernels.Device { return devicetest.Open(t, 1) },
			func() []kernels.Device { return devicetest.Open(t, 3) },
			func() []kernels.Device { return devicetest.OpenApart(t, 4, 1) },
			func() []kernels.Device { return devicetest.OpenApart(t, 2, 2) },
		} {
			tr := startTrainerOn(t, r, pair, open(), Options{BucketBytes: 20000}, &tape{})
			reader := withReader(t, tr)
			if err := tr.computeLeaves(); err != nil {
				t.Fatal(err)
			}
			want := wanted(tr, leaves)
			if err := tr.update(); err != nil {
				t.Fatal(err)
			}
			got := reader.seen[0]
			if i == 0 {
				first = got
				compareMoments(t, got, want)
			} else if fmt.Sprintf("%x", got) != fmt.Sprintf("%x", first) {
				t.Errorf("%d leaves, layout %d: moments %v; want %v", leaves, i, got, first)
			}
		}
	}
}

func compareMoments(t *testing.T, got, want methods.Moments) {
	t.Helper()
	near := func(what string, a, b float64) {
		if !(math.Abs(a-b) <= 1e-5*math.Abs(b)) {
			t.Errorf("%d samples: %s is %g; want %g", want.Samples, what, a, b)
		}
	}
	if fmt.Sprint(got.Samples, got.Sizes) != fmt.Sprint(want.Samples, want.Sizes) {
		t.Errorf("%d samples in micro-batches of %v; want %d in %v", got.Samples, got.Sizes, want.Samples, want.Sizes)
	}
	near("the squared norm", got.SquaredNorm, want.SquaredNorm)
	near("the trace", got.Trace, want.Trace)
	for i, w := range want.Tensors {
		near(fmt.Sprintf("the norm of tensor %d", i), got.Tensors[i].Norm, w.Norm)
		near(fmt.Sprintf("the mean norm of tensor %d", i), got.Tensors[i].MeanNorm, w.MeanNorm)
	}
}

// One micro-batch, or samples of different weights, say nothing of the spread.
func TestMomentsThatSayNothing(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	tr := startTrainer(t, smallRecipe(t, ""), pair, 1, &tape{})
	reader := withReader(t, tr)
	tr.at.Batch = 32
	for range 2 {
		if err := tr.computeLeaves(); err != nil {
			t.Fatal(err)
		}
		if err := tr.update(); err != nil {
			t.Fatal(err)
		}
		tr.at.Batch, tr.at.Leaf = 4*32, 9 // the epoch ends in the middle of the next update
	}
	if err := tr.computeLeaves(); err != nil {
		t.Fatal(err)
	}
	if err := (control{tr}).SetBatch(2*32, methods.KeepWeights, "test"); err != nil {
		t.Fatal(err)
	}
	if err := tr.update(); err != nil {
		t.Fatal(err)
	}
	for i, m := range reader.seen {
		if m.Measured() != (i == 1) {
			t.Errorf("update %d of micro-batches %v: the trace is %g", i, m.Sizes, m.Trace)
		}
	}
}

func TestMomentsNeedLanes(t *testing.T) {
	pair := &data.Pair{Train: synthetic(64, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	tr := startTrainer(t, parseRecipe(t, smallText, "batch.lanes=1"), pair, 1, &tape{})
	_, err := newMoments(tr.fleet, []method{{methods.Info{Name: "reader"}, &reader{}}})
	if err == nil || !strings.Contains(err.Error(), "method reader: it compares the gradients of lanes: batch.lanes is 1 and must be at least 2") {
		t.Errorf("one lane: %v", err)
	}
}

func TestMomentsAllocateNothing(t *testing.T) {
	if devicetest.OnGPU() {
		t.Skip("calls of the GPU's driver allocate a little")
	}
	pair := &data.Pair{Train: synthetic(200*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	r := parseRecipe(t, smallText+"methods: [gns: {}, vrsgd: {}, clars: {}]\n", "train.epochs=100")
	tr := startTrainer(t, r, pair, 2, &tape{})
	updateAllocatesNothing(t, "moments", tr)
}

// Lanes that hold copies or twins of the same samples say nothing of the spread between samples.
func TestMomentsNeedDifferentSamples(t *testing.T) {
	pair := &data.Pair{Train: synthetic(64, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for _, other := range []string{"batchaug: {copies: 2}", "disadv: {epsilon: 0.1, step: 0.1}"} {
		tr := startTrainer(t, parseRecipe(t, smallText+"methods: ["+other+"]\n"), pair, 1, &tape{})
		_, err := newMoments(tr.fleet, []method{{methods.Info{Name: "reader"}, &reader{}}})
		if err == nil || !strings.Contains(err.Error(), "copies or adversarial twins") {
			t.Errorf("beside %s: %v", other, err)
		}
	}
}
