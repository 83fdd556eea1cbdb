// Package sibp trains fully connected networks by semi-implicit back-propagation (Liu, Zhang 2020, "Semi-implicit back
// propagation", arXiv 2002.03516): every layer's weights are fitted, in turn from the last to the first, to outputs that are
// a gradient step better than those it has, and what is propagated goes back through the weights just fitted.
//
// It is an experiment and slow: the fits run on the host. With the authors' code, the error of a sample is not divided by
// the batch, and a fit is a few conjugate gradients with Armijo's rule for each unit. Ours are: the step along the first
// direction may be a whole one, which their code leaves out; ReLU instead of a leaky one; the rate follows the schedule.
package sibp

import (
	"fmt"
	"math"
	"slices"

	"broadside/engine/graph"
	"broadside/engine/internal/portable"
	"broadside/engine/methods"
	"broadside/engine/optim"
	"broadside/kernels"
)

// Options are the method's settings.
type Options struct {
	Lambda     float64 `yaml:"lambda" doc:"weight of the squared change of a unit's weights beside the squared error of its outputs"`
	Iterations int     `yaml:"iterations" doc:"conjugate gradients of a fit"`
}

func init() {
	methods.Register(methods.Info{Name: "sibp", Paper: "Liu and Zhang 2020, arXiv 2002.03516", Status: "experimental",
		Claims: []string{"step rule", "damping", "gradient scales", "sample weights", "samples", "second gradient", "attack", "phases"},
		Doc:    "fit every layer to outputs a gradient step better, from the last to the first, instead of the step rule",
		Cost:   "on the host, in every update: about 10 iterations products of the batch's activations and a layer's weights, for each layer; the gradient is computed in vain",
		Equations: `F_1 = x, F_i+1 = relu(F_i W_i' + b_i) for the samples of an update, the last layer Z without relu; s is relu, for the last layer nothing
d = softmax(Z) - y, T = Z - lr d; then from the last layer to the first, old values marked ~:
    W_i = argmin |s(F_i W' + b~_i) - T|^2 + lambda |W - W~_i|^2, then b_i likewise
    d <- d W_i, T = F_i - lr d, d <- d where F_i > 0, else 0`,
		Limits: `for models of linear layers and ReLUs alone, such as mlp-500, without batch norm and local losses; needs batch.drop_last true.
The recipe's momentum, weight decay and label smoothing do nothing`,
		Options: func() any { return &Options{Lambda: 1, Iterations: 3} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method is semi-implicit back-propagation at work.
type Method struct {
	opt    Options
	layers []methods.Layer
}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("sibp",
		methods.Need(o.Lambda > 0 && !math.IsInf(o.Lambda, 0), "lambda", o.Lambda, "above 0"),
		methods.Need(o.Iterations >= 1 && o.Iterations <= 100, "iterations", o.Iterations, "1 to 100")); err != nil {
		return nil, err
	}
	return &Method{opt: o}, nil
}

// Prepare refuses networks that are not a chain of linear layers with biases.
func (m *Method) Prepare(t methods.Training) error {
	if t.LargestBatch() == math.MaxInt {
		return fmt.Errorf("method sibp needs batch.drop_last true: an update's samples must be of one epoch")
	}
	m.layers = t.Layers()
	parameters := 0
	for i, l := range m.layers {
		if parameters += 2; !l.Linear || !l.Bias || l.Frozen || i > 0 && l.H*l.W*l.C != m.layers[i-1].K {
			return fmt.Errorf("method sibp: %s is not one of a chain of linear layers with biases: use a model such as mlp-500", t.Tensors()[l.Tensor])
		}
	}
	if parameters == 0 || parameters != len(t.Tensors()) {
		return fmt.Errorf("method sibp: the model has more than linear layers with biases: use one such as mlp-500")
	}
	return nil
}

// Rule leaves the parameters alone.
func (m *Method) Rule(optim.SGD) (optim.Rule, error) { return still{}, nil }

// still is the step rule that takes no step.
type still struct{}

func (still) Slots() []string { return nil }

func (still) Update([]graph.Param, *optim.Scratch) []kernels.Call { return nil }

// UpdateEnd fits all layers to the samples of the update.
func (m *Method) UpdateEnd(t methods.Training, u methods.Update) error {
	b := batch{inputs: make([][]float64, len(m.layers))}
	err := t.ReadInputs(methods.Reading{Layers: m.layers, Update: true}, func(in methods.LayerInputs) error {
		for _, v := range in.X {
			b.inputs[in.Layer] = append(b.inputs[in.Layer], float64(v))
		}
		if in.Layer == 0 {
			b.labels = append(b.labels, in.Labels...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, l := range m.layers {
		units, err := unitsOf(t, l)
		if err != nil {
			return err
		}
		b.layers = append(b.layers, units)
	}
	b.fit(u.LR, m.opt)
	for i, l := range m.layers {
		var weights, biases []float32
		for _, u := range b.layers[i] {
			weights, biases = append(weights, narrow(u.weights)...), append(biases, float32(u.bias))
		}
		if err := t.SetTensor(l.Tensor, weights); err != nil {
			return err
		}
		if err := t.SetTensor(l.BiasTensor, biases); err != nil {
			return err
		}
	}
	return nil
}

// unitsOf returns the units of a layer as they are.
func unitsOf(t methods.Training, l methods.Layer) ([]unit, error) {
	weights, err := t.Tensor(l.Tensor)
	if err != nil {
		return nil, err
	}
	biases, err := t.Tensor(l.BiasTensor)
	if err != nil {
		return nil, err
	}
	units, n := make([]unit, l.K), l.H*l.W*l.C
	for k := range units {
		units[k] = unit{weights: widen(weights[k*n : (k+1)*n]), bias: float64(biases[k])}
	}
	return units, nil
}

func widen(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

func narrow(v []float64) []float32 {
	out := make([]float32, 0, len(v))
	for _, x := range v {
		out = append(out, float32(x))
	}
	return out
}

// unit is an output of a layer.
type unit struct {
	weights []float64
	bias    float64
}

// batch is the samples of an update and the layers that are fitted to them.
type batch struct {
	inputs [][]float64 // of each layer, [samples][inputs]
	labels []int32
	layers [][]unit
}

// fit fits the layers, from the last to the first.
func (b *batch) fit(rate float64, o Options) {
	last := len(b.layers) - 1
	outputs := product(b.inputs[last], b.layers[last], len(b.labels))
	errors := xentErrors(outputs, b.labels, len(b.layers[last]))
	targets := stepped(outputs, errors, rate)
	for i := last; i >= 0; i-- {
		fitLayer(b.inputs[i], b.layers[i], targets, len(b.labels), i < last, o)
		if i == 0 {
			break
		}
		errors = backward(errors, b.layers[i], len(b.labels))
		targets = stepped(b.inputs[i], errors, rate)
		for j, v := range b.inputs[i] {
			if v <= 0 {
				errors[j] = 0
			}
		}
	}
}

// product returns the outputs [samples][units] of a layer without activation.
func product(x []float64, units []unit, samples int) []float64 {
	out, n := make([]float64, samples*len(units)), len(x)/samples
	for s := range samples {
		for k, u := range units {
			out[s*len(units)+k] = u.bias + dot(x[s*n:(s+1)*n], u.weights)
		}
	}
	return out
}

// xentErrors returns softmax(z) - y.
func xentErrors(z []float64, labels []int32, classes int) []float64 {
	out := make([]float64, 0, len(z))
	for s, label := range labels {
		row := z[s*classes : (s+1)*classes]
		most, sum := slices.Max(row), 0.0
		for _, v := range row {
			sum += portable.Exp(v - most)
		}
		for k, v := range row {
			p := portable.Exp(v-most) / sum
			if k == int(label) {
				p--
			}
			out = append(out, p)
		}
	}
	return out
}

// stepped returns x - rate d.
func stepped(x, d []float64, rate float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v - rate*d[i]
	}
	return out
}

// backward takes errors [samples][units] back to a layer's inputs.
func backward(errors []float64, units []unit, samples int) []float64 {
	n := len(units[0].weights)
	out := make([]float64, samples*n)
	for s := range samples {
		to := out[s*n : (s+1)*n]
		for k, u := range units {
			if e := errors[s*len(units)+k]; e != 0 {
				for i, w := range u.weights {
					to[i] += e * w
				}
			}
		}
	}
	return out
}
