package engine

import (
	"context"
	"path/filepath"
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

// Images in a file that is mapped are painted where they lie, and are those of memory.
func TestMappedImagesArePainted(t *testing.T) {
	plain := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	for _, set := range []*data.Set{plain.Train, plain.Test} {
		set.Mean, set.Std = []float32{0.5, 0.5, 0.5}, []float32{1, 1, 1}
	}
	path := filepath.Join(t.TempDir(), "small.bspack")
	if _, err := plain.Pack(path); err != nil {
		t.Fatal(err)
	}
	packed, err := data.Open(data.Spec{Name: "packed", Path: path})
	if err != nil {
		t.Fatal(err)
	}
	var got [2]*checkpoint.Checkpoint
	for i, pair := range []*data.Pair{plain, packed} {
		r, s := smallRecipe(t, "autoaugment"), &tape{}
		tr := startTrainer(t, r, pair, 2, s)
		if inPlace := &tr.fleet.train.onHost().Images[0] == &pair.Train.Images[0]; inPlace != pair.Train.Mapped {
			t.Errorf("images are mapped: %t; painted where they lie: %t", pair.Train.Mapped, inPlace)
		}
		if err := tr.train(context.Background()); err != nil {
			t.Fatal(err)
		}
		got[i] = s.checkpoints[len(s.checkpoints)-1]
	}
	if d := difference(got[0], got[1]); d != "" || !packed.Train.Mapped {
		t.Errorf("mapped %t: %s", packed.Train.Mapped, d)
	}
}
