package layerwise

import (
	"encoding/json"
	"math"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
	"broadside/engine/optim"
	"broadside/kernels"
)

// probed has a gradient sum whose square is 16 samples^2 and a curvature of -number of the probe along it.
type probed struct {
	*methodtest.Training
	probes  int
	samples float64
}

func (p *probed) Curvatures(_ int, along methods.Along) ([]methods.TensorCurvature, error) {
	p.probes++
	square := 16 * p.samples * p.samples
	return []methods.TensorCurvature{{Tensor: "w", Square: square, Product: -float64(p.probes) * square}, {Tensor: "bad", Square: math.NaN()}}, nil
}

// Averages of numerator and denominator do not depend on the batch that an update had.
func TestAverages(t *testing.T) {
	o := *defaults()
	o.ProbeEvery, o.Average = 2, 0.5
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if k := m.curvature("w"); !math.IsInf(k, 1) {
		t.Errorf("curvature %v before a probe", k)
	}
	training := &probed{Training: methodtest.New(1)}
	for training.UpdatesDone = 1; training.UpdatesDone <= 6; training.UpdatesDone++ {
		samples := 128 * training.UpdatesDone
		training.samples = float64(samples)
		if err := m.UpdateEnd(training, methods.Update{Samples: samples}); err != nil {
			t.Fatal(err)
		}
	}
	if training.probes != 3 {
		t.Fatalf("%d probes of 6 updates, want 3", training.probes)
	}
	if got, want := m.curvature("w"), (1*0.125+2*0.25+3*0.5)/0.875; math.Abs(got-want) > 1e-12 {
		t.Errorf("curvature %v, want %v", got, want)
	}
	if _, err := json.Marshal(m.State()); err != nil || !math.IsInf(m.curvature("bad"), 1) {
		t.Errorf("a measurement that is no number is kept: %v, %v", m.curvature("bad"), err)
	}
}

func TestRule(t *testing.T) {
	m, err := New(*defaults())
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Rule(optim.SGD{Momentum: 0.9})
	if err != nil {
		t.Fatal(err)
	}
	want := kernels.TrustShape{Form: kernels.TrustCurvature, Place: kernels.TrustLR, Coefficient: 1, Eps: 1e-8, Low: 1e-4, High: 1}
	if g := r.(optim.Given); g.Trust != want || len(g.Slots()) != 1 {
		t.Errorf("%+v", g)
	}
}

func TestBadOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"min":           func(o *Options) { o.Min = 0 },
		"max":           func(o *Options) { o.Max = 1e-5 },
		"delta":         func(o *Options) { o.Delta = math.NaN() },
		"average":       func(o *Options) { o.Average = 1 },
		"probe_every":   func(o *Options) { o.ProbeEvery = 0 },
		"probe_samples": func(o *Options) { o.ProbeSamples = 0 },
	} {
		o := *defaults()
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("a wrong %s was accepted", name)
		}
	}
	m, _ := New(*defaults())
	small := methodtest.New(1)
	small.SampleCount = 100
	if err := m.Prepare(small); err == nil {
		t.Error("128 of 100 samples were accepted")
	}
}
