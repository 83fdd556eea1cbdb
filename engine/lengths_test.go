package engine

import (
	"context"
	"math"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
	"broadside/engine/methods"
)

// stepper keeps what it is told of updates.
type stepper struct{ seen []methods.Step }

func (s *stepper) Prepare(methods.Training) error { return nil }
func (s *stepper) MeasuresStep(update int) bool   { return update != 2 }
func (s *stepper) ReadStep(step *methods.Step) {
	kept := *step
	kept.Tensors = append([]methods.TensorStep(nil), step.Tensors...)
	s.seen = append(s.seen, kept)
}

// What is told of an update is what the host computes from the parameters before and after it, on several memories.
func TestStepsAreWhatUpdatesDo(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	tr := startTrainerOn(t, smallRecipe(t, ""), pair, devicetest.OpenApart(t, 2, 2), Options{}, &tape{})
	s := &stepper{}
	var err error
	if tr.updater.steps, err = newSteps(tr.fleet, []method{{methods.Info{Name: "steps"}, s}}, tr.updater.lengths); err != nil {
		t.Fatal(err)
	}
	for update := range 3 {
		before := read(tr.fleet.params)
		if err := tr.computeLeaves(); err != nil {
			t.Fatal(err)
		}
		samples := float64(tr.pending.samples)
		loss, err := tr.lossOnJob()
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.update(); err != nil {
			t.Fatal(err)
		}
		if update == 1 {
			continue
		}
		after, gradient := read(tr.fleet.params), read(tr.fleet.sums[0])
		var want methods.Step
		for i, p := range tr.fleet.net.Params {
			var g, d float64
			for k := p.Offset; k < p.Offset+p.Size(); k++ {
				grad, moved := float64(gradient[k])/samples, float64(after[k])-float64(before[k])
				g, d, want.Slope = g+grad*grad, d+moved*moved, want.Slope+grad*moved
			}
			want.Gradient, want.Length = want.Gradient+g, want.Length+d
			got := s.seen[len(s.seen)-1].Tensors[i]
			nearly(t, p.Name+" gradient", got.Gradient, math.Sqrt(g))
			nearly(t, p.Name+" step", got.Length, math.Sqrt(d))
		}
		now, err := tr.lossOnJob()
		if err != nil {
			t.Fatal(err)
		}
		got := s.seen[len(s.seen)-1]
		nearly(t, "gradient", got.Gradient, math.Sqrt(want.Gradient))
		nearly(t, "length", got.Length, math.Sqrt(want.Length))
		nearly(t, "slope", got.Slope, want.Slope)
		if got.LossChange != now-loss || got.LossChange >= 0 {
			t.Errorf("update %d: the loss changed by %g; want %g, and less than 0", update+1, got.LossChange, now-loss)
		}
	}
	if len(s.seen) != 2 {
		t.Errorf("%d updates measured; want 2", len(s.seen))
	}
}

func nearly(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-5*math.Abs(want)) {
		t.Errorf("%s: %g; want %g", what, got, want)
	}
}

// The distance is from the parameters that the seed gives, also after a resume.
func TestDistanceIsFromTheSeedsParameters(t *testing.T) {
	_, half := trainSmall(t, "", 1, 5, nil)
	pair := &data.Pair{Train: synthetic(11*32+5, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	tr := startTrainer(t, smallRecipe(t, ""), pair, 2, &tape{})
	c := control{tr}
	if d, err := c.Distance(nil); err != nil || d != 0 {
		t.Errorf("distance %g before training (%v)", d, err)
	}
	if err := tr.restore(half); err != nil {
		t.Fatal(err)
	}
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	each := make([]float64, len(c.Tensors()))
	got, err := c.Distance(each)
	if err != nil {
		t.Fatal(err)
	}
	now, start, whole := read(tr.fleet.params), tr.fleet.net.InitParams(tr.cfg.seed), 0.0
	for i, p := range tr.fleet.net.Params {
		square := 0.0
		for k := p.Offset; k < p.Offset+p.Size(); k++ {
			square += (float64(now[k]) - float64(start[k])) * (float64(now[k]) - float64(start[k]))
		}
		nearly(t, p.Name, each[i], math.Sqrt(square))
		whole += square
	}
	nearly(t, "all parameters", got, math.Sqrt(whole))
}

// The gradient that is measured is the loss's, whatever a method makes of it before the step.
func TestStepsMeasureTheGradientOfTheLoss(t *testing.T) {
	first := func(damper string) methods.Step {
		pair := &data.Pair{Train: synthetic(8*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
		tr := startTrainer(t, parseRecipe(t, smallText+"methods: ["+damper+"]\n", "batch.size=256"), pair, 2, &tape{})
		s := &stepper{}
		var err error
		if tr.updater.steps, err = newSteps(tr.fleet, []method{{methods.Info{Name: "steps"}, s}}, tr.updater.lengths); err != nil {
			t.Fatal(err)
		}
		if err := tr.computeLeaves(); err != nil {
			t.Fatal(err)
		}
		if err := tr.update(); err != nil {
			t.Fatal(err)
		}
		return s.seen[0]
	}
	plain, damped := first(""), first("vrsgd: {}")
	if plain.Gradient != damped.Gradient || plain.Length <= damped.Length || plain.Slope >= damped.Slope {
		t.Errorf("plain SGD %+v; damped %+v", plain, damped)
	}
}
