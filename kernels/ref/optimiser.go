package ref

import (
	"math"
	"slices"

	"broadside/kernels"
)

// pgdStep moves x by step in the direction of the gradient's sign and projects it into the box of
// half-width eps around clean, then into the bounds (Goodfellow et al. 2015; Madry et al. 2018).
func pgdStep(s kernels.PGD, x, clean, grad, bounds, out []float64) error {
	for i := range out[:s.Count] {
		moved := x[i] + s.Step*sign(grad[i])
		v := clean[i] + clamp(moved-clean[i], -s.Eps, s.Eps)
		if bounds != nil {
			v = clamp(v, bounds[0], bounds[1])
		}
		out[i] = v
	}
	return nil
}

func sign(v float64) float64 {
	switch {
	case v > 0:
		return 1
	case v < 0:
		return -1
	}
	return 0
}

func clamp(v, low, high float64) float64 { return min(max(v, low), high) }

// sgd updates w by SGD with momentum: the learning rate is outside the velocity, as in PyTorch, the gain inside.
func sgd(s kernels.SGDShape, w, g, velocity, hyper []float64) error {
	rate, scale, gain := hyper[0], hyper[1], hyper[2]
	for i := range w[:s.Count] {
		d := gain * (scale*g[i] + s.WeightDecay*w[i])
		v := d
		if velocity != nil {
			v = s.Momentum*velocity[i] + d
			velocity[i] = v
		}
		if s.Nesterov != 0 {
			v = d + s.Momentum*v
		}
		w[i] -= rate * v
	}
	return nil
}

// adam writes Adam's direction with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019).
func adam(s kernels.AdamShape, w, g, m, square, hyper, correction, u []float64) error {
	for i := range u[:s.Count] {
		d := hyper[1] * g[i]
		m[i] = s.Beta1*m[i] + (1-s.Beta1)*d
		square[i] = s.Beta2*square[i] + (1-s.Beta2)*d*d
		u[i] = correction[0]*m[i]/(correction[1]*math.Sqrt(square[i])+s.Eps) + s.WeightDecay*w[i]
	}
	return nil
}

// clip bounds the norm of the mean gradient by changing the gradient scale.
func clip(s kernels.ClipShape, norm, hyper []float64) error {
	hyper[1] *= min(1, s.Max/(hyper[1]*norm[0]+s.Eps))
	return nil
}

// agc clips every row of the gradient to lambda times the norm of its weights (Brock et al. 2021).
func agc(s kernels.AGCShape, w, g, hyper []float64) error {
	fan := int(s.Fan)
	for first := 0; first < int(s.Units)*fan; first += fan {
		row := g[first : first+fan]
		weights := w[first : first+fan]
		limit := s.Lambda * max(math.Sqrt(dot(weights, weights)), s.Floor)
		norm := hyper[1] * math.Sqrt(dot(row, row))
		if norm > limit {
			for i := range row {
				row[i] *= limit / max(norm, 1e-6)
			}
		}
	}
	return nil
}

// trust makes every tensor's hyper from its norms or its curvature.
func trust(s kernels.TrustShape, w, g, inner, hyper, out []float64) error {
	lr, scale := hyper[0], hyper[1]
	for i := range int(s.Count) {
		ratio := 1.0
		switch s.Form {
		case kernels.TrustNorms:
			var product []float64
			if inner != nil {
				product = inner[2*i:]
			}
			ratio = bounded(s, normRatio(s, math.Abs(w[2*i]), scaled(s, g[2*i], scale), product, scale), lr)
		case kernels.TrustCurvature:
			ratio = bounded(s, s.Coefficient/(scaled(s, g[2*i], scale)+s.WeightDecay+s.Eps), lr)
		}
		rate, gain := lr, ratio
		switch s.Place {
		case kernels.TrustGainLR:
			rate, gain = 1, lr*ratio
		case kernels.TrustLR:
			rate, gain = lr*ratio, 1
		}
		out[3*i], out[3*i+1], out[3*i+2] = rate, scale, gain
	}
	return nil
}

// scaled is g of the mean gradient.
func scaled(s kernels.TrustShape, g, scale float64) float64 {
	if s.Mean != 0 {
		return math.Abs(g)
	}
	return math.Abs(g) * scale
}

// normRatio is the ratio of a tensor's norms; product is that of the weights and the gradient sum, if it is given.
func normRatio(s kernels.TrustShape, w, g float64, product []float64, scale float64) float64 {
	decay := s.WeightDecay
	if product != nil {
		g = math.Sqrt(max(0, g*g+2*decay*scale*product[0]+decay*decay*w*w))
		decay = 0
	}
	if w == 0 || g == 0 {
		return 1
	}
	return s.Coefficient * min(w, s.WHigh) / (g + decay*w + s.Eps)
}

func bounded(s kernels.TrustShape, ratio, lr float64) float64 {
	ratio = clamp(ratio, s.Low, s.High)
	if s.LARC != 0 {
		ratio = min(ratio/lr, 1)
	}
	return ratio
}

// median: out = the median of |x| / (|z| + a), the mean of the two in the middle of an even number. What is not finite
// does not count, nor does x = 0 unless b is 0.
func median(s kernels.Vector, x, z, out []float64) error {
	var ratios []float64
	for i := range x[:s.Count] {
		if r := math.Abs(x[i]) / (math.Abs(z[i]) + s.A); r <= math.MaxFloat32 && (x[i] != 0 || s.B == 0) {
			ratios = append(ratios, r)
		}
	}
	n := len(ratios)
	if n == 0 {
		out[0] = math.NaN()
		return nil
	}
	slices.Sort(ratios)
	out[0] = (ratios[(n-1)/2] + ratios[n/2]) / 2
	return nil
}

// snr multiplies the sum g of so many micro gradients by its gradient signal-to-noise ratio, that is the squared mean
// over the variance, relative to the mean ratio of the tensor (Jiang et al. 2023).
func snr(s kernels.Vector, g, square []float64) error {
	sum, counted := 0.0, 0.0
	for i := range g[:s.Count] {
		if variance := s.A*square[i] - g[i]*g[i]; variance > 0 {
			sum += g[i] * g[i] / variance
			counted++
		}
	}
	for i := range g[:s.Count] {
		if variance := s.A*square[i] - g[i]*g[i]; variance > 0 && sum > 0 {
			g[i] *= clamp(g[i]*g[i]/variance/(sum/counted), s.B, 1)
		}
	}
	return nil
}
