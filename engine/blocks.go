package engine

import (
	"fmt"

	"broadside/engine/curvature"
	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/telemetry"
	"broadside/kernels"
)

// block is a tensor's diagonal block of a Hessian, as an operator on vectors that are zero elsewhere.
type block struct {
	*hessian
	outside kernels.Pass // clears y but for the tensor
}

var _ curvature.Hessian = (*block)(nil)

func newBlock(h *hessian, p graph.Param) (*block, error) {
	var calls []kernels.Call
	for _, part := range [][2]int{{0, p.Offset}, {p.Offset + p.Size(), h.fleet.net.ParamCells()}} {
		y := kernels.Ref{Base: yBase, Offset: int64(part[0])}
		if count := part[1] - part[0]; count > 0 {
			calls = append(calls, kernels.Call{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: int64(count)}, Args: []kernels.Ref{y, y}})
		}
	}
	pass, err := h.fleet.prepare(calls...)
	return &block{h, pass}, err
}

// Randomize fills the tensor with independent numbers.
func (b *block) Randomize(v kernels.Memory, d kernels.Distribution, s curvature.Stream) error {
	if err := b.hessian.Randomize(v, d, s); err != nil {
		return err
	}
	return b.fleet.run(b.outside, nil, v)
}

// Product computes the block's product.
func (b *block) Product(v, hv kernels.Memory) error {
	if err := b.hessian.Product(v, hv); err != nil {
		return err
	}
	return b.fleet.run(b.outside, nil, hv)
}

// BlockEigenvalues takes a power iteration for each tensor, all on the same samples.
func (c control) BlockEigenvalues(p methods.Probe, without map[graph.Role]bool) (out []methods.BlockEigenvalue, err error) {
	t := c.t
	h, err := t.probe(p.Samples)
	if err != nil {
		return nil, err
	}
	defer h.free()
	t.at.Probes++
	p.K = 1
	for _, tensor := range t.fleet.net.Trained() {
		if without[tensor.Role] {
			continue
		}
		e, err := h.blockEigenvalue(tensor, p.Options)
		if err != nil {
			return nil, fmt.Errorf("measuring the curvature of %s: %w", tensor.Name, err)
		}
		out = append(out, methods.BlockEigenvalue{Tensor: tensor.Name, Eigenvalue: e})
	}
	t.at.HVPs += h.products
	return out, t.sink.Event(telemetry.Event{Type: telemetry.TypeProbe, Epoch: t.at.Epoch, Updates: t.at.Updates})
}

func (h *hessian) blockEigenvalue(p graph.Param, o curvature.Options) (curvature.Eigenvalue, error) {
	b, err := newBlock(h, p)
	if err != nil {
		return curvature.Eigenvalue{}, err
	}
	defer b.outside.Free()
	found, err := curvature.TopEigenvalues(b, o)
	if err != nil {
		return curvature.Eigenvalue{}, err
	}
	return found[0], nil
}
