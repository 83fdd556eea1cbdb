// Package lamb implements LAMB (You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer, Hsieh 2020, "Large
// batch optimization for deep learning: training BERT in 76 minutes", arXiv 1904.00962): Adam's direction with
// decoupled weight decay, scaled layer by layer to the norm of the weights. The gradient's norm is bounded first, as in
// NVIDIA's NVLAMB. The number of updates that corrects Adam's bias is the run's.
package lamb

import (
	"fmt"
	"math"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/optim"
)

// Options are the method's settings.
type Options struct {
	Beta1   float64  `yaml:"beta1" doc:"decay of the mean of gradients"`
	Beta2   float64  `yaml:"beta2" doc:"decay of the mean of squared gradients"`
	Eps     float64  `yaml:"eps" doc:"added to the root of the mean square"`
	Clip    float64  `yaml:"clip" doc:"largest norm of the gradient, before all else; 0: any"`
	PhiMax  float64  `yaml:"phi_max" doc:"largest norm of weights that counts in a ratio, 10 in some implementations; 0: any"`
	Bounded bool     `yaml:"bounded" doc:"ratios of 1 at the most (LAMBC)"`
	Exclude []string `yaml:"exclude" doc:"parameters without weight decay and with ratio 1: bn (scale and shift of batch norm), bias"`
}

func init() {
	methods.Register(methods.Info{Name: "lamb", Paper: "You et al. 2020, arXiv 1904.00962", Claims: []string{"step rule"},
		Doc:  "Adam's direction, each tensor's step in proportion to |w|",
		Cost: "the norm of the gradient and two norms of each tensor per update; one more memory of the parameters' size than momentum, and one of scratch",
		Equations: `g *= min(1, clip/|g|) over all parameters
m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
u = (m/(1 - beta1^t)) / (sqrt(v/(1 - beta2^t)) + eps) + weight_decay w at update t
r = min(|w|, phi_max)/|u|, 1 where |w| or |u| is 0, at most 1 if bounded;  w -= lr r u
excluded: weight_decay = 0 and r = 1;  weight_decay is the optimizer's, its momentum is not used`,
		Limits: "learning rates are those of Adam, about 1e-3 to 1e-2; without weight decay or warm-up large batches diverge",
		Options: func() any {
			return &Options{Beta1: 0.9, Beta2: 0.999, Eps: 1e-6, Clip: 1, Exclude: []string{"bn", "bias"}}
		},
		New: func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is LAMB at work.
type Method struct {
	opt   Options
	plain map[graph.Role]bool
}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	plain, err := optim.Roles(o.Exclude)
	if err := methods.CheckOptions("lamb",
		methods.Need(o.Beta1 >= 0 && o.Beta1 < 1, "beta1", o.Beta1, "at least 0 and below 1"),
		methods.Need(o.Beta2 >= 0 && o.Beta2 < 1, "beta2", o.Beta2, "at least 0 and below 1"),
		methods.Need(o.Eps > 0 && !math.IsInf(o.Eps, 0), "eps", o.Eps, "above 0"),
		methods.Need(o.Clip >= 0 && !math.IsInf(o.Clip, 0), "clip", o.Clip, "above 0, or 0 for none"),
		methods.Need(o.PhiMax >= 0 && !math.IsInf(o.PhiMax, 0), "phi_max", o.PhiMax, "above 0, or 0 for none"),
		methods.Need(err == nil, "exclude", o.Exclude, "a list of bn and bias")); err != nil {
		return nil, err
	}
	return &Method{o, plain}, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Rule returns LAMB with the recipe's weight decay.
func (m *Method) Rule(base optim.SGD) (optim.Rule, error) {
	if base.Nesterov {
		return nil, fmt.Errorf("optimizer.nesterov is true: method lamb has no Nesterov form; set it to false")
	}
	o := m.opt
	rule := optim.LAMB{Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps, WeightDecay: base.WeightDecay, NoDecay: base.NoDecay, Clip: o.Clip,
		PhiMax: math.Inf(1), RatioMax: math.Inf(1), Plain: m.plain}
	if o.PhiMax > 0 {
		rule.PhiMax = o.PhiMax
	}
	if o.Bounded {
		rule.RatioMax = 1
	}
	return rule, nil
}
