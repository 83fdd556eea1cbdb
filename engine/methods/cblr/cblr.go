// Package cblr implements learning rates by layer-wise curvature, CBLR, and by its median, MCLR (Gao and Zhong 2020,
// arXiv 2012.08795). It is a reconstruction: of the paper only the abstract was at hand, and there is no public code.
//
// Each parameter is thought to sit in a parabola of its own, so the step to its minimum is gradient over curvature. A
// tensor has one learning rate, lr coefficient/(k + weight_decay), for a curvature k of all its elements:
//
//	norm    k = |g|/|w|, as if every weight's minimum were a fixed share of the weight away: then the method is LARS
//	median  k = median |g_i|/(|w_i| + delta): MCLR
//	secant  k = median |g_i - g_i'|/(|w_i - w_i'| + delta) with those of the update before
//	hutch   k = mean |(Hv)_i| for random signs v: |H_ii| and noise (Hutchinson's estimate of the diagonal)
//	rayleigh k = |g Hg|/(g g) with the tensor's part of g, of the last update, and of Hg for all parameters at once
//	lmax    k = largest |eigenvalue| of the tensor's own diagonal block of the Hessian
//
// Learning rate and curvature are inside the velocity, as in LARS. The first three are computed on the device in the
// update's pass. The last three take products with the Hessian of a probe's samples every so many updates, and average
// over probes: hutch and rayleigh one, lmax those of a power iteration for every tensor. Before there is a gradient,
// rayleigh takes random signs in its place.
package cblr

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/optim"
	"broadside/kernels"
)

// Options are the method's settings.
type Options struct {
	Estimator    string   `yaml:"estimator" doc:"a tensor's curvature: norm (then it is LARS), median (then it is MCLR), secant (of the last step), hutch (diagonal of the Hessian), rayleigh (along the gradient), lmax (largest eigenvalue of its block of the Hessian)"`
	Coefficient  float64  `yaml:"coefficient" doc:"learning rate of a tensor at learning rate 1 and curvature 1"`
	Delta        float64  `yaml:"delta" doc:"added to the denominators of the median"`
	MaxRatio     float64  `yaml:"max_ratio" doc:"largest share of the learning rate that a tensor can have; 0: any"`
	SkipZeros    bool     `yaml:"skip_zeros" doc:"leave elements without a gradient, as of dead units, out of the median"`
	ProbeEvery   int      `yaml:"probe_every" doc:"hutch, rayleigh, lmax: updates between two probes"`
	ProbeSamples int      `yaml:"probe_samples" doc:"hutch, rayleigh, lmax: training samples of a probe"`
	Iterations   int      `yaml:"iterations" doc:"lmax: most Hessian-vector products for each tensor in a probe; fewer where the eigenvalue changes by less than a hundredth"`
	Average      float64  `yaml:"average" doc:"hutch, rayleigh, lmax: weight of earlier probes in a tensor's curvature"`
	Exclude      []string `yaml:"exclude" doc:"parameters with the full learning rate and no weight decay: bn (scale and shift of batch norm), bias"`
}

func defaults(estimator string) *Options {
	return &Options{Estimator: estimator, Coefficient: 1e-3, Delta: 1e-12, MaxRatio: 1,
		ProbeEvery: 10, ProbeSamples: 128, Iterations: 10, Average: 0.9, Exclude: []string{"bn", "bias"}}
}

const (
	paper  = "Gao and Zhong 2020, arXiv 2012.08795"
	limits = "excluded parameters train at the full learning rate, which is 10 to 40 with this rule: it needs a warm-up"
)

func init() {
	methods.Register(methods.Info{Name: "cblr", Paper: paper, Status: "reconstruction", Claims: []string{"step rule"}, Limits: limits,
		Doc: "each tensor's learning rate in inverse proportion to its curvature",
		Cost: "norm: two norms of each tensor per update; median, secant: a median of each tensor, four readings of the gradient; " +
			"secant: two more memories of the parameters' size; hutch, rayleigh: a Hessian-vector product on probe_samples samples every probe_every updates; lmax: up to iterations of them for each tensor",
		Equations: `k = |g|/|w| (norm), median |g_i|/(|w_i| + delta) (median),
    median |g_i - g_i'|/(|w_i - w_i'| + delta) with those of the update before (secant),
    mean |(Hv)_i| for random signs v (hutch), |g Hg|/(g g) with each tensor's part of g and Hg (rayleigh),
    |v H_l v| for the tensor's block H_l after v <- H_l v/|H_l v|, up to iterations times from a random v (lmax);
    the last three as the mean over probes with the weight 1 - average, times average for every later one
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
func New(name string, o Options) (methods.Method, error) {
	plain, err := optim.Roles(o.Exclude)
	if err := methods.CheckOptions(name,
		methods.Need(slices.Contains(estimators, o.Estimator), "estimator", o.Estimator, strings.Join(estimators, ", ")),
		methods.Need(o.Coefficient > 0 && !math.IsInf(o.Coefficient, 0), "coefficient", o.Coefficient, "above 0"),
		methods.Need(o.Delta >= 0 && !math.IsInf(o.Delta, 0), "delta", o.Delta, "at least 0"),
		methods.Need(o.MaxRatio >= 0 && !math.IsInf(o.MaxRatio, 0), "max_ratio", o.MaxRatio, "above 0, or 0 for none"),
		methods.Need(o.ProbeEvery > 0, "probe_every", o.ProbeEvery, "at least 1"),
		methods.Need(o.ProbeSamples > 0, "probe_samples", o.ProbeSamples, "at least 1"),
		methods.Need(o.Iterations > 0, "iterations", o.Iterations, "at least 1"),
		methods.Need(o.Average >= 0 && o.Average < 1, "average", o.Average, "at least 0 and below 1"),
		methods.Need(err == nil, "exclude", o.Exclude, "a list of bn and bias")); err != nil {
		return nil, err
	}
	m := &Method{o, plain}
	if slices.Contains(probing, o.Estimator) {
		return &Prober{Method: m, state: state{Curvature: map[string]average{}}}, nil
	}
	return m, nil
}

var (
	probing    = []string{"hutch", "rayleigh", "lmax"}
	estimators = append([]string{"norm", "median", "secant"}, probing...)
)

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Rule returns the rule of the estimator with the recipe's momentum and weight decay.
func (m *Method) Rule(base optim.SGD) (optim.Rule, error) {
	base, trust := base.Without(m.plain), m.trust()
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

// trust is how a ratio is made of a curvature.
func (m *Method) trust() kernels.TrustShape {
	trust := kernels.TrustShape{Form: kernels.TrustCurvature, Place: kernels.TrustGainLR, Coefficient: m.opt.Coefficient,
		High: m.opt.MaxRatio, WHigh: math.Inf(1)}
	if m.opt.MaxRatio == 0 {
		trust.High = math.Inf(1)
	}
	return trust
}
