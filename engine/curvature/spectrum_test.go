package curvature

import (
	"math"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"broadside/kernels"
	"broadside/kernels/ref"
)

func diagonal(values ...float64) *mat.SymDense {
	out := mat.NewSymDense(len(values), nil)
	for i, v := range values {
		out.SetSym(i, i, v)
	}
	return out
}

// upTo returns 1, 2, ..., n.
func upTo(n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = float64(i + 1)
	}
	return out
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %.12g; want %.12g", what, got, want)
	}
}

// On a diagonal matrix every probe of signs has the trace exactly.
func TestTraceOfADiagonalIsExact(t *testing.T) {
	q := &quadratic{dev: ref.New(), a: diagonal(5, -3, 0.5, 2)}
	got, err := EstimateTrace(q, TraceOptions{MaxProbes: 50, Tolerance: 1e-3})
	if err != nil {
		t.Fatal(err)
	}
	if got.Mean != 4.5 || got.StandardError != 0 || !got.Converged || !slices.Equal(got.Samples, []float64{4.5, 4.5}) || q.products != 2 {
		t.Errorf("%+v after %d products; want 4.5 twice", got, q.products)
	}
}

// The variance of z'Az over signs is twice the sum of the squares beside the diagonal.
func TestTraceOfAMatrix(t *testing.T) {
	const probes = 4000
	a := symmetric([]float64{10, -8, 5, 3, 1, 0.5, -0.25, 0.1})
	variance := 0.0
	for i := range 8 {
		for j := range 8 {
			if i != j {
				variance += 2 * a.At(i, j) * a.At(i, j)
			}
		}
	}
	got, err := EstimateTrace(&quadratic{dev: ref.New(), a: a}, TraceOptions{MaxProbes: probes, Tolerance: 0})
	if err != nil {
		t.Fatal(err)
	}
	want := math.Sqrt(variance / probes)
	if got.Converged || len(got.Samples) != probes {
		t.Errorf("stopped after %d probes", len(got.Samples))
	}
	near(t, "the standard error", got.StandardError, want, 0.05*want)
	near(t, "the trace", got.Mean, mat.Trace(a), 4*want)
	mean, squares := 0.0, 0.0
	for _, s := range got.Samples {
		mean += s / probes
	}
	for _, s := range got.Samples {
		squares += (s - mean) * (s - mean)
	}
	near(t, "the mean of the samples", got.Mean, mean, 1e-9)
	near(t, "the error by two passes", got.StandardError, math.Sqrt(squares/(probes-1)/probes), 1e-9)
}

// The estimate stops at the first mean that differs little from the one before, and not earlier.
func TestTraceStops(t *testing.T) {
	const tolerance = 1e-2
	got, err := EstimateTrace(&quadratic{dev: ref.New(), a: symmetric(upTo(20))}, TraceOptions{MaxProbes: 1000, Tolerance: tolerance})
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, s := range got.Samples {
		old := sum / max(float64(i), 1)
		sum += s
		small := i > 0 && math.Abs(sum/float64(i+1)-old) < tolerance*(math.Abs(old)+1e-6)
		if last := i == len(got.Samples)-1; small != last {
			t.Errorf("probe %d of %d: the change is small: %t", i+1, len(got.Samples), small)
		}
	}
	if !got.Converged {
		t.Error("not converged")
	}
}

// From signs, all eigenvectors of a diagonal matrix have the same share: as many steps as eigenvalues
// find each with weight 1/n, and T is that of the polynomials orthogonal on 1, ..., n (Gram).
func TestDensityOfADiagonal(t *testing.T) {
	const n = 50
	q := &quadratic{dev: ref.New(), a: diagonal(upTo(n)...)}
	l, err := newLanczos(q, n)
	if err != nil {
		t.Fatal(err)
	}
	defer l.free()
	got, err := l.run(0)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Nodes) != n || q.products != n || l.restarts != 0 {
		t.Fatalf("%d nodes of %d products, %d restarts", len(got.Nodes), q.products, l.restarts)
	}
	for i := range n {
		near(t, "node", got.Nodes[i], float64(i+1), 1e-9)
		near(t, "weight", got.Weights[i], 1./n, 1e-9)
		near(t, "alpha", l.diagonal[i], (n+1)/2., 1e-9)
	}
	for i, beta := range l.off {
		k := float64(i + 1)
		near(t, "beta", beta, math.Sqrt(k*k*(n*n-k*k)/(4*(4*k*k-1))), 1e-9)
	}
}

// A quadrature of m nodes has the first 2m-1 moments of its start vector exactly.
func TestMomentsOfAFewSteps(t *testing.T) {
	const n, m = 40, 4
	q := &quadratic{dev: ref.New(), a: diagonal(upTo(n)...)}
	d, err := EstimateDensity(q, DensityOptions{Steps: m, Starts: 2})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Runs) != 2 || q.products != 2*m {
		t.Errorf("%d runs, %d products", len(d.Runs), q.products)
	}
	for power := range 2 * m {
		want := 0.0
		for _, v := range upTo(n) {
			want += math.Pow(v, float64(power)) / n
		}
		for _, run := range d.Runs {
			got := 0.0
			for j, w := range run.Weights {
				got += w * math.Pow(run.Nodes[j], float64(power))
			}
			near(t, "moment", got/want, 1, 1e-10)
		}
	}
	near(t, "the mean", d.Mean, (n+1)/2., 1e-10)
}

// Starts on a matrix that is not diagonal differ; their means spread around trace/n.
func TestMeanOfTheDensity(t *testing.T) {
	const n = 30
	a := symmetric(upTo(n))
	d, err := EstimateDensity(&quadratic{dev: ref.New(), a: a}, DensityOptions{Steps: 10, Starts: 200})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(d.Runs[0].Nodes, d.Runs[1].Nodes) {
		t.Error("two starts are the same")
	}
	near(t, "the mean", d.Mean, mat.Trace(a)/n, 0.3)
}

// An invariant subspace ends the quadrature; the restart finds the eigenvalues outside of it, without weight.
func TestRestartAfterBreakdown(t *testing.T) {
	for _, c := range []struct {
		name     string
		values   []float64
		steps    int
		nodes    []float64
		weights  map[float64]float64
		products int
	}{
		{"three eigenvalues, as many steps", []float64{1, 1, 2, 2, 2, 7}, 3, []float64{1, 2, 7}, map[float64]float64{1: 2. / 6, 2: 3. / 6, 7: 1. / 6}, 3},
		{"three eigenvalues, a step for each dimension", []float64{1, 1, 2, 2, 2, 7}, 6, []float64{1, 1, 2, 2, 2, 7}, map[float64]float64{1: 2. / 6, 2: 3. / 6, 7: 1. / 6}, 6},
		{"more steps than dimensions", []float64{3, -4}, 9, []float64{-4, 3}, map[float64]float64{-4: 0.5, 3: 0.5}, 2},
		{"identity", []float64{2, 2, 2}, 2, []float64{2, 2}, map[float64]float64{2: 1}, 2},
		{"zero", []float64{0, 0, 0}, 2, []float64{0, 0}, map[float64]float64{0: 1}, 2},
	} {
		q := &quadratic{dev: ref.New(), a: diagonal(c.values...)}
		d, err := EstimateDensity(q, DensityOptions{Steps: c.steps, Starts: 1})
		if err != nil {
			t.Fatal(c.name, err)
		}
		run := d.Runs[0]
		if len(run.Nodes) != len(c.nodes) || q.products != c.products {
			t.Errorf("%s: nodes %v after %d products; want %v after %d", c.name, run.Nodes, q.products, c.nodes, c.products)
			continue
		}
		share := map[float64]float64{}
		for i, v := range run.Nodes {
			near(t, c.name+": a node", v, c.nodes[i], 1e-9)
			share[c.nodes[i]] += run.Weights[i]
		}
		for v, w := range c.weights {
			near(t, c.name+": a weight", share[v], w, 1e-9)
		}
	}
}

// rounded is a quadratic whose vectors are 32-bit.
type rounded struct{ *quadratic }

func (r rounded) Product(v, hv kernels.Memory) error {
	defer round(hv)
	return r.quadratic.Product(v, hv)
}

func (r rounded) Axpby(a float64, x kernels.Memory, b float64, y kernels.Memory) error {
	defer round(y)
	return r.quadratic.Axpby(a, x, b, y)
}

func round(m kernels.Memory) {
	x := m.(*ref.Memory).Floats()
	for i, v := range x {
		x[i] = float64(float32(v))
	}
}

// In 32-bit arithmetic too an outlying eigenvalue has one node, not copies.
func TestNoGhostEigenvalues(t *testing.T) {
	values := append(upTo(300), 1e5)
	for i := range 300 {
		values[i] /= 300
	}
	d, err := EstimateDensity(rounded{&quadratic{dev: ref.New(), a: diagonal(values...)}}, DensityOptions{Steps: 60, Starts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if nodes := d.Runs[0].Nodes; nodes[len(nodes)-1] < 0.999e5 || nodes[len(nodes)-2] > 1.1 {
		t.Errorf("the largest nodes are %v", nodes[len(nodes)-3:])
	}
}

func TestCurve(t *testing.T) {
	for _, c := range []struct {
		runs   []Quadrature
		points int
	}{
		{[]Quadrature{{Nodes: []float64{-1, 0, 4}, Weights: []float64{0.25, 0.5, 0.25}}}, 10000},
		{[]Quadrature{{Nodes: []float64{-1, 4}, Weights: []float64{0.5, 0.5}}, {Nodes: []float64{0, 3}, Weights: []float64{0.5, 0.5}}}, 10000},
		{[]Quadrature{{Nodes: []float64{0, 1e6}, Weights: []float64{0.5, 0.5}}}, 2000},
	} {
		curve, err := (&Density{Runs: c.runs}).Curve(c.points)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, v := range curve.Density {
			sum += v * curve.Step
		}
		near(t, "the integral", sum, 1, 1e-12)
	}
	// Nodes at 1 and 3: the grid goes from 0.99 to 3.01, the variance is 2.02e-5, and the curve is symmetric.
	curve, err := (&Density{Runs: []Quadrature{{Nodes: []float64{1, 3}, Weights: []float64{0.5, 0.5}}}}).Curve(2021)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "the step", curve.Step, 0.001, 1e-12)
	near(t, "the grid's start", curve.Eigenvalue[0], 0.99, 1e-12)
	near(t, "the grid's end", curve.Eigenvalue[2020], 3.01, 1e-12)
	mean := 0.0
	for i, v := range curve.Density {
		near(t, "the mirrored density", curve.Density[2020-i], v, 1e-9)
		mean += curve.Eigenvalue[i] * v * curve.Step
	}
	near(t, "the mean", mean, 2, 1e-9)
	near(t, "the fall over 0.004", math.Log(curve.Density[10]/curve.Density[14]), 0.004*0.004/(2*2.02e-5), 1e-9)
	if rows := curve.table().rows; !slices.Equal(rows[0], []string{"eigenvalue", "density"}) || len(rows) != 2022 || rows[1][0] != "0.99" {
		t.Errorf("%d rows, first %q, %q", len(rows), rows[0], rows[1])
	}
}

// On a quadratic the landscape along unit eigenvectors is half the eigenvalues times the squared offsets.
func TestLandscapeOfAQuadratic(t *testing.T) {
	q := &quadratic{dev: ref.New(), a: symmetric([]float64{10, -8, 5, 3, 1})}
	values, vectors, err := TopEigenvectors(q, Options{K: 2, MaxIterations: 500, Tolerance: 1e-12})
	if err != nil {
		t.Fatal(err)
	}
	defer free(vectors)
	loss := func(offsets ...float64) (float64, error) {
		x, _ := q.NewVector()
		ax, _ := q.NewVector()
		for i, by := range offsets {
			if err := q.Axpby(by, vectors[i], 1, x); err != nil {
				return 0, err
			}
		}
		if err := q.Product(x, ax); err != nil {
			return 0, err
		}
		dot, err := q.Dot(x, ax)
		return dot / 2, err
	}
	for dimensions := 1; dimensions <= 2; dimensions++ {
		l, err := SampleLandscape(loss, LandscapeOptions{Dimensions: dimensions, Points: 5, Span: 0.5})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(l.Offsets, []float64{-0.5, -0.25, 0, 0.25, 0.5}) || len(l.Losses) != 1+4*(dimensions-1) {
			t.Fatalf("offsets %v, %d rows", l.Offsets, len(l.Losses))
		}
		for j, row := range l.Losses {
			for i, v := range row {
				want := values[0].Value / 2 * l.Offsets[i] * l.Offsets[i]
				if dimensions == 2 {
					want += values[1].Value / 2 * l.Offsets[j] * l.Offsets[j]
				}
				near(t, "the loss", v, want, 1e-5)
			}
		}
	}
}

func TestMeasurementsThatCannotBe(t *testing.T) {
	broken := &quadratic{dev: ref.New(), a: mat.NewSymDense(2, []float64{math.NaN(), 0, 0, 1})}
	infinite := func(...float64) (float64, error) { return math.Inf(1), nil }
	for name, run := range map[string]func() error{
		"one probe":      func() error { _, err := EstimateTrace(broken, TraceOptions{MaxProbes: 1}); return err },
		"not finite":     func() error { _, err := EstimateTrace(broken, TraceOptions{MaxProbes: 2}); return err },
		"no step":        func() error { _, err := EstimateDensity(broken, DensityOptions{Starts: 1}); return err },
		"no start":       func() error { _, err := EstimateDensity(broken, DensityOptions{Steps: 1}); return err },
		"NaN in T":       func() error { _, err := EstimateDensity(broken, DensityOptions{Steps: 2, Starts: 1}); return err },
		"one grid point": func() error { _, err := (&Density{}).Curve(1); return err },
		"3 dimensions":   func() error { _, err := SampleLandscape(infinite, LandscapeOptions{3, 5, 1}); return err },
		"no span":        func() error { _, err := SampleLandscape(infinite, LandscapeOptions{1, 5, 0}); return err },
		"infinite loss":  func() error { _, err := SampleLandscape(infinite, LandscapeOptions{1, 5, 1}); return err },
	} {
		if run() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
