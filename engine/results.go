package engine

import (
	"slices"

	"broadside/kernels"
)

// results are what a job reads of its leaves: loss and correct samples of each. A device that queues its work hands
// them over when the worker's last leaf is done.
type results struct {
	loss    []float64 // per leaf
	correct []int
	each    []leafResult
}

// leafResult is what was read of a leaf.
type leafResult struct {
	cells         []float32
	loss, correct []float32 // in cells
}

// resize makes room for so many leaves of so many samples, keeping the memory.
func (r *results) resize(leaves, samples int) {
	r.loss = slices.Grow(r.loss[:0], leaves)[:leaves]
	r.correct = slices.Grow(r.correct[:0], leaves)[:leaves]
	for len(r.each) < leaves {
		r.each = append(r.each, leafResult{cells: make([]float32, 2*samples)})
	}
}

// read reads the results of leaf i, of n samples, from the worker's leaf.
func (r *results) read(w *worker, i, n int) {
	e := &r.each[i]
	e.loss, e.correct = e.cells[:n], e.cells[n:2*n]
	w.reads = append(w.reads, i)
	kernels.ReadFloatsLater(w.leaf, int(w.fleet.leaf.Loss().Offset), e.loss)
	kernels.ReadFloatsLater(w.leaf, int(w.fleet.leaf.Correct().Offset), e.correct)
}

// fetch waits for the worker's device and sums up the leaves that it has read.
func (r *results) fetch(w *worker) error {
	if err := kernels.Sync(w.dev); err != nil {
		return err
	}
	for _, i := range w.reads {
		e := &r.each[i]
		r.loss[i], r.correct[i] = 0, 0
		for _, v := range e.loss {
			r.loss[i] += float64(v)
		}
		for _, v := range e.correct {
			r.correct[i] += int(v)
		}
	}
	return nil
}
