package engine

import (
	"fmt"
	"slices"

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
	last    int     // leaves of the update, if it ends with these and they may be reduced at once, or 0
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
	if err := f.fault.strike(w, j.update); err != nil {
		return err
	}
	if err := w.gather(f.train, j.augment, j.seed, j.epoch, indices); err != nil {
		return err
	}
	if j.attack.Samples > 0 {
		a := graph.Attack{Eps: j.attack.Eps, Step: j.attack.Step, Iterations: j.attack.Iterations}
		p, err := w.program(programKey{kind: attackProgram, n: min(j.attack.Samples, len(indices)), attack: a})
		if err != nil {
			return err
		}
		w.bind(f.train)
		if err := p.main.Run(&w.bases); err != nil {
			return err
		}
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
	fleet   *fleet
	rule    optim.Rule
	moments *moments // nil if no method asks
	damping *damping // nil if no method asks
	steps   *steps   // nil if no method asks
	measure *lengths // nil until a method asks
	scratch optim.Scratch
	calls   []kernels.Call
	pass    kernels.Pass
	hyper   kernels.Memory
	slots   []kernels.Memory
	vectors []kernels.Memory
	cells   []float32 // what is written to hyper
}

func newUpdater(f *fleet, rule optim.Rule, list []method) (*updater, error) {
	u := &updater{fleet: f, rule: rule}
	if err := u.alloc(list); err != nil {
		u.free()
		return nil, err
	}
	return u, nil
}

func (u *updater) alloc(list []method) (err error) {
	f := u.fleet
	if u.moments, err = newMoments(f, list); err != nil {
		return err
	}
	if u.damping, err = newDamping(f, list); err != nil {
		return err
	}
	if u.steps, err = newSteps(f, list, u.lengths); err != nil {
		return err
	}
	u.calls = optim.Update(u.rule, transformsOf(list), f.net.Params, &u.scratch)
	if u.pass, err = f.prepare(slices.Clone(u.calls)...); err != nil {
		return fmt.Errorf("preparing the update: %w", err)
	}
	if u.hyper, err = f.dev.Alloc(u.scratch.Len()); err != nil {
		return err
	}
	u.cells = make([]float32, u.scratch.FilledLen())
	for _, name := range u.rule.Slots() {
		m, err := f.dev.Alloc(f.net.ParamCells())
		if err != nil {
			return fmt.Errorf("allocating the optimiser's %s: %w", name, err)
		}
		u.slots = append(u.slots, m)
	}
	for range u.scratch.Vectors() {
		m, err := f.dev.Alloc(f.net.ParamCells())
		if err != nil {
			return fmt.Errorf("allocating the optimiser's scratch: %w", err)
		}
		u.vectors = append(u.vectors, m)
	}
	return nil
}

// transformsOf returns the methods' transforms of the gradient.
func transformsOf(list []method) (out []optim.Transform) {
	for _, m := range list {
		if t, ok := m.Method.(methods.Transformer); ok {
			out = append(out, t.Transform())
		}
	}
	return out
}

// bind points the bases at what an update works on.
func (u *updater) bind(sum kernels.Memory) {
	f := u.fleet
	f.bases[graph.ParamBase], f.bases[graph.GradBase], f.bases[optim.HyperBase] = f.params, sum, u.hyper
	for i, m := range u.slots {
		f.bases[optim.SlotBase+kernels.Base(i)] = m
	}
	for i, m := range u.vectors {
		f.bases[optim.VectorBase+kernels.Base(i)] = m
	}
}

// update makes an update, counted from 1, by the mean of the gradients summed over so many leaves and samples.
func (u *updater) update(number, leaves, samples int, lr float64) error {
	f := u.fleet
	sum, err := u.reduce(leaves)
	if err != nil {
		return err
	}
	if err := f.foldStats(leaves); err != nil {
		return err
	}
	if err := u.steps.gradient(sum, samples); err != nil {
		return err
	}
	if err := u.damping.apply(sum); err != nil {
		return err
	}
	u.scratch.Fill(u.cells, optim.Moment{Update: number, LR: lr, Scale: 1 / float64(samples)})
	u.hyper.WriteFloats(0, u.cells)
	u.bind(sum)
	if err := u.pass.Run(&f.bases); err != nil {
		return err
	}
	return u.steps.moved(samples)
}

// lengths returns the measure of parameters, made at first use.
func (u *updater) lengths() (l *lengths, err error) {
	if u.measure == nil {
		u.measure, err = newLengths(u.fleet)
	}
	return u.measure, err
}

// reduce returns the sum of the lanes that so many leaves reach.
func (u *updater) reduce(leaves int) (kernels.Memory, error) {
	if err := u.moments.readLanes(leaves); err != nil {
		return nil, err
	}
	if err := u.damping.readLanes(leaves); err != nil {
		return nil, err
	}
	sum, err := u.fleet.reduce.finish(u.fleet.sums, leaves)
	if err != nil {
		return nil, err
	}
	return sum, u.moments.readSum(sum)
}

// readsLanes reports whether the lanes must be whole before they are reduced.
func (u *updater) readsLanes() bool { return u.moments != nil || u.damping != nil }

func (u *updater) free() {
	if u == nil {
		return
	}
	u.moments.free()
	u.damping.free()
	u.steps.free()
	u.measure.free()
	if u.pass != nil {
		u.pass.Free()
	}
	free(u.hyper)
	free(u.slots...)
	free(u.vectors...)
}
