// Package layerwise implements step sizes that the curvature along each tensor's gradient gives (after Bahamou and
// Goldfarb 2023, "Layer-wise adaptive step-sizes for stochastic first-order methods for deep learning", arXiv
// 2305.13664). It is a reconstruction: of the paper only the abstract was at hand.
//
// The step size of a tensor l is that of the minimum of its parabola along the gradient g,
//
//	a_l = |g_l g_l| / (|g_l (Hg)_l| + weight_decay g_l g_l + delta g_l g_l).
//
// Hg is one product for all tensors, so it has what other tensors add to (Hg)_l, which can be as much as the tensor's own
// part; exact blocks would cost a product for each tensor. Numerator and denominator are averaged over probes on their own, as means over samples.
package layerwise

import (
	"fmt"
	"math"

	"broadside/engine/methods"
	"broadside/engine/optim"
	"broadside/kernels"
)

// Options are the method's settings.
type Options struct {
	Min          float64 `yaml:"min" doc:"smallest step size of a tensor; it is that of all before the first probe"`
	Max          float64 `yaml:"max" doc:"largest step size of a tensor"`
	Delta        float64 `yaml:"delta" doc:"added to every curvature"`
	Average      float64 `yaml:"average" doc:"weight of earlier probes in numerator and denominator"`
	ProbeEvery   int     `yaml:"probe_every" doc:"updates between two probes"`
	ProbeSamples int     `yaml:"probe_samples" doc:"training samples of a probe"`
}

func init() {
	methods.Register(methods.Info{Name: "layerwise", Paper: "after Bahamou and Goldfarb 2023, arXiv 2305.13664", Status: "reconstruction",
		Claims: []string{"step rule"},
		Doc:    "each tensor's step size from the curvature along its gradient",
		Cost:   "a Hessian-vector product on probe_samples samples every probe_every updates",
		Equations: `every probe_every updates, with the update's gradient g:  n = mean of g_l g_l, c = mean of |g_l (Hg)_l| over probes,
    earlier probes weighing average, then its square and so on
a_l = n/(c + (weight_decay + delta) n), kept between min and max
v = momentum v + g + weight_decay w;  w -= lr a_l v;  momentum, nesterov and weight_decay are the optimizer's`,
		Limits:  "lr multiplies the step sizes and is about 1; a product sees the other tensors too, and momentum goes further than one step",
		Options: func() any { return defaults() },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

func defaults() *Options {
	return &Options{Min: 1e-4, Max: 1, Delta: 1e-8, Average: 0.9, ProbeEvery: 1, ProbeSamples: 128}
}

// Method is the rule at work.
type Method struct {
	opt   Options
	state state
}

// state is what a resume needs.
type state struct {
	Tensors map[string]sums `json:"tensors"`
}

// sums are a tensor's numerator and denominator; what weighs both alike cancels.
type sums struct {
	Square  float64 `json:"square"`
	Product float64 `json:"product"`
}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("layerwise",
		methods.Need(o.Min > 0 && !math.IsInf(o.Min, 0), "min", o.Min, "above 0"),
		methods.Need(o.Max >= o.Min && !math.IsInf(o.Max, 0), "max", o.Max, "at least min"),
		methods.Need(o.Delta >= 0 && !math.IsInf(o.Delta, 0), "delta", o.Delta, "at least 0"),
		methods.Need(o.Average >= 0 && o.Average < 1, "average", o.Average, "at least 0 and below 1"),
		methods.Need(o.ProbeEvery > 0, "probe_every", o.ProbeEvery, "at least 1"),
		methods.Need(o.ProbeSamples > 0, "probe_samples", o.ProbeSamples, "at least 1")); err != nil {
		return nil, err
	}
	return &Method{o, state{map[string]sums{}}}, nil
}

// Prepare refuses a probe of more samples than there are.
func (m *Method) Prepare(t methods.Training) error {
	return methods.CheckOptions("layerwise", methods.Need(m.opt.ProbeSamples <= t.Samples(), "probe_samples", m.opt.ProbeSamples,
		fmt.Sprintf("at most the %d training samples", t.Samples())))
}

// State returns the averages.
func (m *Method) State() any { return &m.state }

// UpdateEnd probes along the gradient when that is due. What is not finite is not counted: the loss tells of it.
func (m *Method) UpdateEnd(t methods.Training, u methods.Update) error {
	if t.Updates()%m.opt.ProbeEvery != 0 {
		return nil
	}
	found, err := t.Curvatures(m.opt.ProbeSamples, methods.Gradient)
	if err != nil {
		return err
	}
	mean := 1 / (float64(u.Samples) * float64(u.Samples)) // of products of sums over samples
	for _, c := range found {
		square, product := mean*c.Square, mean*math.Abs(c.Product)
		if !finite(square) || !finite(product) {
			continue
		}
		s, keep := m.state.Tensors[c.Tensor], m.opt.Average
		m.state.Tensors[c.Tensor] = sums{keep*s.Square + (1-keep)*square, keep*s.Product + (1-keep)*product}
	}
	return nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// curvature returns that along a tensor's gradient; before the first probe it is infinite, and the step size min.
func (m *Method) curvature(tensor string) float64 {
	s := m.state.Tensors[tensor]
	if s.Square == 0 {
		return math.Inf(1)
	}
	return s.Product / s.Square
}

// Rule returns SGD by the step sizes.
func (m *Method) Rule(base optim.SGD) (optim.Rule, error) {
	return optim.Given{SGD: base, Curvature: m.curvature, Trust: kernels.TrustShape{Form: kernels.TrustCurvature, Place: kernels.TrustLR,
		Coefficient: 1, Eps: m.opt.Delta, Low: m.opt.Min, High: m.opt.Max}}, nil
}
