//go:build cuda

package cuda_test

import (
	"testing"

	"broadside/cgo/cuda"
	"broadside/kernels/conformance"
)

func TestConformance(t *testing.T) {
	if _, err := cuda.GPUs(); err != nil {
		t.Skipf("no GPU to test on: %v (make test-cuda emulates one)", err)
	}
	d, err := cuda.Open(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	conformance.Run(t, d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
