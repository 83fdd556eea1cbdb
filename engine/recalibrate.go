package engine

import (
	"fmt"

	"broadside/engine/data"
	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/kernels"
)

// calibration is the job of computing the batch statistics of consecutive leaves of an epoch.
type calibration struct {
	draw    methods.Draw
	augment augmentation
	count   int     // leaves, from place 0 of stats on
	indices []int32 // samples of all leaves
	stats   leafStats
}

func (j *calibration) busy(w *worker) bool {
	for i := range j.count {
		if w.fleet.owns(w, i) {
			return true
		}
	}
	return false
}

func (j *calibration) run(w *worker) error {
	f := w.fleet
	size := f.leaf.Capacity
	for i := range j.count {
		if !f.owns(w, i) {
			continue
		}
		if err := w.score(j.augment, j.draw, j.indices[i*size:(i+1)*size], &j.stats, i); err != nil {
			return err
		}
	}
	return kernels.Sync(w.dev)
}

// recalibrate computes the running statistics anew, by one pass over the training set: the means over all ghosts of
// the epoch's leaves of their batch statistics. Samples are drawn and augmented as in an epoch of training. Networks
// without batch normalisation have none.
func (f *fleet) recalibrate(a augmentation, seed uint64, epoch int) error {
	if len(f.net.Norms) == 0 {
		return nil
	}
	p, err := f.workers[0].program(programKey{kind: scoreProgram, n: f.leaf.Capacity})
	if err != nil {
		return err
	}
	s, err := data.NewSampler(f.train.set.Len(), f.leaf.Capacity, seed)
	if err != nil {
		return err
	}
	if err := f.paintFor(a); err != nil {
		return err
	}
	j := &calibration{draw: methods.Draw{Seed: seed, Epoch: epoch}, augment: a, stats: leafStats{cells: p.StatsCells}}
	defer j.stats.free()
	m := newMeans(f.net, p.Fold)
	if err := f.calibrate(j, s, m); err != nil {
		return fmt.Errorf("computing running statistics: %w", err)
	}
	m.write(f.state)
	return nil
}

// leavesAtATime is how many leaves' statistics are kept, for every lane.
const leavesAtATime = 4

// calibrate adds up the statistics of an epoch's leaves, in order.
func (f *fleet) calibrate(j *calibration, s *data.Sampler, m *means) error {
	size, most := f.leaf.Capacity, leavesAtATime*f.lanes
	for first := 0; first < s.LeavesPerEpoch(); first += most {
		j.count = min(most, s.LeavesPerEpoch()-first)
		j.indices = make([]int32, j.count*size)
		for i := range j.count {
			s.Leaf(j.draw.Epoch, first+i, j.indices[i*size:(i+1)*size])
		}
		if err := j.stats.grow(f, j.count); err != nil {
			return err
		}
		if err := f.agree(f.do(j)); err != nil {
			return err
		}
		if err := j.stats.gather(f, j.count); err != nil {
			return err
		}
		for i := range j.count {
			cells := read(j.stats.leaves[i])
			if err := kernels.Sync(f.dev); err != nil {
				return err
			}
			m.add(cells)
		}
	}
	return nil
}

// means are the means of batch statistics.
type means struct {
	fold   []kernels.Call // where a leaf's statistics are, and where they go
	sums   []float64      // as running statistics
	counts []float64      // of each fold
}

func newMeans(net *graph.Network, fold []kernels.Call) *means {
	return &means{fold: fold, sums: make([]float64, net.StateCells()), counts: make([]float64, len(fold))}
}

// add adds the statistics of a leaf's ghosts.
func (m *means) add(stats []float32) {
	for i, c := range m.fold {
		shape := c.Shape.(kernels.Fold)
		from, to, n := int(c.Args[0].Offset), int(c.Args[1].Offset), 2*int(shape.C)
		for ghost := range int(shape.Ghosts) {
			for k, v := range stats[from+ghost*n : from+(ghost+1)*n] {
				m.sums[to+k] += float64(v)
			}
		}
		m.counts[i] += float64(shape.Ghosts)
	}
}

// write writes the means to the running statistics. Those of other parameter sets than the fold's stay.
func (m *means) write(state kernels.Memory) {
	for i, c := range m.fold {
		to := int(c.Args[1].Offset)
		out := make([]float32, 2*c.Shape.(kernels.Fold).C)
		for k := range out {
			out[k] = float32(m.sums[to+k] / m.counts[i])
		}
		state.WriteFloats(to, out)
	}
}
