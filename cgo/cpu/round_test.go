package cpu

import (
	"math"
	"testing"

	"broadside/kernels"
)

// product runs a convolution kernel on x and w (or dy) of one image of 1x3 pixels and returns what it
// writes to `out` zeros.
func product(t *testing.T, d *Device, k kernels.Kernel, s kernels.Conv2D, first, second []float32, out int) []float32 {
	t.Helper()
	workspace, err := d.Workspace(k, s)
	check(t, err)
	m, err := d.Alloc(len(first) + len(second) + out + workspace)
	check(t, err)
	defer m.Free()
	m.WriteFloats(0, first)
	m.WriteFloats(len(first), second)
	at := kernels.Ref{}
	call := kernels.Call{Kernel: k, Shape: s, Args: []kernels.Ref{at, at.At(len(first))}}
	if k == kernels.Conv2DForward {
		call.Args = append(call.Args, kernels.None)
	}
	call.Args = append(call.Args, at.At(len(first)+len(second)))
	if k == kernels.Conv2DBackwardWeight {
		call.Args = append(call.Args, kernels.None)
	}
	call.Args = append(call.Args, at.At(len(first)+len(second)+out))
	check(t, runOn(d, call, &[kernels.MaxBases]kernels.Memory{m}))
	got := make([]float32, out)
	m.ReadFloats(len(first)+len(second), got)
	return got
}

// NaN must not become infinite or a number by a carry, whatever its bits; infinities stay, and numbers
// beyond the range join them. Each number meets a factor of 1 and everything else is 0, in every
// place of a pair.
func TestRoundingKeepsWhatIsNotFinite(t *testing.T) {
	inf, nan := float32(math.Inf(1)), func(bits uint32) float32 { return math.Float32frombits(bits) }
	for _, isa := range Available() {
		d, err := New(isa)
		check(t, err)
		for _, v := range []struct{ in, bf16, tf32 float32 }{
			{nan(0x7fffffff), nan(0x7fc00000), nan(0x7fc00000)}, {nan(0xffffffff), nan(0x7fc00000), nan(0x7fc00000)},
			{nan(0x7f800001), nan(0x7fc00000), nan(0x7fc00000)}, {inf, inf, inf}, {-inf, -inf, -inf},
			{math.MaxFloat32, inf, inf}, {-math.MaxFloat32, -inf, -inf}, {0x1.fep127, 0x1.fep127, 0x1.fep127},
			{0x1.01p0, 1, 0x1.01p0}, {0x1.03p0, 0x1.04p0, 0x1.03p0}, {-0x1.ffp0, -2, -0x1.ffp0},
			{0x1.002p0, 1, 0x1.004p0}, {0x1.ffep0, 2, 2},
		} {
			for i := range 6 {
				place, precision, want := i/2, kernels.BF16, v.bf16
				if i%2 == 1 {
					precision, want = kernels.TF32, v.tf32
				}
				row, one := make([]float32, 3), make([]float32, 3)
				row[place], one[place] = v.in, 1
				// A linear layer sums over channels, its weight gradient over samples.
				linear := kernels.Conv2D{N: 1, H: 1, W: 1, C: 3, K: 1, R: 1, S: 1, StrideH: 1, StrideW: 1, Groups: 1, OH: 1, OW: 1, Precision: precision}
				turned, batch := linear, linear
				turned.C, turned.K = 1, 3
				batch.C, batch.N = 1, 3
				for name, got := range map[string][]float32{
					"forward":         product(t, d, kernels.Conv2DForward, linear, row, one, 1),
					"backward input":  product(t, d, kernels.Conv2DBackwardInput, turned, row, one, 1),
					"backward weight": product(t, d, kernels.Conv2DBackwardWeight, batch, row, one, 1),
				} {
					same := got[0] == want || got[0] != got[0] && want != want
					if !same {
						t.Errorf("%s: %s %s of %g (%08x) in place %d is %g, want %g", isa, precision, name, v.in, math.Float32bits(v.in), place, got[0], want)
					}
				}
			}
		}
	}
}

// The window of a filter's tap ends at a pixel that the next tap sees: in a row of three outputs the last is
// half a pair, and what lies beyond it must not touch the tap.
func TestBF16PairsStopAtTheRow(t *testing.T) {
	inf := float32(math.Inf(1))
	s := kernels.Conv2D{N: 1, H: 1, W: 4, C: 1, K: 1, R: 1, S: 2, StrideH: 1, StrideW: 1, Groups: 1, OH: 1, OW: 3, Precision: kernels.BF16}
	for _, isa := range Available() {
		d, err := New(isa)
		check(t, err)
		got := product(t, d, kernels.Conv2DBackwardWeight, s, []float32{1, 2, 3, inf}, []float32{1, 1, 1}, 2)
		if got[0] != 6 || got[1] != inf {
			t.Errorf("%s: dw = %v, want [6 +Inf]", isa, got)
		}
	}
}

func TestHardwareBF16NamesItsTable(t *testing.T) {
	for _, isa := range Available() {
		d, err := New(isa)
		check(t, err)
		if d.HardwareBF16() != (isa == "avx512bf16") {
			t.Errorf("%s: hardware for bfloat16: %t", isa, d.HardwareBF16())
		}
	}
}
