package ref

import (
	"math"
	"testing"

	"broadside/kernels"
)

// doubles lays values out as the oracle has them, each in two cells.
func doubles(values ...float64) []float64 {
	cells := make([]float64, 2*len(values))
	for i, v := range values {
		cells[2*i] = v
	}
	return cells
}

// By hand: r = 1e-3 |w| / (|g| + 5e-4 |w|) with |w| = 6 and |g| = 8, at every place, and 1 where a norm is 0.
func TestTrustByHand(t *testing.T) {
	const lr, scale = 0.5, 0.25
	ratio := 1e-3 * 6 / (8 + 5e-4*6)
	lars := kernels.TrustShape{Count: 3, Form: kernels.TrustNorms, Coefficient: 1e-3, WeightDecay: 5e-4, High: math.Inf(1), WHigh: math.Inf(1)}
	with := func(change func(*kernels.TrustShape)) kernels.TrustShape {
		s := lars
		change(&s)
		return s
	}
	decayed := math.Sqrt(8*8 + 2*0.25*5e-4*30 + 25e-8*6*6)
	for _, c := range []struct {
		name  string
		shape kernels.TrustShape
		dot   []float64
		want  [2]float64 // learning rate and gain of the first tensor
	}{
		{"inside the velocity", lars, nil, [2]float64{1, lr * ratio}},
		{"gain", with(func(s *kernels.TrustShape) { s.Place = kernels.TrustGain }), nil, [2]float64{lr, ratio}},
		{"learning rate", with(func(s *kernels.TrustShape) { s.Place = kernels.TrustLR }), nil, [2]float64{lr * ratio, 1}},
		{"one", with(func(s *kernels.TrustShape) { s.Form = kernels.TrustOne }), nil, [2]float64{1, lr}},
		{"larc", with(func(s *kernels.TrustShape) { s.Place, s.LARC, s.Coefficient = kernels.TrustGain, 1, 0.1 }), nil, [2]float64{lr, 100 * ratio / lr}},
		{"larc, bounded", with(func(s *kernels.TrustShape) { s.Place, s.LARC, s.Coefficient = kernels.TrustGain, 1, 1 }), nil, [2]float64{lr, 1}},
		{"phi", with(func(s *kernels.TrustShape) {
			s.Place, s.Coefficient, s.WeightDecay, s.WHigh = kernels.TrustGain, 1, 0, 4
		}), nil, [2]float64{lr, 0.5}},
		{"high", with(func(s *kernels.TrustShape) { s.Place, s.High = kernels.TrustGain, 1e-9 }), nil, [2]float64{lr, 1e-9}},
		{"decay first", with(func(s *kernels.TrustShape) { s.Place = kernels.TrustGain }), doubles(30, 0, 0), [2]float64{lr, 1e-3 * 6 / decayed}},
		{"curvature", with(func(s *kernels.TrustShape) { s.Form, s.Place = kernels.TrustCurvature, kernels.TrustGain }), nil, [2]float64{lr, 1e-3 / (8 + 5e-4)}},
	} {
		out := make([]float64, 9)
		mustRun(t, kernels.Trust, c.shape, doubles(6, 0, 6), doubles(32, 32, 0), c.dot, []float64{lr, scale, 1}, out)
		if !near(out[0], c.want[0]) || out[1] != scale || !near(out[2], c.want[1]) {
			t.Errorf("%s: hyper %v, want %v", c.name, out[:3], c.want)
		}
		if c.name == "gain" && (out[5] != 1 || out[8] != 1) {
			t.Errorf("the ratio of a tensor without a norm is %v, of one without a gradient %v; want 1", out[5], out[8])
		}
	}
}

func TestMedianByHand(t *testing.T) {
	for _, c := range []struct {
		x, z        []float64
		delta, want float64
		nonzero     float64
	}{
		{[]float64{3, -1, 2}, []float64{1, 1, -1}, 0, 2, 0},
		{[]float64{3, -1, 2, 8}, []float64{1, 1, -1, 1}, 0, 2.5, 0},
		{[]float64{0, 3, 0, 1, 2, 0}, []float64{1, 1, 1, 1, 1, 1}, 0, 2, 1},
		{[]float64{3, 3, 2, 3}, []float64{1, 1, 1, 1}, 1, 1.5, 0},
		{[]float64{1, 0, 5, 6, 7}, []float64{0, 0, 1, 1, 1}, 0, 6, 0}, // infinity and 0/0 do not count
	} {
		out := make([]float64, 2)
		mustRun(t, kernels.Median, kernels.Vector{Count: int64(len(c.x)), A: c.delta, B: c.nonzero}, c.x, c.z, out)
		if out[0] != c.want {
			t.Errorf("median of |%v| / (|%v| + %v) is %v, want %v", c.x, c.z, c.delta, out[0], c.want)
		}
	}
	out := make([]float64, 2)
	mustRun(t, kernels.Median, kernels.Vector{Count: 1}, []float64{1}, []float64{0}, out)
	if !math.IsNaN(out[0]) {
		t.Errorf("the median of nothing finite is %v, want NaN", out[0])
	}
}

// Two micro gradients: (3, 1) has mean 2, variance 1, ratio 4; (1, 1) has no variance; (2, 0) has ratio 1; (1, -1) 0.
func TestSNRByHand(t *testing.T) {
	g, square := []float64{4, 2, 2, 0}, []float64{10, 2, 4, 2}
	mustRun(t, kernels.SNR, kernels.Vector{Count: 4, A: 2, B: 0.1}, g, square)
	mean := (4.0 + 1 + 0) / 3
	for i, want := range []float64{4, 2, 2 / mean, 0} {
		if !near(g[i], want) {
			t.Errorf("g[%d] = %v, want %v", i, g[i], want)
		}
	}
}

func TestClipByHand(t *testing.T) {
	for norm, want := range map[float64]float64{8: 0.5, 20: 0.25, 1000: 0.005} {
		hyper := []float64{7, 0.5, 1}
		mustRun(t, kernels.Clip, kernels.ClipShape{Max: 5}, doubles(norm), hyper)
		if hyper[0] != 7 || !near(hyper[1], want) || hyper[2] != 1 {
			t.Errorf("norm %v: hyper %v, want scale %v", norm, hyper, want)
		}
	}
}

// After the clip no row of the mean gradient is longer than lambda max(|w|, floor), and short ones are what they were.
func TestAGCBoundsRows(t *testing.T) {
	rng := stream(12)
	w, g := normals(rng, 40), normals(rng, 40)
	clear(w[:4])
	for i := range 4 {
		g[36+i] *= 1e-3
	}
	before := append([]float64(nil), g...)
	mustRun(t, kernels.AGC, kernels.AGCShape{Units: 10, Fan: 4, Lambda: 0.01, Floor: 1e-3}, w, g, []float64{0, 0.5, 1})
	for row := 0; row < 40; row += 4 {
		length := 0.5 * math.Sqrt(dot(g[row:row+4], g[row:row+4]))
		limit := 0.01 * max(math.Sqrt(dot(w[row:row+4], w[row:row+4])), 1e-3)
		if clipped := row < 36; clipped && !near(length, limit) || !clipped && g[row] != before[row] {
			t.Errorf("row %d: norm %v, limit %v", row/4, length, limit)
		}
	}
}

// Adam on a constant gradient: with the bias corrections the first direction is its sign.
func TestAdamByHand(t *testing.T) {
	s := kernels.AdamShape{Count: 2, Beta1: 0.9, Beta2: 0.99, WeightDecay: 0.1}
	m, square, u := make([]float64, 2), make([]float64, 2), make([]float64, 2)
	mustRun(t, kernels.Adam, s, []float64{1, 2}, []float64{8, -2}, m, square, []float64{0, 0.5, 1}, []float64{1 / 0.1, 1 / math.Sqrt(0.01)}, u)
	for i, want := range []float64{1.1, -0.8} {
		if !near(u[i], want) {
			t.Errorf("u[%d] = %v, want %v", i, u[i], want)
		}
	}
}
