package graph

import (
	"fmt"
	"math"
)

// OpKind says what a layer computes.
type OpKind int

// The kinds of layers.
const (
	ConvLayer     OpKind = iota // a convolution
	LinearLayer                 // a fully connected layer over all elements of a sample
	NormLayer                   // a batch normalisation
	ReLULayer                   // max(0, x)
	AddLayer                    // Factor times the first input, plus the second
	ScaleLayer                  // Factor times the input
	MaxPoolLayer                // positions in the padding never win
	AvgPoolLayer                // positions in the padding count as zeros
	IdentityLayer               // what passes its input on where nothing is trained: dropout, Detach, Estimated
)

// Operation is a layer of a network, for those who write networks down in other forms. What its kind has no use for is zero,
// places of parameters that it lacks are -1.
type Operation struct {
	Kind   OpKind
	In     []Value
	Out    Value
	Window Window // of a convolution or pooling
	Groups int    // of a convolution
	Factor float64

	// Places in Network.Params, and in Network.Norms. Gain is that of standardised weights.
	Weight, Bias, Gain, Norm int
}

// Operations returns the layers in the order in which they are computed. Batch normalisations have their first parameter set.
func (n *Network) Operations() ([]Operation, error) {
	var out []Operation
	for _, nd := range n.nodes {
		l := Operation{In: nd.in, Out: nd.out, Weight: -1, Bias: -1, Gain: -1, Norm: -1}
		switch o := nd.op.(type) {
		case product:
			o.describe(&l)
		case norm:
			l.Kind, l.Weight, l.Bias, l.Norm = NormLayer, o.gamma, o.beta, o.index
		case relu:
			l.Kind = ReLULayer
		case add:
			l.Kind, l.Factor = AddLayer, o.factor
		case scale:
			l.Kind, l.Factor = ScaleLayer, o.a
		case pool:
			l.Kind, l.Window = AvgPoolLayer, o.w
			if o.max {
				l.Kind = MaxPoolLayer
			}
		case dropout, detach, estimate:
			l.Kind = IdentityLayer
		default:
			return nil, fmt.Errorf("network %s: a layer of type %T has no description", n.Name, o)
		}
		out = append(out, l)
	}
	return out, nil
}

func (o product) describe(l *Operation) {
	l.Kind, l.Window, l.Groups, l.Weight, l.Bias = ConvLayer, o.w, o.groups, o.weight, o.bias
	if o.linear {
		l.Kind = LinearLayer
	}
	if o.standard != nil {
		l.Gain, l.Factor = o.standard.gain, o.standard.factor
	}
}

// Logits returns the values that have losses: the local logits, if there are any, and the output, which is the last.
func (n *Network) Logits() []Value { return append(append([]Value(nil), n.locals...), n.output) }

// Heads returns the places of the parameters of the layers that the logits come from, which depend on the classes.
func (n *Network) Heads() (params []int) {
	for _, v := range n.Logits() {
		nd := n.made(v)
		if _, ok := nd.op.(scale); ok {
			nd = n.made(nd.in[0])
		}
		if o, ok := nd.op.(product); ok {
			params = append(params, o.weight)
			if o.bias >= 0 {
				params = append(params, o.bias)
			}
		}
	}
	return params
}

// Weights returns the weights that a convolution or linear layer multiplies with, [K][R][S][C]: the parameters, or those
// standardised, as the kernels do it.
func (n *Network) Weights(l Operation, params []float32) []float32 {
	p := n.Params[l.Weight]
	w := params[p.Offset : p.Offset+p.Size()]
	if l.Gain < 0 {
		return w
	}
	fanIn := p.R * p.S * p.C
	gains := params[n.Params[l.Gain].Offset:]
	out := make([]float32, len(w))
	for k := range p.K {
		mean, square := 0.0, 0.0
		for _, v := range w[k*fanIn : (k+1)*fanIn] {
			mean += float64(v) / float64(fanIn)
		}
		for _, v := range w[k*fanIn : (k+1)*fanIn] {
			square += (float64(v) - mean) * (float64(v) - mean) / float64(fanIn)
		}
		by := l.Factor * float64(gains[k]) / math.Sqrt((square+BatchNormEps)*float64(fanIn))
		for i := k * fanIn; i < (k+1)*fanIn; i++ {
			out[i] = float32((float64(w[i]) - mean) * by)
		}
	}
	return out
}
