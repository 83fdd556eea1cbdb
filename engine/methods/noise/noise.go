// Package noise implements multiplicative gradient noise, the alternative to scaling the learning rate in Hoffer, Hubara,
// Soudry 2017, "Train longer, generalize better" (arXiv 1705.08741): every sample's gradient is multiplied by a random
// number of mean 1, whose variance grows with the batch, so that the noise of an update stays what it is at a small batch.
//
// A factor of a sample's gradient is a weight of its loss, which costs nothing. The paper leaves the constant of the
// variance open; ours makes it `variance` at the base batch.
package noise

import (
	"math"

	"broadside/engine/methods"
	"broadside/kernels/philox"
)

// Options are the method's settings.
type Options struct {
	Variance  float64 `yaml:"variance" doc:"variance of a sample's factor at base_batch; 0: no noise"`
	BaseBatch int     `yaml:"base_batch" doc:"batch size at which the variance is as given; it grows in proportion to the batch"`
}

func init() {
	methods.Register(methods.Info{Name: "noise", Paper: "Hoffer et al. 2017, arXiv 1705.08741", Claims: []string{"sample weights"}, Status: "reconstruction",
		Equations: `gradient = 1/B sum over n of z_n grad loss_n,  z_n ~ N(1, sigma^2) drawn anew for every sample, epoch and copy
sigma^2 = variance batch/base_batch`,
		Limits: "instead of a larger learning rate, not beside it; with batch norm the samples of a ghost still share statistics without noise",
		Doc:    "multiply every sample's gradient by random noise whose variance grows with the batch", Cost: "one random number a sample",
		Options: func() any { return &Options{Variance: 1, BaseBatch: 128} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is the noise at work.
type Method struct{ opt Options }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("noise",
		methods.Need(o.Variance >= 0 && !math.IsInf(o.Variance, 0), "variance", o.Variance, "at least 0"),
		methods.Need(o.BaseBatch > 0, "base_batch", o.BaseBatch, "at least 1")); err != nil {
		return nil, err
	}
	return &Method{o}, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Weigh draws the factors of samples.
func (m *Method) Weigh(t methods.Training, d methods.Draw, samples []int32, weights []float32) {
	sigma := math.Sqrt(m.opt.Variance * float64(t.Batch()) / float64(m.opt.BaseBatch))
	key := philox.Key(d.Seed)
	for i, s := range samples {
		words := philox.Philox4x32(key, philox.Counter(0, uint32(s), uint32(d.Epoch), philox.Weight, 0, uint32(d.Copy)))
		z, _ := philox.Normal2(words[0], words[1])
		weights[i] = float32(1 + sigma*z)
	}
}
