package curvature

import (
	"fmt"
	"math"

	"broadside/kernels"
)

// Hessian is a symmetric operator with the vector arithmetic its user needs. Vectors have the
// network's parameter layout and live where the operator does.
type Hessian interface {
	// NewVector returns a zero vector; Free it after use.
	NewVector() (kernels.Memory, error)
	// Randomize fills v with independent numbers, normal or Rademacher (-1 or 1), of a stream.
	Randomize(v kernels.Memory, d kernels.Distribution, s Stream) error
	// Product computes hv = H v.
	Product(v, hv kernels.Memory) error
	Dot(a, b kernels.Memory) (float64, error)
	// Axpby computes y = a x + b y; with b = 0 it does not read y.
	Axpby(a float64, x kernels.Memory, b float64, y kernels.Memory) error
}

// Stream tells random vectors apart: what a vector is for and which one of its kind it is.
type Stream struct {
	Use    Use
	Number int // 0 to 65535
}

// Use is what a random vector is for.
type Use uint8

// The uses of random vectors.
const (
	EigenvectorStart Use = iota
	TraceProbe
	LanczosStart
	LanczosRestart
)

// project takes the parts along orthonormal vectors out of v, one after the other.
func project(h Hessian, v kernels.Memory, out []kernels.Memory) error {
	for _, u := range out {
		d, err := h.Dot(u, v)
		if err != nil {
			return err
		}
		if err := h.Axpby(-d, u, 1, v); err != nil {
			return err
		}
	}
	return nil
}

// checkFinite refuses a number that came out of a broken product.
func checkFinite(v float64) error {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("the Hessian-vector product is not finite")
	}
	return nil
}

func free(vectors []kernels.Memory) {
	for _, v := range vectors {
		v.Free()
	}
}
