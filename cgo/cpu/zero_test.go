package cpu

import (
	"math"
	"testing"

	"broadside/kernels"
)

// With a = b = 0, axpby reads nothing: gradient memory that a diverged step filled with NaN is clean
// again for the next.
func TestZeroingClearsNaN(t *testing.T) {
	for _, isa := range Available() {
		d, err := New(isa)
		if err != nil {
			t.Fatal(err)
		}
		m, err := d.Alloc(37)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Free()
		cells := make([]float32, 37)
		for i := range cells {
			cells[i] = float32(math.NaN())
		}
		m.WriteFloats(0, cells)
		y := kernels.Ref{Base: 0}
		p, err := d.Prepare([]kernels.Call{{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: 37}, Args: []kernels.Ref{y, y}}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Free()
		if err := p.Run(&[kernels.MaxBases]kernels.Memory{m}); err != nil {
			t.Fatal(err)
		}
		m.ReadFloats(0, cells)
		for i, v := range cells {
			if math.Float32bits(v) != 0 {
				t.Fatalf("%s: cell %d is %g; want +0", isa, i, v)
			}
		}
	}
}
