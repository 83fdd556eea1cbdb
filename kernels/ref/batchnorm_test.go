package ref

import (
	"fmt"
	"math"
	"testing"

	"broadside/kernels"
)

// A normCase is one batch normalisation with a direction of differentiation and a cotangent.
type normCase struct {
	s                                      kernels.BatchNorm
	x, gamma, beta, residual, set, running []float64
	tx, tgamma, tbeta, tresidual, dy, tdy  []float64
	y, saved, stats, sums, tsaved, ty      []float64
	dx, dresidual, dgamma, dbeta           []float64
	tdx, tdresidual, hgamma, hbeta         []float64
}

const normSets = 2

// newNormCase draws a case whose outputs are all at least 1e-3 away from the ReLU's kink: central
// differences with a step of 1e-5 must not cross it.
func newNormCase(t *testing.T, s kernels.BatchNorm, withResidual bool) *normCase {
	for seed := range uint64(10000) {
		c := drawNormCase(s, withResidual, seed)
		linear := s
		linear.ReLU = 0
		c.forward(t, linear, 0)
		nearest := math.Inf(1)
		for _, v := range c.y {
			nearest = min(nearest, math.Abs(v))
		}
		if s.ReLU == 0 || nearest > 1e-3 {
			return c
		}
	}
	t.Fatal("no seed keeps away from the kink")
	return nil
}

func drawNormCase(s kernels.BatchNorm, withResidual bool, seed uint64) *normCase {
	rng := stream(seed)
	size, ch, ghosts := int(s.N)*int(s.HW)*int(s.C), int(s.C), s.Ghosts()
	c := &normCase{s: s}
	for _, v := range []*[]float64{&c.x, &c.tx, &c.dy, &c.tdy, &c.tresidual} {
		*v = normals(rng, size)
	}
	if withResidual {
		c.residual = normals(rng, size)
	} else {
		c.tresidual = nil
	}
	for _, v := range []*[]float64{&c.gamma, &c.beta, &c.tgamma, &c.tbeta} {
		*v = normals(rng, normSets*ch)
	}
	for range normSets {
		c.running = append(c.running, normals(rng, ch)...)
		for range ch {
			c.running = append(c.running, 0.5+rng.Float64())
		}
	}
	for g := range ghosts {
		c.set = append(c.set, float64((g+1)%normSets))
	}
	for _, v := range []*[]float64{&c.y, &c.ty, &c.dx, &c.dresidual, &c.tdx, &c.tdresidual} {
		*v = make([]float64, size)
	}
	for _, v := range []*[]float64{&c.saved, &c.stats, &c.sums, &c.tsaved} {
		*v = make([]float64, ghosts*2*ch)
	}
	for _, v := range []*[]float64{&c.dgamma, &c.dbeta, &c.hgamma, &c.hbeta} {
		*v = make([]float64, normSets*ch)
	}
	return c
}

// forward runs the forward pass at the point moved h along the direction; it returns y.
func (c *normCase) forward(t *testing.T, s kernels.BatchNorm, h float64) []float64 {
	t.Helper()
	var residual []float64
	if c.residual != nil {
		residual = moved(c.residual, h, c.tresidual)
	}
	mustRun(t, kernels.BatchNormForward, s, moved(c.x, h, c.tx), moved(c.gamma, h, c.tgamma), moved(c.beta, h, c.tbeta),
		residual, c.set, c.running, c.y, c.saved, c.stats)
	return append([]float64(nil), c.y...)
}

// backward runs both passes at the moved point and returns dx, dresidual, dgamma, dbeta in one slice.
func (c *normCase) backward(t *testing.T, h float64) []float64 {
	t.Helper()
	c.forward(t, c.s, h)
	clear(c.dgamma)
	clear(c.dbeta)
	mustRun(t, kernels.BatchNormBackward, c.s, moved(c.x, h, c.tx), c.y, moved(c.dy, h, c.tdy), moved(c.gamma, h, c.tgamma),
		c.set, c.saved, c.dx, c.dresidual, c.dgamma, c.dbeta, c.sums)
	return join(c.dx, c.dresidual, c.dgamma, c.dbeta)
}

func join(parts ...[]float64) []float64 {
	var all []float64
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func eachNormCase(t *testing.T, f func(t *testing.T, c *normCase)) {
	for _, frozen := range []int32{0, 1} {
		for _, relu := range []int32{0, 1} {
			for _, residual := range []bool{false, true} {
				s := kernels.BatchNorm{N: 5, HW: 3, C: 2, Ghost: 2, Frozen: frozen, ReLU: relu, Eps: 1e-5}
				t.Run(fmt.Sprintf("frozen=%d relu=%d residual=%t", frozen, relu, residual), func(t *testing.T) {
					f(t, newNormCase(t, s, residual))
				})
			}
		}
	}
}

func TestBatchNormBackward(t *testing.T) {
	eachNormCase(t, func(t *testing.T, c *normCase) {
		c.backward(t, 0)
		loss := func() float64 { return dot(c.forward(t, c.s, 0), c.dy) }
		checkGradient(t, "dx", loss, c.x, c.dx)
		checkGradient(t, "dgamma", loss, c.gamma, c.dgamma)
		checkGradient(t, "dbeta", loss, c.beta, c.dbeta)
		if c.residual != nil {
			checkGradient(t, "dresidual", loss, c.residual, c.dresidual)
		}
	})
}

func TestBatchNormTangents(t *testing.T) {
	eachNormCase(t, func(t *testing.T, c *normCase) {
		wantForward := difference(func(h float64) []float64 { return c.forward(t, c.s, h) })
		wantBackward := difference(func(h float64) []float64 { return c.backward(t, h) })
		c.backward(t, 0)
		mustRun(t, kernels.BatchNormTangentForward, c.s, c.x, c.y, c.gamma, c.set, c.saved, c.tx, c.tgamma, c.tbeta,
			c.tresidual, c.ty, c.tsaved)
		same(t, "ty", c.ty, wantForward)
		mustRun(t, kernels.BatchNormTangentBackward, c.s, c.x, c.y, c.dy, c.gamma, c.set, c.saved, c.sums, c.tx, c.tsaved,
			c.tdy, c.tgamma, c.tdx, c.tdresidual, c.hgamma, c.hbeta)
		same(t, "tdx, tdresidual, hgamma, hbeta", join(c.tdx, c.tdresidual, c.hgamma, c.hbeta), wantBackward)
		for _, v := range c.tsaved {
			if c.s.Frozen != 0 && v != 0 {
				t.Errorf("tsaved holds %v though the statistics are frozen", v)
			}
		}
	})
}

// By hand: one channel with values 2, 6, 10 in the first ghost and 1, 1, 4 in the second.
func TestBatchNormStatistics(t *testing.T) {
	s := kernels.BatchNorm{N: 5, HW: 1, C: 1, Ghost: 2}
	if err := tryRun(kernels.BatchNormForward, s, make([]float64, 5), make([]float64, 1), make([]float64, 1), nil, nil, nil,
		make([]float64, 5), make([]float64, 6), nil); err == nil {
		t.Error("a last ghost of one element, whose variance is 0, is not refused")
	}
	s.Ghost, s.N = 3, 6
	y, saved, stats := make([]float64, 6), make([]float64, 4), make([]float64, 4)
	mustRun(t, kernels.BatchNormForward, s, []float64{2, 6, 10, 1, 1, 4}, []float64{2}, []float64{5}, nil, nil, nil, y, saved, stats)
	for i, want := range []float64{6, 16, 2, 3} {
		if !near(stats[i], want) {
			t.Errorf("stats[%d] = %v, want %v", i, stats[i], want)
		}
	}
	if want := 5 + 2*4/math.Sqrt(32./3); !near(y[2], want) {
		t.Errorf("y[2] = %v, want %v", y[2], want)
	}
	running := []float64{100, 200}
	mustRun(t, kernels.BatchNormFold, kernels.Fold{Ghosts: 2, C: 1, Momentum: 0.1}, stats, running)
	if want := []float64{0.81*100 + 0.09*6 + 0.1*2, 0.81*200 + 0.09*16 + 0.1*3}; !near(running[0], want[0]) || !near(running[1], want[1]) {
		t.Errorf("running = %v, want %v", running, want)
	}
}

func TestBatchNormRefusesSets(t *testing.T) {
	s := kernels.BatchNorm{N: 4, HW: 1, C: 2, Ghost: 2}
	for _, set := range [][]float64{{0, 2}, {-1, 0}} {
		err := tryRun(kernels.BatchNormForward, s, make([]float64, 8), make([]float64, 4), make([]float64, 4), nil, set, nil,
			make([]float64, 8), make([]float64, 8), nil)
		if err == nil {
			t.Errorf("parameter sets %v of 2 are not refused", set)
		}
	}
}
