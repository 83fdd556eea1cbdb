//go:build cuda

package nccl

// #include "library.h"
import "C"

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"gorgonia.org/cu"

	"broadside/engine/collective"
	"broadside/kernels"
)

// cellBytes is the size of a float.
const cellBytes = 4

// over starts a collective over a buffer, queued by call. One of no floats is over when the device is.
func (c *comm) over(name string, b collective.Buffer, call func(at C.uintptr_t, stream unsafe.Pointer) error) *operation {
	what := collective.Describe(name, b.Count)
	at, err := c.device.Address(b.Memory, b.Offset, b.Count)
	if err != nil {
		return c.refuse(what, err)
	}
	return c.start(what, func() error {
		if b.Count == 0 {
			return nil
		}
		return call(C.uintptr_t(at), unsafe.Pointer(c.stream.C()))
	})
}

// AllReduce leaves the sum of all ranks' buffers in each.
func (c *comm) AllReduce(b collective.Buffer) collective.Pending { return c.allReduce("all-reduce", b) }

func (c *comm) allReduce(name string, b collective.Buffer) *operation {
	return c.over(name, b, func(at C.uintptr_t, stream unsafe.Pointer) error {
		return result(C.bs_nccl_all_reduce(*c.holder, at, C.size_t(b.Count), stream))
	})
}

// ReduceScatter leaves rank r's part of the sum in that part of its buffer. NCCL knows equal parts only; others are a
// group of reductions to one rank each.
func (c *comm) ReduceScatter(b collective.Buffer) collective.Pending {
	return c.over("reduce-scatter", b, func(at C.uintptr_t, stream unsafe.Pointer) error {
		if b.Count%c.size == 0 {
			own, n := c.part(at, b.Count, c.rank)
			return result(C.bs_nccl_reduce_scatter(*c.holder, at, own, n, stream))
		}
		return c.eachPart(at, b.Count, func(part C.uintptr_t, n C.size_t, r C.int) C.int {
			return C.bs_nccl_reduce(*c.holder, part, n, r, stream)
		})
	})
}

// AllGather copies every rank's part of its buffer to the same part of all others. NCCL knows equal parts only; others
// are a group of broadcasts.
func (c *comm) AllGather(b collective.Buffer) collective.Pending { return c.allGather("all-gather", b) }

func (c *comm) allGather(name string, b collective.Buffer) *operation {
	return c.over(name, b, func(at C.uintptr_t, stream unsafe.Pointer) error {
		if b.Count%c.size == 0 {
			own, n := c.part(at, b.Count, c.rank)
			return result(C.bs_nccl_all_gather(*c.holder, own, at, n, stream))
		}
		return c.eachPart(at, b.Count, func(part C.uintptr_t, n C.size_t, r C.int) C.int {
			return C.bs_nccl_broadcast(*c.holder, part, n, r, stream)
		})
	})
}

// Broadcast copies root's buffer to all others.
func (c *comm) Broadcast(b collective.Buffer, root int) collective.Pending {
	if root < 0 || root >= c.size {
		return c.refuse(collective.Describe("broadcast", b.Count), fmt.Errorf("there is no rank %d", root))
	}
	return c.over("broadcast", b, func(at C.uintptr_t, stream unsafe.Pointer) error {
		return result(C.bs_nccl_broadcast(*c.holder, at, C.size_t(b.Count), C.int(root), stream))
	})
}

// part returns where rank r's part of the floats at an address lies.
func (c *comm) part(at C.uintptr_t, count, r int) (C.uintptr_t, C.size_t) {
	first, n := collective.Part(count, c.size, r)
	return at + C.uintptr_t(first*cellBytes), C.size_t(n)
}

// eachPart calls NCCL for each rank's part, as one group.
func (c *comm) eachPart(at C.uintptr_t, count int, call func(part C.uintptr_t, n C.size_t, r C.int) C.int) error {
	if err := result(C.bs_nccl_group_start()); err != nil {
		return err
	}
	var err error
	for r := range c.size {
		if part, n := c.part(at, count, r); n > 0 && err == nil {
			err = result(call(part, n, C.int(r)))
		}
	}
	return errors.Join(err, result(C.bs_nccl_group_end()))
}

// Barrier is over when all ranks' devices have come to it.
func (c *comm) Barrier() collective.Pending {
	if err := c.room(1); err != nil {
		return c.refuse("barrier", err)
	}
	return c.allReduce("barrier", collective.Buffer{Memory: c.scratch, Count: 1})
}

// Exchange is an all-gather of host numbers, by way of the GPU.
func (c *comm) Exchange(values []float64) error {
	cells := 2 * len(values)
	what := collective.Describe("exchange", cells)
	err := c.room(cells)
	if err == nil && len(values)%c.size != 0 {
		err = fmt.Errorf("%d numbers cannot be shared out among %d ranks", len(values), c.size)
	}
	if err != nil {
		return c.refuse(what, err).Wait()
	}
	words := make([]int32, cells)
	for i, v := range values {
		bits := math.Float64bits(v)
		words[2*i], words[2*i+1] = int32(bits), int32(bits>>32)
	}
	c.scratch.WriteInts(0, words)
	if err := c.allGather("exchange", collective.Buffer{Memory: c.scratch, Count: cells}).Wait(); err != nil {
		return err
	}
	c.scratch.ReadInts(0, words)
	if err := c.device.Use(func(cu.Stream) error { return nil }); err != nil { // nothing was read
		return c.refuse(what, err).Wait()
	}
	for i := range values {
		values[i] = math.Float64frombits(uint64(uint32(words[2*i])) | uint64(uint32(words[2*i+1]))<<32)
	}
	return nil
}

// room sees to scratch memory of so many cells.
func (c *comm) room(cells int) (err error) {
	if c.scratch != nil && c.scratch.Len() >= cells {
		return nil
	}
	var m kernels.Memory
	if m, err = c.device.Alloc(max(cells, 256)); err != nil {
		return err
	}
	if c.scratch != nil {
		c.scratch.Free()
	}
	c.scratch = m
	return nil
}
