// Package batchaug implements Batch Augmentation: an update trains on several copies of every sample of its batch, each
// with an augmentation of its own (Hoffer, Ben-Nun, Hubara, Giladi, Hoefler, Soudry 2020, "Augment your batch: improving
// generalization through instance repetition", arXiv 1901.09335).
//
// The copies of a sample are in different ghosts. Batch size, updates per epoch and learning rate are those of the
// distinct samples; an update's gradient is the mean over all copies. Copies of a sample agree more than distinct samples
// do, but not fully, so that the mean is shorter than the gradient of a single copy; AdaptGradNorm, an option of the
// authors' code, scales it to their length.
package batchaug

import (
	"math"

	"broadside/engine/methods"
)

// Options are the method's settings.
type Options struct {
	Copies        int `yaml:"copies" doc:"augmented copies of every sample (M)"`
	AdaptGradNorm int `yaml:"adapt_grad_norm" doc:"updates from one measurement to the next of the factor that gives the gradient the norm of a single copy's, on the average; the first update is measured, and a measurement computes all copies once more; 0: no factor"`
}

func init() {
	methods.Register(methods.Info{Name: "batchaug", Paper: "Hoffer et al. 2020, arXiv 1901.09335", Claims: []string{"samples"},
		Equations: `gradient = 1/(M B) sum over the B samples of a batch, sum over i = 1..M of grad loss(augmentation i of the sample)
batch.size = B; copies = M; lr and schedule as without
adapt_grad_norm: gradient <- s gradient, weight decay is not scaled; every adapt_grad_norm updates
    s = mean over i of |g_i|/|g|, g_i of copy i of all samples alone, g of all copies; norms over all parameters`,
		Limits:  "needs augmentation that varies: with data.augment none it is refused; a fixed number of epochs takes M times as long",
		Doc:     "train on several augmented copies of every sample in the same update",
		Cost:    "copies times the gradient passes of an epoch; the number of updates stays; with adapt_grad_norm as much again for every update that is measured, and a copy of the gradient",
		Options: func() any { return &Options{Copies: 4} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is Batch Augmentation at work.
type Method struct{ opt Options }

// Adapting is Batch Augmentation with the norm of single copies.
type Adapting struct {
	*Method
	state state
}

// state is what a resume needs.
type state struct {
	Factor float64 `json:"factor"`
}

// New checks the options and makes the method.
func New(o Options) (methods.Method, error) {
	if err := methods.CheckOptions("batchaug",
		methods.Need(o.Copies >= 1 && o.Copies <= 256, "copies", o.Copies, "between 1 and 256"),
		methods.Need(o.AdaptGradNorm >= 0, "adapt_grad_norm", o.AdaptGradNorm, "at least 0")); err != nil {
		return nil, err
	}
	m := &Method{o}
	if o.AdaptGradNorm > 0 {
		return &Adapting{Method: m, state: state{Factor: 1}}, nil
	}
	return m, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Copies returns the copies of every sample.
func (m *Method) Copies() int { return m.opt.Copies }

// State returns the factor.
func (a *Adapting) State() any { return &a.state }

// MeasuresCopies is true of the first update and of every AdaptGradNorm-th after it.
func (a *Adapting) MeasuresCopies(update int) bool { return (update-1)%a.opt.AdaptGradNorm == 0 }

// ReadCopies finds the factor. One that is no number stays out, as of a gradient of zero.
func (a *Adapting) ReadCopies(each []float64, all float64) {
	sum := 0.0
	for _, norm := range each {
		sum += norm
	}
	if factor := sum / float64(len(each)) / all; !math.IsNaN(factor) && !math.IsInf(factor, 0) {
		a.state.Factor = factor
	}
}

// Factor returns what was found last.
func (a *Adapting) Factor() float64 { return a.state.Factor }
