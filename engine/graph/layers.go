package graph

import "broadside/kernels"

// product emits the calls of a bilinear layer y = W * x + b, optionally followed by ReLU: a convolution,
// or a linear layer, which is a 1x1 convolution of the flattened sample. ReLU's mask is applied to the
// gradient in place: the masked gradient is what every later use wants.
type product struct {
	w            Window
	groups       int
	linear       bool
	weight, bias int // indices of parameters; bias may be -1
	standard     *standard
	relu         bool
}

func (o product) withReLU() op { o.relu = true; return o }

func (o product) shape(c *compiler, n node) kernels.Conv2D {
	in, out := c.net.dims[n.in[0]], c.net.dims[n.out]
	if o.linear {
		in = Dims{1, 1, in.Elems()}
	}
	return kernels.Conv2D{N: i32(c.opt.N), H: i32(in.H), W: i32(in.W), C: i32(in.C), K: i32(out.C),
		R: i32(o.w.R), S: i32(o.w.S), StrideH: i32(o.w.StrideH), StrideW: i32(o.w.StrideW),
		PadH: i32(o.w.PadH), PadW: i32(o.w.PadW), Groups: i32(o.groups), OH: i32(out.H), OW: i32(out.W),
		Precision: c.opt.Precision}
}

func (o product) forward(c *compiler, n node) {
	s := o.shape(c, n)
	s.ReLU = flag(o.relu)
	o.standardize(c, n)
	c.value[n.out] = c.activation(n.out)
	c.call(kernels.Conv2DForward, s, c.value[n.in[0]], o.weights(c, n), c.param(o.bias, ParamBase), c.value[n.out])
}

func (o product) backward(c *compiler, n node) {
	dy := c.grad[n.out]
	o.mask(c, n, dy)
	if c.opt.ParamGrads || c.opt.Tangent && o.standard != nil {
		c.call(kernels.Conv2DBackwardWeight, o.shape(c, n), c.value[n.in[0]], dy, o.weightGrad(c, n), c.paramGrad(o.bias))
		o.standardizeBackward(c, n)
	}
	if dx, acc, ok := c.gradOf(n.in[0]); ok {
		s := o.shape(c, n)
		s.Accumulate = acc
		c.call(kernels.Conv2DBackwardInput, s, dy, o.weights(c, n), dx)
	}
}

// tangentForward: R{y} = W * R{x} + V * x + v_b.
func (o product) tangentForward(c *compiler, n node) {
	ty := c.activation(n.out)
	c.tangent[n.out] = ty
	o.standardizeTangent(c, n)
	c.call(kernels.Conv2DForward, o.shape(c, n), c.value[n.in[0]], o.weightsTangent(c, n), c.param(o.bias, TangentBase), ty)
	if tx := c.tangent[n.in[0]]; !tx.IsNone() {
		s := o.shape(c, n)
		s.Accumulate = 1
		c.call(kernels.Conv2DForward, s, tx, o.weights(c, n), kernels.None, ty)
	}
	o.mask(c, n, ty)
}

// tangentBackward: Hv_W = R{dy} x + dy R{x}, Hv_b = sum R{dy}, R{dx} = W' * R{dy} + V' * dy.
func (o product) tangentBackward(c *compiler, n node) {
	dy, tdy := c.grad[n.out], c.gradDot[n.out]
	o.mask(c, n, tdy)
	hw := o.weightProduct(c, n)
	c.call(kernels.Conv2DBackwardWeight, o.shape(c, n), c.value[n.in[0]], tdy, hw, c.param(o.bias, ProductBase))
	if tx := c.tangent[n.in[0]]; !tx.IsNone() {
		c.call(kernels.Conv2DBackwardWeight, o.shape(c, n), tx, dy, hw, kernels.None)
	}
	o.standardizeProduct(c, n)
	if tdx, acc, ok := c.gradOf(n.in[0]); ok {
		s := o.shape(c, n)
		s.Accumulate = acc
		c.call(kernels.Conv2DBackwardInput, s, tdy, o.weights(c, n), tdx)
		s.Accumulate = 1
		c.call(kernels.Conv2DBackwardInput, s, dy, o.weightsTangent(c, n), tdx)
	}
}

// mask zeroes d where the fused ReLU was off.
func (o product) mask(c *compiler, n node, d kernels.Ref) {
	if o.relu {
		c.call(kernels.ReLUBackward, kernels.Vector{Count: int64(c.elems(n.out))}, c.value[n.out], d, d)
	}
}

// norm is a batch normalisation, optionally followed by a residual add (second input) and ReLU.
type norm struct {
	index       int // in Network.Norms
	gamma, beta int
	relu        bool
}

func (o norm) withReLU() op { o.relu = true; return o }

func (o norm) shape(c *compiler, n node) kernels.BatchNorm {
	d := c.net.dims[n.out]
	return kernels.BatchNorm{N: i32(c.opt.N), HW: i32(d.H * d.W), C: i32(d.C), Ghost: i32(c.opt.Ghost),
		Frozen: flag(c.opt.Frozen), ReLU: flag(o.relu), Eps: BatchNormEps}
}

func (o norm) forward(c *compiler, n node) {
	o = o.ofSet(c)
	s := o.shape(c, n)
	perGhost := s.Ghosts() * 2 * int(s.C)
	layer := c.net.Norms[o.index]
	running := kernels.Ref{Base: StateBase, Offset: int64(layer.Offset)}
	stats := kernels.None
	if !c.opt.Frozen && c.opt.Attack == nil {
		stats = kernels.Ref{Base: StatsBase, Offset: int64(c.stats)}
		c.stats += align(perGhost)
		c.fold = append(c.fold, kernels.Call{Kernel: kernels.BatchNormFold,
			Shape: kernels.Fold{Ghosts: i32(s.Ghosts()), C: s.C, Momentum: BatchNormMomentum}, Args: []kernels.Ref{stats, running}})
	}
	if !c.opt.Frozen {
		running = kernels.None
	}
	if c.opt.Sync {
		s, running = o.syncForward(c, n, s, stats)
		stats = kernels.None
	}
	c.value[n.out] = c.activation(n.out)
	c.call(kernels.BatchNormForward, s, c.value[n.in[0]], c.param(o.gamma, ParamBase), c.param(o.beta, ParamBase),
		residual(n, c.value), kernels.None, running, c.value[n.out], c.save(n.out, "saved", perGhost), stats)
}

// BatchNormMomentum is the weight of a new statistic in the running ones, PyTorch's default.
const BatchNormMomentum = 0.1

func (o norm) backward(c *compiler, n node) {
	o = o.ofSet(c)
	s := o.shape(c, n)
	dx, dres, acc := o.targets(c, n)
	s.Accumulate = acc
	if c.opt.Sync {
		o.syncBackward(c, n, s, dx, dres)
		return
	}
	c.call(kernels.BatchNormBackward, s, c.value[n.in[0]], o.output(c, n), c.grad[n.out], c.param(o.gamma, ParamBase),
		kernels.None, c.load(n.out, "saved"), dx, dres, c.paramGrad(o.gamma), c.paramGrad(o.beta),
		c.save(n.out, "sums", s.Ghosts()*2*int(s.C)))
}

func (o norm) tangentForward(c *compiler, n node) {
	o = o.ofSet(c)
	s := o.shape(c, n)
	tx := c.zeroIfNone(n.in[0])
	tres := kernels.None
	if len(n.in) > 1 {
		tres = c.zeroIfNone(n.in[1])
	}
	c.tangent[n.out] = c.activation(n.out)
	c.call(kernels.BatchNormTangentForward, s, c.value[n.in[0]], o.output(c, n), c.param(o.gamma, ParamBase), kernels.None,
		c.load(n.out, "saved"), tx, c.param(o.gamma, TangentBase), c.param(o.beta, TangentBase), tres,
		c.tangent[n.out], c.save(n.out, "tsaved", s.Ghosts()*2*int(s.C)))
}

func (o norm) tangentBackward(c *compiler, n node) {
	o = o.ofSet(c)
	s := o.shape(c, n)
	tdx, tdres, acc := o.targets(c, n)
	s.Accumulate = acc
	c.call(kernels.BatchNormTangentBackward, s, c.value[n.in[0]], o.output(c, n), c.grad[n.out], c.param(o.gamma, ParamBase),
		kernels.None, c.load(n.out, "saved"), c.load(n.out, "sums"), c.zeroIfNone(n.in[0]), c.load(n.out, "tsaved"),
		c.gradDot[n.out], c.param(o.gamma, TangentBase), tdx, tdres, c.param(o.gamma, ProductBase), c.param(o.beta, ProductBase))
}

// targets returns where the gradients of the input and the residual go, with the accumulate bits.
func (o norm) targets(c *compiler, n node) (dx, dres kernels.Ref, bits int32) {
	dres = kernels.None
	if len(n.in) > 1 {
		r, acc, _ := c.gradOf(n.in[1])
		dres, bits = r, acc<<1
	}
	dx, acc, _ := c.gradOf(n.in[0])
	return dx, dres, bits | acc
}

// output returns y where the kernels need it for ReLU's mask.
func (o norm) output(c *compiler, n node) kernels.Ref {
	if o.relu {
		return c.value[n.out]
	}
	return kernels.None
}

func residual(n node, refs []kernels.Ref) kernels.Ref {
	if len(n.in) < 2 {
		return kernels.None
	}
	return refs[n.in[1]]
}

// zeroIfNone returns the tangent of v. The input's tangent is zero and has no buffer; where a kernel
// needs one all the same, a buffer is zeroed for it.
func (c *compiler) zeroIfNone(v Value) kernels.Ref {
	if c.tangent[v].IsNone() {
		c.tangent[v] = c.activation(v)
		c.call(kernels.Axpby, kernels.Vector{Count: int64(c.elems(v))}, c.value[v], c.tangent[v])
	}
	return c.tangent[v]
}

// relu is max(0, x) where it could not be fused.
type relu struct{}

func (relu) forward(c *compiler, n node) {
	c.value[n.out] = c.activation(n.out)
	c.call(kernels.ReLUForward, kernels.Vector{Count: int64(c.elems(n.out))}, c.value[n.in[0]], c.value[n.out])
}

func (relu) backward(c *compiler, n node) {
	if dx, acc, ok := c.gradOf(n.in[0]); ok {
		c.call(kernels.ReLUBackward, kernels.Vector{Count: int64(c.elems(n.out)), B: float64(acc)}, c.value[n.out], c.grad[n.out], dx)
	}
}

func (relu) tangentForward(c *compiler, n node) {
	if tx := c.tangent[n.in[0]]; !tx.IsNone() {
		c.tangent[n.out] = c.activation(n.out)
		c.call(kernels.ReLUBackward, kernels.Vector{Count: int64(c.elems(n.out))}, c.value[n.out], tx, c.tangent[n.out])
	}
}

func (relu) tangentBackward(c *compiler, n node) {
	if tdx, acc, ok := c.gradOf(n.in[0]); ok {
		c.call(kernels.ReLUBackward, kernels.Vector{Count: int64(c.elems(n.out)), B: float64(acc)}, c.value[n.out], c.gradDot[n.out], tdx)
	}
}

// add is factor a + b where it could not be fused.
type add struct{ factor float64 }

func (o add) forward(c *compiler, n node) {
	c.value[n.out] = c.activation(n.out)
	c.call(kernels.Add, o.sum(c, n), c.value[n.in[0]], c.value[n.in[1]], c.value[n.out])
}

func (o add) backward(c *compiler, n node) { o.spread(c, n, c.grad[n.out]) }

func (o add) tangentForward(c *compiler, n node) {
	a, b := c.tangent[n.in[0]], c.tangent[n.in[1]]
	switch {
	case a.IsNone() && b.IsNone():
		return
	case a.IsNone():
		c.tangent[n.out] = b
		return
	case b.IsNone() && o.factor == 1:
		c.tangent[n.out] = a
		return
	}
	c.tangent[n.out] = c.activation(n.out)
	if b.IsNone() {
		c.call(kernels.Axpby, kernels.Vector{Count: int64(c.elems(n.out)), A: o.factor}, a, c.tangent[n.out])
		return
	}
	c.call(kernels.Add, o.sum(c, n), a, b, c.tangent[n.out])
}

func (o add) tangentBackward(c *compiler, n node) { o.spread(c, n, c.gradDot[n.out]) }

func (o add) sum(c *compiler, n node) kernels.Vector {
	return kernels.Vector{Count: int64(c.elems(n.out)), A: o.factor, B: 1}
}

// spread hands the gradient of a sum to its terms.
func (o add) spread(c *compiler, n node, dy kernels.Ref) {
	for i, v := range n.in {
		if dx, acc, ok := c.gradOf(v); ok {
			factor := []float64{o.factor, 1}[i]
			c.call(kernels.Axpby, kernels.Vector{Count: int64(c.elems(v)), A: factor, B: float64(acc)}, dy, dx)
		}
	}
}

// scale is a x for a constant a.
type scale struct{ a float64 }

func (o scale) forward(c *compiler, n node) {
	c.value[n.out] = c.activation(n.out)
	o.multiply(c, n, c.value[n.in[0]], 0, c.value[n.out])
}

func (o scale) backward(c *compiler, n node)        { o.route(c, n, c.grad[n.out]) }
func (o scale) tangentBackward(c *compiler, n node) { o.route(c, n, c.gradDot[n.out]) }

func (o scale) tangentForward(c *compiler, n node) {
	if tx := c.tangent[n.in[0]]; !tx.IsNone() {
		c.tangent[n.out] = c.activation(n.out)
		o.multiply(c, n, tx, 0, c.tangent[n.out])
	}
}

func (o scale) route(c *compiler, n node, dy kernels.Ref) {
	if dx, acc, ok := c.gradOf(n.in[0]); ok {
		o.multiply(c, n, dy, acc, dx)
	}
}

// multiply emits to = a from, added to what is there where keep is 1.
func (o scale) multiply(c *compiler, n node, from kernels.Ref, keep int32, to kernels.Ref) {
	c.call(kernels.Axpby, kernels.Vector{Count: int64(c.elems(n.out)), A: o.a, B: float64(keep)}, from, to)
}

// pool is a max or average pooling.
type pool struct {
	w   Window
	max bool
}

func (o pool) shape(c *compiler, n node) kernels.Pool {
	in, out := c.net.dims[n.in[0]], c.net.dims[n.out]
	return kernels.Pool{N: i32(c.opt.N), H: i32(in.H), W: i32(in.W), C: i32(in.C), R: i32(o.w.R), S: i32(o.w.S),
		StrideH: i32(o.w.StrideH), StrideW: i32(o.w.StrideW), PadH: i32(o.w.PadH), PadW: i32(o.w.PadW),
		OH: i32(out.H), OW: i32(out.W)}
}

func (o pool) forward(c *compiler, n node) {
	c.value[n.out] = c.activation(n.out)
	if o.max {
		c.call(kernels.MaxPoolForward, o.shape(c, n), c.value[n.in[0]], c.value[n.out], c.save(n.out, "index", c.elems(n.out)))
		return
	}
	c.call(kernels.AvgPoolForward, o.shape(c, n), c.value[n.in[0]], c.value[n.out])
}

func (o pool) backward(c *compiler, n node)        { o.route(c, n, c.grad[n.out]) }
func (o pool) tangentBackward(c *compiler, n node) { o.route(c, n, c.gradDot[n.out]) }

func (o pool) route(c *compiler, n node, dy kernels.Ref) {
	dx, acc, ok := c.gradOf(n.in[0])
	if !ok {
		return
	}
	s := o.shape(c, n)
	s.Accumulate = acc
	if o.max {
		c.call(kernels.MaxPoolBackward, s, dy, c.load(n.out, "index"), dx)
		return
	}
	c.call(kernels.AvgPoolBackward, s, dy, dx)
}

func (o pool) tangentForward(c *compiler, n node) {
	tx := c.tangent[n.in[0]]
	if tx.IsNone() {
		return
	}
	c.tangent[n.out] = c.activation(n.out)
	if o.max {
		c.call(kernels.MaxPoolTangent, o.shape(c, n), tx, c.load(n.out, "index"), c.tangent[n.out])
		return
	}
	c.call(kernels.AvgPoolForward, o.shape(c, n), tx, c.tangent[n.out])
}

// dropout draws its mask from the leaf's key and sample indices, so the same mask comes back in
// every pass without being stored.
type dropout struct {
	p     float64
	layer int
}

func (o dropout) apply(c *compiler, n node, from, to kernels.Ref) {
	c.call(kernels.Dropout, kernels.DropoutShape{N: i32(c.opt.N), Per: i32(c.net.dims[n.out].Elems()), Layer: i32(o.layer), P: o.p},
		from, c.leaf.Index(), c.leaf.Key(), to)
}

func (o dropout) forward(c *compiler, n node) {
	if c.opt.Frozen {
		c.value[n.out] = c.value[n.in[0]]
		return
	}
	c.value[n.out] = c.activation(n.out)
	o.apply(c, n, c.value[n.in[0]], c.value[n.out])
}

func (o dropout) backward(c *compiler, n node)        { o.route(c, n, c.grad[n.out]) }
func (o dropout) tangentBackward(c *compiler, n node) { o.route(c, n, c.gradDot[n.out]) }

func (o dropout) route(c *compiler, n node, dy kernels.Ref) {
	dx, acc, ok := c.gradOf(n.in[0])
	if !ok {
		return
	}
	from := dy
	if !c.opt.Frozen {
		from = c.activation(n.out)
		o.apply(c, n, dy, from)
	}
	c.call(kernels.Axpby, kernels.Vector{Count: int64(c.elems(n.out)), A: 1, B: float64(acc)}, from, dx)
}

func (o dropout) tangentForward(c *compiler, n node) {
	tx := c.tangent[n.in[0]]
	switch {
	case tx.IsNone():
	case c.opt.Frozen:
		c.tangent[n.out] = tx
	default:
		c.tangent[n.out] = c.activation(n.out)
		o.apply(c, n, tx, c.tangent[n.out])
	}
}

// detach is the identity, whose gradient is zero.
type detach struct{}

func (detach) forward(c *compiler, n node)        { c.value[n.out] = c.value[n.in[0]] }
func (detach) backward(*compiler, node)           {}
func (detach) tangentForward(c *compiler, n node) { c.tangent[n.out] = c.tangent[n.in[0]] }
func (detach) tangentBackward(*compiler, node)    {}

// estimate is the identity, whose gradient is the forward gradient of Ren et al. 2023: every sample's own, projected on a
// random direction of its own.
type estimate struct{ layer int }

func (estimate) forward(c *compiler, n node) { c.value[n.out] = c.value[n.in[0]] }

func (o estimate) backward(c *compiler, n node) {
	dx, acc, ok := c.gradOf(n.in[0])
	if !ok {
		return
	}
	dy := c.grad[n.out]
	c.call(kernels.ForwardGradient, kernels.DropoutShape{N: i32(c.opt.N), Per: i32(c.net.dims[n.out].Elems()), Layer: i32(o.layer)},
		dy, c.leaf.Index(), c.leaf.Key(), dy)
	c.call(kernels.Axpby, kernels.Vector{Count: int64(c.elems(n.out)), A: 1, B: float64(acc)}, dy, dx)
}

func (estimate) tangentForward(c *compiler, n node) { c.tangent[n.out] = c.tangent[n.in[0]] }
func (estimate) tangentBackward(*compiler, node)    {} // refused by Options.check
