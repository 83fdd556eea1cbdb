// Package curvature measures the Hessian of the loss through Hessian-vector products.
package curvature

import (
	"fmt"
	"math"

	"broadside/kernels"
)

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

// TopEigenvalues is TopEigenvectors without the vectors.
func TopEigenvalues(h Hessian, o Options) ([]Eigenvalue, error) {
	values, vectors, err := TopEigenvectors(h, o)
	free(vectors)
	return values, err
}

// TopEigenvectors runs the power iteration with deflation by projection (Yao et al. 2018, 2020).
// It starts each eigenvector at random, stops when the relative change of the Rayleigh quotient
// falls below the tolerance and returns the newest quotient. It holds K+1 vectors; the caller frees
// the eigenvectors, which have length 1.
func TopEigenvectors(h Hessian, o Options) (values []Eigenvalue, vectors []kernels.Memory, err error) {
	if o.K < 1 || o.MaxIterations < 1 {
		return nil, nil, fmt.Errorf("power iteration: want at least 1 eigenvalue and 1 iteration, got %d and %d", o.K, o.MaxIterations)
	}
	defer func() {
		if err != nil {
			free(vectors)
			values, vectors = nil, nil
		}
	}()
	hv, err := h.NewVector()
	if err != nil {
		return nil, nil, fmt.Errorf("power iteration: %w", err)
	}
	defer hv.Free()
	for k := range o.K {
		v, err := h.NewVector()
		if err != nil {
			return values, vectors, fmt.Errorf("power iteration: %w", err)
		}
		vectors = append(vectors, v)
		e, err := iterate(h, o, vectors[:k], v, hv, k)
		if err != nil {
			return values, vectors, fmt.Errorf("power iteration, eigenvalue %d: %w", k+1, err)
		}
		values = append(values, e)
	}
	return values, vectors, nil
}

// iterate finds the eigenvector of largest magnitude orthogonal to the found ones.
func iterate(h Hessian, o Options, found []kernels.Memory, v, hv kernels.Memory, number int) (Eigenvalue, error) {
	if err := h.Randomize(v, kernels.Normal, Stream{EigenvectorStart, number}); err != nil {
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
		if err := checkFinite(value); err != nil {
			return e, err
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
	if err := project(h, v, found); err != nil {
		return err
	}
	norm2, err := h.Dot(v, v)
	if err != nil {
		return err
	}
	return h.Axpby(0, v, 1/(math.Sqrt(norm2)+guard), v)
}
