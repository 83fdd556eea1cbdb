package engine

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/checkpoint"
	"broadside/kernels"
	"broadside/kernels/ref"
)

// An update on three views is the mean of updates on each, which other recipes make: what a parameter or statistic comes
// to after the first update is a sum over theirs. Every view's samples, gradients and statistics are its own.
func TestThreeViewsAreTheirParts(t *testing.T) {
	text := strings.Replace(smallText, "lanes: 8}", "lanes: 8, running: mean}", 1)
	viewed := strings.Replace(text, "augment: [pad_crop, flip, cutout]", "augment: [flip, cutout]", 1)
	run := func(text string) *checkpoint.Checkpoint {
		ck, _ := trainText(t, text, []kernels.Device{ref.New()}, 1, nil, nil)
		return ck
	}
	const attack = "epsilon: 0.1, step: 0.1"
	three := run(text + "methods: [disadv: {" + attack + ", view: [flip, cutout]}]\n")
	pair := run(text + "methods: [disadv: {" + attack + "}]\n") // clean, adversarial
	first := run(viewed)                                        // the view, drawn as copy 0
	copies := run(viewed + "methods: [batchaug: {copies: 2}]\n")
	floats := func(ck *checkpoint.Checkpoint, name string) []float32 { return ck.Tensors[name].Data().([]float32) }
	seen := map[string]int{}
	for name, x := range three.Tensors {
		got, ok := x.Data().([]float32)
		if !ok || strings.HasPrefix(name, optimizerPrefix) {
			continue
		}
		plain := strings.NewReplacer("_adv.", ".", "_aug.", ".").Replace(name)
		layer := plain[:strings.LastIndex(plain, ".")]
		ofNorm, running := three.Tensors[layer+".running_mean"] != nil, strings.Contains(name, ".running_")
		start := 0.0 // of a scale or shift
		if strings.HasSuffix(name, ".weight") {
			start = 1
		}
		kind := "shared"
		var want func(i int) float64
		switch {
		case !ofNorm: // mean of clean, adversarial and copy 1 of the view
			want = func(i int) float64 {
				return (2*float64(floats(pair, name)[i]) + 2*float64(floats(copies, name)[i]) - float64(floats(first, name)[i])) / 3
			}
		case strings.Contains(name, "_aug."):
			kind = "view's"
			want = func(i int) float64 {
				moved := 2*float64(floats(copies, plain)[i]) - float64(floats(first, plain)[i])
				if running {
					return moved
				}
				return start + (moved-start)/3
			}
		default: // main and adversarial set, whose gradients were halves
			kind = "pair's"
			want = func(i int) float64 {
				moved := float64(floats(pair, name)[i])
				if running {
					return moved
				}
				return start + (moved-start)*2/3
			}
		}
		seen[kind]++
		for i, v := range got { // differences of what is read in single precision
			near(t, fmt.Sprintf("%s[%d]", name, i), float64(v), want(i), 1e-6*(1+math.Abs(want(i))))
		}
	}
	if seen["shared"] == 0 || seen["view's"] == 0 || seen["pair's"] != 2*seen["view's"] {
		t.Errorf("tensors %v", seen)
	}
}

// A view without a set of its own goes through the first one.
func TestThreeViewsOfOneSet(t *testing.T) {
	ck, s := trainText(t, smallText+"methods: [conadv: {aux_bn: false, view: [flip]}]\n", devicetest.Open(t, 2), 3, nil, nil)
	if ck.Tensors["bn1_aug.weight"] != nil || ck.Tensors["bn1_adv.weight"] != nil {
		t.Error("there are further sets")
	}
	if n := s.steps[2].Samples; n != 64 {
		t.Errorf("an update of %d samples, want 64: views do not count", n)
	}
}

func TestAViewThatCannotMove(t *testing.T) {
	text := strings.Replace(smallText, "augment: [pad_crop, flip, cutout], pad: 1", "augment: [flip], pad: 0", 1)
	var c Checker
	r := parseRecipe(t, text+"methods: [conadv: {view: [pad_crop]}]\n", "data={name: fashion-mnist-small, train_limit: 500}", "model.name=resnet8")
	if err := c.Check(r); err == nil || !strings.Contains(err.Error(), "data.pad 0") {
		t.Errorf("error %v; want one that names data.pad", err)
	}
}
