// Package vrsgd implements VR-SGD (Jiang et al. 2023, arXiv 2309.13681): each element of the gradient is damped by how much
// the micro-batches of an update disagree on it, in units of what they agree on, the gradient signal-to-noise ratio.
//
// The damped gradient goes to the step rule in place of the gradient, so that it composes with any: VR-LARS is this method
// beside lars.
package vrsgd

import "broadside/engine/methods"

// Options are the method's settings. The default is the authors'.
type Options struct {
	Gamma float64 `yaml:"gamma" doc:"least factor of an element, between 0 and 1; 1 damps nothing"`
}

func init() {
	methods.Register(methods.Info{Name: "vrsgd", Paper: "Jiang et al. 2023, arXiv 2309.13681", Claims: []string{"damping"},
		Equations: `g_d: mean gradient of micro-batch d of n_d samples;  g: of the update's n samples, all elementwise
sigma^2 = sum_d (n_d/n) g_d^2 - g^2;  r = g^2/sigma^2
r <- r/(mean of r over its tensor), clipped to [gamma, 1];  the step rule is given r g
an element with sigma^2 = 0 keeps r = 1 and is not in the mean`,
		Limits: `fewer than eight micro-batches tell the ratio badly, and one not at all: then this is the step rule alone.
The authors scale the learning rate with the square root of the batch; that is left to the recipe`,
		Doc:     "damp elements of the gradient that micro-batches disagree on, by their signal-to-noise ratio",
		Cost:    "memory for the gradients of all lanes once more; a pass over them and a second reduction per update, no overlap of computing and reducing",
		Options: func() any { return &Options{Gamma: 0.1} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is VR-SGD at work.
type Method struct{ opt Options }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("vrsgd", methods.Need(o.Gamma >= 0 && o.Gamma <= 1, "gamma", o.Gamma, "between 0 and 1")); err != nil {
		return nil, err
	}
	return &Method{o}, nil
}

// Prepare has nothing to check: another method may grow a batch that begins with one micro-batch.
func (m *Method) Prepare(methods.Training) error { return nil }

// LeastRatio is what elements are damped to at most.
func (m *Method) LeastRatio() float64 { return m.opt.Gamma }
