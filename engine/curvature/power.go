// Package curvature measures the Hessian of the loss through Hessian-vector products.
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
	// Randomize fills v with independent N(0, 1) numbers of the given stream.
	Randomize(v kernels.Memory, stream uint32) error
	// Product computes hv = H v.
	Product(v, hv kernels.Memory) error
	Dot(a, b kernels.Memory) (float64, error)
	// Axpby computes y = a x + b y.
	Axpby(a float64, x kernels.Memory, b float64, y kernels.Memory) error
}

// Options steer the power iteration.
type Options struct {
	K             int     // eigenvalues wanted, by falling magnitude
	MaxIterations int     // products per eigenvalue
	Tolerance     float64 // relative change between iterations at which to stop
}

// Eigenvalue is one result of the power iteration. Value is the signed Rayleigh quotient of the
// eigenvector of largest magnitude, so it may be negative.
type Eigenvalue struct {
	Value      float64 `json:"value"`
	Iterations int     `json:"iterations"`
	Converged  bool    `json:"converged"`
}

// guard keeps a normalisation from dividing by zero; PyHessian's constant.
const guard = 1e-6

// TopEigenvalues runs the power iteration with deflation by projection (Yao et al. 2018, 2020).
// It starts each eigenvector at random, stops when the relative change of the Rayleigh quotient
// falls below the tolerance and returns the newest quotient.
func TopEigenvalues(h Hessian, o Options) ([]Eigenvalue, error) {
	if o.K < 1 || o.MaxIterations < 1 {
		return nil, fmt.Errorf("power iteration: want at least 1 eigenvalue and 1 iteration, got %d and %d", o.K, o.MaxIterations)
	}
	var found []kernels.Memory
	defer func() {
		for _, v := range found {
			v.Free()
		}
	}()
	hv, err := h.NewVector()
	if err != nil {
		return nil, fmt.Errorf("power iteration: %w", err)
	}
	defer hv.Free()
	var out []Eigenvalue
	for k := range o.K {
		v, err := h.NewVector()
		if err != nil {
			return nil, fmt.Errorf("power iteration: %w", err)
		}
		found = append(found, v)
		e, err := iterate(h, o, found[:k], v, hv, uint32(k))
		if err != nil {
			return nil, fmt.Errorf("power iteration, eigenvalue %d: %w", k+1, err)
		}
		out = append(out, e)
	}
	return out, nil
}

// iterate finds the eigenvector of largest magnitude orthogonal to the found ones.
func iterate(h Hessian, o Options, found []kernels.Memory, v, hv kernels.Memory, stream uint32) (Eigenvalue, error) {
	if err := h.Randomize(v, stream); err != nil {
		return Eigenvalue{}, err
	}
	if err := orthonormalize(h, v, found); err != nil {
		return Eigenvalue{}, err
	}
	e := Eigenvalue{}
	for e.Iterations = 1; ; e.Iterations++ {
		if err := h.Product(v, hv); err != nil {
			return e, err
		}
		value, err := h.Dot(v, hv)
		if err != nil {
			return e, err
		}
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return e, fmt.Errorf("the Hessian-vector product is not finite")
		}
		e.Converged = e.Iterations > 1 && math.Abs(e.Value-value) < o.Tolerance*(math.Abs(e.Value)+guard)
		e.Value = value
		if err := h.Axpby(1, hv, 0, v); err != nil {
			return e, err
		}
		if err := orthonormalize(h, v, found); err != nil {
			return e, err
		}
		if e.Converged || e.Iterations == o.MaxIterations {
			return e, nil
		}
	}
}

// orthonormalize projects the found vectors out of v and scales it to length 1.
func orthonormalize(h Hessian, v kernels.Memory, found []kernels.Memory) error {
	for _, u := range found {
		d, err := h.Dot(u, v)
		if err != nil {
			return err
		}
		if err := h.Axpby(-d, u, 1, v); err != nil {
			return err
		}
	}
	norm2, err := h.Dot(v, v)
	if err != nil {
		return err
	}
	return h.Axpby(0, v, 1/(math.Sqrt(norm2)+guard), v)
}
