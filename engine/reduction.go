package engine

import (
	"fmt"

	"broadside/engine/collective"
	"broadside/engine/graph"
	"broadside/kernels"
)

// reduction adds the lanes of all ranks, bucket by bucket: a rank's own lanes first, in a fixed tree, and then the
// ranks'. A rank may begin a bucket while others still compute, and while it computes the next one itself.
type reduction struct {
	fleet   *fleet
	buckets []bucket // those whose gradients backward finishes first are first
	ranks   []rankReduction
}

// bucket is n cells of parameter-shaped memory.
type bucket struct{ first, n int }

// rankReduction is a rank's part. Its worker or the fleet uses it, one at a time.
type rankReduction struct {
	add, zero []kernels.Pass // y += x, y = 0 over each bucket
	bases     [kernels.MaxBases]kernels.Memory
	begun     int // buckets of the reduction under way
	waits     []collective.Pending
}

// defaultBucket is how many bytes of gradients are reduced at a time: enough for the links to be busy, and few enough
// for the first to be on their way early.
const defaultBucket = 4 << 20

// bucketsOf cuts the parameters into buckets of at least so many cells, the last ones first.
func bucketsOf(net *graph.Network, cells int) (out []bucket) {
	end := net.ParamCells()
	for i := len(net.Params) - 1; i >= 0; i-- {
		if first := net.Params[i].Offset; i == 0 || end-first >= cells {
			if i == 0 {
				first = 0
			}
			out = append(out, bucket{first, end - first})
			end = first
		}
	}
	return out
}

func newReduction(f *fleet, buckets []bucket) (*reduction, error) {
	r := &reduction{fleet: f, buckets: buckets, ranks: make([]rankReduction, len(f.homes))}
	for i, home := range f.homes {
		for _, b := range buckets {
			for _, p := range []struct {
				passes *[]kernels.Pass
				b      float64
			}{{&r.ranks[i].add, 1}, {&r.ranks[i].zero, 0}} {
				pass, err := home.Prepare([]kernels.Call{{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: int64(b.n), A: p.b, B: p.b},
					Args: []kernels.Ref{{Base: xBase, Offset: int64(b.first)}, {Base: yBase, Offset: int64(b.first)}}}})
				if err != nil {
					r.free()
					return nil, fmt.Errorf("preparing the reduction: %w", err)
				}
				*p.passes = append(*p.passes, pass)
			}
		}
	}
	return r, nil
}

// begin has a rank add its lanes of the next bucket, and the ranks after it, for lanes that so many leaves reach.
func (r *reduction) begin(rank int, sums laneSums, leaves int) error {
	f, own := r.fleet, &r.ranks[rank]
	b := own.begun
	own.begun++
	used := min(leaves, f.lanes)
	rows := (used - f.first - rank + f.ranks - 1) / f.ranks // lanes of the rank that leaves reach
	if rows <= 0 {
		if err := own.run(own.zero[b], part(sums[0], rank), part(sums[0], rank)); err != nil {
			return err
		}
	}
	for s := f.lanes / f.ranks / 2; s >= 1; s /= 2 {
		for l := range s {
			if l+s < min(rows, 2*s) {
				if err := own.run(own.add[b], part(sums[l+s], rank), part(sums[l], rank)); err != nil {
					return err
				}
			}
		}
	}
	if len(f.comms) > 0 {
		at := r.buckets[b]
		own.waits = append(own.waits, f.comms[rank].AllReduce(collective.Buffer{Memory: part(sums[0], rank), Offset: at.first, Count: at.n}))
	}
	return nil
}

func (own *rankReduction) run(p kernels.Pass, x, y kernels.Memory) error {
	own.bases[xBase], own.bases[yBase] = x, y
	return p.Run(&own.bases)
}

// beginAll begins all buckets that ranks have not.
func (r *reduction) beginAll(sums laneSums, leaves int) error {
	for b := range r.buckets {
		for rank := range r.ranks {
			if r.ranks[rank].begun == b {
				if err := r.begin(rank, sums, leaves); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// finish begins what has not begun, waits for all and returns the sum, which is the first memory.
func (r *reduction) finish(sums laneSums, leaves int) (kernels.Memory, error) {
	first := r.beginAll(sums, leaves)
	for rank := range r.ranks {
		own := &r.ranks[rank]
		for _, w := range own.waits {
			if err := w.Wait(); err != nil && first == nil {
				first = err
			}
		}
		own.waits, own.begun = own.waits[:0], 0
	}
	return sums[0], first
}

func (r *reduction) free() {
	if r == nil {
		return
	}
	for _, own := range r.ranks {
		for _, p := range append(own.add, own.zero...) {
			p.Free()
		}
	}
}
