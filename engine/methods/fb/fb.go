// Package fb implements the fixed large batch with linear learning-rate scaling and gradual warm-up
// (Goyal et al. 2017, "Accurate, large minibatch SGD", arXiv 1706.02677), the arm FB of the ABSA
// comparison.
package fb

import (
	"fmt"

	"broadside/engine/methods"
	"broadside/engine/schedule"
)

// Options are the method's settings.
type Options struct {
	BaseBatch    int     `yaml:"base_batch" doc:"batch size that optimizer.lr was tuned for"`
	WarmupEpochs float64 `yaml:"warmup_epochs" doc:"epochs over which the learning rate rises from lr to its scaled value"`
}

func init() {
	methods.Register(methods.Info{Name: "fb", Paper: "Goyal et al. 2017, arXiv 1706.02677", Claims: []string{"batch", "schedule"},
		Equations: `k = batch.size/base_batch
lr(e) = lr (1 + (k-1) e/warmup_epochs) schedule(e) for epochs e < warmup_epochs, then k lr schedule(e)`,
		Limits: "beyond some batch (8,192 for ResNet-50) accuracy falls whatever the warm-up",
		Doc:    "fixed large batch: learning rate scaled by batch.size/base_batch after a linear warm-up", Cost: "nothing",
		Options: func() any { return &Options{BaseBatch: 128, WarmupEpochs: 5} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is FB at work.
type Method struct{ opt Options }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("fb",
		methods.Need(o.BaseBatch > 0, "base_batch", o.BaseBatch, "at least 1"),
		methods.Need(o.WarmupEpochs >= 0, "warmup_epochs", o.WarmupEpochs, "at least 0")); err != nil {
		return nil, err
	}
	return &Method{o}, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Schedule scales the recipe's schedule by batch.size/base_batch and warms up from factor 1.
func (m *Method) Schedule(t methods.Training, s schedule.Schedule) (schedule.Schedule, error) {
	if _, warming := s.(schedule.Warmup); warming {
		return nil, fmt.Errorf("method fb warms up by itself: set schedule.warmup_epochs to 0")
	}
	k := float64(t.BaseBatch()) / float64(m.opt.BaseBatch)
	return schedule.Warmup{Epochs: m.opt.WarmupEpochs, From: 1 / k, Then: schedule.Scaled{Schedule: s, By: k}}, nil
}
