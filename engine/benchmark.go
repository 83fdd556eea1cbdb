package engine

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	cgocpu "broadside/cgo/cpu"
	"broadside/cgo/device"
	"broadside/engine/checkpoint"
	"broadside/engine/curvature"
	"broadside/engine/data"
	"broadside/engine/graph"
	"broadside/engine/recipe"
	"broadside/engine/telemetry"
	"broadside/kernels"
	tables "broadside/kernels/cpu"
	"broadside/kernels/philox"
)

// Benchmark is training on synthetic images, to be timed. Its updates are those of [Train]: gather, forward,
// backward, lane reduction, update. It belongs to one goroutine; close it after use.
type Benchmark struct {
	trainer *trainer
	free    []func()
}

// BenchmarkOptions say what is timed.
type BenchmarkOptions struct {
	Recipe  *recipe.Recipe // model, batch, precision; its data set is not opened
	Input   graph.Dims     // size of an image
	Classes int
	Device  string // kind of device, as --device takes it; "" is auto
	Devices int    // 0: one per core, at most the recipe's lanes, or one GPU
	ISA     string // instruction set of the kernels; "" chooses as training does
}

// CallTime is a kernel call of an update with the time that it takes alone: the processor's, or on a GPU the wall
// clock's from its start to the end of waiting for it.
type CallTime struct {
	Call    kernels.Call
	Count   int     // times it runs in an update
	Seconds float64 // of one run: the least of several
}

// NewBenchmark starts a fleet with fresh parameters and synthetic images.
func NewBenchmark(o BenchmarkOptions) (*Benchmark, error) {
	devices, err := benchmarkDevices(o)
	if err != nil {
		return nil, err
	}
	set := syntheticSet(o.Input, o.Classes, o.Recipe.Batch.Leaf)
	f, err := openOn(o.Recipe, &data.Pair{Train: set, Test: set}, devices, Options{})
	if err != nil {
		return nil, err
	}
	b := &Benchmark{free: []func(){f.close}}
	if b.trainer, err = newTrainer(f, o.Recipe, nowhere{}); err != nil {
		b.Close()
		return nil, err
	}
	b.free = append(b.free, b.trainer.free)
	return b, nil
}

func benchmarkDevices(o BenchmarkOptions) ([]kernels.Device, error) {
	if o.ISA == "" {
		return device.Open(o.Device, o.Devices, o.Recipe.Batch.Lanes)
	}
	devices, err := device.Open("cpu", o.Devices, o.Recipe.Batch.Lanes)
	if err != nil {
		return nil, err
	}
	for i := range devices {
		if devices[i], err = cgocpu.New(o.ISA); err != nil {
			return nil, err
		}
	}
	return devices, nil
}

// syntheticSet holds images whose pixels and labels are random but related: 16 MiB of them, at most 1024 and at
// least one leaf, whatever the batch.
func syntheticSet(d graph.Dims, classes, leaf int) *data.Set {
	n := max(leaf, min(1024, 16<<20/d.Elems()))
	s := philox.NewStream(1, 99, 0, uint32(n), 0)
	set := &data.Set{Name: "synthetic", H: d.H, W: d.W, C: d.C, Classes: classes,
		Images: make([]byte, 0, n*d.Elems())}
	for range n {
		label := s.Intn(classes)
		set.Labels = append(set.Labels, int32(label))
		for range d.Elems() {
			set.Images = append(set.Images, byte(s.Intn(128)+label*127/classes))
		}
	}
	return set
}

// Close frees the benchmark.
func (b *Benchmark) Close() {
	for i := len(b.free) - 1; i >= 0; i-- {
		b.free[i]()
	}
	b.free = nil
}

// Device names the device.
func (b *Benchmark) Device() string { return b.trainer.fleet.dev.Name() }

// Devices is the number of devices.
func (b *Benchmark) Devices() int { return len(b.trainer.fleet.workers) }

// Leaf is the size of a leaf, and Batch the samples of an update.
func (b *Benchmark) Leaf() int  { return b.trainer.fleet.leaf.Capacity }
func (b *Benchmark) Batch() int { return b.trainer.at.Batch }

// Step makes one update.
func (b *Benchmark) Step() error {
	if err := b.leaves(); err != nil {
		return err
	}
	return b.trainer.update()
}

// Gradient computes the sum of the gradients of an update.
func (b *Benchmark) Gradient() error {
	if err := b.leaves(); err != nil {
		return err
	}
	_, err := b.trainer.fleet.reduce.finish(b.trainer.fleet.sums, b.trainer.pending.leaves*b.trainer.fleet.views())
	return err
}

// leaves computes the leaves of an update and leaves their gradients in the lanes.
func (b *Benchmark) leaves() error {
	t := b.trainer
	t.pending = pending{}
	for t.pending.leaves < t.leavesPerUpdate() {
		if t.at.Leaf == t.sampler.LeavesPerEpoch() {
			t.at.Epoch++
			t.at.Leaf, t.at.EpochLoss, t.at.EpochCorrect = 0, 0, 0
		}
		if err := t.computeLeaves(); err != nil {
			return err
		}
	}
	return nil
}

// Hessian prepares products with the Hessian of the mean loss over a batch of samples and returns what computes
// one. The first call also runs the primal pass, and the others reuse it where reused is true: where no device
// has more samples than a leaf. ghost selects batch statistics instead of the running ones.
func (b *Benchmark) Hessian(ghost bool) (product func() error, reused bool, err error) {
	f := b.trainer.fleet
	samples := make([]int32, b.Batch())
	for i := range samples {
		samples[i] = int32(i % f.train.set.Len())
	}
	h, err := newHessian(f, f.train, samples, ghost, 1, 0)
	if err != nil {
		return nil, false, err
	}
	b.free = append(b.free, h.free)
	var vectors [2]kernels.Memory
	for i := range vectors {
		if vectors[i], err = h.NewVector(); err != nil {
			return nil, false, err
		}
		b.free = append(b.free, vectors[i].Free)
	}
	if err := h.Randomize(vectors[0], kernels.Normal, curvature.Stream{}); err != nil {
		return nil, false, err
	}
	return func() error { return h.Product(vectors[0], vectors[1]) }, h.reused(), nil
}

// Attack times an FGSM attack (Goodfellow et al. 2015) on a leaf, and in turn with it what no attack can do
// without: the forward pass and the gradient of the input. The results are processor seconds per leaf.
func (b *Benchmark) Attack(rounds int) (attack, gradient []float64, err error) {
	if err := b.Gradient(); err != nil { // fills the leaf
		return nil, nil, err
	}
	err = b.onFirst(func(w *worker) error {
		p, err := w.program(programKey{kind: attackProgram, n: b.Leaf(), attack: graph.Attack{Eps: 0.005, Step: 0.005, Iterations: 1}})
		if err != nil {
			return err
		}
		plain, err := w.dev.Prepare(append(append([]kernels.Call(nil), p.Forward...), p.Backward...))
		if err != nil {
			return err
		}
		defer plain.Free()
		w.bind(b.trainer.fleet.train)
		for i := -1; i < rounds; i++ { // the first round warms up
			with, err := w.seconds(p.main, &w.bases)
			if err != nil {
				return err
			}
			without, err := w.seconds(plain, &w.bases)
			if err != nil {
				return err
			}
			if i >= 0 {
				attack, gradient = append(attack, with), append(gradient, without)
			}
		}
		return nil
	})
	return attack, gradient, err
}

// Profile times every call of an update, in their order and one at a time, on one device. It repeats the update
// for the given time, but at least once.
func (b *Benchmark) Profile(budget time.Duration) ([]CallTime, error) {
	if err := b.Step(); err != nil { // fills all memory
		return nil, err
	}
	var out []CallTime
	err := b.onFirst(func(w *worker) error {
		calls, err := b.calls(w)
		defer func() {
			for _, c := range calls {
				c.pass.Free()
			}
		}()
		if err != nil {
			return err
		}
		for start, first := time.Now(), true; first || time.Since(start) < budget; first = false {
			for i := range calls {
				c := &calls[i]
				took, err := w.seconds(c.pass, c.bases)
				if err != nil {
					return err
				}
				c.Seconds = min(c.Seconds, took)
			}
		}
		for _, c := range calls {
			out = append(out, c.CallTime)
		}
		return nil
	})
	return out, err
}

// timedCall is a call prepared to be run alone.
type timedCall struct {
	CallTime
	pass  kernels.Pass
	bases *[kernels.MaxBases]kernels.Memory
}

// calls prepares the calls of an update, over the memory of the worker and of the fleet. They add to the first
// lane and change no parameter. After an error it returns those prepared so far.
func (b *Benchmark) calls(w *worker) ([]timedCall, error) {
	t, f := b.trainer, b.trainer.fleet
	if f.syncBN {
		return nil, fmt.Errorf("calls are not timed alone with batch.sync_bn: leaves run together")
	}
	leaves := t.leavesPerUpdate()
	lanes := min(leaves, f.lanes)
	p, err := w.program(programKey{kind: trainProgram, n: f.leaf.Capacity})
	if err != nil {
		return nil, err
	}
	gather := []kernels.Call{f.leaf.Gather(f.train.shape(f.leaf.Capacity, t.cfg.augment))}
	if _, err := addWorkspace(w.dev, gather); err != nil {
		return nil, err
	}
	w.bind(f.train)
	w.bases[graph.GradBase] = f.sums.lane(w, 0)
	if f.fold != nil {
		w.bases[graph.StatsBase] = part(f.stats.leaves[0], w.home)
	}
	f.bases[xBase], f.bases[yBase] = f.sums[len(f.sums)/2], f.sums[0]
	t.updater.hyper.WriteFloats(0, []float32{0, 1 / float32(b.Batch())})

	var out []timedCall
	add := func(count int, bases *[kernels.MaxBases]kernels.Memory, prepare func(...kernels.Call) (kernels.Pass, error), calls ...kernels.Call) {
		for _, c := range calls {
			if err != nil || count == 0 {
				return
			}
			var pass kernels.Pass
			if pass, err = prepare(c); err == nil {
				out = append(out, timedCall{CallTime{Call: c, Count: count, Seconds: math.Inf(1)}, pass, bases})
			}
		}
	}
	onWorker := func(calls ...kernels.Call) (kernels.Pass, error) { return w.dev.Prepare(calls) }
	add(leaves, &w.bases, onWorker, gather...)
	add(lanes, &w.bases, onWorker, w.clearing())
	add(leaves, &w.bases, onWorker, p.Forward...)
	add(leaves, &w.bases, onWorker, p.Backward...)
	add(lanes-1, &f.bases, f.prepare, f.axpby(1, 1))
	add(leaves, &f.bases, f.prepare, p.Fold...)
	add(1, &f.bases, f.prepare, t.updater.calls...)
	return out, err
}

// seconds runs a pass and returns the processor time it took, or where the device queues the wall time until it was
// done. The caller is locked to its thread.
func (w *worker) seconds(p kernels.Pass, bases *[kernels.MaxBases]kernels.Memory) (float64, error) {
	if _, ok := w.dev.(kernels.Queued); ok {
		return w.queuedSeconds(p, bases)
	}
	start := tables.ThreadSeconds()
	err := p.Run(bases)
	return tables.ThreadSeconds() - start, err
}

// queuedSeconds takes the time of several runs in a row, so that waiting counts little.
func (w *worker) queuedSeconds(p kernels.Pass, bases *[kernels.MaxBases]kernels.Memory) (float64, error) {
	const runs = 10
	if err := kernels.Sync(w.dev); err != nil {
		return 0, err
	}
	start := time.Now()
	for range runs {
		if err := p.Run(bases); err != nil {
			return 0, err
		}
	}
	err := kernels.Sync(w.dev)
	return time.Since(start).Seconds() / runs, err
}

// onFirst runs work on the first worker, locked to a thread.
func (b *Benchmark) onFirst(work func(w *worker) error) error {
	if err := b.trainer.fleet.do(firstOnly(work)); err != nil {
		return fmt.Errorf("timing %s: %w", b.trainer.fleet.net.Name, err)
	}
	return nil
}

// firstOnly is a job of the first worker, on one thread, whose processor time it may measure.
type firstOnly func(w *worker) error

func (j firstOnly) busy(*worker) bool { return true }

func (j firstOnly) run(w *worker) error {
	if w.id != 0 {
		return nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return j(w)
}

// nowhere is the sink of a trainer that nobody follows.
type nowhere struct{}

func (nowhere) Step(telemetry.Step)         {}
func (nowhere) Epoch(telemetry.Epoch) error { return nil }
func (nowhere) Event(telemetry.Event) error { return nil }
func (nowhere) Hold(*trainer) (keep func() error, err error) {
	return func() error { return nil }, nil
}
func (nowhere) Newest(*trainer) (*checkpoint.Checkpoint, error) {
	return nil, errors.New("nothing was kept")
}

var _ sink = nowhere{}
