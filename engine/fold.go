package engine

import (
	"fmt"

	"broadside/engine/graph"
	"broadside/kernels"
)

// The rules by which running statistics take in the n ghosts of an update, with the momentum m of batch normalisation.
const (
	sequentialFold = "sequential" // each ghost with m, in sample order: run <- (1-m) run + m stat
	scaledFold     = "scaled"     // each ghost with m/n, in sample order
	meanFold       = "mean"       // run <- (1-m) run + m mean(stat)
)

// folder folds the batch statistics of an update's leaves into the running ones.
type folder struct {
	fleet  *fleet
	calls  []kernels.Call       // fold a leaf's statistics, each ghost with m
	passes map[int]kernels.Pass // by leaves of the update, on which weights depend; sequential has one, of 0 leaves
	sum    kernels.Memory       // mean: a leaf's statistics, summed over the leaves
	first  kernels.Pass         // sum = stats
	add    kernels.Pass         // sum += stats
}

// newFolder prepares the fold of leaves with so many cells of statistics.
func newFolder(f *fleet, calls []kernels.Call, cells int) (*folder, error) {
	d := &folder{fleet: f, calls: calls, passes: map[int]kernels.Pass{}}
	if err := d.alloc(cells); err != nil {
		d.free()
		return nil, err
	}
	return d, nil
}

func (d *folder) alloc(cells int) (err error) {
	if d.fleet.running != meanFold {
		return nil
	}
	if d.sum, err = d.fleet.dev.Alloc(cells); err != nil {
		return fmt.Errorf("allocating batch statistics: %w", err)
	}
	axpy := func(b float64) kernels.Call {
		return kernels.Call{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: int64(cells), A: 1, B: b}, Args: []kernels.Ref{{Base: xBase}, {Base: yBase}}}
	}
	if d.first, err = d.fleet.prepare(axpy(0)); err != nil {
		return err
	}
	d.add, err = d.fleet.prepare(axpy(1))
	return err
}

// run folds the statistics of an update's leaves.
func (d *folder) run(leaves []kernels.Memory) error {
	f := d.fleet
	pass, err := d.pass(len(leaves))
	if err != nil {
		return err
	}
	f.bases[graph.StateBase] = f.state
	if d.sum == nil {
		for _, stats := range leaves {
			f.bases[graph.StatsBase] = stats
			if err := pass.Run(&f.bases); err != nil {
				return err
			}
		}
		return nil
	}
	for i, stats := range leaves {
		sum := d.add
		if i == 0 {
			sum = d.first
		}
		if err := f.run(sum, stats, d.sum); err != nil {
			return err
		}
	}
	f.bases[graph.StatsBase] = d.sum
	return pass.Run(&f.bases)
}

// pass returns the pass for an update of so many leaves, prepared at first use.
func (d *folder) pass(leaves int) (kernels.Pass, error) {
	if d.fleet.running == sequentialFold {
		leaves = 0
	}
	if p, ok := d.passes[leaves]; ok {
		return p, nil
	}
	var calls []kernels.Call
	for _, c := range d.calls {
		fold := c.Shape.(kernels.Fold)
		ghosts := leaves * int(fold.Ghosts)
		switch d.fleet.running {
		case scaledFold:
			fold.Momentum /= float64(ghosts)
		case meanFold:
			calls = append(calls, meanOf(fold, c.Args[0], ghosts)...)
			fold.Ghosts = 1
		}
		calls = append(calls, kernels.Call{Kernel: c.Kernel, Shape: fold, Args: c.Args})
	}
	p, err := d.fleet.prepare(calls...)
	if err == nil {
		d.passes[leaves] = p
	}
	return p, err
}

// meanOf makes the first of a layer's ghosts in the sum the mean over so many.
func meanOf(s kernels.Fold, stats kernels.Ref, ghosts int) (calls []kernels.Call) {
	each := int(2 * s.C)
	axpby := func(a, b float64, x kernels.Ref) kernels.Call {
		return kernels.Call{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: int64(each), A: a, B: b}, Args: []kernels.Ref{x, stats}}
	}
	for g := 1; g < int(s.Ghosts); g++ {
		calls = append(calls, axpby(1, 1, stats.At(g*each)))
	}
	return append(calls, axpby(0, 1/float64(ghosts), stats))
}

func (d *folder) free() {
	if d == nil {
		return
	}
	free(d.sum)
	for _, p := range d.passes {
		p.Free()
	}
	for _, p := range []kernels.Pass{d.first, d.add} {
		if p != nil {
			p.Free()
		}
	}
}
