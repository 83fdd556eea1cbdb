package batchsched

import (
	"slices"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

func TestGrowsAtMilestones(t *testing.T) {
	for _, c := range []struct {
		opt  Options
		want []string
		lr   float64
	}{
		{Options{At: []int{2, 4, 5}, Factor: 2, MaxBatch: 512, LR: "constant"}, []string{"2:schedule:256", "4:schedule:512"}, 1},
		{Options{At: []int{2, 4, 5}, Factor: 4, MaxBatch: 640, LR: "linear"}, []string{"2:schedule:512", "4:schedule:640"}, 5},
		{Options{At: []int{1}, Factor: 2.6, MaxBatch: 640, LR: "linear"}, []string{"1:schedule:384"}, 3},
		{Options{At: []int{1, 2}, Factor: .25, MaxBatch: 640, LR: "linear"}, nil, 1},
	} {
		m, err := New(c.opt)
		if err != nil {
			t.Fatal(err)
		}
		f := methodtest.New(6)
		if err := m.Prepare(f); err != nil {
			t.Fatal(err)
		}
		for f.EpochsDone = 1; f.EpochsDone <= 6; f.EpochsDone++ {
			if err := m.EpochEnd(f); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(f.Triggers, c.want) || f.LR != c.lr || f.Carry != methods.Reweight {
			t.Errorf("%+v: %v, learning rate x%g; want %v, x%g", c.opt, f.Triggers, f.LR, c.want, c.lr)
		}
	}
}

func TestRefusesBadOptions(t *testing.T) {
	good := Options{At: []int{2}, Factor: 2, MaxBatch: 512, LR: "constant"}
	for name, change := range map[string]func(*Options){
		"none":       func(o *Options) { o.At = nil },
		"zero":       func(o *Options) { o.At = []int{0, 1} },
		"descending": func(o *Options) { o.At = []int{2, 1} },
		"twice":      func(o *Options) { o.At = []int{2, 2} },
		"factor":     func(o *Options) { o.Factor = 0 },
		"max_batch":  func(o *Options) { o.MaxBatch = 0 },
		"lr":         func(o *Options) { o.LR = "sqrt" },
	} {
		o := good
		if change(&o); func() bool { _, err := New(o); return err == nil }() {
			t.Errorf("%s: %+v was accepted", name, o)
		}
	}
	m, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	if m.Prepare(methodtest.New(2)) == nil {
		t.Error("a milestone at the end of the run was accepted")
	}
	f := methodtest.New(9)
	f.Largest = 256
	if m.Prepare(f) == nil {
		t.Error("a max_batch of more than an epoch was accepted where updates end with the epoch")
	}
	f.Largest = 0
	f.LeafSize = 96
	if m.Prepare(f) == nil {
		t.Error("a max_batch of no whole leaves was accepted")
	}
}
