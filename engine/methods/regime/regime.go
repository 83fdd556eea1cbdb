// Package regime implements the large-batch regime of Hoffer, Hubara, Soudry 2017, "Train longer, generalize better:
// closing the generalization gap in large batch training of neural networks" (arXiv 1705.08741): a learning rate that
// grows with the square root of the batch, and training for as many updates as a small batch has (regime adaptation).
//
// The other parts of the paper are batch.ghost and batch.running (Ghost Batch Norm), the clipping of the gradient's norm
// and, in place of the larger learning rate, the method noise.
package regime

import (
	"fmt"
	"math"

	"broadside/engine/methods"
	"broadside/engine/schedule"
)

// Options are the method's settings.
type Options struct {
	BaseBatch int    `yaml:"base_batch" doc:"batch size that optimizer.lr, train.epochs and the schedule were made for"`
	LR        string `yaml:"lr" doc:"sqrt: the learning rate grows with the square root of the batch; linear: in proportion; none: it stays"`
	Longer    bool   `yaml:"longer" doc:"multiply train.epochs and the schedule's epochs by batch.size/base_batch, rounded up, so that every phase has as many updates as at base_batch (regime adaptation)"`
	LongerBy  int    `yaml:"longer_by" doc:"what longer has multiplied the epochs by; written by the run into its own recipe, leave it out"`
}

func init() {
	methods.Register(methods.Info{Name: "regime", Paper: "Hoffer et al. 2017, arXiv 1705.08741", Claims: []string{"batch", "schedule"},
		Equations: `lr <- lr sqrt(batch.size/base_batch)
longer:  train.epochs, schedule.at, schedule.warmup_epochs <- ceil(batch.size/base_batch) times as much`,
		Limits:  "longer costs as many updates as the small batch, each of them larger: accuracy for time; the authors also clip the gradient's norm to 5",
		Doc:     "scale the learning rate with the square root of the batch; optionally train for as many updates as a small batch",
		Cost:    "nothing; with longer, batch.size/base_batch times the epochs",
		Options: func() any { return &Options{BaseBatch: 128, LR: "sqrt"} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Lengthen returns the factor of the epochs and notes it.
func (o *Options) Lengthen(batch int) int {
	if !o.Longer || o.LongerBy != 0 || o.BaseBatch < 1 {
		return 1
	}
	o.LongerBy = (batch + o.BaseBatch - 1) / o.BaseBatch
	return o.LongerBy
}

// Method is the regime at work.
type Method struct{ opt Options }

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("regime",
		methods.Need(o.BaseBatch > 0, "base_batch", o.BaseBatch, "at least 1"),
		methods.Need(o.LR == "sqrt" || o.LR == "linear" || o.LR == "none", "lr", o.LR, "sqrt, linear or none"),
		methods.Need(o.LongerBy >= 0 && (o.Longer || o.LongerBy == 0), "longer_by", o.LongerBy, "left out: longer says whether to train longer")); err != nil {
		return nil, err
	}
	return &Method{o}, nil
}

// Prepare checks that the recipe was lengthened for its batch size.
func (m *Method) Prepare(t methods.Training) error {
	fresh := Options{BaseBatch: m.opt.BaseBatch, Longer: m.opt.Longer}
	if want := fresh.Lengthen(t.BaseBatch()); m.opt.Longer && m.opt.LongerBy != want {
		return fmt.Errorf("methods.regime.longer_by is %d: a batch of %d trains %d times as long; start from a recipe without longer_by",
			m.opt.LongerBy, t.BaseBatch(), want)
	}
	return nil
}

// Schedule scales the learning rate.
func (m *Method) Schedule(t methods.Training, s schedule.Schedule) (schedule.Schedule, error) {
	k := float64(t.BaseBatch()) / float64(m.opt.BaseBatch)
	switch m.opt.LR {
	case "none":
		return s, nil
	case "sqrt":
		k = math.Sqrt(k)
	}
	return schedule.Scaled{Schedule: s, By: k}, nil
}
