package emu

import (
	"math"
	"math/rand/v2"
	"testing"

	"broadside/kernels"
	"broadside/kernels/ref"
)

// Shapes whose rows fill many blocks, and threads with more rows than are summed in float: too large for the
// conformance suite.
var manyRows = []kernels.BatchNorm{
	{N: 128, HW: 1024, C: 3, Ghost: 128, Eps: 1e-5},
	{N: 206, HW: 600, C: 33, Ghost: 1, Eps: 1e-5},
}

// runNorm runs a batch norm kernel over the given arguments on a device, with memory for the others, and returns
// them all by name. The optional ones that have no values are NULL.
func runNorm(t *testing.T, dev kernels.Device, k kernels.Kernel, s kernels.BatchNorm, values map[string][]float32) map[string][]float32 {
	t.Helper()
	layout, err := ref.Layout(k, s, 1)
	if err != nil {
		t.Fatal(err)
	}
	workspace, err := dev.Workspace(k, s)
	if err != nil {
		t.Fatal(err)
	}
	layout = append(layout, ref.Arg{Name: "workspace", Optional: workspace == 0, Cells: workspace})
	call := kernels.Call{Kernel: k, Shape: s}
	var bases [kernels.MaxBases]kernels.Memory
	for i, a := range layout {
		if a.Optional && values[a.Name] == nil {
			call.Args = append(call.Args, kernels.None)
			continue
		}
		if bases[i], err = dev.Alloc(a.Cells); err != nil {
			t.Fatal(err)
		}
		defer bases[i].Free()
		bases[i].WriteFloats(0, values[a.Name])
		call.Args = append(call.Args, kernels.Ref{Base: kernels.Base(i)})
	}
	pass, err := dev.Prepare([]kernels.Call{call})
	if err != nil {
		t.Fatal(err)
	}
	defer pass.Free()
	if err := pass.Run(&bases); err != nil {
		t.Fatal(err)
	}
	out := map[string][]float32{}
	for i, a := range layout {
		if bases[i] != nil {
			out[a.Name] = make([]float32, a.Cells)
			bases[i].ReadFloats(0, out[a.Name])
		}
	}
	return out
}

func filled(n int, f func() float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(f())
	}
	return v
}

func TestBatchNormIsAccurateFarFromZero(t *testing.T) {
	dev, random := emulated(t, 80), rand.New(rand.NewPCG(3, 4))
	one := func() float64 { return 1 }
	for _, s := range manyRows {
		c := int(s.C)
		in := map[string][]float32{
			"x":     filled(int(s.N)*int(s.HW)*c, func() float64 { return 3000 + random.NormFloat64() }),
			"gamma": filled(c, one), "beta": filled(c, one), "stats": filled(2*c*s.Ghosts(), one),
		}
		got, want := runNorm(t, dev, kernels.BatchNormForward, s, in), runNorm(t, ref.New(), kernels.BatchNormForward, s, in)
		for _, name := range []string{"saved", "stats"} {
			for i, v := range want[name] {
				// One rounding to float is 2^-24; what the sums of 600 floats add is seldom as much again.
				if diff := math.Abs(float64(got[name][i] - v)); diff > 0x1p-22*math.Abs(float64(v)) {
					t.Fatalf("%+v: %s[%d] = %v, want %v", s, name, i, got[name][i], v)
				}
			}
		}
	}
}

func TestSumsOfIntegersAreExact(t *testing.T) {
	dev, random := emulated(t, 80), rand.New(rand.NewPCG(5, 6))
	integer := func() float64 { return float64(random.IntN(7) - 3) }
	for _, s := range manyRows {
		c, size := int(s.C), int(s.N)*int(s.HW)*int(s.C)
		saved := make([]float32, 2*c*s.Ghosts()) // mean 1, 1/deviation 2
		for i := range saved {
			saved[i] = float32(1 + i/c%2)
		}
		in := map[string][]float32{
			"x": filled(size, integer), "dy": filled(size, integer), "gamma": filled(c, integer), "saved": saved,
			"dgamma": filled(c, integer), "dbeta": filled(c, integer),
		}
		got, want := runNorm(t, dev, kernels.BatchNormBackward, s, in), runNorm(t, ref.New(), kernels.BatchNormBackward, s, in)
		for _, name := range []string{"sums", "dgamma", "dbeta"} {
			for i, v := range want[name] {
				if got[name][i] != v {
					t.Fatalf("%+v: %s[%d] = %v, want %v", s, name, i, got[name][i], v)
				}
			}
		}
	}
}
