package engine

import (
	"fmt"
	"runtime"
	"testing"

	"broadside/engine/data"
)

// BenchmarkStep times whole updates on CIFAR shapes: gather, forward, backward, reduction, SGD.
func BenchmarkStep(b *testing.B) {
	for _, model := range []string{"resnet20", "wrn-16-4", "c1"} {
		for _, batch := range []int{128, 256} {
			b.Run(fmt.Sprintf("%s/batch%d", model, batch), func(b *testing.B) {
				t := benchTrainer(b, model, batch)
				step := func() {
					if t.at.Leaf+t.leavesPerUpdate() > t.sampler.LeavesPerEpoch() {
						t.at.Leaf = 0
					}
					if err := t.computeLeaves(); err != nil {
						b.Fatal(err)
					}
					if err := t.update(); err != nil {
						b.Fatal(err)
					}
				}
				step()
				for b.Loop() {
					step()
				}
				b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "images/s")
			})
		}
	}
}

// BenchmarkHVP times a Hessian-vector product on 128 samples, the primal pass not counted, beside
// one gradient of the same samples.
func BenchmarkHVP(b *testing.B) {
	t := benchTrainer(b, "resnet20", 128)
	samples := make([]int32, 128)
	h, err := newHessian(t.fleet, t.fleet.train, samples, false, 1, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer h.free()
	v, err := h.NewVector()
	if err != nil {
		b.Fatal(err)
	}
	defer v.Free()
	hv, err := h.NewVector()
	if err != nil {
		b.Fatal(err)
	}
	defer hv.Free()
	if err := h.Randomize(v, 0); err != nil {
		b.Fatal(err)
	}
	if err := h.Product(v, hv); err != nil { // the primal pass, and the first touch of the memory
		b.Fatal(err)
	}
	b.Run("product", func(b *testing.B) {
		for b.Loop() {
			if err := h.Product(v, hv); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("gradient", func(b *testing.B) {
		for b.Loop() {
			t.at.Leaf, t.pending = 0, pending{}
			if err := t.computeLeaves(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchTrainer(b *testing.B, model string, batch int) *trainer {
	b.Helper()
	r := parseRecipe(b, fmt.Sprintf("name: bench\ndata: {name: synthetic}\nmodel: {name: %s}\nbatch: {size: %d, leaf: 128}", model, batch))
	pair := &data.Pair{Train: synthetic(1024, 32, 3, 10), Test: synthetic(10, 32, 3, 10)}
	return startTrainer(b, r, pair, min(runtime.NumCPU(), r.Batch.Lanes), &tape{})
}
