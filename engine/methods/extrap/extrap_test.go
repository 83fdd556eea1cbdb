package extrap

import (
	"math"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

func TestInnerRateFollowsTheLearningRate(t *testing.T) {
	m, err := New(Options{InnerRate: 0.25})
	if err != nil {
		t.Fatal(err)
	}
	if distance, due := m.Displacement(methodtest.New(1), methods.Update{LR: 0.8}); !due || distance != 0.2 {
		t.Errorf("%g, %t; want 0.2 in every update", distance, due)
	}
}

func TestBadOptions(t *testing.T) {
	for _, rate := range []float64{-1, math.NaN(), math.Inf(1)} {
		if _, err := New(Options{InnerRate: rate}); err == nil {
			t.Errorf("inner_rate %g was accepted", rate)
		}
	}
}
