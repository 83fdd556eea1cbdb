package engine

import (
	"fmt"
	"slices"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/optim"
	"broadside/kernels"
)

// twice computes the gradient of an update a second time, where a method asks for it:
//
//	keep the jobs of the update's leaves, as they were computed
//	displaced = parameters + distance * direction        (for all lanes, or one for each)
//	compute the kept leaves again, at the displaced parameters
//
// The parameters themselves are not touched, so there is nothing to restore. An attack is computed at them again, with
// the same result, and batch statistics are folded once, those of the first pass.
type twice struct {
	fleet  *fleet
	method methods.Displacer
	local  bool // a place for each lane

	*keptJobs

	places  laneSums         // parameter-shaped: of the lanes, or one for all
	hyper   []kernels.Memory // for each: -1, the factor of the direction, 1
	dropped []kernels.Memory // each worker's batch statistics of the second pass
	point   kernels.Pass     // the direction in place of the gradient, and the norm to divide it by
	result  kernels.Memory   // the norm
	norms   []float64        // in each memory
	move    kernels.Pass     // place = parameters + factor * direction
	cells   [optim.HyperCells]float32
}

// newTwice returns nil if no method wants a second gradient.
func newTwice(f *fleet, all []method) *twice {
	for _, m := range all {
		if d, ok := m.Method.(methods.Displacer); ok {
			return &twice{fleet: f, method: d, local: d.Direction().Local(), keptJobs: &keptJobs{}}
		}
	}
	return nil
}

// rows is how many memories hold the displaced parameters.
func (t *twice) rows() int {
	if t.local {
		return t.fleet.lanes / t.fleet.ranks
	}
	return 1
}

// vectors is how many parameter-shaped memories the second gradient takes.
func (t *twice) vectors() int {
	if t == nil {
		return 0
	}
	return t.rows()
}

// needsLanes reports whether the lanes' sums must stay apart until the second pass.
func (t *twice) needsLanes() bool { return t != nil && t.local }

// alloc allocates the memory; the fleet is ready to train.
func (t *twice) alloc() (err error) {
	if t == nil {
		return nil
	}
	if err = t.allocate(); err != nil {
		t.free()
		return fmt.Errorf("preparing a second gradient: %w", err)
	}
	return nil
}

func (t *twice) allocate() (err error) {
	f := t.fleet
	if t.places, err = f.newSums(t.rows() * f.ranks); err != nil {
		return err
	}
	for range t.places {
		m, err := f.dev.Alloc(optim.HyperCells)
		if err != nil {
			return err
		}
		t.hyper = append(t.hyper, m)
	}
	if t.dropped, err = newDropped(f); err != nil {
		return err
	}
	t.norms = make([]float64, len(f.homes))
	if t.result, err = f.dev.Alloc(2); err != nil {
		return err
	}
	if t.point, err = f.prepare(t.pointing()...); err != nil {
		return err
	}
	// The step of SGD is a sum whose factor is read from memory.
	t.move, err = f.prepare(
		kernels.Call{Kernel: kernels.Axpby, Shape: t.vector(), Args: []kernels.Ref{{Base: graph.ParamBase}, {Base: yBase}}},
		kernels.Call{Kernel: kernels.SGD, Shape: kernels.SGDShape{Count: t.vector().Count},
			Args: []kernels.Ref{{Base: yBase}, {Base: graph.GradBase}, kernels.None, {Base: optim.HyperBase}}})
	return err
}

// vector is the shape of a copy or a product of parameter-shaped memories.
func (t *twice) vector() kernels.Vector {
	return kernels.Vector{Count: int64(t.fleet.net.ParamCells()), A: 1}
}

// pointing makes an ascent of the gradient, with the place as scratch.
func (t *twice) pointing() []kernels.Call {
	w, g, scratch := kernels.Ref{Base: graph.ParamBase}, kernels.Ref{Base: graph.GradBase}, kernels.Ref{Base: yBase}
	norm := func(of kernels.Ref) kernels.Call {
		return kernels.Call{Kernel: kernels.Norm, Shape: t.vector(), Args: []kernels.Ref{of, {Base: resultBase}}}
	}
	product := func(x, z, y kernels.Ref) kernels.Call {
		return kernels.Call{Kernel: kernels.MulAdd, Shape: t.vector(), Args: []kernels.Ref{x, z, y}}
	}
	if t.method.Direction().Scaled() {
		return []kernels.Call{product(w, g, scratch), norm(scratch), product(w, scratch, g)}
	}
	return []kernels.Call{norm(g)}
}

// gradient replaces the gradient sums of an update of so many places and samples by those at displaced parameters, if
// the method wants it now. It returns the samples that went through a forward and backward pass.
func (t *twice) gradient(training methods.Training, u methods.Update, count, samples int) (passes int64, err error) {
	if t == nil {
		return 0, nil
	}
	distance, due := t.method.Displacement(training, u)
	if !due {
		return 0, nil
	}
	if t.local {
		err = t.displaceLanes(distance, samples, count)
	} else {
		err = t.displace(distance, samples, count)
	}
	if err != nil {
		return 0, err
	}
	for i, k := range t.kept[:t.n] {
		k.again, k.dropped, k.last = t, t.dropped, 0
		if i == t.n-1 && !t.fleet.whole {
			k.last = count
		}
		if err := t.fleet.compute(k, &k.results, k.first, k.last); err != nil {
			return 0, err
		}
		if k.scale != 1 {
			if err := t.fleet.scaleLanes(k.first+len(k.loss), k.scale); err != nil {
				return 0, err
			}
		}
		passes += k.passes(t.fleet)
	}
	return passes, nil
}

// smallestNorm keeps a gradient of zero from being divided by its norm.
const smallestNorm = 1e-12

// displace finds the place of all lanes: along the gradient of the update.
func (t *twice) displace(distance float64, samples, count int) error {
	f := t.fleet
	if _, err := f.reduce.finish(f.sums, count); err != nil {
		return err
	}
	if err := t.ascend(0); err != nil {
		return err
	}
	t.write(t.hyper[0], t.up(distance, 0, float64(samples)))
	return t.run(0)
}

// ascend turns the gradients of a row of lanes into the directions of their ascent.
func (t *twice) ascend(row int) error {
	f := t.fleet
	f.bases[graph.ParamBase], f.bases[graph.GradBase] = f.params, f.sums[row]
	f.bases[yBase], f.bases[resultBase] = t.places[row], t.result
	if err := t.point.Run(&f.bases); err != nil {
		return err
	}
	for home := range f.homes {
		part(t.result, home).ReadDoubles(0, t.norms[home:home+1])
	}
	return kernels.Sync(f.dev)
}

// up is the factor of an ascent's direction in a memory, for a sum over so many samples.
func (t *twice) up(distance float64, home int, samples float64) float64 {
	return distance / samples / (t.norms[home]/samples + smallestNorm)
}

// displaceLanes finds the place of every lane, by its own gradient.
func (t *twice) displaceLanes(distance float64, samples, count int) error {
	f := t.fleet
	for row := range min(len(t.places), ceilDiv(count, f.ranks)) {
		ascends := t.method.Direction() != methods.LaneDescent
		if ascends {
			if err := t.ascend(row); err != nil {
				return err
			}
		}
		for home := range f.homes {
			lane := row*f.ranks + f.first + home
			own := float64(samples) * float64(f.leavesOf(lane, count)) / float64(count)
			factor := 0.0
			if own > 0 && ascends {
				factor = t.up(distance, home, own)
			} else if own > 0 {
				factor = -distance / own
			}
			t.write(part(t.hyper[row], home), factor)
		}
		if err := t.run(row); err != nil {
			return err
		}
	}
	return nil
}

// leavesOf is how many of the leaves of an update go to a lane.
func (f *fleet) leavesOf(lane, leaves int) int { return (leaves - lane + f.lanes - 1) / f.lanes }

func (t *twice) write(hyper kernels.Memory, factor float64) {
	t.cells = [optim.HyperCells]float32{-1, float32(factor), 1}
	hyper.WriteFloats(0, t.cells[:])
}

// run moves a place, by the sum of the same row.
func (t *twice) run(row int) error {
	f := t.fleet
	f.bases[graph.ParamBase], f.bases[graph.GradBase] = f.params, f.sums[row]
	f.bases[yBase], f.bases[optim.HyperBase] = t.places[row], t.hyper[row]
	return t.move.Run(&f.bases)
}

// params returns the parameters for a leaf of the second pass.
func (t *twice) params(w *worker, leaf int) kernels.Memory {
	if t.local {
		return t.places.lane(w, leaf)
	}
	return part(t.places[0], w.home)
}

func (t *twice) free() {
	if t == nil {
		return
	}
	free(slices.Concat([]kernels.Memory(t.places), t.hyper, t.dropped, []kernels.Memory{t.result})...)
	for _, p := range []kernels.Pass{t.point, t.move} {
		if p != nil {
			p.Free()
		}
	}
}
