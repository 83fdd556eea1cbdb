package engine

import (
	"fmt"

	"broadside/engine/methods"
	"broadside/kernels"
)

// groups is the number of micro-batches that the SNR kernel is told. Lanes of different sizes have no such number: so
// their squares come with their weight, and the number is one that it takes and that divides without rounding.
const groups = 2

// damping multiplies the elements of the summed gradient by their signal-to-noise ratio between the lanes, for a method
// that asks. The squares of the lanes' gradients are summed as the gradients are, in the same fixed tree.
type damping struct {
	laneJob
	lanes  laneSums                   // a lane's gradient sum squared, times leaves of the update over leaves of the lane and over groups
	passes []map[float64]kernels.Pass // each worker's, by that factor
	damp   kernels.Pass
}

// newDamping returns nothing where no method asks.
func newDamping(f *fleet, list []method) (*damping, error) {
	for _, entry := range list {
		if m, ok := entry.Method.(methods.Damper); ok {
			d := &damping{laneJob: laneJob{fleet: f}, passes: make([]map[float64]kernels.Pass, len(f.workers))}
			if err := d.alloc(m.LeastRatio()); err != nil {
				d.free()
				return nil, fmt.Errorf("method %s: %w", entry.info.Name, err)
			}
			return d, nil
		}
	}
	return nil, nil
}

func (d *damping) alloc(least float64) (err error) {
	f := d.fleet
	if err := checkLanes(f); err != nil {
		return err
	}
	if d.lanes, err = f.newSums(f.lanes); err != nil {
		return err
	}
	var calls []kernels.Call
	for _, p := range f.net.Params {
		calls = append(calls, kernels.Call{Kernel: kernels.SNR, Shape: kernels.Vector{Count: int64(p.Size()), A: groups, B: least},
			Args: []kernels.Ref{{Base: xBase, Offset: int64(p.Offset)}, {Base: yBase, Offset: int64(p.Offset)}}})
	}
	d.damp, err = f.prepare(calls...)
	return err
}

// measuringVectors counts the parameter-shaped memories of each rank that damping, scaling and the measuring of updates take.
func measuringVectors(f *fleet, list []method) (n int) {
	for _, entry := range list {
		if _, ok := entry.Method.(methods.Damper); ok {
			n += f.lanes / f.ranks
		}
		if _, ok := entry.Method.(methods.StepReader); ok {
			n += 2
		}
		if _, ok := entry.Method.(methods.Scaler); ok {
			n++
		}
	}
	return n
}

// run squares a worker's lanes.
func (d *damping) run(w *worker) error {
	return d.each(w, func(lane int) error {
		p, err := d.pass(w, float64(d.leaves)/float64(d.leavesOf(lane))/groups)
		if err != nil {
			return err
		}
		w.bases[xBase], w.bases[yBase] = d.fleet.sums.lane(w, lane), d.lanes.lane(w, lane)
		return p.Run(&w.bases)
	})
}

// pass returns a worker's pass y = factor x x. There are few factors: lanes of equally many leaves have one.
func (d *damping) pass(w *worker, factor float64) (kernels.Pass, error) {
	if p, ok := d.passes[w.id][factor]; ok {
		return p, nil
	}
	p, err := w.dev.Prepare([]kernels.Call{{Kernel: kernels.MulAdd, Shape: kernels.Vector{Count: int64(d.fleet.net.ParamCells()), A: factor},
		Args: []kernels.Ref{{Base: xBase}, {Base: xBase}, {Base: yBase}}}})
	if err != nil {
		return nil, err
	}
	if d.passes[w.id] == nil {
		d.passes[w.id] = map[float64]kernels.Pass{}
	}
	d.passes[w.id][factor] = p
	return p, nil
}

// readLanes squares the lanes that an update of so many leaves reaches.
func (d *damping) readLanes(leaves int) error {
	if d == nil {
		return nil
	}
	d.reach(leaves)
	if err := d.fleet.agree(d.fleet.do(d)); err != nil {
		return fmt.Errorf("squaring the lanes' gradients: %w", err)
	}
	return nil
}

// apply damps the sum of the lanes.
func (d *damping) apply(sum kernels.Memory) error {
	if d == nil {
		return nil
	}
	squares, err := d.fleet.reduce.finish(d.lanes, d.leaves)
	if err != nil {
		return err
	}
	return d.fleet.run(d.damp, sum, squares)
}

func (d *damping) free() {
	if d == nil {
		return
	}
	free(d.lanes...)
	if d.damp != nil {
		d.damp.Free()
	}
	for _, passes := range d.passes {
		for _, p := range passes {
			p.Free()
		}
	}
}

var _ job = (*damping)(nil)

// laneJob is a job over whole lanes, each by the worker that owns it.
type laneJob struct {
	fleet  *fleet
	leaves int // of the update
}

// reach notes the leaves of the update.
func (j *laneJob) reach(leaves int) { j.leaves = leaves }

// used counts the lanes that leaves reach.
func (j *laneJob) used() int { return min(j.leaves, j.fleet.lanes) }

// leavesOf counts the leaves of a lane.
func (j *laneJob) leavesOf(lane int) int { return ceilDiv(j.leaves-lane, j.fleet.lanes) }

// busy reports whether a worker has lanes.
func (j *laneJob) busy(w *worker) bool {
	for lane := range j.used() {
		if j.fleet.owns(w, lane) {
			return true
		}
	}
	return false
}

// each does something to a worker's lanes.
func (j *laneJob) each(w *worker, do func(lane int) error) error {
	for lane := range j.used() {
		if !j.fleet.owns(w, lane) {
			continue
		}
		if err := w.begin(); err != nil {
			return err
		}
		if err := do(lane); err != nil {
			return err
		}
	}
	return nil
}

// checkLanes refuses to compare lanes where there is one, or where they are not of different samples.
func checkLanes(f *fleet) error {
	if f.views() > 1 {
		return fmt.Errorf("it compares the gradients of different samples: no method can be beside it that trains on copies or adversarial twins of a batch")
	}
	if f.lanes < 2 {
		return fmt.Errorf("it compares the gradients of lanes: batch.lanes is %d and must be at least 2", f.lanes)
	}
	return nil
}
