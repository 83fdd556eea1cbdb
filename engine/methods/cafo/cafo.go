// Package cafo fits the linear heads of a cascade of random, frozen blocks by ridge least squares, in closed form (Zhao, Wang,
// Li, Jin, Lang, Ling 2023, "The cascaded forward algorithm for neural network training", arXiv 2303.09728: CaFo with
// the mean squared error). Without the method the heads learn by SGD on their cross-entropies.
//
// The authors add nothing to the diagonal, take the pseudo-inverse where that fails, and normalise by the statistics of all
// samples at once, those of the test set when they test. Here it is the running statistics.
package cafo

import (
	"fmt"
	"math"

	"broadside/engine/methods"
)

// Options are the method's settings.
type Options struct {
	Ridge float64 `yaml:"ridge" doc:"weight of the squared weights beside the mean squared error: more for fewer samples; features have a variance of about 1"`
}

func init() {
	methods.Register(methods.Info{Name: "cafo", Paper: "Zhao et al. 2023, arXiv 2303.09728",
		Doc:  "fit linear heads on frozen features by ridge least squares",
		Cost: "once, on the host in double precision, for a head of F features: a forward pass over the training set, n F^2 and F^3/3 multiplications; 16 F^2 bytes",
		Equations: `at the end of the last epoch, for the head of every block, on the features X of all n training samples, not augmented:
W = (X'X + n ridge I)^-1 X'Y for the labels Y as 0 and 1
the network predicts the class with the largest sum over the heads of softmax(W'x), as it does without the method`,
		Limits: `for models whose blocks are frozen and whose heads have no bias: cafo3. The updates before serve the running statistics of batch
norm, for which one epoch is enough; what they do to the heads is lost. The cross-entropy of outputs that aim at 0 and 1 stays large`,
		Options: func() any { return &Options{Ridge: 0.1} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// mostFeatures bounds the memory that a head takes.
const mostFeatures = 16384

// Method is the fit.
type Method struct {
	opt    Options
	heads  []methods.Layer
	errors map[string]float64 // by event key; nil before the heads are fitted
}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("cafo", methods.Need(o.Ridge > 0 && !math.IsInf(o.Ridge, 0), "ridge", o.Ridge, "above 0")); err != nil {
		return nil, err
	}
	return &Method{opt: o}, nil
}

// Prepare finds the heads.
func (m *Method) Prepare(t methods.Training) error {
	names := t.Tensors()
	for _, l := range t.Layers() {
		switch f := l.H * l.W * l.C; {
		case l.Frozen:
		case !l.Linear || l.Bias:
			return fmt.Errorf("method cafo: %s is trained: only linear heads without bias on frozen blocks have a closed form; use model cafo3", names[l.Tensor])
		case f > mostFeatures:
			return fmt.Errorf("method cafo: %s has %d features, whose products need %.1f GB: at most %d (%.1f GB); without the method heads learn by SGD",
				names[l.Tensor], f, gigabytes(f), mostFeatures, gigabytes(mostFeatures))
		default:
			m.heads = append(m.heads, l)
		}
	}
	if len(m.heads) == 0 {
		return fmt.Errorf("method cafo: the model has no linear head to fit; use model cafo3")
	}
	return nil
}

// gigabytes is the memory that fitting a head takes: the products of its features, and their factor.
func gigabytes(features int) float64 { return 16 * float64(features) * float64(features) / 1e9 }

// EpochEnd fits the heads after the last epoch, one after the other for the memory's sake.
func (m *Method) EpochEnd(t methods.Training) error {
	if t.Epoch() < t.Epochs() {
		return nil
	}
	m.errors = map[string]float64{}
	for _, l := range m.heads {
		name := t.Tensors()[l.Tensor]
		s := newSquares(l.H*l.W*l.C, l.K)
		if err := t.ReadInputs(methods.Reading{Layers: []methods.Layer{l}}, func(in methods.LayerInputs) error {
			s.add(in.X, in.Labels)
			return nil
		}); err != nil {
			return err
		}
		w, err := s.solve(m.opt.Ridge)
		if err != nil {
			return fmt.Errorf("fitting %s: %w", name, err)
		}
		m.errors["cafo_mse/"+name] = w.mse
		if err := t.SetTensor(l.Tensor, w.values); err != nil {
			return err
		}
	}
	return nil
}

// Report adds the mean squared error of every head on the training set to the last epoch's record.
func (m *Method) Report() map[string]float64 { return m.errors }
