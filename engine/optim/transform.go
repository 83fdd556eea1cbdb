package optim

import (
	"slices"
	"strings"

	"broadside/engine/graph"
	"broadside/kernels"
)

// Stage says where among others a transform of the gradient belongs.
type Stage int

// The stages, in their order.
const (
	Elements Stage = iota // acts on single elements
	Rows                  // acts on parts of a tensor
	Whole                 // acts on all parameters together
)

// Transform changes the gradient sum, or the gradient scale in its hyper, before a step rule reads them.
type Transform interface {
	Stage() Stage
	Calls(params []graph.Param, s *Scratch) []kernels.Call
}

// Transforming is a step rule that brings transforms of its own.
type Transforming interface{ Transforms() []Transform }

// Update emits the calls of an update: the transforms by their stage, in a stage the rule's own last, and the rule.
func Update(rule Rule, transforms []Transform, params []graph.Param, s *Scratch) []kernels.Call {
	all := slices.Clone(transforms)
	if t, ok := rule.(Transforming); ok {
		all = append(all, t.Transforms()...)
	}
	slices.SortStableFunc(all, func(a, b Transform) int { return int(a.Stage() - b.Stage()) })
	var calls []kernels.Call
	for _, t := range all {
		calls = append(calls, t.Calls(params, s)...)
	}
	return append(calls, rule.Update(params, s)...)
}

// ClipNorm scales the mean gradient so that its norm over all parameters is Max at the most:
// g *= min(1, Max/(|g| + Eps)).
type ClipNorm struct{ Max, Eps float64 }

// Stage returns Whole.
func (ClipNorm) Stage() Stage { return Whole }

// Calls changes the gradient scale; gradients stay.
func (c ClipNorm) Calls(params []graph.Param, s *Scratch) []kernels.Call {
	norm := s.Doubles(1)
	last := params[len(params)-1]
	// What lies between tensors is zero.
	whole := kernels.Vector{Count: int64(last.Offset + last.Size())}
	return []kernels.Call{
		{Kernel: kernels.Norm, Shape: whole, Args: []kernels.Ref{{Base: graph.GradBase}, norm}},
		{Kernel: kernels.Clip, Shape: kernels.ClipShape{Max: c.Max, Eps: c.Eps}, Args: []kernels.Ref{norm, hyper}},
	}
}

// ClipValue keeps every element of the mean gradient within -Max and Max.
type ClipValue struct{ Max float64 }

// Stage returns Elements.
func (ClipValue) Stage() Stage { return Elements }

// Calls clamps the gradient sum: a signed step of 0 into a box of width 0 around where it begins leaves the bounds.
func (c ClipValue) Calls(params []graph.Param, s *Scratch) []kernels.Call {
	bounds := s.Filled(2, func(cells []float32, m Moment) {
		cells[1] = float32(c.Max / m.Scale)
		cells[0] = -cells[1]
	})
	last := params[len(params)-1]
	g := kernels.Ref{Base: graph.GradBase}
	return []kernels.Call{{Kernel: kernels.PGDStep, Shape: kernels.PGD{Count: int64(last.Offset + last.Size())},
		Args: []kernels.Ref{g, g, g, bounds, g}}}
}

// AGC is adaptive gradient clipping (Brock et al. 2021, "High-performance large-scale image recognition without
// normalization"). A unit is what makes one output: a row of a weight; a vector is one unit.
//
//	if |g_i| > Lambda max(|w_i|, Floor): g_i *= Lambda max(|w_i|, Floor) / |g_i|
type AGC struct {
	Lambda, Floor float64
	Head          bool // clip the last linear layer too
}

// Stage returns Rows.
func (AGC) Stage() Stage { return Rows }

// Calls emits one call per parameter.
func (a AGC) Calls(params []graph.Param, _ *Scratch) []kernels.Call {
	var calls []kernels.Call
	head := headOf(params)
	for _, p := range params {
		if !a.Head && head != "" && layerOf(p) == head {
			continue
		}
		shape := kernels.AGCShape{Units: int32(p.K), Fan: int32(p.Size() / p.K), Lambda: a.Lambda, Floor: a.Floor}
		if p.Role != graph.Weight {
			shape.Units, shape.Fan = 1, int32(p.K)
		}
		calls = append(calls, kernels.Call{Kernel: kernels.AGC, Shape: shape,
			Args: []kernels.Ref{at(graph.ParamBase, p), at(graph.GradBase, p), hyper}})
	}
	return calls
}

// headOf names the network's last layer if it is linear.
func headOf(params []graph.Param) string {
	last := layerOf(params[len(params)-1])
	for _, p := range params {
		if p.Linear && layerOf(p) == last {
			return last
		}
	}
	return ""
}

// layerOf is the name of a parameter's layer.
func layerOf(p graph.Param) string {
	return p.Name[:max(0, strings.LastIndexByte(p.Name, '.'))]
}
