package engine

import (
	"fmt"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/optim"
	"broadside/kernels"
)

// lineSearch lets a method set the learning rate of an update by what it finds on the line w - rate g, for the parameters w and
// the mean gradient g of the update:
//
//	keep the jobs of the update's leaves, as they were computed
//	place = w - rate g
//	compute the kept leaves again, there: a forward pass for the loss, or the gradient
//
// The place is computed as the step is, so that the loss there is that of the parameters to come. Losses are added in the
// order of the leaves, as in the first pass. Parameters and the sum of the gradients stay.
type lineSearch struct {
	*keptJobs
	trainer *trainer
	method  methods.Searcher

	place   kernels.Memory   // parameter-shaped
	hyper   kernels.Memory   // learning rate, gradient scale and gain of a step
	dropped []kernels.Memory // each worker's batch statistics
	move    kernels.Pass     // place = w - rate g
	lengths *lengths
	losses  lineLosses
	cells   [optim.HyperCells]float32

	// Of the update under way.
	sum     kernels.Memory // of its gradients
	samples float64
	places  int
	rate    float64
	loss    float64
	square  float64 // of g
}

var _ methods.Line = (*lineSearch)(nil)

// newLine returns nil if no method asks.
func newLine(t *trainer) *lineSearch {
	for _, m := range t.methods {
		if s, ok := m.Method.(methods.Searcher); ok {
			return &lineSearch{keptJobs: &keptJobs{}, trainer: t, method: s}
		}
	}
	return nil
}

// checkSearch refuses networks whose gradient is not that of their loss.
func (t *trainer) checkSearch() error {
	for _, m := range t.methods {
		if _, ok := m.Method.(methods.Searcher); ok && (t.fleet.net.HasLocal() || t.fleet.estimated) {
			return fmt.Errorf("method %s searches along the gradient of the loss, which that of model %s is not: choose its fixed step",
				m.info.Name, t.fleet.net.Name)
		}
	}
	return nil
}

// vectors is how many parameter-shaped memories it takes.
func (l *lineSearch) vectors() int {
	if l == nil {
		return 0
	}
	return 2 // the place, and the scratch of lengths
}

// alloc allocates the memory; the fleet is ready to train.
func (l *lineSearch) alloc() error {
	if l == nil {
		return nil
	}
	if err := l.allocate(); err != nil {
		l.free()
		return fmt.Errorf("preparing to search for a learning rate: %w", err)
	}
	return nil
}

func (l *lineSearch) allocate() (err error) {
	f := l.trainer.fleet
	if l.lengths, err = l.trainer.updater.lengths(); err != nil {
		return err
	}
	if l.place, err = f.dev.Alloc(f.net.ParamCells()); err != nil {
		return err
	}
	if l.hyper, err = f.dev.Alloc(optim.HyperCells); err != nil {
		return err
	}
	if l.dropped, err = newDropped(f); err != nil {
		return err
	}
	l.losses.line = l
	all := kernels.Vector{Count: int64(f.net.ParamCells()), A: 1}
	l.move, err = f.prepare(
		kernels.Call{Kernel: kernels.Axpby, Shape: all, Args: []kernels.Ref{{Base: graph.ParamBase}, {Base: yBase}}},
		kernels.Call{Kernel: kernels.SGD, Shape: kernels.SGDShape{Count: all.Count},
			Args: []kernels.Ref{{Base: yBase}, {Base: graph.GradBase}, kernels.None, {Base: optim.HyperBase}}})
	return err
}

// search returns the learning rate of an update of so many samples, whose summed gradients these are.
func (l *lineSearch) search(sum kernels.Memory, samples int, rate float64) (float64, error) {
	if l == nil {
		return rate, nil
	}
	square, err := l.lengths.product(sum, sum)
	if err != nil {
		return 0, err
	}
	n := float64(samples)
	l.sum, l.samples, l.places, l.rate = sum, n, l.trainer.pending.places, rate
	l.loss, l.square = l.trainer.pending.loss/n, square/(n*n)
	if rate, err = l.method.Search(control{l.trainer}, l); err != nil {
		return 0, fmt.Errorf("searching for a learning rate: %w", err)
	}
	return rate, nil
}

// Rate is that of the schedule.
func (l *lineSearch) Rate() float64 { return l.rate }

// Loss is the mean loss of the first pass.
func (l *lineSearch) Loss() float64 { return l.loss }

// SquaredNorm is that of the mean gradient.
func (l *lineSearch) SquaredNorm() float64 { return l.square }

// LossAt returns the mean loss of the update's samples at a place.
func (l *lineSearch) LossAt(rate float64) (sum float64, err error) {
	if err := l.goTo(rate); err != nil {
		return 0, err
	}
	f, j := l.trainer.fleet, &l.losses
	for _, j.leaves = range l.kept[:l.n] {
		j.results.resize(len(j.leaves.loss), f.leaf.Capacity)
		if err := f.compute(j, &j.results, j.first, 0); err != nil {
			return 0, err
		}
		for _, loss := range j.results.loss {
			sum += loss
		}
	}
	return sum / l.samples, nil
}

// Curvature computes the gradient at a place in place of the update's, which it puts back.
func (l *lineSearch) Curvature(rate float64) (float64, error) {
	if err := l.goTo(rate); err != nil {
		return 0, err
	}
	f, saved := l.trainer.fleet, l.lengths.scratch
	if err := l.lengths.copyTo(saved, l.sum); err != nil {
		return 0, err
	}
	for _, k := range l.kept[:l.n] {
		k.again, k.dropped, k.last = l, l.dropped, 0
		if err := f.compute(k, &k.results, k.first, 0); err != nil {
			return 0, err
		}
		l.trainer.at.GradPasses += k.passes(f)
	}
	there, err := f.reduce.finish(f.sums, l.places)
	if err != nil {
		return 0, err
	}
	product, err := l.lengths.product(there, saved)
	if err != nil {
		return 0, err
	}
	product /= l.samples * l.samples
	return (l.square - product) / (rate * l.square), l.lengths.copyTo(l.sum, saved)
}

// goTo computes a place.
func (l *lineSearch) goTo(rate float64) error {
	f := l.trainer.fleet
	l.cells = [optim.HyperCells]float32{float32(rate), float32(1 / l.samples), 1}
	l.hyper.WriteFloats(0, l.cells[:])
	f.bases[graph.ParamBase], f.bases[graph.GradBase] = f.params, l.sum
	f.bases[yBase], f.bases[optim.HyperBase] = l.place, l.hyper
	return l.move.Run(&f.bases)
}

// params returns the place for a leaf.
func (l *lineSearch) params(w *worker, _ int) kernels.Memory { return part(l.place, w.home) }

func (l *lineSearch) free() {
	if l == nil {
		return
	}
	free(l.place, l.hyper)
	free(l.dropped...)
	if l.move != nil {
		l.move.Free()
	}
}

// lineLosses is the job of a forward pass over kept leaves at a place.
type lineLosses struct {
	*leaves
	line *lineSearch
	results
}

func (j *lineLosses) busy(w *worker) bool { return j.leaves.owned(w) }

func (j *lineLosses) gathers(w *worker) {
	j.leaves.gathers(w)
	j.expectUpcoming(w)
}

func (j *lineLosses) run(w *worker) error {
	for i := range j.results.loss {
		if !w.fleet.owns(w, j.first+i) {
			continue
		}
		if err := j.forward(w, i); err != nil {
			return err
		}
	}
	return j.results.fetch(w)
}

// forward computes the loss of a leaf.
func (j *lineLosses) forward(w *worker, i int) error {
	f := w.fleet
	kind, n, err := j.input(w, i)
	if err != nil {
		return err
	}
	p, err := w.program(programKey{kind: scoreProgram, n: n, set: f.setOf(kind)})
	if err != nil {
		return err
	}
	w.bind(f.train)
	w.bases[graph.ParamBase] = j.line.params(w, i)
	if f.fold != nil {
		w.bases[graph.StatsBase] = j.line.dropped[w.id]
	}
	if err := p.main.Run(&w.bases); err != nil {
		return err
	}
	j.results.read(w, i, n)
	return nil
}

var _ job = (*lineLosses)(nil)
