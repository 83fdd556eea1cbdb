package ref

import "broadside/kernels"

// The tangents of batch normalisation: the directional derivatives R{.} of the forward and of the
// backward pass (Pearlmutter 1994). With r = rstd and averages <.> over a ghost and channel:
//
//	R{xhat} = r (tx - <tx> - xhat <xhat tx>), R{r} = -r^2 <xhat tx>
//
// and if frozen, where mean and r are constants, R{xhat} = r tx and R{r} = 0.

// batchNormTangentForward: ty = gamma R{xhat} + tgamma xhat + tbeta + tresidual, masked by y > 0 if relu.
func batchNormTangentForward(s kernels.BatchNorm, x, y, gamma, set, saved, tx, tgamma, tbeta, tresidual, ty, tsaved []float64) error {
	c := int(s.C)
	ghosts, err := ghostsOf(s, set, len(gamma)/c)
	if err != nil {
		return err
	}
	for _, g := range ghosts {
		for ch := range c {
			mean, rstd := saved[g.stat+ch], saved[g.stat+c+ch]
			var t1, t2 float64 // <tx>, <xhat tx>; zeros if frozen
			if s.Frozen == 0 {
				for row := g.first; row < g.last; row++ {
					i := row*c + ch
					t1 += tx[i]
					t2 += (x[i] - mean) * rstd * tx[i]
				}
				t1, t2 = t1/g.rows(), t2/g.rows()
			}
			tsaved[g.stat+ch], tsaved[g.stat+c+ch] = t1, t2
			for row := g.first; row < g.last; row++ {
				i := row*c + ch
				if !passes(s, y, i) {
					ty[i] = 0
					continue
				}
				xhat := (x[i] - mean) * rstd
				txhat := rstd * (tx[i] - t1 - xhat*t2)
				ty[i] = gamma[g.param+ch]*txhat + tgamma[g.param+ch]*xhat + tbeta[g.param+ch]
				if tresidual != nil {
					ty[i] += tresidual[i]
				}
			}
		}
	}
	return nil
}

// batchNormTangentBackward, with g and g' the masked dy and tdy, s1 and s2 the averages of the
// backward pass and s1' = <g'>, s2' = <g' xhat + g R{xhat}>:
//
//	tdx = (tgamma r + gamma R{r}) (g - s1 - xhat s2) + gamma r (g' - s1' - R{xhat} s2 - xhat s2')
//	hgamma += sum (g' xhat + g R{xhat}), hbeta += sum g', tdresidual = g'
//
// and the terms with s1, s2 drop out of tdx if frozen.
func batchNormTangentBackward(s kernels.BatchNorm, x, y, dy, gamma, set, saved, sums, tx, tsaved, tdy, tgamma,
	tdx, tdresidual, hgamma, hbeta []float64) error {
	c := int(s.C)
	ghosts, err := ghostsOf(s, set, len(gamma)/c)
	if err != nil {
		return err
	}
	for _, g := range ghosts {
		for ch := range c {
			mean, r := saved[g.stat+ch], saved[g.stat+c+ch]
			var t1, t2, s1, s2 float64
			if s.Frozen == 0 {
				t1, t2 = tsaved[g.stat+ch], tsaved[g.stat+c+ch]
				s1, s2 = sums[g.stat+ch], sums[g.stat+c+ch]
			}
			tr := -r * r * t2
			hats := func(i int) (xhat, txhat float64) {
				xhat = (x[i] - mean) * r
				return xhat, r * (tx[i] - t1 - xhat*t2)
			}
			var ts1, ts2 float64
			for row := g.first; row < g.last; row++ {
				if i := row*c + ch; passes(s, y, i) {
					xhat, txhat := hats(i)
					ts1 += tdy[i]
					ts2 += tdy[i]*xhat + dy[i]*txhat
				}
			}
			hgamma[g.param+ch] += ts2
			hbeta[g.param+ch] += ts1
			ts1, ts2 = ts1/g.rows(), ts2/g.rows()
			if s.Frozen != 0 {
				ts1, ts2 = 0, 0
			}
			ga, tga := gamma[g.param+ch], tgamma[g.param+ch]
			for row := g.first; row < g.last; row++ {
				i := row*c + ch
				var v, tv float64
				if passes(s, y, i) {
					v, tv = dy[i], tdy[i]
				}
				xhat, txhat := hats(i)
				d := (tga*r+ga*tr)*(v-s1-xhat*s2) + ga*r*(tv-ts1-txhat*s2-xhat*ts2)
				put(tdx, i, d, s.Accumulate&1 != 0)
				put(tdresidual, i, tv, s.Accumulate&2 != 0)
			}
		}
	}
	return nil
}
