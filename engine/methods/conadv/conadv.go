// Package conadv implements training on an adversarial twin of every sample through a batch normalisation of its own:
// ConAdv, concurrent adversarial learning, and DisAdv, its synchronous form (Liu, Chen, Cheng, Hsieh, You 2022,
// "Concurrent adversarial learning for large-batch training", arXiv 2106.00221), and AdvProp (Xie, Tan, Gong, Wang,
// Yuille, Le 2020, "Adversarial examples improve image recognition", arXiv 1911.09665).
//
// A leaf and its adversarial twin, the same samples after an attack, count the same in the gradient. Convolutions and
// linear layers are shared; batch normalisations have a second set of scale, shift and running statistics for the twins.
// Networks are evaluated with the first set. With View there is a third view of every sample, with augmentations of its
// own, through a third set: the paper's form with data augmentation.
//
// DisAdv and AdvProp attack a leaf with the parameters that the update begins with, so an update takes two gradient
// passes one after the other. ConAdv attacks the leaves of the next update beside the gradients of this one: the attack
// is one update stale, and both depend only on the parameters at hand.
package conadv

import (
	"math"
	"slices"

	"broadside/engine/graph"
	"broadside/engine/methods"
)

// Options are the settings of all three.
type Options struct {
	Epsilon     float64 `yaml:"epsilon" doc:"largest change of a pixel, where pixels are from 0 to 1"`
	Step        float64 `yaml:"step" doc:"change of a pixel in one iteration; at least epsilon/iterations"`
	Iterations  int     `yaml:"iterations" doc:"gradient passes of the attack"`
	RandomStart float64 `yaml:"random_start" doc:"probability that a leaf's attack begins at random points of the ball, rather than at the clean samples"`
	Targeted    bool    `yaml:"targeted" doc:"attack towards a random wrong class, rather than away from the right one"`
	AuxBN       bool    `yaml:"aux_bn" doc:"give the adversarial samples, and those of view, a batch normalisation of their own"`
	// View makes three views of every sample. The paper's has autoaugment beside the crops and flips of the others.
	View []string `yaml:"view" doc:"augmentations of a third view of every sample, drawn anew and trained on beside both others: those that data.augment can have, by the sizes and the policy of data; or none: no such view. The paper's has autoaugment beside the others' crop and flip"`
}

// The names of the parameter sets of the twins and of the third view.
const (
	twinSet = "adv"
	viewSet = "aug"
)

const (
	conadvPaper  = "Liu et al. 2022, arXiv 2106.00221"
	advpropPaper = "Xie et al. 2020, arXiv 1911.09665"

	attackLines = `xadv <- x + u, u uniform in [-epsilon, epsilon], with probability random_start per leaf, else x
iterations times: xadv <- clip(xadv - step sign(dL(w, xadv, c)/dxadv)) for a random wrong class c (not targeted: + and the label)
    by batch statistics, through the set adv; clip to x +- epsilon and to pixels in [0, 1]
`
	lossLine = `g = (1/2n) sum of dL(w, main; x)/dw + dL(w, adv; xadv)/dw over the n samples of the batch
view: g = (1/3n) sum of dL(w, main; x)/dw + dL(w, aug; xview)/dw + dL(w, adv; xadv)/dw, xview the sample as view augments it`
	limits = "the published code does AutoAugment's operations at 0.8 of TensorFlow's magnitudes and fills with grey, view does them as torchvision does; all passes cost their work: conadv saves time only where devices outnumber the passes of an update; without batch normalisation aux_bn has no effect"
)

func init() {
	register := func(name, doc, paper, cost, equations string, stale bool, o Options) {
		methods.Register(methods.Info{Name: name, Doc: doc, Paper: paper, Cost: cost, Equations: equations, Limits: limits,
			Claims:  []string{"attack", "batch norm sets"},
			Options: func() any { c := o; return &c },
			New:     func(o any) (methods.Method, error) { return New(name, stale, *o.(*Options)) }})
	}
	paper := Options{Epsilon: 9. / 255, Step: 9. / 255, Iterations: 1, RandomStart: 0.8, Targeted: true, AuxBN: true}
	register("disadv", "train on an adversarial twin of every sample too, attacked in the same update", conadvPaper,
		"two gradient passes more per sample, one of them after the other, and one with view", attackLines+lossLine, false, paper)
	register("conadv", "train on adversarial twins that were attacked beside the update before", conadvPaper,
		"two gradient passes more per sample, which all can run side by side, and one with view; two copies of the batch's images",
		attackLines+"    where w is of the update before the one that trains on xadv\n"+lossLine, true, paper)
	register("advprop", "train on an adversarial twin of every sample too, of several iterations", advpropPaper,
		"1 + iterations gradient passes more per sample, and one with view", attackLines+lossLine, false,
		Options{Epsilon: 4. / 255, Step: 1. / 255, Iterations: 5, RandomStart: 1, AuxBN: true})
}

// Method is one of the three at work.
type Method struct {
	opt   Options
	stale bool
	leaf  int
}

// New checks the options and makes the method; the name is for messages.
func New(name string, stale bool, o Options) (*Method, error) {
	if err := methods.CheckOptions(name,
		methods.Need(o.Epsilon >= 0 && o.Epsilon <= 1, "epsilon", o.Epsilon, "between 0 and 1"),
		methods.Need(o.Step >= 0 && !math.IsInf(o.Step, 0), "step", o.Step, "at least 0"),
		methods.Need(o.Iterations > 0, "iterations", o.Iterations, "at least 1"),
		methods.Need(o.RandomStart >= 0 && o.RandomStart <= 1, "random_start", o.RandomStart, "between 0 and 1"),
		methods.Need(!slices.ContainsFunc(o.View, notAugmentation), "view", o.View, "of pad_crop, flip, cutout, random_resized_crop and autoaugment, or none")); err != nil {
		return nil, err
	}
	return &Method{opt: o, stale: stale}, nil
}

func notAugmentation(name string) bool {
	return !slices.Contains([]string{"pad_crop", "flip", "cutout", "random_resized_crop", "autoaugment"}, name)
}

// Prepare notes the leaf.
func (m *Method) Prepare(t methods.Training) error {
	m.leaf = t.Leaf()
	return nil
}

// NormSets names the batch normalisations of the twins and of the third view.
func (m *Method) NormSets() []string {
	switch {
	case !m.opt.AuxBN:
		return nil
	case len(m.opt.View) == 0:
		return []string{twinSet}
	}
	return []string{twinSet, viewSet}
}

// View returns the augmentations of the third view, and its set.
func (m *Method) View() (augment []string, set int) {
	if len(m.opt.View) == 0 {
		return nil, 0
	}
	return m.opt.View, len(m.NormSets())
}

// Pair returns the attack on whole leaves.
func (m *Method) Pair() methods.Pair {
	o := m.opt
	return methods.Pair{Stale: m.stale, Attack: methods.Attack{Samples: m.leaf, TrainMode: true, Set: min(len(m.NormSets()), 1), CleanStart: 1 - o.RandomStart,
		Attack: graph.Attack{Eps: o.Epsilon, Step: max(o.Step, o.Epsilon/float64(o.Iterations)), Iterations: o.Iterations,
			RandomStart: o.RandomStart > 0, Targeted: o.Targeted, Pixels: true, Clamp: graph.ToBox}}}
}
