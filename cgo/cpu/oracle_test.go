package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"broadside/kernels"
	"broadside/kernels/ref"
)

// The calls of this test probe what is particular to these kernels: how they cut channels, rows and
// tails into vectors. kernels/conformance holds every kernel to its specification.
func oracleCalls() []kernels.Call {
	var calls []kernels.Call
	add := func(s kernels.Shape, list ...kernels.Kernel) {
		for _, k := range list {
			calls = append(calls, kernels.Call{Kernel: k, Shape: s})
		}
	}
	for i, c := range []int32{1, 3, 10, 16, 24, 37, 64, 100, 129} {
		for _, frozen := range []int32{0, 1} {
			s := kernels.BatchNorm{N: 7, HW: 45, C: c, Ghost: 3, Frozen: frozen, ReLU: int32(i % 2), Accumulate: int32(i % 4), Eps: 1e-3}
			add(s, kernels.BatchNormForward, kernels.BatchNormBackward,
				kernels.BatchNormTangentForward, kernels.BatchNormTangentBackward)
		}
		add(kernels.Fold{Ghosts: 3, C: c, Momentum: 0.1}, kernels.BatchNormFold)
		add(kernels.Pool{N: 2, H: 7, W: 6, C: c, R: 3, S: 2, StrideH: 2, StrideW: 2, PadH: 1, PadW: 1, OH: 4, OW: 4, Accumulate: int32(i % 2)},
			kernels.MaxPoolForward, kernels.MaxPoolBackward, kernels.MaxPoolTangent, kernels.AvgPoolForward, kernels.AvgPoolBackward)
		add(kernels.Softmax{N: 5, Classes: c, Smoothing: 0.1}, kernels.SoftmaxXent, kernels.SoftmaxXentTangent)
		add(kernels.AugmentShape{N: 6, H: 9, W: 8, C: c, Pad: 2, Flip: 1, Cutout: 5, Images: 4}, kernels.Augment)
	}
	// More rows than one block of float sums takes, more channels than a row of tiles.
	add(kernels.BatchNorm{N: 64, HW: 64, C: 16, Ghost: 64}, kernels.BatchNormForward, kernels.BatchNormBackward,
		kernels.BatchNormTangentForward, kernels.BatchNormTangentBackward)
	add(kernels.BatchNorm{N: 4, HW: 5, C: 2051, Ghost: 2}, kernels.BatchNormForward, kernels.BatchNormBackward,
		kernels.BatchNormTangentForward, kernels.BatchNormTangentBackward)
	for _, n := range []int64{1, 7, 16, 33, 100, 1027} {
		for _, b := range []float64{0, 1} {
			add(kernels.Vector{Count: n, A: 0.5, B: b}, kernels.ReLUForward, kernels.ReLUBackward, kernels.Axpby,
				kernels.Add, kernels.Dot, kernels.Norm, kernels.MinMax)
			add(kernels.SGDShape{Count: n, Nesterov: int32(b), Momentum: 0.9, WeightDecay: 0.01}, kernels.SGD)
		}
		add(kernels.PGD{Count: n, Step: 0.1, Eps: 0.2}, kernels.PGDStep)
		add(kernels.DropoutShape{N: 3, Per: int32(n), Layer: 5, P: 0.3}, kernels.Dropout)
		for _, d := range []kernels.Distribution{kernels.Bits, kernels.Uniform, kernels.Normal, kernels.Rademacher} {
			add(kernels.PhiloxShape{Count: n, Distribution: d, Key0: 1, Key1: 2, Ctr1: 3, Ctr2: 4, Ctr3: 5}, kernels.Philox)
		}
	}
	return calls
}

// fill writes inputs that suit the argument to both memories.
func fill(a ref.Arg, s kernels.Shape, r *rand.Rand, to ...kernels.Memory) {
	if a.Kind == ref.Int {
		limit := int32(2)
		switch shape := s.(type) {
		case kernels.Softmax:
			limit = shape.Classes
		case kernels.AugmentShape:
			limit = shape.Images
		case kernels.Pool:
			limit = shape.H * shape.W
		}
		ints := make([]int32, a.Cells)
		for i := range ints {
			ints[i] = r.Int32N(limit)
		}
		for _, m := range to {
			m.WriteInts(0, ints)
		}
		return
	}
	floats := make([]float32, a.Cells)
	for i := range floats {
		floats[i] = float32(r.NormFloat64())
		switch a.Name {
		case "running", "saved": // deviations are positive
			floats[i] = 0.5 + r.Float32()
		case "bounds":
			floats[i] = float32(i) - 0.5
		}
	}
	for _, m := range to {
		m.WriteFloats(0, floats)
	}
}

// runBoth runs a call on the oracle and on the device, with an argument to each base. It returns the
// outputs.
func runBoth(t *testing.T, d *Device, oracle *ref.Device, call kernels.Call, r *rand.Rand) (args []ref.Arg, want, got [kernels.MaxBases]kernels.Memory) {
	t.Helper()
	const sets = 2
	args, err := ref.Layout(call.Kernel, call.Shape, sets)
	check(t, err)
	for i, a := range args {
		if a.Kind == ref.Byte {
			bytes := make([]byte, a.Cells)
			for j := range bytes {
				bytes[j] = byte(r.Uint32())
			}
			want[i], err = oracle.AllocBytes(bytes)
			check(t, err)
			got[i], err = d.AllocBytes(bytes)
			check(t, err)
		} else {
			want[i], err = oracle.Alloc(a.Cells)
			check(t, err)
			got[i], err = d.Alloc(a.Cells)
			check(t, err)
			fill(a, call.Shape, r, want[i], got[i])
		}
		call.Args = append(call.Args, kernels.Ref{Base: kernels.Base(i)})
	}
	cells, err := d.Workspace(call.Kernel, call.Shape)
	check(t, err)
	n := len(args)
	got[n], err = d.Alloc(cells + 3)
	check(t, err)
	want[n] = nil
	withWorkspace := call
	withWorkspace.Args = append(append([]kernels.Ref(nil), call.Args...), kernels.Ref{Base: kernels.Base(n), Offset: 3})
	if cells == 0 {
		withWorkspace.Args = call.Args
	}
	check(t, runOn(d, withWorkspace, &got))
	check(t, runOn(oracle, call, &want))
	return args, want, got
}

func runOn(d kernels.Device, call kernels.Call, bases *[kernels.MaxBases]kernels.Memory) error {
	pass, err := d.Prepare([]kernels.Call{call})
	if err != nil {
		return err
	}
	defer pass.Free()
	return pass.Run(bases)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// compare checks an output against the oracle's. Sums of n values near 1 carry an error of some 1e-7
// each in float; the largest sums here are of a few thousand.
func compare(t *testing.T, a ref.Arg, want, got kernels.Memory) {
	t.Helper()
	switch a.Kind {
	case ref.Int:
		w, g := make([]int32, a.Cells), make([]int32, a.Cells)
		want.ReadInts(0, w)
		got.ReadInts(0, g)
		for i := range w {
			if w[i] != g[i] {
				t.Fatalf("%s[%d] = %d, want %d", a.Name, i, g[i], w[i])
			}
		}
	case ref.Double:
		var w, g [1]float64
		want.ReadDoubles(0, w[:])
		got.ReadDoubles(0, g[:])
		if math.Abs(w[0]-g[0]) > 1e-12*(1+math.Abs(w[0])) {
			t.Fatalf("%s = %v, want %v", a.Name, g[0], w[0])
		}
	default:
		w, g := make([]float32, a.Cells), make([]float32, a.Cells)
		want.ReadFloats(0, w)
		got.ReadFloats(0, g)
		scale := 1.0
		for _, v := range w {
			scale = max(scale, math.Abs(float64(v)))
		}
		for i := range w {
			if !(math.Abs(float64(w[i])-float64(g[i])) <= 2e-6*scale) {
				t.Fatalf("%s[%d] = %v, want %v", a.Name, i, g[i], w[i])
			}
		}
	}
}

func TestKernelsAgreeWithTheOracle(t *testing.T) {
	for _, isa := range Available() {
		d, err := New(isa)
		check(t, err)
		for _, call := range oracleCalls() {
			t.Run(fmt.Sprintf("%s/%s", isa, call), func(t *testing.T) {
				args, want, got := runBoth(t, d, ref.New(), call, rand.New(rand.NewPCG(1, 2)))
				for i, a := range args {
					if a.Role != ref.In {
						compare(t, a, want[i], got[i])
					}
				}
				for _, m := range got {
					if m != nil {
						m.Free()
					}
				}
			})
		}
	}
}
