// Package clip bounds the norm of the gradient over all parameters, after it is averaged over the batch (Pascanu,
// Mikolov, Bengio 2013, "On the difficulty of training recurrent neural networks", arXiv 1211.5063). Hoffer, Hubara,
// Soudry 2017, "Train longer, generalize better", arXiv 1705.08741, train large batches with the bound 5.
package clip

import (
	"math"

	"broadside/engine/methods"
	"broadside/engine/optim"
)

// eps is PyTorch's.
const eps = 1e-6

// Options are the method's settings.
type Options struct {
	MaxNorm float64 `yaml:"max_norm" doc:"largest norm of the mean gradient over all parameters"`
}

func init() {
	methods.Register(methods.Info{Name: "clip", Paper: "Pascanu et al. 2013, arXiv 1211.5063; Hoffer et al. 2017, arXiv 1705.08741",
		Doc: "bound the norm of the gradient", Cost: "one norm of the gradient per update",
		Equations: `g *= min(1, max_norm/(|g| + 1e-6)), |g| over all parameters, before weight decay and the step rule, after agc`,
		Limits:    "a bound that is met at every update is a learning rate in disguise",
		Options:   func() any { return &Options{MaxNorm: 5} },
		New:       func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is the clip at work.
type Method struct{ opt Options }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("clip",
		methods.Need(o.MaxNorm > 0 && !math.IsInf(o.MaxNorm, 0), "max_norm", o.MaxNorm, "above 0")); err != nil {
		return nil, err
	}
	return &Method{o}, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Transform returns the clip.
func (m *Method) Transform() optim.Transform { return optim.ClipNorm{Max: m.opt.MaxNorm, Eps: eps} }
