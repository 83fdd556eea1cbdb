// Package agc implements adaptive gradient clipping (Brock, De, Smith, Simonyan 2021, "High-performance large-scale
// image recognition without normalization", arXiv 2102.06171): the gradient of each unit, a row of a weight or a whole
// vector, is bounded by a share of the norm of its weights. The floor lets units that start at zero move.
package agc

import (
	"math"

	"broadside/engine/methods"
	"broadside/engine/optim"
)

// Options are the method's settings.
type Options struct {
	Lambda float64 `yaml:"lambda" doc:"largest norm of a unit's gradient, as a share of the norm of its weights; 0.01 for batches of 4096, more for smaller ones"`
	Floor  float64 `yaml:"floor" doc:"least norm of weights that counts"`
	Head   bool    `yaml:"head" doc:"clip the final linear layer too"`
}

func init() {
	methods.Register(methods.Info{Name: "agc", Paper: "Brock et al. 2021, arXiv 2102.06171",
		Doc: "bound each unit's gradient by the norm of its weights", Cost: "the norms of each row per update",
		Equations: `where |g_i| > lambda max(|w_i|, floor):  g_i *= lambda max(|w_i|, floor)/max(|g_i|, 1e-6)
i: the weights of one output, or a whole bias, scale or shift; not the final linear layer unless head; before clip`,
		Limits:  "made for networks without batch norm; with it there is less to gain",
		Options: func() any { return &Options{Lambda: 0.01, Floor: 1e-3} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is AGC at work.
type Method struct{ opt Options }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("agc",
		methods.Need(o.Lambda > 0 && !math.IsInf(o.Lambda, 0), "lambda", o.Lambda, "above 0"),
		methods.Need(o.Floor >= 0 && !math.IsInf(o.Floor, 0), "floor", o.Floor, "at least 0")); err != nil {
		return nil, err
	}
	return &Method{o}, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Transform returns the clip.
func (m *Method) Transform() optim.Transform {
	return optim.AGC{Lambda: m.opt.Lambda, Floor: m.opt.Floor, Head: m.opt.Head}
}
