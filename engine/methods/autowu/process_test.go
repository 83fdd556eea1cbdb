package autowu

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"

	"broadside/kernels/philox"
)

// covariances is the kernel of a process on points, with the noise.
func (p process) covariances(x []float64) *mat.Dense {
	k := mat.NewDense(len(x), len(x), nil)
	for i := range x {
		for j := range x {
			k.Set(i, j, p.scale*correlation(x[i], x[j]))
		}
		k.Set(i, i, p.scale*(1+p.noise))
	}
	return k
}

// loglik is the logarithm of the normal density of y, by the definition, but for a constant.
func (p process) loglik(x, y []float64) float64 {
	k, d := p.covariances(x), mat.NewVecDense(len(x), nil)
	for i := range x {
		d.SetVec(i, y[i]-p.mean)
	}
	var inverse mat.Dense
	if err := inverse.Inverse(k); err != nil {
		panic(err)
	}
	logdet, _ := mat.LogDet(k)
	return -mat.Inner(d, &inverse, d)/2 - logdet/2
}

func sample(n int) (x, y []float64) {
	s := philox.NewStream(5, philox.Probe, 0, 0, 0)
	for i := range n {
		at := (float64(i) + s.Float64()) / float64(n)
		x, y = append(x, at), append(y, 2+math.Sin(7*at)+0.2*s.Norm())
	}
	return x, y
}

// No other mean, scale or noise makes the points more likely.
func TestFitIsTheMaximumOfTheLikelihood(t *testing.T) {
	x, y := sample(40)
	p, ok, err := fit(x, y)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	best := p.loglik(x, y)
	for _, by := range []float64{0.5, 0.9, 0.99, 1.01, 1.1, 2} {
		for name, q := range map[string]process{"mean": {p.mean * by, p.scale, p.noise}, "scale": {p.mean, p.scale * by, p.noise},
			"noise": {p.mean, p.scale, p.noise * by}} {
			if l := q.loglik(x, y); l > best {
				t.Errorf("%s times %g is more likely: %.9g against %.9g", name, by, l, best)
			}
		}
	}
	if deviation := math.Sqrt(p.scale * p.noise); deviation < 0.15 || deviation > 0.25 {
		t.Errorf("the noise has a standard deviation of %g; it was drawn with 0.2", deviation)
	}
	if _, ok, err := fit(x, make([]float64, len(x))); ok || err != nil {
		t.Errorf("losses that are all equal were fitted (%v)", err)
	}
}

// Mean and covariance after points were seen are those of the textbook formula.
func TestPosterior(t *testing.T) {
	x, y := sample(30)
	p := process{mean: 1.5, scale: 0.7, noise: 0.1}
	at := []float64{0, 0.3, 0.33, 1}
	got, err := p.condition(x, y, at)
	if err != nil {
		t.Fatal(err)
	}
	var inverse mat.Dense
	if err := inverse.Inverse(p.covariances(x)); err != nil {
		t.Fatal(err)
	}
	d := mat.NewVecDense(len(x), nil)
	cross := make([]*mat.VecDense, len(at))
	for j := range at {
		cross[j] = mat.NewVecDense(len(x), nil)
		for i := range x {
			cross[j].SetVec(i, p.scale*correlation(x[i], at[j]))
			d.SetVec(i, y[i]-p.mean)
		}
	}
	for i := range at {
		if want := p.mean + mat.Inner(cross[i], &inverse, d); math.Abs(got.mean[i]-want) > 1e-9 {
			t.Errorf("mean at %g: %g; want %g", at[i], got.mean[i], want)
		}
		for j := range at {
			want := p.scale*correlation(at[i], at[j]) - mat.Inner(cross[i], &inverse, cross[j])
			if math.Abs(got.covariance(i, j)-want) > 1e-9 {
				t.Errorf("covariance of %g and %g: %g; want %g", at[i], at[j], got.covariance(i, j), want)
			}
		}
	}
}

// With next to no doubt left the probability is that of two numbers: their difference over the jitter's deviation of 0.01.
func TestRisenByHand(t *testing.T) {
	p := posterior{at: []float64{0, 0.5, 1}, mean: []float64{3, 1, 1.01}, v: mat.NewDense(1, 3, nil)}
	if got, want := p.risen(), 0.841344746; math.Abs(got-want) > 1e-8 {
		t.Errorf("risen with probability %g; want %g, that of one standard deviation", got, want)
	}
	if p.lowest() != 1 {
		t.Errorf("lowest at point %d; want 1", p.lowest())
	}
}
