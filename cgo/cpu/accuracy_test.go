package cpu

import (
	"math"
	"math/rand/v2"
	"testing"

	"broadside/kernels"
	"broadside/kernels/ref"
)

// normalise runs a forward batch norm over one ghost and returns y, saved and stats.
func normalise(t *testing.T, d kernels.Device, s kernels.BatchNorm, x []float32) (y, saved, stats []float32) {
	t.Helper()
	c := int(s.C)
	sizes := []int{len(x), c, c, 0, 0, 0, len(x), 2 * c, 2 * c, 0}
	workspace, err := d.Workspace(kernels.BatchNormForward, s)
	check(t, err)
	sizes[9] = workspace
	call := kernels.Call{Kernel: kernels.BatchNormForward, Shape: s}
	var bases [kernels.MaxBases]kernels.Memory
	for i, size := range sizes {
		if size == 0 {
			call.Args = append(call.Args, kernels.None)
			continue
		}
		bases[i], err = d.Alloc(size)
		check(t, err)
		defer bases[i].Free()
		call.Args = append(call.Args, kernels.Ref{Base: kernels.Base(i)})
	}
	bases[0].WriteFloats(0, x)
	for ch := range c {
		bases[1].WriteFloats(ch, []float32{1})
	}
	check(t, runOn(d, call, &bases))
	y, saved, stats = make([]float32, len(x)), make([]float32, 2*c), make([]float32, 2*c)
	bases[6].ReadFloats(0, y)
	bases[7].ReadFloats(0, saved)
	bases[8].ReadFloats(0, stats)
	return y, saved, stats
}

func TestBatchNormIsAccurateFarFromZero(t *testing.T) {
	const n, c, mean = 131072, 3, 3000
	r := rand.New(rand.NewPCG(3, 4))
	x := make([]float32, n*c)
	for i := range x {
		x[i] = float32(mean + r.NormFloat64())
	}
	s := kernels.BatchNorm{N: 128, HW: n / 128, C: c, Ghost: 128}
	_, wantSaved, wantStats := normalise(t, ref.New(), s, x)
	for _, isa := range Available() {
		d, err := New(isa)
		check(t, err)
		_, saved, stats := normalise(t, d, s, x)
		for i := range saved {
			// One rounding to float, and half as much again for the sums.
			if diff := math.Abs(float64(saved[i]) - float64(wantSaved[i])); diff > 0x1p-23*math.Abs(float64(wantSaved[i])) {
				t.Errorf("%s: saved[%d] = %v, want %v", isa, i, saved[i], wantSaved[i])
			}
			if diff := math.Abs(float64(stats[i]) - float64(wantStats[i])); diff > 0x1p-23*math.Abs(float64(wantStats[i])) {
				t.Errorf("%s: stats[%d] = %v, want %v", isa, i, stats[i], wantStats[i])
			}
		}
	}
}

func TestBatchNormOfIntegersIsExact(t *testing.T) {
	const n, c = 131072, 16
	x := make([]float32, n*c)
	for i := range x {
		x[i] = float32(7 - 2*(i/c%2)) // 7, 5, 7, 5: mean 6, variance 1
	}
	s := kernels.BatchNorm{N: 128, HW: n / 128, C: c, Ghost: 128}
	for _, isa := range Available() {
		d, err := New(isa)
		check(t, err)
		y, saved, _ := normalise(t, d, s, x)
		for i := range y {
			if want := x[i] - 6; y[i] != want {
				t.Fatalf("%s: y[%d] = %v, want %v (saved %v)", isa, i, y[i], want, saved)
			}
		}
	}
}

func TestDenormalsAreZero(t *testing.T) {
	d, m := device(t, 2)
	m.WriteFloats(0, []float32{1e-40, 1})
	check(t, runOn(d, scaleCall(1, 0, 1, 1e30), &[kernels.MaxBases]kernels.Memory{m}))
	got := make([]float32, 2)
	m.ReadFloats(0, got)
	if got[1] != 0 {
		t.Errorf("1e30 times a denormal is %v inside the kernel, want 0", got[1])
	}
	// The mode ends with the pass: Go's arithmetic keeps denormals.
	if half := got[0] / 2; half == 0 {
		t.Errorf("outside a pass, 1e-40 / 2 is %v", half)
	}
}
