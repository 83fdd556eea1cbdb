package engine

import (
	"fmt"
	"slices"
	"time"

	"broadside/engine/checkpoint"
	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/engine/telemetry"
	"broadside/kernels"
)

// staged is where a leaf of a data set that is not in memory lies in a device's memory before it is gathered.
type staged struct {
	images, labels kernels.Memory
	order          []int32 // 0, 1, 2, ...
	classes        []int32
}

// gatherStaged has the leaf's images decoded, brings them to the device and gathers them by a pass.
func (w *worker) gatherStaged(r *resident, p kernels.Pass, v data.View, indices []int32) error {
	if err := w.stage(r); err != nil {
		return err
	}
	slot, err := r.stream.take(w.id, v, indices)
	if err != nil {
		return err
	}
	s := &w.staged
	s.images.WriteInts(0, slot.cells[:ceilDiv(len(indices)*r.set.ImageBytes(), 4)])
	r.stream.give(slot)
	s.classes = s.classes[:0]
	for _, i := range indices {
		s.classes = append(s.classes, r.set.Labels[i])
	}
	s.labels.WriteInts(0, s.classes)
	at := int(w.fleet.leaf.Index().Offset)
	w.leaf.WriteInts(at, s.order[:len(indices)])
	w.bind(r)
	if err := p.Run(&w.bases); err != nil {
		return err
	}
	w.leaf.WriteInts(at, indices) // what else is random is keyed by the sample
	return nil
}

// stage makes room for a leaf.
func (w *worker) stage(r *resident) (err error) {
	n := w.fleet.leaf.Capacity
	if w.staged.images != nil {
		return nil
	}
	images, err := w.dev.Alloc(ceilDiv(n*r.set.ImageBytes(), 4))
	if err != nil {
		return fmt.Errorf("%s: allocating the images of a leaf: %w", w.dev.Name(), err)
	}
	labels, err := w.dev.Alloc(n)
	if err != nil {
		images.Free()
		return fmt.Errorf("%s: allocating the labels of a leaf: %w", w.dev.Name(), err)
	}
	w.staged = staged{images: images, labels: labels, order: firstSamples(n), classes: make([]int32, 0, n)}
	return nil
}

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
	if r.streams() {
		r.stream.feeds[w.id].coming.add(viewOf(a, d), indices)
	}
}

// waited is how long a worker of this process has waited for data, on average.
func (f *fleet) waited() time.Duration {
	sum := time.Duration(0)
	for _, r := range []*resident{f.train, f.test} {
		if r.streams() {
			sum += r.stream.waited()
		}
	}
	return sum / time.Duration(len(f.workers))
}

func (j *evaluation) gathers(w *worker) {
	for i := range j.loss {
		if j.owns(w, i) {
			w.expect(j.on, augmentation{}, methods.Draw{Seed: j.seed}, j.samples(i))
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
		leaf, copy, _ := f.view(j.first + i)
		draw := j.draw
		draw.Copy = copy
		w.expect(f.train, j.augment, draw, j.samples(f, leaf))
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
			_, copy, _ := f.view(place)
			w.expect(f.train, j.augment, methods.Draw{Seed: j.draw.Seed, Epoch: epoch, Copy: copy}, u.indices[i*size:(i+1)*size])
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

// waitedSeconds is how long this run has waited for data: an average over the workers of this process and, before a
// resume, of those then.
func (t *trainer) waitedSeconds() float64 { return t.waitedBefore + t.fleet.waited().Seconds() }

// epochWait is the share of the epoch's time so far that went into waiting for data, where data are decoded meanwhile.
func (t *trainer) epochWait() float64 {
	return (t.fleet.waited() - t.epochWaited).Seconds() / time.Since(t.epochStarted).Seconds()
}

// tellBad tells of images that could not be decoded.
func (t *trainer) tellBad() error {
	count, reason := t.fleet.badImages()
	if count == t.badTold {
		return nil
	}
	t.badTold = count
	return t.sink.Event(telemetry.Event{Type: telemetry.TypeData, Epoch: t.at.Epoch, Updates: t.at.Updates,
		Message: fmt.Sprintf("%d images could not be decoded, and others of their classes took their places; the first: %s", count, reason)})
}

// badImages is how many images could not be decoded, and why the first could not.
func (f *fleet) badImages() (count int, reason string) {
	if f.train.set.Source == nil {
		return 0, ""
	}
	return f.train.set.Source.Bad() // which is also the test set's
}

// imageDecoder says what decodes the images; nothing where they are not in files.
func (f *fleet) imageDecoder() string {
	if f.train.set.Source == nil {
		return ""
	}
	return f.train.set.Source.Decoder()
}

// otherDecoder warns of a checkpoint that was trained on images decoded by another decoder.
func (f *fleet) otherDecoder(ck *checkpoint.Checkpoint) string {
	was, is := ck.Meta[metaDecoder], f.imageDecoder()
	if was == is {
		return ""
	}
	return fmt.Sprintf("images are decoded by %s from here on, by %s before: the run has other bits than without the change", is, was)
}
