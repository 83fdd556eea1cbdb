package graph

import "broadside/kernels"

// Persistent is an attack on a whole leaf in the course of its training pass, which gives the gradients of parameters
// and inputs at once (Shafahi et al. 2019). The forward pass begins with clamp(pixels + delta, 0, 1), where delta lies
// at DeltaBase, and the backward pass ends with
//
//	delta <- clip(delta + Step sign(dL/d delta), -Eps, Eps)
//
// A pixel that the clamp stopped has no gradient, so its delta stays.
type Persistent struct {
	Eps, Step float64 // in units of pixels, which are in [0, 1]
}

// DeltaBase is where a persistent attack keeps its perturbation, [N][H][W][C]: such a Program has no tangent passes.
const DeltaBase = TangentBase

// applyDelta emits the move of the inputs to the perturbed samples.
func (c *compiler) applyDelta() {
	c.pass = prologue
	cells, at, delta := c.inputCells(), normalAt(c.net.Input.C), kernels.Ref{Base: DeltaBase}
	pixels, moved := c.pixels(), c.save(0, "wanted", cells)
	c.call(kernels.Add, c.inputVector(1), pixels, delta, moved)
	clamped := c.save(0, "attacked", cells)
	c.boxed(moved, clamped)
	change, clean := c.buffer(cells), c.buffer(cells)
	c.call(kernels.Add, c.inputVector(-1), clamped, pixels, change)
	c.copyOf(c.leaf.X(), clean)
	c.channels(change, at.rstd, at.unit, clean, c.leaf.X())
}

// stepDelta emits the step of the perturbation. Where a pixel was stopped, past either end, the gradient is taken off
// again: by [excess > 0] and by [-excess > 0].
func (c *compiler) stepDelta() {
	c.pass = epilogue
	cells, delta := c.inputCells(), kernels.Ref{Base: DeltaBase}
	grad, excess, less, off := c.grad[0], c.buffer(cells), c.buffer(cells), c.buffer(cells)
	c.call(kernels.Add, c.inputVector(-1), c.load(0, "wanted"), c.load(0, "attacked"), excess)
	c.call(kernels.Axpby, kernels.Vector{Count: int64(cells), A: -1}, excess, less)
	c.call(kernels.Axpby, kernels.Vector{Count: int64(cells), A: -1}, grad, off)
	for _, past := range []kernels.Ref{excess, less} {
		c.call(kernels.ReLUBackward, kernels.Vector{Count: int64(cells), B: 1}, past, off, grad)
	}
	zero := c.buffer(cells)
	c.call(kernels.Axpby, kernels.Vector{Count: int64(cells)}, delta, zero)
	p := c.opt.Persistent
	c.call(kernels.PGDStep, kernels.PGD{Count: int64(cells), Step: p.Step, Eps: p.Eps}, delta, zero, grad, kernels.None, delta)
}
