package optim

import (
	"broadside/engine/graph"
	"broadside/kernels"
)

// Median sizes a tensor's steps by the median of its elements' curvature as the gradient's share of the weight shows it:
//
//	k = median |g_i| / (|w_i| + Delta);  r = Trust.Coefficient / (k + WeightDecay + Trust.Eps) within [Trust.Low, Trust.High]
//
// Tensors of the Plain roles have ratio 1.
type Median struct {
	SGD
	Trust kernels.TrustShape // without a count
	Plain map[graph.Role]bool
	Delta float64
	// SkipZeros leaves elements without a gradient out of the median.
	SkipZeros bool
}

// Update emits the medians, the ratios and the steps.
func (m Median) Update(params []graph.Param, s *Scratch) []kernels.Call {
	return m.SGD.scaled(params, m.Plain, m.Trust, s, func(params []graph.Param, s *Scratch) (calls []kernels.Call, w, k, dot kernels.Ref) {
		calls, k = measure(kernels.Median, medianOf(m.Delta, m.SkipZeros), params, s, graph.GradBase, graph.ParamBase)
		return calls, kernels.None, k, kernels.None
	})
}

func medianOf(delta float64, skipZeros bool) kernels.Vector {
	v := kernels.Vector{A: delta}
	if skipZeros {
		v.B = 1
	}
	return v
}

// Secant sizes a tensor's steps by the median of its elements' curvature as the last step shows it:
//
//	k = median |g_i - g_i'| / (|w_i - w_i'| + Delta) with those of the update before, 0 before the first
//
// and else as Median. Gradients are means, so the batch may change.
type Secant struct{ Median }

// Slots adds the weights and the mean gradient of the update before.
func (m Secant) Slots() []string {
	return append(m.SGD.Slots(), "previous_weight", "previous_gradient")
}

// Update emits the differences, their medians, the ratios and the steps.
func (m Secant) Update(params []graph.Param, s *Scratch) []kernels.Call {
	minus := s.Filled(HyperCells, func(cells []float32, at Moment) { cells[0], cells[1], cells[2] = 1, float32(at.Scale), 1 })
	plus := s.Filled(HyperCells, func(cells []float32, at Moment) { cells[0], cells[1], cells[2] = -1, float32(at.Scale), 1 })
	weight := SlotBase + kernels.Base(len(m.SGD.Slots()))
	gradient := weight + 1
	m.Trust.Mean = 1
	return m.SGD.scaled(params, m.Plain, m.Trust, s, func(params []graph.Param, s *Scratch) (calls []kernels.Call, w, k, dot kernels.Ref) {
		for _, p := range params { // differences in place of what was before
			calls = append(calls, axpby(p, 1, graph.ParamBase, -1, weight), addMean(p, minus, gradient))
		}
		medians, k := measure(kernels.Median, medianOf(m.Delta, m.SkipZeros), params, s, gradient, weight)
		calls = append(calls, medians...)
		for _, p := range params {
			calls = append(calls, axpby(p, 1, graph.ParamBase, 0, weight), axpby(p, 0, gradient, 0, gradient), addMean(p, plus, gradient))
		}
		return calls, kernels.None, k, kernels.None
	})
}

// axpby is y = a x + b y over a parameter.
func axpby(p graph.Param, a float64, x kernels.Base, b float64, y kernels.Base) kernels.Call {
	return kernels.Call{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: int64(p.Size()), A: a, B: b}, Args: []kernels.Ref{at(x, p), at(y, p)}}
}

// addMean adds to y the mean gradient, or subtracts it, by a hyper whose learning rate is -1 or 1.
func addMean(p graph.Param, hyper kernels.Ref, y kernels.Base) kernels.Call {
	return kernels.Call{Kernel: kernels.SGD, Shape: kernels.SGDShape{Count: int64(p.Size())},
		Args: []kernels.Ref{at(y, p), at(graph.GradBase, p), kernels.None, hyper}}
}
