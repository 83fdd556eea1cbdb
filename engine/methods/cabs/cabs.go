// Package cabs implements CABS, the batch size coupled to the learning rate (Balles, Romero, Hennig 2017, "Coupling
// adaptive batch sizes with learning rates", arXiv 1612.05086): after each update the batch becomes the learning rate
// times the variance of the gradients, over the loss.
//
// The paper takes the variance between samples; here it is estimated from the micro-batches, without bias.
package cabs

import (
	"fmt"
	"math"

	"broadside/engine/methods"
)

// Options are the method's settings. The defaults are the authors', but for the batches.
type Options struct {
	Factor   float64 `yaml:"factor" doc:"multiplies the batch that the rule gives"`
	EMA      float64 `yaml:"ema" doc:"weight of the past in the running means of variance and loss, per update"`
	MinBatch int     `yaml:"min_batch" doc:"smallest batch size in samples, at least two leaves; 0: batch.size"`
	MaxBatch int     `yaml:"max_batch" doc:"largest batch size in samples"`
}

func defaults() *Options { return &Options{Factor: 1, EMA: 0.95, MaxBatch: 16384} }

func init() {
	methods.Register(methods.Info{Name: "cabs", Paper: "Balles, Romero, Hennig 2017, arXiv 1612.05086", Claims: []string{"batch"},
		Equations: `xi = trace of the covariance of a sample's gradient, estimated from the update's micro-batches
mean xi <- ema mean xi + (1-ema) xi, from 0;  mean F <- ema mean F + (1-ema) loss, from 1
batch <- factor lr mean xi / mean F after each update, in whole leaves between min_batch and max_batch`,
		Limits: `derived for plain SGD (optimizer.momentum 0) and for a loss whose minimum is near 0, so without label smoothing.
The variance is the micro-batch estimate, not that between samples: it is noisier, and samples of one ghost share batch statistics`,
		Doc:     "after each update set the batch to lr x variance of the gradients / loss",
		Cost:    "a pass over the gradients of each lane per update, no overlap of computing and reducing them",
		Options: func() any { return defaults() },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is CABS at work.
type Method struct {
	opt   Options
	trace float64 // of the update under way
	state state
}

// state is what a resume needs: the running means.
type state struct {
	Variance float64 `json:"variance"`
	Loss     float64 `json:"loss"`
}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("cabs",
		methods.Need(o.Factor > 0 && !math.IsInf(o.Factor, 0), "factor", o.Factor, "above 0"),
		methods.Need(o.EMA >= 0 && o.EMA < 1, "ema", o.EMA, "at least 0 and below 1"),
		methods.Need(o.MinBatch >= 0, "min_batch", o.MinBatch, "at least 0"),
		methods.Need(o.MaxBatch > 0, "max_batch", o.MaxBatch, "at least 1")); err != nil {
		return nil, err
	}
	return &Method{opt: o, trace: math.NaN(), state: state{Loss: 1}}, nil
}

// LargestBatch is the batch that growth ends at.
func (m *Method) LargestBatch() int { return m.opt.MaxBatch }

// Prepare checks the options against the training.
func (m *Method) Prepare(t methods.Training) error {
	if err := methods.CheckMicroBatches("cabs", t); err != nil {
		return err
	}
	if err := methods.CheckMaxBatch("cabs", m.opt.MaxBatch, t); err != nil {
		return err
	}
	if m.opt.MinBatch == 0 {
		m.opt.MinBatch = t.BaseBatch()
	}
	leaf, least := t.Leaf(), m.opt.MinBatch
	return methods.CheckOptions("cabs", methods.Need(least%leaf == 0 && least >= 2*leaf && least <= m.opt.MaxBatch, "min_batch", least,
		fmt.Sprintf("a multiple of batch.leaf (%d), at least two of them and at most max_batch (%d)", leaf, m.opt.MaxBatch)))
}

// ReadMoments keeps the variance of the update.
func (m *Method) ReadMoments(u *methods.Moments) { m.trace = u.Trace }

// UpdateEnd sets the batch. An update that says nothing of the variance leaves it.
func (m *Method) UpdateEnd(t methods.Training, u methods.Update) error {
	if math.IsNaN(m.trace) {
		return nil
	}
	s, keep := &m.state, m.opt.EMA
	s.Variance = keep*s.Variance + (1-keep)*m.trace
	s.Loss = keep*s.Loss + (1-keep)*u.Loss
	wanted := m.opt.Factor * u.LR * s.Variance / s.Loss
	if math.IsNaN(wanted) {
		return nil
	}
	leaf := t.Leaf()
	leaves := math.Min(math.Round(wanted/float64(leaf)), float64(m.opt.MaxBatch/leaf)) // a float: it may be beyond any int
	if size := max(int(leaves)*leaf, m.opt.MinBatch); size != t.Batch() {
		return t.SetBatch(size, methods.Reweight, "cabs")
	}
	return nil
}

// State returns the state to keep in checkpoints.
func (m *Method) State() any { return &m.state }

// Report adds the running mean of the variance to the epoch's record.
func (m *Method) Report() map[string]float64 {
	return map[string]float64{"gradient_variance": m.state.Variance}
}
