package engine

import "broadside/kernels"

// keptJobs are the jobs of the leaves of the update under way, for those who compute these leaves again.
type keptJobs struct {
	kept []*leaves // the first n are in use
	n    int
}

// keepJobs returns the jobs that are kept for a second gradient, for the norms of copies or for a search, or nil.
func (t *trainer) keepJobs() *keptJobs {
	switch {
	case t.twice != nil:
		return t.twice.keptJobs
	case t.copyNorms != nil:
		return t.copyNorms.keptJobs
	case t.line != nil:
		return t.line.keptJobs
	}
	return nil
}

// next returns a job for leaves of the update under way, and keeps it.
func (k *keptJobs) next() *leaves {
	if k.n == len(k.kept) {
		k.kept = append(k.kept, &leaves{})
	}
	j := k.kept[k.n]
	k.n++
	j.again, j.dropped, j.scale = nil, nil, 1
	return j
}

// scaled notes that the sums of the leaves so far were multiplied.
func (k *keptJobs) scaled(factor float64) {
	if k != nil {
		k.kept[k.n-1].scale *= factor
	}
}

// forget forgets the leaves.
func (k *keptJobs) forget() {
	if k != nil {
		k.n = 0
	}
}

// newDropped allocates what takes the batch statistics of leaves that are computed again, for each worker: they are
// those of the first pass.
func newDropped(f *fleet) (dropped []kernels.Memory, err error) {
	for _, w := range f.workers {
		m, err := w.dev.Alloc(max(f.stats.cells, 1))
		if err != nil {
			free(dropped...)
			return nil, err
		}
		dropped = append(dropped, m)
	}
	return dropped, nil
}
