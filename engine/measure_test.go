package engine

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"broadside/cgo/device/devicetest"
	"broadside/engine/curvature"
	"broadside/kernels"
)

// explicit is a Hessian as a matrix.
type explicit struct {
	*mat.SymDense
	cells []int // the cell of each parameter in a vector
}

// explicitHessian builds the matrix from products with unit vectors.
func explicitHessian(t *testing.T, h *hessian) explicit {
	t.Helper()
	e := explicit{}
	for _, p := range h.fleet.net.Params {
		for i := range p.Size() {
			e.cells = append(e.cells, p.Offset+i)
		}
	}
	v, hv := zeroVector(t, h), zeroVector(t, h)
	full := mat.NewDense(len(e.cells), len(e.cells), nil)
	for i, cell := range e.cells {
		v.WriteFloats(cell, []float32{1})
		if err := h.Product(v, hv); err != nil {
			t.Fatal(err)
		}
		v.WriteFloats(cell, []float32{0})
		full.SetRow(i, e.of(hv))
	}
	e.SymDense = mat.NewSymDense(len(e.cells), nil)
	largest := mat.Max(full)
	for i := range e.cells {
		for j := range i + 1 {
			if off := math.Abs(full.At(i, j) - full.At(j, i)); !(off < 1e-5*largest) {
				t.Fatalf("entries %d, %d differ by %g of %g", i, j, off, largest)
			}
			e.SetSym(i, j, (full.At(i, j)+full.At(j, i))/2)
		}
	}
	return e
}

// of returns the parameters of a vector, without the gaps.
func (e explicit) of(v kernels.Memory) []float64 {
	cells := read(v)
	out := make([]float64, len(e.cells))
	for i, cell := range e.cells {
		out[i] = float64(cells[cell])
	}
	return out
}

func zeroVector(t *testing.T, h *hessian) kernels.Memory {
	t.Helper()
	v, err := h.NewVector()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Free)
	return v
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %.9g; want %.9g", what, got, want)
	}
}

// All that is measured of small networks agrees with the Hessian as a matrix, with running and with batch
// statistics.
func TestMeasurementsAgainstTheMatrix(t *testing.T) {
	for _, model := range []string{"mlp", "smooth"} {
		for _, ghost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, ghost %t", model, ghost), func(t *testing.T) { measureAgainstTheMatrix(t, model, ghost) })
		}
	}
}

func measureAgainstTheMatrix(t *testing.T, model string, ghost bool) {
	h := hessianOn(t, devicetest.Open(t, 2), synthetic(64, 4, 1, 4), 56, ghost, "model.name="+model)
	want := explicitHessian(t, h)
	params, state := read(h.fleet.params), read(h.fleet.state)
	c, err := h.measure(CurvatureOptions{Ghost: ghost, Top: curvature.Options{K: 2, MaxIterations: 2000, Tolerance: 1e-9},
		Trace:     &curvature.TraceOptions{MaxProbes: 20},
		Density:   &curvature.DensityOptions{Steps: 60, Starts: 2},
		Landscape: &curvature.LandscapeOptions{Dimensions: 2, Points: 3, Span: 0.01}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(read(h.fleet.params), params) || !slices.Equal(read(h.fleet.state), state) {
		t.Error("measuring has changed the parameters or the running statistics")
	}
	if n := want.SymmetricDim(); c.Parameters != n || n != 16*7+7+7+7+7*4+4 {
		t.Errorf("%d parameters, a matrix of %d", c.Parameters, n)
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(want, false) {
		t.Fatal("no eigenvalues")
	}
	values := eigen.Values(nil)
	checkTop(t, c, values)
	checkTrace(t, h, c, want)
	checkDensity(t, h, c, want, values)
	if model == "smooth" { // the kinks of ReLU count in differences, not in the Hessian
		checkLandscape(t, h, c)
	}
}

func checkTop(t *testing.T, c *curvature.Measurement, values []float64) {
	slices.SortFunc(values, func(a, b float64) int { return int(math.Copysign(1, math.Abs(b)-math.Abs(a))) })
	for i, e := range c.Eigenvalues {
		near(t, fmt.Sprint("eigenvalue ", i+1), e.Value, values[i], 1e-4*math.Abs(values[0]))
	}
	slices.Sort(values)
}

// checkTrace compares each sample with that of the matrix for the same probe.
func checkTrace(t *testing.T, h *hessian, c *curvature.Measurement, want explicit) {
	z := zeroVector(t, h)
	sum := 0.0
	for i, got := range c.Trace.Samples {
		if err := h.Randomize(z, kernels.Rademacher, curvature.Stream{Use: curvature.TraceProbe, Number: i}); err != nil {
			t.Fatal(err)
		}
		x := mat.NewVecDense(len(want.cells), want.of(z))
		if dot := mat.Dot(x, x); dot != float64(len(want.cells)) {
			t.Fatalf("a probe of squared length %g; want %d", dot, len(want.cells))
		}
		near(t, "a trace sample", got, mat.Inner(x, want, x), 1e-5*mat.Norm(want, 1))
		sum += got
	}
	if len(c.Trace.Samples) != 20 {
		t.Errorf("%d samples", len(c.Trace.Samples))
	}
	near(t, "the mean of the trace", c.Trace.Mean, sum/20, 1e-9*math.Abs(sum))
	near(t, "the trace", c.Trace.Mean, mat.Trace(want), 4*c.Trace.StandardError)
}

// checkDensity compares the extreme nodes with the extreme eigenvalues, and moments with those of the start vectors.
func checkDensity(t *testing.T, h *hessian, c *curvature.Measurement, want explicit, values []float64) {
	v := zeroVector(t, h)
	n := float64(len(want.cells))
	largest := max(-values[0], values[len(values)-1])
	mean := 0.0
	for run, q := range c.Density.Runs {
		near(t, "the smallest node", q.Nodes[0], values[0], 1e-4*largest)
		near(t, "the largest node", q.Nodes[len(q.Nodes)-1], values[len(values)-1], 1e-4*largest)
		if err := h.Randomize(v, kernels.Rademacher, curvature.Stream{Use: curvature.LanczosStart, Number: run}); err != nil {
			t.Fatal(err)
		}
		x := mat.NewVecDense(len(want.cells), want.of(v))
		power := mat.VecDenseCopyOf(x)
		for k := range 5 {
			moment := 0.0
			for i, w := range q.Weights {
				moment += w * math.Pow(q.Nodes[i], float64(k))
			}
			near(t, fmt.Sprint("moment ", k), moment, mat.Dot(x, power)/n, 1e-5*math.Pow(largest, float64(k)))
			power.MulVec(want, power)
		}
		mean += q.Mean() / 2
	}
	near(t, "the mean of the density", c.Density.Mean, mean, 1e-12)
}

// checkLandscape finds the eigenvalues in the second differences of the loss, and the loss itself in the middle.
func checkLandscape(t *testing.T, h *hessian, c *curvature.Measurement) {
	l := c.Landscape.Losses
	loss, err := h.loss()
	if err != nil {
		t.Fatal(err)
	}
	if l[1][1] != loss {
		t.Errorf("the loss in the middle is %.9g; want %.9g", l[1][1], loss)
	}
	square := c.Landscape.Offsets[2] * c.Landscape.Offsets[2]
	first, second := c.Eigenvalues[0].Value, c.Eigenvalues[1].Value
	near(t, "the curvature along eigenvector 1", (l[1][0]+l[1][2]-2*loss)/square, first, 0.02*math.Abs(first))
	near(t, "the curvature along eigenvector 2", (l[0][1]+l[2][1]-2*loss)/square, second, 0.02*math.Abs(first))
}

// The loss of the landscape is that of evaluation.
func TestLossOfAHessian(t *testing.T) {
	h := hessianOn(t, devicetest.Open(t, 1), synthetic(64, 8, 3, 4), 64, false)
	loss, err := h.loss()
	if err != nil {
		t.Fatal(err)
	}
	e, err := h.fleet.evaluate(h.on)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "the loss", loss, e.Loss, 1e-6)
}

// What is measured has the same bits on any number of devices and memories.
func TestMeasurementsOnManyDevices(t *testing.T) {
	for _, ghost := range []bool{false, true} {
		measure := func(devices []kernels.Device) *curvature.Measurement {
			h := hessianOn(t, devices, synthetic(128, 8, 3, 10), 100, ghost)
			c, err := h.measure(CurvatureOptions{Ghost: ghost, Top: curvature.Options{K: 2, MaxIterations: 3, Tolerance: 1e-9},
				Landscape: &curvature.LandscapeOptions{Dimensions: 2, Points: 3, Span: 0.5},
				Trace:     &curvature.TraceOptions{MaxProbes: 3},
				Density:   &curvature.DensityOptions{Steps: 5, Starts: 2}})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		want := measure(devicetest.Open(t, 1))
		if want.HVPs != 2*3+3+2*5 {
			t.Errorf("%d products", want.HVPs)
		}
		for name, devices := range map[string][]kernels.Device{"2 devices": devicetest.Open(t, 2), "4 devices": devicetest.Open(t, 4),
			"2 memories": devicetest.OpenApart(t, 2, 1), "2 memories of 2 devices": devicetest.OpenApart(t, 2, 2), "4 memories": devicetest.OpenApart(t, 4, 1)} {
			if got := measure(devices); !reflect.DeepEqual(got, want) {
				t.Errorf("ghost %t, %s: %+v; want %+v", ghost, name, got, want)
			}
		}
	}
}

// A product after the landscape is that of the unshifted parameters: the primal pass is not one of the landscape's.
func TestProductAfterALandscape(t *testing.T) {
	h := hessianOn(t, devicetest.Open(t, 2), synthetic(64, 8, 3, 4), 32, false)
	v, before, after := zeroVector(t, h), zeroVector(t, h), zeroVector(t, h)
	if err := h.Randomize(v, kernels.Rademacher, curvature.Stream{}); err != nil {
		t.Fatal(err)
	}
	if err := h.Product(v, before); err != nil {
		t.Fatal(err)
	}
	if _, err := h.landscape([]kernels.Memory{v}, curvature.LandscapeOptions{Dimensions: 1, Points: 2, Span: 0.1}); err != nil {
		t.Fatal(err)
	}
	if err := h.Product(v, after); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(read(before), read(after)) {
		t.Error("the product has other bits")
	}
}

func TestLandscapeWithoutEigenvectors(t *testing.T) {
	h := hessianOn(t, devicetest.Open(t, 1), synthetic(64, 8, 3, 4), 32, false)
	if _, err := h.measure(CurvatureOptions{Top: curvature.Options{K: 1, MaxIterations: 1},
		Landscape: &curvature.LandscapeOptions{Dimensions: 2, Points: 3, Span: 1}}); err == nil {
		t.Error("a plane of one eigenvector")
	}
}
