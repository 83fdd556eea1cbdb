package optim

import (
	"math"
	"testing"

	"broadside/engine/graph"
	"broadside/kernels"
)

// one is a weight of n elements.
func one(n int) []graph.Param {
	return []graph.Param{{Name: "w.weight", Role: graph.Weight, K: n, R: 1, S: 1, C: 1}}
}

func set(v []float64, x ...float64) {
	for i := range v {
		v[i] = x[i%len(x)]
	}
}

func lars(decay float64) LARS {
	return LARS{SGD: SGD{WeightDecay: decay}, Trust: kernels.TrustShape{Form: kernels.TrustNorms, Coefficient: 1e-3, High: math.Inf(1), WHigh: math.Inf(1)}}
}

// w = 3, g = 4 everywhere: the ratio is 1e-3 3/(4 + 5e-5 3).
func TestRatioOfLARS(t *testing.T) {
	m := newMachine(t, lars(5e-5), one(16))
	set(m.floats(graph.ParamBase)[:16], 3)
	set(m.floats(graph.GradBase)[:16], 8)
	m.step(0.5, 0.5)
	ratio := 1e-3 * 3 / (4 + 5e-5*3)
	if got, want := m.floats(graph.ParamBase)[5], 3-0.5*ratio*(4+5e-5*3); math.Abs(got-want) > 1e-9 {
		t.Errorf("w = %.12g after a step, want %.12g", got, want)
	}
}

// Without weights or without a gradient the ratio is 1: a tensor that starts at zero moves.
func TestTensorsAtZeroMove(t *testing.T) {
	m := newMachine(t, lars(0), one(4))
	set(m.floats(graph.GradBase)[:4], 1)
	m.step(0.5, 1)
	if w := m.floats(graph.ParamBase)[0]; w != -0.5 {
		t.Errorf("w = %v, want -0.5", w)
	}
}

// Where every |g_i| is a |w_i|, the median curvature is that of the norms: MCLR is LARS.
func TestMedianIsLARSWhereGradientsAreProportional(t *testing.T) {
	const n = 9
	shape := lars(5e-4).Trust
	shape.Form = kernels.TrustCurvature
	norm := newMachine(t, lars(5e-4), one(n))
	median := newMachine(t, Median{SGD: SGD{WeightDecay: 5e-4}, Trust: shape}, one(n))
	for _, m := range []*machine{norm, median} {
		set(m.floats(graph.ParamBase)[:n], 1, -2, 0.5, 3)
		set(m.floats(graph.GradBase)[:n], 0.7, 1.4, -0.35, -2.1)
		m.step(8, 1)
	}
	for i := range n {
		a, b := norm.floats(graph.ParamBase)[i], median.floats(graph.ParamBase)[i]
		if math.Abs(a-b) > 1e-12 || a == []float64{1, -2, 0.5, 3}[i%4] {
			t.Errorf("w[%d] is %v by norms, %v by the median", i, a, b)
		}
	}
}

// In a parabola of one curvature the secant finds it, whatever the steps and the batch: from the second update on the
// ratio is coefficient/curvature.
func TestSecantFindsTheCurvature(t *testing.T) {
	const curvature, coefficient = 2.5, 0.01
	shape := kernels.TrustShape{Form: kernels.TrustCurvature, Coefficient: coefficient, High: 1}
	m := newMachine(t, Secant{Median{SGD: SGD{}, Trust: shape}}, one(6))
	w := m.floats(graph.ParamBase)[:6]
	set(w, 1, -2, 3)
	for update := range 4 {
		samples := math.Ldexp(4, update) // the batch doubles
		before := w[1]
		for i := range w {
			m.floats(graph.GradBase)[i] = samples * curvature * (w[i] - 0.25)
		}
		m.step(1, 1/samples)
		ratio := (before - w[1]) / (curvature * (before - 0.25))
		if update > 0 && math.Abs(ratio-coefficient/curvature) > 1e-9 {
			t.Errorf("update %d: ratio %v, want %v", update+1, ratio, coefficient/curvature)
		}
	}
}

// The clip bounds what is left of the gradient in an update without weight decay.
func TestClipBoundsTheStep(t *testing.T) {
	for _, scale := range []float64{0.5, 0.125} {
		m := newMachine(t, SGD{}, one(4), ClipNorm{Max: 3})
		set(m.floats(graph.GradBase)[:4], 6, -6) // norm 12
		m.step(1, scale)
		if got, want := -m.floats(graph.ParamBase)[0], min(6*scale, 1.5); math.Abs(got-want) > 1e-7 {
			t.Errorf("scale %v: a step of %v, want %v", scale, got, want)
		}
	}
}

func TestScratchKeepsWhatItHandsOutApart(t *testing.T) {
	var s Scratch
	a := s.Cells(3)
	b := s.Filled(2, func(cells []float32, m Moment) { cells[0], cells[1] = float32(m.Update), 9 })
	c := s.Doubles(2)
	if a.Offset < HyperCells || b.Offset < a.Offset+3 || c.Offset < b.Offset+2 || c.Offset%2 != 0 || s.Len() < int(c.Offset)+4 {
		t.Errorf("places %d, %d, %d of %d cells", a.Offset, b.Offset, c.Offset, s.Len())
	}
	cells := make([]float32, s.FilledLen())
	s.Fill(cells, Moment{Update: 7, LR: 0.5, Scale: 0.25})
	if cells[0] != 0.5 || cells[1] != 0.25 || cells[2] != 1 || cells[b.Offset] != 7 || cells[b.Offset+1] != 9 {
		t.Errorf("cells %v", cells)
	}
}
