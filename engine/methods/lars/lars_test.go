package lars

import (
	"math"
	"testing"

	"broadside/engine/graph"
	"broadside/engine/optim"
	"broadside/kernels"
)

func rule(t *testing.T, change func(*Options)) optim.LARS {
	t.Helper()
	o := *defaults()
	change(&o)
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Rule(optim.SGD{Momentum: 0.9, WeightDecay: 5e-4})
	if err != nil {
		t.Fatal(err)
	}
	return r.(optim.LARS)
}

// Each variant's place of the ratio, constants, and what it does to a bias.
func TestVariants(t *testing.T) {
	bias := graph.Param{Role: graph.Bias}
	for _, c := range []struct {
		variant    string
		place      kernels.TrustPlace
		eps, high  float64
		element    float64
		decay      float64
		decayFirst bool
	}{
		{"tf", kernels.TrustGainLR, 0, math.Inf(1), 0, 0, false},
		{"tpu", kernels.TrustGainLR, 1e-5, 50, 10, 0, false},
		{"timm", kernels.TrustGain, 1e-8, math.Inf(1), 0, 0, false},
		{"slowbull", kernels.TrustLR, 1e-6, math.Inf(1), 0, 5e-4, true},
	} {
		r := rule(t, func(o *Options) { o.Variant = c.variant })
		if r.Trust.Place != c.place || r.Trust.Eps != c.eps || r.Trust.High != c.high || r.ClipValue != c.element ||
			r.Decay(bias) != c.decay || r.DecayFirst != c.decayFirst || !r.Plain[graph.Bias] || r.Plain[graph.Weight] || r.Trust.Coefficient != 1e-3 {
			t.Errorf("%s: %+v", c.variant, r)
		}
	}
}

func TestOptionsOverrideTheVariant(t *testing.T) {
	r := rule(t, func(o *Options) { o.Variant, o.Eps, o.Clip, o.LARC, o.Exclude = "tpu", 0, 2, true, nil })
	if r.Trust.Eps != 0 || r.Trust.High != 2 || r.Trust.LARC != 1 || r.Plain[graph.Bias] {
		t.Errorf("%+v", r)
	}
}

// timm's form leaves tensors without weight decay at ratio 1, unless always_adapt.
func TestTimmAdaptsWhatDecays(t *testing.T) {
	for _, always := range []bool{false, true} {
		m, err := New(Options{Variant: "timm", Coefficient: 1e-3, Eps: -1, AlwaysAdapt: always})
		if err != nil {
			t.Fatal(err)
		}
		r, _ := m.Rule(optim.SGD{NoDecay: map[graph.Role]bool{graph.Gamma: true}, WeightDecay: 1e-4})
		if plain := r.(optim.LARS).Plain; plain[graph.Gamma] == always || plain[graph.Weight] {
			t.Errorf("always_adapt %t: plain %v", always, plain)
		}
		r, _ = m.Rule(optim.SGD{})
		if plain := r.(optim.LARS).Plain; plain[graph.Weight] == always {
			t.Errorf("always_adapt %t, no weight decay: plain %v", always, plain)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"variant":      func(o *Options) { o.Variant = "caffe" },
		"coefficient":  func(o *Options) { o.Coefficient = 0 },
		"eps":          func(o *Options) { o.Eps = -2 },
		"clip":         func(o *Options) { o.Clip = math.NaN() },
		"always_adapt": func(o *Options) { o.AlwaysAdapt = true },
		"exclude":      func(o *Options) { o.Exclude = []string{"weights"} },
	} {
		o := *defaults()
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("a wrong %s was accepted", name)
		}
	}
}
