package gns

import (
	"math"
	"slices"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
	"broadside/kernels/philox"
)

func newMethod(t *testing.T, change func(*Options)) *Method {
	t.Helper()
	o := defaults()
	change(o)
	m, err := New(*o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// normal draws the moments of an update whose samples have gradients N(mean, spread^2), each element on its own.
func normal(s *philox.Stream, sizes []int, mean, spread []float64) *methods.Moments {
	whole := make([]float64, len(mean))
	m := &methods.Moments{Sizes: sizes}
	scatter := 0.0
	for _, size := range sizes {
		m.Samples += size
		for i := range mean {
			sum := 0.0
			for range size {
				sum += mean[i] + spread[i]*s.Norm()
			}
			whole[i] += sum
			scatter += sum * sum / float64(size)
		}
	}
	for _, sum := range whole {
		g := sum / float64(m.Samples)
		m.SquaredNorm += g * g
	}
	m.Trace = (scatter - float64(m.Samples)*m.SquaredNorm) / float64(len(sizes)-1)
	return m
}

// The noise scale tends to trace(Sigma)/|mu|^2, also where micro-batches differ in size.
func TestNoiseScaleOfNormalGradients(t *testing.T) {
	mean, spread := []float64{0.3, -0.1, 0.2, 0, 0.5}, []float64{1, 2, 0.5, 3, 1}
	signal, noise := 0.0, 0.0
	for i := range mean {
		signal += mean[i] * mean[i]
		noise += spread[i] * spread[i]
	}
	m := newMethod(t, func(o *Options) { o.EMA = 0.9999 })
	s := philox.NewStream(1, philox.Probe, 0, 0, 0)
	for range 3000 {
		m.ReadMoments(normal(s, []int{12, 8, 8, 4}, mean, spread))
	}
	r := m.Report()
	for key, want := range map[string]float64{"gradient_noise_scale": noise / signal, "gradient_noise": noise, "gradient_signal": signal} {
		if got := r[key]; math.Abs(got-want) > 0.05*want {
			t.Errorf("%s is %g; want %g", key, got, want)
		}
	}
}

// A single update already counts in full: the running means are corrected for their beginning at 0.
func TestMeansAreUnbiased(t *testing.T) {
	m := newMethod(t, func(*Options) {})
	if m.Report() != nil {
		t.Errorf("reported %v before the first update", m.Report())
	}
	m.ReadMoments(&methods.Moments{Samples: 10, SquaredNorm: 5, Trace: 20})
	if r := m.Report(); math.Abs(r["gradient_signal"]-3) > 1e-12 || math.Abs(r["gradient_noise"]-20) > 1e-12 {
		t.Errorf("reported %v after one update; want signal 5 - 20/10 and noise 20", r)
	}
	m.ReadMoments(&methods.Moments{Samples: 10, SquaredNorm: 5, Trace: math.NaN()})
	if r := m.Report(); math.IsNaN(r["gradient_noise_scale"]) {
		t.Error("an update without a measurement made the noise scale NaN")
	}
}

func TestNegativeSignalIsNotANumber(t *testing.T) {
	m := newMethod(t, func(o *Options) { o.Control = true })
	f := methodtest.New(1)
	m.ReadMoments(&methods.Moments{Samples: 10, SquaredNorm: 1, Trace: 20})
	if r := m.Report(); !math.IsNaN(r["gradient_noise_scale"]) || r["gradient_signal"] != -1 {
		t.Errorf("reported %v; want a signal of -1 and no noise scale", r)
	}
	if err := m.EpochEnd(f); err != nil || len(f.Triggers) > 0 {
		t.Errorf("the batch changed without a noise scale: %v, %v", f.Triggers, err)
	}
}

// The batch is the power of two nearest to the noise scale, within its bounds, and changes by 2 at most.
func TestControl(t *testing.T) {
	f := methodtest.New(10)
	f.BaseSize, f.BatchSize = 256, 256
	m := newMethod(t, func(o *Options) { o.Control, o.EMA, o.MaxBatch = true, 0, 3000*128 })
	if err := m.Prepare(f); err != nil {
		t.Fatal(err)
	}
	want := []int{512, 1024, 1024, 2048, 1024, 512, 256, 256, 512}
	for i, scale := range []float64{900, 900, 900, 1e30, 10, 10, 10, 10, 1e300} {
		m.ReadMoments(&methods.Moments{Samples: 100, SquaredNorm: 1 + scale/100, Trace: scale})
		if scale > 1e20 { // the signal drowns in rounding
			m.state.Signal = 1
		}
		if err := m.EpochEnd(f); err != nil {
			t.Fatal(err)
		}
		if f.BatchSize != want[i] {
			t.Errorf("noise scale %g: batch %d; want %d", scale, f.BatchSize, want[i])
		}
	}
	f.BatchSize = 7 * 128 // a halving that is no whole number of leaves
	m.ReadMoments(&methods.Moments{Samples: 100, SquaredNorm: 1.1, Trace: 10})
	if size := m.size(m.scale(), f); size != 4*128 {
		t.Errorf("from 7 leaves to %d samples; want 4 leaves", size)
	}
}

func TestClaimsTheBatchOnlyToControlIt(t *testing.T) {
	if c := newMethod(t, func(*Options) {}).Claims(); len(c) > 0 {
		t.Errorf("claims %v without control", c)
	}
	m := newMethod(t, func(o *Options) { o.Control = true })
	if !slices.Equal(m.Claims(), []string{"batch"}) {
		t.Errorf("claims %v with control", m.Claims())
	}
	if err := m.Prepare(methodtest.New(1)); err == nil {
		t.Error("control accepted a batch of a single leaf, which it can never measure")
	}
}
