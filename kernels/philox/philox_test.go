package philox

import (
	"math"
	"testing"
)

// The known answers published with the paper's Random123 library.
func TestKnownAnswers(t *testing.T) {
	const ff = 0xffffffff
	cases := []struct {
		key  [2]uint32
		ctr  [4]uint32
		want [4]uint32
	}{
		{[2]uint32{}, [4]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[2]uint32{ff, ff}, [4]uint32{ff, ff, ff, ff}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[2]uint32{0xa4093822, 0x299f31d0}, [4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	}
	for _, c := range cases {
		if got := Philox4x32(c.key, c.ctr); got != c.want {
			t.Errorf("key %x, counter %x: got %x, want %x", c.key, c.ctr, got, c.want)
		}
	}
}

func TestStreamWordsAreTheBlocksInOrder(t *testing.T) {
	seed := uint64(0x1122334455667788)
	s := NewStream(seed, Shuffle, 7, 9, 3)
	for block := uint32(0); block < 3; block++ {
		want := Philox4x32([2]uint32{0x55667788, 0x11223344}, [4]uint32{block, 9, 7, 3<<24 | 3})
		for i, w := range want {
			if got := s.Uint32(); got != w {
				t.Fatalf("block %d word %d: got %x, want %x", block, i, got, w)
			}
		}
	}
}

func TestStreamsDiffer(t *testing.T) {
	seen := map[uint32]string{}
	for name, s := range map[string]*Stream{
		"base": NewStream(1, Init, 0, 0, 0), "seed": NewStream(2, Init, 0, 0, 0), "high seed": NewStream(1|1<<32, Init, 0, 0, 0),
		"purpose": NewStream(1, Probe, 0, 0, 0), "epoch": NewStream(1, Init, 1, 0, 0), "sample": NewStream(1, Init, 0, 1, 0),
		"copy": NewStream(1, Init, 0, 0, 1),
	} {
		w := s.Uint32()
		if other, ok := seen[w]; ok {
			t.Errorf("streams %q and %q begin alike", name, other)
		}
		seen[w] = name
	}
}

func TestUniformIsExactInFloat32(t *testing.T) {
	for _, w := range []uint32{0, 1, 255, 256, 0x80000000, 0xffffff00, 0xffffffff} {
		u := Uniform(w)
		if float64(float32(u)) != u || u < 0 || u >= 1 {
			t.Errorf("Uniform(%x) = %v", w, u)
		}
	}
	if Uniform(0x80000000) != 0.5 {
		t.Errorf("Uniform(2^31) = %v, want 0.5", Uniform(0x80000000))
	}
}

// The sample mean of n draws with variance v lies within 5 sqrt(v/n) of its mean but for 1 in 10^6;
// the streams are fixed, so a pass is a pass for ever.
func TestMoments(t *testing.T) {
	const n = 100000
	s := NewStream(11, Probe, 0, 0, 0)
	var uniform, normal, square float64
	for range n {
		u := s.Float64()
		if u < 0 || u >= 1 {
			t.Fatalf("Float64 gave %v", u)
		}
		z := s.Norm()
		uniform, normal, square = uniform+u, normal+z, square+z*z
	}
	for _, c := range []struct {
		name                string
		sum, mean, variance float64
	}{{"uniform", uniform, 0.5, 1. / 12}, {"normal", normal, 0, 1}, {"normal squared", square, 1, 2}} {
		if got, bound := c.sum/n, 5*math.Sqrt(c.variance/n); math.Abs(got-c.mean) > bound {
			t.Errorf("%s: mean %v, want %v within %v", c.name, got, c.mean, bound)
		}
	}
}

func TestPermIsAUniformPermutation(t *testing.T) {
	counts := map[[4]int]int{}
	s := NewStream(5, Shuffle, 0, 0, 0)
	const n = 24000
	for range n {
		p := s.Perm(4)
		counts[[4]int(p)]++
	}
	if len(counts) != 24 {
		t.Fatalf("%d of the 24 permutations of 4 were drawn", len(counts))
	}
	// Each is binomial with mean 1000 and standard deviation 31.
	for p, c := range counts {
		if c < 1000-5*31 || c > 1000+5*31 {
			t.Errorf("permutation %v was drawn %d times of %d", p, c, n)
		}
	}
	seen := make([]bool, 1000)
	for _, i := range s.Perm(1000) {
		if seen[i] {
			t.Fatalf("%d is twice in the permutation", i)
		}
		seen[i] = true
	}
}

func TestBelowAndIntnStayInside(t *testing.T) {
	if Below(0xffffffff, 9) != 8 || Below(0, 9) != 0 {
		t.Error("Below does not reach exactly its range")
	}
	s := NewStream(1, Shuffle, 0, 0, 0)
	for _, n := range []int{1, 2, 3, 1<<31 + 1, 1<<32 - 1} {
		for range 100 {
			if i := s.Intn(n); i < 0 || i >= n {
				t.Fatalf("Intn(%d) = %d", n, i)
			}
		}
	}
}
