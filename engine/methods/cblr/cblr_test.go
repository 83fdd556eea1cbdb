package cblr

import (
	"math"
	"reflect"
	"testing"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/methods/lars"
	"broadside/engine/optim"
	"broadside/kernels"
)

var params = []graph.Param{
	{Name: "a.weight", Role: graph.Weight, K: 4, R: 3, S: 3, C: 2},
	{Name: "a.bias", Role: graph.Bias, K: 4, R: 1, S: 1, C: 1, Offset: 80},
	{Name: "b.weight", Role: graph.Weight, K: 5, R: 1, S: 1, C: 4, Offset: 96},
}

type stepper interface {
	Rule(optim.SGD) (optim.Rule, error)
}

func calls(t *testing.T, m methods.Method, err error) []kernels.Call {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.(stepper).Rule(optim.SGD{Momentum: 0.9, Nesterov: true, WeightDecay: 5e-4})
	if err != nil {
		t.Fatal(err)
	}
	return optim.Update(r, nil, params, &optim.Scratch{})
}

// With the curvature of the norms CBLR is LARS: the same calls, so the same bits.
func TestNormIsLARS(t *testing.T) {
	o := *defaults("norm")
	o.MaxRatio = 0
	m, err := New("cblr", o)
	l, larsErr := lars.New(lars.Options{Variant: "tf", Coefficient: o.Coefficient, Eps: -1, Exclude: o.Exclude})
	got, want := calls(t, m, err), calls(t, l, larsErr)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("cblr:\n%v\nlars:\n%v", got, want)
	}
	o.Estimator = "median"
	m, err = New("cblr", o)
	if reflect.DeepEqual(calls(t, m, err), want) {
		t.Error("so is the median")
	}
}

// MCLR is CBLR by the median, with the same defaults.
func TestMedianIsMCLR(t *testing.T) {
	info, _ := methods.Lookup("mclr")
	m, err := info.New(info.Options())
	c, cblrErr := New("cblr", *defaults("median"))
	if got, want := calls(t, m, err), calls(t, c, cblrErr); !reflect.DeepEqual(got, want) {
		t.Errorf("mclr:\n%v\ncblr:\n%v", got, want)
	}
	if _, err := info.New(defaults("norm")); err == nil {
		t.Error("mclr takes another estimator")
	}
	if info.Status != "reconstruction" {
		t.Errorf("status %q", info.Status)
	}
}

func TestBadOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"estimator":   func(o *Options) { o.Estimator = "mean" },
		"coefficient": func(o *Options) { o.Coefficient = math.Inf(1) },
		"delta":       func(o *Options) { o.Delta = -1 },
		"iterations":  func(o *Options) { o.Iterations = 0 },
		"max_ratio":   func(o *Options) { o.MaxRatio = math.NaN() },
		"exclude":     func(o *Options) { o.Exclude = []string{""} },
	} {
		o := *defaults("median")
		change(&o)
		if _, err := New("cblr", o); err == nil {
			t.Errorf("a wrong %s was accepted", name)
		}
	}
}
