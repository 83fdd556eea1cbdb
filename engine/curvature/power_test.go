package curvature

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"

	"broadside/kernels"
	"broadside/kernels/philox"
	"broadside/kernels/ref"
)

// quadratic is the Hessian of v'Av/2: the matrix A.
type quadratic struct {
	dev      *ref.Device
	a        *mat.SymDense
	products int
}

func (q *quadratic) NewVector() (kernels.Memory, error) { return q.dev.Alloc(q.a.SymmetricDim()) }

func (q *quadratic) Randomize(v kernels.Memory, d kernels.Distribution, stream Stream) error {
	s := philox.NewStream(1, philox.Probe, 0, uint32(stream.Number), uint32(stream.Use))
	x := v.(*ref.Memory).Floats()
	for i := range x {
		if x[i] = s.Norm(); d == kernels.Rademacher {
			x[i] = math.Copysign(1, x[i])
		}
	}
	return nil
}

func (q *quadratic) Product(v, hv kernels.Memory) error {
	q.products++
	n := q.a.SymmetricDim()
	mat.NewVecDense(n, hv.(*ref.Memory).Floats()).MulVec(q.a, mat.NewVecDense(n, v.(*ref.Memory).Floats()))
	return nil
}

func (q *quadratic) Dot(a, b kernels.Memory) (float64, error) {
	sum := 0.0
	for i, v := range a.(*ref.Memory).Floats() {
		sum += v * b.(*ref.Memory).Floats()[i]
	}
	return sum, nil
}

func (q *quadratic) Axpby(a float64, x kernels.Memory, b float64, y kernels.Memory) error {
	for i, v := range x.(*ref.Memory).Floats() {
		y.(*ref.Memory).Floats()[i] = a*v + b*y.(*ref.Memory).Floats()[i]
	}
	return nil
}

// symmetric returns Q'DQ for a random orthogonal Q.
func symmetric(eigenvalues []float64) *mat.SymDense {
	n := len(eigenvalues)
	s := philox.NewStream(2, philox.Probe, 0, 0, 0)
	random := mat.NewDense(n, n, nil)
	random.Apply(func(int, int, float64) float64 { return s.Norm() }, random)
	var qr mat.QR
	qr.Factorize(random)
	var q, qd, full mat.Dense
	qr.QTo(&q)
	qd.Mul(&q, mat.NewDiagDense(n, eigenvalues))
	full.Mul(&qd, q.T())
	out := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			out.SetSym(i, j, full.At(i, j))
		}
	}
	return out
}

func TestTopEigenvaluesOfAQuadratic(t *testing.T) {
	want := []float64{10, -8, 5, 3, 1, 0.5, -0.25, 0.1}
	q := &quadratic{dev: ref.New(), a: symmetric(want)}
	found, err := TopEigenvalues(q, Options{K: 4, MaxIterations: 500, Tolerance: 1e-10})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for i, e := range found {
		if !e.Converged || math.Abs(e.Value-want[i]) > 1e-4 {
			t.Errorf("eigenvalue %d: %+v; want %g", i, e, want[i])
		}
		total += e.Iterations
	}
	if q.products != total {
		t.Errorf("%d products for %d iterations", q.products, total)
	}
}

func TestIterationLimitIsReported(t *testing.T) {
	q := &quadratic{dev: ref.New(), a: symmetric([]float64{1, 0.999, 0.998})}
	found, err := TopEigenvalues(q, Options{K: 1, MaxIterations: 3, Tolerance: 1e-15})
	if err != nil {
		t.Fatal(err)
	}
	if found[0].Iterations != 3 || found[0].Converged {
		t.Errorf("%+v; want 3 iterations, not converged", found[0])
	}
}

func TestNonFiniteProductIsAnError(t *testing.T) {
	q := &quadratic{dev: ref.New(), a: mat.NewSymDense(2, []float64{math.NaN(), 0, 0, 1})}
	if _, err := TopEigenvalues(q, Options{K: 1, MaxIterations: 3, Tolerance: 1e-3}); err == nil {
		t.Error("a product that is not a number went unnoticed")
	}
}
