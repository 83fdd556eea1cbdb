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

// Every float32 rounds to a neighbour with 16 zero bits, and none of those lies nearer.
func TestBFloat16IsTheNearest(t *testing.T) {
	for bits := uint32(0x00800000); bits < 0x7f000000; bits += 9973 {
		v := math.Float32frombits(bits)
		below := math.Float32frombits(bits &^ 0xffff)
		above := math.Float32frombits(bits&^0xffff + 0x10000)
		want := below
		up, down := float64(above)-float64(v), float64(v)-float64(below)
		if up < down || up == down && bits>>16&1 == 1 {
			want = above
		}
		if got := BFloat16(float64(v)); got != float64(want) {
			t.Fatalf("BFloat16(%v) = %v, want %v", v, got, want)
		}
	}
}

// Only factors of products are rounded: 0x1.01p0 counts as 1 in a product and as itself in a sum.
func TestConv2DInBFloat16(t *testing.T) {
	const v, rest = 0x1.01p0, 0x1p-8
	s := kernels.Conv2D{N: 1, H: 1, W: 1, C: 1, K: 1, R: 1, S: 1, StrideH: 1, StrideW: 1, Groups: 1, OH: 1, OW: 1, Accumulate: 1, BF16: 1}
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
