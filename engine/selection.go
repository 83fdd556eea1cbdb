package engine

import (
	"fmt"
	"slices"

	"broadside/engine/graph"
	"broadside/engine/methods"
)

// Where a method selects samples, an update begins with a forward pass over all of its samples. The method chooses by
// their losses, and the update trains on the chosen ones, packed into fewer leaves in the order that they had.

// openSelector finds the method that selects samples, if there is one.
func (t *trainer) openSelector() error {
	for _, m := range t.methods {
		s, ok := m.Method.(methods.Selector)
		if !ok {
			continue
		}
		if !t.cfg.dropLast {
			return fmt.Errorf("method %s chooses among the samples of an update, which must be of one epoch: set batch.drop_last to true", m.info.Name)
		}
		t.selector = s
	}
	return nil
}

// selectSamples leaves the job with the samples to train on, of those of so many leaves, and returns how many leaves
// they are. It does the bookkeeping of the forward pass.
func (t *trainer) selectSamples(j *leaves, count int) (int, error) {
	keep := t.selector.Keep(control{t}, count)
	if keep < 0 || keep > count {
		return 0, fmt.Errorf("internal error: %d of %d leaves are to be kept", keep, count)
	}
	if keep == count {
		return count, nil
	}
	size := t.fleet.leaf.Capacity
	s := &t.scores
	s.leaves, s.indices = j, j.indices
	s.resize(count, size)
	s.losses = slices.Grow(s.losses[:0], count*size)[:count*size]
	if err := t.fleet.computeEach(s, &s.results, s.losses); err != nil {
		return 0, err
	}
	if keep == 0 {
		keep = t.selector.Count(s.losses, size)
	}
	if keep == count { // their training is what is recorded
		return count, nil
	}
	for i := range count {
		t.at.EpochLoss += s.loss[i]
		t.at.EpochCorrect += s.correct[i]
	}
	if err := checkLoss(t.at.EpochLoss, t.fleet.train.set.Name); err != nil {
		return 0, err
	}
	s.kept = slices.Grow(s.kept[:0], keep*size)[:keep*size]
	t.selector.Select(j.draw, j.indices, s.losses, s.kept)
	for i, place := range s.kept { // places increase, so none is read after it is written
		j.indices[i] = j.indices[place]
	}
	j.indices = j.indices[:keep*size]
	return keep, nil
}

// scores is the job of a forward pass over the samples of an update, by each ghost's own statistics, which are dropped.
type scores struct {
	*leaves
	indices []int32
	losses  []float32 // per sample
	kept    []int     // places of the samples to train on
	results
}

func (j *scores) busy(w *worker) bool {
	for i := range j.loss {
		if w.fleet.owns(w, i) {
			return true
		}
	}
	return false
}

func (j *scores) run(w *worker) error {
	f := w.fleet
	size := f.leaf.Capacity
	for i := range j.loss {
		if !f.owns(w, i) {
			continue
		}
		if err := w.score(j.augment, j.draw, j.indices[i*size:(i+1)*size], &f.stats, i); err != nil {
			return err
		}
		j.read(w, i, size)
	}
	return j.fetch(w)
}

// score runs a forward pass over training samples, by each ghost's own statistics. These go to a place of stats, unless
// the network has none.
func (w *worker) score(a augmentation, draw methods.Draw, indices []int32, stats *leafStats, place int) error {
	f := w.fleet
	if err := w.gather(f.train, a, draw, indices); err != nil {
		return err
	}
	p, err := w.program(programKey{kind: scoreProgram, n: len(indices)})
	if err != nil {
		return err
	}
	w.bind(f.train)
	if len(stats.leaves) > 0 {
		w.bases[graph.StatsBase] = part(stats.leaves[place], w.home)
	}
	return p.main.Run(&w.bases)
}

// computeEach hands a job to all workers, with the leaves of an update from the first on, and gives all processes the
// results of its leaves and the losses of their samples.
func (f *fleet) computeEach(j job, r *results, losses []float32) error {
	err := f.do(j)
	size := len(losses) / len(r.loss)
	if !f.remote() {
		if err != nil {
			return err
		}
		for i := range r.loss {
			copy(losses[i*size:], r.each[i].loss)
		}
		return nil
	}
	row := 1 + size
	rows := ceilDiv(len(r.loss), f.ranks)
	f.said = slices.Grow(f.said[:0], rows*row)[:rows*row]
	clear(f.said)
	for i := f.first; i < len(r.loss) && err == nil; i += f.ranks {
		own := f.said[i/f.ranks*row:]
		own[0] = float64(r.correct[i])
		for k, v := range r.each[i].loss {
			own[1+k] = float64(v)
		}
	}
	blocks, err := f.exchange(err, f.said...)
	if err != nil {
		return err
	}
	for i := range r.loss {
		at := blocks[i%f.ranks*(1+rows*row)+1+i/f.ranks*row:]
		r.correct[i], r.loss[i] = int(at[0]), 0
		for k, v := range at[1:row] {
			losses[i*size+k] = float32(v)
			r.loss[i] += v
		}
	}
	return nil
}
