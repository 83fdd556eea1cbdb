package engine

import (
	"fmt"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/optim"
	"broadside/kernels"
)

// leaves is the job of computing consecutive leaves of one update, all of one epoch.
type leaves struct {
	seed    uint64
	epoch   int
	first   int     // place in the update of the first leaf
	update  int     // under way, from 1
	last    int     // leaves of the update, if it ends with these, or 0
	indices []int32 // samples of all leaves
	augment augmentation
	attack  methods.Attack

	results
}

func (j *leaves) busy(w *worker) bool {
	for i := range j.loss {
		if w.fleet.owns(w, j.first+i) {
			return true
		}
	}
	return false
}

func (j *leaves) run(w *worker) error {
	size := w.fleet.leaf.Capacity
	for i := range j.loss {
		if !w.fleet.owns(w, j.first+i) {
			continue
		}
		if err := j.leaf(w, i, j.indices[i*size:(i+1)*size]); err != nil {
			return err
		}
	}
	return j.fetch(w)
}

// leaf computes one leaf: gather, attack, forward, backward. Its gradient is added to its lane.
func (j *leaves) leaf(w *worker, i int, indices []int32) error {
	f := w.fleet
	if err := j.fill(w, j.epoch, indices); err != nil {
		return err
	}
	p, err := w.program(programKey{kind: trainProgram, n: len(indices)})
	if err != nil {
		return err
	}
	w.bind(f.train)
	place := j.first + i
	w.bases[graph.GradBase] = f.sums.lane(w, place)
	if f.begins(place) {
		if err := w.clear(); err != nil {
			return err
		}
	}
	if f.fold != nil {
		w.bases[graph.StatsBase] = part(f.stats.leaves[place], w.home)
	}
	if err := j.pass(w, p, place); err != nil {
		return err
	}
	j.read(w, i, len(indices))
	return nil
}

// fill gathers the samples of a leaf and attacks them.
func (j *leaves) fill(w *worker, epoch int, indices []int32) error {
	f := w.fleet
	if err := f.fault.strike(w, j.update); err != nil {
		return err
	}
	if err := w.gather(f.train, j.augment, j.seed, epoch, indices); err != nil || j.attack.Samples == 0 {
		return err
	}
	a := graph.Attack{Eps: j.attack.Eps, Step: j.attack.Step, Iterations: j.attack.Iterations}
	p, err := w.program(programKey{kind: attackProgram, n: min(j.attack.Samples, len(indices)), attack: a})
	if err != nil {
		return err
	}
	w.bind(f.train)
	return p.main.Run(&w.bases)
}

// pass runs the forward and backward pass. Where the leaf is the worker's last of the update, and the worker is alone
// in its memory, the reduction of its gradients begins as backward finishes them.
func (j *leaves) pass(w *worker, p *program, place int) error {
	f := w.fleet
	if len(p.parts) == 0 || place+f.ranks < j.last || place >= j.last {
		return p.main.Run(&w.bases)
	}
	for _, part := range p.parts {
		if err := part.Run(&w.bases); err != nil {
			return err
		}
		if err := f.reduce.begin(w.home, f.sums, j.last); err != nil {
			return err
		}
	}
	return nil
}

// updater turns gradient sums into parameter updates.
type updater struct {
	fleet *fleet
	rule  optim.Rule
	pass  kernels.Pass
	hyper kernels.Memory
	slots []kernels.Memory
	cells [optim.HyperCells]float32
}

func newUpdater(f *fleet, rule optim.Rule) (*updater, error) {
	u := &updater{fleet: f, rule: rule}
	if err := u.alloc(); err != nil {
		u.free()
		return nil, err
	}
	return u, nil
}

func (u *updater) alloc() (err error) {
	f := u.fleet
	if u.pass, err = f.prepare(u.rule.Update(f.net.Params)...); err != nil {
		return fmt.Errorf("preparing the update: %w", err)
	}
	if u.hyper, err = f.dev.Alloc(optim.HyperCells); err != nil {
		return err
	}
	for _, name := range u.rule.Slots() {
		m, err := f.dev.Alloc(f.net.ParamCells())
		if err != nil {
			return fmt.Errorf("allocating the optimiser's %s: %w", name, err)
		}
		u.slots = append(u.slots, m)
	}
	return nil
}

// update applies the mean of the gradients summed over so many leaves and samples.
func (u *updater) update(leaves, samples int, lr float64) error {
	f := u.fleet
	sum, err := f.reduce.finish(f.sums, leaves)
	if err != nil {
		return err
	}
	if err := f.foldStats(leaves); err != nil {
		return err
	}
	u.cells = [optim.HyperCells]float32{float32(lr), float32(1 / float64(samples))}
	u.hyper.WriteFloats(0, u.cells[:])
	f.bases[graph.ParamBase], f.bases[graph.GradBase], f.bases[optim.HyperBase] = f.params, sum, u.hyper
	for i, m := range u.slots {
		f.bases[optim.SlotBase+kernels.Base(i)] = m
	}
	return u.pass.Run(&f.bases)
}

func (u *updater) free() {
	if u == nil {
		return
	}
	if u.pass != nil {
		u.pass.Free()
	}
	free(u.hyper)
	free(u.slots...)
}
