// Package conformance holds implementations of the kernels to the oracle of package ref.
//
// [Run] calls every kernel of a device on one list of problems (problems.go) twice: on small dyadic
// numbers, on which most kernels are exact in any order of summation and so must give the oracle's
// bits, and on random numbers, within a bound on rounding errors (tolerance.go). Outputs and workspace
// start as NaN or, where the kernel accumulates, as numbers; cells around every argument must keep
// their value, and so must the inputs. Bad shapes, missing arguments and indexes that point outside
// must be refused (refusals.go).
package conformance

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"broadside/kernels"
	"broadside/kernels/philox"
	"broadside/kernels/ref"
)

// Reporter is the part of testing.T that the suite reports failures to.
type Reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// Run checks every kernel of the device, each in a subtest, and convolutions in [Parts].
func Run(t *testing.T, dev kernels.Device) {
	for k := range kernels.KernelCount {
		t.Run(k.String(), func(t *testing.T) { Parts(t, dev, k) })
	}
}

// Parts checks one kernel of the device. What is checked of a convolution is in subtests that can be chosen by name:
// strided, unit_stride and refusals.
func Parts(t *testing.T, dev kernels.Device, k kernels.Kernel) {
	switch k {
	case kernels.Conv2DForward, kernels.Conv2DBackwardInput, kernels.Conv2DBackwardWeight:
		t.Run("strided", func(t *testing.T) { checkProblems(t, dev, k, strided) })
		t.Run("unit_stride", func(t *testing.T) {
			checkProblems(t, dev, k, func(p problem) bool { return !strided(p) })
		})
		t.Run("refusals", func(t *testing.T) { checkRefusals(t, dev, k) })
	default:
		Kernel(t, dev, k)
	}
}

// strided reports whether a problem is a convolution that passes over pixels.
func strided(p problem) bool {
	s := p.shape.(kernels.Conv2D)
	return s.StrideH > 1 || s.StrideW > 1
}

// Apart returns the device with every argument of a call in a memory of its own that ends where the argument does: for
// devices that notice an access behind it.
func Apart(dev kernels.Device) kernels.Device { return apartDevice{dev} }

// Kernel checks one kernel of the device.
func Kernel(r Reporter, dev kernels.Device, k kernels.Kernel) {
	r.Helper()
	checkProblems(r, dev, k, func(problem) bool { return true })
	checkRefusals(r, dev, k)
}

// checkProblems checks the problems of a kernel that are wanted. Each keeps its number among all of them, and so its
// random numbers.
func checkProblems(r Reporter, dev kernels.Device, k kernels.Kernel, wanted func(problem) bool) {
	r.Helper()
	list := problems(k)
	if len(list) == 0 {
		r.Errorf("%s has no problems", k)
	}
	alive := map[string]bool{} // outputs that were seen with a value other than zero
	for i, p := range list {
		if !wanted(p) {
			continue
		}
		for _, exact := range []bool{true, false} {
			if exact && !p.exact {
				continue
			}
			checkProblem(r, dev, k, p, i, exact, alive)
		}
	}
	for name, nonzero := range alive {
		if !nonzero {
			r.Errorf("%s: output %s is zero in every problem", k, name)
		}
	}
}

// checkProblem runs one problem on the device and on the oracle and compares them.
func checkProblem(r Reporter, dev kernels.Device, k kernels.Kernel, p problem, number int, exact bool, alive map[string]bool) {
	r.Helper()
	title := fmt.Sprintf("%s%+v, absent %v, exact %t", k, p.shape, p.absent, exact)
	c, err := newCase(k, p, number, exact)
	if err != nil {
		r.Errorf("%s: the problem is wrong: %v", title, err)
		return
	}
	want, err := c.run(ref.New())
	if err != nil {
		r.Errorf("%s: the oracle refuses it: %v", title, err)
		return
	}
	defer want.free()
	got, err := c.run(dev)
	if err != nil {
		r.Errorf("%s: %v", title, err)
		return
	}
	defer got.free()
	if err := got.guardsKept(); err != nil {
		r.Errorf("%s: %v", title, err)
	}
	allowed := map[string][]float64{}
	if !exact {
		allowed = c.allowed(want)
	}
	for i, a := range c.layout {
		if c.values[i] == nil || i == c.aliasOf { // absent, image memory, or overwritten through its alias
			continue
		}
		result := got.read(i)
		if a.Role != ref.In {
			alive[a.Name] = alive[a.Name] || slices.ContainsFunc(result, func(v float64) bool { return v != 0 })
		}
		if err := compare(result, want.readExact(i), allowed[a.Name]); err != nil {
			r.Errorf("%s: %s%v", title, a.Name, err)
		}
	}
}

// compare reports the first cell that is off by more than allowed; nil allows nothing. A NaN equals a
// NaN only: a cell that the oracle leaves as it was.
func compare(got, want, allowed []float64) error {
	wrong, first := 0, -1
	for i := range want {
		limit := 0.0
		if allowed != nil {
			limit = allowed[i]
		}
		bothNaN := math.IsNaN(got[i]) && math.IsNaN(want[i])
		if got[i] == want[i] || bothNaN || math.Abs(got[i]-want[i]) <= limit {
			continue
		}
		if wrong++; first < 0 {
			first = i
		}
	}
	if wrong == 0 {
		return nil
	}
	limit := 0.0
	if allowed != nil {
		limit = allowed[first]
	}
	return fmt.Errorf("[%d] = %v, want %v within %.3g; %d of %d cells are wrong", first, got[first], want[first], limit, wrong, len(want))
}

// A testCase is a problem with the values of its arguments.
type testCase struct {
	kernel  kernels.Kernel
	problem problem
	layout  []ref.Arg
	values  [][]float64 // initial cells; nil for an absent argument
	images  []byte
	aliasOf int // index of the input that shares its memory with an output; -1: none
	aligned bool
}

func newCase(k kernels.Kernel, p problem, number int, exact bool) (*testCase, error) {
	layout, err := ref.Layout(k, p.shape, max(1, p.sets))
	if err != nil {
		return nil, err
	}
	c := &testCase{kernel: k, problem: p, layout: layout, values: make([][]float64, len(layout)), aliasOf: -1, aligned: p.aligned || (number+number/4)%2 == 0}
	f := filler{stream: philox.NewStream(uint64(number), philox.Probe, uint32(k), 0, 0), kernel: k, problem: p, exact: exact}
	for i, a := range layout {
		switch {
		case a.Optional && slices.Contains(p.absent, a.Name):
		case a.Kind == ref.Byte:
			c.images = f.bytes(a.Cells)
		case a.Role == ref.Out:
			c.values[i] = garbage(a)
		default:
			c.values[i] = f.fill(a)
		}
		if p.alias != "" && a.Name == p.of {
			c.aliasOf = i
		}
	}
	return c, nil
}

// garbage is what an output holds before it is overwritten. NaN shows when it is read instead.
func garbage(a ref.Arg) []float64 {
	v := make([]float64, a.Cells)
	for i := range v {
		v[i] = math.NaN()
		if a.Kind == ref.Int {
			v[i] = -77
		}
	}
	return v
}

// value returns the initial cells of an argument by name, nil if there are none.
func (c *testCase) value(name string) []float64 {
	for i, a := range c.layout {
		if a.Name == name {
			return c.values[i]
		}
	}
	return nil
}

// flops is twice the multiplications of a convolution.
func flops(s kernels.Conv2D) float64 {
	return 2 * float64(s.N) * float64(s.OH) * float64(s.OW) * float64(s.K) * float64(s.R) * float64(s.S) * float64(s.C/s.Groups)
}
