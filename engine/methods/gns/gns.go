// Package gns measures the gradient noise scale (McCandlish, Kaplan, Amodei and the OpenAI Dota Team 2018, "An empirical
// model of large-batch training", arXiv 1812.06162): the batch size at which noise and signal of a gradient are equal.
// Below it a larger batch saves almost as many updates as it costs samples, above it hardly any.
//
// Signal and noise come from the micro-batches of each update and are averaged over updates separately. With `control`
// the batch follows the noise scale from epoch to epoch; that rule is ours, not the paper's.
package gns

import (
	"math"

	"broadside/engine/methods"
)

// Options are the method's settings.
type Options struct {
	EMA      float64 `yaml:"ema" doc:"weight of the past in the running means of signal and noise, per update"`
	Control  bool    `yaml:"control" doc:"let the batch follow the noise scale, at each end of an epoch"`
	Factor   float64 `yaml:"factor" doc:"control: the batch aimed at, in noise scales"`
	MaxBatch int     `yaml:"max_batch" doc:"control: largest batch size in samples; the smallest is batch.size"`
}

func defaults() *Options { return &Options{EMA: 0.99, Factor: 1, MaxBatch: 16384} }

func init() {
	methods.Register(methods.Info{Name: "gns", Paper: "McCandlish et al. 2018, arXiv 1812.06162",
		Equations: `g_j: mean gradient of micro-batch j of n_j samples, k of them;  g: of the update's n samples
S = (sum_j n_j |g_j|^2 - n |g|^2)/(k-1): trace of the covariance of a sample's gradient
G2 = |g|^2 - S/n: squared norm of the true gradient
each is averaged over updates: mean <- ema mean + (1-ema) value, divided by 1 - ema^updates
gradient_noise_scale = mean S / mean G2
control, after each epoch: batch <- leaf 2^round(log2(factor gradient_noise_scale/leaf)),
    between batch.size and max_batch, and no more than doubled or halved`,
		Limits: `where noise prevails mean G2 may be negative: then the noise scale is null in the record, and control leaves the batch.
Samples of one ghost share their batch statistics: the noise is that of ghosts. Control does not change the learning rate`,
		Doc:     "measure the gradient noise scale, the batch size beyond which returns diminish; with control, let the batch follow it",
		Cost:    "a pass over the gradients of each lane per update, no overlap of computing and reducing them",
		Options: func() any { return defaults() },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method measures the gradient noise scale.
type Method struct {
	opt   Options
	state state
}

// state is what a resume needs: running means that begin at 0, and the weight that they have taken in.
type state struct {
	Signal float64 `json:"signal"`
	Noise  float64 `json:"noise"`
	Weight float64 `json:"weight"`
}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("gns",
		methods.Need(o.EMA >= 0 && o.EMA < 1, "ema", o.EMA, "at least 0 and below 1"),
		methods.Need(o.Factor > 0 && !math.IsInf(o.Factor, 0), "factor", o.Factor, "above 0"),
		methods.Need(o.MaxBatch > 0, "max_batch", o.MaxBatch, "at least 1")); err != nil {
		return nil, err
	}
	return &Method{opt: o}, nil
}

// Claims the batch if it controls it.
func (m *Method) Claims() []string {
	if m.opt.Control {
		return []string{"batch"}
	}
	return nil
}

// LargestBatch is the batch that growth ends at, if there is any.
func (m *Method) LargestBatch() int {
	if m.opt.Control {
		return m.opt.MaxBatch
	}
	return 0
}

// Prepare checks the options against the training. Where the batch is not controlled it may begin with a single
// micro-batch: another method may grow it.
func (m *Method) Prepare(t methods.Training) error {
	if !m.opt.Control {
		return nil
	}
	if err := methods.CheckMicroBatches("gns", t); err != nil {
		return err
	}
	return methods.CheckMaxBatch("gns", m.opt.MaxBatch, t)
}

// ReadMoments adds an update to the running means.
func (m *Method) ReadMoments(u *methods.Moments) {
	if !u.Measured() {
		return
	}
	s, keep := &m.state, m.opt.EMA
	s.Signal = keep*s.Signal + (1-keep)*u.Signal()
	s.Noise = keep*s.Noise + (1-keep)*u.Trace
	s.Weight = keep*s.Weight + (1 - keep)
}

// scale is the gradient noise scale, or NaN if the means do not tell.
func (m *Method) scale() float64 {
	if m.state.Weight == 0 || m.state.Signal <= 0 {
		return math.NaN()
	}
	return m.state.Noise / m.state.Signal
}

// EpochEnd lets the batch follow the noise scale.
func (m *Method) EpochEnd(t methods.Training) error {
	scale := m.scale()
	if !m.opt.Control || math.IsNaN(scale) {
		return nil
	}
	if size := m.size(scale, t); size != t.Batch() {
		return t.SetBatch(size, methods.Reweight, "gns")
	}
	return nil
}

// size is the next batch, in whole leaves.
func (m *Method) size(scale float64, t methods.Training) int {
	leaf, now := t.Leaf(), t.Batch()/t.Leaf()
	most := min(m.opt.MaxBatch/leaf, 2*now)
	least := max(t.BaseBatch()/leaf, (now+1)/2)
	exponent := math.Round(math.Log2(m.opt.Factor * scale / float64(leaf)))
	wanted := math.Min(math.Exp2(exponent), float64(most)) // a float: it may be beyond any int
	return leaf * max(int(wanted), least)
}

// State returns the state to keep in checkpoints.
func (m *Method) State() any { return &m.state }

// Report adds the noise scale and its two parts to the epoch's record, once there are any.
func (m *Method) Report() map[string]float64 {
	if m.state.Weight == 0 {
		return nil
	}
	return map[string]float64{"gradient_noise_scale": m.scale(),
		"gradient_noise": m.state.Noise / m.state.Weight, "gradient_signal": m.state.Signal / m.state.Weight}
}
