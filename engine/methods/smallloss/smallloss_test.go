package smallloss

import (
	"math"
	"slices"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

func build(t *testing.T, o Options) *Method {
	t.Helper()
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestKeepsTheLargest(t *testing.T) {
	m := build(t, Options{Mean: "kept", Keep: .5, Rule: "largest", End: 1})
	for range 2 { // scratch is used again
		kept := make([]int, 4)
		// The third of the losses of 2 comes last and is not kept.
		m.Select(methods.Draw{}, make([]int32, 8), []float32{1, 2, 5, 0, 2, 3, 2, 1}, kept)
		if want := []int{1, 2, 4, 5}; !slices.Equal(kept, want) {
			t.Errorf("kept %v; want %v", kept, want)
		}
	}
}

// Two of three samples, keep 2/3: the weights are the square roots of the percentiles 1/6, 3/6, 5/6. The probability
// that a sample is left out is that of the two others in either order.
func TestPercentileProbabilities(t *testing.T) {
	m := build(t, Options{Mean: "kept", Keep: 2. / 3, Rule: "percentile", End: 1})
	w := [3]float64{math.Sqrt(1. / 6), math.Sqrt(3. / 6), math.Sqrt(5. / 6)} // of the samples of losses 1, 2, 3
	total := w[0] + w[1] + w[2]
	losses := []float32{2, 3, 1}
	const n = 20000
	var left [3]int
	kept := make([]int, 2)
	for epoch := range n {
		m.Select(methods.Draw{Seed: 3, Epoch: epoch}, []int32{7, 8, 9}, losses, kept)
		left[3-kept[0]-kept[1]]++
	}
	for place, loss := range losses {
		a, b := w[int(loss)%3], w[(int(loss)+1)%3] // the others'
		p := a/total*b/(total-a) + b/total*a/(total-b)
		if got := float64(left[place]); math.Abs(got-n*p) > 5*math.Sqrt(n*p*(1-p)) {
			t.Errorf("loss %g: left out %g times of %d; want %g", loss, got, n, n*p)
		}
	}
}

func TestChoiceDependsOnTheDrawAlone(t *testing.T) {
	m := build(t, Options{Mean: "kept", Keep: .5, Rule: "percentile", End: 1})
	choose := func(d methods.Draw) []int {
		kept := make([]int, 32)
		samples, losses := make([]int32, 64), make([]float32, 64)
		for i := range samples {
			samples[i], losses[i] = int32(i), float32(i*37%64)
		}
		m.Select(d, samples, losses, kept)
		return kept
	}
	first := choose(methods.Draw{Seed: 1, Epoch: 4})
	if !slices.Equal(first, choose(methods.Draw{Seed: 1, Epoch: 4})) || !slices.IsSorted(first) {
		t.Errorf("kept %v, then %v", first, choose(methods.Draw{Seed: 1, Epoch: 4}))
	}
	for _, d := range []methods.Draw{{Seed: 2, Epoch: 4}, {Seed: 1, Epoch: 5}} {
		if slices.Equal(first, choose(d)) {
			t.Errorf("%+v chooses the same", d)
		}
	}
}

// Composer's selective backprop by its defaults: from the middle of training to 9/10 of it, every second batch.
func TestWhenSamplesAreDiscarded(t *testing.T) {
	m := build(t, Options{Mean: "kept", Keep: .5, Rule: "percentile", Start: .5, End: .9, Interrupt: 2})
	f := methodtest.New(10)
	for epoch := range 10 {
		for update := range 4 {
			f.EpochsDone, f.UpdatesDone = epoch, update
			want := 8
			if epoch >= 5 && epoch < 9 && update%2 == 0 {
				want = 4
			}
			if got := m.Keep(f, 8); got != want {
				t.Errorf("epoch %d, update %d: %d leaves of 8; want %d", epoch, update, got, want)
			}
		}
	}
}

func TestWholeLeaves(t *testing.T) {
	for keep, want := range map[float64]int{.01: 1, .1: 1, .11: 2, .3: 3, .5: 5, .95: 10, 1: 10} {
		if got := build(t, Options{Mean: "kept", Keep: keep, Rule: "largest", End: 1}).leaves(10); got != want {
			t.Errorf("keep %g: %d leaves of 10; want %d", keep, got, want)
		}
	}
}

// Losses from min_loss on are kept, in whole leaves and at least one.
func TestThreshold(t *testing.T) {
	m := build(t, Options{Mean: "kept", Keep: .1, Rule: "threshold", MinLoss: 2, End: .5})
	f := methodtest.New(10)
	f.BaseSize = 512
	if err := m.Prepare(f); err != nil {
		t.Fatal(err)
	}
	if got := m.Keep(f, 4); got != 0 {
		t.Errorf("%d leaves before the losses are known; want 0", got)
	}
	if f.EpochsDone = 5; m.Keep(f, 4) != 4 {
		t.Error("it goes on after its end")
	}
	for want, losses := range map[int][]float32{1: {0, 1, 1.9, 0}, 2: {2, 1, 3, 2}, 3: {2, 2, 2, 9, 8, 1}} {
		if got := m.Count(losses, 2); got != want {
			t.Errorf("losses %v: %d leaves of 2; want %d", losses, got, want)
		}
	}
	kept := make([]int, 4)
	m.Select(methods.Draw{}, make([]int32, 6), []float32{1, 2, 0, 5, 1.5, 3}, kept)
	if want := []int{1, 3, 4, 5}; !slices.Equal(kept, want) {
		t.Errorf("kept %v; want those of losses from 2 on and, to fill the leaf, the next: %v", kept, want)
	}
	if m.Prepare(methodtest.New(1)) == nil {
		t.Error("a batch of one leaf was accepted")
	}
}

func TestRefusesBadOptions(t *testing.T) {
	good := Options{Mean: "kept", Keep: .5, Rule: "largest", End: 1}
	for name, change := range map[string]func(*Options){
		"keep":          func(o *Options) { o.Keep = 0 },
		"keep too much": func(o *Options) { o.Keep = 1.5 },
		"rule":          func(o *Options) { o.Rule = "smallest" },
		"start":         func(o *Options) { o.Start = -1 },
		"end":           func(o *Options) { o.Start, o.End = .5, .4 },
		"mean":          func(o *Options) { o.Mean = "median" },
		"min_loss":      func(o *Options) { o.MinLoss = math.Inf(1) },
		"no min_loss":   func(o *Options) { o.Rule = "threshold" },
		"interrupt":     func(o *Options) { o.Interrupt = 1 },
	} {
		o := good
		if change(&o); func() bool { _, err := New(o); return err == nil }() {
			t.Errorf("%s: %+v was accepted", name, o)
		}
	}
	if build(t, good).Prepare(methodtest.New(2)) == nil {
		t.Error("half of a batch of one leaf was accepted")
	}
}
