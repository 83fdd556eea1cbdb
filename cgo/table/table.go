// Package table gives Go the tables of kernels that broadside.h describes: it checks them, asks them for
// workspaces, and lays out lists of calls for them in C memory. The devices of broadside/cgo share it.
package table

// #cgo CFLAGS: -I${SRCDIR}/../../kernels
// #include "broadside.h"
//
// static int64_t workspace(const bs_kernels *table, int32_t kernel, const bs_shape *shape) {
//   return table->workspace(kernel, shape);
// }
import "C"

import (
	"fmt"
	"unsafe"

	"broadside/kernels"
)

// Table is a table of kernels.
type Table struct{ c *C.bs_kernels }

// Of checks a table (const bs_kernels *): its package may have been built against another header than this one.
func Of(table unsafe.Pointer) (Table, error) {
	c := (*C.bs_kernels)(table)
	if c.abi != C.BS_ABI || c.size != C.sizeof_bs_kernels || int(C.BS_KERNEL_COUNT) != int(kernels.KernelCount) {
		return Table{}, fmt.Errorf("kernels of ABI %d with %d bytes, want ABI %d with %d bytes and %d kernels: rebuild with go build -a",
			c.abi, c.size, C.BS_ABI, C.sizeof_bs_kernels, kernels.KernelCount)
	}
	return Table{c}, nil
}

// Pointer returns the table as C knows it, a const bs_kernels *.
func (t Table) Pointer() unsafe.Pointer { return unsafe.Pointer(t.c) }

// Name returns the table's name.
func (t Table) Name() string { return C.GoString(t.c.name) }

// Workspace returns the cells of scratch that a kernel needs for a shape. It fails for a bad shape.
func (t Table) Workspace(k kernels.Kernel, s kernels.Shape) (int, error) {
	var shape C.bs_shape
	if err := putShape(&shape, k, s); err != nil {
		return 0, err
	}
	cells := int(C.workspace(t.c, C.int32_t(k), &shape))
	if cells < 0 {
		return 0, fmt.Errorf("%s: bad shape", kernels.Call{Kernel: k, Shape: s})
	}
	return cells, nil
}
