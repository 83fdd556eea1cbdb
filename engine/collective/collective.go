// Package collective joins the memories of a run: every rank holds one copy of the parameters and sums gradients of
// its own, and collectives make one sum of them, in the terms of MPI and NCCL. A rank is a memory space of this
// process (package local) or a process of a cluster (MPI, NCCL).
//
// All ranks must start the same collectives in the same order.
package collective

import (
	"fmt"
	"time"

	"broadside/kernels"
)

// DefaultTimeout is how long a collective waits for the other ranks.
const DefaultTimeout = 60 * time.Second

// Buffer is Count floats at Offset cells of a memory.
type Buffer struct {
	Memory        kernels.Memory
	Offset, Count int
}

// Whole is all of a memory.
func Whole(m kernels.Memory) Buffer { return Buffer{Memory: m, Count: m.Len()} }

// Comm is one rank's end of a group of ranks. Its methods belong to one goroutine at a time.
//
// What a rank's device was told before a collective is started comes before it, and what it is told after the Wait
// comes after it. Between the two the buffer must not be touched. A rank starts a next collective without waiting
// for the one before; they take place in order.
type Comm interface {
	// Name describes the way the ranks are joined, as in "tree over 4 memories".
	Name() string
	// Rank is this rank's number, of Size.
	Rank() int
	Size() int
	// Exact reports whether sums are added in the fixed tree of [Tree], which has the same bits for any number of
	// ranks that share out the same lanes. Other ways repeat their bits at best for the same number of ranks.
	Exact() bool

	// AllReduce leaves the sum of all ranks' buffers in each.
	AllReduce(Buffer) Pending
	// ReduceScatter leaves rank r's part (see [Part]) of the sum in that part of its buffer; the rest is undefined.
	ReduceScatter(Buffer) Pending
	// AllGather copies every rank's part of its buffer to the same part of all others.
	AllGather(Buffer) Pending
	// Broadcast copies root's buffer to all others.
	Broadcast(b Buffer, root int) Pending
	// Barrier is over when all ranks have come to it.
	Barrier() Pending
	// Exchange is an AllGather of host numbers that waits: values holds Size blocks of equal length, of which this
	// rank has filled its own.
	Exchange(values []float64) error

	// Close leaves the group. What is under way fails on all ranks.
	Close() error
}

// Pending is a collective under way.
type Pending interface {
	// Wait waits, for no longer than the group's timeout. Its error is a [*Error].
	Wait() error
}

// Part returns where rank r's part of a buffer of count floats begins and how long it is: equal parts, and what is
// left over goes one each to the first ranks.
func Part(count, size, r int) (first, n int) {
	n, left := count/size, count%size
	first = r*n + min(r, left)
	if r < left {
		n++
	}
	return first, n
}

// Tree calls add(to, from) for the additions of the fixed tree over n summands, a power of two: those half the number
// apart come first. The sum ends in summand 0.
func Tree(n int, add func(to, from int) error) error {
	for s := n / 2; s >= 1; s /= 2 {
		for l := range s {
			if err := add(l, l+s); err != nil {
				return err
			}
		}
	}
	return nil
}

// Error is a collective that failed on a rank.
type Error struct {
	Rank    int    // where it was noticed
	Op      string // as in "all-reduce of 1.1 MB"
	Missing []int  // ranks that did not come in time, where that is known
	Err     error
}

func (e *Error) Error() string {
	if len(e.Missing) > 0 {
		return fmt.Sprintf("rank %d: %s: waiting for rank %v: %v", e.Rank, e.Op, e.Missing, e.Err)
	}
	return fmt.Sprintf("rank %d: %s: %v", e.Rank, e.Op, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Describe names an operation over a buffer, for an [Error].
func Describe(op string, count int) string {
	switch bytes := float64(count) * 4; {
	case bytes >= 1e6:
		return fmt.Sprintf("%s of %.1f MB", op, bytes/1e6)
	case bytes >= 1e3:
		return fmt.Sprintf("%s of %.1f kB", op, bytes/1e3)
	default:
		return fmt.Sprintf("%s of %.0f bytes", op, bytes)
	}
}
