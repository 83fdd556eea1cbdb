// Package pgd implements adversarial training on strong samples: PGD (Madry, Makelov, Schmidt, Tsipras, Vladu 2018,
// "Towards deep learning models resistant to adversarial attacks", arXiv 1706.06083), with NoFrost's mix of clean and
// adversarial samples (Wang et al. 2022, "Removing batch normalization boosts adversarial training", arXiv 2207.01156);
// and FGSM-RS, a single step from a random start (Wong, Rice, Kolter 2020, "Fast is better than free: revisiting
// adversarial training", arXiv 2001.03994).
package pgd

import (
	"fmt"
	"math"

	"broadside/engine/graph"
	"broadside/engine/methods"
)

// Options are the settings of PGD.
type Options struct {
	Epsilon     float64 `yaml:"epsilon" doc:"largest change of a pixel, where pixels are from 0 to 1"`
	Step        float64 `yaml:"step" doc:"change of a pixel in one iteration; 0: min(1.25 epsilon, epsilon + 4/255)/iterations"`
	Iterations  int     `yaml:"iterations" doc:"gradient passes of the attack"`
	RandomStart bool    `yaml:"random_start" doc:"begin at a random point of the ball"`
	Mix         float64 `yaml:"mix" doc:"fraction of each leaf that is attacked; the others stay clean"`
	Pairs       bool    `yaml:"pairs" doc:"train on every sample both clean and attacked, as NoFrost does with a mix of 1/2; mix must be 1"`
}

// FastOptions are the settings of FGSM-RS.
type FastOptions struct {
	Epsilon float64 `yaml:"epsilon" doc:"largest change of a pixel, where pixels are from 0 to 1"`
	Step    float64 `yaml:"step" doc:"change of a pixel from its random start; 0: 1.25 epsilon"`
	// EarlyStop is 0 where a recipe has none, as the authors' script does not stop unless told to.
	EarlyStop float64 `yaml:"early_stop" doc:"end training where the accuracy under PGD falls by more than this in an epoch, between 0 and 1, with the network of the epoch before; the authors' is 0.2; 0: never"`
}

func init() {
	methods.Register(methods.Info{Name: "pgd", Paper: "Madry et al. 2018, arXiv 1706.06083; Wang et al. 2022, arXiv 2207.01156",
		Doc:  "train on samples attacked by projected gradient ascent, by the running statistics",
		Cost: "iterations gradient passes more per attacked sample",
		Equations: `x_0 = x + u, u uniform in [-epsilon, epsilon] (random_start: false: x)
x_{k+1} = clip(x_k + step sign(dL/dx_k)), to x +- epsilon and to pixels in [0, 1], by the running statistics of batch norm
a fraction mix of each leaf is trained on as x_iterations, the rest as x
pairs: loss = (L(x) + L(x_iterations))/2 for every sample`,
		Limits:  "accuracy on clean samples falls, most of all in networks with batch norm, whose statistics of clean and attacked samples differ",
		Claims:  []string{"attack"},
		Options: func() any { return &Options{Epsilon: 8. / 255, Iterations: 10, RandomStart: true, Mix: 1} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
	methods.Register(methods.Info{Name: "fgsmrs", Paper: "Wong et al. 2020, arXiv 2001.03994",
		Doc:  "train on samples attacked by one gradient step from a random start, by batch statistics",
		Cost: "one gradient pass more per sample; early_stop: five more for the first batch of an epoch, a copy of parameters and statistics on the host and in checkpoints",
		Equations: `x_0 = x + u, u uniform in [-epsilon, epsilon]
x <- clip(x_0 + step sign(dL/dx_0)), to x +- epsilon and to pixels in [0, 1], by the statistics of the batch
early_stop, after each epoch: r = accuracy on its first batch after PGD from a random start, 5 steps of 2/255 (a quarter of epsilon), by
    the statistics of the batch; r(epoch before) - r > early_stop: training ends with the network of the epoch before`,
		Limits: "long runs can overfit to the single step, all at once (catastrophic overfitting): early_stop ends them; otherwise watch the " +
			"accuracy under PGD, which broadside eval --attack pgd measures. The accuracy of a small batch is noisy",
		Claims:  []string{"attack"},
		Options: func() any { return &FastOptions{Epsilon: 8. / 255} },
		New:     func(o any) (methods.Method, error) { return newFast(*o.(*FastOptions)) }})
}

// Method is PGD or FGSM-RS at work.
type Method struct {
	attack methods.Attack // but for its samples
	mix    float64
	pairs  bool
}

// New checks the options and makes PGD.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("pgd",
		methods.Need(o.Epsilon >= 0 && o.Epsilon <= 1, "epsilon", o.Epsilon, "between 0 and 1"),
		methods.Need(o.Step >= 0 && !math.IsInf(o.Step, 0), "step", o.Step, "at least 0"),
		methods.Need(o.Iterations > 0, "iterations", o.Iterations, "at least 1"),
		methods.Need(o.Mix > 0 && o.Mix <= 1, "mix", o.Mix, "above 0 and at most 1"),
		methods.Need(!o.Pairs || o.Mix == 1, "mix", o.Mix, "1 with pairs, which train on every sample both ways")); err != nil {
		return nil, err
	}
	if o.Step == 0 {
		o.Step = min(1.25*o.Epsilon, o.Epsilon+4./255) / float64(o.Iterations)
	}
	return &Method{mix: o.Mix, pairs: o.Pairs, attack: methods.Attack{Attack: graph.Attack{Eps: o.Epsilon, Step: o.Step,
		Iterations: o.Iterations, RandomStart: o.RandomStart, Pixels: true, Clamp: graph.ToBox}}}, nil
}

// newFast makes FGSM-RS that stops early, if it is to.
func newFast(o FastOptions) (methods.Method, error) {
	m, err := NewFast(o)
	if err != nil || o.EarlyStop == 0 {
		return m, err
	}
	return &Watching{Method: m, most: o.EarlyStop}, nil
}

// NewFast checks the options and makes FGSM-RS.
func NewFast(o FastOptions) (*Method, error) {
	if err := methods.CheckOptions("fgsmrs",
		methods.Need(o.Epsilon >= 0 && o.Epsilon <= 1, "epsilon", o.Epsilon, "between 0 and 1"),
		methods.Need(o.Step >= 0 && !math.IsInf(o.Step, 0), "step", o.Step, "at least 0"),
		methods.Need(o.EarlyStop >= 0 && o.EarlyStop <= 1, "early_stop", o.EarlyStop, "between 0 and 1")); err != nil {
		return nil, err
	}
	if o.Step == 0 {
		o.Step = 1.25 * o.Epsilon
	}
	return &Method{mix: 1, attack: methods.Attack{TrainMode: true, Attack: graph.Attack{Eps: o.Epsilon, Step: o.Step,
		Iterations: 1, RandomStart: true, Pixels: true, Clamp: graph.ToBox}}}, nil
}

// Prepare says how many samples of a leaf are attacked.
func (m *Method) Prepare(t methods.Training) error {
	m.attack.Samples = int(m.mix * float64(t.Leaf()))
	if m.attack.Samples == 0 {
		return fmt.Errorf("methods.pgd.mix is %g: of a leaf of %d that is no sample", m.mix, t.Leaf())
	}
	return nil
}

// Attack is the attack on a part of each leaf.
func (m *Method) Attack() methods.Attack {
	if m.pairs {
		return methods.Attack{}
	}
	return m.attack
}

// Pair is the attack on the twins of leaves.
func (m *Method) Pair() methods.Pair {
	if m.pairs {
		return methods.Pair{Attack: m.attack}
	}
	return methods.Pair{}
}
