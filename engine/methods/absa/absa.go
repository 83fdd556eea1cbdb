// Package absa implements ABS and ABSA: batch size adapted by second-order information, with
// adversarial training (Yao, Gholami, Arfeen, Liaw, Gonzalez, Keutzer, Mahoney 2018, "Large batch
// size training of neural networks with adversarial training and second-order information").
//
// After every epoch, or every so many samples, the largest eigenvalue of the Hessian is measured on one leaf of training
// samples. When it has fallen to 1/EigDecrease of its value at the last growth, or when Patience
// epochs have passed without growth, the batch and the learning rate grow by the factor Growth. ABSA
// also attacks a fraction of each leaf with FGSM; the fraction shrinks with each growth and is zero
// from the middle of training on. ABS is ABSA with no attack.
package absa

import (
	"fmt"
	"math"

	"broadside/engine/curvature"
	"broadside/engine/graph"
	"broadside/engine/methods"
)

// Options are the method's settings. The defaults are the paper's, used there for every experiment.
type Options struct {
	MaxBatch       int     `yaml:"max_batch" doc:"largest batch size in samples"`
	Patience       int     `yaml:"patience" doc:"epochs, or probes where probe_every is set, without growth after which the batch grows anyway (duration factor)"`
	EigDecrease    float64 `yaml:"eig_decrease" doc:"fall of the top eigenvalue that makes the batch grow"`
	Growth         int     `yaml:"growth" doc:"factor by which batch and learning rate grow"`
	AttackFraction float64 `yaml:"attack_fraction" doc:"fraction of each leaf that FGSM perturbs at first (abs: always 0)"`
	Epsilon        float64 `yaml:"epsilon" doc:"FGSM step in units of the network's input"`
	AttackDecay    float64 `yaml:"attack_decay" doc:"divides the attack fraction at each growth"`
	AttackUntil    float64 `yaml:"attack_until" doc:"fraction of training after which attacks stop"`
	ProbeEvery     int     `yaml:"probe_every" doc:"samples between two probes; 0: one after each epoch"`
	ProbeSamples   int     `yaml:"probe_samples" doc:"training samples the eigenvalue is measured on"`
	ProbeIters     int     `yaml:"probe_iterations" doc:"most power iterations per probe"`
	ProbeTolerance float64 `yaml:"probe_tolerance" doc:"relative change at which the power iteration stops"`
	Compat         string  `yaml:"compat" doc:"hessianflow: samples summed before a growth keep their old weight, as in the authors' code; empty: all samples of an update weigh the same"`
}

func defaults() *Options {
	return &Options{MaxBatch: 16384, Patience: 10, EigDecrease: 2, Growth: 2, AttackFraction: 0.2, Epsilon: 0.005,
		AttackDecay: 2, AttackUntil: 0.5, ProbeSamples: 128, ProbeIters: 10, ProbeTolerance: 1e-2}
}

const (
	equations = `lambda = largest eigenvalue of the Hessian of the mean loss on probe_samples training samples, after each epoch,
    or every probe_every samples
lambda <= (lambda at the last growth)/eig_decrease, or patience epochs (or probes) without growth:
    batch <- growth batch;  lr <- growth lr;  attack_fraction <- attack_fraction/attack_decay
absa attacks the first attack_fraction of each leaf:
    x <- clamp(x + epsilon sign(dL/dx), smallest and largest of the attacked samples)
no attacks after attack_until of the epochs, or once the batch is max_batch`
	limits = "a recipe whose learning rate is at its limit already: growth multiplies it at once, without warm-up; networks without batch norm diverge first"
	paper  = "Yao et al. 2018, arXiv 1810.01021"
)

func init() {
	methods.Register(methods.Info{Name: "absa", Paper: paper, Equations: equations, Limits: limits, Claims: []string{"batch", "attack"},
		Doc:     "grow batch and learning rate as the top Hessian eigenvalue falls; attack part of each leaf with FGSM",
		Cost:    "one gradient pass over the attacked samples in the first half of training; at most 10 Hessian-vector products on 128 samples per epoch",
		Options: func() any { return defaults() },
		New:     func(o any) (methods.Method, error) { return New("absa", *o.(*Options)) }})
	methods.Register(methods.Info{Name: "abs", Paper: paper, Equations: equations, Limits: limits, Claims: []string{"batch"},
		Doc:  "ABSA without the attacks",
		Cost: "at most 10 Hessian-vector products on 128 samples per epoch",
		Options: func() any {
			o := defaults()
			o.AttackFraction = 0
			return o
		},
		New: func(o any) (methods.Method, error) {
			if o.(*Options).AttackFraction != 0 {
				return nil, fmt.Errorf("methods.abs.attack_fraction is %g: abs attacks nothing; use absa", o.(*Options).AttackFraction)
			}
			return New("abs", *o.(*Options))
		}})
}

// Method is ABSA at work.
type Method struct {
	name  string
	opt   Options
	leaf  int
	state state
	last  *float64 // eigenvalue of the epoch's last probe, for the record
	used  float64  // attack fraction of the epoch that just ended, for the record
}

// state is what a resume needs.
type state struct {
	Reference *float64 `json:"reference"` // eigenvalue at the last growth by eigenvalue, or the first one
	Duration  int      `json:"duration"`  // probes since the last growth
	Periods   int64    `json:"periods"`   // of ProbeEvery samples that are over
	Probe     *float64 `json:"probe"`     // eigenvalue of the last probe of the epoch under way
	Attack    float64  `json:"attack"`    // current fraction
	Full      bool     `json:"full"`      // the batch has reached its maximum
}

// New checks the options and makes the method; the name is for messages.
func New(name string, o Options) (*Method, error) {
	if err := methods.CheckOptions(name,
		methods.Need(o.MaxBatch > 0, "max_batch", o.MaxBatch, "at least 1"),
		methods.Need(o.Patience > 0, "patience", o.Patience, "at least 1"),
		methods.Need(o.EigDecrease > 1, "eig_decrease", o.EigDecrease, "above 1"),
		methods.Need(o.Growth > 1, "growth", o.Growth, "at least 2"),
		methods.Need(o.AttackFraction >= 0 && o.AttackFraction <= 1, "attack_fraction", o.AttackFraction, "between 0 and 1"),
		methods.Need(o.Epsilon >= 0 && !math.IsInf(o.Epsilon, 0), "epsilon", o.Epsilon, "at least 0"),
		methods.Need(o.AttackDecay >= 1, "attack_decay", o.AttackDecay, "at least 1"),
		methods.Need(o.AttackUntil >= 0 && o.AttackUntil <= 1, "attack_until", o.AttackUntil, "between 0 and 1"),
		methods.Need(o.ProbeEvery >= 0, "probe_every", o.ProbeEvery, "at least 1, or 0 for every epoch"),
		methods.Need(o.ProbeSamples > 0, "probe_samples", o.ProbeSamples, "at least 1"),
		methods.Need(o.ProbeIters > 0, "probe_iterations", o.ProbeIters, "at least 1"),
		methods.Need(o.ProbeTolerance > 0, "probe_tolerance", o.ProbeTolerance, "above 0"),
		methods.Need(o.Compat == "" || o.Compat == "hessianflow", "compat", o.Compat, "empty or hessianflow")); err != nil {
		return nil, err
	}
	return &Method{name: name, opt: o, state: state{Attack: o.AttackFraction}}, nil
}

// Prepare checks the options against the training.
func (m *Method) Prepare(t methods.Training) error {
	m.leaf = t.Leaf()
	if err := methods.CheckMaxBatch(m.name, m.opt.MaxBatch, t); err != nil {
		return err
	}
	if m.opt.ProbeSamples > t.Samples() {
		return fmt.Errorf("methods.%s.probe_samples is %d: the training set has %d samples", m.name, m.opt.ProbeSamples, t.Samples())
	}
	if t.Batch() >= m.opt.MaxBatch {
		m.state.Full = true
	}
	return nil
}

// Attack returns FGSM on the current fraction of a leaf; below one sample there is none.
func (m *Method) Attack() methods.Attack {
	if m.state.Attack <= 1/float64(m.leaf) {
		return methods.Attack{}
	}
	return methods.Attack{Samples: max(int(float64(m.leaf)*m.state.Attack), 1),
		Attack: graph.Attack{Eps: m.opt.Epsilon, Step: m.opt.Epsilon, Iterations: 1}}
}

// LargestBatch is the batch that growth ends at.
func (m *Method) LargestBatch() int { return m.opt.MaxBatch }

// EpochEnd probes where each epoch ends with a probe, and ends the attacks in their time.
func (m *Method) EpochEnd(t methods.Training) error {
	m.used = m.state.Attack
	if m.opt.ProbeEvery == 0 {
		if err := m.check(t); err != nil {
			return err
		}
	}
	m.last, m.state.Probe = m.state.Probe, nil
	if t.Epoch() >= int(float64(t.Epochs())*m.opt.AttackUntil) {
		m.state.Attack = 0
	}
	return nil
}

// UpdateEnd probes where another ProbeEvery samples are over.
func (m *Method) UpdateEnd(t methods.Training, _ methods.Update) error {
	if m.opt.ProbeEvery == 0 {
		return nil
	}
	periods := t.SamplesSeen() / int64(m.opt.ProbeEvery)
	if periods == m.state.Periods {
		return nil
	}
	m.state.Periods = periods
	return m.check(t)
}

// check measures the eigenvalue and grows the batch when one of the two triggers fires.
func (m *Method) check(t methods.Training) error {
	if m.state.Full {
		return nil
	}
	if err := m.measure(t); err != nil {
		return err
	}
	if m.state.Duration >= m.opt.Patience {
		return m.grow(t, "duration")
	}
	return nil
}

func (m *Method) measure(t methods.Training) error {
	e, err := t.TopEigenvalue(methods.Probe{Samples: m.opt.ProbeSamples, Options: curvature.Options{
		K: 1, MaxIterations: m.opt.ProbeIters, Tolerance: m.opt.ProbeTolerance}})
	if err != nil {
		return err
	}
	m.state.Probe = &e.Value
	m.state.Duration++
	switch {
	case e.Value <= 0:
		// The eigenvector of largest magnitude is a direction of negative curvature. That does not
		// say that the loss got flatter: it neither grows the batch nor becomes the reference.
	case m.state.Reference == nil:
		m.state.Reference = &e.Value
	case e.Value <= *m.state.Reference/m.opt.EigDecrease:
		m.state.Reference = &e.Value
		return m.grow(t, "eig")
	}
	return nil
}

// grow multiplies batch and learning rate, up to the maximum.
func (m *Method) grow(t methods.Training, trigger string) error {
	before := t.Batch()
	after := m.opt.MaxBatch
	if before <= m.opt.MaxBatch/m.opt.Growth {
		after = before * m.opt.Growth
	}
	m.state.Attack /= m.opt.AttackDecay
	if after >= m.opt.MaxBatch {
		after = m.opt.MaxBatch
		m.state.Attack, m.state.Full = 0, true
	}
	m.state.Duration = 0
	carry := methods.Reweight
	if m.opt.Compat == "hessianflow" {
		carry = methods.KeepWeights
	}
	if err := t.SetBatch(after, carry, trigger); err != nil {
		return err
	}
	return t.ScaleLR(float64(after)/float64(before), trigger)
}

// State returns the state to keep in checkpoints.
func (m *Method) State() any { return &m.state }

// Report adds the eigenvalue and the attack fraction to the epoch's record.
func (m *Method) Report() map[string]float64 {
	out := map[string]float64{"attack_fraction": m.used}
	if m.last != nil {
		out["eigenvalue"] = *m.last
	}
	return out
}
