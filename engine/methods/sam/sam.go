// Package sam implements sharpness-aware minimisation (Foret, Kleiner, Mobahi, Neyshabur 2021, "Sharpness-aware
// minimization for efficiently improving generalization", arXiv 2010.01412).
//
// Every Interval-th update computes its gradient twice on the same samples: at the parameters w, and at the place of
// nearly the largest loss within Rho of them, w + Rho g/|g|. The step is made from w with the second gradient; momentum
// and weight decay see that gradient and w. Batch statistics are folded into the running ones in the first pass alone.
//
// With PerLane the lanes of an update climb apart, each up the gradient of its own samples: the paper's m-sharpness, which
// it has on several accelerators, for m = batch size over lanes.
//
// With Adaptive it is ASAM (Kwon, Kim, Park, Choi 2021, "ASAM: adaptive sharpness-aware minimization for scale-invariant
// learning of deep neural networks", arXiv 2102.11600): the neighbourhood is measured relative to the size of each
// parameter, so that it stays the same where weights are scaled and the network is not changed by that.
package sam

import (
	"math"

	"broadside/engine/methods"
)

// Options are the method's settings.
type Options struct {
	Rho      float64 `yaml:"rho" doc:"radius of the neighbourhood; 0 is plain SGD at twice the price"`
	Adaptive bool    `yaml:"adaptive" doc:"ASAM: measure the neighbourhood relative to the size of each parameter; rho is some ten times as large then"`
	PerLane  bool    `yaml:"per_lane" doc:"m-sharpness: every lane climbs the gradient of its own samples, in place of that of the whole batch"`
	Interval int     `yaml:"interval" doc:"updates from one with a second gradient to the next; 1: all"`
}

func init() {
	methods.Register(methods.Info{Name: "sam", Paper: "Foret et al. 2021, arXiv 2010.01412", Claims: []string{"second gradient"},
		Equations: `g = mean gradient of the batch at w;  e = rho g/(|g| + 1e-12), |g| over all parameters
adaptive: e = rho w^2 g/(| |w| g | + 1e-12), products by parameter
per_lane: g and e are each lane's own, of the mean gradient of its samples
g' = mean gradient of the same batch, with the same augmentation, at w + e
w <- step rule(w, g'), in updates interval, 2 interval, ...; step rule(w, g) in the others
running statistics of batch norm take the first pass only`,
		Limits:  "twice the time for an update; the two passes follow each other, so more devices do not hide the second one",
		Doc:     "minimise the loss of the worst point near the parameters: a second gradient, at the parameters moved up the first",
		Cost:    "a second gradient pass in every interval-th update, and a copy of the parameters; with per_lane one for each lane",
		Options: func() any { return &Options{Rho: 0.05, Interval: 1} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is SAM at work.
type Method struct{ opt Options }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("sam",
		methods.Need(o.Rho >= 0 && !math.IsInf(o.Rho, 0), "rho", o.Rho, "at least 0"),
		methods.Need(o.Interval > 0, "interval", o.Interval, "at least 1")); err != nil {
		return nil, err
	}
	return &Method{o}, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Direction is up the gradient, or up the gradient by the parameters' own scales.
func (m *Method) Direction() methods.Direction {
	switch {
	case m.opt.PerLane && m.opt.Adaptive:
		return methods.LaneScaledAscent
	case m.opt.PerLane:
		return methods.LaneAscent
	case m.opt.Adaptive:
		return methods.ScaledAscent
	}
	return methods.Ascent
}

// Displacement is Rho in every Interval-th update.
func (m *Method) Displacement(t methods.Training, _ methods.Update) (float64, bool) {
	return m.opt.Rho, (t.Updates()+1)%m.opt.Interval == 0
}
