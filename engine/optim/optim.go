// Package optim holds the step rules: what turns the mean gradient into an update. A rule emits
// kernel calls once; the learning rate and the gradient scale are read from memory at each update.
package optim

import (
	"broadside/engine/graph"
	"broadside/kernels"
)

// The memories of an update besides the parameters and gradients.
const (
	HyperBase = graph.FreeBase + iota // learning rate, gradient scale, gain
	SlotBase                          // the rule's first slot; others follow
)

// HyperCells is the size of the memory at HyperBase.
const HyperCells = 3

// Rule is a step rule.
type Rule interface {
	// Slots names the rule's state tensors per parameter, as in "momentum".
	Slots() []string
	// Update emits the calls of one update over all parameters.
	Update(params []graph.Param) []kernels.Call
}

// SGD is stochastic gradient descent as PyTorch defines it: the learning rate stays outside the
// velocity, so a change of the learning rate rescales past velocity too.
//
//	d = g + WeightDecay w;  v = Momentum v + d;  w -= lr (Nesterov ? d + Momentum v : v)
type SGD struct {
	Momentum    float64
	Nesterov    bool
	WeightDecay float64
	// NoDecay are the roles that weight decay leaves alone.
	NoDecay map[graph.Role]bool
}

// Slots returns the velocity's name, or nothing without momentum.
func (s SGD) Slots() []string {
	if s.Momentum == 0 {
		return nil
	}
	return []string{"momentum"}
}

// Update emits one call per parameter.
func (s SGD) Update(params []graph.Param) []kernels.Call {
	calls := make([]kernels.Call, 0, len(params))
	for _, p := range params {
		at := func(base kernels.Base) kernels.Ref { return kernels.Ref{Base: base, Offset: int64(p.Offset)} }
		velocity := kernels.None
		if s.Momentum != 0 {
			velocity = at(SlotBase)
		}
		shape := kernels.SGDShape{Count: int64(p.Size()), Momentum: s.Momentum, WeightDecay: s.WeightDecay}
		if s.Nesterov {
			shape.Nesterov = 1
		}
		if s.NoDecay[p.Role] {
			shape.WeightDecay = 0
		}
		calls = append(calls, kernels.Call{Kernel: kernels.SGD, Shape: shape,
			Args: []kernels.Ref{at(graph.ParamBase), at(graph.GradBase), velocity, {Base: HyperBase}}})
	}
	return calls
}
