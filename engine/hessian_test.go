package engine

import (
	"broadside/cgo/device/devicetest"
	"broadside/kernels"
	"fmt"
	"math"
	"slices"
	"testing"

	"broadside/engine/curvature"
	"broadside/engine/data"
)

// productOf returns the product of the Hessian over n samples with a random direction, computed twice: with
// the primal pass and, where it is kept, without.
func productOf(t *testing.T, devices, n int, ghost bool, sets ...string) (product []float32, h *hessian) {
	t.Helper()
	return productOn(t, devicetest.Open(t, devices), n, ghost, sets...)
}

func productOn(t *testing.T, devices []kernels.Device, n int, ghost bool, sets ...string) (product []float32, h *hessian) {
	t.Helper()
	h = hessianOn(t, devices, synthetic(128, 8, 3, 10), n, ghost, sets...)
	v, err := h.NewVector()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Free)
	if err := h.Randomize(v, kernels.Normal, curvature.Stream{}); err != nil {
		t.Fatal(err)
	}
	var runs [2][]float32
	for i := range runs {
		hv, err := h.NewVector()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(hv.Free)
		if err := h.Product(v, hv); err != nil {
			t.Fatal(err)
		}
		runs[i] = make([]float32, hv.Len())
		hv.ReadFloats(0, runs[i])
	}
	if !slices.Equal(runs[0], runs[1]) {
		t.Errorf("%d devices, %d samples, ghost %t: a second product has other bits", len(devices), n, ghost)
	}
	return runs[0], h
}

// hessianOn returns the Hessian of a new network over n samples of a set.
func hessianOn(t *testing.T, devices []kernels.Device, set *data.Set, n int, ghost bool, sets ...string) *hessian {
	t.Helper()
	samples := make([]int32, n)
	for i := range samples {
		samples[i] = int32(3 * i % set.Len())
	}
	return hessianOf(t, devices, set, samples, ghost, sets...)
}

// hessianOf returns the Hessian of a new network over some samples of a set.
func hessianOf(t *testing.T, devices []kernels.Device, set *data.Set, samples []int32, ghost bool, sets ...string) *hessian {
	t.Helper()
	tr := startTrainerOn(t, parseRecipe(t, smallText, sets...), &data.Pair{Train: set, Test: set}, devices, Options{}, &tape{})
	h, err := newHessian(tr.fleet, tr.fleet.train, samples, ghost, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.free)
	return h
}

// A product has the same bits on any number of devices, which differ in what they keep of the primal pass.
func TestProductOnManyDevices(t *testing.T) {
	for _, c := range []struct {
		samples, size, keepers int // keepers: the fewest devices that keep all primal passes
		ghost                  bool
	}{
		{samples: 32, size: 4, keepers: 1},
		{samples: 30, size: 4, keepers: 1},
		{samples: 5, size: 1, keepers: 1},
		{samples: 100, size: 13, keepers: 4},
		{samples: 32, size: 16, keepers: 1, ghost: true},
		{samples: 128, size: 16, keepers: 4, ghost: true},
	} {
		one, _ := productOf(t, 1, c.samples, c.ghost)
		for _, devices := range []int{1, 2, 3, 4, 8} {
			got, h := productOf(t, devices, c.samples, c.ghost)
			what := fmt.Sprintf("%d samples, ghost %t, %d devices", c.samples, c.ghost, devices)
			if !slices.Equal(got, one) {
				t.Errorf("%s: other bits than on one", what)
			}
			if h.size != c.size || h.reused() != (devices >= c.keepers) {
				t.Errorf("%s: leaves of %d, primal passes reused %t; want %d, %t", what, h.size, h.reused(), c.size, devices >= c.keepers)
			}
		}
	}
}

// Where statistics are constants, leaves of other sizes change no more than rounding.
func TestProductOfAnyLeaf(t *testing.T) {
	small, _ := productOf(t, 1, 64, false)
	whole, h := productOf(t, 1, 64, false, "batch.leaf=64", "batch.ghost=64", "batch.lanes=1")
	if h.size != 64 {
		t.Fatalf("a leaf of %d samples", h.size)
	}
	off, size := 0.0, 0.0
	for i := range whole {
		d := float64(whole[i]) - float64(small[i])
		off, size = off+d*d, size+float64(whole[i])*float64(whole[i])
	}
	if relative := math.Sqrt(off / size); !(relative < 1e-5) {
		t.Errorf("8 leaves and one differ by %.3g of the product", relative)
	}
}
