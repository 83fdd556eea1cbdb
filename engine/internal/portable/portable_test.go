package portable

import (
	"math"
	"testing"
)

func TestExp(t *testing.T) {
	for x := -740.0; x < 709; x += 0.37 {
		if want := math.Exp(x); math.Abs(Exp(x)/want-1) > (math.Abs(x)+4)*0x1p-52 && want > 0x1p-1022 {
			t.Errorf("e^%g = %g; want %g", x, Exp(x), want)
		}
	}
	for _, x := range []float64{0, math.Inf(1), math.Inf(-1), math.NaN(), 1000, -1000} {
		if got, want := Exp(x), math.Exp(x); got != want && !math.IsNaN(want) {
			t.Errorf("e^%g = %g; want %g", x, got, want)
		}
	}
	if !math.IsNaN(Exp(math.NaN())) {
		t.Error("e^NaN is a number")
	}
}

func TestPow(t *testing.T) {
	for _, x := range []float64{1e-300, 1e-9, 0.1, 0.5, 0.999, 1, 1.5, 3, 1e6, 1e300} {
		for _, y := range []float64{-3, -1.7, -0.5, -0.3, 0, 0.1, 0.25, 0.5, 0.9, 1, 1.1, 2, 2.5} {
			want := math.Pow(x, y)
			if math.IsInf(want, 0) || want < 0x1p-1022 {
				continue
			}
			if got := Pow(x, y); math.Abs(got/want-1) > (math.Abs(y*math.Log2(x))+4)*0x1p-52 {
				t.Errorf("%g^%g = %g; want %g", x, y, got, want)
			}
		}
	}
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range [][2]float64{{0, 0.3}, {0, -0.3}, {-2, 3}, {-2, 0.3}, {inf, 0.3}, {inf, -0.3}, {2, inf}, {2, -inf}, {0.5, inf}, {1, inf}, {1, nan}, {nan, 0}, {nan, 1.5}, {2, nan}} {
		got, want := Pow(c[0], c[1]), math.Pow(c[0], c[1])
		if got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("%g^%g = %g; want %g", c[0], c[1], got, want)
		}
	}
}
