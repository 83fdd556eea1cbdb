package engine

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"slices"

	"broadside/engine/checkpoint"
	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/recipe"
	"broadside/kernels"
)

// pairing trains on an adversarial twin of every leaf. A leaf and its twin have two places of the update next to each
// other, so that they are dealt to lanes like any others. Which of the two comes first follows the Thue-Morse sequence:
// so each of 2, 4, 8... devices gets as many twins, which cost more, as the others. Where there is a further view of
// every leaf, the third place is always the twin's: three places a leaf come around to all devices by themselves.
//
// A stale attack is made an update before its twin is trained on, beside that update's gradients, which it does not
// depend on. Its result waits in a slot, the leaf's number in its update.
type pairing struct {
	methods.Pair
	further further
	folds   []*folder // of the batch statistics of further parameter sets, from the second set on

	slots  [2]attackSlots // by the parity of the update whose twins they hold
	before kernels.Memory // the parameters that the stale attacks at hand were made with
	keep   kernels.Pass   // copies parameters
}

// further is one more view of every leaf, without augmentation none.
type further struct {
	augment augmentation
	set     int
}

// attackSlots hold attacked samples. A slot lies in the memory of the rank that trains on its twin; slots of different
// ranks share a row.
type attackSlots struct {
	rows   []kernels.Memory
	leaves []int // which leaf of the run each slot holds, all epochs counted, or -1
}

// holds reports whether a slot holds a leaf.
func (s *attackSlots) holds(slot, leaf int) bool {
	return slot < len(s.leaves) && s.leaves[slot] == leaf
}

// clear empties all slots.
func (s *attackSlots) clear() {
	for i := range s.leaves {
		s.leaves[i] = -1
	}
}

// pairUp asks the methods for twins, and notes the attacks that they begin with.
func (f *fleet) pairUp(all []method, d recipe.Data) error {
	for _, m := range all {
		if p, ok := m.Method.(methods.Perturber); ok && p.Attack().Samples > 0 {
			f.attacks = append(f.attacks, p.Attack())
		}
		p, ok := m.Method.(methods.Pairer)
		if !ok {
			continue
		}
		pair := p.Pair()
		if pair.Attack.Samples == 0 {
			continue
		}
		f.pair = &pairing{Pair: pair}
		f.attacks = append(f.attacks, pair.Attack)
		if pair.Stale && !pair.Attack.TrainMode {
			return fmt.Errorf("method %s: stale attacks need batch statistics: the running ones of the update before are not kept", m.info.Name)
		}
		if v, ok := m.Method.(methods.Viewer); ok {
			if err := f.pair.look(v, d); err != nil {
				return fmt.Errorf("method %s: %w", m.info.Name, err)
			}
		}
	}
	return nil
}

// look adds the further view that a method wants, by the recipe's sizes.
func (p *pairing) look(v methods.Viewer, d recipe.Data) error {
	names, set := v.View()
	if slices.Contains(names, "pad_crop") && d.Pad == 0 {
		return fmt.Errorf("its view has pad_crop, which data.pad 0 leaves nothing to move: use 1 or more")
	}
	streams := slices.Contains(d.Augment, "random_resized_crop")
	if streams && (slices.Contains(names, "pad_crop") || slices.Contains(names, "cutout")) {
		return fmt.Errorf("its view is %v: where data.augment has random_resized_crop it can be of random_resized_crop, flip and autoaugment", names)
	}
	if !streams && slices.Contains(names, "random_resized_crop") {
		return fmt.Errorf("its view has random_resized_crop, which data.augment has not")
	}
	d.Augment = names
	p.further = further{augment: augmentationOf(d), set: set}
	return nil
}

// viewed is the augmentation of the further view, if there is one.
func (p *pairing) viewed() augmentation {
	if p == nil {
		return augmentation{}
	}
	return p.further.augment
}

// views is how many places of an update a leaf has.
func (p *pairing) views() int {
	if p.further == (further{}) {
		return 2
	}
	return 3
}

// view returns the leaf of a place, and its kind.
func (p *pairing) view(place int) (leaf int, kind viewKind) {
	leaf = place / p.views()
	switch {
	case place == p.twinPlace(leaf):
		return leaf, twinView
	case p.views() == 3:
		return leaf, viewKind(place % 3)
	}
	return leaf, cleanView
}

// alloc allocates what stale attacks need.
func (p *pairing) alloc(f *fleet) (err error) {
	if p == nil || !p.Stale {
		return nil
	}
	if p.before, err = f.dev.Alloc(f.net.ParamCells()); err != nil {
		return fmt.Errorf("allocating the parameters of stale attacks: %w", err)
	}
	p.keep, err = f.prepare(f.axpby(1, 0))
	return err
}

// twinPlace is the place of a leaf's twin.
func (p *pairing) twinPlace(leaf int) int {
	if p.views() == 3 {
		return 3*leaf + int(twinView)
	}
	return 2*leaf + 1 - bits.OnesCount(uint(leaf))&1
}

// setOf is the parameter set that a place is trained through.
func (f *fleet) setOf(kind viewKind) int {
	switch kind {
	case twinView:
		return f.pair.Attack.Set
	case augmentedView:
		return f.pair.further.set
	}
	return 0
}

// prepareTwins compiles training through further parameter sets, and its folds.
func (f *fleet) prepareTwins() error {
	if f.pair == nil {
		return nil
	}
	for set := 1; set <= max(f.pair.Attack.Set, f.pair.further.set); set++ {
		for _, w := range f.workers {
			p, err := w.program(programKey{kind: trainProgram, n: f.leaf.Capacity, set: set})
			if err != nil {
				return err
			}
			if w.id > 0 || len(p.Fold) == 0 {
				continue
			}
			fold, err := newFolder(f, p.Fold, p.StatsCells)
			if err != nil {
				return err
			}
			f.pair.folds = append(f.pair.folds, fold)
		}
	}
	return nil
}

// slot returns a worker's memory of a slot.
func (s *attackSlots) slot(w *worker, slot int) kernels.Memory {
	return part(s.rows[slot/w.fleet.ranks], w.home)
}

// grow makes room for the twins of an update of so many leaves.
func (p *pairing) grow(f *fleet, leaves int) error {
	for i := range p.slots {
		s := &p.slots[i]
		for len(s.leaves) < leaves {
			s.leaves = append(s.leaves, -1)
		}
		for len(s.rows) < ceilDiv(leaves, f.ranks) {
			row, err := f.dev.Alloc(f.leaf.Capacity * f.net.Input.Elems())
			if err != nil {
				return fmt.Errorf("allocating attacked samples: %w", err)
			}
			s.rows = append(s.rows, row)
		}
	}
	return nil
}

// cells is the memory that the twins of an update of so many leaves need besides what other leaves do: all of it is for
// stale attacks.
func (p *pairing) cells(f *fleet, leaf, leaves int) int64 {
	if p == nil || !p.Stale {
		return 0
	}
	return int64(f.net.ParamCells()) + 2*int64(ceilDiv(leaves, f.ranks))*int64(leaf*f.net.Input.Elems())
}

func (p *pairing) free() {
	if p == nil {
		return
	}
	free(p.before)
	for _, s := range p.slots {
		free(s.rows...)
	}
	if p.keep != nil {
		p.keep.Free()
	}
	for _, fold := range p.folds {
		fold.free()
	}
}

// ahead are leaves of the next update that are attacked beside this one's gradients.
type ahead struct {
	slots   []int // of each leaf
	epochs  []int
	indices []int32 // samples of all leaves
	to      *attackSlots
}

// plan takes the leaf of the run that a slot is to hold; a run that ends before has none.
func (a *ahead) plan(s leafOrder, size, slot, leaf, epochs int) {
	epoch := leaf / s.LeavesPerEpoch()
	a.to.leaves[slot] = -1
	if epoch >= epochs {
		return
	}
	a.to.leaves[slot] = leaf
	a.slots, a.epochs = append(a.slots, slot), append(a.epochs, epoch)
	from := len(a.indices)
	a.indices = slices.Grow(a.indices, size)[:from+size]
	s.Leaf(epoch, leaf%s.LeavesPerEpoch(), a.indices[from:])
}

// reset forgets all leaves.
func (a *ahead) reset(to *attackSlots) {
	a.slots, a.epochs, a.indices, a.to = a.slots[:0], a.epochs[:0], a.indices[:0], to
}

// owns reports whether a worker attacks leaf i, where it comes after so many places: it is one of those in whose memory
// the twin is trained on.
func (a *ahead) owns(w *worker, places, i int) bool {
	f := w.fleet
	return f.pair.twinPlace(a.slots[i])%f.ranks == f.first+w.home && (places+i)/f.ranks%w.peers == w.place
}

// run attacks a worker's leaves.
func (a *ahead) run(w *worker, j *leaves) error {
	size := w.fleet.leaf.Capacity
	for i, slot := range a.slots {
		if !a.owns(w, len(j.loss), i) {
			continue
		}
		indices := a.indices[i*size : (i+1)*size]
		if err := w.gather(w.fleet.train, j.augment, methods.Draw{Seed: j.draw.Seed, Epoch: a.epochs[i]}, indices); err != nil {
			return err
		}
		if err := w.perturb(w.fleet.train, w.fleet.pair.Attack, indices); err != nil {
			return err
		}
		if err := w.copyInputs(&w.toSlot, a.to.slot(w, slot)); err != nil {
			return err
		}
	}
	return nil
}

// copyInputs copies the inputs of the worker's leaf to a slot or, if so the pass is made, from it.
func (w *worker) copyInputs(p *kernels.Pass, slot kernels.Memory) (err error) {
	if *p == nil {
		args := []kernels.Ref{w.fleet.leaf.X(), {Base: xBase}}
		if p == &w.fromSlot {
			slices.Reverse(args)
		}
		cells := int64(w.fleet.leaf.Capacity * w.fleet.net.Input.Elems())
		*p, err = w.dev.Prepare([]kernels.Call{{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: cells, A: 1}, Args: args}})
		if err != nil {
			return err
		}
	}
	w.bases[graph.LeafBase], w.bases[xBase] = w.leaf, slot
	return (*p).Run(&w.bases)
}

// planAhead plans the attacks of the next update's leaves that take the places of these, count leaves of the update from
// the first on.
func (t *trainer) planAhead(j *leaves, first, count int) error {
	p := t.fleet.pair
	if p == nil || !p.Stale {
		return nil
	}
	if err := p.grow(t.fleet, first+count); err != nil {
		return err
	}
	j.ready = &p.slots[t.at.Updates%2]
	j.ahead.reset(&p.slots[(t.at.Updates+1)%2])
	if first == 0 {
		j.ahead.to.clear()
	}
	j.start = t.at.Epoch*t.sampler.LeavesPerEpoch() + t.at.Leaf - first
	next := t.updateAfter(j.start)
	for slot := first; slot < first+count; slot++ {
		j.ahead.plan(t.sampler, t.fleet.leaf.Capacity, slot, next+slot, t.cfg.epochs)
	}
	return nil
}

// updateAfter is the first leaf of the update after one, of the run's, if the batch stays as it is.
func (t *trainer) updateAfter(leaf int) int {
	epoch := t.sampler.LeavesPerEpoch()
	next := leaf + t.leavesPerUpdate()
	if left := epoch - next%epoch; t.cfg.dropLast && left < t.leavesPerUpdate() {
		next += left
	}
	return next
}

// keepParams keeps the parameters that the stale attacks of the update were made with.
func (p *pairing) keepParams(f *fleet) error {
	if p == nil || !p.Stale {
		return nil
	}
	return f.run(p.keep, f.params, p.before)
}

// What a checkpoint holds of stale attacks: the parameters that they were made with, and which leaves the slots hold.
const (
	aheadPrefix = optimizerPrefix + "attack."
	metaAhead   = "broadside.attacked_leaves"
)

// savePair adds what a resume needs to make the stale attacks again.
func (t *trainer) savePair(ck *checkpoint.Checkpoint) error {
	p := t.fleet.pair
	if p == nil || !p.Stale {
		return nil
	}
	raw, err := json.Marshal(p.slots[t.at.Updates%2].leaves)
	if err != nil {
		return fmt.Errorf("writing %s: %w", metaAhead, err)
	}
	ck.Meta[metaAhead] = string(raw)
	return saveParams(ck, aheadPrefix, t.fleet.net, read(p.before))
}

// restorePair makes the stale attacks again, with the parameters of then.
func (t *trainer) restorePair(ck *checkpoint.Checkpoint) error {
	f, p := t.fleet, t.fleet.pair
	if p == nil || !p.Stale {
		return nil
	}
	var held []int
	if err := decode(ck, metaAhead, &held); err != nil {
		return err
	}
	if err := loadParams(ck, aheadPrefix, f.net, p.before); err != nil {
		return err
	}
	if err := p.grow(f, len(held)); err != nil {
		return err
	}
	j := &leaves{draw: methods.Draw{Seed: t.cfg.seed}, augment: t.cfg.augment}
	j.ahead.reset(&p.slots[t.at.Updates%2])
	for slot, leaf := range held {
		if leaf >= 0 {
			j.ahead.plan(t.sampler, f.leaf.Capacity, slot, leaf, t.cfg.epochs)
		}
	}
	params := f.params
	f.params = p.before
	defer func() { f.params = params }()
	return f.compute(j, &j.results, 0, 0)
}
