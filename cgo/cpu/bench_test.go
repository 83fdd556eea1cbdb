package cpu

import (
	"math/rand/v2"
	"testing"

	"broadside/kernels"
	"broadside/kernels/ref"
)

// BenchmarkKernels reports the bytes that a kernel must move at the least: each argument once.
func BenchmarkKernels(b *testing.B) {
	norm := func(hw, c int32) kernels.Shape {
		return kernels.BatchNorm{N: 128, HW: hw, C: c, Ghost: 128, ReLU: 1, Eps: 1e-5}
	}
	const n = 4 << 20
	for _, k := range []struct {
		name  string
		call  kernels.Kernel
		shape kernels.Shape
	}{
		{"batchnorm_forward_c16", kernels.BatchNormForward, norm(1024, 16)},
		{"batchnorm_forward_c64", kernels.BatchNormForward, norm(64, 64)},
		{"batchnorm_forward_c512", kernels.BatchNormForward, norm(16, 512)},
		{"batchnorm_backward_c16", kernels.BatchNormBackward, norm(1024, 16)},
		{"batchnorm_backward_c64", kernels.BatchNormBackward, norm(64, 64)},
		{"batchnorm_tangent_forward_c16", kernels.BatchNormTangentForward, norm(1024, 16)},
		{"batchnorm_tangent_backward_c16", kernels.BatchNormTangentBackward, norm(1024, 16)},
		{"relu_forward", kernels.ReLUForward, kernels.Vector{Count: n}},
		{"add", kernels.Add, kernels.Vector{Count: n, A: 1, B: 1}},
		{"dot", kernels.Dot, kernels.Vector{Count: n}},
		{"sgd", kernels.SGD, kernels.SGDShape{Count: n, Momentum: 0.9, WeightDecay: 1e-4}},
		{"dropout", kernels.Dropout, kernels.DropoutShape{N: 128, Per: 8192, P: 0.5}},
		{"philox_normal", kernels.Philox, kernels.PhiloxShape{Count: 1 << 20, Distribution: kernels.Normal}},
		{"maxpool_forward", kernels.MaxPoolForward, kernels.Pool{N: 128, H: 32, W: 32, C: 64, R: 3, S: 3, StrideH: 2, StrideW: 2, PadH: 1, PadW: 1, OH: 16, OW: 16}},
		{"augment", kernels.Augment, kernels.AugmentShape{N: 128, H: 32, W: 32, C: 3, Pad: 4, Flip: 1, Images: 128}},
	} {
		b.Run(k.name, func(b *testing.B) { benchmark(b, kernels.Call{Kernel: k.call, Shape: k.shape}) })
	}
}

// benchmark runs a call with all its arguments on the best device.
func benchmark(b *testing.B, call kernels.Call) {
	d, err := New("")
	if err != nil {
		b.Fatal(err)
	}
	args, err := ref.Layout(call.Kernel, call.Shape, 1)
	if err != nil {
		b.Fatal(err)
	}
	cells, err := d.Workspace(call.Kernel, call.Shape)
	if err != nil {
		b.Fatal(err)
	}
	args = append(args, ref.Arg{Name: "workspace", Role: ref.Out, Cells: max(cells, 1)})
	var bases [kernels.MaxBases]kernels.Memory
	moved, r := 0, rand.New(rand.NewPCG(1, 1))
	for i, a := range args {
		m, err := d.Alloc(a.Cells) // image memory gets more than it needs
		if err != nil {
			b.Fatal(err)
		}
		defer m.Free()
		if a.Kind == ref.Float && a.Role != ref.Out {
			fill(a, call.Shape, r, m)
		}
		bases[i] = m
		moved += a.Cells * cellBytes
		call.Args = append(call.Args, kernels.Ref{Base: kernels.Base(i)})
	}
	pass, err := d.Prepare([]kernels.Call{call})
	if err != nil {
		b.Fatal(err)
	}
	defer pass.Free()
	b.SetBytes(int64(moved))
	for b.Loop() {
		if err := pass.Run(&bases); err != nil {
			b.Fatal(err)
		}
	}
}
