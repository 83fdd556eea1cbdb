//go:build cuda

package cuda

// #include <cuda.h>
// #include <stdlib.h>
// #include "driver.h"
// #include "queue.h"
//
// // All that a run needs, so that it crosses into C with one pointer.
// typedef struct prepared {
//   const bs_kernels *table;
//   const bs_call *call;
//   bs_cuda_queue *queue; // of each call: they differ in where a fault goes
//   int32_t n, failed;
//   int32_t each;         // wait after every call
//   int32_t error;        // CUresult of what is no kernel
//   CUcontext context;
//   CUstream stream;
//   void *base[BS_MAX_BASES];
// } prepared;
//
// // Queues the calls one by one. failed is the call that could not be queued.
// static int32_t queue_calls(prepared *p) {
//   for (int32_t i = 0; i < p->n; i++) {
//     int32_t zero;
//     int32_t status = p->table->run(p->table, p->call + i, 1, p->base, p->queue + i, &zero);
//     p->failed = i;
//     p->error = p->queue[i].error;
//     if (status != BS_OK) return status;
//     if (p->each && (p->error = cuStreamSynchronize(p->stream))) return BS_DEVICE_ERROR;
//   }
//   return BS_OK;
// }
//
// static int32_t run(prepared *p) {
//   p->failed = 0;
//   if ((p->error = cuCtxSetCurrent(p->context))) return BS_DEVICE_ERROR;
//   return queue_calls(p);
// }
//
// // Captures the calls as a graph; they do not run.
// static int32_t capture(prepared *p, CUgraphExec *out) {
//   p->failed = 0;
//   if ((p->error = cuCtxSetCurrent(p->context))) return BS_DEVICE_ERROR;
//   if ((p->error = cuStreamBeginCapture(p->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))) return BS_DEVICE_ERROR;
//   int32_t status = queue_calls(p);
//   CUgraph graph = NULL;
//   CUresult ended = cuStreamEndCapture(p->stream, &graph);
//   if (status == BS_OK && !(p->error = ended) && (p->error = cuGraphInstantiateWithFlags(out, graph, 0))) status = BS_DEVICE_ERROR;
//   if (ended) status = status == BS_OK ? BS_DEVICE_ERROR : status;
//   if (graph) cuGraphDestroy(graph);
//   return status;
// }
//
// static int32_t replay(prepared *p, CUgraphExec graph) {
//   p->failed = 0;
//   if ((p->error = cuCtxSetCurrent(p->context))) return BS_DEVICE_ERROR;
//   return (p->error = cuGraphLaunch(graph, p->stream)) ? BS_DEVICE_ERROR : BS_OK;
// }
//
// static void forget(CUcontext context, CUgraphExec graph) {
//   if (!cuCtxSetCurrent(context)) cuGraphExecDestroy(graph);
// }
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"broadside/cgo/table"
	"broadside/kernels"
)

// pass is a list of calls in C memory, with the graphs made of it.
type pass struct {
	device  *Device
	calls   *table.Calls
	title   string
	c       *C.prepared // nil after Free
	faults  []int32     // of each call, in pinned memory
	pending bool        // ran since the device's last Sync
	freed   bool

	graphs map[addresses]*graph
	runs   int
}

// addresses are the memories that a pass runs over; 0 for those it does not use.
type addresses [kernels.MaxBases]uintptr

// graph is a pass captured over some addresses; not yet if it ran over them only once.
type graph struct {
	exec C.CUgraphExec
	last int // run at which it was used last
}

// mostGraphs bounds the addresses that a pass remembers. A training pass meets as many as an update has leaves.
const mostGraphs = 256

var _ kernels.Pass = (*pass)(nil)

// Prepare copies the calls into C memory. It fails if a call's shape, the number of its arguments or a
// place is wrong, or if it lacks a workspace that its kernel needs.
func (d *Device) Prepare(calls []kernels.Call) (kernels.Pass, error) {
	list, err := d.table.Prepare(calls)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.name, err)
	}
	p := &pass{device: d, calls: list, title: titleOf(calls), graphs: map[addresses]*graph{}}
	if err := d.use(func() (err error) { p.faults, err = d.faults.take(len(calls)); return err }); err != nil {
		list.Free()
		return nil, fmt.Errorf("%s: preparing %d calls: %w", d.name, len(calls), err)
	}
	queues := (*C.bs_cuda_queue)(C.calloc(C.size_t(max(len(calls), 1)), C.sizeof_bs_cuda_queue))
	p.c = (*C.prepared)(C.calloc(1, C.sizeof_prepared))
	if queues == nil || p.c == nil {
		d.mu.Lock()
		d.faults.put(p.faults)
		d.mu.Unlock()
		list.Free()
		C.free(unsafe.Pointer(queues))
		C.free(unsafe.Pointer(p.c))
		return nil, fmt.Errorf("%s: preparing %d calls: out of memory", d.name, len(calls))
	}
	for i, q := 0, unsafe.Slice(queues, len(calls)); i < len(calls); i++ {
		q[i] = d.queue
		q[i].fault = (*C.int32_t)(&p.faults[i])
	}
	p.c.table, p.c.call, p.c.queue, p.c.n = (*C.bs_kernels)(d.table.Pointer()), (*C.bs_call)(list.Pointer()), queues, C.int32_t(len(calls))
	p.c.context, p.c.stream = *(*C.CUcontext)(unsafe.Pointer(&d.context)), d.queue.stream
	if d.each {
		p.c.each = 1
	}
	return p, nil
}

// titleOf describes a list of calls.
func titleOf(calls []kernels.Call) string {
	switch n := len(calls); n {
	case 0:
		return "no calls"
	case 1:
		return calls[0].String()
	default:
		return fmt.Sprintf("%d calls from %s to %s", n, calls[0], calls[n-1])
	}
}

func (p *pass) String() string { return p.title }

// Run queues the calls over the given memories.
func (p *pass) Run(bases *[kernels.MaxBases]kernels.Memory) error {
	d := p.device
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.c == nil {
		return fmt.Errorf("%s: running a pass that was freed", d.name)
	}
	if d.failed != nil {
		return d.failed
	}
	at, err := p.bind(bases)
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	if !p.pending {
		p.pending = true
		d.ran = append(d.ran, p)
	}
	if status := p.queue(&at); status != C.BS_OK {
		return p.failure(status)
	}
	return nil
}

// bind points the C bases at the memories.
func (p *pass) bind(bases *[kernels.MaxBases]kernels.Memory) (at addresses, err error) {
	for i, base := range bases {
		m, ok := base.(*memory)
		if base != nil && (!ok || m.device.gpu.Ordinal != p.device.gpu.Ordinal) {
			return at, fmt.Errorf("base %d is memory of another device", i)
		}
		p.c.base[i] = nil
		bytes := -1
		if m != nil {
			*(*uintptr)(unsafe.Pointer(&p.c.base[i])), bytes = uintptr(m.at), m.bytes
		}
		if err := p.calls.Check(kernels.Base(i), bytes); err != nil {
			return at, err
		}
		if m != nil && p.calls.Uses(kernels.Base(i)) {
			at[i] = uintptr(m.at)
		}
	}
	return at, nil
}

// queue queues the calls: one by one the first time that they run at these addresses, and as a graph from the second.
func (p *pass) queue(at *addresses) C.int32_t {
	if !p.device.graphs || p.c.n < 2 {
		return C.run(p.c)
	}
	p.runs++
	g, known := p.graphs[*at]
	if !known {
		if len(p.graphs) < mostGraphs || p.dropOldest() {
			p.graphs[*at] = &graph{last: p.runs}
		}
		return C.run(p.c)
	}
	g.last = p.runs
	if g.exec == nil {
		if status := C.capture(p.c, &g.exec); status != C.BS_OK {
			return status
		}
	}
	return C.replay(p.c, g.exec)
}

// dropOldest forgets the addresses that were not used for longest, if that is long ago. Otherwise the pass goes
// round more addresses than it remembers, and would drop each before it comes again.
func (p *pass) dropOldest() bool {
	var oldest addresses
	last := p.runs
	for at, g := range p.graphs {
		if g.last < last {
			oldest, last = at, g.last
		}
	}
	if p.runs-last <= 2*mostGraphs {
		return false
	}
	p.forget(p.graphs[oldest])
	delete(p.graphs, oldest)
	return true
}

// forget frees a graph. One that still runs ends first.
func (p *pass) forget(g *graph) {
	if g.exec != nil {
		C.forget(p.c.context, g.exec)
		g.exec = nil
	}
}

// failure describes what stopped a run. A failure of the device stays.
func (p *pass) failure(status C.int32_t) error {
	err := table.Status(int32(status))
	if p.c.error != C.CUDA_SUCCESS {
		err = fmt.Errorf("%w: %s (CUDA error %d)", err, C.GoString(C.bs_driver_error(C.int(p.c.error))), p.c.error)
	}
	err = p.calls.Failure(int(p.c.failed), err)
	if errors.Is(err, table.ErrDevice) {
		p.device.fail("running a pass", err)
		return p.device.failed
	}
	return fmt.Errorf("%s: %w", p.device.name, err)
}

// fault returns the first index that a call found to point outside, and forgets it. The stream is idle.
func (p *pass) fault() (err error) {
	for i, status := range p.faults {
		if e := table.Status(status); e != nil && err == nil {
			err = p.calls.Failure(i, e)
		}
		p.faults[i] = 0
	}
	return err
}

// Free gives the pass's memory back. A second Free does nothing. Its faults stay until they were looked at.
func (p *pass) Free() {
	d := p.device
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.c == nil {
		return
	}
	if !d.closed {
		for _, g := range p.graphs {
			p.forget(g)
		}
	}
	p.graphs = nil
	p.calls.Free()
	C.free(unsafe.Pointer(p.c.queue))
	C.free(unsafe.Pointer(p.c))
	p.c, p.freed = nil, true
	if !p.pending && !d.closed {
		d.faults.put(p.faults)
	}
}
