package cpu

// #include <stdint.h>
// #include <stdlib.h>
// #include <string.h>
// #if defined(__linux__)
// #include <sys/mman.h>
// #endif
// #if defined(__GLIBC__)
// #include <malloc.h>
// #endif
//
// // The system has blocks of 1 MiB and more back as soon as they are freed. glibc would raise that bound with what is
// // freed, up to 32 MiB, and keep them in a heap of ever more gaps: run after run in one process, it came to twice what
// // was in use.
// static void give_back_large_blocks(void) {
// #if defined(__GLIBC__)
//   mallopt(M_MMAP_THRESHOLD, 1 << 20);
// #endif
// }
//
// // Memory for `bytes` bytes, zeroed and aligned to a cache line; NULL if there is none. Large blocks
// // ask for huge pages, which spare the kernels most of their page table walks.
// static void *host_alloc(size_t bytes) {
//   const size_t line = 64, huge = (size_t)2 << 20;
//   void *p = NULL;
//   if (posix_memalign(&p, bytes >= 2 * huge ? huge : line, bytes ? bytes : line)) return NULL;
// #if defined(__linux__) && defined(MADV_HUGEPAGE)
//   if (bytes >= 2 * huge) madvise(p, bytes, MADV_HUGEPAGE);
// #endif
//   memset(p, 0, bytes);
//   return p;
// }
import "C"

import (
	"fmt"
	"math"
	"unsafe"

	"broadside/kernels"
)

func init() { C.give_back_large_blocks() }

// cellBytes is the size of a cell.
const cellBytes = 4

// memory is a block of C memory, zeroed at first and aligned to 64 bytes.
type memory struct {
	data  unsafe.Pointer // nil after Free
	bytes int
	cells int
	space string
	part  bool // of a memory that frees it
}

var _ kernels.HostMemory = (*memory)(nil)

// Alloc returns zeroed memory of the given number of cells, aligned to 64 bytes.
func (d *Device) Alloc(cells int) (kernels.Memory, error) {
	if cells < 0 || cells > math.MaxInt/cellBytes {
		return nil, fmt.Errorf("%s: allocating %d cells: no such size", d.Name(), cells)
	}
	m, err := d.alloc(cells * cellBytes)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// AllocBytes returns memory holding a copy of the bytes. Its Len is rounded up to whole cells.
func (d *Device) AllocBytes(data []byte) (kernels.Memory, error) {
	m, err := d.alloc(len(data))
	if err != nil {
		return nil, err
	}
	copy(unsafe.Slice((*byte)(m.data), len(data)), data)
	return m, nil
}

// BorrowBytes returns memory that is the bytes themselves, to read only. They must not lie in memory of Go, which C may not
// keep, and must be readable up to the next whole cell; Free leaves them alone.
func (d *Device) BorrowBytes(data []byte) kernels.Memory {
	cells := (len(data) + cellBytes - 1) / cellBytes
	return &memory{data: unsafe.Pointer(unsafe.SliceData(data)), bytes: cells * cellBytes, cells: cells, space: d.space, part: true}
}

// alloc returns memory of at least the given number of bytes, in whole cells.
func (d *Device) alloc(bytes int) (*memory, error) {
	cells := bytes/cellBytes + (bytes%cellBytes+cellBytes-1)/cellBytes
	if cells > math.MaxInt/cellBytes {
		return nil, fmt.Errorf("%s: allocating %d bytes: no such size", d.Name(), bytes)
	}
	data := C.host_alloc(C.size_t(cells * cellBytes))
	if data == nil {
		return nil, fmt.Errorf("%s: allocating %d bytes: out of memory", d.Name(), bytes)
	}
	return &memory{data: data, bytes: bytes, cells: cells, space: d.space}, nil
}

// Len returns the number of cells.
func (m *memory) Len() int { return m.cells }

// Free gives the memory back. A second Free does nothing; any other use panics.
func (m *memory) Free() {
	if !m.part {
		C.free(m.data)
	}
	m.data, m.bytes, m.cells = nil, 0, 0
}

// Slice returns the n cells at offset.
func (m *memory) Slice(offset, n int) kernels.Memory {
	m.check(offset, n)
	return &memory{data: unsafe.Add(m.data, offset*cellBytes), bytes: n * cellBytes, cells: n, space: m.space, part: true}
}

// check panics unless n cells at offset are of the memory.
func (m *memory) check(offset, n int) {
	if offset < 0 || n < 0 || n > m.cells || offset > m.cells-n {
		panic(fmt.Sprintf("cpu: cells [%d, %d) of a memory of %d cells", offset, offset+n, m.cells))
	}
}

// Copy copies n cells between memories of CPU devices, whatever their spaces.
func (d *Device) Copy(to kernels.Memory, toOffset int, from kernels.Memory, fromOffset, n int) error {
	target, ok := to.(*memory)
	source, ok2 := from.(*memory)
	if !ok || !ok2 {
		return fmt.Errorf("%s: copying %d cells: memory of another kind of device", d.Name(), n)
	}
	copy(at[float32](target, toOffset, n), at[float32](source, fromOffset, n))
	return nil
}

// at returns the n cells at offset as a slice of T, which is a cell. It panics outside the memory.
func at[T float32 | int32](m *memory, offset, n int) []T {
	m.check(offset, n)
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Add(m.data, offset*cellBytes)), n)
}

// Floats returns the n cells at offset, in place.
func (m *memory) Floats(offset, n int) []float32 { return at[float32](m, offset, n) }

// WriteFloats copies src to the cells at offset.
func (m *memory) WriteFloats(offset int, src []float32) { copy(at[float32](m, offset, len(src)), src) }

// ReadFloats fills dst from the cells at offset.
func (m *memory) ReadFloats(offset int, dst []float32) { copy(dst, at[float32](m, offset, len(dst))) }

// WriteInts copies src to the cells at offset.
func (m *memory) WriteInts(offset int, src []int32) { copy(at[int32](m, offset, len(src)), src) }

// ReadInts fills dst from the cells at offset.
func (m *memory) ReadInts(offset int, dst []int32) { copy(dst, at[int32](m, offset, len(dst))) }

// ReadDoubles fills dst from the cells at offset, two for each.
func (m *memory) ReadDoubles(offset int, dst []float64) {
	// As cells: a double in the memory need not lie where a float64 of Go may.
	to := unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(dst))), 2*len(dst))
	copy(to, at[int32](m, offset, len(to)))
}
