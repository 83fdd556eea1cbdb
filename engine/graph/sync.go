package graph

import "broadside/kernels"

// A synced Program normalises by statistics that several leaves share. It stops at every batch normalisation, twice: in
// Forward after a leaf has left its statistics at PartBase, and in Backward after it has left its sums there. What
// runs it combines the leaves' at JointBase, all leaves alike, and goes on.

// The memories of a synced Program, in the places of those of the tangent passes, which it does not have.
const (
	PartBase  = TangentBase // what a leaf has found: [2][c]
	JointBase = ProductBase // the same of all leaves
)

// Cut is a place where a synced Program stops.
type Cut struct {
	Calls    int  // calls of Forward and then Backward in front of it
	Backward bool // sums, or else mean and biased variance
	C        int
	Values   int         // of a leaf, per channel
	Stats    kernels.Ref // mean and unbiased variance of all leaves, for the fold
}

// Combine returns the call that combines the statistics of so many leaves, in blocks of rows of `stride` cells.
func (u Cut) Combine(leaves, blocks, stride int) kernels.Call {
	return kernels.Call{Kernel: kernels.BatchNormCombine, Shape: kernels.Combine{Parts: i32(leaves), C: i32(u.C), Blocks: i32(blocks),
		Stride: i32(stride), Values: int64(u.Values), Variances: flag(!u.Backward)}, Args: []kernels.Ref{{Base: PartBase}, {Base: JointBase}, u.Stats}}
}

// cut stops the pass.
func (c *compiler) cut(s kernels.BatchNorm, stats kernels.Ref) {
	c.cuts = append(c.cuts, Cut{Calls: len(c.calls[forward]) + len(c.calls[backward]), Backward: c.pass == backward,
		C: int(s.C), Values: int(s.N) * int(s.HW), Stats: stats})
}

// syncForward finds the statistics of the leaf and stops. What follows normalises by the joint ones as an evaluation
// does by the running ones.
func (o norm) syncForward(c *compiler, n node, s kernels.BatchNorm, stats kernels.Ref) (rest kernels.BatchNorm, joint kernels.Ref) {
	rest, s.Synced, s.ReLU = s, 1, 0
	c.call(kernels.BatchNormForward, s, c.value[n.in[0]], c.param(o.gamma, ParamBase), c.param(o.beta, ParamBase),
		kernels.None, kernels.None, kernels.None, kernels.None, kernels.Ref{Base: PartBase}, kernels.None)
	c.cut(s, stats)
	rest.Frozen = 1
	return rest, kernels.Ref{Base: JointBase}
}

// syncBackward adds the leaf to the gradients of scale and shift, finds its sums, stops, and goes on with the joint ones.
func (o norm) syncBackward(c *compiler, n node, s kernels.BatchNorm, dx, dres kernels.Ref) {
	call := func(s kernels.BatchNorm, dx, dres, dgamma, dbeta, sums kernels.Ref) {
		c.call(kernels.BatchNormBackward, s, c.value[n.in[0]], o.output(c, n), c.grad[n.out], c.param(o.gamma, ParamBase),
			kernels.None, c.load(n.out, "saved"), dx, dres, dgamma, dbeta, sums)
	}
	sums, given := s, s
	sums.Frozen, sums.Accumulate, given.Synced = 1, 0, 1
	call(sums, kernels.None, kernels.None, c.paramGrad(o.gamma), c.paramGrad(o.beta), kernels.Ref{Base: PartBase})
	c.cut(s, kernels.None)
	call(given, dx, dres, kernels.None, kernels.None, kernels.Ref{Base: JointBase})
}
