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
// static const void *table_of(void *library) {
//   const bs_kernels *(*table)(void) = (const bs_kernels *(*)(void))dlsym(library, "bs_emu_table");
//   return table ? table() : NULL;
// }
import "C"

import (
	"fmt"
	"unsafe"
)

// Table loads the library that `make emu` built and returns its table of kernels (const bs_kernels *).
func Table(library string) (unsafe.Pointer, error) {
	path := C.CString(library)
	defer C.free(unsafe.Pointer(path))
	handle := C.dlopen(path, C.RTLD_NOW|C.RTLD_LOCAL)
	if handle == nil {
		return nil, fmt.Errorf("loading the emulated CUDA kernels: %s", C.GoString(C.dlerror()))
	}
	table := C.table_of(handle)
	if table == nil {
		return nil, fmt.Errorf("loading the emulated CUDA kernels: %s has no bs_emu_table", library)
	}
	return unsafe.Pointer(table), nil
}
