package conadv

import (
	"slices"
	"strings"
	"testing"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

// byDefault makes a method with its default options, changed.
func byDefault(t *testing.T, name string, change func(*Options)) *Method {
	t.Helper()
	info, ok := methods.Lookup(name)
	if !ok {
		t.Fatalf("no method %s", name)
	}
	o := info.Options().(*Options)
	change(o)
	m, err := info.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Prepare(methodtest.New(1)); err != nil {
		t.Fatal(err)
	}
	return m.(*Method)
}

func TestAttacksOfTheDefaults(t *testing.T) {
	start := 0.8
	conadv := methods.Attack{Samples: 128, TrainMode: true, Set: 1, CleanStart: 1 - start, Attack: graph.Attack{Eps: 9. / 255, Step: 9. / 255,
		Iterations: 1, RandomStart: true, Targeted: true, Pixels: true, Clamp: graph.ToBox}}
	advprop := methods.Attack{Samples: 128, TrainMode: true, Set: 1, Attack: graph.Attack{Eps: 4. / 255, Step: 1. / 255,
		Iterations: 5, RandomStart: true, Pixels: true, Clamp: graph.ToBox}}
	for name, want := range map[string]methods.Pair{"conadv": {Attack: conadv, Stale: true}, "disadv": {Attack: conadv}, "advprop": {Attack: advprop}} {
		m := byDefault(t, name, func(*Options) {})
		if got := m.Pair(); got != want {
			t.Errorf("%s: %+v; want %+v", name, got, want)
		}
		if got := m.NormSets(); !slices.Equal(got, []string{"adv"}) {
			t.Errorf("%s: sets %v; want one, adv", name, got)
		}
	}
}

func TestStepReachesTheEdgeOfTheBall(t *testing.T) {
	m := byDefault(t, "advprop", func(o *Options) { o.Epsilon, o.Step, o.Iterations = 0.1, 0.001, 2 })
	if got := m.Pair().Attack.Step; got != 0.05 {
		t.Errorf("step %g; want epsilon/iterations, 0.05", got)
	}
}

func TestWithoutASetOfTheirOwn(t *testing.T) {
	m := byDefault(t, "disadv", func(o *Options) { o.AuxBN, o.RandomStart = false, 0 })
	if a := m.Pair().Attack; a.Set != 0 || a.RandomStart || len(m.NormSets()) > 0 {
		t.Errorf("%+v with sets %v; want the first set, from clean samples", a, m.NormSets())
	}
}

// The third view has the third set, or none.
func TestThirdView(t *testing.T) {
	for aux, want := range map[bool][]string{true: {"adv", "aug"}, false: nil} {
		m := byDefault(t, "conadv", func(o *Options) { o.AuxBN, o.View = aux, []string{"flip", "cutout"} })
		augment, set := m.View()
		if got := m.NormSets(); !slices.Equal(got, want) || set != len(want) || m.Pair().Attack.Set != min(len(want), 1) {
			t.Errorf("aux_bn %t: sets %v, the view's %d, the twins' %d", aux, got, set, m.Pair().Attack.Set)
		}
		if !slices.Equal(augment, []string{"flip", "cutout"}) {
			t.Errorf("augmented by %v", augment)
		}
	}
	if augment, set := byDefault(t, "conadv", func(*Options) {}).View(); len(augment) > 0 || set != 0 {
		t.Errorf("by default there is a view %v of set %d", augment, set)
	}
}

func TestBadOptions(t *testing.T) {
	for key, change := range map[string]func(*Options){
		"epsilon":      func(o *Options) { o.Epsilon = 8 },
		"step":         func(o *Options) { o.Step = -1 },
		"iterations":   func(o *Options) { o.Iterations = 0 },
		"random_start": func(o *Options) { o.RandomStart = 1.5 },
		"view":         func(o *Options) { o.View = []string{"mixup"} },
	} {
		o := Options{Epsilon: 0.1, Step: 0.1, Iterations: 1}
		change(&o)
		if _, err := New("conadv", true, o); err == nil || !strings.Contains(err.Error(), "methods.conadv."+key) {
			t.Errorf("%s: error %v; want one that names it", key, err)
		}
	}
}
