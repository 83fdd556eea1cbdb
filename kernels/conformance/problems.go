package conformance

import (
	"slices"

	"broadside/kernels"
)

// A problem is one call to check. The zero values mean: every optional argument given, one
// batch-norm parameter set, no aliasing.
type problem struct {
	shape   kernels.Shape
	absent  []string // optional arguments that are NULL
	sets    int      // batch-norm parameter sets
	alias   string   // this output shares the memory of the input aliasOf
	of      string
	exact   bool    // every step is exact on small dyadic numbers, in any order
	aligned bool    // arguments begin at multiples of 64 bytes, which else is so for half of the problems
	shift   float64 // added to the random x of batch norm: a mean of that many standard deviations
}

// problems returns the problems of a kernel.
func problems(k kernels.Kernel) []problem {
	switch k {
	case kernels.Conv2DForward, kernels.Conv2DBackwardInput, kernels.Conv2DBackwardWeight:
		return convProblems(k)
	case kernels.BatchNormForward, kernels.BatchNormBackward, kernels.BatchNormTangentForward, kernels.BatchNormTangentBackward:
		return normProblems(k)
	case kernels.MaxPoolForward, kernels.MaxPoolBackward, kernels.MaxPoolTangent, kernels.AvgPoolForward, kernels.AvgPoolBackward:
		return poolProblems(k)
	case kernels.SoftmaxXent, kernels.SoftmaxXentTangent:
		return softmaxProblems(k)
	case kernels.MulAdd, kernels.Median, kernels.SNR, kernels.Clip, kernels.AGC, kernels.Trust, kernels.Adam:
		return stepProblems(k)
	}
	return otherProblems(k)
}

// conv writes a convolution with square settings; the output size follows.
func conv(n, h, w, c, k, r, s, stride, pad, groups int32) kernels.Conv2D {
	return convHW(n, h, w, c, k, r, s, stride, stride, pad, pad, groups)
}

func convHW(n, h, w, c, k, r, s, strideH, strideW, padH, padW, groups int32) kernels.Conv2D {
	return kernels.Conv2D{N: n, H: h, W: w, C: c, K: k, R: r, S: s, StrideH: strideH, StrideW: strideW,
		PadH: padH, PadW: padW, Groups: groups, OH: (h+2*padH-r)/strideH + 1, OW: (w+2*padW-s)/strideW + 1}
}

// linear writes a linear layer.
func linear(n, c, k int32) kernels.Conv2D { return conv(n, 1, 1, c, k, 1, 1, 1, 0, 1) }

// convShapes: channel counts on both sides of every vector and block size, every kernel size of the
// models, strides that do and do not divide, padding of none, half, and more than the kernel needs.
var convShapes = []kernels.Conv2D{
	conv(1, 1, 1, 1, 1, 1, 1, 1, 0, 1),
	conv(1, 5, 7, 1, 1, 3, 3, 1, 1, 1),
	conv(2, 8, 8, 3, 16, 3, 3, 1, 1, 1),
	conv(2, 32, 32, 3, 16, 3, 3, 1, 1, 1),
	conv(2, 16, 16, 16, 16, 3, 3, 1, 1, 1),
	conv(2, 16, 16, 16, 32, 3, 3, 2, 1, 1),
	conv(2, 8, 8, 32, 64, 3, 3, 2, 1, 1),
	conv(1, 8, 8, 64, 64, 3, 3, 1, 1, 1),
	conv(2, 16, 16, 16, 32, 1, 1, 2, 0, 1),
	conv(3, 7, 5, 17, 33, 3, 3, 1, 1, 1),
	conv(1, 9, 7, 33, 17, 3, 3, 2, 1, 1),
	conv(1, 6, 6, 5, 7, 3, 3, 1, 0, 1),
	conv(2, 5, 9, 7, 10, 5, 5, 1, 2, 1),
	conv(1, 13, 11, 10, 5, 5, 5, 2, 2, 1),
	conv(1, 11, 14, 3, 33, 7, 7, 2, 3, 1),
	conv(2, 9, 9, 64, 3, 7, 7, 1, 3, 1),
	conv(3, 7, 6, 16, 10, 1, 1, 1, 0, 1),
	conv(2, 6, 7, 33, 64, 1, 1, 1, 0, 1),
	conv(2, 6, 7, 10, 5, 1, 1, 1, 1, 1),
	conv(1, 4, 5, 7, 16, 3, 3, 1, 3, 1),
	conv(1, 5, 5, 16, 17, 3, 3, 2, 4, 1),
	conv(1, 1, 1, 16, 16, 3, 3, 1, 1, 1),
	conv(2, 2, 2, 64, 17, 3, 3, 1, 1, 1),
	conv(1, 3, 3, 5, 3, 3, 3, 3, 0, 1),
	conv(3, 9, 7, 20, 36, 3, 3, 1, 0, 1),
	conv(2, 6, 5, 33, 18, 3, 3, 1, 2, 1),
	conv(5, 7, 7, 16, 48, 3, 3, 1, 1, 1),
	conv(1, 4, 5, 130, 128, 3, 3, 1, 1, 1),
	conv(1, 4, 3, 384, 390, 3, 3, 1, 1, 1),
	conv(2, 8, 8, 128, 128, 3, 3, 1, 1, 1), // full tiles of GPUs, whichever they are
	conv(2, 8, 7, 16, 16, 3, 1, 1, 0, 1),
	convHW(2, 8, 9, 10, 17, 3, 1, 1, 1, 1, 0, 1),
	convHW(2, 9, 8, 17, 10, 1, 3, 1, 1, 0, 1, 1),
	convHW(1, 9, 10, 16, 7, 3, 3, 1, 2, 1, 0, 1),
	convHW(1, 10, 9, 7, 16, 3, 5, 2, 1, 0, 2, 1),
	convHW(1, 12, 7, 3, 5, 2, 4, 3, 2, 1, 2, 1),
	conv(2, 7, 7, 16, 16, 3, 3, 1, 1, 16),
	conv(1, 9, 6, 33, 33, 3, 3, 2, 1, 33),
	conv(1, 5, 5, 7, 21, 3, 3, 1, 1, 7),
	conv(2, 6, 5, 16, 32, 3, 3, 1, 1, 2),
	conv(1, 8, 8, 12, 20, 3, 3, 2, 1, 4),
	conv(2, 5, 5, 34, 10, 1, 1, 1, 0, 2),
	conv(1, 7, 9, 10, 15, 5, 5, 1, 2, 5),
	convHW(1, 1, 40, 5, 6, 1, 7, 1, 3, 0, 3, 1),
	conv(2, 14, 13, 40, 40, 5, 5, 2, 2, 40),
	conv(1, 9, 17, 9, 9, 7, 7, 1, 3, 9),
	convHW(1, 5, 14, 20, 20, 4, 9, 1, 2, 1, 4, 20),
	conv(2, 4, 5, 24, 24, 1, 1, 1, 0, 24),
	conv(2, 19, 19, 200, 37, 3, 3, 2, 1, 1),
	conv(2, 8, 9, 400, 33, 1, 1, 1, 0, 1),
	conv(2, 23, 21, 130, 35, 1, 1, 2, 0, 1),
	convHW(1, 7, 30, 144, 48, 1, 1, 1, 2, 0, 0, 1),
	linear(1, 1, 1), linear(1, 64, 10), linear(7, 64, 10), linear(5, 33, 17), linear(33, 7, 1), linear(3, 100, 128),
}

// alignedShapes are for kernels that take aligned rows of many channels: wide and narrow tiles of pixels, each width of
// filters, strides, taps that look beyond every edge, several images in a tile.
var alignedShapes = []kernels.Conv2D{
	conv(3, 17, 18, 32, 32, 3, 3, 1, 1, 1),
	conv(9, 7, 7, 64, 64, 3, 3, 1, 1, 1),
	conv(2, 15, 16, 28, 128, 3, 3, 1, 1, 1),
	conv(33, 4, 4, 32, 128, 3, 3, 1, 1, 1),
	conv(2, 19, 18, 60, 96, 3, 3, 2, 1, 1),
	conv(5, 8, 9, 128, 32, 1, 1, 2, 0, 1),
	conv(1, 24, 40, 64, 128, 1, 1, 1, 0, 1),
	conv(2, 17, 16, 32, 48, 5, 5, 2, 2, 1),
	conv(3, 6, 5, 48, 64, 7, 7, 1, 4, 1),
	convHW(3, 9, 12, 96, 32, 2, 3, 1, 2, 1, 0, 1),
	convHW(2, 21, 10, 32, 60, 3, 1, 2, 1, 0, 1, 1),
}

// convProblems runs every shape in every precision with two of the eight settings of bias, accumulate and relu,
// another two each time, and the first shapes with all. Where factors are rounded one setting is left out. Aligned shapes
// are for rounded factors.
func convProblems(k kernels.Kernel) []problem {
	var list []problem
	for i, s := range convShapes {
		settings := []int{i, i*3 + 5}
		if i < 3 {
			settings = []int{0, 1, 2, 3, 4, 5, 6, 7}
		}
		list = append(list, convSettings(k, s, settings)...)
		s.Precision = kernels.BF16
		list = append(list, convSettings(k, s, settings[1:])...)
		s.Precision = kernels.TF32
		list = append(list, convSettings(k, s, settings[:len(settings)-1])...)
	}
	for i, s := range alignedShapes {
		for _, s.Precision = range []kernels.Precision{kernels.BF16, kernels.TF32} {
			for _, p := range convSettings(k, s, []int{i, i*3 + 5}) {
				p.aligned = true
				list = append(list, p)
			}
		}
	}
	return list
}

func convSettings(k kernels.Kernel, s kernels.Conv2D, settings []int) []problem {
	var list []problem
	for _, bits := range settings {
		p := problem{exact: true}
		s.Accumulate, s.ReLU = int32(bits&1), 0
		if bits&2 != 0 && k == kernels.Conv2DForward {
			s.ReLU = 1
		}
		if bits&4 != 0 {
			p.absent = []string{"bias", "dbias"}
		}
		if k == kernels.Conv2DBackwardWeight {
			s.Accumulate = 0 // dw and dbias are always added to
		}
		p.shape = s
		list = append(list, p)
	}
	return list
}

// norms: n, hw, c, ghost, sets.
var norms = [][5]int32{
	{2, 1, 1, 2, 1}, {4, 16, 16, 4, 1}, {8, 4, 3, 2, 1}, {5, 3, 7, 2, 2}, {7, 9, 17, 3, 3}, {6, 1, 5, 4, 1},
	{3, 25, 33, 1, 3}, {2, 64, 64, 2, 1}, {16, 1, 10, 8, 2}, {1, 2, 1, 1, 1}, {9, 5, 16, 16, 1}, {4, 49, 10, 3, 2},
	{8, 16, 15, 8, 1}, {4, 8, 130, 2, 2}, {2, 289, 9, 2, 1},
	{37, 18, 1, 1, 37}, // standardised weights: a set for each output channel
}

// normOptional are the sets of optional arguments left out, in turn.
var normOptional = [][]string{
	nil,
	{"residual", "dresidual", "tresidual", "tdresidual"},
	{"dx", "tdx", "stats"},
	{"dgamma"},
	{"residual", "dresidual", "tresidual", "tdresidual", "dgamma", "dbeta"},
	{"dbeta", "stats"},
}

func normProblems(k kernels.Kernel) []problem {
	var list []problem
	for i, v := range norms {
		for bits := range 4 {
			s := kernels.BatchNorm{N: v[0], HW: v[1], C: v[2], Ghost: v[3], Frozen: int32(bits & 1), ReLU: int32(bits >> 1), Eps: 1e-5}
			if k == kernels.BatchNormBackward || k == kernels.BatchNormTangentBackward {
				s.Accumulate = int32((i + bits) % 4)
			}
			p := problem{shape: s, sets: int(v[4]), absent: normOptional[(4*i+bits)%len(normOptional)]}
			if v[4] == 1 {
				p.absent = append([]string{"set"}, p.absent...)
			}
			if bits == 0 || i%2 == 0 {
				p.absent = append([]string{"y"}, p.absent...) // ignored where relu needs it
			}
			if s.Frozen == 0 {
				p.absent = append([]string{"running"}, p.absent...)
			}
			// Averages are exact where they divide by a power of two.
			p.exact = k != kernels.BatchNormForward && powerOfTwo(s.Ghost*s.HW) && s.N%s.Ghost == 0
			if i%3 == 1 {
				p.shift = 30
			}
			list = append(list, p)
			if s.Frozen == 0 && (k == kernels.BatchNormForward || k == kernels.BatchNormBackward) {
				s.Synced = 1
				p.shape, p.absent = s, append(slices.Clip(p.absent), [][]string{{"y"}, {"stats"}}[i%2]...)
				list = append(list, p)
			}
		}
	}
	return list
}

func powerOfTwo(v int32) bool { return v&(v-1) == 0 }

// pool writes a pooling whose output size is rounded down.
func pool(n, h, w, c, r, s, strideH, strideW, padH, padW int32) kernels.Pool {
	return kernels.Pool{N: n, H: h, W: w, C: c, R: r, S: s, StrideH: strideH, StrideW: strideW, PadH: padH, PadW: padW,
		OH: (h+2*padH-r)/strideH + 1, OW: (w+2*padW-s)/strideW + 1}
}

var pools = []kernels.Pool{
	pool(1, 1, 1, 1, 1, 1, 1, 1, 0, 0), pool(2, 8, 8, 16, 2, 2, 2, 2, 0, 0), pool(2, 8, 8, 64, 8, 8, 1, 1, 0, 0),
	pool(1, 7, 5, 3, 3, 3, 2, 2, 1, 1), pool(3, 7, 9, 17, 3, 3, 2, 2, 0, 0), pool(1, 6, 7, 5, 2, 2, 1, 1, 0, 0),
	pool(2, 5, 8, 7, 3, 2, 1, 3, 1, 1), pool(1, 9, 9, 33, 5, 5, 3, 3, 2, 2), pool(1, 4, 6, 10, 1, 3, 1, 2, 0, 1),
	pool(2, 7, 7, 10, 7, 7, 1, 1, 0, 0), pool(1, 6, 6, 16, 2, 2, 3, 3, 0, 0),
}

func poolProblems(k kernels.Kernel) []problem {
	var list []problem
	for _, s := range pools {
		maximum := k != kernels.AvgPoolForward && k != kernels.AvgPoolBackward
		exact := maximum || powerOfTwo(s.R*s.S)
		list = append(list, problem{shape: s, exact: exact})
		if k == kernels.MaxPoolBackward || k == kernels.AvgPoolBackward {
			s.Accumulate = 1
			list = append(list, problem{shape: s, exact: exact})
		}
	}
	return list
}

func softmaxProblems(k kernels.Kernel) []problem {
	var list []problem
	for _, size := range [][2]int32{{1, 2}, {3, 5}, {7, 10}, {5, 16}, {4, 17}, {2, 33}, {9, 100}, {2, 1000}} {
		for _, smoothing := range []float64{0, 0.1} {
			s := kernels.Softmax{N: size[0], Classes: size[1], Smoothing: smoothing}
			list = append(list, problem{shape: s}, problem{shape: s, absent: []string{"weight"}},
				problem{shape: s, absent: []string{"weight", "dlogits"}})
		}
	}
	return list
}

// counts lie on both sides of the vector widths and of a few unrolled blocks of them.
var counts = []int64{1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 130, 1000, 4099, 70001}

func otherProblems(k kernels.Kernel) []problem {
	var list []problem
	for i, n := range counts {
		switch k {
		case kernels.ReLUForward, kernels.Dot, kernels.MinMax:
			list = append(list, problem{shape: kernels.Vector{Count: n}, exact: true})
		case kernels.Norm:
			list = append(list, problem{shape: kernels.Vector{Count: n}})
		case kernels.ReLUBackward:
			list = append(list, problem{shape: kernels.Vector{Count: n}, exact: true}, problem{shape: kernels.Vector{Count: n, B: 1}, exact: true},
				problem{shape: kernels.Vector{Count: n}, exact: true, alias: "dx", of: "dy"})
		case kernels.Axpby, kernels.Add:
			for _, ab := range [][2]float64{{1, 1}, {2, 0}, {-0.5, 3}, {1, -1}, {0, 2}} {
				list = append(list, problem{shape: kernels.Vector{Count: n, A: ab[0], B: ab[1]}, exact: true})
			}
			list = append(list, problem{shape: kernels.Vector{Count: n, A: 0.1, B: 0.9}})
		case kernels.PGDStep:
			s := kernels.PGD{Count: n, Step: 0.5, Eps: 0.75}
			list = append(list, problem{shape: s, exact: true}, problem{shape: s, exact: true, alias: "out", of: "x", absent: []string{"bounds"}},
				problem{shape: kernels.PGD{Count: n, Step: -0.3, Eps: 0.7}}, problem{shape: kernels.PGD{Count: n, Step: 0.4, Eps: 0}})
		case kernels.SGD:
			list = append(list,
				problem{shape: kernels.SGDShape{Count: n, Momentum: 0.5, WeightDecay: 0.25}, exact: true},
				problem{shape: kernels.SGDShape{Count: n, Momentum: 0.5, Nesterov: 1}, exact: true},
				problem{shape: kernels.SGDShape{Count: n, Momentum: 0.9, WeightDecay: 5e-4, Nesterov: int32(i % 2)}},
				problem{shape: kernels.SGDShape{Count: n, WeightDecay: 5e-4}, absent: []string{"velocity"}})
		case kernels.Philox:
			for d := kernels.Bits; d <= kernels.Rademacher; d++ {
				s := kernels.PhiloxShape{Count: n, Distribution: d, Key0: 0xdeadbeef, Key1: uint32(i), Ctr1: 1 << 31, Ctr2: 7, Ctr3: 5<<24 | 3}
				list = append(list, problem{shape: s, exact: d != kernels.Normal})
			}
		}
	}
	switch k {
	case kernels.BatchNormFold:
		for _, size := range [][2]int32{{1, 1}, {3, 7}, {4, 16}, {8, 33}, {2, 64}} {
			list = append(list, problem{shape: kernels.Fold{Ghosts: size[0], C: size[1], Momentum: 0.5}, exact: true},
				problem{shape: kernels.Fold{Ghosts: size[0], C: size[1], Momentum: 0.1}})
		}
	case kernels.BatchNormCombine:
		for i, size := range [][5]int32{{1, 1, 1, 2, 2}, {4, 7, 1, 16, 1}, {8, 16, 2, 32, 64}, {5, 33, 4, 80, 3}, {3, 300, 8, 600, 9}, {128, 10, 4, 20, 25}} {
			s := kernels.Combine{Parts: size[0], C: size[1], Blocks: size[2], Stride: size[3], Values: int64(size[4])}
			exact := powerOfTwo(s.Parts)
			list = append(list, problem{shape: s, exact: exact})
			s.Variances = 1
			list = append(list, problem{shape: s, exact: exact, absent: []string{"stats"}}, problem{shape: s, shift: float64(30 * i)})
		}
	case kernels.Dropout:
		for i, size := range [][2]int32{{1, 8}, {3, 5}, {2, 64}, {7, 33}, {4, 1027}, {33, 4}} {
			s := kernels.DropoutShape{N: size[0], Per: size[1], Layer: int32(i * 13001), P: 0.5}
			list = append(list, problem{shape: s, exact: true}, problem{shape: s, exact: true, alias: "y", of: "x"})
			s.P = 0.1
			list = append(list, problem{shape: s})
			s.P = 0
			list = append(list, problem{shape: s, exact: true})
		}
	case kernels.ForwardGradient:
		for i, size := range [][2]int32{{1, 8}, {3, 5}, {2, 64}, {7, 33}, {4, 1027}, {33, 4}, {2, 5000}} {
			s := kernels.DropoutShape{N: size[0], Per: size[1], Layer: int32(i * 9001)}
			list = append(list, problem{shape: s, exact: true}, problem{shape: s, exact: true, alias: "dx", of: "dy"}, problem{shape: s})
		}
	case kernels.Augment:
		for _, s := range []kernels.AugmentShape{
			{N: 1, H: 1, W: 1, C: 1, Images: 1}, {N: 5, H: 32, W: 32, C: 3, Pad: 4, Flip: 1, Images: 9},
			{N: 9, H: 7, W: 5, C: 1, Pad: 2, Flip: 1, Cutout: 3, Images: 20}, {N: 3, H: 28, W: 28, C: 1, Images: 5},
			{N: 8, H: 9, W: 8, C: 3, Cutout: 4, Images: 8}, {N: 16, H: 6, W: 7, C: 4, Pad: 7, Images: 16},
			{N: 6, H: 5, W: 9, C: 3, Flip: 1, Cutout: 12, Images: 33}, {N: 7, H: 8, W: 17, C: 5, Pad: 1, Flip: 1, Images: 7},
		} {
			list = append(list, problem{shape: s})
		}
	}
	return list
}
