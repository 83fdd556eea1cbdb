package cpu

// #include <stdlib.h>
// #include "broadside.h"
//
// // All that one run needs, so that it crosses into C with one pointer.
// typedef struct prepared {
//   const bs_kernels *table;
//   bs_call *call;
//   int32_t n, failed;
//   void *stream;
//   void *base[BS_MAX_BASES];
// } prepared;
//
// static int32_t run(prepared *p) {
//   return p->table->run(p->table, p->call, p->n, p->base, p->stream, &p->failed);
// }
import "C"

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"broadside/kernels"
)

// pass is a list of calls in C memory.
type pass struct {
	device *Device
	calls  []kernels.Call // for messages
	c      *C.prepared    // nil after Free
	// need is how many bytes of each base the calls reach at the least: behind their largest offset.
	need [kernels.MaxBases]int64
}

var _ kernels.Pass = (*pass)(nil)

// Prepare copies the calls into C memory. It fails if a call's shape, the number of its arguments or a
// place is wrong, or if it lacks a workspace that its kernel needs.
func (d *Device) Prepare(calls []kernels.Call) (kernels.Pass, error) {
	c := (*C.prepared)(C.calloc(1, C.sizeof_prepared))
	list := (*C.bs_call)(C.calloc(C.size_t(max(len(calls), 1)), C.sizeof_bs_call))
	p := &pass{device: d, calls: append([]kernels.Call(nil), calls...), c: c}
	if c == nil || list == nil {
		C.free(unsafe.Pointer(list))
		C.free(unsafe.Pointer(c))
		return nil, fmt.Errorf("%s: preparing %d calls: out of memory", d.Name(), len(calls))
	}
	c.table, c.call, c.n = (*C.bs_kernels)(d.table), list, C.int32_t(len(calls))
	prepared := unsafe.Slice(list, len(calls))
	for i := range calls {
		if err := p.put(&prepared[i], calls[i]); err != nil {
			p.Free()
			return nil, fmt.Errorf("%s: preparing call %d: %w", d.Name(), i, err)
		}
	}
	if err := d.form(); err != nil {
		p.Free()
		return nil, fmt.Errorf("preparing %d calls: %w", len(calls), err)
	}
	return p, nil
}

// put fills a C call, and need from its arguments.
func (p *pass) put(to *C.bs_call, call kernels.Call) error {
	if err := putShape(&to.shape, call.Kernel, call.Shape); err != nil {
		return err
	}
	args := call.Kernel.Args()
	if len(call.Args) != args && len(call.Args) != args+1 {
		return fmt.Errorf("%s: %d arguments, want %d and perhaps a workspace", call, len(call.Args), args)
	}
	if err := p.checkWorkspace(call); err != nil {
		return err
	}
	to.kernel, to.args = C.int32_t(call.Kernel), C.int32_t(args+1)
	to.arg[args].base = C.int32_t(kernels.None.Base)
	for i, ref := range call.Args {
		if ref.Base >= kernels.MaxBases || ref.Offset < 0 || ref.Offset >= math.MaxInt64/cellBytes {
			return fmt.Errorf("%s: argument %d is at offset %d of base %d", call, i, ref.Offset, ref.Base)
		}
		to.arg[i].base, to.arg[i].offset = C.int32_t(ref.Base), C.int64_t(ref.Offset)
		if ref.IsNone() {
			continue
		}
		unit := int64(cellBytes)
		if call.Kernel == kernels.Augment && i == 0 { // image memory counts bytes
			unit = 1
		}
		p.need[ref.Base] = max(p.need[ref.Base], (ref.Offset+1)*unit)
	}
	return nil
}

// checkWorkspace fails for a bad shape, and if the call lacks the workspace that its kernel needs. It notes how
// much that is.
func (p *pass) checkWorkspace(call kernels.Call) error {
	cells, err := p.device.Workspace(call.Kernel, call.Shape)
	if err != nil {
		return err
	}
	args := call.Kernel.Args()
	p.device.scratch = max(p.device.scratch, cells)
	if cells > 0 && (len(call.Args) == args || call.Args[args].IsNone()) {
		return fmt.Errorf("%s: it needs a workspace of %d cells", call, cells)
	}
	return nil
}

// Run runs the calls over the given memories.
func (p *pass) Run(bases *[kernels.MaxBases]kernels.Memory) error {
	if p.c == nil {
		return fmt.Errorf("%s: running a pass that was freed", p.device.Name())
	}
	for i, base := range bases {
		m, ok := base.(*memory)
		if base != nil && !ok {
			return fmt.Errorf("%s: base %d is memory of another device", p.device.Name(), i)
		}
		p.c.base[i] = nil
		if m != nil {
			p.c.base[i] = m.data
		}
		if m != nil && p.need[i] > int64(m.bytes) || m == nil && p.need[i] > 0 {
			return p.badBase(i, m)
		}
	}
	p.c.stream = p.device.stream()
	if status := C.run(p.c); status != C.BS_OK {
		return p.failure(status)
	}
	return nil
}

// badBase describes a base that is missing, freed or too small.
func (p *pass) badBase(i int, m *memory) error {
	if m == nil {
		return fmt.Errorf("%s: the pass uses base %d, which is nil", p.device.Name(), i)
	}
	return fmt.Errorf("%s: the pass reads byte %d of base %d, which has %d", p.device.Name(), p.need[i]-1, i, m.bytes)
}

// The kernels' statuses as errors.
var (
	errBadShape    = errors.New("bad shape")
	errBadArgument = errors.New("bad argument: a pointer is missing or an index points outside")
	errUnsupported = errors.New("no such kernel")
	errDevice      = errors.New("the device failed")
)

// failure describes the call that stopped a run.
func (p *pass) failure(status C.int32_t) error {
	i := int(p.c.failed)
	err := fmt.Errorf("status %d", int(status))
	switch status {
	case C.BS_BAD_SHAPE:
		err = errBadShape
	case C.BS_BAD_ARGUMENT:
		err = errBadArgument
	case C.BS_UNSUPPORTED:
		err = errUnsupported
	case C.BS_DEVICE_ERROR:
		err = errDevice
	}
	return fmt.Errorf("%s: call %d, %s: %w", p.device.Name(), i, p.calls[i], err)
}

// Free gives the pass's memory back. A second Free does nothing.
func (p *pass) Free() {
	if p.c == nil {
		return
	}
	C.free(unsafe.Pointer(p.c.call))
	C.free(unsafe.Pointer(p.c))
	p.c = nil
}
