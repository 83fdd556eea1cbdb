package engine

import (
	"fmt"

	"gorgonia.org/tensor"

	"broadside/engine/checkpoint"
	"broadside/engine/graph"
	"broadside/engine/methods"
)

// leafOrder is the order in which training visits the leaves of an epoch.
type leafOrder interface {
	LeavesPerEpoch() int
	Leaf(epoch, index int, dst []int32)
}

// replayed visits the leaves of every update several times in a row. An epoch is that many passes over its whole updates;
// leaves behind the last of them are not visited.
type replayed struct {
	leafOrder
	batch, times int // leaves of an update, replays
}

// LeavesPerEpoch counts every replay.
func (r replayed) LeavesPerEpoch() int {
	return r.leafOrder.LeavesPerEpoch() / r.batch * r.batch * r.times
}

// Leaf returns the samples of a leaf among all replays.
func (r replayed) Leaf(epoch, index int, dst []int32) {
	update := index / r.batch / r.times
	r.leafOrder.Leaf(epoch, update*r.batch+index%r.batch, dst)
}

// persistence is an attack that goes on from update to update: each place of an update keeps a perturbation.
type persistence struct {
	attack graph.Persistent
	deltas leafStats
}

// openReplays asks the methods for replays of updates of so many samples.
func (t *trainer) openReplays(batch int) {
	f := t.fleet
	for _, m := range t.methods {
		r, ok := m.Method.(methods.Replayer)
		if !ok {
			continue
		}
		replay := r.Replay()
		if replay.Times > 1 {
			t.sampler = replayed{t.sampler, batch / f.leaf.Capacity, replay.Times}
		}
		f.persistent = &persistence{attack: replay.Attack, deltas: leafStats{cells: f.leaf.Capacity * f.net.Input.Elems()}}
	}
}

// grow makes room for the perturbations of an update of so many leaves.
func (p *persistence) grow(f *fleet, leaves int) error {
	if p == nil {
		return nil
	}
	return p.deltas.grow(f, leaves)
}

// key adds the attack to that of a training Program.
func (p *persistence) key(k programKey) programKey {
	if p != nil {
		k.persistent = p.attack
	}
	return k
}

// bind points a worker at the perturbation of a place.
func (p *persistence) bind(w *worker, place int) {
	if p != nil {
		w.bases[graph.DeltaBase] = part(p.deltas.leaves[place], w.home)
	}
}

// persistentOptions adds what the Program of a key attacks.
func (k programKey) persistentOptions(o graph.Options) graph.Options {
	if k.persistent != (graph.Persistent{}) {
		attack := k.persistent
		o.InputGrad, o.Persistent = true, &attack
	}
	return o
}

// cells is the memory that the perturbations of so many leaves need.
func (p *persistence) cells(f *fleet, leaf, leaves int) int64 {
	if p == nil {
		return 0
	}
	return int64(ceilDiv(leaves, f.ranks)*f.ranks) * int64(leaf*f.net.Input.Elems())
}

func (p *persistence) free() {
	if p != nil {
		p.deltas.free()
	}
}

// share gives all memories the perturbations of each, those of an update of so many leaves at least, before one of them
// writes a checkpoint.
func (p *persistence) share(f *fleet, leaves int) error {
	if p == nil {
		return nil
	}
	if err := p.grow(f, leaves); err != nil { // before the first update there are none
		return err
	}
	return p.deltas.gather(f, len(p.deltas.leaves))
}

// deltaName names the perturbation of a place in a checkpoint.
func deltaName(place int) string { return fmt.Sprintf("%sdelta.%d", optimizerPrefix, place) }

func (t *trainer) deltaShape() []int {
	in := t.fleet.net.Input
	return []int{t.fleet.leaf.Capacity, in.H, in.W, in.C}
}

// saveDeltas adds the perturbations of an update.
func (t *trainer) saveDeltas(ck *checkpoint.Checkpoint) {
	if p := t.fleet.persistent; p != nil {
		for place, m := range p.deltas.leaves[:min(t.leavesPerUpdate(), len(p.deltas.leaves))] {
			ck.Tensors[deltaName(place)] = tensor.New(tensor.WithShape(t.deltaShape()...), tensor.WithBacking(read(m)))
		}
	}
}

// restoreDeltas puts the perturbations back.
func (t *trainer) restoreDeltas(ck *checkpoint.Checkpoint) error {
	p := t.fleet.persistent
	if p == nil {
		return nil
	}
	if err := p.grow(t.fleet, t.leavesPerUpdate()); err != nil {
		return err
	}
	for place := range t.leavesPerUpdate() {
		data, err := floats(ck, deltaName(place), t.deltaShape(), t.fleet.net.Name)
		if err != nil {
			return err
		}
		p.deltas.leaves[place].WriteFloats(0, data)
	}
	return nil
}
