package persample

import (
	"testing"

	"broadside/engine/methods/methodtest"
	"broadside/engine/schedule"
)

// The paper's warm-up arm: from 1/32 of the rate to all of it over the first 5% of 82 epochs; a batch of 64.
func TestRateIsPerSample(t *testing.T) {
	f := methodtest.New(82)
	f.BaseSize = 64
	m := &Method{}
	if err := m.Prepare(f); err != nil {
		t.Fatal(err)
	}
	s, err := m.Schedule(f, schedule.Warmup{Epochs: 4.1, From: 1. / 32, Then: schedule.Step{At: []int{41, 62}, Decay: .125}})
	if err != nil {
		t.Fatal(err)
	}
	for epoch, want := range map[float64]float64{0: 2, 2.05: 33, 5: 64, 41: 8, 81: 1} {
		if got := s.Factor(epoch); got != want {
			t.Errorf("epoch %g: factor %g; want %g", epoch, got, want)
		}
	}
}
