package engine

import (
	"fmt"
	"slices"

	"broadside/engine/graph"
	"broadside/kernels"
)

// fleet is the devices of a run with the memory they share: one copy of parameters and running
// statistics, and one gradient sum per lane. Each device is driven by one worker goroutine.
//
// A step's leaves are dealt to lanes in order, leaf i to lane i mod lanes; a device owns every lane l
// with l mod devices equal to its number. A lane sums its leaves in order and the lanes are added in
// a fixed tree, so the result has the same bits for any number of devices. Where there are fewer leaves than
// devices, those with leaves compute on the cores of the others too.
type fleet struct {
	net       *graph.Network
	leaf      graph.Leaf
	ghost     int
	smooth    float64
	precision kernels.Precision

	workers []*worker
	results chan error

	dev        kernels.Device // runs the work on shared memory
	params     kernels.Memory
	state      kernels.Memory
	lanes      []kernels.Memory // gradient sums
	stats      []kernels.Memory // batch statistics of each leaf of the update under way
	statsCells int
	train      *resident
	test       *resident

	scratch kernels.Memory // workspace of passes on shared memory
	bases   [kernels.MaxBases]kernels.Memory
	add     kernels.Pass // y += x over parameter-shaped memory
	fold    kernels.Pass // a leaf's batch statistics into the running ones; nil without any
}

// The operands of arithmetic on parameter-shaped memory.
const (
	xBase = graph.TangentBase
	yBase = graph.ProductBase
)

// fleetConfig says what the fleet computes.
type fleetConfig struct {
	leaf, ghost, lanes int
	smoothing          float64
	precision          kernels.Precision // of products in all passes but a Hessian's, whose curvature would drown in their rounding
}

// newFleet allocates the shared memory and starts a worker for each device. All devices must share
// one memory space.
func newFleet(net *graph.Network, devices []kernels.Device, cfg fleetConfig) (*fleet, error) {
	for _, d := range devices {
		if d.Space() != devices[0].Space() {
			return nil, fmt.Errorf("devices %s and %s have separate memories: training across memories is not supported", devices[0].Name(), d.Name())
		}
	}
	f := &fleet{net: net, leaf: graph.Leaf{Capacity: cfg.leaf, In: net.Input}, ghost: cfg.ghost, smooth: cfg.smoothing, precision: cfg.precision,
		dev: devices[0], results: make(chan error, len(devices))}
	f.lanes = make([]kernels.Memory, cfg.lanes)
	if err := f.start(devices); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// start allocates what every use of the fleet needs and starts the workers.
func (f *fleet) start(devices []kernels.Device) (err error) {
	if f.params, err = f.dev.Alloc(f.net.ParamCells()); err != nil {
		return fmt.Errorf("allocating parameters: %w", err)
	}
	if f.state, err = f.dev.Alloc(max(f.net.StateCells(), 1)); err != nil {
		return fmt.Errorf("allocating running statistics: %w", err)
	}
	if f.add, err = f.prepare(f.axpby(1, 1)); err != nil {
		return err
	}
	for i, d := range devices {
		w, err := newWorker(f, i, d)
		if err != nil {
			return err
		}
		f.workers = append(f.workers, w)
		go w.serve()
	}
	return nil
}

// axpby is the call y = a x + b y over parameter-shaped memory.
func (f *fleet) axpby(a, b float64) kernels.Call {
	return kernels.Call{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: int64(f.net.ParamCells()), A: a, B: b},
		Args: []kernels.Ref{{Base: xBase}, {Base: yBase}}}
}

// run runs a pass on shared memory; x and y are its operands.
func (f *fleet) run(p kernels.Pass, x, y kernels.Memory) error {
	f.bases[xBase], f.bases[yBase] = x, y
	return p.Run(&f.bases)
}

// prepare readies calls on shared memory; those that want workspace share the fleet's scratch.
func (f *fleet) prepare(calls ...kernels.Call) (kernels.Pass, error) {
	cells, err := addWorkspace(f.dev, calls)
	if err != nil {
		return nil, err
	}
	if f.scratch == nil || f.scratch.Len() < cells {
		if f.scratch != nil {
			f.scratch.Free()
		}
		if f.scratch, err = f.dev.Alloc(max(cells, 1)); err != nil {
			return nil, fmt.Errorf("allocating scratch: %w", err)
		}
	}
	f.bases[graph.ArenaBase] = f.scratch
	return f.dev.Prepare(calls)
}

// addWorkspace gives calls that want workspace the start of the arena, and returns the cells wanted.
func addWorkspace(dev kernels.Device, calls []kernels.Call) (cells int, err error) {
	for i, c := range calls {
		n, err := dev.Workspace(c.Kernel, c.Shape)
		if err != nil {
			return 0, err
		}
		if n > 0 {
			calls[i].Args = append(slices.Clip(c.Args), kernels.Ref{Base: graph.ArenaBase})
			cells = max(cells, n)
		}
	}
	return cells, nil
}

// once runs a call that is not worth preparing.
func (f *fleet) once(c kernels.Call, x, y kernels.Memory) error {
	p, err := f.prepare(c)
	if err != nil {
		return err
	}
	defer p.Free()
	return f.run(p, x, y)
}

// sumLanes adds the first used lanes in a fixed tree and leaves the sum in the first. Lanes half
// the number apart are added first, so that a device's own lanes meet before other devices'.
func (f *fleet) sumLanes(lanes []kernels.Memory, used int) error {
	for s := len(lanes) / 2; s >= 1; s /= 2 {
		for l := range s {
			if l+s < min(used, 2*s) {
				if err := f.run(f.add, lanes[l+s], lanes[l]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// job is work that every worker is handed; each does its share.
type job interface {
	run(w *worker) error
	busy(w *worker) bool // whether the worker has a share
}

// threaded is a device that can run a pass on several threads, with the same bits for any number.
type threaded interface{ SetThreads(n int) error }

// spread lends the cores of the devices that have nothing to do in a job to the others, evenly and what is left
// to the first: a step of one leaf keeps all busy.
func (f *fleet) spread(j job) error {
	busy := 0
	for _, w := range f.workers {
		if j.busy(w) {
			busy++
		}
	}
	place := 0
	for _, w := range f.workers {
		threads := 1
		if j.busy(w) {
			threads = len(f.workers) / busy
			if place < len(f.workers)%busy {
				threads++
			}
			place++
		}
		if d, ok := w.dev.(threaded); ok {
			if err := d.SetThreads(threads); err != nil {
				return err
			}
		}
	}
	return nil
}

// do hands a job to all workers and waits for them. It returns the first error. Devices that queue their work have
// been told all of the job then, and the work on shared memory before and after it keeps its place: it is in the
// queue of the fleet's device.
func (f *fleet) do(j job) error {
	if err := f.spread(j); err != nil {
		return err
	}
	for _, w := range f.workers {
		if err := kernels.Follow(w.dev, f.dev); err != nil {
			return err
		}
	}
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	for _, w := range f.workers {
		w.jobs <- j
	}
	for range f.workers {
		keep(<-f.results)
	}
	for _, w := range f.workers {
		keep(kernels.Follow(f.dev, w.dev))
	}
	return first
}

// owns reports whether a worker computes leaf i of a step.
func (f *fleet) owns(w *worker, leaf int) bool { return leaf%len(f.lanes)%len(f.workers) == w.id }

// prepareTraining allocates the lanes' gradient sums and compiles the training Program, so that a leaf
// that does not fit is refused before the first step, and prepares the fold of its batch statistics.
func (f *fleet) prepareTraining() (err error) {
	for i := range f.lanes {
		if f.lanes[i], err = f.dev.Alloc(f.net.ParamCells()); err != nil {
			return fmt.Errorf("allocating gradients: %w", err)
		}
	}
	for _, w := range f.workers {
		p, err := w.program(programKey{kind: trainProgram, n: f.leaf.Capacity})
		if err != nil {
			return err
		}
		if w.id > 0 || len(p.Fold) == 0 {
			continue
		}
		f.statsCells = p.StatsCells
		if f.fold, err = f.prepare(p.Fold...); err != nil {
			return err
		}
	}
	return nil
}

// growStats makes room for the batch statistics of so many leaves.
func (f *fleet) growStats(leaves int) error {
	for len(f.stats) < leaves && f.fold != nil {
		m, err := f.dev.Alloc(f.statsCells)
		if err != nil {
			return fmt.Errorf("allocating batch statistics: %w", err)
		}
		f.stats = append(f.stats, m)
	}
	return nil
}

// close stops the workers and frees all memory.
func (f *fleet) close() {
	for _, w := range f.workers {
		close(w.jobs)
	}
	for _, w := range f.workers {
		<-w.done
	}
	free(f.params, f.state, f.scratch)
	free(f.lanes...)
	free(f.stats...)
	f.train.free()
	f.test.free()
	for _, p := range []kernels.Pass{f.add, f.fold} {
		if p != nil {
			p.Free()
		}
	}
	for _, w := range f.workers {
		w.dev.Close()
	}
}

// free releases memories; what was never allocated is nil.
func free(memories ...kernels.Memory) {
	for _, m := range memories {
		if m != nil {
			m.Free()
		}
	}
}
