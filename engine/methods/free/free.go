// Package free implements adversarial training for free (Shafahi, Najibi, Ghiasi, Xu, Dickerson, Studer, Davis, Taylor,
// Goldstein 2019, "Adversarial training for free!", arXiv 1904.12843).
//
// Every batch is trained on several times in a row. The backward pass that gives the gradient of the parameters gives
// that of the inputs too, which moves a perturbation of the batch: the next replay trains on it. The perturbation is not
// reset between batches; sample i of the next batch begins with that of sample i of this one.
//
// A replay is an update, and its samples count as seen again. An epoch of training is as many passes over the data as
// there are replays, so a recipe wants that many times fewer epochs, in train.epochs and schedule.at alike.
package free

import (
	"fmt"
	"math"

	"broadside/engine/graph"
	"broadside/engine/methods"
)

// Options are the method's settings.
type Options struct {
	Epsilon float64 `yaml:"epsilon" doc:"largest change of a pixel, where pixels are from 0 to 1"`
	Step    float64 `yaml:"step" doc:"change of a pixel at each replay"`
	Replays int     `yaml:"replays" doc:"updates on each batch, in a row"`
}

func init() {
	methods.Register(methods.Info{Name: "free", Paper: "Shafahi et al. 2019, arXiv 1904.12843",
		Doc:  "train on every batch several times in a row, with the gradient of the inputs as an attack",
		Cost: "the gradient of the images in each pass; a copy of the batch's images",
		Equations: `replays times for each batch x, with a perturbation d that is kept from batch to batch:
    g, s = dL/dw, dL/dd at clamp(x + d, 0, 1) in pixels, by the statistics of the batch
    d <- clip(d + step sign(s), -epsilon, epsilon)
    update w by g`,
		Limits:  "an epoch is replays passes over the data: divide train.epochs and schedule.at by replays; batches are whole and of one epoch",
		Claims:  []string{"attack", "batch"},
		Options: func() any { return &Options{Epsilon: 4. / 255, Step: 4. / 255, Replays: 4} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is free adversarial training at work.
type Method struct{ opt Options }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("free",
		methods.Need(o.Epsilon >= 0 && o.Epsilon <= 1, "epsilon", o.Epsilon, "between 0 and 1"),
		methods.Need(o.Step > 0 && !math.IsInf(o.Step, 0), "step", o.Step, "above 0"),
		methods.Need(o.Replays > 0, "replays", o.Replays, "at least 1")); err != nil {
		return nil, err
	}
	return &Method{o}, nil
}

// Prepare checks that an epoch has a whole batch.
func (m *Method) Prepare(t methods.Training) error {
	if whole := t.Samples() / t.Leaf() * t.Leaf(); t.BaseBatch() > whole {
		return fmt.Errorf("methods.free: batch.size %d is more than the %d samples of an epoch, and a replay is of a whole batch", t.BaseBatch(), whole)
	}
	return nil
}

// Replay returns the replays and their attack.
func (m *Method) Replay() methods.Replay {
	return methods.Replay{Times: m.opt.Replays, Attack: graph.Persistent{Eps: m.opt.Epsilon, Step: m.opt.Step}}
}
