package onnx

import (
	"fmt"
	"math"

	"broadside/engine/checkpoint"
	"broadside/engine/graph"
)

// layer adds the operators of a layer.
func (b *builder) layer(l graph.Operation) error {
	x, in := l.In[0], b.names[l.In[0]]
	b.flat[l.Out] = b.flat[x]
	switch l.Kind {
	case graph.ConvLayer:
		b.names[l.Out] = b.conv(l, in)
	case graph.LinearLayer:
		b.names[l.Out], b.flat[l.Out] = b.linear(l, in), true
	case graph.NormLayer:
		b.names[l.Out] = b.norm(l, in)
	case graph.ReLULayer:
		b.names[l.Out] = b.node("Relu", "relu", []string{in})
	case graph.AddLayer:
		if l.Factor != 1 {
			in = b.times(in, l.Factor)
		}
		b.names[l.Out] = b.node("Add", "add", []string{in, b.names[l.In[1]]})
	case graph.ScaleLayer:
		b.names[l.Out] = b.times(in, l.Factor)
	case graph.MaxPoolLayer, graph.AvgPoolLayer:
		b.names[l.Out] = b.pool(l, in)
	case graph.IdentityLayer:
		b.names[l.Out] = in
	default:
		return fmt.Errorf("layers of kind %d have no ONNX operator here", l.Kind)
	}
	return nil
}

// weights adds the weights of a layer in PyTorch's layout, which is ONNX's.
func (b *builder) weights(l graph.Operation) string {
	p := b.Net.Params[l.Weight]
	return b.constant(p.Name, func() []float32 {
		out, err := checkpoint.ToPyTorch(b.Net.Weights(l, b.Params), p.K, p.R, p.S, p.C)
		if err != nil {
			panic(err) // a parameter is as large as its shape says
		}
		return out
	}, p.TorchShape()...)
}

// vector adds a parameter that is one.
func (b *builder) vector(param int) string {
	p := b.Net.Params[param]
	return b.constant(p.Name, func() []float32 { return b.Params[p.Offset : p.Offset+p.K] }, p.K)
}

func (b *builder) conv(l graph.Operation, in string) string {
	inputs := []string{in, b.weights(l)}
	if l.Bias >= 0 {
		inputs = append(inputs, b.vector(l.Bias))
	}
	return b.node("Conv", b.base(l.Weight), inputs, append(window(l.Window), integer("group", l.Groups))...)
}

// window describes the window of a convolution or pooling.
func window(w graph.Window) []message {
	return []message{ints("kernel_shape", w.R, w.S), ints("strides", w.StrideH, w.StrideW), ints("pads", w.PadH, w.PadW, w.PadH, w.PadW)}
}

func (b *builder) linear(l graph.Operation, in string) string {
	name := b.base(l.Weight)
	if !b.flat[l.In[0]] {
		in = b.node("Flatten", name+".flatten", []string{in}, integer("axis", 1))
	}
	inputs := []string{in, b.weights(l)}
	if l.Bias >= 0 {
		inputs = append(inputs, b.vector(l.Bias))
	}
	return b.node("Gemm", name, inputs, integer("transB", 1))
}

func (b *builder) norm(l graph.Operation, in string) string {
	n := b.Net.Norms[l.Norm]
	running := func(i int, suffix string) string {
		return b.constant(n.Name+suffix, func() []float32 { return b.State[n.Offset+i*n.C : n.Offset+(i+1)*n.C] }, n.C)
	}
	return b.node("BatchNormalization", n.Name, []string{in, b.vector(l.Weight), b.vector(l.Bias), running(0, ".running_mean"), running(1, ".running_var")},
		float("epsilon", graph.BatchNormEps))
}

func (b *builder) pool(l graph.Operation, in string) string {
	d, op, name := b.Net.Dims(l.In[0]), "MaxPool", "max_pool"
	if l.Kind == graph.AvgPoolLayer {
		op, name = "AveragePool", "average_pool"
	}
	if whole := (graph.Window{R: d.H, S: d.W, StrideH: 1, StrideW: 1}); l.Window == whole {
		return b.node("Global"+op, name, []string{in})
	}
	attributes := window(l.Window)
	if l.Kind == graph.AvgPoolLayer {
		attributes = append(attributes, integer("count_include_pad", 1))
	}
	return b.node(op, name, []string{in}, attributes...)
}

// times multiplies by a constant.
func (b *builder) times(in string, factor float64) string {
	by := b.constant("factor", func() []float32 { return []float32{float32(factor)} })
	return b.node("Mul", "times", []string{in, by})
}

// normalize turns pixels from 0 to 255 into what the network was trained on.
func (b *builder) normalize() string {
	c := b.Net.Input.C
	scale, shift := make([]float32, c), make([]float32, c)
	for i := range c {
		mean, std := 0.0, 1.0
		if b.Mean != nil {
			mean, std = float64(b.Mean[i]), float64(b.Std[i])
		}
		scale[i], shift[i] = float32(1/(255*std)), float32(-mean/std)
	}
	constant := func(name string, v []float32) string {
		return b.constant("pixels."+name, func() []float32 { return v }, 1, c, 1, 1)
	}
	x := b.node("Mul", "pixels.scaled", []string{Input, constant("scale", scale)})
	return b.node("Add", "pixels.normalized", []string{x, constant("shift", shift)})
}

// output names the logits. Local logits vote by their probabilities.
func (b *builder) output() {
	logits := b.Net.Logits()
	if len(logits) == 1 {
		b.operator("Identity", Output, []string{b.names[logits[0]]})
		return
	}
	var votes []string
	for _, v := range logits {
		votes = append(votes, b.node("Softmax", "probabilities", []string{b.names[v]}, integer("axis", 1)))
	}
	mean := b.node("Mean", "votes", votes)
	smallest := b.constant("smallest", func() []float32 { return []float32{math.SmallestNonzeroFloat32 * (1 << 23)} })
	b.operator("Log", Output, []string{b.node("Max", "voted", []string{mean, smallest})})
}
