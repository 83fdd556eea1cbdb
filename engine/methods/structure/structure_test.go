package structure

import (
	"math"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

// far is a training at a distance of 5 from its start.
type far struct{ *methodtest.Training }

func (far) Tensors() []string                   { return []string{"a", "b"} }
func (far) Distance([]float64) (float64, error) { return 5, nil }

func step(gradient, length, change, slope float64) *methods.Step {
	return &methods.Step{Gradient: gradient, Length: length, LossChange: change, Slope: slope,
		Tensors: []methods.TensorStep{{Gradient: gradient / 2, Length: length / 2}, {Gradient: gradient, Length: 0}}}
}

func TestMeansOfAnEpoch(t *testing.T) {
	f := far{methodtest.New(3)}
	m, err := New(Options{Every: 10, PerTensor: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Prepare(f); err != nil {
		t.Fatal(err)
	}
	for epoch := range 2 { // the second is not to know of the first
		scale := float64(epoch + 1)
		m.ReadStep(step(1*scale, 2*scale, -0.5*scale, -1*scale))
		m.ReadStep(step(3*scale, 4*scale, 0.1*scale, -0.6*scale))
		if err := m.EpochEnd(f); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]float64{"distance": 5 / scale, "gradient_norm": 2, "step_length": 3, "loss_change": -0.2,
			"loss_change_ratio": 0.25 / scale, "gradient_norm/a": 1, "step_length/a": 1.5, "gradient_norm/b": 2, "step_length/b": 0} {
			if got, ok := m.Report()[key]; !ok || math.Abs(got-scale*want) > 1e-12 {
				t.Errorf("epoch %d: %s is %g; want %g", epoch, key, got, scale*want)
			}
		}
	}
	if err := m.EpochEnd(f); err != nil || len(m.Report()) != 1 {
		t.Errorf("an epoch without updates reported %v (%v); want the distance alone", m.Report(), err)
	}
}

func TestMeasuresTheFirstOfEverySoMany(t *testing.T) {
	m, _ := New(Options{Every: 3})
	for update, want := range map[int]bool{1: true, 2: false, 3: false, 4: true, 7: true, 9: false} {
		if m.MeasuresStep(update) != want {
			t.Errorf("update %d measured: %t", update, !want)
		}
	}
}
