package autoaugment

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"broadside/kernels/philox"
)

// Sub-policies are drawn alike, and operations are done as often as their probabilities say, in both directions.
func TestDraws(t *testing.T) {
	const n = 40000
	p := Policy{}
	for i := range p.subs { // sub-policy i moves an image to the right by as many levels as i modulo 5, and inverts it
		p.subs[i] = [2]step{{TranslateX, 0.25, 5 + i%5}, {Invert, 0.75, 0}}
	}
	const w = 331 // where levels are 16.7 pixels apart
	e := NewEditor(1, w, 1)
	source := make([]byte, w)
	source[w/2] = 1
	image, random := make([]byte, w), philox.NewStream(1, 99, 0, 0, 0)
	moved, inverted := map[int]int{}, 0
	for range n {
		copy(image, source)
		e.Apply(image, &p, [4]uint32{random.Uint32(), random.Uint32(), random.Uint32(), random.Uint32()})
		one := byte(1)
		if image[0]|image[w-1] >= 254 {
			one, inverted = 254, inverted+1
		}
		moved[slices.Index(image, one)-w/2]++
	}
	near := func(what string, count int, probability float64) {
		t.Helper()
		mean, deviation := n*probability, math.Sqrt(n*probability*(1-probability))
		if math.Abs(float64(count)-mean) > 5*deviation {
			t.Errorf("%s: %d of %d; want %.0f", what, count, n, mean)
		}
	}
	near("inverted", inverted, 0.75)
	near("not moved", moved[0], 0.75)
	for level := 5; level < levels; level++ {
		pixels := int(TranslateX.magnitude(level, 1, w))
		near(fmt.Sprintf("moved right by level %d", level), moved[pixels], 0.25/10)
		near(fmt.Sprintf("moved left by level %d", level), moved[-pixels], 0.25/10)
	}
}

func TestByName(t *testing.T) {
	if ByName("v7") != nil || ByName("cifar10") == nil {
		t.Error("policies by name")
	}
}

func TestApplyAllocatesNothing(t *testing.T) {
	e, image, random := NewEditor(32, 32, 3), picture("noise", 32, 32, 3), philox.NewStream(1, 99, 0, 0, 0)
	for _, name := range Names() {
		p := ByName(name)
		if n := testing.AllocsPerRun(500, func() {
			e.Apply(image, p, [4]uint32{random.Uint32(), random.Uint32(), random.Uint32(), random.Uint32()})
		}); n != 0 {
			t.Errorf("%s: %g allocations", name, n)
		}
	}
}

// The processor time of an image, by operation and by policy.
func BenchmarkImage(b *testing.B) {
	for _, size := range []int{32, 224} {
		source := picture("waves", size, size, 3)
		image, e := slices.Clone(source), NewEditor(size, size, 3)
		for _, name := range Names() {
			random := philox.NewStream(1, 99, 0, 0, 0)
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				for b.Loop() {
					copy(image, source)
					e.Apply(image, ByName(name), [4]uint32{random.Uint32(), random.Uint32(), random.Uint32(), random.Uint32()})
				}
			})
		}
		for name, op := range names {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				for b.Loop() {
					copy(image, source)
					e.do(image, step{op, 1, 7}, false)
				}
			})
		}
	}
}
