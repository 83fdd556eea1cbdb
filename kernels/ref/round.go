package ref

import (
	"math"

	"broadside/kernels"
)

// BFloat16 rounds v to bfloat16 (8 significant bits), to nearest, ties to even. Numbers beyond the range
// become infinite; denormal numbers keep 8 bits, which the kernels may flush to zero. NaN stays NaN.
func BFloat16(v float64) float64 {
	const dropped = 52 - 7 // bits of a float64's fraction beyond a bfloat16's
	return rounded(v, dropped, 1<<(dropped-1)-1+math.Float64bits(v)>>dropped&1)
}

// TF32 rounds v to tf32 (11 significant bits), to nearest, ties away from zero. All else is as in BFloat16.
func TF32(v float64) float64 {
	const dropped = 52 - 10
	return rounded(v, dropped, 1<<(dropped-1))
}

// rounded adds `half` to the bits of v and drops the last ones, within the range of float32.
func rounded(v float64, dropped int, half uint64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	near := math.Float64frombits((math.Float64bits(v) + half) >> dropped << dropped)
	if math.Abs(near) >= 0x1p128 {
		return math.Inf(int(math.Copysign(1, v)))
	}
	return near
}

// factors returns the first n cells of a factor of products: in a copy where they are rounded.
func factors(v []float64, n int, precision kernels.Precision) []float64 {
	round := BFloat16
	switch precision {
	case kernels.F32:
		return v
	case kernels.TF32:
		round = TF32
	}
	out := make([]float64, n)
	for i := range out {
		out[i] = round(v[i])
	}
	return out
}
