package ref

import "broadside/kernels"

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

// sgd updates w by SGD with momentum in PyTorch's form: the learning rate is outside the velocity.
func sgd(s kernels.SGDShape, w, g, velocity, hyper []float64) error {
	rate, scale := hyper[0], hyper[1]
	for i := range w[:s.Count] {
		d := scale*g[i] + s.WeightDecay*w[i]
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
