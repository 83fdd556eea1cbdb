package fb

import (
	"math"
	"testing"

	"broadside/engine/methods/methodtest"
	"broadside/engine/schedule"
)

func TestLinearScalingWithWarmup(t *testing.T) {
	m, err := New(Options{BaseBatch: 128, WarmupEpochs: 5})
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Schedule(&methodtest.Training{BaseSize: 4096}, schedule.Step{At: []int{30}, Decay: 0.2})
	if err != nil {
		t.Fatal(err)
	}
	for epochs, want := range map[float64]float64{0: 1, 2.5: 16.5, 5: 32, 29: 32, 30: 6.4} {
		if got := s.Factor(epochs); math.Abs(got-want) > 1e-12 {
			t.Errorf("factor %g after %g epochs; want %g", got, epochs, want)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{BaseBatch: 0}, {BaseBatch: 128, WarmupEpochs: -1}, {BaseBatch: 128, WarmupEpochs: math.NaN()}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
