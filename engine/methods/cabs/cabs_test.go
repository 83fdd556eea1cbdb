package cabs

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
	f.LeafSize, f.BaseSize, f.BatchSize = 8, 16, 16
	return f
}

// The rule by hand, over updates of constant variance and loss: the means begin at 0 and 1 and are not corrected.
func TestRuleByHand(t *testing.T) {
	f := training()
	m := newMethod(t, func(o *Options) { o.MaxBatch = 2048 })
	if err := m.Prepare(f); err != nil {
		t.Fatal(err)
	}
	variance, loss := 0.0, 1.0
	for range 200 {
		variance, loss = 0.95*variance+0.05*8000, 0.95*loss+0.05*2.5
		m.ReadMoments(&methods.Moments{Trace: 8000})
		if err := m.UpdateEnd(f, methods.Update{Loss: 2.5, LR: 0.1}); err != nil {
			t.Fatal(err)
		}
		want := min(max(8*int(math.Round(0.1*variance/loss/8)), 16), 2048)
		if f.BatchSize != want {
			t.Fatalf("batch %d; want %d", f.BatchSize, want)
		}
	}
	if f.BatchSize != 320 { // 0.1 * 8000 / 2.5
		t.Errorf("the batch settled at %d; want 320", f.BatchSize)
	}
}

func TestBounds(t *testing.T) {
	f := training()
	m := newMethod(t, func(o *Options) { o.EMA, o.MinBatch, o.MaxBatch = 0, 24, 96 })
	if err := m.Prepare(f); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		trace float64
		want  int
	}{{0, 24}, {500, 48}, {math.NaN(), 48}, {1e300, 96}, {math.Inf(1), 96}} {
		m.ReadMoments(&methods.Moments{Trace: c.trace})
		if err := m.UpdateEnd(f, methods.Update{Loss: 1, LR: 0.1}); err != nil {
			t.Fatal(err)
		}
		if f.BatchSize != c.want {
			t.Errorf("variance %g: batch %d; want %d", c.trace, f.BatchSize, c.want)
		}
	}
}

func TestRefusesBatchesThatItCannotMeasure(t *testing.T) {
	f := training()
	for _, o := range []Options{{Factor: 1, MinBatch: 8, MaxBatch: 64}, {Factor: 1, MinBatch: 20, MaxBatch: 64},
		{Factor: 1, MinBatch: 128, MaxBatch: 64}, {Factor: 1, MaxBatch: 8}} {
		if err := newMethod(t, func(to *Options) { *to = o }).Prepare(f); err == nil {
			t.Errorf("accepted %+v", o)
		}
	}
	f.BaseSize = 8
	if err := newMethod(t, func(*Options) {}).Prepare(f); err == nil {
		t.Error("accepted a batch of one leaf")
	}
}

func TestStateCrossesACheckpoint(t *testing.T) {
	f := training()
	m, again := newMethod(t, func(*Options) {}), newMethod(t, func(*Options) {})
	m.ReadMoments(&methods.Moments{Trace: 300})
	if err := m.UpdateEnd(f, methods.Update{Loss: 2, LR: 0.1}); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(m.State())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, again.State()); err != nil || again.state != m.state || m.state.Variance == 0 {
		t.Errorf("state %+v came back as %+v: %v", m.state, again.state, err)
	}
}
