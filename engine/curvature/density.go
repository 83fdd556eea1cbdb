package curvature

import (
	"fmt"
	"math"
)

// DensityOptions steer the estimate of the spectral density.
type DensityOptions struct {
	Steps  int // Lanczos steps of each start: products, and vectors held
	Starts int // random start vectors
}

// Density is an estimate of the density of all eigenvalues.
type Density struct {
	Runs []Quadrature `json:"runs"` // of each start
	Mean float64      `json:"mean"` // of the eigenvalues: the trace divided by the number of parameters
}

// EstimateDensity is the stochastic Lanczos quadrature (Golub and Meurant 1994; Ghorbani et al. 2019):
// the quadratures that Lanczos iterations from random signs give, averaged. It holds Steps+1 vectors.
func EstimateDensity(h Hessian, o DensityOptions) (*Density, error) {
	if o.Steps < 1 || o.Starts < 1 {
		return nil, fmt.Errorf("spectral density: want at least 1 step and 1 start, got %d and %d", o.Steps, o.Starts)
	}
	l, err := newLanczos(h, o.Steps)
	if err != nil {
		return nil, fmt.Errorf("spectral density: %w", err)
	}
	defer l.free()
	d := &Density{}
	for i := range o.Starts {
		q, err := l.run(i)
		if err != nil {
			return nil, fmt.Errorf("spectral density, start %d: %w", i+1, err)
		}
		d.Runs = append(d.Runs, q)
		d.Mean += q.Mean() / float64(o.Starts)
	}
	return d, nil
}

// Curve is the density smoothed by Gaussians and sampled on an even grid, on which it sums to 1.
type Curve struct {
	Eigenvalue, Density []float64
	Step                float64 // of the grid
}

// The smoothing is PyHessian's (Yao et al. 2020).
const (
	margin         = 0.01 // of the grid beyond the extreme nodes
	smoothingShare = 1e-5 // variance of the Gaussians as a share of the range of eigenvalues, where that is above 1
)

// Curve smooths the density on a grid of so many points, at least 2, from the mean of the runs'
// smallest nodes to that of their largest. A Gaussian is at least as wide as a step of the grid.
func (d *Density) Curve(points int) (*Curve, error) {
	if points < 2 {
		return nil, fmt.Errorf("density curve of %d points: want at least 2", points)
	}
	low, high := -margin, margin
	runs := float64(len(d.Runs))
	for _, q := range d.Runs {
		low += q.Nodes[0] / runs
		high += q.Nodes[len(q.Nodes)-1] / runs
	}
	c := &Curve{Eigenvalue: make([]float64, points), Density: make([]float64, points), Step: (high - low) / float64(points-1)}
	variance := max(smoothingShare*max(1, high-low), c.Step*c.Step)
	total := 0.0
	for i := range points {
		c.Eigenvalue[i] = low + float64(i)*c.Step
		for _, q := range d.Runs {
			for j, w := range q.Weights {
				off := c.Eigenvalue[i] - q.Nodes[j]
				c.Density[i] += w * math.Exp(-off*off/(2*variance))
			}
		}
		total += c.Density[i] * c.Step
	}
	for i := range c.Density {
		c.Density[i] /= total
	}
	return c, nil
}
