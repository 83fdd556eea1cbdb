// Package extrap implements Extrap-SGD, local extragradient steps (Lin, Kong, Stich, Jaggi 2020, "Extrapolation for
// large-batch training in deep learning", arXiv 2006.05720).
//
// A worker steps down the gradient of its own part of the batch, computes the gradient of the same samples there, and the
// mean of those gradients makes the step from where all were. The worker is a lane: its leaves are the local
// mini-batch, so the result does not depend on the number of devices. The gradients of the first step are not averaged:
// their noise is what smooths the loss.
package extrap

import (
	"math"

	"broadside/engine/methods"
)

// Options are the method's settings.
type Options struct {
	InnerRate float64 `yaml:"inner_rate" doc:"inner learning rate, as a fraction of the update's; 0 is plain SGD at twice the price"`
}

func init() {
	methods.Register(methods.Info{Name: "extrap", Paper: "Lin et al. 2020, arXiv 2006.05720", Claims: []string{"second gradient"},
		Status: "reconstruction",
		Equations: `g_k = mean gradient of the samples of lane k at w;  lr = learning rate of the update
g'_k = mean gradient of the same samples at w_k = w - inner_rate lr g_k
w <- step rule(w, mean over all samples of g'_k)
running statistics of batch norm take the first pass only`,
		Limits: "a batch of one lane has nothing to differ by; the paper sees most of the gain early in training. " +
			"Without the paper's Nesterov lookahead in the inner step",
		Doc:     "every lane steps down its own gradient first; the step is made with the mean of the gradients found there",
		Cost:    "a second gradient pass in every update, and a copy of the parameters for every lane",
		Options: func() any { return &Options{InnerRate: 0.125} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is Extrap-SGD at work.
type Method struct{ opt Options }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("extrap",
		methods.Need(o.InnerRate >= 0 && !math.IsInf(o.InnerRate, 0), "inner_rate", o.InnerRate, "at least 0")); err != nil {
		return nil, err
	}
	return &Method{o}, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Direction is down each lane's own gradient.
func (m *Method) Direction() methods.Direction { return methods.LaneDescent }

// Displacement is the inner learning rate, in every update.
func (m *Method) Displacement(_ methods.Training, u methods.Update) (float64, bool) {
	return m.opt.InnerRate * u.LR, true
}
