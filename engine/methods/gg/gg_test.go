package gg

import (
	"math"
	"testing"

	"broadside/engine/methods/methodtest"
	"broadside/engine/schedule"
)

// Smith et al. 2018, CIFAR-10: batch 128, 640, 3200, 5120 (the cap); the third milestone's factor
// leaves 5/1.6 = 3.125 to the learning rate, and 5 where the batch begins at 640 or 3200 in each milestone at the cap. Their
// counts of updates over 200 epochs are 29,141, 6,406 and 2,305; without growth it is 78,125.
func TestSmithSchedule(t *testing.T) {
	smith(t, 128, 5120, 29141, 1/3.125)
	smith(t, 640, 5120, 6406, 1/3.125/5)
	smith(t, 3200, 5120, 2305, 1/3.125/25)
	smith(t, 128, 128, 78125, 1./125)
}

func smith(t *testing.T, first, most int, want, rate float64) {
	t.Helper()
	m, err := New(Options{MaxBatch: most})
	if err != nil {
		t.Fatal(err)
	}
	f := methodtest.New(200)
	f.BaseSize, f.BatchSize = first, first
	if err := m.Prepare(f); err != nil {
		t.Fatal(err)
	}
	s, err := m.Schedule(f, schedule.Step{At: []int{60, 120, 160}, Decay: 0.2})
	if err != nil {
		t.Fatal(err)
	}
	if s.Factor(199) != 1 {
		t.Errorf("the schedule decays to %g: gg takes its milestones over", s.Factor(199))
	}
	updates := 0.0
	for f.EpochsDone = 1; f.EpochsDone <= 200; f.EpochsDone++ {
		updates += 50000 / float64(f.BatchSize)
		if err := m.EpochEnd(f); err != nil {
			t.Fatal(err)
		}
	}
	if got := math.Round(updates); got != want {
		t.Errorf("from a batch of %d: %g updates; want %g", first, got, want)
	}
	if f.BatchSize != most || math.Abs(f.LR-rate) > 1e-12 {
		t.Errorf("from a batch of %d: batch %d, learning rate x%g; want %d and x%g", first, f.BatchSize, f.LR, most, rate)
	}
}

func TestNeedsAStepSchedule(t *testing.T) {
	m, _ := New(Options{MaxBatch: 128})
	if _, err := m.Schedule(methodtest.New(1), schedule.Constant{}); err == nil {
		t.Error("gg accepted a schedule without milestones")
	}
}
