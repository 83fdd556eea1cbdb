package adabatch

import (
	"math"
	"slices"
	"testing"

	"broadside/engine/methods/methodtest"
	"broadside/engine/schedule"
)

func build(t *testing.T, change func(*Options)) *Method {
	t.Helper()
	o := Options{Every: 20, Growth: 2, LRFactor: 0.75, BaseBatch: 128}
	change(&o)
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The paper's CIFAR runs: 128 to 2048 (ResNet-20, VGG-19) or 256 to 4096 (AlexNet) over 100 epochs, the learning rate
// times 0.75 every 20. An epoch that drops its last partial batch has floor(samples/batch) updates.
func TestPaperSchedule(t *testing.T) {
	for first, want := range map[int]int{128: 15080, 256: 7520} {
		m, f := build(t, func(*Options) {}), methodtest.New(100)
		f.BatchSize, f.BaseSize = first, first
		updates, k := 0, 0
		for f.EpochsDone = 1; f.EpochsDone <= 100; f.EpochsDone++ {
			k = (f.EpochsDone - 1) / 20
			if f.BatchSize != first<<k || math.Abs(f.LR-math.Pow(.75, float64(k))) > 1e-12 {
				t.Fatalf("epoch %d: batch %d, learning rate x%g; want %d and x0.75^%d", f.EpochsDone, f.BatchSize, f.LR, first<<k, k)
			}
			updates += f.SampleCount / f.BatchSize
			if err := m.EpochEnd(f); err != nil {
				t.Fatal(err)
			}
		}
		if updates != want {
			t.Errorf("from %d: %d updates; want %d", first, updates, want)
		}
		if len(f.Triggers) != 4 {
			t.Errorf("resizes %v; want four, none after the last epoch", f.Triggers)
		}
	}
}

// A batch above the training set is cut to 390 leaves of 128, and the learning rate falls by what was cut.
func TestClampAtTheTrainingSet(t *testing.T) {
	m, f := build(t, func(o *Options) { o.Every = 1 }), methodtest.New(4)
	f.BatchSize = 32768
	for f.EpochsDone = 1; f.EpochsDone <= 2; f.EpochsDone++ {
		if err := m.EpochEnd(f); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"1:adabatch:49920"}; !slices.Equal(f.Triggers, want) {
		t.Errorf("resizes %v; want %v and no second one", f.Triggers, want)
	}
	if want := .75 * 49920 / 65536 * .75 * .5; math.Abs(f.LR-want) > 1e-12 {
		t.Errorf("learning rate x%g; want x%g", f.LR, want)
	}
}

// 2.5 times 128 are 320 samples: two whole leaves.
func TestWholeLeaves(t *testing.T) {
	m, f := build(t, func(o *Options) { o.Every, o.Growth, o.LRFactor = 1, 2.5, 1 }), methodtest.New(4)
	f.EpochsDone = 1
	if err := m.EpochEnd(f); err != nil || f.BatchSize != 256 || f.LR != 1 {
		t.Errorf("batch %d, learning rate x%g, %v; want 256 and x1", f.BatchSize, f.LR, err)
	}
}

// Over W = 5 epochs from batch 128 to 1024 the factor is 1, 2.75, 4.5, 6.25, 8: the divisor is W-1.
func TestWarmup(t *testing.T) {
	m, f := build(t, func(o *Options) { o.WarmupEpochs = 5 }), methodtest.New(100)
	f.BaseSize = 1024
	s, err := m.Schedule(f, schedule.Step{At: []int{50}, Decay: .25})
	if err != nil {
		t.Fatal(err)
	}
	for epoch, want := range map[float64]float64{0: 1, .99: 1, 1: 2.75, 2.5: 4.5, 3: 6.25, 4: 8, 5: 8, 49.9: 8, 50: 2} {
		if got := s.Factor(epoch); math.Abs(got-want) > 1e-12 {
			t.Errorf("epoch %g: factor %g; want %g", epoch, got, want)
		}
	}
	if _, err := m.Schedule(f, schedule.Warmup{}); err == nil {
		t.Error("two warm-ups were accepted")
	}
}

func TestRefusesBadOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"every":         func(o *Options) { o.Every = 0 },
		"growth":        func(o *Options) { o.Growth = .5 },
		"lr_factor":     func(o *Options) { o.LRFactor = 0 },
		"warmup_epochs": func(o *Options) { o.WarmupEpochs = 1 },
		"long warm-up":  func(o *Options) { o.WarmupEpochs = 21 },
		"base_batch":    func(o *Options) { o.BaseBatch = 0 },
	} {
		o := Options{Every: 20, Growth: 2, LRFactor: 0.75, BaseBatch: 128}
		if change(&o); func() bool { _, err := New(o); return err == nil }() {
			t.Errorf("%s: %+v was accepted", name, o)
		}
	}
}
