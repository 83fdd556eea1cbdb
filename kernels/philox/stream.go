package philox

import "math/bits"

// Stream is a sequence of random numbers for use on the host. It belongs to one goroutine.
type Stream struct {
	key    [2]uint32
	ctr    [4]uint32
	block  [4]uint32
	used   int // words of block already given out
	spare  float64
	paired bool // spare holds the second number of a Box-Muller pair
}

// NewStream returns the stream of one purpose (a constant of this package), epoch, sample and copy.
// Streams that differ in any argument are independent; copy is below 1<<8.
func NewStream(seed uint64, purpose, epoch, sample, copy uint32) *Stream {
	return &Stream{key: Key(seed), ctr: Counter(0, sample, epoch, purpose, 0, copy), used: 4}
}

// Uint32 returns the next word.
func (s *Stream) Uint32() uint32 {
	if s.used == 4 {
		s.block = Philox4x32(s.key, s.ctr)
		s.ctr[0]++
		s.used = 0
	}
	word := s.block[s.used]
	s.used++
	return word
}

// Float64 returns a number in [0, 1) with 53 random bits, from two words.
func (s *Stream) Float64() float64 {
	high, low := s.Uint32()>>5, s.Uint32()>>6
	return (float64(high)*(1<<26) + float64(low)) * 0x1p-53
}

// Norm returns a standard normal number.
func (s *Stream) Norm() float64 {
	if s.paired {
		s.paired = false
		return s.spare
	}
	var z float64
	z, s.spare = Normal2(s.Uint32(), s.Uint32())
	s.paired = true
	return z
}

// Intn returns an unbiased draw in [0, n) (Lemire 2019, "Fast random integer generation in an
// interval"). It panics unless 0 < n < 1<<32.
func (s *Stream) Intn(n int) int {
	if n <= 0 || uint64(n) >= 1<<32 {
		panic("philox: Intn of a bound outside (0, 1<<32)")
	}
	m := uint32(n)
	high, low := bits.Mul32(s.Uint32(), m)
	// The lowest 2^32 mod m values of low are one too many: drawing again makes every result equally likely.
	for reject := -m % m; low < reject; {
		high, low = bits.Mul32(s.Uint32(), m)
	}
	return int(high)
}

// Perm returns a uniformly random permutation of 0..n-1 (Fisher-Yates).
func (s *Stream) Perm(n int) []int {
	perm := make([]int, n)
	for i := range perm {
		perm[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := s.Intn(i + 1)
		perm[i], perm[j] = perm[j], perm[i]
	}
	return perm
}
