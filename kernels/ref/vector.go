package ref

import (
	"math"

	"broadside/kernels"
)

// reluForward: y = max(0, x).
func reluForward(s kernels.Vector, x, y []float64) error {
	for i := range y[:s.Count] {
		y[i] = max(0, x[i])
	}
	return nil
}

// reluBackward: dx = b dx + dy [y > 0].
func reluBackward(s kernels.Vector, y, dy, dx []float64) error {
	for i := range dx[:s.Count] {
		v := 0.0
		if y[i] > 0 {
			v = dy[i]
		}
		put(dx, i, v, s.B != 0)
	}
	return nil
}

// axpby: y = a x + b y. A term with a factor of zero is not read, so zeroing clears a NaN.
func axpby(s kernels.Vector, x, y []float64) error {
	for i := range y[:s.Count] {
		sum := 0.0
		if s.A != 0 {
			sum = s.A * x[i]
		}
		if s.B != 0 {
			sum += s.B * y[i]
		}
		y[i] = sum
	}
	return nil
}

// add: y = a x + b z.
func add(s kernels.Vector, x, z, y []float64) error {
	for i := range y[:s.Count] {
		y[i] = s.A*x[i] + s.B*z[i]
	}
	return nil
}

// mulAdd: y = a x z + b y.
func mulAdd(s kernels.Vector, x, z, y []float64) error {
	for i := range y[:s.Count] {
		v := s.A * x[i] * z[i]
		if s.B != 0 {
			v += s.B * y[i]
		}
		y[i] = v
	}
	return nil
}

// dotProduct: out = sum x z.
func dotProduct(s kernels.Vector, x, z, out []float64) error {
	out[0] = dot(x[:s.Count], z[:s.Count])
	return nil
}

// norm: out = sqrt(sum x^2).
func norm(s kernels.Vector, x, out []float64) error {
	out[0] = math.Sqrt(dot(x[:s.Count], x[:s.Count]))
	return nil
}

// minMax: out = the smallest and the largest element.
func minMax(s kernels.Vector, x, out []float64) error {
	out[0], out[1] = x[0], x[0]
	for _, v := range x[:s.Count] {
		out[0], out[1] = min(out[0], v), max(out[1], v)
	}
	return nil
}
