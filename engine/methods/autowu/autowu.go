// Package autowu implements AutoWU, automated warm-up for large batches (Kim, Roh, Lee, Kim 2021, "Automated learning rate
// scheduler for large-batch training", arXiv 2107.05855): the learning rate grows exponentially until the loss stops
// falling, which a Gaussian process over the losses tells, and then decays from the rate of the lowest loss.
//
// The process is fitted by maximum likelihood, and the losses that it sees are evenly spread; the authors fit it by 100
// steps of Adam to losses drawn at random. So nothing here depends on chance.
package autowu

import (
	"fmt"
	"math"

	"broadside/engine/internal/portable"
	"broadside/engine/methods"
	"broadside/engine/schedule"
)

// Options are the method's settings. The defaults are the paper's.
type Options struct {
	Start          float64 `yaml:"start" doc:"learning rate of the first update, in units of optimizer.lr, the largest one"`
	WarmupFraction float64 `yaml:"warmup_fraction" doc:"fraction of training after which the learning rate decays at the latest"`
	Confidence     float64 `yaml:"confidence" doc:"probability that the loss has risen above which a test says so"`
	Patience       int     `yaml:"patience" doc:"epochs in a row whose tests must say so"`
	Decay          string  `yaml:"decay" doc:"cosine: from the switch to the end of training; constant_cosine: constant, then cosine in the last part"`
	Cooldown       float64 `yaml:"cooldown" doc:"constant_cosine: the fraction of training that is the last part"`
	Tests          int     `yaml:"tests" doc:"tests per epoch, each on other losses; most of them decide"`
	FitPoints      int     `yaml:"fit_points" doc:"losses that the process is fitted to, at most"`
	Points         int     `yaml:"points" doc:"losses that a test sees, at most"`
	Grid           int     `yaml:"grid" doc:"points between first and last loss that a test compares"`
}

func defaults() *Options {
	return &Options{Start: 1e-5, WarmupFraction: 0.5, Confidence: 0.95, Patience: 3, Decay: "cosine", Cooldown: 0.2,
		Tests: 5, FitPoints: 100, Points: 500, Grid: 500}
}

func init() {
	methods.Register(methods.Info{Name: "autowu", Paper: "Kim et al. 2021, arXiv 2107.05855", Claims: []string{"schedule"},
		Equations: `warm-up: lr(t) = lr start^(1 - t/T), where T = warmup_fraction of training
after each epoch of it: a Gaussian process with constant mean, kernel s exp(-(x-x')^2/(2 0.2^2)) and noise, fitted by
    maximum likelihood to the losses so far, x in [0, 1]
    a test says that the loss has risen if max_x P(f(x) < f(1)) > confidence on a grid of x
switch after patience epochs in a row in which most of the tests say so, to
    lr' = mean over the tests of lr(t x), where x has the smallest mean of f;  at T without a switch: lr' = lr
then lr' (1 + cos(pi u))/2, u from 0 to 1 over the rest of training, or over its last cooldown`,
		Limits: `the largest rate of the warm-up must be one at which the loss rises, or there is nothing to detect: optimizer.lr is 1 in the paper.
Adversarial attacks and batches that grow change the loss for other reasons; patience epochs pass before a rise is acted on`,
		Doc:     "raise the learning rate exponentially until a Gaussian process says that the loss has risen, then decay from its best rate",
		Cost:    "on one core of the host, less than two seconds after each epoch of the warm-up",
		Options: func() any { return defaults() },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is AutoWU at work.
type Method struct {
	opt    Options
	epochs float64 // of training
	state  state
	last   float64 // largest probability of a rise among the last tests
}

// state is what a resume needs.
type state struct {
	History history  `json:"history"`
	Rises   int      `json:"rises"`  // epochs in a row whose tests say that the loss has risen
	Switch  *float64 `json:"switch"` // epochs done at the switch
	Factor  float64  `json:"factor"` // of the learning rate then
}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("autowu",
		methods.Need(o.Start > 0 && o.Start <= 1, "start", o.Start, "above 0 and at most 1"),
		methods.Need(o.WarmupFraction > 0 && o.WarmupFraction < 1, "warmup_fraction", o.WarmupFraction, "between 0 and 1"),
		methods.Need(o.Confidence > 0 && o.Confidence < 1, "confidence", o.Confidence, "between 0 and 1"),
		methods.Need(o.Patience > 0, "patience", o.Patience, "at least 1"),
		methods.Need(o.Decay == "cosine" || o.Decay == "constant_cosine", "decay", o.Decay, "cosine or constant_cosine"),
		methods.Need(o.Cooldown > 0 && o.Cooldown <= 1, "cooldown", o.Cooldown, "above 0 and at most 1"),
		methods.Need(o.Tests > 0, "tests", o.Tests, "at least 1"),
		methods.Need(o.FitPoints >= leastPoints && o.FitPoints <= mostPoints, "fit_points", o.FitPoints, fmt.Sprintf("between %d and %d", leastPoints, mostPoints)),
		methods.Need(o.Points >= leastPoints && o.Points <= mostPoints, "points", o.Points, fmt.Sprintf("between %d and %d", leastPoints, mostPoints)),
		methods.Need(o.Grid >= 2, "grid", o.Grid, "at least 2")); err != nil {
		return nil, err
	}
	return &Method{opt: o, state: state{History: history{Width: 1}}}, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Schedule takes the place of a constant schedule.
func (m *Method) Schedule(t methods.Training, s schedule.Schedule) (schedule.Schedule, error) {
	if _, ok := s.(schedule.Constant); !ok {
		return nil, fmt.Errorf("method autowu warms up and decays by itself: set schedule.name constant and schedule.warmup_epochs 0")
	}
	m.epochs = float64(t.Epochs())
	return m, nil
}

// Factor is the learning rate in units of optimizer.lr.
func (m *Method) Factor(epochs float64) float64 {
	end := m.opt.WarmupFraction * m.epochs
	switch {
	case m.state.Switch != nil:
		return m.state.Factor * m.decay(epochs, *m.state.Switch)
	case epochs < end:
		return m.warm(epochs)
	default:
		return m.decay(epochs, end)
	}
}

func (m *Method) warm(epochs float64) float64 {
	return portable.Pow(m.opt.Start, 1-epochs/(m.opt.WarmupFraction*m.epochs))
}

// decay is the factor of a decay that began after so many epochs.
func (m *Method) decay(epochs, began float64) float64 {
	if m.opt.Decay == "constant_cosine" {
		began = math.Max(began, m.epochs*(1-m.opt.Cooldown))
	}
	return schedule.Cosine{Epochs: m.epochs - began}.Factor(math.Max(epochs-began, 0))
}

// warming reports whether the warm-up goes on.
func (m *Method) warming(epochs float64) bool {
	return m.state.Switch == nil && epochs < m.opt.WarmupFraction*m.epochs
}

// UpdateEnd keeps the losses of the warm-up.
func (m *Method) UpdateEnd(_ methods.Training, u methods.Update) error {
	if m.warming(u.Epochs) {
		m.state.History.add(u.Epochs, u.Loss)
	}
	return nil
}

// leastPoints are needed to say anything of the losses.
const leastPoints = 8

// EpochEnd tests whether the loss has risen, and ends the warm-up if it has for long enough.
func (m *Method) EpochEnd(t methods.Training) error {
	now := float64(t.Epoch())
	m.last = 0
	if !m.warming(now) || len(m.state.History.Loss) < leastPoints {
		return nil
	}
	risen, factor, err := m.test(now)
	if err != nil {
		return fmt.Errorf("fitting the losses of the warm-up: %w", err)
	}
	if !risen {
		m.state.Rises = 0
		return nil
	}
	if m.state.Rises++; m.state.Rises == m.opt.Patience {
		m.state.Switch, m.state.Factor = &now, factor
	}
	return nil
}

// test reports whether most tests say that the loss has risen, and the factor of the learning rate at which it was
// lowest.
func (m *Method) test(now float64) (risen bool, factor float64, err error) {
	h := &m.state.History
	x, y := h.pick(m.opt.FitPoints, 0.5, now)
	p, ok, err := fit(x, y)
	if err != nil || !ok {
		return false, 0, err
	}
	tests := m.opt.Tests
	if len(h.Loss) <= m.opt.Points { // all would see the same
		tests = 1
	}
	votes := 0
	grid := make([]float64, m.opt.Grid)
	for i := range grid {
		grid[i] = float64(i) / float64(m.opt.Grid-1)
	}
	for i := range tests {
		x, y := h.pick(m.opt.Points, (float64(i)+0.5)/float64(tests), now)
		after, err := p.condition(x, y, grid)
		if err != nil {
			return false, 0, err
		}
		probability := after.risen()
		if probability > m.opt.Confidence {
			votes++
		}
		m.last = math.Max(m.last, probability)
		factor += m.warm(now*grid[after.lowest()]) / float64(tests)
	}
	return 2*votes > tests, factor, nil
}

// State returns the state to keep in checkpoints.
func (m *Method) State() any { return &m.state }

// Report adds the largest probability of a rise among the tests of the epoch, and whether the warm-up has been ended by
// it, to the epoch's record.
func (m *Method) Report() map[string]float64 {
	out := map[string]float64{"autowu_rise_probability": m.last, "autowu_switched": 0}
	if m.state.Switch != nil {
		out["autowu_switched"] = 1
	}
	return out
}
