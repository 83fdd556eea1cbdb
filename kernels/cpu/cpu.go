// Package cpu holds the kernels for the CPU: one C++ source, compiled once for each instruction set.
//
// The kernels are in the .h files, one family each; isa_*.cpp compile them under the target pragma of
// an instruction set; table.cpp picks a table that this processor can run. The tables:
//
//	avx512bf16  avx512 with products of bfloat16 in hardware (AVX512_BF16)
//	avx512      64-byte vectors, AVX-512 F, VL, DQ and BW
//	avx2        32-byte vectors, AVX2 and FMA
//	wide        avx512bf16's 64-byte vectors compiled for AVX2; only with package wide, for tests
//	neon        16-byte vectors, every arm64 processor
//	scalar      16-byte vectors of the base instruction set of other processors (SSE2 on x86-64)
//
// A list of calls runs on one thread, or on a [Team]: run.cpp has the members walk the list together, team.cpp
// makes them wait for one another, share.h cuts the work of a kernel. Package broadside/cgo/cpu makes devices of
// the tables.
package cpu

// #cgo CPPFLAGS: -I${SRCDIR}/..
// #cgo CXXFLAGS: -O3 -g1 -std=c++17 -fno-exceptions -fno-rtti -Wno-psabi
// #cgo LDFLAGS: -Wl,--as-needed -lm
// #include <stdlib.h>
// #include "table.h"
import "C"

import (
	"fmt"
	"strings"
	"unsafe"

	"broadside/kernels"
)

// Table returns the table of kernels (const bs_kernels *) for an instruction set, or the best one that
// this processor can run if isa is "". It fails if there is none of that name or the processor cannot
// run it.
func Table(isa string) (unsafe.Pointer, error) {
	name := C.CString(isa)
	defer C.free(unsafe.Pointer(name))
	table := C.bs_cpu_kernels(name)
	if table == nil {
		return nil, fmt.Errorf("no CPU kernels %q for this processor: it has %s", isa, strings.Join(Available(), ", "))
	}
	if table.abi != kernels.ABI || table.size != C.sizeof_bs_kernels || int(C.BS_KERNEL_COUNT) != int(kernels.KernelCount) {
		return nil, fmt.Errorf("CPU kernels %q have ABI %d with %d bytes, want ABI %d with %d bytes and %d kernels: rebuild with go build -a",
			C.GoString(table.name), table.abi, table.size, kernels.ABI, C.sizeof_bs_kernels, kernels.KernelCount)
	}
	return unsafe.Pointer(table), nil
}

// Available returns the names of the tables that this processor can run, best first.
func Available() []string {
	var names []string
	for i := C.int32_t(0); ; i++ {
		table := C.bs_cpu_available(i)
		if table == nil {
			return names
		}
		names = append(names, C.GoString(table.name))
	}
}
