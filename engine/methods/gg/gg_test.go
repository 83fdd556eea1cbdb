package gg

import (
	"math"
	"testing"

	"broadside/engine/methods/methodtest"
	"broadside/engine/schedule"
)

// Smith et al. 2018, CIFAR-10: batch 128, 640, 3200, 5120 (the cap); the third milestone's factor
// leaves 5/1.6 = 3.125 to the learning rate. Their count of updates over 200 epochs is 29,141.
func TestSmithSchedule(t *testing.T) {
	m, err := New(Options{MaxBatch: 5120})
	if err != nil {
		t.Fatal(err)
	}
	f := methodtest.New(200)
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
	if got := math.Round(updates); got != 29141 {
		t.Errorf("%g updates; want 29141", got)
	}
	if f.BatchSize != 5120 || math.Abs(f.LR-1/3.125) > 1e-12 {
		t.Errorf("batch %d, learning rate x%g; want 5120 and x0.32", f.BatchSize, f.LR)
	}
}

func TestNeedsAStepSchedule(t *testing.T) {
	m, _ := New(Options{MaxBatch: 128})
	if _, err := m.Schedule(methodtest.New(1), schedule.Constant{}); err == nil {
		t.Error("gg accepted a schedule without milestones")
	}
}
