package engine

import (
	"cmp"
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
	first   int       // place in the update of the first leaf; a leaf of samples has a place for each of its views
	update  int       // under way, from 1
	last    int       // places of the update, if it ends with these and they may be reduced at once, or 0
	indices []int32   // samples of all leaves
	weights []float32 // of the samples of all places; nil if all weigh 1
	augment augmentation
	attack  methods.Attack
	again   elsewhere        // in a second pass of an update: the parameters, or nil
	single  bool             // only the copy that the draw names is computed: a leaf has one place
	dropped []kernels.Memory // each worker's, for batch statistics that are not kept
	scale   float64          // what the sums were multiplied by after these leaves, for a second pass

	ahead ahead        // leaves of the next update to attack
	ready *attackSlots // what was attacked for this update, nil if nothing ever is
	start int          // the update's first leaf, of the run's

	upcoming upcoming // leaves after these, to be decoded meanwhile
	repeated bool     // a second pass may follow first

	results
}

// elsewhere has the parameters of a second pass.
type elsewhere interface {
	params(w *worker, place int) kernels.Memory
}

// owned reports whether a worker has leaves of the job.
func (j *leaves) owned(w *worker) bool {
	for i := range j.loss {
		if w.fleet.owns(w, j.first+i) {
			return true
		}
	}
	return false
}

func (j *leaves) busy(w *worker) bool {
	if j.owned(w) {
		return true
	}
	for i := range j.ahead.slots {
		if j.ahead.owns(w, len(j.loss), i) {
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
	if err := j.ahead.run(w, j); err != nil {
		return err
	}
	err := j.fetch(w)
	if j.weights != nil {
		j.unweigh(w)
	}
	return err
}

// leaf computes one place of the update: gather, attack, forward, backward. Its gradient is added to its lane.
func (j *leaves) leaf(w *worker, i int) error {
	f := w.fleet
	if err := f.fault.strike(w, j.update); err != nil {
		return err
	}
	kind, n, err := j.input(w, i)
	if err != nil {
		return err
	}
	return j.train(w, i, f.setOf(kind), n)
}

// input readies the samples of a place: gather, attack.
func (j *leaves) input(w *worker, i int) (kind viewKind, samples int, err error) {
	f := w.fleet
	leaf, copy, kind := j.view(f, i)
	indices, draw := j.samples(f, leaf), j.draw
	draw.Copy = copy
	if err := w.gather(f.train, f.augmentOf(kind, j.augment), draw, indices); err != nil {
		return kind, 0, err
	}
	return kind, len(indices), j.perturb(w, leaf, kind, indices)
}

// augmentOf is the augmentation of a view, where others have the given one.
func (f *fleet) augmentOf(kind viewKind, others augmentation) augmentation {
	if kind == augmentedView {
		return f.pair.further.augment
	}
	return others
}

// view is the fleet's view of a place of the job.
func (j *leaves) view(f *fleet, i int) (leaf, copy int, kind viewKind) {
	if j.single {
		return j.first + i, j.draw.Copy, cleanView
	}
	return f.view(j.first + i)
}

// samples returns those of a leaf of the update.
func (j *leaves) samples(f *fleet, leaf int) []int32 {
	size, first := f.leaf.Capacity, j.first
	if !j.single {
		first /= f.views()
	}
	at := (leaf - first) * size
	return j.indices[at : at+size]
}

// perturb attacks the worker's leaf as the methods want, or takes what was attacked before.
func (j *leaves) perturb(w *worker, leaf int, kind viewKind, indices []int32) error {
	f := w.fleet
	switch {
	case kind == twinView && j.ready != nil && j.ready.holds(leaf, j.start+leaf):
		return w.copyInputs(&w.fromSlot, j.ready.slot(w, leaf))
	case kind == twinView:
		return w.perturb(f.train, f.pair.Attack, indices)
	case j.attack.Samples > 0:
		return w.perturb(f.train, j.attack, indices)
	}
	return nil
}

// train runs the forward and backward pass over a leaf of n samples, through a parameter set.
func (j *leaves) train(w *worker, i, set, n int) error {
	f := w.fleet
	p, err := w.program(f.persistent.key(programKey{kind: trainProgram, n: n, set: set, weighted: j.weights != nil}))
	if err != nil {
		return err
	}
	if j.weights != nil {
		w.leaf.WriteFloats(int(f.leaf.Weight().Offset), j.weights[i*n:(i+1)*n])
	}
	w.bind(f.train)
	place := j.first + i
	f.persistent.bind(w, place)
	if j.again != nil {
		w.bases[graph.ParamBase] = j.again.params(w, place)
	}
	w.bases[graph.GradBase] = f.sums.lane(w, place)
	if f.begins(place) {
		if err := w.clear(); err != nil {
			return err
		}
	}
	if f.fold != nil {
		w.bases[graph.StatsBase] = j.stats(w, place)
	}
	if err := j.pass(w, p, place); err != nil {
		return err
	}
	j.read(w, i, n)
	return nil
}

// passes is how many samples go through a forward and backward pass, attacks included.
func (j *leaves) passes(f *fleet) int64 {
	return int64(len(j.loss)*f.leaf.Capacity + j.attackPasses(f))
}

// stats returns where a leaf's batch statistics go; those of a second pass are dropped.
func (j *leaves) stats(w *worker, place int) kernels.Memory {
	if j.dropped != nil {
		return j.dropped[w.id]
	}
	return part(w.fleet.stats.leaves[place], w.home)
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
	moments *moments    // nil if no method asks
	damping *damping    // nil if no method asks
	scaling *scaling    // nil if no method asks
	steps   *steps      // nil if no method asks
	guard   *guard      // nil if the recipe wants none
	measure *lengths    // nil until a method asks
	norms   *copyNorms  // nil if no method asks
	line    *lineSearch // nil if no method asks
	scratch optim.Scratch
	calls   []kernels.Call
	pass    kernels.Pass
	hyper   kernels.Memory
	slots   []kernels.Memory
	vectors []kernels.Memory
	cells   []float32 // what is written to hyper
	norm    float64   // of the update's mean gradient, where it was measured, or 0
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
	if u.scaling, err = newScaling(f, list); err != nil {
		return err
	}
	f.whole = u.moments != nil || u.damping != nil
	if u.steps, err = newSteps(f, list, u.lengths); err != nil {
		return err
	}
	u.calls = optim.Update(u.rule, transformsOf(list), f.net.Trained(), &u.scratch)
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

// update makes an update, counted from 1, by the mean of the gradients summed over so many leaves and samples, and returns
// its learning rate, which a method may set. The error is an *anomaly if the update is not to be made.
func (u *updater) update(number, leaves, samples int, lr float64) (float64, error) {
	u.norm = 0
	sum, err := u.reduce(leaves)
	if err == nil {
		lr, err = u.line.search(sum, samples, lr)
	}
	if err != nil {
		return 0, err
	}
	return lr, u.apply(sum, number, leaves, samples, lr)
}

// apply makes the update of a sum of gradients.
func (u *updater) apply(sum kernels.Memory, number, leaves, samples int, lr float64) error {
	f := u.fleet
	factor, err := u.norms.factor(number, sum)
	if err != nil {
		return err
	}
	if err := f.foldStats(leaves); err != nil {
		return err
	}
	if err := u.steps.gradient(sum, samples); err != nil {
		return err
	}
	u.norm = cmp.Or(u.norm, u.steps.norm())
	if err := u.damping.apply(sum); err != nil {
		return err
	}
	if err := u.scaling.apply(sum); err != nil {
		return err
	}
	u.scratch.Fill(u.cells, optim.Moment{Update: number, LR: lr, Scale: factor / float64(samples)})
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
	if u.norm, err = u.guard.check(sum); err != nil {
		return nil, err
	}
	return sum, u.moments.readSum(sum)
}

func (u *updater) free() {
	if u == nil {
		return
	}
	u.moments.free()
	u.damping.free()
	u.scaling.free()
	u.steps.free()
	u.measure.free()
	if u.pass != nil {
		u.pass.Free()
	}
	free(u.hyper)
	free(u.slots...)
	free(u.vectors...)
}
