// Package clars implements CLARS, complete layer-wise adaptive rate scaling (Huo, Gu, Huang 2020, "Large batch training does
// not need warmup", arXiv 2002.01576): LARS with the norm of the mean gradient replaced by the mean of norms. Where gradients
// disagree, as early in training, the mean of norms is the larger one and steps are smaller, so that no warm-up is needed.
//
// The paper means the norms of samples; here, as in the authors' code, they are those of micro-batches, and here these are
// the update's own.
package clars

import (
	"math"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/optim"
	"broadside/kernels"
)

// Options are the method's settings. The defaults are those of the authors' code.
type Options struct {
	Coefficient float64  `yaml:"coefficient" doc:"ratio of a tensor's step to its weights, at learning rate 1 and gradients that agree"`
	MaxRatio    float64  `yaml:"max_ratio" doc:"largest factor of the learning rate of a tensor"`
	Eps         float64  `yaml:"eps" doc:"added to the mean norm of gradients"`
	Exclude     []string `yaml:"exclude" doc:"parameters whose factor is 1: bn (scale and shift of batch norm), bias"`
}

func init() {
	methods.Register(methods.Info{Name: "clars", Paper: "Huo, Gu, Huang 2020, arXiv 2002.01576", Claims: []string{"step rule"},
		Equations: `g_j: mean gradient of a tensor in micro-batch j of n_j samples, of the update's n;  g: in the update
norm = sum_j (n_j/n) |g_j|
r = min(max_ratio, coefficient |w|/(norm + eps));  r = 1 for excluded parameters
d = g + weight_decay w;  v = momentum v + d;  w <- w - lr r v`,
		Limits: `the mean of norms is that of the micro-batches, not of samples: it grows with their number. The authors' code takes it
over 64 batches of 8 fresh samples after every update; here it is over the lanes of the update itself, which costs no extra passes`,
		Doc:  "LARS with the mean of micro-batches' gradient norms in place of the norm of the mean: no warm-up needed",
		Cost: "a pass over the gradients of each lane per update, no overlap of computing and reducing them",
		Options: func() any {
			return &Options{Coefficient: 0.01, MaxRatio: 0.1, Eps: 1e-6, Exclude: []string{"bn", "bias"}}
		},
		New: func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is CLARS at work.
type Method struct {
	opt   Options
	plain map[graph.Role]bool
	norms []float64 // of the update under way, by tensor
}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	plain, err := optim.Roles(o.Exclude)
	if err := methods.CheckOptions("clars",
		methods.Need(o.Coefficient > 0 && !math.IsInf(o.Coefficient, 0), "coefficient", o.Coefficient, "above 0"),
		methods.Need(o.MaxRatio > 0 && !math.IsInf(o.MaxRatio, 0), "max_ratio", o.MaxRatio, "above 0"),
		methods.Need(o.Eps >= 0 && !math.IsInf(o.Eps, 0), "eps", o.Eps, "at least 0"),
		methods.Need(err == nil, "exclude", o.Exclude, "a list of bn and bias")); err != nil {
		return nil, err
	}
	return &Method{opt: o, plain: plain}, nil
}

// Prepare makes room for the norms.
func (m *Method) Prepare(t methods.Training) error {
	m.norms = make([]float64, len(t.Tensors()))
	return nil
}

// ReadMoments keeps the mean norms of the update.
func (m *Method) ReadMoments(u *methods.Moments) {
	for i, t := range u.Tensors {
		m.norms[i] = t.MeanNorm
	}
}

// Rule returns the step rule.
func (m *Method) Rule(base optim.SGD) (optim.Rule, error) {
	return optim.CLARS{SGD: base,
		Trust: kernels.TrustShape{Form: kernels.TrustNorms, Place: kernels.TrustLR, Coefficient: m.opt.Coefficient, Eps: m.opt.Eps,
			High: m.opt.MaxRatio, WHigh: math.Inf(1)},
		Plain: m.plain,
		Norm:  func(tensor int) float64 { return m.norms[tensor] }}, nil
}
