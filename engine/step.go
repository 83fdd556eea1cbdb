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
	draw    methods.Draw
	first   int       // place in the update of the first leaf; a leaf of samples has a place for each of its copies
	update  int       // under way, from 1
	last    int       // places of the update, if it ends with these, or 0
	indices []int32   // samples of all leaves
	weights []float32 // of the samples of all places; nil if all weigh 1
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
	for i := range j.loss {
		if !w.fleet.owns(w, j.first+i) {
			continue
		}
		if err := j.leaf(w, i); err != nil {
			return err
		}
	}
	err := j.fetch(w)
	if j.weights != nil {
		j.unweigh(w)
	}
	return err
}

// leaf computes one leaf: gather, attack, forward, backward. Its gradient is added to its lane.
func (j *leaves) leaf(w *worker, i int) error {
	f := w.fleet
	size := f.leaf.Capacity
	leaf, copy := f.copyAt(i)
	indices, draw := j.indices[leaf*size:(leaf+1)*size], j.draw
	draw.Copy = copy
	if err := f.fault.strike(w, j.update); err != nil {
		return err
	}
	if err := w.gather(f.train, j.augment, draw, indices); err != nil {
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
	p, err := w.program(programKey{kind: trainProgram, n: size, weighted: j.weights != nil})
	if err != nil {
		return err
	}
	if j.weights != nil {
		w.leaf.WriteFloats(int(f.leaf.Weight().Offset), j.weights[i*size:(i+1)*size])
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
	j.read(w, i, size)
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
	sum, err := f.reduce.finish(f.sums, leaves)
	if err != nil {
		return err
	}
	if err := f.foldStats(leaves); err != nil {
		return err
	}
	u.scratch.Fill(u.cells, optim.Moment{Update: number, LR: lr, Scale: 1 / float64(samples)})
	u.hyper.WriteFloats(0, u.cells)
	u.bind(sum)
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
	free(u.vectors...)
}
