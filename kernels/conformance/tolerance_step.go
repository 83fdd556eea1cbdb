package conformance

import (
	"math"

	"broadside/kernels"
)

// allowedStep returns the allowed errors of the kernels that step rules are made of. What they compute of a tensor is
// computed in double and rounded at last.
func (c *testCase) allowedStep(want *arena) map[string][]float64 {
	switch s := c.problem.shape.(type) {
	case kernels.ClipShape:
		return map[string][]float64{"hyper": elementwise(1, absolute(outputOf(want, 1)))}
	case kernels.AGCShape: // the factor and the product rounded
		return map[string][]float64{"g": elementwise(2, absolute(c.value("g")))}
	case kernels.TrustShape: // one rounding; another number may be on the other side of it
		return map[string][]float64{"out": elementwise(2, absolute(outputOf(want, 4)))}
	case kernels.AdamShape:
		return c.allowedAdam(s, want)
	}
	return nil
}

// allowedAdam counts the roundings of d = scale g (1), m = beta1 m + (1-beta1) d (6), square (7), which the root
// halves, c m / (c root + eps) (6, the root's 1 included) and weight_decay w (3).
func (c *testCase) allowedAdam(s kernels.AdamShape, want *arena) map[string][]float64 {
	w, g, m, hyper, correction := c.value("w"), c.value("g"), c.value("m"), c.value("hyper"), c.value("correction")
	mean := each(len(w), func(i int) float64 {
		return s.Beta1*math.Abs(m[i]) + (1-s.Beta1)*hyper[1]*math.Abs(g[i])
	})
	square := outputOf(want, 3)
	u := each(len(w), func(i int) float64 {
		return correction[0]*mean[i]/(correction[1]*math.Sqrt(square[i])+s.Eps) + s.WeightDecay*math.Abs(w[i])
	})
	return map[string][]float64{"m": elementwise(6, mean), "square": elementwise(8, square), "u": elementwise(18, u)}
}
