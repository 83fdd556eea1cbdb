// Package swap implements stochastic weight averaging in parallel (Gupta, Serrano, DeCoste 2020, "Stochastic weight
// averaging in parallel: large-batch training that generalizes well", arXiv 2001.02312).
//
// The recipe's own training, with a large batch, ends when the training accuracy of an epoch, as seen while training,
// reaches StopAccuracy, which should be before the network has learned the set by heart, or after its epochs. Workers
// copies of the network then train on from there, each on its own: small batch, own order and augmentation of the
// samples, own learning rates. The result is the average of their parameters; batch norm's running statistics are
// computed anew by a pass over the training set.
package swap

import (
	"math"

	"broadside/engine/methods"
	"broadside/engine/schedule"
)

// Options are the method's settings. The defaults are the paper's for CIFAR-10.
type Options struct {
	StopAccuracy float64 `yaml:"stop_accuracy" doc:"training accuracy of an epoch that ends the recipe's own training; above 1: never before its epochs"`
	Workers      int     `yaml:"workers" doc:"copies that are trained on and averaged"`
	Epochs       int     `yaml:"epochs" doc:"epochs of each copy"`
	Batch        int     `yaml:"batch" doc:"batch size of the copies, a multiple of batch.leaf"`
	LR           float64 `yaml:"lr" doc:"learning rate of the copies at their start"`
	Schedule     string  `yaml:"schedule" doc:"of the copies' learning rate: poly or cosine, which fall to 0, or constant"`
	Power        float64 `yaml:"power" doc:"poly: the exponent"`
	KeepMomentum bool    `yaml:"keep_momentum" doc:"start the copies with the momentum of the recipe's training instead of zero"`
}

func init() {
	methods.Register(methods.Info{Name: "swap", Paper: "Gupta et al. 2020, arXiv 2001.02312", Claims: []string{"phases"},
		Equations: `phase 1: the recipe, until the training accuracy of an epoch is stop_accuracy or more, or its epochs are over
phase 2: copies k = 1..workers of its parameters w, running statistics and, with keep_momentum, momentum;
    each trains for epochs with batch and lr schedule, in an order and with augmentation of its own
phase 3: w = (w_1 + ... + w_workers)/workers
    running statistics = means of the batch statistics of one pass over the training set`,
		Limits: "the copies train one after the other, each on all devices, so the time is that of all of them; other methods' " +
			"attacks and ends of epochs and updates rest in phase 2; no gain where phase 1 has already converged",
		Doc:     "large batch until nearly learned, then copies trained on with small batches and averaged",
		Cost:    "workers times epochs of training, a pass over the training set; two copies of the parameters in memory of the host",
		Options: func() any { return Defaults() },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Defaults are the paper's for CIFAR-10.
func Defaults() *Options {
	return &Options{StopAccuracy: 0.98, Workers: 8, Epochs: 30, Batch: 512, LR: 0.15, Schedule: "poly", Power: 1}
}

// Method is SWAP at work.
type Method struct{ opt Options }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("swap",
		methods.Need(o.StopAccuracy > 0 && !math.IsInf(o.StopAccuracy, 0), "stop_accuracy", o.StopAccuracy, "above 0"),
		methods.Need(o.Workers > 0, "workers", o.Workers, "at least 1"),
		methods.Need(o.Epochs > 0, "epochs", o.Epochs, "at least 1"),
		methods.Need(o.Batch > 0, "batch", o.Batch, "at least 1"),
		methods.Need(o.LR > 0 && !math.IsInf(o.LR, 0), "lr", o.LR, "above 0"),
		methods.Need(o.Schedule == "poly" || o.Schedule == "cosine" || o.Schedule == "constant", "schedule", o.Schedule, "poly, cosine or constant"),
		methods.Need(o.Power > 0 && !math.IsInf(o.Power, 0), "power", o.Power, "above 0")); err != nil {
		return nil, err
	}
	return &Method{o}, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Ends reports whether the recipe's training has come far enough.
func (m *Method) Ends(trainAccuracy float64) bool { return trainAccuracy >= m.opt.StopAccuracy }

// Phases are the copies', which differ in their seeds.
func (m *Method) Phases(t methods.Training) ([]methods.Phase, error) {
	s, err := schedule.New(schedule.Options{Name: m.opt.Schedule, Epochs: m.opt.Epochs, Power: m.opt.Power})
	if err != nil {
		return nil, err
	}
	out := make([]methods.Phase, m.opt.Workers)
	for i := range out {
		out[i] = methods.Phase{Epochs: m.opt.Epochs, Batch: m.opt.Batch, LR: m.opt.LR, Schedule: s,
			Seed: seed(t.Seed(), i+1), KeepMomentum: m.opt.KeepMomentum}
	}
	return out, nil
}

// seed is the seed of a copy, counted from 1: far from the recipe's and from the other copies'.
func seed(recipe uint64, worker int) uint64 { return recipe + uint64(worker)*0x9E3779B97F4A7C15 }
