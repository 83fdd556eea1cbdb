package cpu

// #include <stdlib.h>
// #include "table.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// ThreadSeconds returns the processor time that the calling thread has used, in seconds. It is what work
// costs whatever else the machine does. The caller must be locked to its thread.
func ThreadSeconds() float64 { return float64(C.bs_cpu_thread_seconds()) }

// Peak measures the f32 operations per second that one core reaches with an instruction set's multiply-adds
// in registers (a multiply-add counts as two). An empty isa means the best one of this processor. It takes
// about a quarter of a second of processor time.
func Peak(isa string) (float64, error) {
	if _, err := Table(isa); err != nil {
		return 0, err
	}
	name := C.CString(isa)
	defer C.free(unsafe.Pointer(name))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	rate := float64(C.bs_cpu_peak(name))
	if rate == 0 {
		return 0, fmt.Errorf("no loop of multiply-adds for CPU kernels %q", isa)
	}
	return rate, nil
}

// PeakBF16 is Peak for the dot products of bfloat16 pairs of AVX512_BF16; 0 without it.
func PeakBF16() float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return float64(C.bs_cpu_peak_bf16())
}

// Bandwidth measures the bytes per second that one core moves in the triad a = b + s c of STREAM (McCalpin
// 1995) over arrays of 64 MiB: the best of several runs, in processor time. It counts each array once.
func Bandwidth() (float64, error) {
	const cells, runs = 16 << 20, 6
	var m [3]*C.float
	for i := range m {
		m[i] = (*C.float)(C.malloc(cells * 4))
		defer C.free(unsafe.Pointer(m[i]))
		if m[i] == nil {
			return 0, errors.New("measuring the memory's bandwidth: out of memory")
		}
		clear(unsafe.Slice((*float32)(unsafe.Pointer(m[i])), cells))
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	best := 0.0
	for range runs {
		start := ThreadSeconds()
		C.bs_cpu_triad(m[0], m[1], m[2], 3, cells)
		best = max(best, 3*4*cells/(ThreadSeconds()-start))
	}
	return best, nil
}
