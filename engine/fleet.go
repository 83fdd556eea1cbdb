package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"broadside/engine/collective"
	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/kernels"
)

// fleet is the devices of a run with the memory they share: parameters, running statistics and gradient sums. Each
// device is driven by one worker goroutine.
//
// Devices whose memories are separate, as of several GPUs, have a copy each of all that is shared. A memory is a rank;
// collectives join the ranks. What is not computed by leaves, such as the update, every rank does for itself.
//
// A step's leaves are dealt to lanes in order, leaf i to lane i mod lanes; lanes are dealt to ranks, and a rank's to
// its devices. A lane sums its leaves in order and the lanes are added in a fixed tree, so the result has the same bits
// for any number of devices. Where there are fewer leaves than devices, those with leaves compute on the cores of the
// others too.
type fleet struct {
	net       *graph.Network
	leaf      graph.Leaf
	ghost     int
	syncBN    bool // statistics are those of a whole batch
	lanes     int
	copies    int // of every training sample in an update; 0 is 1
	bucket    int // cells of gradients that are reduced at a time, at least
	smooth    float64
	running   string // the rule of the fold
	precision kernels.Precision
	estimated bool // gradients, where the network says so

	workers    []*worker
	results    chan result
	ranks      int                   // memories that train together; those of this process are from the first rank on
	first      int                   // rank of the first home
	homes      []kernels.Device      // a device of each memory, which runs the work on shared memory there
	comms      []*collective.Watched // join the memories; none if there is one
	waits      []collective.Pending
	reduce     *reduction
	board      []float64 // of exchanges with other processes
	said       []float64
	fault      *fault
	persistent *persistence     // nil without a persistent attack
	pair       *pairing         // nil without adversarial twins
	attacks    []methods.Attack // that the run begins with

	weights string // file that training starts from, or none
	resumed bool   // training goes on from a checkpoint
	note    string // what was taken from the file

	timeout  time.Duration // after which a worker without headway hangs
	patience *time.Ticker
	hung     atomic.Bool
	beats    atomic.Int64 // updates, for the watchdog
	held     atomic.Bool  // there is a state to go back to, and
	overdue  atomic.Bool  // a stop has waited long enough: no more leaves are begun

	dev    kernels.Device // the homes as one
	params kernels.Memory
	state  kernels.Memory
	sums   laneSums // of gradients
	whole  bool     // lanes are read before they are reduced: no reduction begins early
	stats  leafStats
	sync   *syncNorm // nil unless syncBN
	train  *resident
	test   *resident

	scratch kernels.Memory // workspace of passes on shared memory
	bases   [kernels.MaxBases]kernels.Memory
	fold    *folder // batch statistics into the running ones; nil without any
}

// The operands of arithmetic on parameter-shaped memory.
const (
	xBase = graph.TangentBase
	yBase = graph.ProductBase
)

// fleetConfig says what the fleet computes.
type fleetConfig struct {
	leaf, ghost, lanes int
	syncBN             bool
	smoothing          float64
	running            string            // sequential, scaled or mean; empty is sequential
	precision          kernels.Precision // of products in all passes but a Hessian's, whose curvature would drown in their rounding
	join               joiner
	bucket             int // cells
	timeout            time.Duration
	fault              *fault
}

// joiner joins the memories of devices, a rank for each, and those of other processes. It returns nothing where there
// is nothing to join.
type joiner func(homes []kernels.Device) ([]collective.Comm, error)

// newFleet allocates the shared memory and starts a worker for each device.
func newFleet(net *graph.Network, devices []kernels.Device, cfg fleetConfig) (*fleet, error) {
	f := &fleet{net: net, leaf: graph.Leaf{Capacity: cfg.leaf, In: net.Input}, ghost: cfg.ghost, syncBN: cfg.syncBN, smooth: cfg.smoothing, precision: cfg.precision,
		lanes: cfg.lanes, bucket: cfg.bucket, running: cmp.Or(cfg.running, sequentialFold), results: make(chan result, len(devices)),
		timeout: cfg.timeout, patience: time.NewTicker(cfg.timeout), fault: cfg.fault}
	if err := f.settle(devices, cfg.join); err != nil {
		f.close()
		return nil, err
	}
	if err := f.start(); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// settle gives every device a worker and a place: a rank, and a number among the rank's devices.
func (f *fleet) settle(devices []kernels.Device, join joiner) (err error) {
	homes := map[string]int{}
	for i, d := range devices {
		home, ok := homes[d.Space()]
		if !ok {
			home = len(f.homes)
			homes[d.Space()] = home
			f.homes = append(f.homes, d)
		}
		f.workers = append(f.workers, newWorker(f, i, home, d))
	}
	for _, w := range f.workers {
		for _, other := range f.workers {
			if other.home == w.home {
				if other.id < w.id {
					w.place++
				}
				w.peers++
			}
		}
	}
	f.dev, f.ranks = newMirror(f.homes), 1
	comms, err := join(f.homes)
	if err != nil {
		return err
	}
	for _, c := range comms {
		f.comms = append(f.comms, collective.Watch(c))
	}
	if len(f.comms) > 0 {
		f.ranks, f.first = f.comms[0].Size(), f.comms[0].Rank()
	}
	if f.lanes%f.ranks != 0 {
		return fmt.Errorf("%d separate memories: their number must divide batch.lanes, %d", f.ranks, f.lanes)
	}
	return f.sameDevices()
}

// sameDevices refuses memories whose devices may compute other bits: every one keeps a copy of the parameters, which
// would drift apart.
func (f *fleet) sameDevices() error {
	kind := func(d kernels.Device) string {
		_, kind, _ := strings.Cut(d.Name(), " ")
		return kind
	}
	for _, d := range f.homes {
		if kind(d) != kind(f.homes[0]) {
			return fmt.Errorf("%s and %s are of different kinds: memories that train together must be of one", f.homes[0].Name(), d.Name())
		}
	}
	return f.same("kind of device", kind(f.homes[0]))
}

// start allocates what every use of the fleet needs and starts the workers.
func (f *fleet) start() error {
	if err := f.allocNetwork(); err != nil {
		return err
	}
	for _, w := range f.workers {
		go w.serve()
		w.serving = true
	}
	return nil
}

// allocNetwork allocates the network's parameters and running statistics and prepares the reduction of its gradients.
func (f *fleet) allocNetwork() (err error) {
	if f.params, err = f.dev.Alloc(f.net.ParamCells()); err != nil {
		return fmt.Errorf("allocating parameters: %w", err)
	}
	if f.state, err = f.dev.Alloc(max(f.net.StateCells(), 1)); err != nil {
		return fmt.Errorf("allocating running statistics: %w", err)
	}
	f.reduce, err = newReduction(f, bucketsOf(f.net, f.bucket))
	return err
}

// addNormSets gives the network's batch normalisations further parameter sets, before anything is compiled.
func (f *fleet) addNormSets(names []string) error {
	if len(names) == 0 {
		return nil
	}
	f.net.AddNormSets(names)
	if f.dev == nil { // the recipe is only checked
		return nil
	}
	free(f.params, f.state)
	f.reduce.free()
	f.params, f.state, f.reduce = nil, nil, nil
	return f.allocNetwork()
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
// queue of the rank's home.
func (f *fleet) do(j job) error {
	f.plan(j)
	if err := f.spread(j); err != nil {
		return err
	}
	for _, w := range f.workers {
		if err := kernels.Follow(w.dev, f.homes[w.home]); err != nil {
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
	if err := f.wait(); err != nil {
		return err
	}
	for _, w := range f.workers {
		keep(kernels.Follow(f.homes[w.home], w.dev))
	}
	return first
}

// close stops the workers and frees all memory, unless a worker hangs.
func (f *fleet) close() {
	if f.hung.Load() {
		return
	}
	for _, w := range f.workers {
		w.stop()
	}
	for _, c := range f.comms {
		c.Close()
	}
	free(f.params, f.state, f.scratch)
	free(f.sums...)
	f.stats.free()
	f.sync.free()
	f.train.free()
	f.test.free()
	f.pair.free()
	f.persistent.free()
	f.reduce.free()
	f.fold.free()
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
