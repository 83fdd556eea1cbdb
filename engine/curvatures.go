package engine

import (
	"fmt"

	"broadside/engine/curvature"
	"broadside/engine/methods"
	"broadside/engine/telemetry"
	"broadside/kernels"
	"broadside/kernels/philox"
)

// startMethods lets the methods act before the first update.
func (t *trainer) startMethods() error {
	if t.at.Updates > 0 {
		return nil
	}
	for _, m := range t.methods {
		if s, ok := m.Method.(methods.Starter); ok {
			if err := s.Start(control{t}); err != nil {
				return fmt.Errorf("method %s: %w", m.info.Name, err)
			}
		}
	}
	return nil
}

// probe draws the samples of the next probe, by a stream of its own so that probing does not change the order of
// training, and makes their Hessian.
func (t *trainer) probe(samples int) (*hessian, error) {
	set := t.fleet.train.set
	drawn := make([]int32, samples)
	for i, s := range philox.NewStream(t.cfg.seed, philox.Probe, uint32(t.at.Probes), 0, permutationCopy).Perm(set.Len())[:samples] {
		drawn[i] = int32(s)
	}
	return newHessian(t.fleet, t.fleet.train, drawn, false, t.cfg.seed, uint32(t.at.Probes))
}

// Curvatures takes one product of the Hessian with a vector and measures it tensor by tensor.
func (c control) Curvatures(samples int, along methods.Along) ([]methods.TensorCurvature, error) {
	t := c.t
	h, err := t.probe(samples)
	if err != nil {
		return nil, err
	}
	defer h.free()
	out, err := h.tensors(along)
	t.at.Probes++
	t.at.HVPs += h.products
	if err != nil {
		return nil, fmt.Errorf("measuring the curvature of tensors: %w", err)
	}
	return out, t.sink.Event(telemetry.Event{Type: telemetry.TypeProbe, Epoch: t.at.Epoch, Updates: t.at.Updates})
}

// tensors measures a product with a vector.
func (h *hessian) tensors(along methods.Along) (out []methods.TensorCurvature, err error) {
	var vectors [4]kernels.Memory // the vector, its product, the product's signs, zeros
	defer func() { free(vectors[:]...) }()
	for i := range vectors {
		if vectors[i], err = h.NewVector(); err != nil {
			return nil, err
		}
	}
	v, hv, signs, zero := vectors[0], vectors[1], vectors[2], vectors[3]
	switch along {
	case methods.Gradient:
		err = h.Axpby(1, h.fleet.sums[0], 0, v)
	default:
		err = h.Randomize(v, kernels.Rademacher, curvature.Stream{})
	}
	if err == nil {
		err = h.Product(v, hv)
	}
	if err == nil {
		err = h.signs(zero, hv, signs)
	}
	if err != nil {
		return nil, err
	}
	return h.measureTensors(v, hv, signs)
}

// signs writes the signs of x: a step of 1 from zero.
func (h *hessian) signs(zero, x, signs kernels.Memory) error {
	f := h.fleet
	p, err := f.prepare(kernels.Call{Kernel: kernels.PGDStep, Shape: kernels.PGD{Count: int64(f.net.ParamCells()), Step: 1, Eps: 1},
		Args: []kernels.Ref{{Base: resultBase}, {Base: resultBase}, {Base: xBase}, kernels.None, {Base: yBase}}})
	if err != nil {
		return err
	}
	defer p.Free()
	f.bases[resultBase] = zero
	return f.run(p, x, signs)
}

// measureTensors takes the inner products of each tensor's v with hv, of v with itself and of hv with its signs.
func (h *hessian) measureTensors(v, hv, signs kernels.Memory) ([]methods.TensorCurvature, error) {
	f := h.fleet
	n := len(f.net.Params)
	result, err := f.dev.Alloc(6 * n)
	if err != nil {
		return nil, err
	}
	defer result.Free()
	for kind, pair := range [][2]kernels.Memory{{v, hv}, {v, v}, {hv, signs}} {
		var calls []kernels.Call
		for i, p := range f.net.Params {
			at := int64(p.Offset)
			calls = append(calls, kernels.Call{Kernel: kernels.Dot, Shape: kernels.Vector{Count: int64(p.Size())},
				Args: []kernels.Ref{{Base: xBase, Offset: at}, {Base: yBase, Offset: at}, {Base: resultBase, Offset: int64(2 * (kind*n + i))}}})
		}
		p, err := f.prepare(calls...)
		if err != nil {
			return nil, err
		}
		f.bases[resultBase] = result
		err = f.run(p, pair[0], pair[1])
		p.Free()
		if err != nil {
			return nil, err
		}
	}
	read := make([]float64, 3*n)
	result.ReadDoubles(0, read)
	out := make([]methods.TensorCurvature, n)
	for i, p := range f.net.Params {
		out[i] = methods.TensorCurvature{Tensor: p.Name, Size: p.Size(), Product: read[i], Square: read[n+i], Sum: read[2*n+i]}
	}
	return out, kernels.Sync(f.dev)
}
