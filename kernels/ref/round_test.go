package ref

import (
	"math"
	"testing"

	"broadside/kernels"
)

func TestBFloat16RoundsToNearestEven(t *testing.T) {
	inf := math.Inf(1)
	for _, v := range [][2]float64{
		{0, 0}, {1, 1}, {-3, -3}, {1.0078125, 1.0078125}, // representable
		{0x1.01p0, 1},        // half way between 1 and 0x1.02p0: 1 is even
		{0x1.03p0, 0x1.04p0}, // half way: up to even
		{-0x1.03p0, -0x1.04p0},
		{0x1.010001p0, 0x1.02p0},              // just above half way
		{0x1.00ffffp0, 1},                     // just below
		{0x1.ffp0, 2},                         // carries into the exponent
		{0x1.fefffep127, 0x1.fep127},          // just below half way to the next power of two
		{math.MaxFloat32, inf}, {-1e39, -inf}, // beyond the range
		{inf, inf}, {-inf, -inf}, {3.14, 3.140625}, {0x1p-126, 0x1p-126},
	} {
		if got := BFloat16(v[0]); got != v[1] {
			t.Errorf("BFloat16(%v) = %v, want %v", v[0], got, v[1])
		}
	}
	if !math.IsNaN(BFloat16(math.NaN())) {
		t.Error("NaN does not stay NaN")
	}
	if !math.Signbit(BFloat16(math.Copysign(0, -1))) {
		t.Error("-0 loses its sign")
	}
}

func TestTF32RoundsTiesAwayFromZero(t *testing.T) {
	inf := math.Inf(1)
	for _, v := range [][2]float64{
		{0, 0}, {1, 1}, {-3, -3}, {0x1.004p0, 0x1.004p0}, // representable
		{0x1.002p0, 0x1.004p0}, {-0x1.002p0, -0x1.004p0}, // half way
		{0x1.006p0, 0x1.008p0},
		{0x1.001ffep0, 1},                     // just below half way
		{0x1.ffep0, 2},                        // carries into the exponent
		{0x1.ffdffep127, 0x1.ffcp127},         // just below half way to the next power of two
		{math.MaxFloat32, inf}, {-1e39, -inf}, // beyond the range
		{inf, inf}, {-inf, -inf}, {0x1p-126, 0x1p-126},
	} {
		if got := TF32(v[0]); got != v[1] {
			t.Errorf("TF32(%x) = %x, want %x", v[0], got, v[1])
		}
	}
	if !math.IsNaN(TF32(math.NaN())) {
		t.Error("NaN does not stay NaN")
	}
	if !math.Signbit(TF32(math.Copysign(0, -1))) {
		t.Error("-0 loses its sign")
	}
}

// Every float32 rounds to a neighbour with so many zero bits, and none of those lies nearer.
func TestRoundingIsToTheNearest(t *testing.T) {
	for _, format := range []struct {
		dropped int
		round   func(float64) float64
		tieUp   func(bits uint32) bool
	}{
		{16, BFloat16, func(bits uint32) bool { return bits>>16&1 == 1 }},
		{13, TF32, func(uint32) bool { return true }},
	} {
		for bits := uint32(0x00800000); bits < 0x7f000000; bits += 9973 {
			v, cut := math.Float32frombits(bits), bits>>format.dropped<<format.dropped
			below, above := math.Float32frombits(cut), math.Float32frombits(cut+1<<format.dropped)
			want := below
			up, down := float64(above)-float64(v), float64(v)-float64(below)
			if up < down || up == down && format.tieUp(bits) {
				want = above
			}
			if got := format.round(float64(v)); got != float64(want) {
				t.Fatalf("%v rounds to %v with %d bits dropped, want %v", v, got, format.dropped, want)
			}
		}
	}
}

// Only factors of products are rounded: v counts as 1 in a product and as itself in a sum.
func TestConv2DRoundsFactorsOnly(t *testing.T) {
	checkFactorsOnly(t, kernels.BF16, 0x1p-8)
	checkFactorsOnly(t, kernels.TF32, 0x1p-12)
}

func checkFactorsOnly(t *testing.T, precision kernels.Precision, rest float64) {
	t.Helper()
	v := 1 + rest
	s := kernels.Conv2D{N: 1, H: 1, W: 1, C: 1, K: 1, R: 1, S: 1, StrideH: 1, StrideW: 1, Groups: 1, OH: 1, OW: 1, Accumulate: 1, Precision: precision}
	x, w, y := []float64{v}, []float64{v}, []float64{v}
	if err := conv2DForward(s, x, w, []float64{v}, y); err != nil || y[0] != 3+2*rest {
		t.Errorf("y = %v (%v), want %v", y[0], err, 3+2*rest)
	}
	dx := []float64{v}
	if err := conv2DBackwardInput(s, []float64{v}, w, dx); err != nil || dx[0] != 2+rest {
		t.Errorf("dx = %v (%v), want %v", dx[0], err, 2+rest)
	}
	dw, dbias := []float64{v}, []float64{v}
	if err := conv2DBackwardWeight(s, x, []float64{v}, dw, dbias); err != nil || dw[0] != 2+rest || dbias[0] != 2+2*rest {
		t.Errorf("dw = %v, dbias = %v (%v), want %v and %v", dw[0], dbias[0], err, 2+rest, 2+2*rest)
	}
	if x[0] != v || w[0] != v {
		t.Error("inputs change")
	}
}
