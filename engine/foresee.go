package engine

import (
	"slices"

	"broadside/engine/methods"
)

// gatherer is a job that knows what each worker is going to gather.
type gatherer interface {
	// gathers calls w.expect with every leaf that the worker gathers, in order.
	gathers(w *worker)
}

// plan tells the streams what the workers gather in a job.
func (f *fleet) plan(j job) {
	g, ok := j.(gatherer)
	if !ok || !f.train.streams() && !f.test.streams() {
		return
	}
	for _, w := range f.workers {
		g.gathers(w)
	}
	for _, r := range []*resident{f.train, f.test} {
		if r.streams() && r.stream.planned() {
			r.stream.follow()
		}
	}
}

func (r *resident) streams() bool { return r != nil && r.stream != nil }

// expect notes that the worker is going to gather a leaf.
func (w *worker) expect(r *resident, a augmentation, d methods.Draw, indices []int32) {
	if r.paints(a) {
		r.stream.feeds[w.id].coming.add(viewOf(a, d), indices)
	}
}

func (j *evaluation) gathers(w *worker) {
	for i := range j.loss {
		if j.owns(w, i) {
			w.expect(j.on, j.augment, j.draw, j.samples(i))
		}
	}
}

func (j *calibration) gathers(w *worker) {
	size := w.fleet.leaf.Capacity
	for i := range j.count {
		if w.fleet.owns(w, i) {
			w.expect(w.fleet.train, j.augment, j.draw, j.indices[i*size:(i+1)*size])
		}
	}
}

func (j *scores) gathers(w *worker) {
	size := w.fleet.leaf.Capacity
	for i := range j.loss {
		if w.fleet.owns(w, i) {
			w.expect(w.fleet.train, j.augment, j.draw, j.indices[i*size:(i+1)*size])
		}
	}
}

func (l *lockstep) gathers(w *worker) {
	if l.piece > 0 {
		return
	}
	size, draw := w.fleet.leaf.Capacity, l.draw
	for i := range l.loss {
		if draw.Epoch = l.epochs[i]; w.fleet.owns(w, i) {
			w.expect(w.fleet.train, l.augment, draw, l.indices[i*size:(i+1)*size])
		}
	}
	l.expectUpcoming(w)
}

func (j *leaves) gathers(w *worker) {
	f := w.fleet
	for i := range j.loss {
		if !f.owns(w, j.first+i) {
			continue
		}
		leaf, copy, kind := j.view(f, i)
		draw := j.draw
		draw.Copy = copy
		w.expect(f.train, f.augmentOf(kind, j.augment), draw, j.samples(f, leaf))
	}
	size := f.leaf.Capacity
	for i := range j.ahead.slots {
		if j.ahead.owns(w, len(j.loss), i) {
			w.expect(f.train, j.augment, methods.Draw{Seed: j.draw.Seed, Epoch: j.ahead.epochs[i]}, j.ahead.indices[i*size:(i+1)*size])
		}
	}
	if !j.repeated || j.again != nil {
		j.expectUpcoming(w)
	}
}

// upcoming are the leaves that training goes on with after a job, as far as is known: enough for every worker to have
// all its slots filled. They are a hint; what comes otherwise is decoded when it comes.
type upcoming struct {
	place   int // of the first leaf's first view, in its update
	epochs  []int
	indices []int32 // samples of all leaves
}

// expectUpcoming notes what the worker gathers after the job.
func (j *leaves) expectUpcoming(w *worker) {
	f, u := w.fleet, &j.upcoming
	size := f.leaf.Capacity
	for i, epoch := range u.epochs {
		for k := range f.views() {
			place := u.place + i*f.views() + k
			if !f.owns(w, place) {
				continue
			}
			_, copy, kind := f.view(place)
			w.expect(f.train, f.augmentOf(kind, j.augment), methods.Draw{Seed: j.draw.Seed, Epoch: epoch, Copy: copy}, u.indices[i*size:(i+1)*size])
		}
	}
}

// foresee finds the leaves that come after the next ones, count of them.
func (t *trainer) foresee(j *leaves, count int) {
	f, u := t.fleet, &j.upcoming
	u.epochs, u.indices, u.place = u.epochs[:0], u.indices[:0], 0
	if !f.train.streams() {
		return
	}
	epoch, leaf, perEpoch := t.phaseEpoch(), t.at.Leaf+count, t.sampler.LeavesPerEpoch()
	left := t.leavesPerUpdate()
	if done := t.pending.leaves + count; done < left { // the update goes on in the next epoch
		u.place, left = done*f.views(), left-done
	}
	size := f.leaf.Capacity
	for range min(left, slotsAhead*f.lanes) {
		if leaf == perEpoch || t.cfg.dropLast && u.place == 0 && len(u.epochs) == 0 && perEpoch-leaf < t.leavesPerUpdate() {
			epoch, leaf = epoch+1, 0
		}
		if epoch >= t.cfg.epochs-t.at.PhaseFrom {
			return
		}
		from := len(u.indices)
		u.indices = slices.Grow(u.indices, size)[:from+size]
		t.sampler.Leaf(epoch, leaf, u.indices[from:])
		u.epochs = append(u.epochs, epoch)
		leaf++
	}
}
