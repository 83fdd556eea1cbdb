package ref

import (
	"fmt"
	"testing"

	"broadside/kernels"
)

var convShapes = []kernels.Conv2D{
	{N: 2, H: 5, W: 4, C: 3, K: 4, R: 3, S: 3, StrideH: 1, StrideW: 1, PadH: 1, PadW: 1, Groups: 1, OH: 5, OW: 4},
	{N: 1, H: 6, W: 7, C: 4, K: 6, R: 3, S: 2, StrideH: 2, StrideW: 3, PadH: 2, PadW: 0, Groups: 2, OH: 4, OW: 2},
	{N: 3, H: 1, W: 1, C: 5, K: 2, R: 1, S: 1, StrideH: 1, StrideW: 1, Groups: 1, OH: 1, OW: 1},
}

// By hand: a 2x2 kernel over a 3x3 image, with bias.
func TestConv2DByHand(t *testing.T) {
	s := kernels.Conv2D{N: 1, H: 3, W: 3, C: 1, K: 1, R: 2, S: 2, StrideH: 1, StrideW: 1, Groups: 1, OH: 2, OW: 2}
	y := make([]float64, 4)
	mustRun(t, kernels.Conv2DForward, s, []float64{1, 2, 3, 4, 5, 6, 7, 8, 9}, []float64{1, 0, 0, -2}, []float64{10}, y)
	for i, want := range []float64{1 - 10 + 10, 2 - 12 + 10, 4 - 16 + 10, 5 - 18 + 10} {
		if y[i] != want {
			t.Errorf("y[%d] = %v, want %v", i, y[i], want)
		}
	}
}

func TestConv2DBackward(t *testing.T) {
	for _, s := range convShapes {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			layout, err := Layout(kernels.Conv2DForward, s, 1)
			if err != nil {
				t.Fatal(err)
			}
			rng := stream(1)
			x, w, bias := normals(rng, layout[0].Cells), normals(rng, layout[1].Cells), normals(rng, layout[2].Cells)
			y := make([]float64, layout[3].Cells)
			dy := normals(rng, len(y))
			loss := func() float64 {
				mustRun(t, kernels.Conv2DForward, s, x, w, bias, y)
				return dot(y, dy)
			}
			dx, dw, db := make([]float64, len(x)), make([]float64, len(w)), make([]float64, len(bias))
			mustRun(t, kernels.Conv2DBackwardInput, s, dy, w, dx)
			mustRun(t, kernels.Conv2DBackwardWeight, s, x, dy, dw, db)
			checkGradient(t, "dx", loss, x, dx)
			checkGradient(t, "dw", loss, w, dw)
			checkGradient(t, "dbias", loss, bias, db)
		})
	}
}

func TestConv2DAccumulatesThenRectifies(t *testing.T) {
	s := kernels.Conv2D{N: 1, H: 1, W: 1, C: 1, K: 2, R: 1, S: 1, StrideH: 1, StrideW: 1, Groups: 1, OH: 1, OW: 1, ReLU: 1, Accumulate: 1}
	y := []float64{-1, -10}
	mustRun(t, kernels.Conv2DForward, s, []float64{2}, []float64{1, 1}, []float64{3, 3}, y)
	if y[0] != 4 || y[1] != 0 {
		t.Errorf("got %v, want [4 0]", y)
	}
	s.ReLU = 0
	dx := []float64{100}
	mustRun(t, kernels.Conv2DBackwardInput, s, []float64{1, 2}, []float64{3, 4}, dx)
	dw := []float64{1000, 2000}
	mustRun(t, kernels.Conv2DBackwardWeight, s, []float64{2}, []float64{1, 2}, dw, nil)
	if dx[0] != 111 || dw[0] != 1002 || dw[1] != 2004 {
		t.Errorf("dx %v, dw %v; want 111 and [1002 2004]", dx, dw)
	}
}

// BenchmarkConv2D is a middle layer of ResNet-20 on 4 images.
func BenchmarkConv2D(b *testing.B) {
	s := kernels.Conv2D{N: 4, H: 16, W: 16, C: 32, K: 32, R: 3, S: 3, StrideH: 1, StrideW: 1, PadH: 1, PadW: 1, Groups: 1, OH: 16, OW: 16}
	rng := stream(1)
	x, w, y := normals(rng, 4*16*16*32), normals(rng, 32*9*32), make([]float64, 4*16*16*32)
	dw := make([]float64, len(w))
	for b.Loop() {
		mustRun(b, kernels.Conv2DForward, s, x, w, nil, y)
		mustRun(b, kernels.Conv2DBackwardInput, s, y, w, x)
		mustRun(b, kernels.Conv2DBackwardWeight, s, x, y, dw, nil)
	}
}
