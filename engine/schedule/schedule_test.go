package schedule

import (
	"math"
	"testing"
)

func TestFactors(t *testing.T) {
	for _, c := range []struct {
		name   string
		s      Schedule
		epochs float64
		want   float64
	}{
		{"constant", Constant{}, 7, 1},
		{"step before", Step{[]int{30, 60}, 0.2}, 29.999, 1},
		{"step at", Step{[]int{30, 60}, 0.2}, 30, 0.2},
		{"step after both", Step{[]int{30, 60}, 0.2}, 60.5, 0.04},
		{"cosine start", Cosine{Epochs: 10}, 0, 1},
		{"cosine middle", Cosine{Epochs: 10}, 5, 0.5},
		{"cosine end", Cosine{Epochs: 10, End: 0.1}, 10, 0.1},
		{"poly", Poly{Epochs: 10, Power: 2}, 5, 0.25},
		{"poly end", Poly{Epochs: 10, Power: 2, End: 0.01}, 10, 0.01},
		{"warm-up start", Warmup{5, 0.1, Constant{}}, 0, 0.1},
		{"warm-up middle", Warmup{5, 0, Constant{}}, 2.5, 0.5},
		{"warm-up over", Warmup{5, 0, Step{[]int{6}, 0.5}}, 6, 0.5},
	} {
		if got := c.s.Factor(c.epochs); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: factor %g; want %g", c.name, got, c.want)
		}
	}
}

func TestNew(t *testing.T) {
	for _, name := range Names {
		s, err := New(Options{Name: name, Epochs: 10, Decay: 0.1, Power: 1, WarmupEpochs: 2})
		if err != nil {
			t.Fatal(err)
		}
		if s.Factor(0) != 0 {
			t.Errorf("%s: factor %g at the start of a warm-up from 0", name, s.Factor(0))
		}
	}
	if _, err := New(Options{Name: "linear"}); err == nil {
		t.Error("an unknown schedule was accepted")
	}
}
