// Package persample takes the learning rate per sample: an update is the learning rate times the sum of its samples'
// gradients, not their mean (Masters and Luschi 2018, "Revisiting small batch training for deep neural networks",
// arXiv 1804.07612, whose base learning rate this is). A constant rate per sample is linear scaling.
package persample

import (
	"broadside/engine/methods"
	"broadside/engine/schedule"
)

// Options are the method's settings: there are none.
type Options struct{}

func init() {
	methods.Register(methods.Info{Name: "persample", Paper: "Masters and Luschi 2018, arXiv 1804.07612", Claims: []string{"batch", "schedule"},
		Equations: `w <- w - lr sum over the batch of grad loss = w - (lr batch.size) mean over the batch of grad loss
warm-up arm: schedule.warmup_epochs of 5% of the run, schedule.warmup_from 0.03125`,
		Limits: "the paper trains without momentum, which would multiply the rate by 1/(1-momentum); set optimizer.momentum 0",
		Doc:    "take optimizer.lr per sample: the rate of a step is lr times the batch size", Cost: "nothing",
		Options: func() any { return &Options{} },
		New:     func(any) (methods.Method, error) { return &Method{}, nil }})
}

// Method is the learning rate per sample at work.
type Method struct{}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Schedule multiplies the learning rate by the batch size.
func (m *Method) Schedule(t methods.Training, s schedule.Schedule) (schedule.Schedule, error) {
	return schedule.Scaled{Schedule: s, By: float64(t.BaseBatch())}, nil
}
