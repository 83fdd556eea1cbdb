package data

import (
	"fmt"
	"math"

	"broadside/kernels/philox"
)

// Sampler deals out the order in which training visits a set: each epoch is a fresh permutation of
// the set, cut into leaves. The samples of a leaf depend on the seed, the epoch and the leaf's place
// in it alone, so a run resumes anywhere from two numbers. It belongs to one goroutine.
type Sampler struct {
	n, leaf int
	seed    uint64
	// A step may reach over the end of an epoch, so two permutations are kept: of epoch e in e%2.
	cache [2]struct {
		perm  []int32
		epoch int
	}
}

// NewSampler returns the order of n samples in leaves of leaf samples. It refuses sizes with which an
// epoch would not have a single whole leaf.
func NewSampler(n, leaf int, seed uint64) (*Sampler, error) {
	if n <= 0 || n > math.MaxInt32 || leaf <= 0 || leaf > n {
		return nil, fmt.Errorf("leaves of %d samples of a set of %d: the leaf must be from 1 to the set's size", leaf, n)
	}
	return &Sampler{n: n, leaf: leaf, seed: seed}, nil
}

// LeavesPerEpoch returns the whole leaves of an epoch. The samples behind the last whole leaf, other ones in
// each epoch, are not visited.
func (s *Sampler) LeavesPerEpoch() int { return s.n / s.leaf }

// Leaf writes the sample indices of a leaf of an epoch to dst, which has the size of a leaf. Leaves may
// be asked for in any order; those of two neighbouring epochs are cheap. It panics on an epoch, index
// or dst outside its range: they are programming errors.
func (s *Sampler) Leaf(epoch, index int, dst []int32) {
	if epoch < 0 || epoch > math.MaxUint32 || index < 0 || index >= s.LeavesPerEpoch() || len(dst) != s.leaf {
		panic(fmt.Sprintf("data: leaf %d of epoch %d into %d elements; an epoch has %d leaves of %d",
			index, epoch, len(dst), s.LeavesPerEpoch(), s.leaf))
	}
	copy(dst, s.permutation(epoch)[index*s.leaf:])
}

// permutation returns the order of an epoch, made when it is not one of the two at hand.
func (s *Sampler) permutation(epoch int) []int32 {
	c := &s.cache[epoch%2]
	if c.perm != nil && c.epoch == epoch {
		return c.perm
	}
	if c.perm == nil {
		c.perm = make([]int32, s.n)
	}
	c.epoch = epoch
	for i := range c.perm {
		c.perm[i] = int32(i)
	}
	// Fisher-Yates, as philox.Stream.Perm does it.
	stream := philox.NewStream(s.seed, philox.Shuffle, uint32(epoch), 0, 0)
	for i := s.n - 1; i > 0; i-- {
		j := stream.Intn(i + 1)
		c.perm[i], c.perm[j] = c.perm[j], c.perm[i]
	}
	return c.perm
}
