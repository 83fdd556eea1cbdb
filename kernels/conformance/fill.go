package conformance

import (
	"math"

	"broadside/kernels"
	"broadside/kernels/philox"
	"broadside/kernels/ref"
)

// A filler draws the values of a problem's arguments: whole numbers from -3 to 3 and powers of two if
// exact, so that every product and sum is a float32, else normal numbers. All are float32 values.
type filler struct {
	stream  *philox.Stream
	kernel  kernels.Kernel
	problem problem
	exact   bool
}

func (f filler) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(f.stream.Uint32() >> 24)
	}
	return b
}

func (f filler) each(n int, draw func(i int) float64) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = float64(float32(draw(i)))
	}
	return v
}

// number draws one plain number.
func (f filler) number() float64 {
	if f.exact {
		return float64(f.stream.Intn(7) - 3)
	}
	if s, ok := f.problem.shape.(kernels.Conv2D); ok && s.Precision != kernels.F32 {
		return f.unrounded(droppedBits[s.Precision])
	}
	return f.stream.Norm()
}

// droppedBits are the lower bits of a float32 that a precision rounds away.
var droppedBits = [...]int{kernels.BF16: 16, kernels.TF32: 13}

const precisionCount = kernels.TF32 + 1

// unrounded draws a number of which every other lies half way between two numbers without the dropped bits, or next
// to there: where rounding that is left out, truncates or treats ties differently goes wrong.
func (f filler) unrounded(dropped int) float64 {
	v := float32(f.stream.Norm())
	if place := f.stream.Intn(6); place < 3 {
		v = math.Float32frombits(math.Float32bits(v)>>dropped<<dropped | uint32(1<<(dropped-1)-1+place))
	}
	return float64(v)
}

// positive draws a number that is about 1.
func (f filler) positive() float64 {
	if f.exact {
		return []float64{0.5, 1, 2}[f.stream.Intn(3)]
	}
	return 0.5 + f.stream.Float64()
}

func (f filler) fill(a ref.Arg) []float64 {
	if a.Kind == ref.Int {
		return f.integers(a)
	}
	n := a.Cells
	if a.Kind == ref.Double {
		return f.doubles(a)
	}
	switch a.Name {
	case "y":
		if a.Role == ref.In { // the output of a ReLU, which masks a gradient
			return f.each(n, func(int) float64 { return max(0, f.number()) })
		}
	case "x":
		if f.problem.shift != 0 && !f.exact {
			return f.each(n, func(int) float64 { return f.number() + f.problem.shift })
		}
	case "saved", "running", "stats", "rows":
		return f.statistics(n)
	case "z":
		if f.kernel == kernels.Median && f.exact { // quotients are exact, equal, infinite and no numbers
			return f.each(n, func(int) float64 { return float64(f.stream.Intn(2)) * f.positive() })
		}
	case "weight", "hyper", "correction", "square":
		return f.each(n, func(int) float64 { return f.positive() })
	case "normal": // means, then 1/std
		return f.each(n, func(i int) float64 { return f.positive() * float64(1+3*(2*i/n)) / 2 })
	case "bounds":
		return []float64{-1.5, 1.25}
	case "prob":
		return f.probabilities(n)
	}
	return f.each(n, func(int) float64 { return f.number() })
}

// doubles draws norms, of which some are 0, or inner products smaller than those of the norms.
func (f filler) doubles(a ref.Arg) []float64 {
	v := make([]float64, a.Cells)
	for i := 0; i < len(v); i += 2 {
		switch v[i] = f.stream.Norm() / 16; {
		case a.Name == "dot":
		case i > 0 && f.stream.Intn(4) == 0:
			v[i] = 0
		default:
			v[i] = 0.5 + f.stream.Float64()
		}
	}
	return v
}

// statistics draws [][2][c]: a mean, and a positive number.
func (f filler) statistics(n int) []float64 {
	c := n / 2
	switch s := f.problem.shape.(type) {
	case kernels.BatchNorm:
		c = int(s.C)
	case kernels.Combine:
		return f.each(n, func(i int) float64 {
			if s.Variances != 0 && i%int(s.Stride) >= int(s.C) {
				return f.positive()
			}
			return f.number() + f.problem.shift
		})
	case kernels.Fold:
		c = int(s.C)
	}
	return f.each(n, func(i int) float64 {
		if i/c%2 == 1 {
			return f.positive()
		}
		if f.exact {
			return f.number()
		}
		return f.number()/2 + f.problem.shift
	})
}

// probabilities draws rows that sum to one.
func (f filler) probabilities(n int) []float64 {
	classes := int(f.problem.shape.(kernels.Softmax).Classes)
	v := make([]float64, n)
	for row := 0; row < n; row += classes {
		sum := 0.0
		for j := range classes {
			v[row+j] = f.stream.Float64() + 1e-3
			sum += v[row+j]
		}
		for j := range classes {
			v[row+j] = float64(float32(v[row+j] / sum))
		}
	}
	return v
}

func (f filler) integers(a ref.Arg) []float64 {
	below := 10
	switch s := f.problem.shape.(type) {
	case kernels.Softmax:
		below = int(s.Classes)
	case kernels.BatchNorm:
		below = f.problem.sets
	case kernels.Pool:
		return f.maxima(s)
	case kernels.AugmentShape:
		if a.Name == "index" {
			below = int(s.Images)
		}
	}
	switch a.Name {
	case "sample":
		below = 50000
	case "key": // seed, epoch and copy; copy is a byte of the counter
		return []float64{0x89abcdef, 0xfedcba98, 77, 5}
	}
	return f.each(a.Cells, func(int) float64 { return float64(f.stream.Intn(below)) })
}

// maxima draws, for every output, a pixel of its window.
func (f filler) maxima(s kernels.Pool) []float64 {
	draw := func(o, stride, pad, window, size int32) int {
		first, last := max(o*stride-pad, 0), min(o*stride-pad+window, size)
		return int(first) + f.stream.Intn(int(last-first))
	}
	var index []float64
	for range s.N {
		for oh := range s.OH {
			for ow := range s.OW {
				for range s.C {
					row, col := draw(oh, s.StrideH, s.PadH, s.R, s.H), draw(ow, s.StrideW, s.PadW, s.S, s.W)
					index = append(index, float64(row*int(s.W)+col))
				}
			}
		}
	}
	return index
}
