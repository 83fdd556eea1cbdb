package bench

import (
	"testing"

	"broadside/kernels"
)

func refs(n int, none ...int) []kernels.Ref {
	out := make([]kernels.Ref, n)
	for _, i := range none {
		out[i] = kernels.None
	}
	return out
}

// A 3x3 convolution of stride 2, in two groups, of two 4x4x6 images to 2x2x8, without bias.
func TestCountOfAConvolution(t *testing.T) {
	shape := kernels.Conv2D{N: 2, H: 4, W: 4, C: 6, K: 8, R: 3, S: 3, StrideH: 2, StrideW: 2, PadH: 1, PadW: 1, Groups: 2, OH: 2, OW: 2}
	const x, y, w = 2 * 4 * 4 * 6, 2 * 2 * 2 * 8, 8 * 3 * 3 * 3
	for _, c := range []kernels.Call{
		{Kernel: kernels.Conv2DForward, Shape: shape, Args: refs(4, 2)},
		{Kernel: kernels.Conv2DBackwardInput, Shape: shape, Args: refs(3)},
		{Kernel: kernels.Conv2DBackwardWeight, Shape: shape, Args: refs(5, 3)}, // with workspace, which does not count
	} {
		if got := flops(c); got != 2*y*3*3*3 {
			t.Errorf("%s: %g operations, want %d", c.Kernel, got, 2*y*3*3*3)
		}
		if got, err := bytes(c); err != nil || got != 4*(x+y+w) {
			t.Errorf("%s: %g bytes, want %d; %v", c.Kernel, got, 4*(x+y+w), err)
		}
	}
	if got := describe(kernels.Call{Kernel: kernels.Conv2DForward, Shape: shape}); got != "2 of 4x4x6 to 2x2x8, 3x3/2, 2 groups" {
		t.Errorf("described as %q", got)
	}
}

// Gathering reads the images it takes, byte by byte, and not the data set.
func TestCountOfGathering(t *testing.T) {
	c := kernels.Call{Kernel: kernels.Augment, Shape: kernels.AugmentShape{N: 3, H: 2, W: 2, C: 1, Images: 1000}, Args: refs(7)}
	// images in bytes; x, labels, label, index, key, normal in cells
	if got, err := bytes(c); err != nil || flops(c) != 0 || got != 3*4+4*(3*4+3+3+3+4+2) {
		t.Errorf("%g bytes, %g operations, %v", got, flops(c), err)
	}
	if _, err := bytes(kernels.Call{Kernel: kernels.Augment, Shape: kernels.AugmentShape{}}); err == nil {
		t.Error("the bytes of no image")
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want Spread
	}{
		{[]float64{3, 1, 2}, Spread{1, 2, 3}},
		{[]float64{4, 1, 3, 2}, Spread{1, 2.5, 4}},
		{[]float64{7}, Spread{7, 7, 7}},
	} {
		if got := spread(c.in); got != c.want {
			t.Errorf("spread of %v: %v, want %v", c.in, got, c.want)
		}
	}
	if got := ratios([]float64{6, 8}, []float64{2, 8}); got != (Spread{1, 2, 3}) {
		t.Errorf("ratios %v", got)
	}
}
