package engine

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"broadside/engine/data"
	"broadside/engine/data/autoaugment"
	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/kernels"
)

// worker drives one device: it computes leaves alone, in memory of its own.
type worker struct {
	fleet *fleet
	id    int // among all workers
	home  int // the memory that it computes in, one of the fleet's homes
	place int // among the home's workers, of which there are `peers`
	peers int
	dev   kernels.Device

	jobs    chan job
	done    chan struct{}
	serving bool

	headway atomic.Int64 // leaves begun
	seen    int64        // of it by the fleet, and since when
	since   time.Time
	back    bool // has done the job

	mu   sync.Mutex // of what the watchdog reads
	last string     // kind of the job under way, or of the last one
	idle bool

	*seat            // where the worker computes now
	seats    []*seat // the first is the usual one; a Hessian keeps a leaf in each
	bases    [kernels.MaxBases]kernels.Memory
	programs map[programKey]*program
	gathers  map[kernels.AugmentShape]kernels.Pass
	zero     kernels.Pass // clears the gradient memory
	key      [4]int32
	start    []float32 // of an attack
	target   []int32
	staged   staged
	toSlot   kernels.Pass // the leaf's inputs to memory of a pairing, and back
	fromSlot kernels.Pass
	reads    []int // leaves of the job whose results were read
}

// seat is the memory in which a leaf is computed.
type seat struct{ leaf, arena kernels.Memory }

// programKey tells the Programs of one network apart.
type programKey struct {
	kind       programKind
	n          int
	attack     graph.Attack
	weighted   bool
	set        int              // parameter set of batch normalisation
	train      bool             // attack: by batch statistics
	persistent graph.Persistent // train: attacks too, unless zero
}

type programKind int

const (
	trainProgram        programKind = iota // forward and backward, batch statistics
	evalProgram                            // forward, running statistics
	scoreProgram                           // forward as training does it, batch statistics
	attackProgram                          // perturbs the leaf
	hessianProgram                         // primal, then tangent passes; running statistics
	ghostHessianProgram                    // the same with batch statistics
	lossProgram                            // forward, as a Hessian sees the loss; running statistics
	ghostLossProgram                       // the same with batch statistics
	inputProgram                           // forward, running statistics; what layers are given is kept
)

// program is a compiled Program with its passes prepared on a device.
type program struct {
	*graph.Program
	main    kernels.Pass   // train: forward and backward; eval: forward; attack; hessian: forward and backward
	tangent kernels.Pass   // hessian: both tangent passes
	parts   []kernels.Pass // train: main up to where each bucket of gradients is final; none without ranks to reduce with
	pieces  []kernels.Pass // train with batch.sync_bn: instead of main, from one cut to the next
}

func newWorker(f *fleet, id, home int, dev kernels.Device) *worker {
	w := &worker{fleet: f, id: id, home: home, dev: dev, jobs: make(chan job), done: make(chan struct{}),
		programs: map[programKey]*program{}, gathers: map[kernels.AugmentShape]kernels.Pass{}}
	w.sit(0)
	return w
}

// sit goes to the numbered seat, which stays empty until reserve furnishes it.
func (w *worker) sit(number int) {
	for len(w.seats) <= number {
		w.seats = append(w.seats, &seat{})
	}
	w.seat = w.seats[number]
}

// clear zeroes the gradient memory.
func (w *worker) clear() (err error) {
	if w.zero == nil {
		if w.zero, err = w.dev.Prepare([]kernels.Call{w.clearing()}); err != nil {
			return err
		}
	}
	return w.zero.Run(&w.bases)
}

func (w *worker) clearing() kernels.Call {
	grad := kernels.Ref{Base: graph.GradBase}
	return kernels.Call{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: int64(w.fleet.net.ParamCells())}, Args: []kernels.Ref{grad, grad}}
}

// serve runs jobs until the fleet closes.
func (w *worker) serve() {
	defer close(w.done)
	for j := range w.jobs {
		w.note(j)
		err := w.blame(w.guard(j))
		w.note(nil)
		w.fleet.results <- result{w, err}
	}
}

// result is how a worker's job ended.
type result struct {
	worker *worker
	err    error
}

// stop ends the worker and frees its memory.
func (w *worker) stop() {
	if w.serving {
		close(w.jobs)
		<-w.done
	}
	w.free()
}

// guard turns a panic in a job into an error: it must stop the run, not the process.
func (w *worker) guard(j job) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: internal error: %v\n%s", w.dev.Name(), r, debug.Stack())
		}
	}()
	w.reads = w.reads[:0]
	return j.run(w)
}

// program returns a compiled Program, compiling it at first use, and makes room for it at the worker's seat.
func (w *worker) program(k programKey) (*program, error) {
	if p, ok := w.programs[k]; ok {
		return p, w.reserve(p.ArenaCells)
	}
	f := w.fleet
	o := graph.Options{N: k.n, Ghost: min(f.ghost, k.n), Smoothing: f.smooth, Precision: f.precision, Set: k.set}
	switch k.kind {
	case trainProgram:
		o.ParamGrads, o.Weighted, o.ForwardGradient, o.Sync = true, k.weighted, f.estimated, f.syncBN
		o = k.persistentOptions(o)
	case scoreProgram:
	case evalProgram, inputProgram:
		o.Frozen, o.Smoothing, o.KeepInputs = true, 0, k.kind == inputProgram
	case attackProgram:
		o = k.attackOptions(o)
	case hessianProgram, ghostHessianProgram:
		o.Frozen, o.Tangent, o.Smoothing, o.Precision = k.kind == hessianProgram, true, 0, kernels.F32
	case lossProgram, ghostLossProgram:
		o.Frozen, o.Smoothing, o.Precision = k.kind == lossProgram, 0, kernels.F32
	}
	compiled, err := graph.Compile(f.net, f.leaf, o, w.dev)
	if err != nil {
		return nil, err
	}
	p := &program{Program: compiled}
	calls := append(append([]kernels.Call(nil), compiled.Forward...), compiled.Backward...)
	if k.kind == attackProgram {
		calls = compiled.AttackPass
	}
	w.programs[k] = p // from here on the worker frees it
	if o.Sync {
		if err := w.cutPieces(p, calls); err != nil {
			return nil, err
		}
		return p, w.reserve(compiled.ArenaCells)
	}
	if p.main, err = w.dev.Prepare(calls); err != nil {
		return nil, fmt.Errorf("%s: %w", w.dev.Name(), err)
	}
	if o.Tangent {
		if p.tangent, err = w.dev.Prepare(append(append([]kernels.Call(nil), compiled.TangentForward...), compiled.TangentBackward...)); err != nil {
			return nil, fmt.Errorf("%s: %w", w.dev.Name(), err)
		}
	}
	if k.kind == trainProgram && f.ranks > 1 && w.peers == 1 {
		if err := w.cut(p, calls); err != nil {
			return nil, fmt.Errorf("%s: %w", w.dev.Name(), err)
		}
	}
	return p, w.reserve(compiled.ArenaCells)
}

// runMain runs a program's main pass; the batch statistics that it may compute are dropped.
func (w *worker) runMain(p *program) error {
	if p.StatsCells > 0 {
		stats, err := w.dev.Alloc(p.StatsCells)
		if err != nil {
			return err
		}
		defer stats.Free()
		w.bases[graph.StatsBase] = stats
	}
	return p.main.Run(&w.bases)
}

// cut prepares a training pass in parts, one for each bucket of gradients.
func (w *worker) cut(p *program, calls []kernels.Call) error {
	done := 0
	for _, b := range w.fleet.reduce.buckets {
		end := len(p.Forward) + p.GradientDone(b.first)
		if b.first == 0 {
			end = len(calls)
		}
		part, err := w.dev.Prepare(calls[done:end])
		if err != nil {
			return err
		}
		p.parts = append(p.parts, part)
		done = end
	}
	return nil
}

// reserve makes the seat's arena at least so large.
func (w *worker) reserve(cells int) (err error) {
	if w.leaf == nil {
		if w.leaf, err = w.dev.Alloc(w.fleet.leaf.Cells()); err != nil {
			return fmt.Errorf("%s: allocating a leaf of %d samples: %w", w.dev.Name(), w.fleet.leaf.Capacity, err)
		}
	}
	if w.arena != nil && w.arena.Len() >= cells {
		return nil
	}
	if w.arena != nil {
		w.arena.Free()
	}
	if w.arena, err = w.dev.Alloc(max(cells, 1)); err != nil {
		w.arena = nil
		advice := "use a smaller batch.leaf"
		if w.fleet.syncBN {
			advice = "batch.sync_bn keeps every leaf of an update: use a smaller batch"
		}
		return fmt.Errorf("%s: %.1f GB of activations for a leaf of %d samples do not fit (%w): %s",
			w.dev.Name(), float64(cells)*4/1e9, w.fleet.leaf.Capacity, err, advice)
	}
	return nil
}

// mostQueued bounds the leaves that a device has been given and has not done, so that one that hangs is noticed.
const mostQueued = 16

// begin notes that a leaf begins, unless it is not to.
func (w *worker) begin() error {
	if w.fleet.givenUp() {
		return errGivenUp
	}
	if w.headway.Add(1)%mostQueued > 0 {
		return nil
	}
	return kernels.Sync(w.dev)
}

// bind points the bases at the memories that every Program uses.
func (w *worker) bind(r *resident) {
	b := &w.bases
	b[graph.ParamBase], b[graph.StateBase] = part(w.fleet.params, w.home), part(w.fleet.state, w.home)
	b[graph.ArenaBase], b[graph.LeafBase] = w.arena, w.leaf
	b[graph.ImageBase], b[graph.LabelBase], b[graph.NormalBase] = part(r.images, w.home), part(r.labels, w.home), part(r.normal, w.home)
}

// gather fills the leaf with samples of a data set.
func (w *worker) gather(r *resident, a augmentation, d methods.Draw, indices []int32) error {
	shape := r.shape(len(indices), a)
	p, ok := w.gathers[shape]
	if !ok {
		calls := []kernels.Call{w.fleet.leaf.Gather(shape)}
		cells, err := addWorkspace(w.dev, calls)
		if err != nil {
			return err
		}
		if err := w.reserve(cells); err != nil {
			return err
		}
		if p, err = w.dev.Prepare(calls); err != nil {
			return err
		}
		w.gathers[shape] = p
	}
	if err := w.begin(); err != nil {
		return err
	}
	w.key = [4]int32{int32(d.Seed), int32(d.Seed >> 32), int32(d.Epoch), int32(d.Copy)}
	w.leaf.WriteInts(int(w.fleet.leaf.Key().Offset), w.key[:])
	if r.paints(a) {
		return w.gatherStaged(r, p, viewOf(a, d), indices)
	}
	w.leaf.WriteInts(int(w.fleet.leaf.Index().Offset), indices)
	w.bind(r)
	return p.Run(&w.bases)
}

func (w *worker) free() {
	for _, s := range w.seats {
		free(s.leaf, s.arena)
	}
	free(w.staged.images, w.staged.labels)
	passes := []kernels.Pass{w.zero, w.toSlot, w.fromSlot}
	for _, p := range w.programs {
		passes = append(append(append(passes, p.main, p.tangent), p.parts...), p.pieces...)
	}
	for _, p := range w.gathers {
		passes = append(passes, p)
	}
	for _, p := range passes {
		if p != nil {
			p.Free()
		}
	}
}

// resident is a data set in device memory, or one whose leaves come there when they are gathered.
type resident struct {
	set                    data.Set // without its images
	images, labels, normal kernels.Memory
	mean, std              []float32 // what pixels are normalised with, or nil
	stream                 *stream   // of images that are not in memory, or painted on the host; or nil
}

// newResident copies a data set to the device. mean and std, in units of [0, 1], normalise each
// channel; nil leaves pixels in [0, 1].
func newResident(dev kernels.Device, set *data.Set, mean, std []float32) (*resident, error) {
	r := &resident{set: *set, mean: mean, std: std}
	if !set.Mapped {
		r.set.Images = nil
	}
	normal := graph.NormalMemory(mean, std, set.C)
	if err := r.alloc(dev, set, len(normal)); err != nil {
		r.free()
		return nil, fmt.Errorf("loading %s: %w", set.Name, err)
	}
	if r.labels != nil {
		r.labels.WriteInts(0, set.Labels)
	}
	r.normal.WriteFloats(0, normal)
	return r, nil
}

func (r *resident) alloc(dev kernels.Device, set *data.Set, normal int) (err error) {
	if !set.Streamed() {
		if r.images, err = imagesOn(dev, set); err != nil {
			return err
		}
		if r.labels, err = dev.Alloc(len(set.Labels)); err != nil {
			return err
		}
	}
	r.normal, err = dev.Alloc(normal)
	return err
}

func (r *resident) free() {
	if r != nil {
		r.stream.close()
		free(r.images, r.labels, r.normal)
	}
}

// augmentation is what happens to a training sample on its way into a leaf.
type augmentation struct {
	pad, cutout int
	flip        bool
	cropArea    float64             // of random_resized_crop, the least; 0: none
	policy      *autoaugment.Policy // or nil
}

func (r *resident) shape(n int, a augmentation) kernels.AugmentShape {
	if r.paints(a) { // the images of a leaf, augmented
		return kernels.AugmentShape{N: int32(n), H: int32(r.set.H), W: int32(r.set.W), C: int32(r.set.C), Images: int32(n)}
	}
	s := kernels.AugmentShape{N: int32(n), H: int32(r.set.H), W: int32(r.set.W), C: int32(r.set.C),
		Pad: int32(a.pad), Cutout: int32(a.cutout), Images: int32(r.set.Len())}
	if a.flip {
		s.Flip = 1
	}
	return s
}
