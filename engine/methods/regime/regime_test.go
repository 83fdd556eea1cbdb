package regime

import (
	"math"
	"testing"

	"broadside/engine/methods/methodtest"
	"broadside/engine/schedule"
)

// The paper's factors of the learning rate: 4096 of 128 is 5.657, 2048 of 256 is 2.828.
func TestLearningRate(t *testing.T) {
	for _, c := range []struct {
		base, batch int
		lr          string
		want        float64
	}{{128, 4096, "sqrt", 5.657}, {256, 2048, "sqrt", 2.828}, {128, 4096, "linear", 32}, {128, 4096, "none", 1}} {
		m, err := New(Options{BaseBatch: c.base, LR: c.lr})
		if err != nil {
			t.Fatal(err)
		}
		f := methodtest.New(10)
		f.BaseSize = c.batch
		if err := m.Prepare(f); err != nil {
			t.Fatal(err)
		}
		s, err := m.Schedule(f, schedule.Step{At: []int{5}, Decay: .1})
		if err != nil {
			t.Fatal(err)
		}
		for epoch, want := range map[float64]float64{0: c.want, 5: .1 * c.want} {
			if got := s.Factor(epoch); math.Abs(got-want) > 5e-4 {
				t.Errorf("%+v: factor %g at epoch %g; want %g", c, got, epoch, want)
			}
		}
	}
}

// The epochs are multiplied once, by the batch over base_batch, rounded up.
func TestLengthen(t *testing.T) {
	for batch, want := range map[int]int{64: 1, 128: 1, 129: 2, 4096: 32} {
		o := Options{BaseBatch: 128, LR: "sqrt", Longer: true}
		if got := o.Lengthen(batch); got != want || o.LongerBy != want {
			t.Errorf("batch %d: factor %d, noted %d; want %d", batch, got, o.LongerBy, want)
		}
		if got := o.Lengthen(batch); got != 1 {
			t.Errorf("batch %d: factor %d the second time; want 1", batch, got)
		}
		m, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		f := methodtest.New(10)
		f.BaseSize = batch
		if err := m.Prepare(f); err != nil {
			t.Error(err)
		}
		if f.BaseSize = 8192; m.Prepare(f) == nil {
			t.Errorf("a recipe lengthened for %d was accepted for 8192", batch)
		}
	}
	if o := (Options{BaseBatch: 128}); o.Lengthen(4096) != 1 || o.LongerBy != 0 {
		t.Error("lengthened without being asked")
	}
}

func TestRefusesBadOptions(t *testing.T) {
	for _, o := range []Options{{0, "sqrt", false, 0}, {128, "cube", false, 0}, {128, "sqrt", false, 2}, {128, "sqrt", true, -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
