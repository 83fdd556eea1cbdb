package table

// #include <stdlib.h>
// #include "broadside.h"
import "C"

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"broadside/kernels"
)

// cellBytes is the size of a cell.
const cellBytes = 4

// Calls is a list of calls in C memory.
type Calls struct {
	list  []kernels.Call // for messages
	c     *C.bs_call     // nil after Free
	table Table
	// need is how many bytes of each base the calls reach at the least: behind their largest offset.
	need      [kernels.MaxBases]int64
	workspace int // cells of the largest
}

// Prepare copies calls into C memory. It fails if a call's shape, the number of its arguments or a
// place is wrong, or if it lacks a workspace that its kernel needs.
func (t Table) Prepare(calls []kernels.Call) (*Calls, error) {
	list := &Calls{list: append([]kernels.Call(nil), calls...), table: t,
		c: (*C.bs_call)(C.calloc(C.size_t(max(len(calls), 1)), C.sizeof_bs_call))}
	if list.c == nil {
		return nil, fmt.Errorf("preparing %d calls: out of memory", len(calls))
	}
	to := unsafe.Slice(list.c, len(calls))
	for i := range calls {
		if err := list.put(&to[i], calls[i]); err != nil {
			list.Free()
			return nil, fmt.Errorf("preparing call %d: %w", i, err)
		}
	}
	return list, nil
}

// put fills a C call, and need from its arguments.
func (l *Calls) put(to *C.bs_call, call kernels.Call) error {
	if err := putShape(&to.shape, call.Kernel, call.Shape); err != nil {
		return err
	}
	args := call.Kernel.Args()
	if len(call.Args) != args && len(call.Args) != args+1 {
		return fmt.Errorf("%s: %d arguments, want %d and perhaps a workspace", call, len(call.Args), args)
	}
	if err := l.checkWorkspace(call); err != nil {
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
		l.need[ref.Base] = max(l.need[ref.Base], (ref.Offset+1)*unit)
	}
	return nil
}

// checkWorkspace fails for a bad shape, and if the call lacks the workspace that its kernel needs. It notes how
// much that is.
func (l *Calls) checkWorkspace(call kernels.Call) error {
	cells, err := l.table.Workspace(call.Kernel, call.Shape)
	if err != nil {
		return err
	}
	args := call.Kernel.Args()
	l.workspace = max(l.workspace, cells)
	if cells > 0 && (len(call.Args) == args || call.Args[args].IsNone()) {
		return fmt.Errorf("%s: it needs a workspace of %d cells", call, cells)
	}
	return nil
}

// Pointer returns the calls as C knows them, a bs_call *; nil after Free.
func (l *Calls) Pointer() unsafe.Pointer { return unsafe.Pointer(l.c) }

// Workspace returns the cells of the largest workspace that a call needs.
func (l *Calls) Workspace() int { return l.workspace }

// Len returns the number of calls.
func (l *Calls) Len() int { return len(l.list) }

// Uses reports whether a call names the base.
func (l *Calls) Uses(base kernels.Base) bool { return l.need[base] > 0 }

// Check fails if a base has too few bytes for the calls; bytes is negative where there is no memory.
func (l *Calls) Check(base kernels.Base, bytes int) error {
	switch need := l.need[base]; {
	case need == 0 || need <= int64(bytes):
		return nil
	case bytes < 0:
		return fmt.Errorf("the pass uses base %d, which is nil", base)
	default:
		return fmt.Errorf("the pass reads byte %d of base %d, which has %d", need-1, base, bytes)
	}
}

// The kernels' statuses as errors.
var (
	ErrBadShape    = errors.New("bad shape")
	ErrBadArgument = errors.New("bad argument: a pointer is missing or an index points outside")
	ErrUnsupported = errors.New("no such kernel")
	ErrDevice      = errors.New("the device failed")
)

// Status returns a kernel's status (bs_status) as an error, nil for BS_OK.
func Status(status int32) error {
	switch status {
	case C.BS_OK:
		return nil
	case C.BS_BAD_SHAPE:
		return ErrBadShape
	case C.BS_BAD_ARGUMENT:
		return ErrBadArgument
	case C.BS_UNSUPPORTED:
		return ErrUnsupported
	case C.BS_DEVICE_ERROR:
		return ErrDevice
	}
	return fmt.Errorf("status %d", status)
}

// Failure says which call ended with an error.
func (l *Calls) Failure(call int, err error) error {
	return fmt.Errorf("call %d, %s: %w", call, l.list[call], err)
}

// Free gives the C memory back. A second Free does nothing.
func (l *Calls) Free() {
	C.free(unsafe.Pointer(l.c))
	l.c = nil
}
