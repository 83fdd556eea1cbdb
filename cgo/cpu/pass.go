package cpu

// #cgo CFLAGS: -I${SRCDIR}/../../kernels
// #include <stdlib.h>
// #include "broadside.h"
//
// // All that one run needs, so that it crosses into C with one pointer.
// typedef struct prepared {
//   const bs_kernels *table;
//   const bs_call *call;
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
	"fmt"
	"unsafe"

	"broadside/cgo/table"
	"broadside/kernels"
)

// pass is a list of calls in C memory.
type pass struct {
	device *Device
	calls  *table.Calls
	c      *C.prepared // nil after Free
}

var _ kernels.Pass = (*pass)(nil)

// Prepare copies the calls into C memory. It fails if a call's shape, the number of its arguments or a
// place is wrong, or if it lacks a workspace that its kernel needs.
func (d *Device) Prepare(calls []kernels.Call) (kernels.Pass, error) {
	list, err := d.table.Prepare(calls)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Name(), err)
	}
	c := (*C.prepared)(C.calloc(1, C.sizeof_prepared))
	if c == nil {
		list.Free()
		return nil, fmt.Errorf("%s: preparing %d calls: out of memory", d.Name(), len(calls))
	}
	c.table, c.call, c.n = (*C.bs_kernels)(d.table.Pointer()), (*C.bs_call)(list.Pointer()), C.int32_t(len(calls))
	p := &pass{device: d, calls: list, c: c}
	d.scratch = max(d.scratch, list.Workspace())
	if err := d.form(); err != nil {
		p.Free()
		return nil, fmt.Errorf("preparing %d calls: %w", len(calls), err)
	}
	return p, nil
}

// Run runs the calls over the given memories.
func (p *pass) Run(bases *[kernels.MaxBases]kernels.Memory) error {
	if p.c == nil {
		return fmt.Errorf("%s: running a pass that was freed", p.device.Name())
	}
	for i, base := range bases {
		m, ok := base.(*memory)
		if base != nil && (!ok || m.space != p.device.space) {
			return fmt.Errorf("%s: base %d is memory of another device", p.device.Name(), i)
		}
		p.c.base[i] = nil
		bytes := -1
		if m != nil {
			p.c.base[i], bytes = m.data, m.bytes
		}
		if err := p.calls.Check(kernels.Base(i), bytes); err != nil {
			return fmt.Errorf("%s: %w", p.device.Name(), err)
		}
	}
	p.c.stream = p.device.stream()
	if err := table.Status(int32(C.run(p.c))); err != nil {
		return fmt.Errorf("%s: %w", p.device.Name(), p.calls.Failure(int(p.c.failed), err))
	}
	return nil
}

// Free gives the pass's memory back. A second Free does nothing.
func (p *pass) Free() {
	if p.c == nil {
		return
	}
	p.calls.Free()
	C.free(unsafe.Pointer(p.c))
	p.c = nil
}
