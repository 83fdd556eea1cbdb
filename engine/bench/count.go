package bench

import (
	"fmt"

	"broadside/kernels"
	"broadside/kernels/ref"
)

// flops counts the multiply-adds of a convolution or linear layer, times two, as its definition has them; other
// kernels count as none. An algorithm that needs fewer may so come out above the machine's peak.
func flops(c kernels.Call) float64 {
	s, ok := c.Shape.(kernels.Conv2D)
	if !ok {
		return 0
	}
	return 2 * float64(s.N) * float64(s.OH) * float64(s.OW) * float64(s.K) * float64(s.R) * float64(s.S) * float64(s.C/s.Groups)
}

// bytes counts every argument of a call once, its workspace not: what the call must move if no cache held it.
func bytes(c kernels.Call) (float64, error) {
	shape := c.Shape
	if s, ok := shape.(kernels.AugmentShape); ok {
		s.Images = s.N // it reads those it gathers, not the whole set
		shape = s
	}
	args, err := ref.Layout(c.Kernel, shape, 1)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for i, a := range args {
		if c.Args[i].IsNone() {
			continue
		}
		if a.Kind == ref.Byte {
			sum += float64(a.Cells)
		} else {
			sum += 4 * float64(a.Cells)
		}
	}
	return sum, nil
}

// isProduct reports whether a call is a layer that computes more than it moves, or moves what no fusion saves:
// convolutions, linear layers, pooling and the gathering of samples. What they move is the least that a network
// run layer by layer has to; normalisation, activation and additions could ride along.
func isProduct(k kernels.Kernel) bool {
	switch k {
	case kernels.Conv2DForward, kernels.Conv2DBackwardInput, kernels.Conv2DBackwardWeight, kernels.MaxPoolForward,
		kernels.MaxPoolBackward, kernels.AvgPoolForward, kernels.AvgPoolBackward, kernels.Augment:
		return true
	}
	return false
}

// window is a convolution's window, as in 3x3; "" for other kernels.
func window(c kernels.Call) string {
	if s, ok := c.Shape.(kernels.Conv2D); ok {
		return fmt.Sprintf("%dx%d", s.R, s.S)
	}
	return ""
}

// describe names a call's shape in short.
func describe(c kernels.Call) string {
	switch s := c.Shape.(type) {
	case kernels.Conv2D:
		text := fmt.Sprintf("%d of %dx%dx%d to %dx%dx%d, %s", s.N, s.H, s.W, s.C, s.OH, s.OW, s.K, window(c))
		return text + stride(s.StrideH, s.StrideW) + note(s.Groups > 1, fmt.Sprintf(", %d groups", s.Groups)) +
			note(s.ReLU != 0, ", relu") + note(s.Accumulate != 0, ", adding")
	case kernels.BatchNorm:
		return fmt.Sprintf("%d of %dx%d, ghosts of %d", s.N, s.HW, s.C, s.Ghost) + note(s.ReLU != 0, ", relu") +
			note(c.Kernel == kernels.BatchNormForward && !c.Args[3].IsNone(), ", residual") + note(s.Accumulate != 0, ", adding")
	case kernels.Pool:
		return fmt.Sprintf("%d of %dx%dx%d to %dx%dx%d, %dx%d", s.N, s.H, s.W, s.C, s.OH, s.OW, s.C, s.R, s.S) +
			stride(s.StrideH, s.StrideW) + note(s.Accumulate != 0, ", adding")
	}
	return fmt.Sprintf("%+v", c.Shape)
}

func stride(h, w int32) string {
	if h == w {
		return note(h > 1, fmt.Sprintf("/%d", h))
	}
	return fmt.Sprintf("/%dx%d", h, w)
}

func note(holds bool, text string) string {
	if holds {
		return text
	}
	return ""
}
