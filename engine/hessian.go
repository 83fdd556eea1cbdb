package engine

import (
	"fmt"

	"broadside/engine/curvature"
	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/kernels"
	"broadside/kernels/philox"
)

// hessian is the Hessian of the mean loss over some training samples, as an operator. Its leaves are
// spread over lanes and devices like a training step's, but smaller where there are few samples, so that
// every lane has some. A worker whose samples are no more than a leaf of training keeps their primal passes,
// so that a product costs one tangent pass.
type hessian struct {
	fleet   *fleet
	on      *resident
	samples []int32
	kind    programKind
	size    int // samples of a leaf
	seed    uint64
	stream  uint32 // tells the random start vectors of probes apart

	direction kernels.Memory
	sums      laneSums
	primal    []bool // of each worker: the primal passes are in its seats
	dot       kernels.Pass
	mean      kernels.Pass // of a sum over the samples
	result    kernels.Memory
	inner     []float64 // product read last
	products  int
}

var _ curvature.Hessian = (*hessian)(nil)

// maxStreamNumber is the largest number of a stream that fits in a counter.
const maxStreamNumber = 1<<16 - 1

// resultBase is where Dot leaves its result.
const resultBase = graph.FreeBase

// newHessian allocates the operator's lanes. ghost selects batch statistics instead of the running
// ones.
func newHessian(f *fleet, on *resident, samples []int32, ghost bool, seed uint64, stream uint32) (*hessian, error) {
	h := &hessian{fleet: f, on: on, samples: samples, kind: hessianProgram, seed: seed, stream: stream, primal: make([]bool, len(f.workers)), inner: make([]float64, 1)}
	unit := 1 // samples that stay together
	if ghost && f.syncBN {
		return nil, fmt.Errorf("a Hessian with batch norm by ghosts: with batch.sync_bn true training takes its statistics over a whole batch, not over ghosts; use the running statistics (--bn eval)")
	}
	if ghost {
		h.kind, unit = ghostHessianProgram, f.ghost
	}
	h.size = min(ceilDiv(ceilDiv(len(samples), f.lanes), unit)*unit, f.leaf.Capacity)
	if err := h.alloc(); err != nil {
		h.free()
		return nil, err
	}
	return h, nil
}

func (h *hessian) alloc() (err error) {
	f := h.fleet
	if h.sums, err = f.newSums(h.leaves()); err != nil {
		return err
	}
	if h.result, err = f.dev.Alloc(2); err != nil {
		return err
	}
	if h.dot, err = f.prepare(kernels.Call{Kernel: kernels.Dot, Shape: kernels.Vector{Count: int64(f.net.ParamCells())},
		Args: []kernels.Ref{{Base: xBase}, {Base: yBase}, {Base: resultBase}}}); err != nil {
		return err
	}
	h.mean, err = f.prepare(f.axpby(1/float64(len(h.samples)), 0))
	return err
}

func (h *hessian) leaves() int { return ceilDiv(len(h.samples), h.size) }

// leaf returns the samples of leaf i.
func (h *hessian) leaf(i int) []int32 { return h.samples[i*h.size : min((i+1)*h.size, len(h.samples))] }

// share returns how many leaves a worker computes, and whether it keeps their primal passes.
func (h *hessian) share(w *worker) (leaves int, kept bool) {
	for i := range h.leaves() {
		if h.fleet.owns(w, i) {
			leaves++
		}
	}
	return leaves, leaves*h.size <= h.fleet.leaf.Capacity
}

// reused reports whether all workers keep their primal passes.
func (h *hessian) reused() bool {
	for _, w := range h.fleet.workers {
		if _, kept := h.share(w); !kept {
			return false
		}
	}
	return true
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// NewVector returns a zero vector.
func (h *hessian) NewVector() (kernels.Memory, error) {
	m, err := h.fleet.dev.Alloc(h.fleet.net.ParamCells())
	if err != nil {
		return nil, fmt.Errorf("allocating a vector of the Hessian: %w", err)
	}
	return m, nil
}

// Randomize fills v with independent numbers; the alignment gaps stay zero.
func (h *hessian) Randomize(v kernels.Memory, d kernels.Distribution, s curvature.Stream) error {
	if s.Number < 0 || s.Number > maxStreamNumber {
		return fmt.Errorf("random vector %d of a probe: there are %d", s.Number, maxStreamNumber+1)
	}
	var calls []kernels.Call
	for i, p := range h.fleet.net.Params {
		calls = append(calls, kernels.Call{Kernel: kernels.Philox, Shape: kernels.PhiloxShape{Count: int64(p.Size()),
			Distribution: d, Key0: uint32(h.seed), Key1: uint32(h.seed >> 32),
			Ctr1: uint32(i), Ctr2: h.stream, Ctr3: philox.Probe<<24 | uint32(s.Number)<<8 | uint32(s.Use)},
			Args: []kernels.Ref{{Base: yBase, Offset: int64(p.Offset)}}})
	}
	p, err := h.fleet.prepare(calls...)
	if err != nil {
		return err
	}
	defer p.Free()
	return h.fleet.run(p, nil, v)
}

// Dot returns the inner product of a and b.
func (h *hessian) Dot(a, b kernels.Memory) (float64, error) {
	h.fleet.bases[resultBase] = h.result
	if err := h.fleet.run(h.dot, a, b); err != nil {
		return 0, err
	}
	h.result.ReadDoubles(0, h.inner)
	return h.inner[0], kernels.Sync(h.fleet.dev)
}

// Axpby computes y = a x + b y.
func (h *hessian) Axpby(a float64, x kernels.Memory, b float64, y kernels.Memory) error {
	return h.fleet.once(h.fleet.axpby(a, b), x, y)
}

// Product computes hv = H v, exactly, by the R-operator (Pearlmutter 1994). After the first it allocates nothing.
func (h *hessian) Product(v, hv kernels.Memory) error {
	h.direction = v
	if err := h.fleet.agree(h.fleet.do(h)); err != nil {
		return fmt.Errorf("computing a Hessian-vector product: %w", err)
	}
	h.products++
	sum, err := h.fleet.reduce.finish(h.sums, h.leaves())
	if err != nil {
		return err
	}
	return h.fleet.run(h.mean, sum, hv)
}

// busy reports whether a worker has leaves.
func (h *hessian) busy(w *worker) bool {
	leaves, _ := h.share(w)
	return leaves > 0
}

// run computes a worker's leaves of a product.
func (h *hessian) run(w *worker) error {
	defer w.sit(0)
	_, kept := h.share(w)
	seat := 0
	for i := range h.leaves() {
		if !h.fleet.owns(w, i) {
			continue
		}
		w.sit(seat)
		if err := h.runLeaf(w, i); err != nil {
			return err
		}
		if kept {
			seat++
		}
	}
	h.primal[w.id] = kept
	return nil
}

// runLeaf adds a leaf's product to its lane.
func (h *hessian) runLeaf(w *worker, i int) error {
	if err := w.begin(); err != nil {
		return err
	}
	indices := h.leaf(i)
	p, err := w.program(programKey{kind: h.kind, n: len(indices)})
	if err != nil {
		return err
	}
	if !h.primal[w.id] {
		if err := h.runPrimal(w, p, indices); err != nil {
			return err
		}
	}
	w.bind(h.on)
	lane := h.sums.lane(w, i)
	if h.fleet.begins(i) {
		w.bases[graph.GradBase] = lane
		if err := w.clear(); err != nil {
			return err
		}
	}
	w.bases[graph.TangentBase], w.bases[graph.ProductBase] = part(h.direction, w.home), lane
	return p.tangent.Run(&w.bases)
}

// runPrimal leaves activations and their gradients at the worker's seat.
func (h *hessian) runPrimal(w *worker, p *program, indices []int32) error {
	if err := w.gather(h.on, augmentation{}, methods.Draw{Seed: h.seed}, indices); err != nil {
		return err
	}
	w.bind(h.on)
	return w.runMain(p)
}

// free releases the operator's memory.
func (h *hessian) free() {
	free(h.result)
	free(h.sums...)
	for _, p := range []kernels.Pass{h.dot, h.mean} {
		if p != nil {
			p.Free()
		}
	}
}
