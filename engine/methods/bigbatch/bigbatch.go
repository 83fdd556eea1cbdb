// Package bigbatch implements Big Batch SGD (De, Yadav, Jacobs, Goldstein 2017, "Automated inference with adaptive
// batches", arXiv 1610.05792): the batch grows whenever noise prevails over the signal of its gradient.
//
// The paper takes the variance between samples and adds samples to the batch at hand until the test holds; here the
// variance is estimated from the micro-batches, and the next batch is the larger one.
//
// A gradient with more signal than noise can choose its own step size: search.go has the paper's two ways.
package bigbatch

import (
	"math"
	"slices"

	"broadside/engine/methods"
)

// Options are the method's settings.
type Options struct {
	Theta    float64 `yaml:"theta" doc:"largest allowed ratio of noise to signal of the mean gradient"`
	Growth   float64 `yaml:"growth" doc:"factor of the batch where the ratio is larger; 0: as much as the ratio asks for"`
	MaxBatch int     `yaml:"max_batch" doc:"largest batch size in samples"`
	Step     string  `yaml:"step" doc:"step size: fixed (optimizer.lr by its schedule), or found in every update, the first from optimizer.lr: armijo (a line search on the batch's loss), bb (the same, from the curvature along the step before, after Barzilai and Borwein)"`
}

func defaults() *Options { return &Options{Theta: 1, Growth: 1.1, MaxBatch: 16384, Step: "fixed"} }

func init() {
	methods.Register(methods.Info{Name: "bigbatch", Paper: "De et al. 2017, arXiv 1610.05792", Claims: []string{"batch"},
		Equations: `V = variance of the gradients of samples: trace of their covariance, estimated from the update's micro-batches
g: mean gradient of the update's B samples
|g|^2 < V/(theta^2 B): batch <- growth batch, at least one leaf more; with growth 0, batch <- V/(theta^2 |g|^2)
in whole leaves, up to max_batch; the batch never shrinks
armijo, bb: a <- a/2 while L(w - a g) > L(w) - 0.1 a |g|^2 + 1e-6, L over the same batch, a from the update before;
    after 20 halvings the update leaves w as it is.  w <- w - a g
armijo: a <- 2 a where the batch has grown
bb: k = (g' - g)(w' - w)/|w' - w|^2, g' the gradient of the same batch at w' = w - a g;
    a <- (1 - B/N) a + (B/N) (1 - V/(B |g|^2))/k of N training samples; 1/k once B is N;
    a stays where k or 1 - V/(B |g|^2) is not above 0`,
		Limits: `the test is of the update just made and sets the next batch; the paper enlarges the batch at hand.
The variance is the micro-batch estimate, so a test is noisy: batches of few micro-batches may grow early.
armijo, bb: plain SGD only, with momentum and weight decay 0 and a constant schedule.
armijo: the step shrinks for good by every search that halves it, until the batch grows: small noisy batches make it small`,
		Doc: "grow the batch whenever noise prevails over signal in its gradient",
		Cost: "a pass over the gradients of each lane per update, no overlap of computing and reducing them; armijo, bb: a forward pass for every " +
			"step that is tried, two more memories of the parameters' size; bb: a second gradient per update",
		Options: func() any { return defaults() },
		New: func(o any) (methods.Method, error) {
			m, err := New(*o.(*Options))
			if err != nil || m.opt.Step == "fixed" {
				return m, err
			}
			m.state.Factor = 1
			return &Searching{Method: m}, nil
		}})
}

// Method is Big Batch SGD at work.
type Method struct {
	opt   Options
	state state
}

// state is what a resume needs.
type state struct {
	measured
	search
}

// measured is the last measurement: also for the record of an epoch whose last update came before a resume.
type measured struct {
	Variance    float64 `json:"variance"`
	SquaredNorm float64 `json:"squared_norm"`
	Samples     int     `json:"samples"` // 0: no measurement
}

// allowed is the share of the gradient's square that is no noise.
func (s *measured) allowed() float64 { return 1 - s.Variance/(float64(s.Samples)*s.SquaredNorm) }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("bigbatch",
		methods.Need(o.Theta > 0 && o.Theta <= 1, "theta", o.Theta, "above 0 and at most 1"),
		methods.Need(o.Growth == 0 || o.Growth > 1 && !math.IsInf(o.Growth, 0), "growth", o.Growth, "above 1, or 0 for as much as is needed"),
		methods.Need(o.MaxBatch > 0, "max_batch", o.MaxBatch, "at least 1"),
		methods.Need(slices.Contains(steps, o.Step), "step", o.Step, "fixed, armijo or bb")); err != nil {
		return nil, err
	}
	return &Method{opt: o}, nil
}

// LargestBatch is the batch that growth ends at.
func (m *Method) LargestBatch() int { return m.opt.MaxBatch }

// Prepare checks the options against the training.
func (m *Method) Prepare(t methods.Training) error {
	if err := methods.CheckMicroBatches("bigbatch", t); err != nil {
		return err
	}
	return methods.CheckMaxBatch("bigbatch", m.opt.MaxBatch, t)
}

// ReadMoments keeps what the test needs.
func (m *Method) ReadMoments(u *methods.Moments) {
	m.state.measured = measured{}
	if u.Measured() {
		m.state.measured = measured{u.Trace, u.SquaredNorm, u.Samples}
	}
}

// UpdateEnd grows the batch where noise prevailed.
func (m *Method) UpdateEnd(t methods.Training, _ methods.Update) error {
	needed := m.needed()
	if now := t.Batch(); now >= m.opt.MaxBatch || needed <= float64(m.state.Samples) {
		return nil
	}
	if m.opt.Growth > 0 {
		needed = m.opt.Growth * float64(t.Batch())
	}
	leaf := t.Leaf()
	leaves := math.Min(math.Ceil(needed/float64(leaf)), float64(m.opt.MaxBatch/leaf)) // a float: it may be beyond any int
	size := min(max(int(leaves)*leaf, t.Batch()+leaf), m.opt.MaxBatch)
	return t.SetBatch(size, methods.Reweight, "bigbatch")
}

// needed is the batch whose noise would just be allowed; 0 without a measurement.
func (m *Method) needed() float64 {
	if m.state.Variance == 0 {
		return 0
	}
	return m.state.Variance / (m.opt.Theta * m.opt.Theta * m.state.SquaredNorm)
}

// State returns the state to keep in checkpoints.
func (m *Method) State() any { return &m.state }

// Report adds the ratio that theta bounds, of the last update, to the epoch's record.
func (m *Method) Report() map[string]float64 {
	if m.state.Samples == 0 {
		return nil
	}
	s := m.state.measured
	return map[string]float64{"gradient_noise_to_signal": math.Sqrt(s.Variance / (float64(s.Samples) * s.SquaredNorm))}
}
