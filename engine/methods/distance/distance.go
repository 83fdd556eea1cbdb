// Package distance measures how far the parameters drift from where training began (Hoffer, Hubara, Soudry 2017, "Train
// longer, generalize better", arXiv 1705.08741): at a constant high learning rate the distance grows as the logarithm of
// the number of updates, ultra-slowly, where a power law would be ordinary diffusion.
//
// The distance is that of all parameters, those of batch normalisation and biases included.
package distance

import (
	"math"

	"broadside/engine/methods"
)

// Options are the probe's settings.
type Options struct {
	PerDecade int  `yaml:"per_decade" doc:"measurements for each factor of 10 in updates"`
	From      int  `yaml:"from" doc:"first update that the fits take in: the first after the warm-up"`
	Until     int  `yaml:"until" doc:"last update that the fits take in: the last at the first learning rate; 0: the last"`
	PerTensor bool `yaml:"per_tensor" doc:"also record the distance of each parameter tensor, after each epoch"`
}

func init() {
	methods.Register(methods.Info{Name: "distance", Paper: "Hoffer, Hubara, Soudry 2017, arXiv 1705.08741",
		Equations: `d(t) = |w_t - w_0| after t updates, measured at per_decade values of t a decade, evenly spaced in log t
distance_log_*: least squares of d = slope log t + offset;  distance_power_*: of log d = exponent log t + offset
both r2 are of d: 1 - sum (d - model)^2 / sum (d - mean d)^2, over from <= t <= until`,
		Limits:  "the law holds for the phase of the first learning rate: set from and until to its updates, or the fits mix phases",
		Doc:     "measure the distance of the parameters from their start, and whether it grows as log t or as a power of t",
		Cost:    "a few norms of the parameters at log-spaced updates; memory of one copy of the parameters",
		Options: func() any { return &Options{PerDecade: 20, From: 1} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is the probe at work.
type Method struct {
	opt     Options
	tensors []string
	each    []float64
	now     float64 // distance at the end of the epoch
	state   state
}

// state is what a resume needs.
type state struct {
	Points []point `json:"points"`
}

// point is a measurement.
type point struct {
	Update   int     `json:"t"`
	Distance float64 `json:"d"`
}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("distance",
		methods.Need(o.PerDecade > 0, "per_decade", o.PerDecade, "at least 1"),
		methods.Need(o.From > 0, "from", o.From, "at least 1"),
		methods.Need(o.Until == 0 || o.Until > o.From, "until", o.Until, "above from, or 0 for the last update")); err != nil {
		return nil, err
	}
	return &Method{opt: o}, nil
}

// Prepare notes the tensors.
func (m *Method) Prepare(t methods.Training) error {
	if m.opt.PerTensor {
		m.tensors = t.Tensors()
		m.each = make([]float64, len(m.tensors))
	}
	return nil
}

// next is the first update after t to be measured: those measured are the integers nearest above powers of
// 10^(1/per_decade).
func (m *Method) next(t int) int {
	if t == 0 {
		return 1
	}
	k := math.Floor(float64(m.opt.PerDecade)*math.Log10(float64(t)) + 1e-9)
	for {
		k++
		if u := int(math.Ceil(math.Pow(10, k/float64(m.opt.PerDecade)) - 1e-9)); u > t {
			return u
		}
	}
}

// last is the update measured last.
func (m *Method) last() int {
	if len(m.state.Points) == 0 {
		return 0
	}
	return m.state.Points[len(m.state.Points)-1].Update
}

// UpdateEnd measures the distance where it is due.
func (m *Method) UpdateEnd(t methods.Training, _ methods.Update) error {
	if t.Updates() < m.next(m.last()) {
		return nil
	}
	d, err := t.Distance(nil)
	m.state.Points = append(m.state.Points, point{t.Updates(), d})
	return err
}

// EpochEnd measures the distance for the record.
func (m *Method) EpochEnd(t methods.Training) (err error) {
	m.now, err = t.Distance(m.each)
	return err
}

// State returns the state to keep in checkpoints.
func (m *Method) State() any { return &m.state }

// Report adds the distance and, once three measurements say something, both fits to the epoch's record.
func (m *Method) Report() map[string]float64 {
	out := map[string]float64{"distance": m.now}
	for i, name := range m.tensors {
		out["distance/"+name] = m.each[i]
	}
	var fitted []point
	for _, p := range m.state.Points {
		if p.Update >= m.opt.From && (m.opt.Until == 0 || p.Update <= m.opt.Until) {
			fitted = append(fitted, p)
		}
	}
	if f, ok := fitBoth(fitted); ok {
		out["distance_measurements"] = float64(f.measurements)
		out["distance_log_slope"], out["distance_log_offset"], out["distance_log_r2"] = f.log.slope, f.log.offset, f.logR2
		out["distance_power_exponent"], out["distance_power_r2"] = f.power.slope, f.powerR2
	}
	return out
}
