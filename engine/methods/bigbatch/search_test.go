package bigbatch

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/optim"
	"broadside/engine/schedule"
)

func newSearching(t *testing.T, step string) *Searching {
	t.Helper()
	info, _ := methods.Lookup("bigbatch")
	o := defaults()
	o.Step = step
	m, err := info.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return m.(*Searching)
}

// bowl is the loss sum_i k_i w_i^2/2, by hand: its gradient is k w and its curvature along g is sum k g^2 / sum g^2.
type bowl struct {
	k, w   []float64
	rate   float64
	trials int
	broken error
	steep  bool // its curvature is no number
}

func (b *bowl) at(rate float64) (loss float64) {
	for i, k := range b.k {
		w := b.w[i] * (1 - rate*k)
		loss += k * w * w / 2
	}
	return loss
}

func (b *bowl) Rate() float64 { return b.rate }
func (b *bowl) Loss() float64 { return b.at(0) }
func (b *bowl) SquaredNorm() (sum float64) {
	for i, k := range b.k {
		sum += k * b.w[i] * k * b.w[i]
	}
	return sum
}
func (b *bowl) LossAt(rate float64) (float64, error) {
	b.trials++
	return b.at(rate), b.broken
}
func (b *bowl) Curvature(float64) (float64, error) {
	if b.steep {
		return math.Inf(1), b.broken
	}
	sum := 0.
	for i, k := range b.k {
		sum += k * k * k * b.w[i] * b.w[i]
	}
	return sum / b.SquaredNorm(), b.broken
}

// on has a method search on a loss, from its own step as the trainer gives it.
func (m *Searching) on(t *testing.T, b *bowl, lr float64) float64 {
	t.Helper()
	b.rate = lr * m.Factor(0)
	rate, err := m.Search(training(), b)
	if err != nil {
		t.Fatal(err)
	}
	return rate
}

// In one dimension, L(w - a g) <= L(w) - c a |g|^2 is a k <= 2 (1 - c): the first half of the first step that is at most
// 1.8/k is taken, and the next search begins with it.
func TestBacktrackingOnAParabola(t *testing.T) {
	for _, c := range []struct {
		k, first, want float64
		trials         int
	}{
		{2, 0.9, 0.9, 1},
		{2, 0.91, 0.455, 2},
		{2, 100, 0.78125, 8},
		{0.01, 100, 100, 1},
		{1e4, 1, math.Ldexp(1, -13), 14},
	} {
		m, b := newSearching(t, "armijo"), &bowl{k: []float64{c.k}, w: []float64{3}}
		if got := m.on(t, b, c.first); got != c.want || b.trials != c.trials {
			t.Errorf("k %g from %g: a step of %g after %d trials; want %g after %d", c.k, c.first, got, b.trials, c.want, c.trials)
		}
		if got := m.on(t, b, c.first); got != c.want || b.trials != c.trials+1 {
			t.Errorf("k %g: the search after began elsewhere: %g", c.k, got)
		}
	}
}

// A search has an end, which leaves the parameters where they are, and the next goes on from there.
func TestASearchHasAnEnd(t *testing.T) {
	m, b := newSearching(t, "armijo"), &bowl{k: []float64{1}, w: []float64{1}}
	if got := m.on(t, b, math.Ldexp(1, 30)); got != 0 || b.trials != 21 {
		t.Errorf("a step of %g after %d trials; want 0 after 21", got, b.trials)
	}
	if got := m.on(t, b, math.Ldexp(1, 30)); got != 1 {
		t.Errorf("a step of %g then; want 1", got)
	}
	if got := newSearching(t, "armijo").on(t, &bowl{k: []float64{1}, w: []float64{0}}, 7); got != 7 {
		t.Errorf("without a gradient: a step of %g; want 7, unsearched", got)
	}
	// Single precision would not tell the change of a loss of 5e-9.
	if got := newSearching(t, "armijo").on(t, &bowl{k: []float64{1}, w: []float64{1e-4}}, 3); got != 3 {
		t.Errorf("on a flat loss: a step of %g; want 3", got)
	}
	nan := &bowl{k: []float64{math.NaN()}, w: []float64{1}, rate: 1}
	if got, err := newSearching(t, "armijo").Search(training(), nan); got != 1 || err != nil {
		t.Errorf("a gradient that is no number: %g, %v", got, err)
	}
	broken := &bowl{k: []float64{1}, w: []float64{1}, rate: 1, broken: errors.New("broken")}
	if _, err := newSearching(t, "bb").Search(training(), broken); err == nil {
		t.Error("a failure was lost")
	}
}

// The step of Barzilai and Borwein, of a batch of everything, is one over the curvature; of less it has its noise taken
// out and is averaged with the step before.
func TestSuggestedStep(t *testing.T) {
	const lr, curvature = 0.25, 36. / 20 // along the gradient (4, 2) of 2 w1^2/2 + w2^2/2
	for name, c := range map[string]struct {
		samples         int
		variance, norm2 float64
		negative        bool
		want            float64
	}{
		"all samples":        {samples: 50000, variance: 3, norm2: 1e-9, want: 1 / curvature},
		"no noise":           {samples: 12500, variance: 0, norm2: 20, want: 0.75*lr + 0.25/curvature},
		"half of it noise":   {samples: 12500, variance: 125000, norm2: 20, want: 0.75*lr + 0.25*0.5/curvature},
		"noise prevails":     {samples: 12500, variance: 3e5, norm2: 20, want: lr},
		"no measurement":     {samples: 0, want: lr},
		"negative curvature": {samples: 12500, norm2: 20, negative: true, want: lr},
		"no curvature":       {samples: 12500, norm2: 20, want: lr},
	} {
		m := newSearching(t, "bb")
		trace := c.variance
		if c.samples == 0 {
			trace = math.NaN()
		}
		m.ReadMoments(&methods.Moments{Samples: c.samples, SquaredNorm: c.norm2, Trace: trace})
		b := &bowl{k: []float64{2, 1}, w: []float64{2, 2}}
		if c.negative {
			b.k = []float64{-2, -1}
		}
		b.steep = name == "no curvature"
		if got := m.on(t, b, lr); got != lr {
			t.Errorf("%s: a step of %g; want %g", name, got, lr)
		}
		if got := lr * m.Factor(0); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: the next step is %g; want %g", name, got, c.want)
		}
		if _, err := json.Marshal(m.State()); err != nil {
			t.Errorf("%s: the state cannot be kept: %v", name, err)
		}
	}
}

// The batch's growth doubles the step of armijo, and only that.
func TestGrowthDoublesTheStep(t *testing.T) {
	for step, want := range map[string]float64{"armijo": 2, "bb": 1} {
		m, f := newSearching(t, step), training()
		for _, trace := range []float64{161, 159} { // one update with growth, one without
			m.ReadMoments(&methods.Moments{Samples: 160, SquaredNorm: 1, Trace: trace})
			if err := m.UpdateEnd(f, methods.Update{}); err != nil {
				t.Fatal(err)
			}
		}
		if m.Factor(0) != want || f.BatchSize != 176 {
			t.Errorf("%s: %g times the step at a batch of %d; want %g at 176", step, m.Factor(0), f.BatchSize, want)
		}
	}
}

func TestSearchIsResumed(t *testing.T) {
	m, b := newSearching(t, "bb"), &bowl{k: []float64{2}, w: []float64{3}}
	m.ReadMoments(&methods.Moments{Samples: 12500, SquaredNorm: 36, Trace: 1})
	m.on(t, b, 10)
	raw, err := json.Marshal(m.State())
	if err != nil {
		t.Fatal(err)
	}
	again := newSearching(t, "bb")
	if err := json.Unmarshal(raw, again.State()); err != nil {
		t.Fatal(err)
	}
	if again.Factor(0) != m.Factor(0) || again.Factor(0) == 1 {
		t.Errorf("the step is %g after a resume; want %g", again.Factor(0), m.Factor(0))
	}
	if r := again.Report(); r["line_search_trials"] != 5 || r["line_search_curvature"] != 2 || r["gradient_noise_to_signal"] == 0 {
		t.Errorf("reported %v", r)
	}
	if raw, err = json.Marshal(newMethod(t, func(*Options) {}).State()); err != nil || strings.Contains(string(raw), "factor") {
		t.Errorf("the state with a fixed step is %s, %v", raw, err)
	}
}

func TestSearchWantsPlainSGD(t *testing.T) {
	m := newSearching(t, "armijo")
	for want, rule := range map[string]optim.SGD{
		"optimizer.momentum is 0.9 and must be 0":       {Momentum: 0.9},
		"optimizer.weight_decay is 0.001 and must be 0": {WeightDecay: 1e-3, NoDecay: map[graph.Role]bool{graph.Bias: true}},
	} {
		if _, err := m.Rule(rule); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", rule, err)
		}
	}
	if _, err := m.Rule(optim.SGD{}); err != nil {
		t.Error(err)
	}
	if _, err := m.Schedule(nil, schedule.Cosine{Epochs: 3}); err == nil || !strings.Contains(err.Error(), "set schedule.name constant") {
		t.Errorf("a schedule: %v", err)
	}
	o := defaults()
	o.Step = "newton"
	if _, err := New(*o); err == nil || !strings.Contains(err.Error(), "methods.bigbatch.step is newton: must be fixed, armijo or bb") {
		t.Errorf("an unknown step: %v", err)
	}
}
