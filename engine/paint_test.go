package engine

import (
	"context"
	"slices"
	"strings"
	"testing"

	"broadside/engine/checkpoint"
	"broadside/engine/data"
	"broadside/engine/data/autoaugment"
	"broadside/engine/methods"
)

// What is painted on the host is what the augmentation kernel makes: crops, flips and cutout have the same draws and, but
// for what cutout leaves where pixels are normalised, the same bits. A policy that does nothing tells.
func TestPaintedViewsAreTheKernels(t *testing.T) {
	for _, augment := range []string{"[pad_crop, flip, cutout]", "[pad_crop]", "[flip]", "[cutout]", "[pad_crop, flip]"} {
		for _, pad := range []string{"1", "11"} { // images have 8 pixels a side
			for _, sets := range [][]string{nil, {"methods=[batchaug: {copies: 3}]"}, {"methods=[conadv: {epsilon: 0.1, step: 0.1, view: [flip]}]"}} {
				var got [2]*checkpoint.Checkpoint
				for i := range got {
					r := parseRecipe(t, smallText, append(sets, "train.epochs=2", "model.name=linear", "data.cutout_size=5", "data.pad="+pad, "data.augment="+augment)...)
					s := &tape{keepSteps: true}
					tr := startTrainer(t, r, smallPair(r), 2, s)
					if i == 1 {
						tr.cfg.augment.policy = &autoaugment.Policy{}
						if err := tr.fleet.paintFor(tr.cfg.augment); err != nil {
							t.Fatal(err)
						}
					}
					if err := tr.train(context.Background()); err != nil {
						t.Fatal(err)
					}
					if s.steps[0].Streamed != (i == 1) {
						t.Error("the progress does not tell them apart")
					}
					got[i] = s.checkpoints[len(s.checkpoints)-1]
				}
				if d := difference(got[0], got[1]); d != "" {
					t.Errorf("%s by %s, %v: %s", augment, pad, sets, d)
				}
			}
		}
	}
}

// A leaf of a policy holds the bytes that a painter makes, normalised; views draw anew by epoch, copy and seed.
func TestLeavesArePainted(t *testing.T) {
	r := parseRecipe(t, smallText, "data.augment=[flip, autoaugment]", "data.autoaugment=cifar10")
	pair := smallPair(r)
	tr := startTrainer(t, r, pair, 1, &tape{})
	w := tr.fleet.workers[0]
	painter, size := data.NewPainter(pair.Train, nil), pair.Train.ImageBytes()
	indices := firstSamples(32)
	var before []float32
	for _, draw := range []methods.Draw{{Seed: 7}, {Seed: 7, Epoch: 1}, {Seed: 7, Copy: 1}, {Seed: 8}} {
		if err := tr.fleet.do(firstOnly(func(w *worker) error { return w.gather(tr.fleet.train, tr.cfg.augment, draw, indices) })); err != nil {
			t.Fatal(err)
		}
		got := make([]float32, 32*size)
		w.leaf.ReadFloats(int(tr.fleet.leaf.X().Offset), got)
		if slices.Equal(got, before) {
			t.Errorf("%+v: the leaf is the one before", draw)
		}
		before = got
		image := make([]byte, size)
		for i := range indices {
			if err := painter.Paint(image, i, viewOf(tr.cfg.augment, draw)); err != nil {
				t.Fatal(err)
			}
			for k, v := range image {
				if want := float32(float64(v) / 255); got[i*size+k] != want {
					t.Fatalf("%+v, image %d, byte %d: %g, want %g", draw, i, k, got[i*size+k], want)
				}
			}
		}
	}
}

// What no policy can edit is refused, in data.augment and in a view.
func TestPoliciesNeedColours(t *testing.T) {
	for _, sets := range [][]string{{"data.augment=[autoaugment]"}, {"methods=[disadv: {view: [autoaugment]}]"}} {
		for _, channels := range []int{1, 2, 3} {
			r := parseRecipe(t, smallText, append(sets, "model.name=linear")...)
			tr := startTrainer(t, parseRecipe(t, smallText, "model.name=linear"), &data.Pair{Train: synthetic(64, 8, channels, 4), Test: synthetic(8, 8, channels, 4)}, 1, &tape{})
			_, err := newTrainer(tr.fleet, r, &tape{})
			if channels != 2 && err != nil || channels == 2 && (err == nil || !strings.Contains(err.Error(), "synthetic has 2 channels")) {
				t.Errorf("%v, %d channels: %v", sets, channels, err)
			}
		}
	}
}
