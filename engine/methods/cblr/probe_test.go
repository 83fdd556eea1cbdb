package cblr

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"broadside/engine/curvature"
	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
	"broadside/engine/optim"
)

// probed is a training whose tensor w has the curvature of the probe's number.
type probed struct {
	*methodtest.Training
	along  []methods.Along
	blocks methods.Probe
}

func (p *probed) Curvatures(samples int, along methods.Along) ([]methods.TensorCurvature, error) {
	p.along = append(p.along, along)
	k := float64(len(p.along))
	return []methods.TensorCurvature{{Tensor: "w", Size: 4, Product: -8 * k, Square: 8, Sum: 12 * k}, {Tensor: "empty", Size: 2}}, nil
}

func (p *probed) BlockEigenvalues(probe methods.Probe, without map[graph.Role]bool) ([]methods.BlockEigenvalue, error) {
	p.along = append(p.along, methods.Signs)
	p.blocks = probe
	if !without[graph.Bias] || without[graph.Weight] {
		return nil, errors.New("the wrong tensors are left out")
	}
	return []methods.BlockEigenvalue{{Tensor: "w", Eigenvalue: curvature.Eigenvalue{Value: -2 * float64(len(p.along))}}}, nil
}

func prober(t *testing.T, change func(*Options)) *Prober {
	t.Helper()
	o := *defaults("hutch")
	change(&o)
	m, err := New("cblr", o)
	if err != nil {
		t.Fatal(err)
	}
	return m.(*Prober)
}

// Probes come before the first update and after every probe_every; later ones weigh more; the averages are unbiased.
func TestProbes(t *testing.T) {
	for estimator, unit := range map[string]float64{"hutch": 3, "rayleigh": 1, "lmax": 2} {
		m := prober(t, func(o *Options) { o.Estimator, o.ProbeEvery, o.Average = estimator, 3, 0.5 })
		training := &probed{Training: methodtest.New(1)}
		if err := m.Start(training); err != nil {
			t.Fatal(err)
		}
		if got := m.curvature("w"); got != unit {
			t.Errorf("%s: %v after one probe, want %v", estimator, got, unit)
		}
		for training.UpdatesDone = 1; training.UpdatesDone <= 7; training.UpdatesDone++ {
			if err := m.UpdateEnd(training, methods.Update{}); err != nil {
				t.Fatal(err)
			}
		}
		if len(training.along) != 3 || training.along[0] != methods.Signs || (training.along[2] == methods.Gradient) != (estimator == "rayleigh") {
			t.Errorf("%s: probes along %v", estimator, training.along)
		}
		if want := (curvature.Options{MaxIterations: 10, Tolerance: 0.01}); estimator == "lmax" && (training.blocks.Samples != 128 || training.blocks.Options != want) {
			t.Errorf("a probe of %+v", training.blocks)
		}
		if got, want := m.curvature("w"), unit*(1*0.125+2*0.25+3*0.5)/0.875; math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: %v after three probes, want %v", estimator, got, want)
		}
	}
}

func TestATensorWithoutCurvatureStays(t *testing.T) {
	m := prober(t, func(o *Options) { o.Estimator = "rayleigh" })
	if err := m.Start(&probed{Training: methodtest.New(1)}); err != nil {
		t.Fatal(err)
	}
	if got := m.curvature("empty"); !math.IsInf(got, 1) {
		t.Errorf("curvature %v of a tensor without a vector, want infinity", got)
	}
	if _, err := json.Marshal(m.State()); err != nil {
		t.Error(err)
	}
	if r, err := m.Rule(optim.SGD{}); err != nil || len(r.Slots()) != 0 {
		t.Errorf("%v, %v", r, err)
	}
}

func TestMoreProbeSamplesThanThereAre(t *testing.T) {
	m := prober(t, func(o *Options) { o.ProbeSamples = 60000 })
	if err := m.Prepare(methodtest.New(1)); err == nil {
		t.Error("60000 of 50000 samples were accepted")
	}
}
