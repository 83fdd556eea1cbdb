package engine

import (
	"slices"

	"broadside/engine/methods"
)

// openWeigher finds the method that weighs samples, if there is one.
func (t *trainer) openWeigher() {
	for _, m := range t.methods {
		if w, ok := m.Method.(methods.Weigher); ok {
			t.weigher = w
		}
	}
}

// weigh has the method weigh the samples of all places of the job.
func (t *trainer) weigh(j *leaves) {
	if t.weigher == nil {
		return
	}
	size := t.fleet.leaf.Capacity
	j.weights = slices.Grow(j.weights[:0], len(j.loss)*size)[:len(j.loss)*size]
	draw := j.draw
	for i := range j.loss {
		leaf, copy, _ := j.view(t.fleet, i)
		draw.Copy = copy
		t.weigher.Weigh(control{t}, draw, j.samples(t.fleet, leaf), j.weights[i*size:(i+1)*size])
	}
}

// unweigh makes the losses of the leaves that a worker has read those of samples that weigh 1: that is what is recorded.
// Nothing is known of the loss of a sample without weight; it counts as 0.
func (j *leaves) unweigh(w *worker) {
	size := w.fleet.leaf.Capacity
	for _, i := range w.reads {
		j.loss[i] = 0
		for k, v := range j.each[i].loss {
			if weight := j.weights[i*size+k]; weight != 0 {
				j.loss[i] += float64(v) / float64(weight)
			}
		}
	}
}
