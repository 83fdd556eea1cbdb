// Package adabatch implements AdaBatch: batch size and learning rate that both change by a constant factor every so many
// epochs (Devarakonda, Naumov, Garland 2017, "AdaBatch: adaptive batch sizes for training deep neural networks",
// arXiv 1712.02029).
//
// Doubling the batch while the learning rate falls by 0.75 decays the learning rate per sample by 0.375, as a fixed batch
// with that factor would. The momentum buffer stays as it is.
package adabatch

import (
	"fmt"
	"math"

	"broadside/engine/methods"
	"broadside/engine/schedule"
)

// Options are the method's settings. The defaults are those of the paper's experiments on CIFAR.
type Options struct {
	Every        int     `yaml:"every" doc:"epochs between two resizes (resize_freq)"`
	Growth       float64 `yaml:"growth" doc:"factor of the batch at each resize (beta); the result is rounded down to whole leaves"`
	LRFactor     float64 `yaml:"lr_factor" doc:"factor of the learning rate at each resize (gamma)"`
	WarmupEpochs int     `yaml:"warmup_epochs" doc:"epochs in which the learning rate rises from lr to lr batch.size/base_batch, a step each epoch; 0: lr stays as it is"`
	BaseBatch    int     `yaml:"base_batch" doc:"warm-up: batch size that optimizer.lr was tuned for"`
}

func init() {
	methods.Register(methods.Info{Name: "adabatch", Paper: "Devarakonda et al. 2017, arXiv 1712.02029", Claims: []string{"batch"},
		Equations: `after every <every> epochs:
    batch <- growth batch;  lr <- lr_factor lr
a batch above the training set is cut to its whole leaves, and lr multiplied by what is left of it: (cut batch)/(growth batch)
warm-up, in epoch e = 0..warmup_epochs-1:  lr(e) = lr + e (lr batch.size/base_batch - lr)/(warmup_epochs-1), the last value from then on`,
		Limits: "the schedule's own factors come on top of lr_factor: keep schedule.name constant; nothing is measured, so the last, largest batches may be too large",
		Doc:    "every so many epochs grow the batch and lower the learning rate by constant factors", Cost: "nothing",
		Options: func() any { return &Options{Every: 20, Growth: 2, LRFactor: 0.75, BaseBatch: 128} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is AdaBatch at work.
type Method struct{ opt Options }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("adabatch",
		methods.Need(o.Every > 0, "every", o.Every, "at least 1"),
		methods.Need(o.Growth >= 1 && o.Growth <= 1024, "growth", o.Growth, "between 1 and 1024"),
		methods.Need(o.LRFactor > 0 && !math.IsInf(o.LRFactor, 0), "lr_factor", o.LRFactor, "above 0"),
		methods.Need(o.WarmupEpochs == 0 || o.WarmupEpochs >= 2, "warmup_epochs", o.WarmupEpochs, "0, or at least 2: its steps are divided by warmup_epochs-1"),
		methods.Need(o.WarmupEpochs <= o.Every, "warmup_epochs", o.WarmupEpochs, fmt.Sprintf("at most every (%d)", o.Every)),
		methods.Need(o.BaseBatch > 0, "base_batch", o.BaseBatch, "at least 1")); err != nil {
		return nil, err
	}
	return &Method{o}, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Schedule warms up before the recipe's schedule goes on.
func (m *Method) Schedule(t methods.Training, s schedule.Schedule) (schedule.Schedule, error) {
	if m.opt.WarmupEpochs == 0 {
		return s, nil
	}
	if _, warming := s.(schedule.Warmup); warming {
		return nil, fmt.Errorf("methods.adabatch.warmup_epochs is %d: set schedule.warmup_epochs to 0, or warm up by the schedule alone", m.opt.WarmupEpochs)
	}
	return steps{s, m.opt.WarmupEpochs, float64(t.BaseBatch()) / float64(m.opt.BaseBatch)}, nil
}

// steps rises from factor 1 to k, by equal steps at the starts of epochs.
type steps struct {
	schedule.Schedule
	epochs int
	k      float64
}

func (s steps) Factor(epochs float64) float64 {
	e := min(int(epochs), s.epochs-1)
	return s.Schedule.Factor(epochs) * (1 + float64(e)*(s.k-1)/float64(s.epochs-1))
}

// EpochEnd resizes the batch. After the last epoch there is nothing to resize for.
func (m *Method) EpochEnd(t methods.Training) error {
	if t.Epoch()%m.opt.Every != 0 || t.Epoch() == t.Epochs() {
		return nil
	}
	wanted := int(float64(t.Batch()) * m.opt.Growth)
	after, factor := wanted, m.opt.LRFactor
	if wanted > t.Samples() {
		after = t.Samples() / t.Leaf() * t.Leaf()
		factor *= float64(after) / float64(wanted)
	}
	if after = after / t.Leaf() * t.Leaf(); after != t.Batch() {
		if err := t.SetBatch(after, methods.Reweight, "adabatch"); err != nil {
			return err
		}
	}
	if factor == 1 {
		return nil
	}
	return t.ScaleLR(factor, "adabatch")
}
