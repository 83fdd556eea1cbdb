package autowu

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"broadside/engine/internal/portable"
)

// process is a Gaussian process with a constant mean and the kernel
//
//	k(x, x') = scale (exp(-(x - x')^2/(2 lengthscale^2)) + noise [x = x'])
//
// over [0, 1]. Its noise is relative to the scale.
type process struct{ mean, scale, noise float64 }

// lengthscale is fixed: losses are smooth over a fifth of the warm-up so far.
const lengthscale = 0.2

func correlation(a, b float64) float64 {
	d := (a - b) / lengthscale
	return portable.Exp(-d * d / 2)
}

// The relative noise is sought in between. The smallest keeps the Cholesky decomposition sound.
const leastNoise, mostNoise = 1e-6, 1e6

// fit chooses mean, scale and noise by maximum likelihood. With the noise given, the best mean and scale are known in
// closed form; in the eigenbasis of the correlations the likelihood of a noise costs one pass over the points. It fails
// where all y are equal.
func fit(x, y []float64) (process, bool, error) {
	n := len(x)
	r := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			r.SetSym(i, j, correlation(x[i], x[j]))
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(r, true) {
		return process{}, false, fmt.Errorf("the eigenvalues of %d correlations did not converge", n)
	}
	var q mat.Dense
	eigen.VectorsTo(&q)
	values, z, ones := eigen.Values(nil), make([]float64, n), make([]float64, n)
	for i := range n {
		for j := range n {
			z[i] += q.At(j, i) * y[j]
			ones[i] += q.At(j, i)
		}
	}
	best := func(logNoise float64) (process, float64) { return likelihood(values, z, ones, portable.Exp(logNoise)) }
	p, _ := best(maximize(func(v float64) float64 { _, l := best(v); return l }, math.Log(leastNoise), math.Log(mostNoise)))
	return p, p.scale > 0, nil
}

// likelihood returns the best process of a noise and the logarithm of its likelihood, but for a constant. z and ones are
// the points and a vector of ones in the eigenbasis of the correlations.
func likelihood(values, z, ones []float64, noise float64) (process, float64) {
	var zu, uu, logs float64
	for i, v := range values {
		w := 1 / (math.Max(v, 0) + noise)
		zu += w * z[i] * ones[i]
		uu += w * ones[i] * ones[i]
		logs += math.Log(w)
	}
	p := process{mean: zu / uu, noise: noise}
	for i, v := range values {
		d := z[i] - p.mean*ones[i]
		p.scale += d * d / (math.Max(v, 0) + noise) / float64(len(values))
	}
	return p, logs/2 - float64(len(values))/2*math.Log(p.scale)
}

// maximize returns where a function is largest in [low, high]: the best of a grid, refined by golden sections.
func maximize(f func(float64) float64, low, high float64) float64 {
	const grid = 56
	step, at, most := (high-low)/grid, low, math.Inf(-1)
	for i := range grid + 1 {
		if v := f(low + float64(i)*step); v > most {
			at, most = low+float64(i)*step, v
		}
	}
	a, b := math.Max(at-step, low), math.Min(at+step, high)
	golden := (math.Sqrt(5) - 1) / 2
	for range 40 {
		if l, r := b-golden*(b-a), a+golden*(b-a); f(l) >= f(r) {
			b = r
		} else {
			a = l
		}
	}
	return (a + b) / 2
}

// posterior is the process at points of interest after points were seen, without the noise of observing it.
type posterior struct {
	at    []float64
	mean  []float64
	scale float64
	v     *mat.Dense // L^-1 of the correlations of points seen (rows) and of interest (columns)
}

// condition returns the process at points of interest after points were seen.
func (p process) condition(x, y, at []float64) (posterior, error) {
	n := len(x)
	k := mat.NewSymDense(n, nil)
	rest := mat.NewVecDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			k.SetSym(i, j, correlation(x[i], x[j]))
		}
		k.SetSym(i, i, 1+p.noise)
		rest.SetVec(i, y[i]-p.mean)
	}
	var chol mat.Cholesky
	if !chol.Factorize(k) {
		return posterior{}, fmt.Errorf("the correlations of %d losses are not positive definite", n)
	}
	var l mat.TriDense
	chol.LTo(&l)
	cross := mat.NewDense(n, len(at), nil)
	for i := range n {
		for j, a := range at {
			cross.Set(i, j, correlation(x[i], a))
		}
	}
	out := posterior{at: at, mean: make([]float64, len(at)), scale: p.scale, v: &mat.Dense{}}
	if err := l.SolveTo(out.v, false, cross); err != nil {
		return posterior{}, err
	}
	var weights, mean mat.VecDense
	if err := chol.SolveVecTo(&weights, rest); err != nil {
		return posterior{}, err
	}
	mean.MulVec(cross.T(), &weights)
	for j := range at {
		out.mean[j] = p.mean + mean.AtVec(j)
	}
	return out, nil
}

// covariance returns that of points of interest i and j.
func (p posterior) covariance(i, j int) float64 {
	return p.scale * (correlation(p.at[i], p.at[j]) - mat.Dot(p.v.ColView(i), p.v.ColView(j)))
}

// lowest is the place of the smallest mean.
func (p posterior) lowest() int {
	best := 0
	for i, m := range p.mean {
		if m < p.mean[best] {
			best = i
		}
	}
	return best
}

// jitter keeps a difference of two nearly equal values from being certain, in squared units of the loss.
const jitter = 1e-4

// risen is the largest probability, over all earlier points, that the last one is higher.
func (p posterior) risen() float64 {
	last, most := len(p.mean)-1, 0.0
	variance := p.covariance(last, last)
	for i := range last {
		spread := math.Sqrt(math.Max(p.covariance(i, i)+variance-2*p.covariance(i, last), 0) + jitter)
		most = math.Max(most, math.Erfc((p.mean[i]-p.mean[last])/spread/math.Sqrt2)/2)
	}
	return most
}
