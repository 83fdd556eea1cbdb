package conformance

import (
	"math"
	"slices"
	"testing"

	"broadside/cgo/cpu"
	"broadside/kernels"
)

// teamProblems are those of the suite and larger ones, whose sums have several parts or which are large enough
// that all members have a share.
func teamProblems(k kernels.Kernel) []problem {
	list := problems(k)
	switch list[0].shape.(type) {
	case kernels.Conv2D:
		for _, s := range []kernels.Conv2D{
			conv(16, 16, 16, 16, 24, 3, 3, 1, 1, 1),  // Winograd, parts
			conv(3, 6, 6, 112, 96, 3, 3, 1, 1, 1),    // Winograd, one large sum
			conv(20, 17, 15, 5, 20, 3, 3, 1, 1, 1),   // direct, parts
			conv(20, 17, 15, 12, 20, 3, 3, 2, 1, 2),  // groups, strides
			conv(3, 5, 5, 384, 384, 1, 1, 1, 0, 1),   // direct, one large sum
			conv(17, 16, 16, 24, 24, 3, 3, 1, 1, 24), // depthwise
		} {
			for s.Precision = range precisionCount {
				list = append(list, problem{shape: s})
			}
		}
	case kernels.BatchNorm:
		for bits := range int32(4) {
			list = append(list, problem{sets: 1, shape: kernels.BatchNorm{N: 61, HW: 96, C: 16, Ghost: 48, Frozen: bits & 1, ReLU: bits >> 1, Eps: 1e-5}})
		}
	}
	return list
}

// teamCases are the problems of every kernel with their arguments.
func teamCases(t *testing.T) []*testCase {
	var all []*testCase
	for k := range kernels.KernelCount {
		for i, p := range teamProblems(k) {
			c, err := newCase(k, p, i, false)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
	}
	return all
}

// A device's results have the same bits for any number of threads.
func TestThreadsDoNotChangeBits(t *testing.T) {
	cases := teamCases(t)
	for _, isa := range cpu.Available() {
		dev, err := cpu.New(isa)
		if err != nil {
			t.Fatal(err)
		}
		defer dev.Close()
		want := make([][]uint64, len(cases))
		for _, threads := range []int{1, 2, 3, 5} {
			if err := dev.SetThreads(threads); err != nil {
				t.Fatal(err)
			}
			for i, c := range cases {
				a, err := c.run(dev)
				if err != nil {
					t.Fatalf("%s: %s%+v: %v", isa, c.kernel, c.problem.shape, err)
				}
				got := c.resultBits(a)
				a.free()
				if threads == 1 {
					want[i] = got
				} else if !slices.Equal(got, want[i]) {
					t.Errorf("%s: %s%+v gives other bits on %d threads than on one", isa, c.kernel, c.problem.shape, threads)
				}
			}
		}
	}
}

// resultBits returns the bits of all arguments, one after the other.
func (c *testCase) resultBits(a *arena) []uint64 {
	var bits []uint64
	for i := range c.layout {
		if c.values[i] == nil {
			continue
		}
		for _, v := range a.read(i) {
			bits = append(bits, math.Float64bits(v))
		}
	}
	return bits
}

// A team conforms, with the larger problems too.
func TestTeamConforms(t *testing.T) {
	dev, err := cpu.New("")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if err := dev.SetThreads(3); err != nil {
		t.Fatal(err)
	}
	Run(t, dev)
	for k := range kernels.KernelCount {
		for i, p := range teamProblems(k)[len(problems(k)):] {
			checkProblem(t, dev, k, p, i, false, map[string]bool{})
		}
	}
}
