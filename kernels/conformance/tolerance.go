package conformance

import (
	"math"

	"broadside/kernels"
	"broadside/kernels/ref"
)

// How far a float32 kernel may be from the oracle on random numbers.
//
// Every float32 operation has a relative error of at most u = 2^-24. A result that is a sum of terms,
// each a product of few factors, is therefore off by at most (number of roundings on the way) u times
// its magnitude: the same formula evaluated with absolute values and without cancellation (Higham,
// "Accuracy and Stability of Numerical Algorithms", 2002, chapter 3). The magnitudes are computed here
// in float64.
//
//   - Element-wise formulas: the number of roundings is counted, constants rounded to float32 included.
//   - Reductions of L terms, in any order: L roundings in the worst case, which would hide mistakes.
//     Rounding errors behave like independent ones of mean zero, and then stay within
//     lambda sqrt(L) u but for a probability of 2 exp(-lambda^2 / 2) (Higham and Mary 2019). lambda = 6
//     makes that 3e-8 for a cell.
//
// Inputs on a kink need no care: masks, maxima and signs are decided on inputs, which are exact.
const (
	u      = 0x1p-24
	lambda = 6
	tiny   = 0x1p-120 // results this small may be flushed to zero
)

// elementwise returns ops u magnitude.
func elementwise(ops float64, magnitude []float64) []float64 {
	allowed := make([]float64, len(magnitude))
	for i, m := range magnitude {
		allowed[i] = ops*u*m + tiny
	}
	return allowed
}

// reduced returns lambda sqrt(terms) u magnitude. Eight more roundings than terms are allowed for what
// is done with the sums.
func reduced(terms int, magnitude []float64) []float64 {
	return elementwise(lambda*math.Sqrt(float64(terms+8)), magnitude)
}

// allowed returns the allowed errors of every output that is not exact, by argument name.
func (c *testCase) allowed(want *arena) map[string][]float64 {
	switch s := c.problem.shape.(type) {
	case kernels.Conv2D:
		return c.allowedConv(s)
	case kernels.BatchNorm:
		return c.allowedNorm(s)
	case kernels.Pool:
		return c.allowedPool(s)
	case kernels.Vector:
		return c.allowedVector(s)
	case kernels.Softmax:
		return c.allowedSoftmax(s)
	case kernels.Fold:
		return map[string][]float64{"running": elementwise(3*float64(s.Ghosts), c.magnitudes(func(c *testCase) {
			s.Momentum = -s.Momentum // 1 - momentum becomes 1 + momentum: no cancellation
			c.problem.shape = s
			for i, v := range c.values[0] {
				c.values[0][i] = -v
			}
		}, "running"))}
	case kernels.Combine: // sums in double, of which the result is rounded
		allowed := map[string][]float64{"out": elementwise(2, absolute(outputOf(want, 1)))}
		if c.value("stats") != nil {
			allowed["stats"] = elementwise(2, absolute(outputOf(want, 2)))
		}
		return allowed
	case kernels.DropoutShape:
		if c.kernel == kernels.ForwardGradient { // the sum is in double, and rounded once
			return map[string][]float64{"dx": elementwise(1, absolute(outputOf(want, 3)))}
		}
		// 1/(1-p) and the product
		return map[string][]float64{"y": elementwise(3, absolute(outputOf(want, 3)))}
	case kernels.AugmentShape:
		return map[string][]float64{"x": c.allowedAugment(s)}
	case kernels.PGD: // x + step, - clean, + clean, with step and eps rounded
		x, clean := c.value("x"), c.value("clean")
		return map[string][]float64{"out": elementwise(5, each(len(x), func(i int) float64 {
			return math.Abs(x[i]) + 2*math.Abs(clean[i]) + math.Abs(s.Step) + s.Eps
		}))}
	case kernels.SGDShape:
		return c.allowedSGD(s)
	case kernels.PhiloxShape:
		return map[string][]float64{"out": c.allowedNormal(s)}
	}
	return c.allowedStep(want)
}

func each(n int, f func(i int) float64) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = f(i)
	}
	return v
}

func absolute(v []float64) []float64 {
	return each(len(v), func(i int) float64 { return math.Abs(v[i]) })
}

func outputOf(a *arena, i int) []float64 { return a.readExact(i) }

// magnitudes evaluates an output by the oracle on the absolute values of all floats; change, where
// given, then adapts the case so that no two terms cancel.
func (c *testCase) magnitudes(change func(*testCase), output string) []float64 {
	m := *c
	m.values = make([][]float64, len(c.values))
	for i, v := range c.values {
		if m.values[i] = v; v != nil && c.layout[i].Kind == ref.Float {
			m.values[i] = absolute(v)
		}
	}
	if change != nil {
		change(&m)
	}
	result, err := m.run(ref.New())
	if err != nil {
		panic("conformance: the oracle refuses its own problem: " + err.Error())
	}
	for i, a := range c.layout {
		if a.Name == output && c.values[i] != nil {
			return result.readExact(i)
		}
	}
	return nil
}

func (c *testCase) allowedConv(s kernels.Conv2D) map[string][]float64 {
	taps := int(s.R) * int(s.S)
	positions := int(s.N) * int(s.OH) * int(s.OW)
	winograd := s.R == 3 && s.S == 3 && s.StrideH == 1 && s.StrideW == 1 && s.Groups == 1 && s.Precision == kernels.F32
	switch c.kernel {
	case kernels.Conv2DForward:
		linear := func(m *testCase) { // the magnitude is that before the ReLU
			s.ReLU = 0
			m.problem.shape = s
		}
		y := c.magnitudes(linear, "y")
		if winograd {
			y = largestNearby(y, int(s.OH), int(s.OW), int(s.K))
		}
		return map[string][]float64{"y": reduced(taps*int(s.C/s.Groups), y)}
	case kernels.Conv2DBackwardInput:
		dx := c.magnitudes(nil, "dx")
		if winograd {
			dx = largestNearby(dx, int(s.H), int(s.W), int(s.C))
		}
		return map[string][]float64{"dx": reduced(taps*int(s.K/s.Groups), dx)}
	}
	dw := c.magnitudes(nil, "dw")
	if winograd {
		dw = largestNearby(dw, 3, 3, int(s.C))
	}
	return map[string][]float64{"dw": reduced(positions, dw), "dbias": reduced(positions, c.magnitudes(nil, "dbias"))}
}

// largestNearby returns, for each cell of [n][h][w][c], the largest magnitude among its pixel and the
// eight around it: Winograd's transforms (Lavin and Gray 2016) of a 3x3 convolution add and subtract
// neighbours, whose rounding errors therefore meet in one cell.
func largestNearby(v []float64, h, w, c int) []float64 {
	return each(len(v), func(i int) float64 {
		channel, x, y, image := i%c, i/c%w, i/(c*w)%h, i/(c*w*h)
		largest := 0.0
		for ny := max(y-1, 0); ny <= min(y+1, h-1); ny++ {
			for nx := max(x-1, 0); nx <= min(x+1, w-1); nx++ {
				largest = max(largest, v[((image*h+ny)*w+nx)*c+channel])
			}
		}
		return largest
	})
}

func (c *testCase) allowedPool(s kernels.Pool) map[string][]float64 {
	window := int(s.R) * int(s.S)
	switch c.kernel {
	case kernels.MaxPoolBackward, kernels.AvgPoolBackward: // as many windows as overlap a pixel
		return map[string][]float64{"dx": reduced(window, c.magnitudes(nil, "dx"))}
	case kernels.AvgPoolForward:
		return map[string][]float64{"y": reduced(window, c.magnitudes(nil, "y"))}
	}
	return nil // maxima are copies
}

func (c *testCase) allowedVector(s kernels.Vector) map[string][]float64 {
	factors := func(m *testCase) {
		s.A, s.B = math.Abs(s.A), math.Abs(s.B)
		m.problem.shape = s
	}
	switch c.kernel {
	case kernels.Axpby, kernels.Add: // a, b and their products rounded, at most, and the sum
		return map[string][]float64{"y": elementwise(3, c.magnitudes(factors, "y"))}
	case kernels.ReLUBackward:
		return map[string][]float64{"dx": elementwise(1, c.magnitudes(factors, "dx"))}
	case kernels.MulAdd: // a, b and their products rounded, the product with z, and the sum
		return map[string][]float64{"y": elementwise(4, c.magnitudes(factors, "y"))}
	case kernels.Median: // a, the sum and the quotient rounded: no order of quotients changes by more
		return map[string][]float64{"out": elementwise(3, c.magnitudes(nil, "out"))}
	case kernels.SNR: // sums in double; the factor and the product rounded
		return map[string][]float64{"g": elementwise(2, absolute(c.value("g")))}
	case kernels.Dot, kernels.Norm: // sums in double: products may be float32, but no error grows with the length
		return map[string][]float64{"out": elementwise(2, c.magnitudes(nil, "out"))}
	}
	return nil
}

// allowedSoftmax: an exponential of z - max is off by u |z - max| and a few u; so is the sum of them,
// on average over the classes.
func (c *testCase) allowedSoftmax(s kernels.Softmax) map[string][]float64 {
	classes, weight := int(s.Classes), c.value("weight")
	scale := func(i int) float64 {
		if weight == nil {
			return 1
		}
		return math.Abs(weight[i])
	}
	if c.kernel == kernels.SoftmaxXentTangent {
		p, t := c.value("prob"), c.value("tlogits")
		mean := make([]float64, s.N)
		for i := range p {
			mean[i/classes] += p[i] * math.Abs(t[i])
		}
		return map[string][]float64{"tdlogits": reduced(classes, each(len(p), func(i int) float64 {
			return scale(i/classes) * p[i] * (math.Abs(t[i]) + mean[i/classes])
		}))}
	}
	z, label := c.value("logits"), c.value("label")
	loss, prob, dlogits := make([]float64, s.N), make([]float64, len(z)), make([]float64, len(z))
	for i := range int(s.N) {
		row := z[i*classes : (i+1)*classes]
		largest, sum, range1 := row[0], 0.0, 0.0
		for _, v := range row {
			largest = max(largest, v)
		}
		for _, v := range row {
			sum += math.Exp(v - largest)
			range1 += math.Exp(v-largest) * (largest - v)
		}
		common := 2 + math.Log(sum) + range1/sum
		for j, v := range row {
			target := s.Smoothing / float64(classes)
			if j == int(label[i]) {
				target += 1 - s.Smoothing
			}
			p := math.Exp(v-largest) / sum
			k := i*classes + j
			prob[k] = p * (common + largest - v)
			dlogits[k] = scale(i) * (prob[k] + target)
			loss[i] += scale(i) * target * (common + largest - v)
		}
	}
	return map[string][]float64{"loss": reduced(classes, loss), "prob": reduced(classes, prob), "dlogits": reduced(classes, dlogits)}
}

// allowedAugment: byte/255 is off by two roundings, the difference and the product by one each.
func (c *testCase) allowedAugment(s kernels.AugmentShape) []float64 {
	normal, ch := c.value("normal"), int(s.C)
	return elementwise(4, each(int(s.N)*int(s.H)*int(s.W)*ch, func(i int) float64 {
		return (1 + math.Abs(normal[i%ch])) * math.Abs(normal[ch+i%ch])
	}))
}

// allowedSGD counts the roundings of gain (g scale + weight_decay w) (4: the gain's product has
// to fit into the bound of an update without one), momentum v + d (2), nesterov (2)
// and w - lr v (2).
func (c *testCase) allowedSGD(s kernels.SGDShape) map[string][]float64 {
	w, g, v, hyper := c.value("w"), c.value("g"), c.value("velocity"), c.value("hyper")
	velocity := each(len(w), func(i int) float64 {
		d := hyper[2] * (hyper[1]*math.Abs(g[i]) + s.WeightDecay*math.Abs(w[i]))
		if v != nil {
			d += s.Momentum * math.Abs(v[i])
		}
		return d
	})
	return map[string][]float64{"velocity": elementwise(6, velocity), "w": elementwise(10, each(len(w), func(i int) float64 {
		return math.Abs(w[i]) + hyper[0]*(1+s.Momentum)*velocity[i]
	}))}
}

// allowedNormal bounds the error of Box-Muller, z = r cos(a): r = sqrt(-2 ln u1) with a relative error
// of u in u1 (which does not fit a float32 near 1) is off by u/r, or by sqrt(2 u) where r is near 0; the
// angle a = 2 pi u2, a few times rounded, is off by a few of its 2 pi u.
func (c *testCase) allowedNormal(s kernels.PhiloxShape) []float64 {
	if s.Distribution != kernels.Normal {
		return nil
	}
	bits := *c
	s.Distribution = kernels.Bits
	bits.problem.shape = s
	result, err := bits.run(ref.New())
	if err != nil {
		panic("conformance: the oracle refuses its own problem: " + err.Error())
	}
	n := len(c.values[0])
	words := result.memoryOf(0).(*ref.Memory).Floats()[result.refs[0].Offset:]
	return each(n, func(i int) float64 {
		first := min(i&^1, n-1)
		u1 := (math.Floor(words[first]/256) + 0.5) * 0x1p-24
		r := math.Sqrt(-2 * math.Log(u1))
		return u*r*(4+6*math.Pi) + 2*min(u/r, math.Sqrt(2*u))
	})
}
