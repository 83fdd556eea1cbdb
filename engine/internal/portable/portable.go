// Package portable has the powers whose last bits training may depend on, with the same bits on every processor of an
// architecture. On x86-64 math.Exp takes another path where the processor has fused multiply-add, and math.Pow calls it
// for powers that are no integers. Start with [Exp].
package portable

import "math"

// Exp returns e^x. Its relative error is about |x| 2^-53.
func Exp(x float64) float64 { return math.Exp2(x * math.Log2E) }

// Pow returns x^y. Its relative error is about |y log2 x| 2^-53.
func Pow(x, y float64) float64 {
	if !(x > 0) || x == 1 || math.Abs(y) == 0.5 || y == math.Trunc(y) { // where math.Pow needs no exponential
		return math.Pow(x, y)
	}
	return math.Exp2(y * math.Log2(x))
}
