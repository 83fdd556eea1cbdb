package engine

import (
	"fmt"
	"testing"

	"broadside/engine/graph"
)

// BenchmarkStep times whole updates on CIFAR shapes: gather, forward, backward, reduction, SGD.
func BenchmarkStep(b *testing.B) {
	for _, model := range []string{"resnet20", "wrn-16-4", "c1"} {
		for _, batch := range []int{128, 256} {
			b.Run(fmt.Sprintf("%s/batch%d", model, batch), func(b *testing.B) {
				m := newBenchmark(b, model, batch)
				repeat(b, m.Step)
				b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "images/s")
			})
		}
	}
}

// BenchmarkHVP times a Hessian-vector product on 128 samples, the primal pass not counted, beside
// one gradient of the same samples.
func BenchmarkHVP(b *testing.B) {
	m := newBenchmark(b, "resnet20", 128)
	product, _, err := m.Hessian(false)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("product", func(b *testing.B) { repeat(b, product) })
	b.Run("gradient", func(b *testing.B) { repeat(b, m.Gradient) })
}

// repeat times f; its first run, which compiles and touches the memory, is not counted.
func repeat(b *testing.B, f func() error) {
	for first := true; first || b.Loop(); first = false {
		if err := f(); err != nil {
			b.Fatal(err)
		}
	}
}

func newBenchmark(t testing.TB, model string, batch int) *Benchmark {
	t.Helper()
	r := parseRecipe(t, fmt.Sprintf("name: bench\ndata: {name: synthetic}\nmodel: {name: %s}\nbatch: {size: %d, leaf: %d}", model, batch, min(batch, 128)))
	b, err := NewBenchmark(BenchmarkOptions{Recipe: r, Input: graph.Dims{H: 32, W: 32, C: 3}, Classes: 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// A profile has all calls of an update, so many times as they run, and leaves the parameters alone.
func TestProfileCoversAnUpdate(t *testing.T) {
	b := newBenchmark(t, "resnet8", 32)
	f := b.trainer.fleet
	if err := b.Step(); err != nil {
		t.Fatal(err)
	}
	b.trainer.cfg.lr = 0 // Profile begins with an update of its own
	before := read(f.params)
	profile, err := b.Profile(0)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, c := range profile {
		count[c.Call.Kernel.String()] += c.Count
		if !(c.Seconds > 0 && c.Seconds < 60) {
			t.Errorf("%s took %g s", c.Call, c.Seconds)
		}
	}
	// ResNet-8 has 7 convolutions of 3x3, 2 of 1x1 and a linear layer, whose first computes no input gradient.
	for name, want := range map[string]int{"augment": 1, "conv2d_forward": 10, "conv2d_backward_input": 9, "conv2d_backward_weight": 10,
		"batchnorm_forward": 9, "batchnorm_backward": 9, "batchnorm_fold": 9, "softmax_xent": 1} {
		if count[name] != want {
			t.Errorf("%d calls of %s, want %d; all: %v", count[name], name, want, count)
		}
	}
	if count["sgd"] == 0 {
		t.Error("no sgd")
	}
	for i, v := range read(f.params) {
		if v != before[i] {
			t.Fatalf("parameter %d changed from %g to %g", i, before[i], v)
		}
	}
}
