// Package schedule holds learning-rate schedules: factors of the base learning rate as functions of
// the progress of training.
package schedule

import (
	"fmt"
	"math"

	"broadside/engine/internal/portable"
)

// Schedule gives the factor of the base learning rate at a progress of so many epochs: 2.5 is the
// middle of the third epoch.
type Schedule interface {
	Factor(epochs float64) float64
}

// Constant keeps the base learning rate.
type Constant struct{}

// Factor returns 1.
func (Constant) Factor(float64) float64 { return 1 }

// Step multiplies by Decay once for every epoch count in At that has been completed.
type Step struct {
	At    []int
	Decay float64
}

// Factor returns Decay to the power of the milestones passed.
func (s Step) Factor(epochs float64) float64 { return portable.Pow(s.Decay, float64(s.Passed(epochs))) }

// Passed counts the milestones reached.
func (s Step) Passed(epochs float64) int {
	n := 0
	for _, at := range s.At {
		if epochs >= float64(at) {
			n++
		}
	}
	return n
}

// Cosine falls from 1 to End along half a cosine over Epochs (Loshchilov and Hutter 2017, no restarts).
type Cosine struct {
	Epochs float64
	End    float64 // final factor
}

// Factor returns End + (1-End)(1+cos(pi t))/2.
func (s Cosine) Factor(epochs float64) float64 {
	t := math.Min(epochs/s.Epochs, 1)
	return s.End + (1-s.End)*(1+math.Cos(math.Pi*t))/2
}

// Poly falls from 1 to End as (1-t)^Power over Epochs (You et al. 2017 use Power 2).
type Poly struct {
	Epochs, Power float64
	End           float64 // final factor
}

// Factor returns End + (1-End)(1-t)^Power.
func (s Poly) Factor(epochs float64) float64 {
	t := math.Min(epochs/s.Epochs, 1)
	return s.End + (1-s.End)*portable.Pow(1-t, s.Power)
}

// Cyclic rises from End to 1 over the first Peak of Epochs and falls back to End over the rest, both on a line: one
// triangle of Smith 2017, "Cyclical learning rates for training neural networks", arXiv 1506.01186.
type Cyclic struct {
	Epochs float64
	Peak   float64 // share of the epochs, between 0 and 1
	End    float64 // first and last factor
}

// Factor returns End + (1-End) min(t/Peak, (1-t)/(1-Peak)).
func (s Cyclic) Factor(epochs float64) float64 {
	t := math.Min(epochs/s.Epochs, 1)
	return s.End + (1-s.End)*math.Min(t/s.Peak, (1-t)/(1-s.Peak))
}

// Warmup rises linearly from the factor From to the following schedule's own over Epochs, update by
// update (Goyal et al. 2017).
type Warmup struct {
	Epochs float64
	From   float64
	Then   Schedule
}

// Factor returns the following schedule's factor, scaled while warming up.
func (s Warmup) Factor(epochs float64) float64 {
	f := s.Then.Factor(epochs)
	if epochs >= s.Epochs {
		return f
	}
	return f * (s.From + (1-s.From)*epochs/s.Epochs)
}

// After keeps the base learning rate for Epochs and goes on with another schedule, which begins there.
type After struct {
	Epochs float64
	Then   Schedule
}

// Factor returns 1, and then the following schedule's factor.
func (s After) Factor(epochs float64) float64 {
	if epochs <= s.Epochs {
		return 1
	}
	return s.Then.Factor(epochs - s.Epochs)
}

// Scaled multiplies a schedule by a constant.
type Scaled struct {
	Schedule
	By float64
}

// Factor returns By times the schedule's factor.
func (s Scaled) Factor(epochs float64) float64 { return s.By * s.Schedule.Factor(epochs) }

// Options are the settings a schedule can be made of.
type Options struct {
	Name         string
	Epochs       int
	At           []int
	Decay        float64
	End, Power   float64
	Peak         float64
	WarmupEpochs float64
	WarmupFrom   float64
	AfterWarmup  bool // cosine, poly: over what is left after the warm-up
}

// Names lists the schedules New knows.
var Names = []string{"constant", "step", "cosine", "poly", "cyclic"}

// New makes the named schedule.
func New(o Options) (Schedule, error) {
	var s Schedule
	epochs := float64(o.Epochs)
	if o.AfterWarmup {
		epochs -= o.WarmupEpochs
	}
	switch o.Name {
	case "constant":
		s = Constant{}
	case "step":
		s = Step{At: o.At, Decay: o.Decay}
	case "cosine":
		s = Cosine{Epochs: epochs, End: o.End}
	case "poly":
		s = Poly{Epochs: epochs, Power: o.Power, End: o.End}
	case "cyclic":
		s = Cyclic{Epochs: float64(o.Epochs), Peak: o.Peak, End: o.End}
	default:
		return nil, fmt.Errorf("unknown schedule %q; known are %v", o.Name, Names)
	}
	if o.AfterWarmup {
		s = After{Epochs: o.WarmupEpochs, Then: s}
	}
	if o.WarmupEpochs > 0 {
		s = Warmup{Epochs: o.WarmupEpochs, From: o.WarmupFrom, Then: s}
	}
	return s, nil
}
