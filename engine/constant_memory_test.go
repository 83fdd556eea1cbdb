package engine

import (
	"fmt"
	"math"
	"os"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/curvature"
	"broadside/kernels"
)

// processMemory returns the bytes that the process has in memory, or 0 where the system does not say.
func processMemory() (bytes int64) {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size int64
	if _, err := fmt.Sscan(string(raw), &size, &bytes); err != nil {
		return 0
	}
	return bytes * int64(os.Getpagesize())
}

// used returns the bytes in use where the Hessian's vectors live: of the GPU, or of the process.
func used(h *hessian) int64 {
	if m, ok := h.fleet.homes[0].(measured); ok && devicetest.OnGPU() {
		if free, ok := m.FreeMemory(); ok {
			return -free
		}
	}
	return processMemory()
}

// A thousand products (long: ten thousand) over a whole training set, in leaves too many to keep, need no more memory than
// the first: they allocate nothing, and a leak of one vector by each would be 29 times what is allowed.
func TestThousandProductsInConstantMemory(t *testing.T) {
	products := 1000
	if os.Getenv("BROADSIDE_LONG") != "" {
		products = 10000
	}
	set := synthetic(96, 16, 3, 10)
	h := hessianOn(t, devicetest.Open(t, 2), set, set.Len(), false, "model.name=linear", "batch.lanes=2")
	if h.reused() || h.leaves() < 3 {
		t.Fatalf("%d leaves, all of whose primal passes are kept: %t", h.leaves(), h.reused())
	}
	v, hv := zeroVector(t, h), zeroVector(t, h)
	if err := h.Randomize(v, kernels.Rademacher, curvature.Stream{}); err != nil {
		t.Fatal(err)
	}
	product := func() {
		if err := h.Product(v, hv); err != nil {
			t.Fatal(err)
		}
	}
	product()
	before := used(h)
	const allowed = 1 << 20
	if leak := int64(products * 4 * v.Len()); leak < 29*allowed {
		t.Fatalf("a leak of %d bytes would be too small to be seen", leak)
	}
	if n := testing.AllocsPerRun(products, product); n != 0 && !devicetest.OnGPU() {
		t.Errorf("%g allocations per product; want 0", n)
	}
	if grown := used(h) - before; grown > allowed {
		t.Errorf("%d products took %d bytes more than the first", products, grown)
	}
	if h.products < products {
		t.Errorf("%d products", h.products)
	}
}

// The product over a whole set is that over its parts, each weighted by its samples.
func TestProductOfPartsOfASet(t *testing.T) {
	set := synthetic(128, 8, 3, 10)
	devices := func() []kernels.Device { return devicetest.Open(t, 2) }
	all := firstSamples(set.Len())
	product := func(samples []int32) []float32 {
		h := hessianOf(t, devices(), set, samples, false)
		v, hv := zeroVector(t, h), zeroVector(t, h)
		if err := h.Randomize(v, kernels.Normal, curvature.Stream{}); err != nil {
			t.Fatal(err)
		}
		if err := h.Product(v, hv); err != nil {
			t.Fatal(err)
		}
		return read(hv)
	}
	whole, first, rest := product(all), product(all[:50]), product(all[50:])
	off, size := 0.0, 0.0
	for i, want := range whole {
		got := (50*float64(first[i]) + 78*float64(rest[i])) / 128
		off, size = off+(got-float64(want))*(got-float64(want)), size+float64(want)*float64(want)
	}
	if relative := math.Sqrt(off / size); !(relative < 1e-5) {
		t.Errorf("the parts and the whole differ by %.3g of the product", relative)
	}
}
