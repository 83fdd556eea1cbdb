package bigbatch

import (
	"fmt"
	"math"

	"broadside/engine/methods"
	"broadside/engine/optim"
	"broadside/engine/schedule"
)

// steps are the step sizes by name.
var steps = []string{"fixed", "armijo", "bb"}

const (
	// armijo is the share of the first-order decrease of the loss that a step has to come to; the paper's.
	armijo = 0.1
	// mostHalvings bounds a search: a step a million times too long is found, if not in a single update.
	mostHalvings = 20
	// rounding is the change of a mean loss that single precision may not tell from none. Without it a search of a batch
	// that is learned by heart would halve the step for nothing.
	rounding = 1e-6
)

// Searching is Big Batch SGD that finds its step sizes: by backtracking, from the step before (armijo), or from one that the
// curvature along the step before suggests (bb). The paper combines that with backtracking, too.
//
// Ours are the bound of a search, and what a curvature that is not positive does: nothing. The paper's bb is for convex
// problems.
type Searching struct{ *Method }

// search is its state.
type search struct {
	Factor    float64 `json:"factor,omitempty"` // the next step to try, in units of optimizer.lr
	Tried     int     `json:"tried,omitempty"`  // steps, since the start of the run
	Curvature float64 `json:"curvature,omitempty"`
}

// Claims are the batch, and all that would change step or gradient.
func (m *Searching) Claims() []string {
	return []string{"batch", "schedule", "step rule", "second gradient", "damping", "gradient scales", "sample weights", "phases"}
}

// Rule is plain SGD.
func (m *Searching) Rule(base optim.SGD) (optim.Rule, error) {
	const why = "method bigbatch with step %s searches along the gradient of the loss: optimizer.%s is %g and must be 0"
	switch {
	case base.Momentum != 0:
		return nil, fmt.Errorf(why, m.opt.Step, "momentum", base.Momentum)
	case base.WeightDecay != 0:
		return nil, fmt.Errorf(why, m.opt.Step, "weight_decay", base.WeightDecay)
	}
	return base, nil
}

// Schedule takes the place of a constant schedule.
func (m *Searching) Schedule(_ methods.Training, s schedule.Schedule) (schedule.Schedule, error) {
	if _, ok := s.(schedule.Constant); !ok {
		return nil, fmt.Errorf("method bigbatch with step %s finds the learning rate itself: set schedule.name constant and schedule.warmup_epochs 0", m.opt.Step)
	}
	return m, nil
}

// Factor is that of the next step to try.
func (m *Searching) Factor(float64) float64 { return m.state.Factor }

// Search finds the step of an update.
func (m *Searching) Search(t methods.Training, l methods.Line) (rate float64, err error) {
	if !(l.SquaredNorm() > 0) {
		return l.Rate(), nil
	}
	if rate, err = m.backtrack(l); err != nil || rate == 0 || m.opt.Step != "bb" {
		return rate, err
	}
	return rate, m.suggest(t, l, rate)
}

// backtrack halves the step until the loss falls by enough, or returns 0. The next search goes on from there.
func (m *Searching) backtrack(l methods.Line) (float64, error) {
	rate := l.Rate()
	for range mostHalvings + 1 {
		loss, err := l.LossAt(rate)
		if err != nil {
			return 0, err
		}
		m.state.Tried++
		if loss <= l.Loss()-armijo*rate*l.SquaredNorm()+rounding {
			return rate, nil
		}
		rate /= 2
		m.state.Factor /= 2
	}
	return 0, nil
}

// suggest finds the step to try next by the curvature along a step.
func (m *Searching) suggest(t methods.Training, l methods.Line, rate float64) error {
	curvature, err := l.Curvature(rate)
	if err != nil || math.IsNaN(curvature) || math.IsInf(curvature, 0) { // a gradient may overflow where its loss does not
		return err
	}
	m.state.Curvature = curvature
	allowed, share := m.state.allowed(), float64(m.state.Samples)/float64(t.Samples())
	if share >= 1 { // a batch of everything has no noise
		allowed, share = 1, 1
	}
	if m.state.Samples > 0 && curvature > 0 && allowed > 0 {
		longer := allowed / (curvature * rate)
		m.state.Factor *= 1 - share + share*math.Min(longer, 1<<mostHalvings) // no more than a search can undo
	}
	return nil
}

// UpdateEnd grows the batch where noise prevailed, and with it the step of armijo.
func (m *Searching) UpdateEnd(t methods.Training, u methods.Update) error {
	before := t.Batch()
	err := m.Method.UpdateEnd(t, u)
	if m.opt.Step == "armijo" && t.Batch() > before {
		m.state.Factor *= 2
	}
	return err
}

// Report adds the steps tried since the start of the run, each a forward pass, and the curvature along the last step.
func (m *Searching) Report() map[string]float64 {
	out := m.Method.Report()
	if out == nil {
		out = map[string]float64{}
	}
	out["line_search_trials"] = float64(m.state.Tried)
	if m.opt.Step == "bb" {
		out["line_search_curvature"] = m.state.Curvature
	}
	return out
}
