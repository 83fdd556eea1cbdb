// Package gg implements batch growth in place of learning-rate decay (Smith, Kindermans, Ying, Le
// 2018, "Don't decay the learning rate, increase the batch size", arXiv 1711.00489), the arm GG of
// the ABSA comparison.
package gg

import (
	"fmt"
	"math"

	"broadside/engine/methods"
	"broadside/engine/schedule"
)

// Options are the method's settings.
type Options struct {
	MaxBatch int     `yaml:"max_batch" doc:"largest batch size in samples; decay that no longer fits lowers the learning rate"`
	Factor   float64 `yaml:"factor" doc:"growth at each milestone; 0: one over the schedule's factor"`
}

func init() {
	methods.Register(methods.Info{Name: "gg", Paper: "Smith et al. 2018, arXiv 1711.00489", Claims: []string{"batch", "schedule"},
		Equations: `at each milestone of the step schedule, whose factor is q:
    batch <- batch factor, up to max_batch;  factor = 1/q by default
    lr <- lr q factor' where factor' is what the batch has grown by: lr stays while the batch can grow`,
		Limits: "schedules without milestones are refused; the first phase still runs at the small batch, which costs most updates",
		Doc:    "at each milestone of the step schedule grow the batch instead of decaying the learning rate", Cost: "nothing",
		Options: func() any { return &Options{MaxBatch: 16384} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is GG at work.
type Method struct {
	opt  Options
	step schedule.Step
}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("gg",
		methods.Need(o.MaxBatch > 0, "max_batch", o.MaxBatch, "at least 1"),
		methods.Need(o.Factor == 0 || o.Factor > 1, "factor", o.Factor, "above 1, or 0 for one over the schedule's factor")); err != nil {
		return nil, err
	}
	return &Method{opt: o}, nil
}

// Prepare checks the options against the training.
func (m *Method) Prepare(t methods.Training) error {
	return methods.CheckMaxBatch("gg", m.opt.MaxBatch, t)
}

// Schedule takes over the milestones of the recipe's step schedule.
func (m *Method) Schedule(_ methods.Training, s schedule.Schedule) (schedule.Schedule, error) {
	step, ok := s.(schedule.Step)
	if !ok {
		return nil, fmt.Errorf("method gg needs schedule.name step without warm-up: it grows the batch at its milestones")
	}
	m.step = step
	return schedule.Constant{}, nil
}

// LargestBatch is the batch that growth ends at.
func (m *Method) LargestBatch() int { return m.opt.MaxBatch }

// EpochEnd grows the batch at a milestone. What the cap leaves of the factor goes to the learning rate.
func (m *Method) EpochEnd(t methods.Training) error {
	reached := 0
	for _, at := range m.step.At {
		if at == t.Epoch() {
			reached++
		}
	}
	for range reached {
		if err := m.grow(t); err != nil {
			return err
		}
	}
	return nil
}

func (m *Method) grow(t methods.Training) error {
	factor := m.opt.Factor
	if factor == 0 {
		factor = 1 / m.step.Decay
	}
	before := t.Batch()
	// The batch is a whole number of leaves; the learning rate takes up the rounding too.
	after := int(math.Round(float64(before)*factor/float64(t.Leaf()))) * t.Leaf()
	after = min(max(after, before), m.opt.MaxBatch)
	if after != before {
		if err := t.SetBatch(after, methods.Reweight, "gg"); err != nil {
			return err
		}
	}
	if rest := float64(after) / float64(before) / factor; math.Abs(rest-1) > 1e-12 {
		return t.ScaleLR(rest, "gg")
	}
	return nil
}
