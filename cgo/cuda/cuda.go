//go:build cuda

package cuda

// #cgo CFLAGS: -I${SRCDIR}/../../kernels -I${SRCDIR}/../../kernels/cuda
// #cgo LDFLAGS: -lbroadside_cuda -lcudart_static -l:libstdc++.a -lm -ldl -lrt -lpthread
// #include <cuda.h>
// #include "driver.h"
// #include "queue.h"
//
// // The table of a driver that brings its own kernels, which the emulator does, or else the linked one.
// static const void *table_of_driver(void) {
//   const bs_kernels *(*own)(void) = (const bs_kernels *(*)(void))bs_driver_symbol("bs_emulated_cuda_table");
//   return own ? own() : &bs_cuda_table;
// }
//
// // NULL where the driver is of CUDA 11.
// static bs_encode_tiled encode_tiled(void) { return (bs_encode_tiled)bs_driver_symbol("cuTensorMapEncodeTiled"); }
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"gorgonia.org/cu"

	"broadside/cgo/table"
	"broadside/kernels"
)

// Built reports whether this build has CUDA kernels.
const Built = true

// library is a digest of the kernels' library. The build sets it, so that Go links anew when the library changes.
var library string

// start loads the driver.
func start() error {
	if why := C.bs_driver_start(); why != nil {
		return errors.New(C.GoString(why))
	}
	return nil
}

// Driver returns the version of CUDA that the driver speaks, as in "13.0".
func Driver() (string, error) {
	if err := start(); err != nil {
		return "", err
	}
	v := cu.Version()
	return fmt.Sprintf("%d.%d", v/1000, v%1000/10), nil
}

// GPUs lists the GPUs of the machine. The error says why there is none.
func GPUs() ([]GPU, error) {
	if err := start(); err != nil {
		return nil, err
	}
	n, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Errorf("counting GPUs: %w", err)
	}
	if n == 0 {
		return nil, errors.New("the NVIDIA driver finds no GPU")
	}
	var out []GPU
	for i := range n {
		_, g, err := describe(i)
		if err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	return out, nil
}

// describe asks the driver about a GPU.
func describe(ordinal int) (cu.Device, GPU, error) {
	g := GPU{Ordinal: ordinal}
	dev, err := cu.GetDevice(ordinal)
	if err == nil {
		g.Name, err = dev.Name()
	}
	if err == nil {
		g.Memory, err = dev.TotalMem()
	}
	if err == nil {
		g.Major, g.Minor, err = dev.ComputeCapability()
	}
	if err != nil {
		return dev, g, fmt.Errorf("GPU %d: %w", ordinal, err)
	}
	return dev, g, nil
}

// Device is a stream of a GPU.
type Device struct {
	gpu     GPU
	name    string
	table   table.Table
	dev     cu.Device
	context cu.CUContext
	stream  cu.Stream
	marker  cu.Event        // of Follow
	queue   C.bs_cuda_queue // of a call, but for where its fault goes
	graphs  bool            // capture passes
	each    bool            // wait after each call

	mu      sync.Mutex
	reached map[int]bool // GPUs whose memory was made accessible
	failed  error        // what ended the use of the device
	closed  bool
	ran     []*pass // since the last Sync; their fault words are to be looked at
	faults  faultWords
	staging staging
	late    lateReads
}

var _ kernels.Queued = (*Device)(nil)

// leastCapability is the oldest compute capability that there are kernels for.
const leastCapability = 8

// Open returns a device of a GPU. Several devices may share a GPU; virtual tells them apart.
func Open(gpu, virtual int) (kernels.Device, error) {
	if err := start(); err != nil {
		return nil, fmt.Errorf("opening GPU %d: %w", gpu, err)
	}
	t, err := table.Of(C.table_of_driver())
	if err != nil {
		return nil, fmt.Errorf("opening GPU %d: %w", gpu, err)
	}
	d := &Device{table: t, reached: map[int]bool{}, each: os.Getenv("BROADSIDE_CUDA_SYNC") == "1"}
	d.graphs = !d.each && os.Getenv("BROADSIDE_CUDA_GRAPHS") != "0"
	if d.dev, d.gpu, err = describe(gpu); err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	d.name = fmt.Sprintf("cuda:%d (%s)", gpu, d.gpu.Name)
	if virtual > 0 {
		d.name = fmt.Sprintf("cuda:%d (%s, stream %d)", gpu, d.gpu.Name, virtual)
	}
	if d.gpu.Major < leastCapability {
		return nil, fmt.Errorf("opening %s: it has compute capability %d.%d, and the kernels need %d.0", d.name, d.gpu.Major, d.gpu.Minor, leastCapability)
	}
	if err := d.open(); err != nil {
		d.Close()
		return nil, fmt.Errorf("opening %s: %w", d.name, err)
	}
	return d, nil
}

// Fork returns another device of the GPU, with a stream of its own.
func (d *Device) Fork() (kernels.Device, error) {
	f, err := Open(d.gpu.Ordinal, 0)
	if err != nil {
		return nil, err
	}
	f.(*Device).name = fmt.Sprintf("cuda:%d (%s, a stream beside others)", d.gpu.Ordinal, d.gpu.Name)
	return f, nil
}

// reach lets the GPU use another's memory directly where the machine allows it; copies go through the host's memory
// otherwise. The context is the GPU's.
func (d *Device) reach(other *Device) error {
	if other.gpu.Ordinal == d.gpu.Ordinal || d.reached[other.gpu.Ordinal] {
		return nil
	}
	direct, err := d.dev.CanAccessPeer(other.dev)
	if err == nil && direct != 0 {
		if err = other.context.EnablePeerAccess(0); errors.Is(err, cu.PeerAccessAlreadyEnabled) {
			err = nil
		}
	}
	if err == nil {
		d.reached[other.gpu.Ordinal] = true
	}
	return err
}

// open makes what the device holds. The context is the GPU's primary one, in which the kernels' launches work.
func (d *Device) open() (err error) {
	if d.context, err = d.dev.RetainPrimaryCtx(); err != nil {
		return err
	}
	return d.inContext(func() (err error) {
		if d.stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
			return err
		}
		if d.marker, err = cu.MakeEvent(cu.DisableTiming); err != nil {
			return err
		}
		if err = d.describeQueue(); err != nil {
			return err
		}
		return d.staging.open()
	})
}

// describeQueue fills in what the kernels need to know of the GPU. Without a function that describes tensors they use
// none of the kernels that are for compute capability 9.0 alone.
func (d *Device) describeQueue() error {
	processors, err := d.dev.Attribute(cu.MultiprocessorCount)
	if err != nil {
		return fmt.Errorf("counting multiprocessors: %w", err)
	}
	d.queue.device, d.queue.stream = C.int32_t(d.gpu.Ordinal), C.CUstream(unsafe.Pointer(d.stream.C()))
	d.queue.capability, d.queue.processors = C.int32_t(10*d.gpu.Major+d.gpu.Minor), C.int32_t(processors)
	if os.Getenv("BROADSIDE_CUDA_HOPPER") != "0" {
		d.queue.encode_tiled = C.encode_tiled()
	}
	return nil
}

// inContext calls work on a thread that has the GPU's context.
func (d *Device) inContext(work func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cu.SetCurrentContext(d.context); err != nil {
		return err
	}
	return work()
}

// Name returns the GPU's number and name, as in "cuda:0 (NVIDIA H200)".
func (d *Device) Name() string { return d.name }

// Space names the GPU: its devices share its memory.
func (d *Device) Space() string { return fmt.Sprintf("cuda:%d", d.gpu.Ordinal) }

// Workspace returns the cells of scratch that a kernel needs for a shape. It fails for a bad shape.
func (d *Device) Workspace(k kernels.Kernel, s kernels.Shape) (int, error) {
	cells, err := d.table.Workspace(k, s)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", d.name, err)
	}
	return cells, nil
}

// fail keeps the first error that ends the use of the device: the driver reports the later ones in its wake.
func (d *Device) fail(doing string, err error) {
	if err != nil && d.failed == nil {
		if !errors.Is(err, table.ErrDevice) {
			err = fmt.Errorf("%w: %w", table.ErrDevice, err)
		}
		d.failed = fmt.Errorf("%s: %s: %w%s", d.name, doing, err, d.suspects())
	}
}

// suspects names what ran when the device failed.
func (d *Device) suspects() string {
	if len(d.ran) == 0 || d.each {
		return ""
	}
	last := d.ran[len(d.ran)-1]
	return fmt.Sprintf(" (after %d passes since the last wait, the last one %s; BROADSIDE_CUDA_SYNC=1 finds the call)", len(d.ran), last)
}

// Sync waits until the device is idle.
func (d *Device) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil {
		d.wait()
	}
	if d.failed != nil {
		return d.failed
	}
	err := d.fault()
	d.ran = d.ran[:0]
	return err
}

// wait waits until the stream is idle and hands out what was to be read by then.
func (d *Device) wait() {
	if err := d.inContext(d.stream.Synchronize); err != nil {
		d.fail("running kernels", err)
		return
	}
	d.late.deliver()
}

// fault returns the first index that was found to point outside, in passes that ran since the last Sync, and lets
// go of those that were freed.
func (d *Device) fault() (err error) {
	for _, p := range d.ran {
		if e := p.fault(); e != nil && err == nil {
			err = fmt.Errorf("%s: %w", d.name, e)
		}
		p.pending = false
		if p.freed {
			d.faults.put(p.faults)
		}
	}
	return err
}

// Follow makes the stream wait for what another device's stream has been given so far.
func (d *Device) Follow(other kernels.Device) error {
	o, ok := other.(*Device)
	if !ok {
		return fmt.Errorf("%s cannot follow %s, which is another kind of device", d.name, other.Name())
	}
	o.mu.Lock()
	err := o.inContext(func() error { return o.marker.Record(o.stream) })
	o.mu.Unlock()
	if err == nil {
		d.mu.Lock()
		err = d.inContext(func() error { return d.stream.Wait(o.marker, 0) })
		d.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("%s: waiting for %s: %w", d.name, o.name, err)
	}
	return nil
}

// Close waits for the device and frees it. A second Close does nothing.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if d.context == (cu.CUContext{}) {
		return nil
	}
	err := d.inContext(func() error {
		var errs []error
		if d.stream != (cu.Stream{}) {
			errs = append(errs, d.stream.Synchronize(), d.stream.Destroy())
		}
		if d.marker != (cu.Event{}) {
			errs = append(errs, cu.DestroyEvent(&d.marker))
		}
		d.late.deliver()
		return errors.Join(append(errs, d.staging.close(), d.late.close(), d.faults.close())...)
	})
	if err = errors.Join(err, d.dev.ReleasePrimaryCtx()); err != nil {
		return fmt.Errorf("closing %s: %w", d.name, err)
	}
	return nil
}
