//go:build cuda

package cuda

// #include <cuda.h>
// #include "driver.h"
//
// static CUresult pinned(void **p, size_t bytes) {
//   return cuMemHostAlloc(p, bytes, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
// }
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"gorgonia.org/cu"
)

// pinned returns memory of the host that GPUs read and write by itself, zeroed. The thread has the GPU's context.
func pinned[T any](n int) ([]T, error) {
	var p unsafe.Pointer
	var zero T
	if status := C.pinned(&p, C.size_t(n)*C.size_t(unsafe.Sizeof(zero))); status != C.CUDA_SUCCESS {
		return nil, fmt.Errorf("allocating %d bytes of pinned memory: %s", n*int(unsafe.Sizeof(zero)), C.GoString(C.bs_driver_error(C.int(status))))
	}
	s := unsafe.Slice((*T)(p), n)
	clear(s)
	return s, nil
}

// unpin frees what pinned returned; nil is nothing.
func unpin[T any](s []T) error {
	if s == nil {
		return nil
	}
	return cu.MemFreeHost(unsafe.Pointer(unsafe.SliceData(s)))
}

// staging is pinned memory in which bytes wait for their way to the GPU. It is filled one half after the other; a
// half is filled again when the copies out of it are done.
type staging struct {
	data   []byte
	done   [2]cu.Event // the copies out of a half
	half   int
	at     int  // first free byte of the half
	filled bool // both halves were in use
}

const stagingHalf = 2 << 20

func (s *staging) open() (err error) {
	for i := range s.done {
		if s.done[i], err = cu.MakeEvent(cu.DisableTiming); err != nil {
			return err
		}
	}
	s.data, err = pinned[byte](2 * stagingHalf)
	return err
}

// write queues a copy of src to the GPU. The caller may change src at once.
func (s *staging) write(stream cu.Stream, dst cu.DevicePtr, src []byte) error {
	for len(src) > 0 {
		if s.at == stagingHalf {
			if err := s.turn(stream); err != nil {
				return err
			}
		}
		from := s.half*stagingHalf + s.at
		n := copy(s.data[from:(s.half+1)*stagingHalf], src)
		if err := cu.MemcpyHtoDAsync(dst, unsafe.Pointer(&s.data[from]), int64(n), stream); err != nil {
			return err
		}
		s.at += n
		dst += cu.DevicePtr(n)
		src = src[n:]
	}
	return nil
}

// turn goes to the other half.
func (s *staging) turn(stream cu.Stream) error {
	if err := s.done[s.half].Record(stream); err != nil {
		return err
	}
	s.half, s.at = 1-s.half, 0
	if s.half == 1 && !s.filled {
		s.filled = true
		return nil
	}
	return s.done[s.half].Synchronize()
}

func (s *staging) close() error {
	err := unpin(s.data)
	for i := range s.done {
		if s.done[i] != (cu.Event{}) {
			err = errors.Join(err, cu.DestroyEvent(&s.done[i]))
		}
	}
	return err
}

// lateReads are copies to the host that are queued, on their way through pinned memory.
type lateReads struct {
	data  []float32
	used  int
	reads []lateRead
}

type lateRead struct{ dst, from []float32 }

const lateCells = 1 << 20

// queue queues a copy from the GPU, to be delivered to dst. It reports whether there was room.
func (l *lateReads) queue(stream cu.Stream, dst []float32, src cu.DevicePtr) (bool, error) {
	if l.data == nil {
		var err error
		if l.data, err = pinned[float32](lateCells); err != nil {
			return false, err
		}
	}
	if len(dst) == 0 || l.used+len(dst) > len(l.data) {
		return len(dst) == 0, nil
	}
	from := l.data[l.used : l.used+len(dst)]
	if err := cu.MemcpyDtoHAsync(unsafe.Pointer(&from[0]), src, int64(len(dst))*cellBytes, stream); err != nil {
		return false, err
	}
	l.used += len(dst)
	l.reads = append(l.reads, lateRead{dst, from})
	return true, nil
}

// deliver fills all destinations. The stream is idle.
func (l *lateReads) deliver() {
	for _, r := range l.reads {
		copy(r.dst, r.from)
	}
	clear(l.reads)
	l.reads, l.used = l.reads[:0], 0
}

func (l *lateReads) close() error { return unpin(l.data) }

// faultWords are words of pinned memory that kernels write faults to, one for each call of each pass.
type faultWords struct {
	slabs [][]int32
	used  int               // of the last slab
	spare map[int][][]int32 // given back, by length
}

const slabWords = 1 << 14

// take returns n words, all zero.
func (f *faultWords) take(n int) ([]int32, error) {
	if spare := f.spare[n]; len(spare) > 0 {
		f.spare[n] = spare[:len(spare)-1]
		return spare[len(spare)-1], nil
	}
	if len(f.slabs) == 0 || f.used+n > len(f.slabs[len(f.slabs)-1]) {
		slab, err := pinned[int32](max(n, slabWords))
		if err != nil {
			return nil, err
		}
		f.slabs, f.used = append(f.slabs, slab), 0
	}
	slab := f.slabs[len(f.slabs)-1]
	f.used += n
	return slices.Clip(slab[f.used-n : f.used]), nil
}

// put takes words back. They are zero.
func (f *faultWords) put(words []int32) {
	if f.spare == nil {
		f.spare = map[int][][]int32{}
	}
	f.spare[len(words)] = append(f.spare[len(words)], words)
}

func (f *faultWords) close() (err error) {
	for _, slab := range f.slabs {
		err = errors.Join(err, unpin(slab))
	}
	f.slabs, f.spare = nil, nil
	return err
}
