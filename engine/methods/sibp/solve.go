package sibp

import (
	"math"
	"runtime"
	"sync"
)

// Armijo's rule: a step is shortened by shorten until it gains a share of what the slope promises.
const (
	shorten   = 0.6
	share     = 0.4
	mostTrial = 50
	flat      = 1e-4 // the norm of a gradient that ends a fit
)

// fitLayer fits every unit, its weights and then its bias, to its column of the targets [samples][units]. Units are fitted
// side by side; none depends on another.
func fitLayer(x []float64, units []unit, targets []float64, samples int, relu bool, o Options) {
	var wait sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for k := range next {
				fitUnit(x, &units[k], column(targets, k, len(units), samples), relu, o)
			}
		}()
	}
	for k := range units {
		next <- k
	}
	close(next)
	wait.Wait()
}

func column(m []float64, k, width, rows int) []float64 {
	out := make([]float64, rows)
	for s := range out {
		out[s] = m[s*width+k]
	}
	return out
}

func fitUnit(x []float64, u *unit, target []float64, relu bool, o Options) {
	shift, ones := make([]float64, len(target)), make([]float64, len(target))
	for s := range shift {
		shift[s], ones[s] = u.bias, 1
	}
	u.weights = fit{x: x, shift: shift, target: target, relu: relu, lambda: o.Lambda}.minimise(u.weights, o.Iterations)
	n := len(u.weights)
	for s := range shift {
		shift[s] = dot(x[s*n:(s+1)*n], u.weights)
	}
	u.bias = fit{x: ones, shift: shift, target: target, relu: relu, lambda: o.Lambda}.minimise([]float64{u.bias}, o.Iterations)[0]
}

// fit is the problem of the w that minimise |s(xw + shift) - target|^2 + lambda |w - old|^2, where s is relu or nothing.
type fit struct {
	x             []float64 // [samples][len(w)]
	shift, target []float64 // [samples]
	relu          bool
	lambda        float64
}

// minimise takes so many conjugate gradients (Fletcher, Reeves) from old.
func (f fit) minimise(old []float64, iterations int) []float64 {
	w, n := append([]float64(nil), old...), len(old)
	g, d := make([]float64, n), make([]float64, n)
	z, along := make([]float64, len(f.target)), make([]float64, len(f.target))
	for s := range z {
		z[s] = f.shift[s] + dot(f.x[s*n:(s+1)*n], w)
	}
	before := 0.0 // squared norm of the gradient before
	for k := range iterations {
		f.gradient(g, z, w, old)
		now := dot(g, g)
		if math.Sqrt(now) < flat {
			break
		}
		direct(d, g, now, before, k > 0)
		before = now
		for s := range along {
			along[s] = dot(f.x[s*n:(s+1)*n], d)
		}
		step := f.armijo(z, along, w, d, old, dot(g, d))
		for i := range w {
			w[i] += step * d[i]
		}
		for s := range z {
			z[s] += step * along[s]
		}
	}
	return w
}

// direct turns the direction: against the gradient at first, and where the conjugate one would not descend.
func direct(d, g []float64, now, before float64, conjugate bool) {
	beta := 0.0
	if conjugate {
		beta = now / before
	}
	slope := 0.0
	for i := range d {
		d[i] = beta*d[i] - g[i]
		slope += d[i] * g[i]
	}
	if slope >= 0 {
		for i := range d {
			d[i] = -g[i]
		}
	}
}

// gradient writes that of the objective at w, whose outputs before s are z.
func (f fit) gradient(g, z, w, old []float64) {
	for i := range g {
		g[i] = 2 * f.lambda * (w[i] - old[i])
	}
	n := len(w)
	for s, v := range z {
		if f.relu && v <= 0 {
			continue
		}
		e := 2 * (v - f.target[s])
		for i, x := range f.x[s*n : (s+1)*n] {
			g[i] += e * x
		}
	}
}

// armijo returns how far to go along d, 0 if nowhere.
func (f fit) armijo(z, along, w, d, old []float64, slope float64) float64 {
	start := f.value(z, along, w, d, old, 0)
	step := 1.0
	for range mostTrial {
		if f.value(z, along, w, d, old, step) < start+share*step*slope {
			return step
		}
		step *= shorten
	}
	return 0
}

// value is the objective at w + step d.
func (f fit) value(z, along, w, d, old []float64, step float64) (sum float64) {
	for s, v := range z {
		if v += step * along[s]; f.relu {
			v = math.Max(v, 0)
		}
		sum += (v - f.target[s]) * (v - f.target[s])
	}
	for i := range w {
		c := w[i] + step*d[i] - old[i]
		sum += f.lambda * c * c
	}
	return sum
}

func dot(a, b []float64) (sum float64) {
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}
