package optim

import (
	"broadside/engine/graph"
	"broadside/kernels"
)

// group is tensors whose steps are sized alike.
type group struct {
	adaptive bool
	decay    float64
	params   []graph.Param
}

// groups parts the parameters into those that have step sizes of their own, by their weight decay, and the others.
func (s SGD) groups(params []graph.Param, plain map[graph.Role]bool) []group {
	var out []group
next:
	for _, p := range params {
		g := group{adaptive: !plain[p.Role]}
		if g.adaptive {
			g.decay = s.Decay(p)
		}
		for i := range out {
			if out[i].adaptive == g.adaptive && out[i].decay == g.decay {
				out[i].params = append(out[i].params, p)
				continue next
			}
		}
		g.params = []graph.Param{p}
		out = append(out, g)
	}
	return out
}

// trust emits the call that makes the hypers of n tensors; w, g and dot are doubles of each, or nothing.
func trust(shape kernels.TrustShape, n int, w, g, dot, from kernels.Ref, s *Scratch) (kernels.Call, kernels.Ref) {
	shape.Count = int32(n)
	out := s.Cells(HyperCells * n)
	return kernels.Call{Kernel: kernels.Trust, Shape: shape, Args: []kernels.Ref{w, g, dot, from, out}}, out
}

// measure emits a call that writes a double about each tensor.
func measure(k kernels.Kernel, v kernels.Vector, params []graph.Param, s *Scratch, of ...kernels.Base) ([]kernels.Call, kernels.Ref) {
	out := s.Doubles(len(params))
	var calls []kernels.Call
	for i, p := range params {
		v.Count = int64(p.Size())
		call := kernels.Call{Kernel: k, Shape: v}
		for _, base := range of {
			call.Args = append(call.Args, at(base, p))
		}
		call.Args = append(call.Args, item(out, 2, i))
		calls = append(calls, call)
	}
	return calls, out
}

// LARS is layer-wise adaptive rate scaling (You et al. 2017, arXiv 1708.03888). A tensor's ratio is
//
//	r = Trust.Coefficient |w| / (|g| + WeightDecay |w| + Trust.Eps), and 1 where |w| or |g| is 0,
//
// and multiplies the steps as Trust.Place says. Tensors of the Plain roles have ratio 1.
type LARS struct {
	SGD
	Trust kernels.TrustShape // without a count
	Plain map[graph.Role]bool
	// DecayFirst puts |g + WeightDecay w| in the denominator.
	DecayFirst bool
	// ClipValue bounds the elements of the mean gradient; 0 does not.
	ClipValue float64
}

// Transforms returns the bound on elements.
func (l LARS) Transforms() []Transform {
	if l.ClipValue == 0 {
		return nil
	}
	return []Transform{ClipValue{l.ClipValue}}
}

// Update emits the norms, the ratios and the steps.
func (l LARS) Update(params []graph.Param, s *Scratch) []kernels.Call {
	return l.SGD.scaled(params, l.Plain, l.Trust, s, l.norms)
}

func (l LARS) norms(params []graph.Param, s *Scratch) (calls []kernels.Call, w, g, dot kernels.Ref) {
	calls, w = measure(kernels.Norm, kernels.Vector{}, params, s, graph.ParamBase)
	more, g := measure(kernels.Norm, kernels.Vector{}, params, s, graph.GradBase)
	calls, dot = append(calls, more...), kernels.None
	if l.DecayFirst {
		more, dot = measure(kernels.Dot, kernels.Vector{}, params, s, graph.ParamBase, graph.GradBase)
		calls = append(calls, more...)
	}
	return calls, w, g, dot
}

// scaled emits SGD's steps, each tensor's by a ratio of its own. Those of plain roles have ratio 1. measure emits what
// the trust kernel reads of some tensors.
func (s SGD) scaled(params []graph.Param, plain map[graph.Role]bool, shape kernels.TrustShape, scratch *Scratch,
	measure func([]graph.Param, *Scratch) (calls []kernels.Call, w, g, dot kernels.Ref)) []kernels.Call {
	var calls []kernels.Call
	hypers := map[string]kernels.Ref{}
	for _, g := range s.groups(params, plain) {
		if !g.adaptive {
			call, one := trust(kernels.TrustShape{Place: shape.Place}, 1, kernels.None, kernels.None, kernels.None, hyper, scratch)
			calls = append(calls, call)
			for _, p := range g.params {
				hypers[p.Name] = one
			}
			continue
		}
		own := shape
		own.WeightDecay = g.decay
		more, w, norm, dot := measure(g.params, scratch)
		call, out := trust(own, len(g.params), w, norm, dot, hyper, scratch)
		calls = append(append(calls, more...), call)
		for i, p := range g.params {
			hypers[p.Name] = item(out, HyperCells, i)
		}
	}
	for _, p := range params {
		calls = append(calls, s.step(p, hypers[p.Name]))
	}
	return calls
}
