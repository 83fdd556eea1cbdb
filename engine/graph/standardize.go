package graph

import (
	"math"

	"broadside/kernels"
)

// standard is the scaled weight standardisation of a convolution (Brock, De and Smith 2021): it convolves with
//
//	factor gain (W - mean) / (std sqrt(fan in))
//
// where mean and standard deviation are those of an output channel's weights, and every output channel has a gain.
// So outputs have variance factor^2 gain^2 where inputs are independent of variance 1.
//
// It is a batch normalisation of the weights [K][R S C][1]: an output channel is a ghost of one sample, with a
// parameter set of its own. Batch norm's kernels compute it and all its derivatives; what is left is a scale.
type standard struct {
	gain   int // index of a parameter
	factor float64
}

func (o product) standardShape(c *compiler) kernels.BatchNorm {
	w := c.net.Params[o.weight]
	return kernels.BatchNorm{N: i32(w.K), HW: i32(w.R * w.S * w.C), C: 1, Ghost: 1, Eps: BatchNormEps}
}

// weights returns the weights that the product takes: the parameters, or those standardised.
func (o product) weights(c *compiler, n node) kernels.Ref {
	if o.standard == nil {
		return c.param(o.weight, ParamBase)
	}
	return c.load(n.out, "weights")
}

// standardize emits the standardised weights.
func (o product) standardize(c *compiler, n node) {
	if o.standard == nil {
		return
	}
	s := o.standardShape(c)
	sets, zeros := c.outputChannels()
	to := c.save(n.out, "weights", c.net.Params[o.weight].Size())
	c.call(kernels.BatchNormForward, s, c.param(o.weight, ParamBase), c.param(o.standard.gain, ParamBase), zeros,
		kernels.None, sets, kernels.None, to, c.save(n.out, "weights.saved", 2*int(s.N)), kernels.None)
	o.scale(c, to)
}

// weightGrad returns where the gradient of the product's weights is to be added.
func (o product) weightGrad(c *compiler, n node) kernels.Ref {
	if o.standard == nil {
		return c.paramGrad(o.weight)
	}
	return o.cleared(c, n, "dweights")
}

// standardizeBackward takes the gradient that weightGrad has got on to weights and gain.
func (o product) standardizeBackward(c *compiler, n node) {
	if o.standard == nil {
		return
	}
	s := o.standardShape(c)
	s.Accumulate = 1
	sets, _ := c.outputChannels()
	dy := c.load(n.out, "dweights")
	o.scale(c, dy)
	c.call(kernels.BatchNormBackward, s, c.param(o.weight, ParamBase), kernels.None, dy, c.param(o.standard.gain, ParamBase),
		sets, c.load(n.out, "weights.saved"), c.paramGrad(o.weight), kernels.None, c.paramGrad(o.standard.gain), kernels.None,
		c.save(n.out, "weights.sums", 2*int(s.N)))
}

// weightsTangent returns R{weights} of the product.
func (o product) weightsTangent(c *compiler, n node) kernels.Ref {
	if o.standard == nil {
		return c.param(o.weight, TangentBase)
	}
	return c.load(n.out, "tweights")
}

// standardizeTangent emits R{weights}.
func (o product) standardizeTangent(c *compiler, n node) {
	if o.standard == nil {
		return
	}
	s := o.standardShape(c)
	sets, zeros := c.outputChannels()
	to := c.save(n.out, "tweights", c.net.Params[o.weight].Size())
	c.call(kernels.BatchNormTangentForward, s, c.param(o.weight, ParamBase), kernels.None, c.param(o.standard.gain, ParamBase),
		sets, c.load(n.out, "weights.saved"), c.param(o.weight, TangentBase), c.param(o.standard.gain, TangentBase), zeros,
		kernels.None, to, c.save(n.out, "weights.tsaved", 2*int(s.N)))
	o.scale(c, to)
}

// weightProduct returns where R{dweights} is to be added.
func (o product) weightProduct(c *compiler, n node) kernels.Ref {
	if o.standard == nil {
		return c.param(o.weight, ProductBase)
	}
	return o.cleared(c, n, "tdweights")
}

// standardizeProduct takes what weightProduct has got on to the Hessian-vector product.
func (o product) standardizeProduct(c *compiler, n node) {
	if o.standard == nil {
		return
	}
	s := o.standardShape(c)
	s.Accumulate = 1
	sets, _ := c.outputChannels()
	tdy := c.load(n.out, "tdweights")
	o.scale(c, tdy)
	unused := c.buffer(int(s.N)) // the product of the shift that these kernels could learn
	c.call(kernels.BatchNormTangentBackward, s, c.param(o.weight, ParamBase), kernels.None, c.load(n.out, "dweights"),
		c.param(o.standard.gain, ParamBase), sets, c.load(n.out, "weights.saved"), c.load(n.out, "weights.sums"),
		c.param(o.weight, TangentBase), c.load(n.out, "weights.tsaved"), tdy, c.param(o.standard.gain, TangentBase),
		c.param(o.weight, ProductBase), kernels.None, c.param(o.standard.gain, ProductBase), unused)
}

// cleared returns a new tensor of the weights' size that is zeroed.
func (o product) cleared(c *compiler, n node, name string) kernels.Ref {
	size := c.net.Params[o.weight].Size()
	to := c.save(n.out, name, size)
	c.call(kernels.Axpby, kernels.Vector{Count: int64(size)}, c.param(o.weight, ParamBase), to)
	return to
}

// scale emits the factor that batch norm's kernels do not have.
func (o product) scale(c *compiler, to kernels.Ref) {
	w := c.net.Params[o.weight]
	by := o.standard.factor / math.Sqrt(float64(w.R*w.S*w.C))
	c.call(kernels.Axpby, kernels.Vector{Count: int64(w.Size()), B: by}, to, to)
}

// outputChannels returns the numbers 0, 1, 2, ..., enough for the output channels of any layer, and as many zeros.
// A max pooling with a window of one pixel leaves the numbers: they are the positions of its maxima.
func (c *compiler) outputChannels() (numbers, zeros kernels.Ref) {
	if !c.numbers.IsNone() {
		return c.numbers, c.zeros
	}
	most := 0
	for _, p := range c.net.Params {
		most = max(most, p.K)
	}
	c.numbers, c.zeros = c.buffer(most), c.buffer(most)
	c.call(kernels.Axpby, kernels.Vector{Count: int64(most)}, c.value[0], c.zeros)
	c.call(kernels.MaxPoolForward, kernels.Pool{N: 1, H: i32(most), W: 1, C: 1, R: 1, S: 1, StrideH: 1, StrideW: 1, OH: i32(most), OW: 1},
		c.zeros, c.buffer(most), c.numbers)
	return c.numbers, c.zeros
}
