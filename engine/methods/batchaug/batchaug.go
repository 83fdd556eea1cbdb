// Package batchaug implements Batch Augmentation: an update trains on several copies of every sample of its batch, each
// with an augmentation of its own (Hoffer, Ben-Nun, Hubara, Giladi, Hoefler, Soudry 2020, "Augment your batch: improving
// generalization through instance repetition", arXiv 1901.09335).
//
// The copies of a sample are in different ghosts. Batch size, updates per epoch and learning rate are those of the
// distinct samples; an update's gradient is the mean over all copies. The paper's option adapt_grad_norm, which scales
// the gradient to the norm that a single copy's would have, is not offered: it needs the gradient of every copy.
package batchaug

import "broadside/engine/methods"

// Options are the method's settings.
type Options struct {
	Copies int `yaml:"copies" doc:"augmented copies of every sample (M)"`
}

func init() {
	methods.Register(methods.Info{Name: "batchaug", Paper: "Hoffer et al. 2020, arXiv 1901.09335", Claims: []string{"samples"},
		Equations: `gradient = 1/(M B) sum over the B samples of a batch, sum over i = 1..M of grad loss(augmentation i of the sample)
batch.size = B; copies = M; lr and schedule as without`,
		Limits:  "needs augmentation that varies: with data.augment none it is refused; a fixed number of epochs takes M times as long",
		Doc:     "train on several augmented copies of every sample in the same update",
		Cost:    "copies times the gradient passes of an epoch; the number of updates stays",
		Options: func() any { return &Options{Copies: 4} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is Batch Augmentation at work.
type Method struct{ opt Options }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("batchaug",
		methods.Need(o.Copies >= 1 && o.Copies <= 256, "copies", o.Copies, "between 1 and 256")); err != nil {
		return nil, err
	}
	return &Method{o}, nil
}

// Prepare has nothing to check.
func (m *Method) Prepare(methods.Training) error { return nil }

// Copies returns the copies of every sample.
func (m *Method) Copies() int { return m.opt.Copies }
