package ref

import (
	"fmt"
	"math"

	"broadside/kernels"
)

// A normGhost is one ghost's part of a batch normalisation: elements first*c to last*c of the
// activations, where row i is one position of one sample; offset of its parameter set ([sets][c]) and
// of its statistics ([ghosts][2][c]: the first kind at stat, the second at stat+c).
type normGhost struct {
	first, last int
	param, stat int
}

// rows is the number of elements the ghost averages over in each channel.
func (g normGhost) rows() float64 { return float64(g.last - g.first) }

// ghostsOf lists the ghosts of a shape. sets is how many parameter sets there are.
func ghostsOf(s kernels.BatchNorm, set []float64, sets int) ([]normGhost, error) {
	ghosts := make([]normGhost, s.Ghosts())
	for i := range ghosts {
		last := min((i+1)*int(s.Ghost), int(s.N))
		g := normGhost{first: i * int(s.Ghost) * int(s.HW), last: last * int(s.HW), stat: i * 2 * int(s.C)}
		if set != nil {
			id := int(set[i])
			if id < 0 || id >= sets {
				return nil, fmt.Errorf("ghost %d uses parameter set %d of %d: %w", i, id, sets, ErrBadArgument)
			}
			g.param = id * int(s.C)
		}
		ghosts[i] = g
	}
	return ghosts, nil
}

// batchNormForward normalises each channel of each ghost: xhat = (x - mean) rstd,
// y = gamma xhat + beta + residual, rectified if relu (Ioffe and Szegedy 2015; ghosts: Hoffer et al. 2017). A synced
// call only finds the mean and the biased variance.
func batchNormForward(s kernels.BatchNorm, x, gamma, beta, residual, set, running, y, saved, stats []float64) error {
	c := int(s.C)
	ghosts, err := ghostsOf(s, set, len(gamma)/c)
	if err != nil {
		return err
	}
	for _, g := range ghosts {
		for ch := range c {
			var mean, variance float64
			if s.Frozen != 0 {
				mean, variance = running[2*g.param+ch], running[2*g.param+c+ch]
			} else {
				var unbiased float64
				mean, variance, unbiased = moments(x, g, ch, c)
				if s.Synced != 0 {
					saved[g.stat+ch], saved[g.stat+c+ch] = mean, variance
					continue
				}
				if stats != nil {
					stats[g.stat+ch], stats[g.stat+c+ch] = mean, unbiased
				}
			}
			rstd := 1 / math.Sqrt(variance+s.Eps)
			saved[g.stat+ch], saved[g.stat+c+ch] = mean, rstd
			for row := g.first; row < g.last; row++ {
				i := row*c + ch
				v := gamma[g.param+ch]*(x[i]-mean)*rstd + beta[g.param+ch]
				if residual != nil {
					v += residual[i]
				}
				if s.ReLU != 0 {
					v = max(0, v)
				}
				y[i] = v
			}
		}
	}
	return nil
}

// moments returns the mean and the biased and unbiased variance of a channel in a ghost.
func moments(x []float64, g normGhost, ch, c int) (mean, biased, unbiased float64) {
	for row := g.first; row < g.last; row++ {
		mean += x[row*c+ch]
	}
	mean /= g.rows()
	squares := 0.0
	for row := g.first; row < g.last; row++ {
		d := x[row*c+ch] - mean
		squares += d * d
	}
	return mean, squares / g.rows(), squares / (g.rows() - 1)
}

// passes reports whether the adjoint passes element i: always, or where y > 0 under a ReLU.
func passes(s kernels.BatchNorm, y []float64, i int) bool { return s.ReLU == 0 || y[i] > 0 }

// put stores v at out[i], or adds it if add is set; out may be nil.
func put(out []float64, i int, v float64, add bool) {
	switch {
	case out == nil:
	case add:
		out[i] += v
	default:
		out[i] = v
	}
}

// batchNormBackward, with g = dy masked by the ReLU, s1 = <g>, s2 = <g xhat>:
// dx = gamma rstd (g - s1 - xhat s2), and dx = gamma rstd g if frozen; dgamma += sum g xhat; dbeta += sum g. A synced
// call is given s1 and s2 and only does dx and dresidual.
func batchNormBackward(s kernels.BatchNorm, x, y, dy, gamma, set, saved, dx, dresidual, dgamma, dbeta, sums []float64) error {
	c := int(s.C)
	ghosts, err := ghostsOf(s, set, len(gamma)/c)
	if err != nil {
		return err
	}
	for _, g := range ghosts {
		for ch := range c {
			mean, rstd := saved[g.stat+ch], saved[g.stat+c+ch]
			var sumG, sumGX float64
			for row := g.first; row < g.last; row++ {
				if i := row*c + ch; passes(s, y, i) {
					sumG += dy[i]
					sumGX += dy[i] * (x[i] - mean) * rstd
				}
			}
			s1, s2 := sumG/g.rows(), sumGX/g.rows()
			if s.Synced != 0 {
				s1, s2 = sums[g.stat+ch], sums[g.stat+c+ch]
			} else {
				sums[g.stat+ch], sums[g.stat+c+ch] = s1, s2
				put(dgamma, g.param+ch, sumGX, true)
				put(dbeta, g.param+ch, sumG, true)
			}
			if s.Frozen != 0 {
				s1, s2 = 0, 0 // the statistics are constants
			}
			for row := g.first; row < g.last; row++ {
				i := row*c + ch
				v := 0.0
				if passes(s, y, i) {
					v = dy[i]
				}
				xhat := (x[i] - mean) * rstd
				put(dx, i, gamma[g.param+ch]*rstd*(v-s1-xhat*s2), s.Accumulate&1 != 0)
				put(dresidual, i, v, s.Accumulate&2 != 0)
			}
		}
	}
	return nil
}

// batchNormCombine joins the statistics of parts of a batch, which have as many values each: the batch's variance is the
// mean of the parts' variances and the variance of their means (Chan, Golub and LeVeque 1983).
func batchNormCombine(s kernels.Combine, rows, out, stats []float64) error {
	c, parts := int(s.C), float64(s.Parts)
	ofBlock := (int(s.Parts) + int(s.Blocks) - 1) / int(s.Blocks)
	for ch := range c {
		var mean, second float64
		at := func(i int) int { return (i%int(s.Blocks)*ofBlock+i/int(s.Blocks))*int(s.Stride) + ch }
		for i := range int(s.Parts) {
			mean += rows[at(i)] / parts
			second += rows[at(i)+c] / parts
		}
		if s.Variances != 0 {
			for i := range int(s.Parts) {
				second += (rows[at(i)] - mean) * (rows[at(i)] - mean) / parts
			}
			if stats != nil {
				n := parts * float64(s.Values)
				stats[ch], stats[c+ch] = mean, second*n/(n-1)
			}
		}
		out[ch], out[c+ch] = mean, second
	}
	return nil
}

// batchNormFold folds the statistics of the ghosts into the running ones, in order.
func batchNormFold(s kernels.Fold, stats, running []float64) error {
	width := 2 * int(s.C)
	for g := range int(s.Ghosts) {
		for i := range width {
			running[i] = (1-s.Momentum)*running[i] + s.Momentum*stats[g*width+i]
		}
	}
	return nil
}
