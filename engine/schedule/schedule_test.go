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

// The factors of PyTorch 2.15's CyclicLR with base_lr 0.02, max_lr 0.2 and so many steps up, step by step.
func TestCyclicAsInPyTorch(t *testing.T) {
	for _, c := range []struct {
		peak float64
		want []float64
	}{
		{0.5, []float64{0.1, 0.325, 0.55, 0.775, 1, 0.775, 0.55, 0.325, 0.1}},
		{0.25, []float64{0.1, 0.55, 1, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1}},
		{0.4, []float64{0.1, 0.325, 0.55, 0.775, 1, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1}},
	} {
		const epochs = 3
		s, err := New(Options{Name: "cyclic", Epochs: epochs, Peak: c.peak, End: 0.1})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range c.want {
			if got := s.Factor(epochs * float64(i) / float64(len(c.want)-1)); math.Abs(got-want) > 1e-12 {
				t.Errorf("peak %g: factor %g at step %d; want %g", c.peak, got, i, want)
			}
		}
	}
}

func TestNew(t *testing.T) {
	for _, name := range Names {
		s, err := New(Options{Name: name, Epochs: 10, Decay: 0.1, Power: 1, Peak: 0.5, WarmupEpochs: 2})
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
