// Package lars implements LARS, layer-wise adaptive rate scaling (You, Gitman, Ginsburg 2017, "Large batch training of
// convolutional networks", arXiv 1708.03888), in the four forms that published code has given it.
//
// They differ in where the ratio of a tensor enters the update, and give different trainings:
//
//	tf        the ratio and the learning rate are inside the velocity: v = m v + lr r d; w -= v. Excluded parameters: no
//	          weight decay, ratio 1, so the full learning rate. The form of the paper and of TensorFlow.
//	tpu       tf with elements of the gradient within -10 and 10, ratios of 50 at the most and eps 1e-5: the TPU ResNet.
//	timm      the ratio is inside the velocity, the learning rate outside: v = m v + r d; w -= lr v. Tensors without
//	          weight decay have ratio 1.
//	slowbull  both are outside the velocity: v = m v + d; w -= lr r v; the ratio has |g + weight_decay w| in its
//	          denominator. Excluded parameters have ratio 1, but decay.
//
// The norms and ratios are computed on the device, in the update's pass. There is no further state.
package lars

import (
	"math"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/optim"
	"broadside/kernels"
)

// Options are the method's settings.
type Options struct {
	Variant     string   `yaml:"variant" doc:"tf: learning rate inside the velocity; tpu: the same with bounds; timm: ratio inside, learning rate outside; slowbull: both outside"`
	Coefficient float64  `yaml:"coefficient" doc:"trust coefficient: ratio of a tensor's first step to its weights at learning rate 1, by norms"`
	Eps         float64  `yaml:"eps" doc:"added to the ratio's denominator; -1: the variant's, 0 (tf), 1e-5 (tpu), 1e-8 (timm), 1e-6 (slowbull)"`
	Clip        float64  `yaml:"clip" doc:"largest ratio; 0: the variant's, 50 (tpu), none (others)"`
	LARC        bool     `yaml:"larc" doc:"ratio = min(ratio/learning rate, 1): the learning rate is the largest that a tensor can have"`
	AlwaysAdapt bool     `yaml:"always_adapt" doc:"timm: tensors without weight decay have ratios too"`
	Exclude     []string `yaml:"exclude" doc:"parameters whose ratio is 1: bn (scale and shift of batch norm), bias"`
}

func defaults() *Options {
	return &Options{Variant: "tf", Coefficient: 1e-3, Eps: -1, Exclude: []string{"bn", "bias"}}
}

func init() {
	methods.Register(methods.Info{Name: "lars", Paper: "You et al. 2017, arXiv 1708.03888", Claims: []string{"step rule"},
		Doc:  "each tensor's learning rate in proportion to |w|/|g|",
		Cost: "two norms of each tensor per update",
		Equations: `r = coefficient |w| / (|g| + weight_decay |w| + eps), 1 where |w| or |g| is 0; at most clip; d = g + weight_decay w
tf, tpu:  v = momentum v + lr r d;  w -= v;  excluded: r = 1, no weight decay
timm:     v = momentum v + r d;  w -= lr v;  without weight decay: r = 1
slowbull: r = coefficient |w| / (|d| + eps);  v = momentum v + d;  w -= lr r v;  excluded: r = 1
momentum, nesterov and weight_decay are the optimizer's`,
		Limits:  "excluded parameters train at the full learning rate, which is 10 to 40 with this rule: it needs a warm-up",
		Options: func() any { return defaults() },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// variant is what sets a form of LARS apart.
type variant struct {
	place              kernels.TrustPlace
	eps, high, element float64
	excludedDecay      bool
	decayFirst         bool
}

var variants = map[string]variant{
	"tf":       {place: kernels.TrustGainLR, high: math.Inf(1)},
	"tpu":      {place: kernels.TrustGainLR, eps: 1e-5, high: 50, element: 10},
	"timm":     {place: kernels.TrustGain, eps: 1e-8, high: math.Inf(1)},
	"slowbull": {place: kernels.TrustLR, eps: 1e-6, high: math.Inf(1), excludedDecay: true, decayFirst: true},
}

// Method is LARS at work.
type Method struct {
	opt   Options
	plain map[graph.Role]bool
}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	_, known := variants[o.Variant]
	plain, err := optim.Roles(o.Exclude)
	if err := methods.CheckOptions("lars",
		methods.Need(known, "variant", o.Variant, "tf, tpu, timm or slowbull"),
		methods.Need(o.Coefficient > 0 && !math.IsInf(o.Coefficient, 0), "coefficient", o.Coefficient, "above 0"),
		methods.Need(o.Eps >= 0 && !math.IsInf(o.Eps, 0) || o.Eps == -1, "eps", o.Eps, "at least 0, or -1 for the variant's"),
		methods.Need(o.Clip >= 0 && !math.IsInf(o.Clip, 0), "clip", o.Clip, "above 0, or 0 for the variant's"),
		methods.Need(!o.AlwaysAdapt || o.Variant == "timm", "always_adapt", o.AlwaysAdapt, "false, unless the variant is timm"),
		methods.Need(err == nil, "exclude", o.Exclude, "a list of bn and bias")); err != nil {
		return nil, err
	}
	return &Method{o, plain}, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Rule returns LARS with the recipe's momentum and weight decay.
func (m *Method) Rule(base optim.SGD) (optim.Rule, error) {
	v := variants[m.opt.Variant]
	rule := optim.LARS{SGD: base, Plain: m.plain, DecayFirst: v.decayFirst, ClipValue: v.element,
		Trust: kernels.TrustShape{Form: kernels.TrustNorms, Place: v.place, Coefficient: m.opt.Coefficient, Eps: v.eps,
			High: v.high, WHigh: math.Inf(1)}}
	if m.opt.Eps >= 0 {
		rule.Trust.Eps = m.opt.Eps
	}
	if m.opt.Clip > 0 {
		rule.Trust.High = m.opt.Clip
	}
	if m.opt.LARC {
		rule.Trust.LARC = 1
	}
	if !v.excludedDecay {
		rule.SGD = base.Without(m.plain)
	}
	if m.opt.Variant == "timm" {
		rule.Plain = m.undecayed(rule.SGD)
	}
	return rule, nil
}

// undecayed are the roles that timm's form leaves at ratio 1: those without weight decay.
func (m *Method) undecayed(s optim.SGD) map[graph.Role]bool {
	if m.opt.AlwaysAdapt {
		return nil
	}
	plain := map[graph.Role]bool{}
	for _, role := range []graph.Role{graph.Weight, graph.Bias, graph.Gamma, graph.Beta} {
		plain[role] = s.Decay(graph.Param{Role: role}) == 0
	}
	return plain
}
