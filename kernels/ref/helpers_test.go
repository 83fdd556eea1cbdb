package ref

import (
	"math"
	"testing"

	"broadside/kernels"
	"broadside/kernels/philox"
)

// mustRun runs one kernel over slices of cells; nil is the NULL argument.
func mustRun(t testing.TB, k kernels.Kernel, s kernels.Shape, args ...[]float64) {
	t.Helper()
	if err := tryRun(k, s, args...); err != nil {
		t.Fatal(err)
	}
}

func tryRun(k kernels.Kernel, s kernels.Shape, args ...[]float64) error {
	call := kernels.Call{Kernel: k, Shape: s}
	var bases [kernels.MaxBases]kernels.Memory
	for i, cells := range args {
		if cells == nil {
			call.Args = append(call.Args, kernels.None)
			continue
		}
		bases[i] = &Memory{cells: cells}
		call.Args = append(call.Args, kernels.Ref{Base: kernels.Base(i)})
	}
	pass, err := New().Prepare([]kernels.Call{call})
	if err != nil {
		return err
	}
	defer pass.Free()
	return pass.Run(&bases)
}

// normals returns n standard normal numbers.
func normals(s *philox.Stream, n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = s.Norm()
	}
	return v
}

func stream(seed uint64) *philox.Stream { return philox.NewStream(seed, philox.Probe, 0, 0, 0) }

// moved returns x + h d.
func moved(x []float64, h float64, d []float64) []float64 {
	y := append([]float64(nil), x...)
	addScaled(y, h, d)
	return y
}

// step is the step of central differences. Their truncation error is step^2/6 times a third
// derivative and their rounding error 2^-53/step times the value: both about 1e-10 here, where values
// and derivatives are of order 1 to 100. near allows a hundred times that.
const step = 1e-5

func near(got, want float64) bool {
	return math.Abs(got-want) <= 1e-7*(1+math.Abs(want))
}

func same(t *testing.T, name string, got, want []float64) {
	t.Helper()
	for i := range want {
		if !near(got[i], want[i]) {
			t.Errorf("%s[%d] = %v, finite differences say %v", name, i, got[i], want[i])
			return
		}
	}
}

// checkGradient compares grad with central differences of f over every element of x.
func checkGradient(t *testing.T, name string, f func() float64, x, grad []float64) {
	t.Helper()
	want := make([]float64, len(x))
	for i, v := range x {
		x[i] = v + step
		above := f()
		x[i] = v - step
		want[i] = (above - f()) / (2 * step)
		x[i] = v
	}
	same(t, name, grad, want)
}

// difference returns the central difference of f, a function of the step along a direction.
func difference(f func(h float64) []float64) []float64 {
	above, below := f(step), f(-step)
	d := make([]float64, len(above))
	for i := range d {
		d[i] = (above[i] - below[i]) / (2 * step)
	}
	return d
}
