package bench

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"broadside/kernels"
)

// The layers of a ResNet-8 on 8x8 images, counted by hand.
func TestLayers(t *testing.T) {
	var figures []any
	report := func(v any) {
		if r, ok := v.(*LayersResult); ok { // before there is a layer in it
			v = *r
		}
		figures = append(figures, v)
	}
	r, err := Layers(context.Background(), Work{Model: "resnet8", Batch: 4, Image: 8, Device: "cpu", Time: time.Millisecond, Rounds: 2, Report: report}, []string{"f32", "bf16"})
	if err != nil {
		t.Fatal(err)
	}
	if first := figures[0].(LayersResult); first.Setting != r.Setting || first.CopyGBS != r.CopyGBS || len(first.Convolutions)+len(first.Norms) > 0 {
		t.Errorf("the first figures: %+v", first)
	}
	for i, v := range figures[1:] {
		if n := len(r.Convolutions); i < n && v != r.Convolutions[i] || i >= n && v != r.Norms[i-n] {
			t.Errorf("figures %d: %+v", i+1, v)
		}
	}
	if len(figures) != 1+len(r.Convolutions)+len(r.Norms) {
		t.Errorf("%d figures", len(figures))
	}
	if want := (Setting{Model: "resnet8", Batch: 4, Leaf: 4, Ghost: 4, Image: "8x8x3", Classes: 10, Precision: "f32,bf16", Rounds: 2}); r.Setting != want {
		t.Errorf("setting %+v, want %+v", r.Setting, want)
	}
	if !(r.CopyGBS.Min > 0 && r.CopyGBS.Min <= r.CopyGBS.Max) || len(r.PeakTFLOPS) > 0 {
		t.Errorf("copying at %+v GB/s, peaks %v", r.CopyGBS, r.PeakTFLOPS)
	}
	convs := map[string]int{}
	for _, c := range r.Convolutions {
		convs[c.Pass+" "+c.Precision] += c.Count
		if c.Layer == "8x8x16 to 4x4x32, 3x3/2" && c.Pass == "forward" { // 4 samples: x, w, y
			if want := 4.0 * 4 * (8*8*16 + 3*3*16*32/4 + 4*4*32); c.Bytes != want {
				t.Errorf("%s moves %g bytes, want %g", c.Layer, c.Bytes, want)
			}
			if got, want := c.TFLOPS*1e12*c.MS.Median/1e3, 2.0*4*4*4*32*3*3*16; got < 0.999*want || got > 1.001*want {
				t.Errorf("%s takes %g operations, want %g", c.Layer, got, want)
			}
		}
		if !(c.MS.Min > 0 && c.TFLOPS > 0 && c.GBS > 0) || c.PeakShare != 0 {
			t.Errorf("%+v", c)
		}
	}
	// 7 convolutions of 3x3 and 2 of 1x1; the first has no input gradient.
	want := map[string]int{"forward f32": 9, "input gradient f32": 8, "weight gradient f32": 9, "forward bf16": 9, "input gradient bf16": 8, "weight gradient bf16": 9}
	if !maps.Equal(convs, want) {
		t.Errorf("convolutions %v, want %v", convs, want)
	}
	norms := map[string]int{}
	for _, n := range r.Norms {
		norms[n.Pass] += n.Count
		if !(n.CopyShare > 0 && n.ReadTwiceShare > n.CopyShare) {
			t.Errorf("%+v", n)
		}
	}
	if !maps.Equal(norms, map[string]int{"forward": 9, "backward": 9}) {
		t.Errorf("normalisations %v", norms)
	}
	names := map[string]bool{}
	for _, n := range r.Norms {
		if key := n.Pass + " " + n.Layer; names[key] {
			t.Errorf("%s is there twice", key)
		} else {
			names[key] = true
		}
	}
	if !names["forward 64 pixels of 16, add, ReLU"] || !names["backward 64 pixels of 16, add, ReLU"] || !names["forward 64 pixels of 16, ReLU"] {
		t.Errorf("normalisations %v", slices.Sorted(maps.Keys(names)))
	}
}

func TestTraffic(t *testing.T) {
	const n = 4.0 * 2 * 9 * 8 // bytes of an activation
	shape := kernels.BatchNorm{N: 2, HW: 9, C: 8, Ghost: 2, ReLU: 1}
	for _, c := range []struct {
		kernel      kernels.Kernel
		none        []int
		once, twice float64 // activations
	}{
		{kernels.BatchNormForward, []int{3, 4, 5}, 2, 3},
		{kernels.BatchNormForward, []int{4, 5}, 3, 4},
		{kernels.BatchNormBackward, []int{4, 7}, 4, 7},
		{kernels.BatchNormBackward, []int{4}, 5, 8},
	} {
		call := kernels.Call{Kernel: c.kernel, Shape: shape, Args: make([]kernels.Ref, c.kernel.Args())}
		for _, i := range c.none {
			call.Args[i] = kernels.None
		}
		once, twice, err := traffic(call)
		if err != nil {
			t.Fatal(err)
		}
		small := once - c.once*n // scales, shifts, statistics
		if small <= 0 || small > n/2 || twice-once != (c.twice-c.once)*n {
			t.Errorf("%s without %v: %g and %g bytes", c.kernel, c.none, once, twice)
		}
	}
}

func TestPeaks(t *testing.T) {
	for name, bf16 := range map[string]float64{
		"cuda:0 (NVIDIA H200)": 989, "cuda:1 (NVIDIA H200 NVL)": 835, "cuda:0 (NVIDIA H100 80GB HBM3)": 989, "cuda:0 (NVIDIA H100 PCIe, stream 1)": 756,
		"cuda:0 (NVIDIA A100-SXM4-80GB)": 312, "cuda:0 (NVIDIA GH200 480GB)": 0, "cuda:0 (NVIDIA H100 80GB HBM3 MIG 1g.10gb)": 0, "cpu (avx2)": 0,
	} {
		if got := peaksOf(name)["bf16"]; got != bf16 {
			t.Errorf("%s: %g TFLOP/s bf16, want %g", name, got, bf16)
		}
	}
}
