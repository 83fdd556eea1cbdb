package engine

import (
	"fmt"

	"broadside/engine/collective"
	"broadside/kernels"
)

// laneSums are parameter-shaped sums, one for each lane. Lane l is the part of rank l mod ranks of memory l / ranks, so
// the lanes that are the first of their rank are one memory, and so on.
type laneSums []kernels.Memory

// newSums allocates the sums of the lanes that so many leaves reach.
func (f *fleet) newSums(leaves int) (laneSums, error) {
	sums := make(laneSums, ceilDiv(min(leaves, f.lanes), f.ranks))
	for i := range sums {
		var err error
		if sums[i], err = f.dev.Alloc(f.net.ParamCells()); err != nil {
			free(sums...)
			return nil, fmt.Errorf("allocating gradients: %w", err)
		}
	}
	return sums, nil
}

// owns reports whether a worker computes leaf i of a step.
func (f *fleet) owns(w *worker, leaf int) bool {
	lane := leaf % f.lanes
	return lane%f.ranks == f.first+w.home && lane/f.ranks%w.peers == w.place
}

// lane returns the sum that a worker adds leaf i to.
func (s laneSums) lane(w *worker, leaf int) kernels.Memory {
	return part(s[leaf%w.fleet.lanes/w.fleet.ranks], w.home)
}

// begins reports whether leaf i is the first of its lane, which starts from zero.
func (f *fleet) begins(leaf int) bool { return leaf < f.lanes }

// collect does a collective over all of a shared memory.
func (f *fleet) collect(m kernels.Memory, do func(collective.Comm, collective.Buffer) collective.Pending) (err error) {
	f.waits = f.waits[:0]
	for i, c := range f.comms {
		f.waits = append(f.waits, do(c, collective.Whole(part(m, i))))
	}
	for _, w := range f.waits {
		if e := w.Wait(); e != nil && err == nil {
			err = e
		}
	}
	return err
}

// scaleLanes multiplies the gradient sums of the first leaves of an update.
func (f *fleet) scaleLanes(leaves int, factor float64) error {
	for _, m := range f.sums[:ceilDiv(min(leaves, f.lanes), f.ranks)] {
		if err := f.once(f.axpby(0, factor), m, m); err != nil {
			return err
		}
	}
	return nil
}

// leafStats are cells of each leaf of an update, such as its batch statistics. A rank writes those of its own leaves, and
// gathers the others': before the fold.
type leafStats struct {
	cells  int              // of a leaf
	leaves []kernels.Memory // each leaf's, within a block
	blocks []kernels.Memory // every rank's leaves side by side
	sizes  []int            // leaves of each block, a multiple of the ranks

	sets [][]kernels.Memory // of the leaves of an update, by parameter set
}

// growStats makes room for the batch statistics of so many leaves.
func (f *fleet) growStats(leaves int) error {
	if f.fold == nil {
		return nil
	}
	return f.stats.grow(f, leaves)
}

// grow makes room for so many leaves.
func (s *leafStats) grow(f *fleet, leaves int) error {
	rows := ceilDiv(leaves-len(s.leaves), f.ranks)
	if rows <= 0 {
		return nil
	}
	block, err := f.dev.Alloc(rows * f.ranks * s.cells)
	if err != nil {
		return fmt.Errorf("allocating what is kept of each leaf: %w", err)
	}
	s.blocks, s.sizes = append(s.blocks, block), append(s.sizes, rows*f.ranks)
	for i := range rows * f.ranks {
		s.leaves = append(s.leaves, block.Slice((i%f.ranks*rows+i/f.ranks)*s.cells, s.cells))
	}
	return nil
}

// foldStats folds the batch statistics of so many places into the running ones of their parameter sets.
func (f *fleet) foldStats(places int) error {
	if f.fold == nil {
		return nil
	}
	s := &f.stats
	if f.sync != nil {
		return f.fold.run(f.sync.stats)
	}
	if err := s.gather(f, places); err != nil {
		return err
	}
	if f.pair == nil || len(f.pair.folds) == 0 {
		return f.fold.run(s.leaves[:places])
	}
	for len(s.sets) <= len(f.pair.folds) {
		s.sets = append(s.sets, nil)
	}
	for i := range s.sets {
		s.sets[i] = s.sets[i][:0]
	}
	for place, stats := range s.leaves[:places] {
		_, _, kind := f.view(place)
		set := f.setOf(kind)
		s.sets[set] = append(s.sets[set], stats)
	}
	if err := f.fold.run(s.sets[0]); err != nil {
		return err
	}
	for i, fold := range f.pair.folds {
		if err := fold.run(s.sets[1+i]); err != nil {
			return err
		}
	}
	return nil
}

// gather gives every rank the cells of the first leaves.
func (s *leafStats) gather(f *fleet, leaves int) error {
	first := 0
	for i, block := range s.blocks {
		if first < leaves {
			if err := f.collect(block, collective.Comm.AllGather); err != nil {
				return err
			}
		}
		first += s.sizes[i]
	}
	return nil
}

func (s *leafStats) free() { free(s.blocks...) }

// prepareTraining allocates the lanes' gradient sums and compiles the training Program, so that a leaf
// that does not fit is refused before the first step, and prepares the fold of its batch statistics.
func (f *fleet) prepareTraining() (err error) {
	if f.sums, err = f.newSums(f.lanes); err != nil {
		return err
	}
	for _, w := range f.workers {
		p, err := w.program(f.persistent.key(programKey{kind: trainProgram, n: f.leaf.Capacity}))
		if err != nil {
			return err
		}
		if f.syncBN && w.id == 0 {
			if err := f.prepareSync(p.Program); err != nil {
				return err
			}
		}
		if w.id > 0 || len(p.Fold) == 0 {
			continue
		}
		f.stats.cells = p.StatsCells
		if f.fold, err = newFolder(f, p.Fold, p.StatsCells); err != nil {
			return err
		}
	}
	return f.prepareTwins()
}
