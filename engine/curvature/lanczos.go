package curvature

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"broadside/kernels"
)

// Quadrature stands for the spectrum as one start vector sees it: eigenvalue estimates in rising
// order, and the share of the spectrum that each stands for. The shares sum to 1.
type Quadrature struct {
	Nodes   []float64 `json:"nodes"`
	Weights []float64 `json:"weights"`
}

// Mean returns the mean of the spectrum, an estimate of trace/parameters.
func (q Quadrature) Mean() float64 {
	sum := 0.0
	for i, w := range q.Weights {
		sum += w * q.Nodes[i]
	}
	return sum
}

// Thresholds of the Lanczos iteration, wide enough for products in 32-bit arithmetic.
const (
	breakdown = 1e-6 // a vector this short beside the largest entry of T is rounding: the subspace is invariant
	exhausted = 1e-5 // so little is left of a random vector outside the whole space's basis
)

// lanczos is the Lanczos iteration with full re-orthogonalisation. Without it, rounding would bring
// found eigenvectors back as copies that are not there.
type lanczos struct {
	h        Hessian
	steps    int
	basis    []kernels.Memory // of the Krylov space; kept between runs
	w        kernels.Memory
	restarts int

	diagonal, off []float64 // of the tridiagonal matrix T
	scale         float64   // its largest entry
}

func newLanczos(h Hessian, steps int) (*lanczos, error) {
	w, err := h.NewVector()
	return &lanczos{h: h, steps: steps, w: w}, err
}

func (l *lanczos) free() {
	free(l.basis)
	l.w.Free()
}

// vector returns vector j of the basis.
func (l *lanczos) vector(j int) (kernels.Memory, error) {
	for len(l.basis) <= j {
		v, err := l.h.NewVector()
		if err != nil {
			return nil, err
		}
		l.basis = append(l.basis, v)
	}
	return l.basis[j], nil
}

// run iterates from a random start vector of signs.
func (l *lanczos) run(start int) (Quadrature, error) {
	l.diagonal, l.off, l.scale = nil, nil, 0
	v, err := l.vector(0)
	if err != nil {
		return Quadrature{}, err
	}
	if err := l.h.Randomize(v, kernels.Rademacher, Stream{LanczosStart, start}); err != nil {
		return Quadrature{}, err
	}
	norm, err := l.norm(v)
	if err != nil {
		return Quadrature{}, err
	}
	if err := l.h.Axpby(0, v, 1/norm, v); err != nil {
		return Quadrature{}, err
	}
	for more := true; more; {
		if more, err = l.step(); err != nil {
			return Quadrature{}, fmt.Errorf("step %d: %w", len(l.diagonal)+1, err)
		}
	}
	return quadrature(l.diagonal, l.off)
}

// step adds a row to T and a vector to the basis; it reports whether there is one more step.
func (l *lanczos) step() (bool, error) {
	j := len(l.diagonal)
	v := l.basis[j]
	if err := l.h.Product(v, l.w); err != nil {
		return false, err
	}
	alpha, err := l.h.Dot(l.w, v)
	if err != nil {
		return false, err
	}
	if err := checkFinite(alpha); err != nil {
		return false, err
	}
	l.diagonal = append(l.diagonal, alpha)
	if j+1 == l.steps {
		return false, nil
	}
	next, err := l.vector(j + 1)
	if err != nil {
		return false, err
	}
	beta, _, err := l.orthogonalize(l.w, j+1)
	if err != nil {
		return false, err
	}
	l.scale = max(l.scale, math.Abs(alpha), beta)
	if beta <= breakdown*l.scale {
		l.off = append(l.off, 0)
		return l.restart(next, j+1)
	}
	l.off = append(l.off, beta)
	return true, l.h.Axpby(1/beta, l.w, 0, next)
}

// restart continues from a random vector outside the invariant subspace that the first n vectors of
// the basis span; it reports whether there is one.
func (l *lanczos) restart(v kernels.Memory, n int) (bool, error) {
	if err := l.h.Randomize(v, kernels.Normal, Stream{LanczosRestart, l.restarts}); err != nil {
		return false, err
	}
	l.restarts++
	after, before, err := l.orthogonalize(v, n)
	if err != nil || after <= exhausted*before {
		return false, err
	}
	return true, l.h.Axpby(0, v, 1/after, v)
}

// orthogonalize makes v orthogonal to the first n vectors of the basis and returns its norms. Where
// most of v is lost, rounding spoils what is left, and a second pass mends it.
func (l *lanczos) orthogonalize(v kernels.Memory, n int) (after, before float64, err error) {
	if before, err = l.norm(v); err != nil {
		return 0, 0, err
	}
	last := before
	for range 2 {
		if err := project(l.h, v, l.basis[:n]); err != nil {
			return 0, 0, err
		}
		if after, err = l.norm(v); err != nil {
			return 0, 0, err
		}
		if after > last*math.Sqrt2/2 {
			break
		}
		last = after
	}
	return after, before, nil
}

func (l *lanczos) norm(v kernels.Memory) (float64, error) {
	square, err := l.h.Dot(v, v)
	if err != nil {
		return 0, err
	}
	return math.Sqrt(square), checkFinite(square)
}

// quadrature returns the Gauss quadrature of a tridiagonal matrix: its eigenvalues, weighted by the
// squared first components of its eigenvectors (Golub and Welsch 1969).
func quadrature(diagonal, off []float64) (Quadrature, error) {
	n := len(diagonal)
	t := mat.NewSymDense(n, nil)
	for i, v := range diagonal {
		t.SetSym(i, i, v)
	}
	for i, v := range off[:n-1] {
		t.SetSym(i, i+1, v)
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(t, true) {
		return Quadrature{}, fmt.Errorf("the eigenvalues of the tridiagonal matrix of %d steps did not converge", n)
	}
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	q := Quadrature{Nodes: eigen.Values(nil), Weights: make([]float64, n)}
	for i := range n {
		q.Weights[i] = vectors.At(0, i) * vectors.At(0, i)
	}
	return q, nil
}
