package conformance

import (
	"fmt"
	"testing"

	"broadside/cgo/cpu"
	"broadside/kernels"
)

// resnet20 are the convolutions of ResNet-20 on CIFAR images, and its linear layer.
var resnet20 = []kernels.Conv2D{
	conv(32, 32, 32, 3, 16, 3, 3, 1, 1, 1), conv(32, 32, 32, 16, 16, 3, 3, 1, 1, 1), conv(32, 32, 32, 16, 32, 3, 3, 2, 1, 1),
	conv(32, 32, 32, 16, 32, 1, 1, 2, 0, 1), conv(32, 16, 16, 32, 32, 3, 3, 1, 1, 1), conv(32, 16, 16, 32, 64, 3, 3, 2, 1, 1),
	conv(32, 16, 16, 32, 64, 1, 1, 2, 0, 1), conv(32, 8, 8, 64, 64, 3, 3, 1, 1, 1), linear(128, 64, 10),
}

// BenchmarkConv reports GFLOP/s (two operations per multiplication) of every convolution kernel on
// every layer of ResNet-20, in every precision, for each instruction set, on one thread.
func BenchmarkConv(b *testing.B) {
	for _, isa := range cpu.Available() {
		dev, err := cpu.New(isa)
		if err != nil {
			b.Fatal(err)
		}
		for _, k := range []kernels.Kernel{kernels.Conv2DForward, kernels.Conv2DBackwardInput, kernels.Conv2DBackwardWeight} {
			for _, s := range resnet20 {
				for s.Precision = range precisionCount {
					name := fmt.Sprintf("%s/%s/%dx%dx%d-%d_%dx%d_stride%d/%s", isa, k, s.H, s.W, s.C, s.K, s.R, s.S, s.StrideH, s.Precision)
					b.Run(name, func(b *testing.B) { benchmarkKernel(b, dev, k, s, flops(s)) })
				}
			}
		}
	}
}

// BenchmarkBatchNorm reports GB/s of activations read and written (each tensor once) of the passes over
// ResNet-20's widest layer.
func BenchmarkBatchNorm(b *testing.B) {
	s := kernels.BatchNorm{N: 32, HW: 32 * 32, C: 16, Ghost: 32, ReLU: 1, Eps: 1e-5}
	for _, isa := range cpu.Available() {
		dev, err := cpu.New(isa)
		if err != nil {
			b.Fatal(err)
		}
		for k := kernels.BatchNormForward; k <= kernels.BatchNormTangentBackward; k++ {
			b.Run(isa+"/"+k.String(), func(b *testing.B) { benchmarkKernel(b, dev, k, s, 0) })
		}
	}
}

// benchmarkKernel times one call. It reports GFLOP/s if operations is not 0, else GB/s of arguments.
func benchmarkKernel(b *testing.B, dev kernels.Device, k kernels.Kernel, s kernels.Shape, operations float64) {
	c, err := newCase(k, problem{shape: s}, 0, false)
	if err != nil {
		b.Fatal(err)
	}
	workspace, err := dev.Workspace(k, s)
	if err != nil {
		b.Fatal(err)
	}
	a, err := c.newArena(dev, workspace)
	if err != nil {
		b.Fatal(err)
	}
	defer a.free()
	pass, err := dev.Prepare([]kernels.Call{{Kernel: k, Shape: s, Args: a.refs}})
	if err != nil {
		b.Fatal(err)
	}
	defer pass.Free()
	for b.Loop() {
		if err := pass.Run(&a.bases); err != nil {
			b.Fatal(err)
		}
	}
	perSecond := float64(b.N) / b.Elapsed().Seconds() / 1e9
	if operations != 0 {
		b.ReportMetric(operations*perSecond, "GFLOP/s")
		return
	}
	bytes := 0.0
	for _, arg := range c.layout {
		bytes += 4 * float64(arg.Cells)
	}
	b.ReportMetric(bytes*perSecond, "GB/s")
}
