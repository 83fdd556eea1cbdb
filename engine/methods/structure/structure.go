// Package structure measures what updates do to the network: the length of the gradient, the length of the step that is
// taken, and how much it lowers the loss on the batch that it was computed from. It compares batch sizes by them (Gao,
// Zhong 2020, "Study on the large batch size training of neural networks based on the second order gradient", arXiv
// 2012.08795).
package structure

import "broadside/engine/methods"

// Options are the probe's settings.
type Options struct {
	Every     int  `yaml:"every" doc:"measure every so many updates"`
	PerTensor bool `yaml:"per_tensor" doc:"also record the lengths of gradient and step of each parameter tensor"`
}

func init() {
	methods.Register(methods.Info{Name: "structure", Paper: "Gao, Zhong 2020, arXiv 2012.08795", Status: "reconstruction",
		Equations: `means over the measured updates of an epoch, of an update from w to w' by a batch with mean gradient g:
gradient_norm = |g|, without weight decay;  step_length = |w' - w|, momentum and decay included
loss_change = L(w') - L(w) on the same batch, without augmentation and attacks, by the batch statistics of the ghosts
loss_change_ratio = sum of loss_change / sum of g.(w' - w): 1 where the loss is linear along the step
distance = |w - w_0| at the end of the epoch`,
		Limits: `an update that begins in one epoch and ends in the next has its losses taken on the samples of the later one.
An epoch without a measured update has but its distance`,
		Doc:     "measure gradients, steps and what they do to the loss of their batch",
		Cost:    "two forward passes, copies and some norms of parameters and gradient for each measured update; memory of two copies of the parameters",
		Options: func() any { return &Options{Every: 10} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is the probe at work.
type Method struct {
	opt     Options
	tensors []string
	state   state
	report  map[string]float64
}

// state is what a resume needs: sums over the measured updates of the epoch.
type state struct {
	Updates  int          `json:"updates"`
	Gradient float64      `json:"gradient"`
	Length   float64      `json:"length"`
	Change   float64      `json:"change"`
	Slope    float64      `json:"slope"`
	Tensors  [][2]float64 `json:"tensors,omitempty"` // gradient, length
}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("structure", methods.Need(o.Every > 0, "every", o.Every, "at least 1")); err != nil {
		return nil, err
	}
	return &Method{opt: o}, nil
}

// Prepare notes the tensors.
func (m *Method) Prepare(t methods.Training) error {
	if m.opt.PerTensor {
		m.tensors = t.Tensors()
		m.state.Tensors = make([][2]float64, len(m.tensors))
	}
	return nil
}

// MeasuresStep wants the first update and then every so many.
func (m *Method) MeasuresStep(update int) bool { return (update-1)%m.opt.Every == 0 }

// ReadStep adds an update to the sums. Of updates that another method wants measured it leaves none out.
func (m *Method) ReadStep(s *methods.Step) {
	sum := &m.state
	sum.Updates++
	sum.Gradient += s.Gradient
	sum.Length += s.Length
	sum.Change += s.LossChange
	sum.Slope += s.Slope
	for i := range sum.Tensors {
		sum.Tensors[i][0] += s.Tensors[i].Gradient
		sum.Tensors[i][1] += s.Tensors[i].Length
	}
}

// EpochEnd makes the means of the epoch and begins new sums.
func (m *Method) EpochEnd(t methods.Training) error {
	d, err := t.Distance(nil)
	m.report = map[string]float64{"distance": d}
	if sum := m.state; sum.Updates > 0 {
		n := float64(sum.Updates)
		m.report["gradient_norm"], m.report["step_length"] = sum.Gradient/n, sum.Length/n
		m.report["loss_change"], m.report["loss_change_ratio"] = sum.Change/n, sum.Change/sum.Slope
		for i, name := range m.tensors {
			m.report["gradient_norm/"+name], m.report["step_length/"+name] = sum.Tensors[i][0]/n, sum.Tensors[i][1]/n
		}
	}
	m.state = state{Tensors: m.state.Tensors}
	clear(m.state.Tensors)
	return err
}

// State returns the state to keep in checkpoints.
func (m *Method) State() any { return &m.state }

// Report adds the means to the epoch's record.
func (m *Method) Report() map[string]float64 { return m.report }
