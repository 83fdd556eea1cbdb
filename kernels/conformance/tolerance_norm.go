package conformance

import (
	"math"

	"broadside/kernels"
	"broadside/kernels/ref"
)

// allowedNorm bounds the errors of the batch-norm kernels: their formulas, evaluated with absolute
// values. xhat = (x - mean) rstd has the magnitude rstd (|x| + |mean|) + |xhat| (1 + kappa) where rstd
// is computed too: it is off by kappa roundings, kappa = <|x - mean| (|x| + |mean|)> / variance.
func (c *testCase) allowedNorm(s kernels.BatchNorm) map[string][]float64 {
	m := newNormMagnitudes(c, s)
	for g := range s.Ghosts() {
		for ch := range int(s.C) {
			m.ghost(g, ch)
		}
	}
	allowed := map[string][]float64{}
	ghost, all := int(min(s.Ghost, s.N))*int(s.HW), int(s.N)*int(s.HW)
	for name, magnitude := range m.out {
		terms := ghost
		if len(name) > 4 && (name[1:] == "gamma" || name[1:] == "beta") { // summed over all ghosts
			terms = all
		}
		allowed[name] = reduced(terms, magnitude)
	}
	if s.Frozen != 0 && c.kernel == kernels.BatchNormForward {
		delete(allowed, "stats")
	}
	return allowed
}

type normMagnitudes struct {
	c   *testCase
	s   kernels.BatchNorm
	arg map[string][]float64 // absolute values of the arguments
	out map[string][]float64
}

func newNormMagnitudes(c *testCase, s kernels.BatchNorm) *normMagnitudes {
	m := &normMagnitudes{c: c, s: s, arg: map[string][]float64{}, out: map[string][]float64{}}
	for i, a := range c.layout {
		if c.values[i] == nil {
			continue
		}
		m.arg[a.Name] = absolute(c.values[i])
		if a.Role != ref.In {
			m.out[a.Name] = make([]float64, a.Cells)
			if a.Role == ref.InOut { // what is added to
				copy(m.out[a.Name], m.arg[a.Name])
			}
		}
	}
	return m
}

// at returns an argument's absolute value; 0 where it is absent.
func (m *normMagnitudes) at(name string, i int) float64 {
	if v := m.arg[name]; v != nil {
		return v[i]
	}
	return 0
}

// add adds to an output's magnitude, where the output is asked for.
func (m *normMagnitudes) add(name string, i int, v float64) {
	if out := m.out[name]; out != nil {
		out[i] += v
	}
}

// masked returns an argument's absolute value, or 0 where the ReLU blocks it.
func (m *normMagnitudes) masked(name string, i int) float64 {
	if m.s.ReLU != 0 && m.at("y", i) == 0 {
		return 0
	}
	return m.at(name, i)
}

// ghost computes the magnitudes of one ghost and channel.
func (m *normMagnitudes) ghost(g, ch int) {
	c, perGhost := int(m.s.C), int(m.s.Ghost)*int(m.s.HW)
	first, last := g*perGhost, min((g+1)*perGhost, int(m.s.N)*int(m.s.HW))
	rows := make([]int, 0, last-first) // the offsets of the ghost's elements of this channel
	for row := first; row < last; row++ {
		rows = append(rows, row*c+ch)
	}
	param, stat := ch, 2*g*c+ch
	if set := m.arg["set"]; set != nil {
		param += int(set[g]) * c
	}
	switch m.c.kernel {
	case kernels.BatchNormForward:
		m.forward(rows, param, stat)
	case kernels.BatchNormBackward:
		m.backward(rows, param, stat)
	case kernels.BatchNormTangentForward:
		m.tangentForward(rows, param, stat)
	case kernels.BatchNormTangentBackward:
		m.tangentBackward(rows, param, stat)
	}
}

func mean(rows []int, f func(i int) float64) float64 {
	sum := 0.0
	for _, i := range rows {
		sum += f(i)
	}
	return sum / float64(len(rows))
}

func (m *normMagnitudes) forward(rows []int, param, stat int) {
	c, x := int(m.s.C), m.c.value("x")
	var center, size, variance, kappa float64
	if m.s.Frozen != 0 {
		at := param/c*2*c + param%c
		center, variance = m.c.value("running")[at], m.c.value("running")[at+c]
		size = math.Abs(center)
	} else {
		center = mean(rows, func(i int) float64 { return x[i] })
		size = mean(rows, func(i int) float64 { return math.Abs(x[i]) })
		variance = mean(rows, func(i int) float64 { return (x[i] - center) * (x[i] - center) })
		kappa = mean(rows, func(i int) float64 { return math.Abs(x[i]-center) * (math.Abs(x[i]) + size) }) / (variance + m.s.Eps)
	}
	rstd := 1 / math.Sqrt(variance+m.s.Eps)
	m.add("saved", stat, size)
	if m.s.Synced != 0 {
		m.add("saved", stat+c, (variance+m.s.Eps)*(1+2*kappa))
		return
	}
	m.add("saved", stat+c, rstd*(1+kappa))
	m.add("stats", stat, size)
	n := float64(len(rows))
	if n > 1 {
		m.add("stats", stat+c, (variance+m.s.Eps)*(1+2*kappa)*n/(n-1))
	}
	for _, i := range rows {
		hat := rstd*(math.Abs(x[i])+size) + math.Abs(x[i]-center)*rstd*(1+kappa)
		m.add("y", i, m.at("gamma", param)*hat+m.at("beta", param)+m.at("residual", i))
	}
}

// hat is the magnitude of xhat, where mean and rstd are inputs.
func (m *normMagnitudes) hat(i, stat int) float64 {
	return m.at("saved", stat+int(m.s.C)) * (m.at("x", i) + m.at("saved", stat))
}

func (m *normMagnitudes) backward(rows []int, param, stat int) {
	c, count := int(m.s.C), float64(len(rows))
	s1 := mean(rows, func(i int) float64 { return m.masked("dy", i) })
	s2 := mean(rows, func(i int) float64 { return m.masked("dy", i) * m.hat(i, stat) })
	m.add("sums", stat, s1)
	m.add("sums", stat+c, s2)
	m.add("dgamma", param, count*s2)
	m.add("dbeta", param, count*s1)
	switch {
	case m.s.Frozen != 0:
		s1, s2 = 0, 0
	case m.s.Synced != 0:
		s1, s2 = m.at("sums", stat), m.at("sums", stat+c)
	}
	for _, i := range rows {
		m.add("dx", i, m.at("gamma", param)*m.at("saved", stat+c)*(m.masked("dy", i)+s1+m.hat(i, stat)*s2))
		m.add("dresidual", i, m.masked("dy", i))
	}
}

// tangentHat is the magnitude of R{xhat} for given averages.
func (m *normMagnitudes) tangentHat(i, stat int, t1, t2 float64) float64 {
	return m.at("saved", stat+int(m.s.C)) * (m.at("tx", i) + t1 + m.hat(i, stat)*t2)
}

func (m *normMagnitudes) tangentForward(rows []int, param, stat int) {
	var t1, t2 float64
	if m.s.Frozen == 0 {
		t1 = mean(rows, func(i int) float64 { return m.at("tx", i) })
		t2 = mean(rows, func(i int) float64 { return m.at("tx", i) * m.hat(i, stat) })
	}
	m.add("tsaved", stat, t1)
	m.add("tsaved", stat+int(m.s.C), t2)
	for _, i := range rows {
		m.add("ty", i, m.at("gamma", param)*m.tangentHat(i, stat, t1, t2)+m.at("tgamma", param)*m.hat(i, stat)+
			m.at("tbeta", param)+m.at("tresidual", i))
	}
}

func (m *normMagnitudes) tangentBackward(rows []int, param, stat int) {
	c, count := int(m.s.C), float64(len(rows))
	var t1, t2, s1, s2 float64
	if m.s.Frozen == 0 {
		t1, t2 = m.at("tsaved", stat), m.at("tsaved", stat+c)
		s1, s2 = m.at("sums", stat), m.at("sums", stat+c)
	}
	ts1 := mean(rows, func(i int) float64 { return m.masked("tdy", i) })
	ts2 := mean(rows, func(i int) float64 {
		return m.masked("tdy", i)*m.hat(i, stat) + m.masked("dy", i)*m.tangentHat(i, stat, t1, t2)
	})
	m.add("hgamma", param, count*ts2)
	m.add("hbeta", param, count*ts1)
	if m.s.Frozen != 0 {
		ts1, ts2 = 0, 0
	}
	r, gamma, tgamma := m.at("saved", stat+c), m.at("gamma", param), m.at("tgamma", param)
	for _, i := range rows {
		xhat, txhat := m.hat(i, stat), m.tangentHat(i, stat, t1, t2)
		m.add("tdx", i, (tgamma*r+gamma*r*r*t2)*(m.masked("dy", i)+s1+xhat*s2)+
			gamma*r*(m.masked("tdy", i)+ts1+txhat*s2+xhat*ts2))
		m.add("tdresidual", i, m.masked("tdy", i))
	}
}
