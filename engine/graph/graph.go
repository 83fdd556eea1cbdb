// Package graph turns a network of layers into a Program: flat lists of kernel calls over one
// planned arena.
//
// A [Network] is built layer by layer, in order, with names as a PyTorch user expects them. [Compile]
// infers shapes, fuses layers where that saves a trip through memory, emits up to four passes
// (forward, backward and the two tangent passes of the R-operator) and plans the memory they share.
package graph

import (
	"fmt"
	"math"

	"broadside/kernels"
)

// Dims is the size of one sample's activation, in NHWC order.
type Dims struct{ H, W, C int }

// Elems returns the number of elements of one sample.
func (d Dims) Elems() int { return d.H * d.W * d.C }

func (d Dims) String() string { return fmt.Sprintf("%dx%dx%d", d.H, d.W, d.C) }

// Value is the result of a layer, or the network's input.
type Value int

// Network is a feed-forward network under construction or built. The first error sticks and is
// returned by Build.
type Network struct {
	Name    string
	Input   Dims
	Classes int

	// Params are the trainable tensors, in the order of their layers. Norms are the batch
	// normalisation layers, whose running statistics are state but not parameters.
	Params []Param
	Norms  []Norm

	// NormSets names the parameter sets of batch normalisation besides the first; see AddNormSets.
	NormSets []string

	nodes  []node
	dims   []Dims                      // of each value
	single struct{ params, norms int } // of a single set
	output Value
	err    error
}

// Norm is a batch normalisation layer's running statistics: mean[C], variance[C] in the state
// memory at Offset.
type Norm struct {
	Name   string
	C      int
	Offset int
}

type node struct {
	op  op
	in  []Value
	out Value
}

// New starts a network for samples of the given size.
func New(name string, input Dims, classes int) *Network {
	n := &Network{Name: name, Input: input, Classes: classes, dims: []Dims{input}}
	if input.H < 1 || input.W < 1 || input.C < 1 || classes < 1 {
		n.fail("input", "size %v with %d classes: every size must be at least 1", input, classes)
	}
	return n
}

// In returns the input value.
func (n *Network) In() Value { return 0 }

// Dims returns the size of a value.
func (n *Network) Dims(v Value) Dims { return n.dims[v] }

// Window is a convolution's or pooling's kernel size, stride and padding. A zero stride is 1.
type Window struct {
	R, S             int // kernel height and width
	StrideH, StrideW int
	PadH, PadW       int
}

// Square returns a square window.
func Square(size, stride, pad int) Window {
	return Window{R: size, S: size, StrideH: stride, StrideW: stride, PadH: pad, PadW: pad}
}

// describe names the window in a message.
func (w Window) describe() string {
	return fmt.Sprintf("%dx%d, stride %dx%d, padding %dx%d", w.R, w.S, w.StrideH, w.StrideW, w.PadH, w.PadW)
}

func (w Window) output(d Dims) (h, ww int, ok bool) {
	h, ww = d.H+2*w.PadH-w.R, d.W+2*w.PadW-w.S
	if w.R < 1 || w.S < 1 || w.StrideH < 1 || w.StrideW < 1 || w.PadH < 0 || w.PadW < 0 || h < 0 || ww < 0 {
		return 0, 0, false
	}
	return h/w.StrideH + 1, ww/w.StrideW + 1, true
}

// ConvOptions are the optional parts of a convolution.
type ConvOptions struct {
	Bias   bool
	Groups int  // 0 means 1
	Init   Init // of the weights; the zero value is HeNormal

	// Standardize above 0 convolves with standardised weights, times a gain for every output channel, times this, as
	// Brock, De and Smith (2021) do: outputs have variance (Standardize gain)^2 where inputs are independent of variance 1.
	// The weights start at N(0, 1/fan in), a bias at 0.
	Standardize float64
	ZeroGain    bool // the gains start at 0, not 1
}

// Conv2D adds a convolution with k output channels.
func (n *Network) Conv2D(name string, x Value, k int, w Window, o ConvOptions) Value {
	d := n.dims[x]
	if o.Groups == 0 {
		o.Groups = 1
	}
	h, ww, ok := w.output(d)
	if !ok || k < 1 {
		return n.fail(name, "a convolution of %s to %d channels does not fit an input of %v", w.describe(), k, d)
	}
	if o.Groups < 1 || d.C%o.Groups != 0 || k%o.Groups != 0 {
		return n.fail(name, "%d groups must divide the %d input and %d output channels", o.Groups, d.C, k)
	}
	fanIn := w.R * w.S * d.C / o.Groups
	if o.Standardize < 0 || o.Standardize > 0 && fanIn == 1 {
		return n.fail(name, "standardising %d weights of each output channel by %g: want several, and a factor above 0", fanIn, o.Standardize)
	}
	c := product{w: w, groups: o.Groups, bias: -1}
	weight := Param{Name: name + ".weight", Role: Weight, K: k, R: w.R, S: w.S, C: d.C / o.Groups, Init: o.Init}
	bias := Param{Name: name + ".bias", Role: Bias, K: k, R: 1, S: 1, C: 1, Init: UniformFanIn, fanIn: fanIn}
	if o.Standardize > 0 {
		weight.Init, weight.Std, bias.Init = Normal, 1/math.Sqrt(float64(fanIn)), Zeros
	}
	c.weight = n.param(weight)
	if o.Standardize > 0 {
		c.standard = n.standardization(name, k, o)
	}
	if o.Bias {
		c.bias = n.param(bias)
	}
	return n.add(c, Dims{h, ww, k}, x)
}

// standardization adds the gains of a convolution's k output channels.
func (n *Network) standardization(name string, k int, o ConvOptions) *standard {
	gain := Param{Name: name + ".gain", Role: Gamma, K: k, R: 1, S: 1, C: 1, Init: Ones}
	if o.ZeroGain {
		gain.Init = Zeros
	}
	return &standard{gain: n.param(gain), factor: o.Standardize}
}

// Linear adds a fully connected layer with bias over all elements of a sample; its weights are
// initialised as PyTorch does by default.
func (n *Network) Linear(name string, x Value, k int) Value { return n.linear(name, x, k, true) }

// LinearWithoutBias adds a fully connected layer without bias.
func (n *Network) LinearWithoutBias(name string, x Value, k int) Value {
	return n.linear(name, x, k, false)
}

func (n *Network) linear(name string, x Value, k int, bias bool) Value {
	d := n.dims[x]
	if k < 1 {
		return n.fail(name, "%d outputs: must be at least 1", k)
	}
	l := product{w: Square(1, 1, 0), groups: 1, linear: true, bias: -1}
	l.weight = n.param(Param{Name: name + ".weight", Role: Weight, Linear: true, K: k, R: d.H, S: d.W, C: d.C, Init: UniformFanIn})
	if bias {
		l.bias = n.param(Param{Name: name + ".bias", Role: Bias, K: k, R: 1, S: 1, C: 1, Init: UniformFanIn, fanIn: d.Elems()})
	}
	return n.add(l, Dims{1, 1, k}, x)
}

// BatchNorm adds a (ghost) batch normalisation.
func (n *Network) BatchNorm(name string, x Value) Value {
	c := n.dims[x].C
	b := norm{index: len(n.Norms)}
	b.gamma, b.beta = n.normParams(name, c)
	return n.add(b, n.dims[x], x)
}

// ReLU adds max(0, x).
func (n *Network) ReLU(x Value) Value { return n.add(relu{}, n.dims[x], x) }

// Add adds two values of the same size; a residual block's branch comes first, its shortcut second.
func (n *Network) Add(a, b Value) Value { return n.AddScaled(1, a, b) }

// AddScaled computes factor a + b for two values of the same size, in the same order.
func (n *Network) AddScaled(factor float64, a, b Value) Value {
	if n.dims[a] != n.dims[b] {
		return n.fail("add", "sizes differ: %v and %v", n.dims[a], n.dims[b])
	}
	return n.add(add{factor}, n.dims[a], a, b)
}

// Scale multiplies by a constant.
func (n *Network) Scale(x Value, factor float64) Value {
	return n.add(scale{factor}, n.dims[x], x)
}

// MaxPool adds a max pooling; positions in the padding never win.
func (n *Network) MaxPool(x Value, w Window) Value { return n.pool(x, w, true) }

// AvgPool adds an average pooling; positions in the padding count as zeros.
func (n *Network) AvgPool(x Value, w Window) Value { return n.pool(x, w, false) }

// GlobalAvgPool averages over all positions.
func (n *Network) GlobalAvgPool(x Value) Value {
	d := n.dims[x]
	return n.pool(x, Window{R: d.H, S: d.W, StrideH: 1, StrideW: 1}, false)
}

// GlobalMaxPool takes the largest of all positions.
func (n *Network) GlobalMaxPool(x Value) Value {
	d := n.dims[x]
	return n.pool(x, Window{R: d.H, S: d.W, StrideH: 1, StrideW: 1}, true)
}

func (n *Network) pool(x Value, w Window, max bool) Value {
	d := n.dims[x]
	h, ww, ok := w.output(d)
	if !ok || w.PadH >= w.R || w.PadW >= w.S {
		return n.fail("pool", "a window of %s does not fit an input of %v", w.describe(), d)
	}
	return n.add(pool{w: w, max: max}, Dims{h, ww, d.C}, x)
}

// Dropout zeroes elements with probability p while training and scales the others by 1/(1-p).
func (n *Network) Dropout(x Value, p float64) Value {
	if !(p >= 0 && p < 1) {
		return n.fail("dropout", "probability %v: must be at least 0 and below 1", p)
	}
	if p == 0 {
		return x
	}
	layer := 0
	for _, nd := range n.nodes {
		if _, ok := nd.op.(dropout); ok {
			layer++
		}
	}
	return n.add(dropout{p: p, layer: layer}, n.dims[x], x)
}

// Build finishes the network with x as its logits.
func (n *Network) Build(x Value) (*Network, error) {
	if n.err == nil && n.dims[x] != (Dims{1, 1, n.Classes}) {
		n.fail("output", "size %v: must be one logit for each of the %d classes", n.dims[x], n.Classes)
	}
	n.output = x
	n.checkUses()
	return n, n.err
}

// checkUses refuses layers whose result nobody reads, and logits that a layer reads on.
func (n *Network) checkUses() {
	used := make([]bool, len(n.dims))
	for _, nd := range n.nodes {
		for _, v := range nd.in {
			used[v] = true
		}
	}
	for v := range n.dims {
		if n.err == nil && used[v] == (Value(v) == n.output) {
			n.fail("output", "every layer but the last must be read by another, and the last by none: value %d of %d is not", v, len(n.dims))
		}
	}
}

// ParamCells is the size of the parameter memory, alignment included.
func (n *Network) ParamCells() int {
	if len(n.Params) == 0 {
		return 0
	}
	last := n.Params[len(n.Params)-1]
	return align(last.Offset + last.Size())
}

// ParamCount is the number of trainable parameters.
func (n *Network) ParamCount() int {
	total := 0
	for _, p := range n.Params {
		total += p.Size()
	}
	return total
}

// StateCells is the size of the running statistics' memory, alignment included.
func (n *Network) StateCells() int {
	if len(n.Norms) == 0 {
		return 0
	}
	last := n.Norms[len(n.Norms)-1]
	return align(last.Offset + 2*last.C)
}

func (n *Network) param(p Param) int {
	p.Offset = n.ParamCells()
	n.Params = append(n.Params, p)
	return len(n.Params) - 1
}

func (n *Network) add(o op, d Dims, in ...Value) Value {
	out := Value(len(n.dims))
	n.dims = append(n.dims, d)
	n.nodes = append(n.nodes, node{o, in, out})
	return out
}

// fail records the first error and returns the input, so that building can go on.
func (n *Network) fail(where, format string, args ...any) Value {
	if n.err == nil {
		n.err = fmt.Errorf("network %s: %s: %s", n.Name, where, fmt.Sprintf(format, args...))
	}
	return 0
}

// align rounds up to 16 cells: a cache line, and a vector of every instruction set.
func align(cells int) int { return (cells + 15) &^ 15 }

// The memories a Program runs over. Compile fills in references to these; whoever runs a pass
// supplies them.
const (
	ParamBase   kernels.Base = iota // parameters
	GradBase                        // gradient sums, laid out like the parameters
	StateBase                       // running statistics
	StatsBase                       // batch statistics of one leaf
	ArenaBase                       // activations and scratch of one Program
	LeafBase                        // one leaf's samples and results; see Leaf
	ImageBase                       // the data set's images, in bytes
	LabelBase                       // the data set's labels
	NormalBase                      // how pixels become inputs and back; see Normal
	TangentBase                     // direction of a Hessian-vector product, laid out like the parameters
	ProductBase                     // Hessian-vector product, laid out like the parameters
	FreeBase                        // first base that no Program uses
)
