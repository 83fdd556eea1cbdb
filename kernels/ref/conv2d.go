package ref

import "broadside/kernels"

// convSizes are the sizes of a convolution as ints, with the channels of one group.
type convSizes struct {
	n, h, w, c, k, r, s, oh, ow int
	strideH, strideW            int
	padH, padW                  int
	groupC, groupK              int
}

func sizesOf(s kernels.Conv2D) convSizes {
	return convSizes{n: int(s.N), h: int(s.H), w: int(s.W), c: int(s.C), k: int(s.K), r: int(s.R), s: int(s.S),
		oh: int(s.OH), ow: int(s.OW), strideH: int(s.StrideH), strideW: int(s.StrideW),
		padH: int(s.PadH), padW: int(s.PadW), groupC: int(s.C / s.Groups), groupK: int(s.K / s.Groups)}
}

// eachTap calls tap for every image and output position, and every position (r, s) of the kernel that
// falls on a pixel there. x and y are the offsets of that pixel's and that output's first channel.
func (z convSizes) eachTap(tap func(x, y, r, s int)) {
	for n := range z.n {
		for oh := range z.oh {
			for ow := range z.ow {
				for r := range z.r {
					ih := oh*z.strideH + r - z.padH
					if ih < 0 || ih >= z.h {
						continue
					}
					for s := range z.s {
						iw := ow*z.strideW + s - z.padW
						if iw < 0 || iw >= z.w {
							continue
						}
						tap(((n*z.h+ih)*z.w+iw)*z.c, ((n*z.oh+oh)*z.ow+ow)*z.k, r, s)
					}
				}
			}
		}
	}
}

// row returns the offset of weights [k][r][s][0] and of the first channel of k's group.
func (z convSizes) row(k, r, s int) (weight, channel int) {
	return ((k*z.r+r)*z.s + s) * z.groupC, k / z.groupK * z.groupC
}

// The numbers of cells of x, w and y.
func (z convSizes) xCells() int { return z.n * z.h * z.w * z.c }
func (z convSizes) wCells() int { return z.k * z.r * z.s * z.groupC }
func (z convSizes) yCells() int { return z.n * z.oh * z.ow * z.k }

// conv2DForward: y[n,oh,ow,k] (+)= bias[k] + sum x[n, oh stride + r - pad, ow stride + s - pad, c] w[k,r,s,c].
func conv2DForward(shape kernels.Conv2D, x, w, bias, y []float64) error {
	z := sizesOf(shape)
	x, w = factors(x, z.xCells(), shape.Precision), factors(w, z.wCells(), shape.Precision)
	for i := range z.yCells() {
		if shape.Accumulate == 0 {
			y[i] = 0
		}
		if bias != nil {
			y[i] += bias[i%z.k]
		}
	}
	z.eachTap(func(xi, yi, r, s int) {
		for k := range z.k {
			wi, channel := z.row(k, r, s)
			y[yi+k] += dot(x[xi+channel:xi+channel+z.groupC], w[wi:wi+z.groupC])
		}
	})
	if shape.ReLU != 0 {
		for i := range z.yCells() {
			y[i] = max(0, y[i])
		}
	}
	return nil
}

// conv2DBackwardInput: dx (+)= the transpose of the convolution, applied to dy.
func conv2DBackwardInput(shape kernels.Conv2D, dy, w, dx []float64) error {
	z := sizesOf(shape)
	dy, w = factors(dy, z.yCells(), shape.Precision), factors(w, z.wCells(), shape.Precision)
	if shape.Accumulate == 0 {
		clear(dx[:z.xCells()])
	}
	z.eachTap(func(xi, yi, r, s int) {
		for k := range z.k {
			wi, channel := z.row(k, r, s)
			addScaled(dx[xi+channel:xi+channel+z.groupC], dy[yi+k], w[wi:wi+z.groupC])
		}
	})
	return nil
}

// conv2DBackwardWeight: dw[k,r,s,c] += sum over images and positions of x dy; dbias[k] += sum dy.
func conv2DBackwardWeight(shape kernels.Conv2D, x, dy, dw, dbias []float64) error {
	z := sizesOf(shape)
	x = factors(x, z.xCells(), shape.Precision)
	g := factors(dy, z.yCells(), shape.Precision)
	z.eachTap(func(xi, yi, r, s int) {
		for k := range z.k {
			wi, channel := z.row(k, r, s)
			addScaled(dw[wi:wi+z.groupC], g[yi+k], x[xi+channel:xi+channel+z.groupC])
		}
	})
	if dbias != nil {
		for i := range z.yCells() {
			dbias[i%z.k] += dy[i]
		}
	}
	return nil
}

func dot(a, b []float64) float64 {
	b = b[:len(a)]
	sum := 0.0
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

func addScaled(to []float64, factor float64, x []float64) {
	x = x[:len(to)]
	for i := range to {
		to[i] += factor * x[i]
	}
}
