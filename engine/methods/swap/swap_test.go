package swap

import (
	"math"
	"testing"

	"broadside/engine/methods/methodtest"
)

func TestPhases(t *testing.T) {
	o := *Defaults()
	o.Workers, o.Epochs, o.Schedule = 3, 4, "cosine"
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	phases, err := m.Phases(methodtest.New(10))
	if err != nil || len(phases) != 3 {
		t.Fatalf("%d phases, %v", len(phases), err)
	}
	seeds := map[uint64]bool{1: true} // the recipe's
	for _, p := range phases {
		seeds[p.Seed] = true
		if p.Batch != 512 || p.LR != 0.15 || p.Epochs != 4 || p.KeepMomentum {
			t.Errorf("%+v", p)
		}
		for epochs, want := range map[float64]float64{0: 1, 2: 0.5, 4: 0} {
			if got := p.Schedule.Factor(epochs); math.Abs(got-want) > 1e-12 {
				t.Errorf("factor %g after %g epochs; want %g", got, epochs, want)
			}
		}
	}
	if len(seeds) != 4 {
		t.Errorf("the seeds of recipe and copies are %v", seeds)
	}
}

func TestStopAccuracy(t *testing.T) {
	m, err := New(*Defaults())
	if err != nil {
		t.Fatal(err)
	}
	if m.Ends(0.9799) || !m.Ends(0.98) {
		t.Error("the recipe's training does not end at 98%")
	}
}

func TestBadOptions(t *testing.T) {
	for i, change := range []func(*Options){
		func(o *Options) { o.StopAccuracy = 0 }, func(o *Options) { o.StopAccuracy = math.NaN() }, func(o *Options) { o.Workers = 0 },
		func(o *Options) { o.Epochs = 0 }, func(o *Options) { o.Batch = 0 }, func(o *Options) { o.LR = 0 }, func(o *Options) { o.LR = math.Inf(1) },
		func(o *Options) { o.Schedule = "step" }, func(o *Options) { o.Power = 0 },
	} {
		o := *Defaults()
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("change %d: %+v was accepted", i, o)
		}
	}
}
