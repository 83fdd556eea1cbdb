package sam

import (
	"math"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

func TestEveryIntervalthUpdate(t *testing.T) {
	m, err := New(Options{Rho: 0.1, Interval: 3})
	if err != nil {
		t.Fatal(err)
	}
	for done, want := range []bool{false, false, true, false, false, true} {
		distance, due := m.Displacement(&methodtest.Training{UpdatesDone: done}, methods.Update{LR: 7})
		if due != want || distance != 0.1 {
			t.Errorf("update %d: %g, %t; want 0.1, %t", done+1, distance, due, want)
		}
	}
}

func TestDirections(t *testing.T) {
	for o, want := range map[Options]methods.Direction{{}: methods.Ascent, {Adaptive: true}: methods.ScaledAscent,
		{PerLane: true}: methods.LaneAscent, {PerLane: true, Adaptive: true}: methods.LaneScaledAscent} {
		if got := (&Method{o}).Direction(); got != want || got.Local() != o.PerLane || got.Scaled() != o.Adaptive {
			t.Errorf("%+v: direction %d, want %d", o, got, want)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{Rho: -1, Interval: 1}, {Rho: math.NaN(), Interval: 1}, {Rho: math.Inf(1), Interval: 1}, {Rho: 0.05}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
