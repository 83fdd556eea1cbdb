package pgd

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

// fragile is a training whose network has given accuracies under attack, one an epoch.
type fragile struct {
	*methodtest.Training
	accuracies []float64
	samples    int
	attack     methods.Attack
}

func (f *fragile) RobustAccuracy(samples int, a methods.Attack) (float64, error) {
	if f.samples, f.attack = samples, a; len(f.accuracies) == 0 {
		return 0, errors.New("broken")
	}
	now := f.accuracies[0]
	f.accuracies = f.accuracies[1:]
	return now, nil
}

func watching(t *testing.T, earlyStop float64) *Watching {
	t.Helper()
	info, _ := methods.Lookup("fgsmrs")
	o := info.Options().(*FastOptions)
	o.EarlyStop = earlyStop
	m, err := info.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return m.(*Watching)
}

func TestStopsAtADropOfMore(t *testing.T) {
	for _, c := range []struct {
		earlyStop  float64
		accuracies []float64
		want       int // the epoch that it stops after; 0: none
	}{
		{0.2, []float64{0.3, 0.35, 0.4, 0.1, 0.5}, 4},
		{0.2, []float64{0.5, 0.375, 0.25, 0.125, 0}, 0}, // each drop is an eighth
		{0.25, []float64{0.5, 0.25, 0}, 0},              // no more than a quarter
		{0.2, []float64{0, 0, 0}, 0},
		{0.001, []float64{0.5, 0.49}, 2},
	} {
		m, f := watching(t, c.earlyStop), &fragile{Training: methodtest.New(5), accuracies: c.accuracies}
		stopped := 0
		for i, accuracy := range c.accuracies {
			if err := m.EpochEnd(f); err != nil {
				t.Fatal(err)
			}
			if m.Report()["robust_accuracy"] != accuracy {
				t.Errorf("reported %v; want %g", m.Report(), accuracy)
			}
			raw, err := json.Marshal(m.State())
			if err != nil {
				t.Fatal(err)
			}
			m = watching(t, c.earlyStop) // a resume
			if err := json.Unmarshal(raw, m.State()); err != nil {
				t.Fatal(err)
			}
			if why, stop := m.Stops(); stop {
				stopped = i + 1
				if !strings.Contains(why, "(catastrophic overfitting)") {
					t.Errorf("why: %s", why)
				}
				break
			}
		}
		if stopped != c.want {
			t.Errorf("%v, by %g: stopped after epoch %d; want %d", c.accuracies, c.earlyStop, stopped, c.want)
		}
	}
}

// The test is the authors': PGD of 5 steps of 2/255 within 8/255, in train mode, on the epoch's first batch.
func TestTheTestIsTheAuthors(t *testing.T) {
	m, f := watching(t, 0.2), &fragile{Training: methodtest.New(5), accuracies: []float64{0.5}}
	f.BatchSize = 512
	if err := m.EpochEnd(f); err != nil {
		t.Fatal(err)
	}
	if f.samples != 512 || f.attack.Samples != 128 || !f.attack.TrainMode || f.attack.Iterations != 5 || !f.attack.RandomStart ||
		math.Abs(f.attack.Step-2./255) > 1e-12 || f.attack.Eps != 8./255 || !f.attack.Pixels || f.attack.Clamp != graph.ToBox {
		t.Errorf("%d samples under %+v", f.samples, f.attack)
	}
	if err := m.EpochEnd(f); err == nil || !strings.Contains(err.Error(), "measuring the accuracy under PGD: broken") {
		t.Errorf("a failure: %v", err)
	}
}

// Without early_stop there is nothing to measure or to keep.
func TestEarlyStopIsOff(t *testing.T) {
	info, _ := methods.Lookup("fgsmrs")
	m, err := info.New(info.Options())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := m.(methods.EpochEnder); ok {
		t.Error("the accuracy is measured though nobody asked")
	}
	for _, drop := range []float64{-0.1, 1.1, math.NaN()} {
		if _, err := NewFast(FastOptions{Epsilon: 0.1, EarlyStop: drop}); err == nil || !strings.Contains(err.Error(), "methods.fgsmrs.early_stop") {
			t.Errorf("early_stop %g: %v", drop, err)
		}
	}
}
