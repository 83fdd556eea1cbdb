package bigbatch

import (
	"encoding/json"
	"math"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
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

func training() *methodtest.Training {
	f := methodtest.New(10)
	f.LeafSize, f.BaseSize, f.BatchSize = 8, 160, 160
	return f
}

// Each update is one of its own: what the batch becomes after it, from 160 samples in leaves of 8.
func TestGrowth(t *testing.T) {
	for _, c := range []struct {
		name         string
		change       func(*Options)
		norm2, trace float64
		want         int
	}{
		{"signal prevails", func(*Options) {}, 1, 159, 160},
		{"just allowed", func(*Options) {}, 1, 160, 160},
		{"noise prevails", func(*Options) {}, 1, 161, 176},
		{"theta asks for four times the batch", func(o *Options) { o.Theta = 0.5 }, 1, 41, 176},
		{"theta is content", func(o *Options) { o.Theta = 0.5 }, 1, 39, 160},
		{"as much as needed", func(o *Options) { o.Growth = 0 }, 0.5, 500, 1000},
		{"as much as needed, by theta", func(o *Options) { o.Growth, o.Theta = 0, 0.5 }, 1, 125, 504},
		{"growth less than a leaf", func(o *Options) { o.Growth = 1.01 }, 1, 1000, 168},
		{"no further than the maximum", func(o *Options) { o.Growth, o.MaxBatch = 0, 800 }, 1, 1e300, 800},
		{"no signal at all", func(o *Options) { o.Growth, o.MaxBatch = 0, 800 }, 0, 1, 800},
		{"all gradients zero", func(o *Options) { o.Growth = 0 }, 0, 0, 160},
		{"no measurement", func(*Options) {}, 1, math.NaN(), 160},
	} {
		f, m := training(), newMethod(t, c.change)
		if err := m.Prepare(f); err != nil {
			t.Fatal(err)
		}
		m.ReadMoments(&methods.Moments{Samples: 160, SquaredNorm: c.norm2, Trace: c.trace})
		if err := m.UpdateEnd(f, methods.Update{}); err != nil {
			t.Fatal(err)
		}
		if f.BatchSize != c.want {
			t.Errorf("%s: batch %d; want %d", c.name, f.BatchSize, c.want)
		}
	}
}

func TestReportIsTheRatioThatThetaBounds(t *testing.T) {
	m := newMethod(t, func(*Options) {})
	if m.Report() != nil {
		t.Errorf("reported %v before the first update", m.Report())
	}
	m.ReadMoments(&methods.Moments{Samples: 100, SquaredNorm: 2, Trace: 800})
	raw, err := json.Marshal(m.State())
	if err != nil {
		t.Fatal(err)
	}
	again := newMethod(t, func(*Options) {})
	if err := json.Unmarshal(raw, again.State()); err != nil {
		t.Fatal(err)
	}
	if got := again.Report()["gradient_noise_to_signal"]; math.Abs(got-2) > 1e-12 {
		t.Errorf("noise to signal %g after a resume; want sqrt(800/(100 2))", got)
	}
}

func TestRefusesABatchOfOneLeaf(t *testing.T) {
	f := training()
	f.BaseSize = 8
	if err := newMethod(t, func(*Options) {}).Prepare(f); err == nil {
		t.Error("accepted a batch of one leaf, which it can never measure")
	}
}
