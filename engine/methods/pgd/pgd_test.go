package pgd

import (
	"math"
	"strings"
	"testing"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

func prepared(t *testing.T, m *Method, err error) *Method {
	t.Helper()
	if err == nil {
		err = m.Prepare(methodtest.New(1))
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDefaultSteps(t *testing.T) {
	for _, c := range []struct{ eps, want float64 }{
		{8. / 255, 10. / 2550}, // 1.25 eps is less than eps + 4/255
		{32. / 255, 36. / 2550},
	} {
		m, err := New(Options{Epsilon: c.eps, Iterations: 10, Mix: 1})
		if got := prepared(t, m, err).Attack().Step; math.Abs(got-c.want) > 1e-15 {
			t.Errorf("eps %g: a step of %g; want %g", c.eps, got, c.want)
		}
	}
	m, err := NewFast(FastOptions{Epsilon: 8. / 255})
	want := methods.Attack{Samples: 128, TrainMode: true, Attack: graph.Attack{Eps: 8. / 255, Step: 10. / 255, Iterations: 1, RandomStart: true, Pixels: true, Clamp: graph.ToBox}}
	if got := prepared(t, m, err).Attack(); got != want {
		t.Errorf("fgsmrs: %+v; want %+v", got, want)
	}
}

func TestMixIsAPartOfEachLeaf(t *testing.T) {
	for mix, want := range map[float64]int{1: 128, 0.5: 64, 0.01: 1} {
		m, err := New(Options{Epsilon: 0.1, Step: 0.2, Iterations: 3, Mix: mix})
		a := prepared(t, m, err).Attack()
		if a.Samples != want || a.Step != 0.2 || a.TrainMode || a.RandomStart {
			t.Errorf("mix %g: %+v; want %d samples, by the running statistics", mix, a, want)
		}
		if m.Pair().Attack.Samples != 0 {
			t.Errorf("mix %g: twins though none were asked for", mix)
		}
	}
	m, err := New(Options{Epsilon: 0.1, Iterations: 3, Mix: 0.001})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Prepare(methodtest.New(1)); err == nil || !strings.Contains(err.Error(), "methods.pgd.mix is 0.001") {
		t.Errorf("a mix of no sample: %v", err)
	}
}

func TestPairsAttackTwins(t *testing.T) {
	m, err := New(Options{Epsilon: 0.1, Iterations: 3, Mix: 1, Pairs: true})
	p := prepared(t, m, err).Pair()
	if p.Attack.Samples != 128 || p.Attack.Set != 0 || p.Stale || m.Attack().Samples != 0 {
		t.Errorf("%+v, %+v; want twins of whole leaves and nothing else", p, m.Attack())
	}
}

func TestBadOptions(t *testing.T) {
	for key, change := range map[string]func(*Options){
		"epsilon":    func(o *Options) { o.Epsilon = 8 },
		"step":       func(o *Options) { o.Step = math.Inf(1) },
		"iterations": func(o *Options) { o.Iterations = 0 },
		"mix":        func(o *Options) { o.Mix = 0 },
		"mix is 0.5": func(o *Options) { o.Mix, o.Pairs = 0.5, true },
	} {
		o := Options{Epsilon: 0.1, Iterations: 1, Mix: 1}
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "methods.pgd."+key) {
			t.Errorf("%s: error %v; want one that names it", key, err)
		}
	}
	if _, err := NewFast(FastOptions{Epsilon: -1}); err == nil || !strings.Contains(err.Error(), "methods.fgsmrs.epsilon") {
		t.Errorf("fgsmrs: %v", err)
	}
}
