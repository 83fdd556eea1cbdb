//go:build cuda

package cuda_test

import (
	"testing"

	"broadside/cgo/cuda"
	"broadside/kernels"
	"broadside/kernels/conformance"
)

// opened is the first GPU as a device, until the test ends.
func opened(t *testing.T) kernels.Device {
	t.Helper()
	if _, err := cuda.GPUs(); err != nil {
		t.Skipf("no GPU to test on: %v (make test-cuda emulates one)", err)
	}
	d, err := cuda.Open(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestConformance(t *testing.T) { conformance.Run(t, opened(t)) }

// The kernels that all GPUs have, on one of compute capability 9.0 too.
func TestConformanceWithoutHopper(t *testing.T) {
	t.Setenv("BROADSIDE_CUDA_HOPPER", "0")
	d := opened(t)
	for _, k := range []kernels.Kernel{kernels.Conv2DForward, kernels.Conv2DBackwardInput} {
		t.Run(k.String(), func(t *testing.T) { conformance.Parts(t, d, k) })
	}
}
