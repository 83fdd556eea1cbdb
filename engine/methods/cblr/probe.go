package cblr

import (
	"fmt"
	"math"

	"broadside/engine/curvature"
	"broadside/engine/methods"
	"broadside/engine/optim"
)

// Prober is CBLR by an estimator that takes products with the Hessian.
type Prober struct {
	*Method
	state state
}

// state is what a resume needs.
type state struct {
	Curvature map[string]average `json:"curvature"` // of each tensor
}

// average is a mean of values, later ones weighing more.
type average struct {
	Sum    float64 `json:"sum"`
	Weight float64 `json:"weight"`
}

// State returns the averages.
func (p *Prober) State() any { return &p.state }

// Prepare refuses a probe of more samples than there are.
func (p *Prober) Prepare(t methods.Training) error {
	return methods.CheckOptions("cblr", methods.Need(p.opt.ProbeSamples <= t.Samples(), "probe_samples", p.opt.ProbeSamples,
		fmt.Sprintf("at most the %d training samples", t.Samples())))
}

// Start takes the first probe.
func (p *Prober) Start(t methods.Training) error {
	if p.opt.Estimator == "lmax" {
		return p.probeBlocks(t)
	}
	return p.probe(t, methods.Signs)
}

// UpdateEnd takes a probe when one is due.
func (p *Prober) UpdateEnd(t methods.Training, _ methods.Update) error {
	if t.Updates()%p.opt.ProbeEvery != 0 {
		return nil
	}
	switch p.opt.Estimator {
	case "lmax":
		return p.probeBlocks(t)
	case "rayleigh":
		return p.probe(t, methods.Gradient)
	}
	return p.probe(t, methods.Signs)
}

// probe measures every tensor and averages. A tensor with nothing to measure, as without a gradient, keeps its average.
func (p *Prober) probe(t methods.Training, along methods.Along) error {
	found, err := t.Curvatures(p.opt.ProbeSamples, along)
	if err != nil {
		return err
	}
	for _, c := range found {
		k := c.Sum / float64(c.Size)
		if p.opt.Estimator == "rayleigh" {
			k = math.Abs(c.Product) / c.Square
		}
		p.take(c.Tensor, k)
	}
	return nil
}

// blockTolerance ends a power iteration where the eigenvalue changes by less, as ABSA's.
const blockTolerance = 1e-2

// probeBlocks measures the blocks of the tensors that are sized by them, and averages.
func (p *Prober) probeBlocks(t methods.Training) error {
	found, err := t.BlockEigenvalues(methods.Probe{Samples: p.opt.ProbeSamples,
		Options: curvature.Options{MaxIterations: p.opt.Iterations, Tolerance: blockTolerance}}, p.plain)
	if err != nil {
		return err
	}
	for _, e := range found {
		p.take(e.Tensor, math.Abs(e.Value))
	}
	return nil
}

// take averages a tensor's curvature, unless it is no number.
func (p *Prober) take(tensor string, k float64) {
	if math.IsNaN(k) || math.IsInf(k, 0) {
		return
	}
	a, keep := p.state.Curvature[tensor], p.opt.Average
	p.state.Curvature[tensor] = average{keep*a.Sum + (1-keep)*k, keep*a.Weight + (1 - keep)}
}

// curvature returns a tensor's average; without any it is infinite, and the tensor stays.
func (p *Prober) curvature(tensor string) float64 {
	a := p.state.Curvature[tensor]
	if a.Weight == 0 {
		return math.Inf(1)
	}
	return a.Sum / a.Weight
}

// Rule returns the rule with the recipe's momentum and weight decay.
func (p *Prober) Rule(base optim.SGD) (optim.Rule, error) {
	return optim.Given{SGD: base.Without(p.plain), Trust: p.trust(), Plain: p.plain, Curvature: p.curvature}, nil
}
