// Package batchsched implements batch scheduling, one of the two verifications of Gao and Zhong 2020 ("Study on the
// large batch size training of neural networks based on the second order gradient", arXiv 2012.08795): the batch grows
// at given epochs, the learning rate stays or grows with it. The paper's own schedule is not known to us.
package batchsched

import (
	"fmt"
	"math"
	"slices"

	"broadside/engine/methods"
)

// Options are the method's settings.
type Options struct {
	At       []int   `yaml:"at" doc:"epochs after which the batch is multiplied by factor" default:"required"`
	Factor   float64 `yaml:"factor" doc:"the multiplier; the result is rounded to whole leaves"`
	MaxBatch int     `yaml:"max_batch" doc:"largest batch size in samples"`
	LR       string  `yaml:"lr" doc:"constant: the learning rate stays as it is; linear: it is multiplied by what the batch has grown by"`
}

func init() {
	methods.Register(methods.Info{Name: "batchsched", Paper: "Gao and Zhong 2020, arXiv 2012.08795", Claims: []string{"batch"}, Status: "reconstruction",
		Equations: `after each epoch of <at>:
    batch <- factor batch, up to max_batch
    lr <- lr (new batch)/(old batch) if lr is linear`,
		Limits: "the epochs are yours to choose: nothing is measured; a constant learning rate makes fewer, smaller steps per sample as the batch grows",
		Doc:    "multiply the batch at given epochs, the learning rate constant or linear in the batch", Cost: "nothing",
		Options: func() any { return &Options{Factor: 2, MaxBatch: 16384, LR: "constant"} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is batch scheduling at work.
type Method struct{ opt Options }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("batchsched",
		methods.Need(len(o.At) > 0 && slices.Min(o.At) > 0, "at", o.At, "a list of epochs above 0, like [30, 60]"),
		methods.Need(slices.IsSorted(o.At) && len(slices.Compact(slices.Clone(o.At))) == len(o.At), "at", o.At, "in increasing order"),
		methods.Need(o.Factor > 0 && !math.IsInf(o.Factor, 0), "factor", o.Factor, "above 0"),
		methods.Need(o.MaxBatch > 0, "max_batch", o.MaxBatch, "at least 1"),
		methods.Need(o.LR == "constant" || o.LR == "linear", "lr", o.LR, "constant or linear")); err != nil {
		return nil, err
	}
	return &Method{o}, nil
}

// LargestBatch is the batch that growth ends at.
func (m *Method) LargestBatch() int { return m.opt.MaxBatch }

// Prepare checks the options against the training.
func (m *Method) Prepare(t methods.Training) error {
	if last := slices.Max(m.opt.At); last >= t.Epochs() {
		return fmt.Errorf("methods.batchsched.at has %d: the run has only %d epochs", last, t.Epochs())
	}
	return methods.CheckMaxBatch("batchsched", m.opt.MaxBatch, t)
}

// EpochEnd changes the batch at a milestone.
func (m *Method) EpochEnd(t methods.Training) error {
	if !slices.Contains(m.opt.At, t.Epoch()) {
		return nil
	}
	before := t.Batch()
	after := int(math.Min(math.Round(float64(before)*m.opt.Factor/float64(t.Leaf()))*float64(t.Leaf()), float64(m.opt.MaxBatch)))
	if after = max(after, t.Leaf()); after == before {
		return nil
	}
	if err := t.SetBatch(after, methods.Reweight, "schedule"); err != nil || m.opt.LR == "constant" {
		return err
	}
	return t.ScaleLR(float64(after)/float64(before), "schedule")
}
