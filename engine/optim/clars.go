package optim

import (
	"encoding/binary"
	"math"

	"broadside/engine/graph"
	"broadside/kernels"
)

// CLARS sizes a tensor's steps as LARS does, but by the mean over micro-batches of the norms of their gradients, where LARS
// takes the norm of the mean (Huo, Gu, Huang 2020, arXiv 2002.01576):
//
//	r = Trust.Coefficient |w| / (norm + Trust.Eps) within [Trust.Low, Trust.High], and 1 where |w| or the norm is 0
//
// It multiplies the steps as Trust.Place says. Tensors of the Plain roles have ratio 1.
type CLARS struct {
	SGD
	Trust kernels.TrustShape // without a count
	Plain map[graph.Role]bool
	// Norm returns the mean norm of a tensor's gradients in the update under way; tensors are numbered as the network's.
	Norm func(tensor int) float64
}

// Update emits the norms of the weights, the ratios and the steps.
func (c CLARS) Update(params []graph.Param, s *Scratch) []kernels.Call {
	var sized []graph.Param
	var tensors []int
	for i, p := range params {
		if !c.Plain[p.Role] {
			sized, tensors = append(sized, p), append(tensors, i)
		}
	}
	calls, w := measure(kernels.Norm, kernels.Vector{}, sized, s, graph.ParamBase)
	g := s.Filled(2*len(sized), func(cells []float32, _ Moment) {
		for i, tensor := range tensors {
			putDouble(cells[2*i:], c.Norm(tensor))
		}
	})
	shape := c.Trust
	shape.Mean = 1
	ratios, hypers := trust(shape, len(sized), w, g, kernels.None, hyper, s)
	one, plain := trust(kernels.TrustShape{Place: shape.Place}, 1, kernels.None, kernels.None, kernels.None, hyper, s)
	calls = append(calls, ratios, one)
	next := 0
	for _, p := range params {
		if c.Plain[p.Role] {
			calls = append(calls, c.step(p, plain))
			continue
		}
		calls = append(calls, c.step(p, item(hypers, HyperCells, next)))
		next++
	}
	return calls
}

// putDouble writes a double into two cells, rounded to a float's precision: then neither half looks like a signalling NaN,
// which some processors would change on its way.
func putDouble(cells []float32, v float64) {
	var bytes [8]byte
	binary.NativeEndian.PutUint64(bytes[:], math.Float64bits(float64(float32(v))))
	cells[0] = math.Float32frombits(binary.NativeEndian.Uint32(bytes[:]))
	cells[1] = math.Float32frombits(binary.NativeEndian.Uint32(bytes[4:]))
}
