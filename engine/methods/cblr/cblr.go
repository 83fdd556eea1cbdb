// Package cblr implements learning rates by layer-wise curvature, CBLR, and by its median, MCLR (Gao and Zhong 2020,
// arXiv 2012.08795). It is a reconstruction: of the paper only the abstract was at hand, and there is no public code.
//
// Each parameter is thought to sit in a parabola of its own, so the step to its minimum is gradient over curvature. A
// tensor has one learning rate, lr coefficient/(k + weight_decay), for a curvature k of all its elements:
//
//	norm    k = |g|/|w|, as if every weight's minimum were a fixed share of the weight away: then the method is LARS
//	median  k = median |g_i|/(|w_i| + delta): MCLR
//	secant  k = median |g_i - g_i'|/(|w_i - w_i'| + delta) with those of the update before
//
// Learning rate and curvature are inside the velocity, as in LARS. Everything is computed on the device.
package cblr

import (
	"fmt"
	"math"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/optim"
	"broadside/kernels"
)

// Options are the method's settings.
type Options struct {
	Estimator   string   `yaml:"estimator" doc:"a tensor's curvature: norm (then it is LARS), median (then it is MCLR), secant (of the last step)"`
	Coefficient float64  `yaml:"coefficient" doc:"learning rate of a tensor at learning rate 1 and curvature 1"`
	Delta       float64  `yaml:"delta" doc:"added to the denominators of the median"`
	MaxRatio    float64  `yaml:"max_ratio" doc:"largest share of the learning rate that a tensor can have; 0: any"`
	SkipZeros   bool     `yaml:"skip_zeros" doc:"leave elements without a gradient, as of dead units, out of the median"`
	Exclude     []string `yaml:"exclude" doc:"parameters with the full learning rate and no weight decay: bn (scale and shift of batch norm), bias"`
}

func defaults(estimator string) *Options {
	return &Options{Estimator: estimator, Coefficient: 1e-3, Delta: 1e-12, MaxRatio: 1, Exclude: []string{"bn", "bias"}}
}

const (
	paper  = "Gao and Zhong 2020, arXiv 2012.08795"
	limits = "excluded parameters train at the full learning rate, which is 10 to 40 with this rule: it needs a warm-up"
)

func init() {
	methods.Register(methods.Info{Name: "cblr", Paper: paper, Status: "reconstruction", Claims: []string{"step rule"}, Limits: limits,
		Doc: "each tensor's learning rate in inverse proportion to its curvature",
		Cost: "norm: two norms of each tensor per update; median, secant: a median of each tensor, four readings of the gradient; " +
			"secant: two more memories of the parameters' size",
		Equations: `k = |g|/|w| (norm), median |g_i|/(|w_i| + delta) (median),
    median |g_i - g_i'|/(|w_i - w_i'| + delta) with those of the update before (secant)
r = coefficient/(k + weight_decay), at most max_ratio;  v = momentum v + lr r (g + weight_decay w);  w -= v
excluded: r = 1, no weight decay;  momentum, nesterov and weight_decay are the optimizer's`,
		Options: func() any { return defaults("norm") },
		New:     func(o any) (methods.Method, error) { return New("cblr", *o.(*Options)) }})
	methods.Register(methods.Info{Name: "mclr", Paper: paper, Status: "reconstruction", Claims: []string{"step rule"}, Limits: limits,
		Doc:  "each tensor's learning rate in inverse proportion to the median of |g_i|/|w_i|",
		Cost: "a median of each tensor per update, four readings of the gradient",
		Equations: `k = median |g_i|/(|w_i| + delta), the mean of the two in the middle if they are even in number
r = coefficient/(k + weight_decay), at most max_ratio;  v = momentum v + lr r (g + weight_decay w);  w -= v
excluded: r = 1, no weight decay;  momentum, nesterov and weight_decay are the optimizer's`,
		Options: func() any { return defaults("median") },
		New: func(o any) (methods.Method, error) {
			if e := o.(*Options).Estimator; e != "median" {
				return nil, fmt.Errorf("methods.mclr.estimator is %q: mclr is the median; use cblr", e)
			}
			return New("mclr", *o.(*Options))
		}})
}

// Method is CBLR at work.
type Method struct {
	opt   Options
	plain map[graph.Role]bool
}

// New checks the options and makes the method; the name is for messages.
func New(name string, o Options) (*Method, error) {
	plain, err := optim.Roles(o.Exclude)
	if err := methods.CheckOptions(name,
		methods.Need(o.Estimator == "norm" || o.Estimator == "median" || o.Estimator == "secant", "estimator", o.Estimator, "norm, median or secant"),
		methods.Need(o.Coefficient > 0 && !math.IsInf(o.Coefficient, 0), "coefficient", o.Coefficient, "above 0"),
		methods.Need(o.Delta >= 0 && !math.IsInf(o.Delta, 0), "delta", o.Delta, "at least 0"),
		methods.Need(o.MaxRatio >= 0 && !math.IsInf(o.MaxRatio, 0), "max_ratio", o.MaxRatio, "above 0, or 0 for none"),
		methods.Need(err == nil, "exclude", o.Exclude, "a list of bn and bias")); err != nil {
		return nil, err
	}
	return &Method{o, plain}, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Rule returns the rule of the estimator with the recipe's momentum and weight decay.
func (m *Method) Rule(base optim.SGD) (optim.Rule, error) {
	base = base.Without(m.plain)
	trust := kernels.TrustShape{Form: kernels.TrustCurvature, Place: kernels.TrustGainLR, Coefficient: m.opt.Coefficient,
		High: m.opt.MaxRatio, WHigh: math.Inf(1)}
	if m.opt.MaxRatio == 0 {
		trust.High = math.Inf(1)
	}
	if m.opt.Estimator == "norm" {
		trust.Form = kernels.TrustNorms
		return optim.LARS{SGD: base, Trust: trust, Plain: m.plain}, nil
	}
	median := optim.Median{SGD: base, Trust: trust, Plain: m.plain, Delta: m.opt.Delta, SkipZeros: m.opt.SkipZeros}
	if m.opt.Estimator == "secant" {
		return optim.Secant{Median: median}, nil
	}
	return median, nil
}
