// Package sgs implements spatial gradient scaling (Detkov, Salameh, Qharabagh, Zhang, Lui, Jui, Niu 2023,
// "Reparameterization through spatial gradient scaling", arXiv 2303.02733): the gradient of a convolution's weights is
// multiplied, place by place of the kernel, by how much the pixels that the place sees depend on the pixel in the middle.
// It does to training what parallel branches of smaller kernels do, which are merged afterwards, and costs nothing later.
//
// The authors' code scales after it clips the gradient's norm; here a clip, like a step rule by norms, sees the scaled
// gradient.
package sgs

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"broadside/engine/methods"
)

// Options are the method's settings. The defaults are the authors' for CIFAR.
type Options struct {
	Every        int     `yaml:"every" doc:"epochs from one measurement to the next; the authors have 30 on CIFAR, 5 on ImageNet"`
	Samples      int     `yaml:"samples" doc:"training samples of a measurement, whole leaves of them; the authors have 20 batches of 128 on CIFAR"`
	K            float64 `yaml:"k" doc:"the larger, the more alike are the factors of dependent pixels; 1 takes the dependence as it is"`
	WarmupEpochs int     `yaml:"warmup_epochs" doc:"epochs before the first measurement; until then all factors are 1"`
	DropDiagonal bool    `yaml:"drop_diagonal" doc:"leave out pairs of pixels that are nearly equal or of which one is 0, as the authors do on ImageNet"`
}

func init() {
	methods.Register(methods.Info{Name: "sgs", Paper: "Detkov et al. 2023, arXiv 2303.02733", Claims: []string{"gradient scales"},
		Doc:  "scale the gradients of convolutions within the kernel, by how pixels depend on their neighbours",
		Cost: "every `every` epochs two forward passes over `samples` samples and histograms of their feature maps; memory of one copy of the parameters",
		Equations: `g <- S g elementwise for all pairs of channels of a convolution, S of the kernel's height and width;  weight decay stays
S is measured on the input x of the convolution, padding included, by the running statistics, for every channel:
D(d) = k N/((k-1) N + 1), N = (H(x) + H(x_d) - H(x, x_d))/H(x, x_d) for x shifted by d;  D(0) = 1, D(-d) = D(d)
H: entropies of a joint histogram of 1 + ceil(log2 n) bins a side for n pairs, from the smallest value to the largest
S = D/mean(D) for the mean D of all channels, those that are constant left out`,
		Limits: `layers with kernels of 1 x k, or of even sizes, keep their gradients. The authors show it on VGG and ResNets of CIFAR and
ImageNet, at batches of 128 and 256. With clip or lars the norms are those of the scaled gradient`,
		Options: func() any { return &Options{Every: 30, Samples: 2560, K: 5} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is spatial gradient scaling at work.
type Method struct {
	opt    Options
	layers []methods.Layer // that are scaled
	state  state
}

// state is what a resume needs.
type state struct {
	Scales [][]float32 `json:"scales"` // [R][S] of each tensor, nil of those that are not scaled
}

// UnmarshalJSON takes the factors of a checkpoint if they are for the layers that there are.
func (s *state) UnmarshalJSON(raw []byte) error {
	var kept struct{ Scales [][]float32 }
	if err := json.Unmarshal(raw, &kept); err != nil {
		return err
	}
	if !slices.EqualFunc(kept.Scales, s.Scales, func(a, b []float32) bool { return len(a) == len(b) }) {
		return errors.New("the factors are those of another model's kernels")
	}
	s.Scales = kept.Scales
	return nil
}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("sgs",
		methods.Need(o.Every > 0, "every", o.Every, "at least 1"),
		methods.Need(o.Samples > 0, "samples", o.Samples, "at least 1"),
		methods.Need(o.K >= 1 && !math.IsInf(o.K, 0), "k", o.K, "at least 1"),
		methods.Need(o.WarmupEpochs >= 0, "warmup_epochs", o.WarmupEpochs, "at least 0")); err != nil {
		return nil, err
	}
	return &Method{opt: o}, nil
}

// Prepare finds the convolutions to scale, whose factors begin as ones.
func (m *Method) Prepare(t methods.Training) error {
	if err := methods.CheckOptions("sgs", methods.Need(m.opt.Samples <= t.Samples(), "samples", m.opt.Samples,
		fmt.Sprintf("at most the %d training samples", t.Samples()))); err != nil {
		return err
	}
	m.state.Scales = make([][]float32, len(t.Tensors()))
	for _, l := range t.Layers() {
		if l.Linear || l.Frozen || l.R == 1 || l.S == 1 || l.R%2 == 0 || l.S%2 == 0 {
			continue
		}
		m.layers = append(m.layers, l)
		m.state.Scales[l.Tensor] = slices.Repeat([]float32{1}, l.R*l.S)
	}
	if len(m.layers) == 0 {
		return fmt.Errorf("method sgs: the model has no convolution with a kernel of 3x3, 5x5 or the like to scale")
	}
	return nil
}

// Scales returns the factors.
func (m *Method) Scales() [][]float32 { return m.state.Scales }

// State returns the factors to keep in checkpoints.
func (m *Method) State() any { return &m.state }

// Start measures for the first epoch.
func (m *Method) Start(t methods.Training) error { return m.EpochEnd(t) }

// EpochEnd measures for the epoch to come, where that is due.
func (m *Method) EpochEnd(t methods.Training) error {
	epoch := t.Epoch()
	due := epoch == m.opt.WarmupEpochs || epoch > m.opt.WarmupEpochs && epoch%m.opt.Every == 0
	if !due || epoch >= t.Epochs() {
		return nil
	}
	return m.measure(t)
}

// measure takes the factors anew. A layer whose inputs tell nothing keeps what it has.
func (m *Method) measure(t methods.Training) error {
	found := make([]*dependence, len(m.layers))
	for i, l := range m.layers {
		found[i] = newDependence(l, m.opt.DropDiagonal)
	}
	for _, read := range []func(*dependence, []float32){(*dependence).bound, (*dependence).count} {
		if err := t.ReadInputs(methods.Reading{Layers: m.layers, Samples: m.opt.Samples}, func(in methods.LayerInputs) error {
			read(found[in.Layer], in.X)
			return nil
		}); err != nil {
			return err
		}
	}
	for i, l := range m.layers {
		if s, ok := found[i].scales(m.opt.K); ok {
			m.state.Scales[l.Tensor] = s
		}
	}
	return nil
}

// Report adds the mean of the factors in the middle of the kernels to the epoch's record.
func (m *Method) Report() map[string]float64 {
	sum := 0.0
	for _, l := range m.layers {
		sum += float64(m.state.Scales[l.Tensor][l.R*l.S/2])
	}
	return map[string]float64{"sgs_center": sum / float64(len(m.layers))}
}
