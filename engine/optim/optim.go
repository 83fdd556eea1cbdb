// Package optim holds the step rules: what turns the mean gradient into an update. A rule emits
// kernel calls once; the learning rate and the gradient scale are read from memory at each update.
package optim

import (
	"maps"

	"broadside/engine/graph"
	"broadside/engine/suggest"
	"broadside/kernels"
)

// The memories of an update besides the parameters and gradients.
const (
	HyperBase = graph.FreeBase + iota // learning rate, gradient scale, gain; then the cells of a Scratch
	SlotBase                          // the rule's first slot; others follow
)

// VectorBase is a Scratch's first vector; an update computes no Hessian, whose bases these are.
const VectorBase = graph.TangentBase

// HyperCells is what every update's memory at HyperBase begins with.
const HyperCells = 3

// Rule is a step rule.
type Rule interface {
	// Slots names the rule's state tensors per parameter, as in "momentum".
	Slots() []string
	// Update emits the calls of one update over all parameters. They may take memory from the scratch.
	Update(params []graph.Param, s *Scratch) []kernels.Call
}

// Vectors returns how many memories laid out like the parameters a rule needs.
func Vectors(r Rule, params []graph.Param) int {
	var s Scratch
	r.Update(params, &s)
	return len(r.Slots()) + s.Vectors()
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
func (s SGD) Update(params []graph.Param, _ *Scratch) []kernels.Call {
	calls := make([]kernels.Call, 0, len(params))
	for _, p := range params {
		calls = append(calls, s.step(p, hyper))
	}
	return calls
}

// Decay returns the weight decay of a parameter.
func (s SGD) Decay(p graph.Param) float64 {
	if s.NoDecay[p.Role] {
		return 0
	}
	return s.WeightDecay
}

// step is the update of a parameter by a hyper of its own: learning rate, gradient scale, gain.
func (s SGD) step(p graph.Param, hyper kernels.Ref) kernels.Call {
	velocity := kernels.None
	if s.Momentum != 0 {
		velocity = at(SlotBase, p)
	}
	shape := kernels.SGDShape{Count: int64(p.Size()), Momentum: s.Momentum, WeightDecay: s.Decay(p)}
	if s.Nesterov {
		shape.Nesterov = 1
	}
	return kernels.Call{Kernel: kernels.SGD, Shape: shape,
		Args: []kernels.Ref{at(graph.ParamBase, p), at(graph.GradBase, p), velocity, hyper}}
}

// Roles returns the roles that names stand for: bn (scale and shift of batch normalisations) and bias.
func Roles(names []string) (map[graph.Role]bool, error) {
	roles := map[graph.Role]bool{}
	for _, name := range names {
		switch name {
		case "bn":
			roles[graph.Gamma], roles[graph.Beta] = true, true
		case "bias":
			roles[graph.Bias] = true
		default:
			return nil, suggest.Unknown("kind of parameter", name, []string{"bn", "bias"})
		}
	}
	return roles, nil
}

// Without returns the rule with no weight decay on further roles.
func (s SGD) Without(roles map[graph.Role]bool) SGD {
	all := map[graph.Role]bool{}
	maps.Copy(all, s.NoDecay)
	maps.Copy(all, roles)
	s.NoDecay = all
	return s
}
