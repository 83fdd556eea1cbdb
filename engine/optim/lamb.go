package optim

import (
	"math"

	"broadside/engine/graph"
	"broadside/kernels"
)

// LAMB takes Adam's direction by layer-wise ratios (You et al. 2020, arXiv 1904.00962):
//
//	u = mhat / (sqrt(vhat) + Eps) + WeightDecay w;  r = min(|w|, PhiMax) / |u| within [0, RatioMax], 1 where |w| or |u| is 0
//	w -= lr r u
//
// Tensors of the Plain roles have no weight decay and ratio 1.
type LAMB struct {
	Beta1, Beta2, Eps, WeightDecay float64
	PhiMax, RatioMax               float64
	NoDecay, Plain                 map[graph.Role]bool
	Clip                           float64 // bound on the norm of the mean gradient before all else; 0: none
}

// Slots returns the names of both moments.
func (LAMB) Slots() []string { return []string{"exp_avg", "exp_avg_sq"} }

// Transforms returns the clip.
func (l LAMB) Transforms() []Transform {
	if l.Clip == 0 {
		return nil
	}
	return []Transform{ClipNorm{Max: l.Clip}}
}

// Update emits the directions, their norms and the steps.
func (l LAMB) Update(params []graph.Param, s *Scratch) []kernels.Call {
	sgd := SGD{WeightDecay: l.WeightDecay, NoDecay: l.NoDecay}.Without(l.Plain)
	// The direction is that of the mean gradient, whose scale must not count again.
	step := s.Filled(HyperCells, func(cells []float32, m Moment) { cells[0], cells[1], cells[2] = float32(m.LR), 1, 1 })
	correction := s.Filled(2, func(cells []float32, m Moment) {
		t := float64(m.Update)
		cells[0], cells[1] = float32(1/(1-math.Pow(l.Beta1, t))), float32(1/math.Sqrt(1-math.Pow(l.Beta2, t)))
	})
	u := s.Vector()
	var calls []kernels.Call
	for _, p := range params {
		calls = append(calls, kernels.Call{Kernel: kernels.Adam,
			Shape: kernels.AdamShape{Count: int64(p.Size()), Beta1: l.Beta1, Beta2: l.Beta2, Eps: l.Eps, WeightDecay: sgd.Decay(p)},
			Args:  []kernels.Ref{at(graph.ParamBase, p), at(graph.GradBase, p), at(SlotBase, p), at(SlotBase+1, p), hyper, correction, at(u, p)}})
	}
	shape := kernels.TrustShape{Form: kernels.TrustNorms, Place: kernels.TrustLR, Coefficient: 1, High: l.RatioMax, WHigh: l.PhiMax}
	for _, g := range sgd.groups(params, l.Plain) {
		hypers := func(int) kernels.Ref { return step }
		if g.adaptive {
			weights, w := measure(kernels.Norm, kernels.Vector{}, g.params, s, graph.ParamBase)
			directions, d := measure(kernels.Norm, kernels.Vector{}, g.params, s, u)
			call, out := trust(shape, len(g.params), w, d, kernels.None, step, s)
			calls = append(append(append(calls, weights...), directions...), call)
			hypers = func(i int) kernels.Ref { return item(out, HyperCells, i) }
		}
		for i, p := range g.params {
			calls = append(calls, kernels.Call{Kernel: kernels.SGD, Shape: kernels.SGDShape{Count: int64(p.Size())},
				Args: []kernels.Ref{at(graph.ParamBase, p), at(u, p), kernels.None, hypers(i)}})
		}
	}
	return calls
}
