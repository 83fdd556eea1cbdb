package graph

import (
	"errors"
	"maps"
	"slices"

	"broadside/kernels"
)

// BatchNormEps is the constant added to variances, PyTorch's default.
const BatchNormEps = 1e-5

// pass numbers the passes in the order in which they run.
type pass int

const (
	prologue pass = iota // attack only: save the clean input
	forward
	backward
	tangentForward
	tangentBackward
	epilogue // attack only: step
	passes
)

// op emits the calls of one layer, fused followers included.
type op interface {
	forward(c *compiler, n node)
	backward(c *compiler, n node)
	tangentForward(c *compiler, n node)
	tangentBackward(c *compiler, n node)
}

// virtualBase marks references to buffers that the planner has not placed yet: the buffer's number
// is added to it.
const virtualBase kernels.Base = 1 << 20

// buffer is an arena tensor before planning.
type buffer struct {
	cells       int
	first, last int // first and last call that touches it, over all passes
	offset      int
}

type compiler struct {
	net  *Network
	leaf Leaf
	opt  Options
	dev  Workspacer
	errs []error

	nodes   []node // after fusion
	calls   [passes][]kernels.Call
	pass    pass
	buffers []buffer

	value, tangent []kernels.Ref // of each value: x and R{x}
	grad, gradDot  []kernels.Ref // of each value: dx and R{dx}; None until something was written
	saved          map[Value]map[string]kernels.Ref
	logits         kernels.Ref
	prob           kernels.Ref
	numbers, zeros kernels.Ref // see outputChannels
	stats          int
	fold           []kernels.Call
	cuts           []Cut
}

func newCompiler(net *Network, leaf Leaf, o Options, dev Workspacer) *compiler {
	c := &compiler{net: net, leaf: leaf, opt: o, dev: dev, saved: map[Value]map[string]kernels.Ref{}, numbers: kernels.None, zeros: kernels.None}
	for range net.dims {
		c.value = append(c.value, kernels.None)
		c.tangent = append(c.tangent, kernels.None)
		c.grad = append(c.grad, kernels.None)
		c.gradDot = append(c.gradDot, kernels.None)
	}
	c.value[0] = leaf.X()
	nodes := net.nodes
	if !o.ForwardGradient {
		nodes = withoutEstimates(nodes)
	}
	c.nodes = fuse(nodes)
	return c
}

func (c *compiler) emit() {
	if c.opt.Attack != nil {
		c.attackInputs()
	}
	if c.opt.Persistent != nil {
		c.applyDelta()
	}
	c.pass = forward
	for _, n := range c.nodes {
		n.op.forward(c, n)
	}
	c.logits = c.value[c.net.output]
	c.losses()
	if c.opt.backward() {
		c.pass = backward
		for i := len(c.nodes) - 1; i >= 0; i-- {
			if n := c.nodes[i]; !c.grad[n.out].IsNone() { // not so before a Detach
				n.op.backward(c, n)
			}
		}
	}
	if c.opt.Tangent {
		c.pass = tangentForward
		for _, n := range c.nodes {
			n.op.tangentForward(c, n)
		}
		c.lossTangent()
		c.pass = tangentBackward
		for i := len(c.nodes) - 1; i >= 0; i-- {
			c.nodes[i].op.tangentBackward(c, c.nodes[i])
		}
	}
	if c.opt.Attack != nil {
		c.attackStep()
	}
	if c.opt.Persistent != nil {
		c.stepDelta()
	}
}

// losses emits the loss of the output, and those of local logits.
func (c *compiler) losses() {
	c.prob = c.loss(c.net.output, c.leaf.Loss(), c.leaf.Correct())
	if !c.net.HasLocal() {
		return
	}
	n, size := int64(c.opt.N), int64(c.opt.N*c.net.Classes)
	votes, share := c.buffer(int(size)), 1/float64(len(c.net.locals)+1)
	c.call(kernels.Axpby, kernels.Vector{Count: size, A: 1}, c.prob, votes)
	c.call(kernels.Axpby, kernels.Vector{Count: n, B: share}, c.leaf.Loss(), c.leaf.Loss())
	loss, correct := c.buffer(c.opt.N), c.buffer(c.opt.N)
	for _, v := range c.net.locals {
		prob := c.loss(v, loss, correct)
		c.call(kernels.Axpby, kernels.Vector{Count: size, A: 1, B: 1}, prob, votes)
		c.call(kernels.Axpby, kernels.Vector{Count: n, A: share, B: 1}, loss, c.leaf.Loss())
	}
	// The largest vote is also the largest logit, if votes are taken for logits.
	c.softmax(votes, 0, loss, c.leaf.Correct(), c.buffer(int(size)), kernels.None)
}

// locals are the local logits of a forward pass, for whoever reads them.
func (c *compiler) locals() (out []kernels.Ref) {
	if c.opt.backward() {
		return nil
	}
	for _, v := range c.net.locals {
		out = append(out, c.value[v])
	}
	return out
}

// loss emits the softmax cross-entropy of logits; its gradient comes with it where a backward pass follows.
func (c *compiler) loss(v Value, loss, correct kernels.Ref) (prob kernels.Ref) {
	size := c.opt.N * c.net.Classes
	prob = c.buffer(size)
	if c.opt.backward() {
		c.grad[v] = c.buffer(size)
	}
	c.softmax(c.value[v], c.opt.Smoothing, loss, correct, prob, c.grad[v])
	return prob
}

func (c *compiler) softmax(logits kernels.Ref, smoothing float64, loss, correct, prob, dlogits kernels.Ref) {
	c.call(kernels.SoftmaxXent, kernels.Softmax{N: i32(c.opt.N), Classes: i32(c.net.Classes), Smoothing: smoothing},
		logits, c.labels(), c.weight(), loss, correct, prob, dlogits)
}

// weight is where the samples' weights are, or None if all weigh 1.
func (c *compiler) weight() kernels.Ref {
	if !c.opt.Weighted {
		return kernels.None
	}
	return c.leaf.Weight()
}

func (c *compiler) lossTangent() {
	c.gradDot[c.net.output] = c.buffer(c.opt.N * c.net.Classes)
	c.call(kernels.SoftmaxXentTangent, kernels.Softmax{N: i32(c.opt.N), Classes: i32(c.net.Classes)},
		c.prob, c.weight(), c.tangent[c.net.output], c.gradDot[c.net.output])
}

// finish plans the arena and puts the Program together.
func (c *compiler) finish() (*Program, error) {
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	pinned := append([]kernels.Ref{c.logits}, c.locals()...)
	if c.opt.InputGrad {
		pinned = append(pinned, c.grad[0])
	}
	var inputs map[int]kernels.Ref
	if c.opt.KeepInputs {
		inputs = c.layerInputs()
		pinned = slices.AppendSeq(pinned, maps.Values(inputs))
	}
	p := &Program{Options: c.opt, Net: c.net, Leaf: c.leaf, StatsCells: c.stats, Fold: c.fold, Cuts: c.cuts}
	p.ArenaCells = c.plan(pinned)
	for weight, x := range inputs {
		inputs[weight] = c.place(x)
	}
	p.Inputs = inputs
	p.Logits = c.place(c.logits)
	for _, r := range c.locals() {
		p.Locals = append(p.Locals, c.place(r))
	}
	p.InputGrad = kernels.None
	if c.opt.InputGrad {
		p.InputGrad = c.place(c.grad[0])
	}
	p.Forward, p.Backward = c.calls[forward], c.calls[backward]
	p.TangentForward, p.TangentBackward = c.calls[tangentForward], c.calls[tangentBackward]
	c.attackPass(p)
	if c.opt.Persistent != nil {
		p.Forward = append(c.calls[prologue], p.Forward...)
		p.Backward = append(p.Backward, c.calls[epilogue]...)
	}
	return p, nil
}

// call emits a kernel call in the current pass, with workspace if the device wants some.
func (c *compiler) call(k kernels.Kernel, s kernels.Shape, args ...kernels.Ref) {
	cells, err := c.dev.Workspace(k, s)
	if err != nil {
		c.errs = append(c.errs, err)
		return
	}
	if cells > 0 {
		args = append(args, c.buffer(cells))
	}
	c.calls[c.pass] = append(c.calls[c.pass], kernels.Call{Kernel: k, Shape: s, Args: args})
}

// buffer returns a new arena tensor.
func (c *compiler) buffer(cells int) kernels.Ref {
	c.buffers = append(c.buffers, buffer{cells: cells})
	return kernels.Ref{Base: virtualBase + kernels.Base(len(c.buffers)-1)}
}

// activation returns a new arena tensor of a value's size.
func (c *compiler) activation(v Value) kernels.Ref { return c.buffer(c.elems(v)) }

func (c *compiler) elems(v Value) int { return c.opt.N * c.net.dims[v].Elems() }

// save returns a new named tensor that later passes find with load.
func (c *compiler) save(v Value, name string, cells int) kernels.Ref {
	if c.saved[v] == nil {
		c.saved[v] = map[string]kernels.Ref{}
	}
	r := c.buffer(cells)
	c.saved[v][name] = r
	return r
}

func (c *compiler) load(v Value, name string) kernels.Ref { return c.saved[v][name] }

// gradOf returns where the gradient of v (or its tangent) is to be written, and whether there is
// one already to be added to. Where nobody wants it, ok is false.
func (c *compiler) gradOf(v Value) (r kernels.Ref, accumulate int32, ok bool) {
	if v == 0 && (!c.opt.InputGrad || c.pass == tangentBackward) {
		return kernels.None, 0, false
	}
	grads := c.grad
	if c.pass == tangentBackward {
		grads = c.gradDot
	}
	if !grads[v].IsNone() {
		return grads[v], 1, true
	}
	grads[v] = c.activation(v)
	return grads[v], 0, true
}

// param, grad memory, direction and product share one layout.
func (c *compiler) param(i int, base kernels.Base) kernels.Ref {
	if i < 0 {
		return kernels.None
	}
	return kernels.Ref{Base: base, Offset: int64(c.net.Params[i].Offset)}
}

// paramGrad is param in the gradient memory, or None where no gradient is wanted.
func (c *compiler) paramGrad(i int) kernels.Ref {
	if !c.opt.ParamGrads {
		return kernels.None
	}
	return c.param(i, GradBase)
}

func i32(v int) int32 { return int32(v) }

func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}
