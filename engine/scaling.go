package engine

import (
	"fmt"
	"slices"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/kernels"
)

// scaling multiplies the gradients of convolutions' weights by factors for the places of the kernel, for a method that
// asks. The factors lie in memory once for every weight: a multiplication of vectors is all that it takes.
type scaling struct {
	fleet   *fleet
	method  methods.Scaler
	factors kernels.Memory // laid out like the parameters
	pass    kernels.Pass
	loaded  [][]float32 // the scales that factors has, of each tensor
}

// newScaling returns nothing where no method asks.
func newScaling(f *fleet, list []method) (*scaling, error) {
	for _, entry := range list {
		if m, ok := entry.Method.(methods.Scaler); ok {
			s := &scaling{fleet: f, method: m}
			if err := s.alloc(); err != nil {
				s.free()
				return nil, fmt.Errorf("method %s: %w", entry.info.Name, err)
			}
			return s, nil
		}
	}
	return nil, nil
}

func (s *scaling) alloc() (err error) {
	f := s.fleet
	var calls []kernels.Call
	s.loaded = make([][]float32, len(f.net.Params))
	for i, scales := range s.method.Scales() {
		if scales == nil {
			continue
		}
		p := f.net.Params[i]
		s.loaded[i] = make([]float32, p.R*p.S)
		g, factor := kernels.Ref{Base: xBase, Offset: int64(p.Offset)}, kernels.Ref{Base: yBase, Offset: int64(p.Offset)}
		calls = append(calls, kernels.Call{Kernel: kernels.MulAdd, Shape: kernels.Vector{Count: int64(p.Size()), A: 1}, Args: []kernels.Ref{g, factor, g}})
	}
	if s.factors, err = f.dev.Alloc(f.net.ParamCells()); err != nil {
		return fmt.Errorf("allocating the factors of gradients: %w", err)
	}
	s.pass, err = f.prepare(calls...)
	return err
}

// apply scales a sum of gradients.
func (s *scaling) apply(sum kernels.Memory) error {
	if s == nil {
		return nil
	}
	for i, scales := range s.method.Scales() {
		if slices.Equal(scales, s.loaded[i]) {
			continue
		}
		p := s.fleet.net.Params[i]
		s.factors.WriteFloats(p.Offset, spread(p, scales))
		copy(s.loaded[i], scales)
	}
	return s.fleet.run(s.pass, sum, s.factors)
}

// spread returns the factor of every weight.
func spread(p graph.Param, scales []float32) []float32 {
	out := make([]float32, 0, p.Size())
	for range p.K {
		for _, v := range scales {
			for range p.C {
				out = append(out, v)
			}
		}
	}
	return out
}

func (s *scaling) free() {
	if s == nil {
		return
	}
	free(s.factors)
	if s.pass != nil {
		s.pass.Free()
	}
}
