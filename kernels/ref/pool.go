package ref

import (
	"fmt"

	"broadside/kernels"
)

// eachWindow calls f for every output cell (image n, output offset y, channel ch) with a function that
// visits the pixels of its window in row order, as positions in the image (row * w + column).
func eachWindow(s kernels.Pool, f func(n, y, ch int, visit func(func(pixel int)))) {
	for n := range int(s.N) {
		for oh := range int(s.OH) {
			for ow := range int(s.OW) {
				top, left := oh*int(s.StrideH)-int(s.PadH), ow*int(s.StrideW)-int(s.PadW)
				visit := func(pixel func(int)) {
					for ih := max(top, 0); ih < min(top+int(s.R), int(s.H)); ih++ {
						for iw := max(left, 0); iw < min(left+int(s.S), int(s.W)); iw++ {
							pixel(ih*int(s.W) + iw)
						}
					}
				}
				for ch := range int(s.C) {
					f(n, ((n*int(s.OH)+oh)*int(s.OW)+ow)*int(s.C)+ch, ch, visit)
				}
			}
		}
	}
}

// maxPoolForward: y is the largest pixel of the window, index its position in its image.
func maxPoolForward(s kernels.Pool, x, y, index []float64) error {
	eachWindow(s, func(n, yi, ch int, visit func(func(int))) {
		best := -1
		visit(func(pixel int) {
			if best < 0 || x[cell(s, n, pixel, ch)] > x[cell(s, n, best, ch)] {
				best = pixel
			}
		})
		y[yi], index[yi] = x[cell(s, n, best, ch)], float64(best)
	})
	return nil
}

// cell returns the offset of a pixel's channel.
func cell(s kernels.Pool, n, pixel, ch int) int {
	return (n*int(s.H)*int(s.W)+pixel)*int(s.C) + ch
}

// eachMaximum calls f with the offsets of every output cell and of the input cell that index names.
func eachMaximum(s kernels.Pool, index []float64, f func(y, x int)) error {
	out, in := int(s.OH)*int(s.OW), int(s.H)*int(s.W)
	for i, pixel := range index[:int(s.N)*out*int(s.C)] {
		if pixel < 0 || int(pixel) >= in {
			return fmt.Errorf("index %v of an image of %d pixels: %w", pixel, in, ErrBadArgument)
		}
		f(i, cell(s, i/int(s.C)/out, int(pixel), i%int(s.C)))
	}
	return nil
}

// maxPoolBackward: dx (+)= dy at the maxima.
func maxPoolBackward(s kernels.Pool, dy, index, dx []float64) error {
	if s.Accumulate == 0 {
		clear(dx[:int(s.N)*int(s.H)*int(s.W)*int(s.C)])
	}
	return eachMaximum(s, index, func(y, x int) { dx[x] += dy[y] })
}

// maxPoolTangent: ty = tx at the maxima.
func maxPoolTangent(s kernels.Pool, tx, index, ty []float64) error {
	return eachMaximum(s, index, func(y, x int) { ty[y] = tx[x] })
}

// avgPoolForward: y is the sum of the window's pixels over r s, the padding counted as zeros.
func avgPoolForward(s kernels.Pool, x, y []float64) error {
	area := float64(s.R) * float64(s.S)
	eachWindow(s, func(n, yi, ch int, visit func(func(int))) {
		sum := 0.0
		visit(func(pixel int) { sum += x[cell(s, n, pixel, ch)] })
		y[yi] = sum / area
	})
	return nil
}

// avgPoolBackward: dx (+)= dy / (r s), spread over each window.
func avgPoolBackward(s kernels.Pool, dy, dx []float64) error {
	if s.Accumulate == 0 {
		clear(dx[:int(s.N)*int(s.H)*int(s.W)*int(s.C)])
	}
	area := float64(s.R) * float64(s.S)
	eachWindow(s, func(n, yi, ch int, visit func(func(int))) {
		visit(func(pixel int) { dx[cell(s, n, pixel, ch)] += dy[yi] / area })
	})
	return nil
}
