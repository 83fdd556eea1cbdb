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

// The rates of ConAdv's run with a batch of 98,304 on ImageNet, step by step: linear from 0 to 43 over 41 epochs, which end
// in step 534, then a polynomial of power 1.6 to 1e-4 over 768 steps, of which 766 are made.
func TestConAdvRates(t *testing.T) {
	const perEpoch, peak, end, warmup = 1281167. / 98304, 43, 1e-4, 534
	s := Warmup{Epochs: 41, Then: After{Epochs: warmup / perEpoch, Then: Poly{Epochs: 768 / perEpoch, Power: 1.6, End: end / peak}}}
	for step, want := range map[int]float64{
		0: 0, 267: 43 * (267 / perEpoch) / 41, warmup: 42.97,
		535:  (peak-end)*math.Pow(1-1./768, 1.6) + end,
		1300: (peak-end)*math.Pow(2./768, 1.6) + end,
	} {
		tolerance := 1e-9
		if step == warmup {
			tolerance = 5e-3 // as it is stated
		}
		if got := peak * s.Factor(float64(step)/perEpoch); math.Abs(got-want) > tolerance {
			t.Errorf("rate %g at step %d; want %g", got, step, want)
		}
	}
	if last := peak * s.Factor(1300/perEpoch); math.Abs(last-3.2e-3) > 2e-4 {
		t.Errorf("the last rate is %g; want about 3.2e-3, not the end's 1e-4", last)
	}
}

// A fall that begins where the warm-up ends still has the base rate there, and ends with the run.
func TestAfterWarmup(t *testing.T) {
	for _, name := range []string{"cosine", "poly"} {
		s, err := New(Options{Name: name, Epochs: 10, Power: 1, End: 0.2, WarmupEpochs: 2, AfterWarmup: true})
		if err != nil {
			t.Fatal(err)
		}
		for epochs, want := range map[float64]float64{0: 0, 1: 0.5, 2: 1, 6: 0.6, 10: 0.2} {
			if got := s.Factor(epochs); math.Abs(got-want) > 1e-12 {
				t.Errorf("%s: factor %g after %g epochs; want %g", name, got, epochs, want)
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
