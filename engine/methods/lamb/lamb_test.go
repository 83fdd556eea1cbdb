package lamb

import (
	"math"
	"testing"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/optim"
)

func defaults(t *testing.T) Options {
	t.Helper()
	info, ok := methods.Lookup("lamb")
	if !ok {
		t.Fatal("lamb is not registered")
	}
	return *info.Options().(*Options)
}

func TestRule(t *testing.T) {
	o := defaults(t)
	o.Bounded, o.PhiMax = true, 10
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Rule(optim.SGD{Momentum: 0.9, WeightDecay: 0.01})
	if err != nil {
		t.Fatal(err)
	}
	l := r.(optim.LAMB)
	if l.WeightDecay != 0.01 || l.RatioMax != 1 || l.PhiMax != 10 || l.Clip != 1 || !l.Plain[graph.Beta] || len(l.Slots()) != 2 {
		t.Errorf("%+v", l)
	}
	if _, err := m.Rule(optim.SGD{Nesterov: true}); err == nil {
		t.Error("Nesterov momentum was accepted")
	}
}

func TestBadOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"beta1":   func(o *Options) { o.Beta1 = 1 },
		"beta2":   func(o *Options) { o.Beta2 = -0.1 },
		"eps":     func(o *Options) { o.Eps = 0 },
		"clip":    func(o *Options) { o.Clip = -1 },
		"phi_max": func(o *Options) { o.PhiMax = math.NaN() },
		"exclude": func(o *Options) { o.Exclude = []string{"norm"} },
	} {
		o := defaults(t)
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("a wrong %s was accepted", name)
		}
	}
}
