// Package emu runs the CUDA kernels of broadside/kernels/cuda on a CPU, so that machines without a GPU can
// test them: `make emu` compiles the very .cu files with a C++ compiler, against a header of this folder that
// stands in for CUDA's and makes a fiber of every thread.
package emu

// #cgo CPPFLAGS: -I${SRCDIR}/..
// #cgo LDFLAGS: -ldl
// #include <dlfcn.h>
// #include <stdlib.h>
// #include "broadside.h"
//
// static const void *table_of(void *library, int capability) {
//   const bs_kernels *(*table)(int) = (const bs_kernels *(*)(int))dlsym(library, "bs_emu_table");
//   return table ? table(capability) : NULL;
// }
import "C"

import (
	"fmt"
	"unsafe"
)

// Table loads the library that `make emu` built and returns the table of kernels (const bs_kernels *) of an emulated
// GPU: capability is its compute capability, 80 or 90.
func Table(library string, capability int) (unsafe.Pointer, error) {
	path := C.CString(library)
	defer C.free(unsafe.Pointer(path))
	handle := C.dlopen(path, C.RTLD_NOW|C.RTLD_LOCAL)
	if handle == nil {
		return nil, fmt.Errorf("loading the emulated CUDA kernels: %s", C.GoString(C.dlerror()))
	}
	table := C.table_of(handle, C.int(capability))
	if table == nil {
		return nil, fmt.Errorf("loading the emulated CUDA kernels: %s has no table for compute capability %d", library, capability)
	}
	return unsafe.Pointer(table), nil
}
