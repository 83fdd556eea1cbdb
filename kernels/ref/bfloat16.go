package ref

import "math"

// maxBFloat16 is the largest finite bfloat16.
const maxBFloat16 = 0x1.fep127

// BFloat16 rounds v to bfloat16 (8 significant bits), to nearest, ties to even. Numbers beyond the range
// become infinite; denormal numbers keep 8 bits, which the kernels may flush to zero. NaN stays NaN.
func BFloat16(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	const dropped = 52 - 7 // bits of a float64's fraction beyond a bfloat16's
	bits := math.Float64bits(v)
	bits += 1<<(dropped-1) - 1 + bits>>dropped&1
	rounded := math.Float64frombits(bits &^ (1<<dropped - 1))
	if math.Abs(rounded) > maxBFloat16 {
		return math.Inf(int(math.Copysign(1, v)))
	}
	return rounded
}

// factors returns the first n cells of a factor of products: rounded, in a copy, where bf16 is set.
func factors(v []float64, n int, bf16 int32) []float64 {
	if bf16 == 0 {
		return v
	}
	rounded := make([]float64, n)
	for i := range rounded {
		rounded[i] = BFloat16(v[i])
	}
	return rounded
}
