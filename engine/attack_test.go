package engine

import (
	"math"
	"slices"
	"testing"

	"broadside/engine/data"
	"broadside/engine/graph"
	"broadside/engine/methods"
)

// normalised are the channels of the images below.
var normalisedMean, normalisedStd = []float32{0.49, 0.48, 0.45}, []float32{0.247, 0.243, 0.262}

// attackLeaf gathers a leaf of normalised images, attacks it and returns it before and after.
func attackLeaf(t *testing.T, a methods.Attack, look func(w *worker, indices []int32)) (clean, attacked []float32) {
	t.Helper()
	set := synthetic(64, 8, 3, 4)
	for i := range set.Images { // some pixels at the ends of their range
		if i%5 == 0 {
			set.Images[i] = byte(i % 2 * 255)
		}
	}
	pair := &data.Pair{Train: set, Test: set}
	tr := startTrainer(t, smallRecipe(t, ""), pair, 1, &tape{})
	r, err := newResident(tr.fleet.dev, set, normalisedMean, normalisedStd)
	if err != nil {
		t.Fatal(err)
	}
	defer r.free()
	err = tr.fleet.do(firstOnly(func(w *worker) error {
		indices := firstSamples(32)
		if err := w.gather(r, augmentation{pad: 1, flip: true, cutout: 2}, methods.Draw{Seed: 7, Epoch: 3}, indices); err != nil {
			return err
		}
		clean = read(w.leaf)[:32*8*8*3]
		if err := w.perturb(r, a, indices); err != nil {
			return err
		}
		attacked = read(w.leaf)[:32*8*8*3]
		if look != nil {
			look(w, indices)
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return clean, attacked
}

func pixelAttack(eps, step float64) methods.Attack {
	return methods.Attack{Samples: 32, Attack: graph.Attack{Eps: eps, Step: step, Iterations: 2, RandomStart: true, Pixels: true, Clamp: graph.ToBox}}
}

// On normalised images the ball is in pixels, in every channel, and so is the box.
func TestAttackOnPixelsOfNormalisedImages(t *testing.T) {
	const eps = 0.05
	clean, attacked := attackLeaf(t, pixelAttack(eps, 0.03), nil)
	most := make([]float64, 3)
	for i := range clean {
		mean, std := float64(normalisedMean[i%3]), float64(normalisedStd[i%3])
		from, to := float64(clean[i])*std+mean, float64(attacked[i])*std+mean
		if d := math.Abs(to - from); d > eps+1e-6 {
			t.Fatalf("element %d: a pixel moved by %g; want at most %g", i, d, eps)
		}
		if to < -1e-6 || to > 1+1e-6 {
			t.Fatalf("element %d: a pixel of %g", i, to)
		}
		most[i%3] = max(most[i%3], math.Abs(to-from))
	}
	for c, m := range most {
		if m < eps-1e-6 {
			t.Errorf("channel %d: no pixel moved by more than %g; want %g", c, m, eps)
		}
	}
	if slices.Equal(clean, attacked) {
		t.Error("nothing moved")
	}
}

// An attack that may not move anything changes no bit, though it goes to pixels and back.
func TestAttackInABallOfNothing(t *testing.T) {
	for _, train := range []bool{false, true} {
		a := pixelAttack(0, 0.03)
		a.TrainMode = train
		if clean, attacked := attackLeaf(t, a, nil); !slices.Equal(clean, attacked) {
			t.Errorf("train mode %t: the samples changed", train)
		}
	}
}

// Only the first samples of a leaf are attacked.
func TestAttackOnAPartOfALeaf(t *testing.T) {
	a := pixelAttack(0.05, 0.03)
	a.Samples = 5
	clean, attacked := attackLeaf(t, a, nil)
	per := len(clean) / 32
	if !slices.Equal(clean[5*per:], attacked[5*per:]) || slices.Equal(clean[4*per:5*per], attacked[4*per:5*per]) {
		t.Error("want the first five samples attacked, and no other")
	}
}

func TestStartsAreUniform(t *testing.T) {
	const eps = 0.5
	attackLeaf(t, pixelAttack(eps, 0), func(w *worker, indices []int32) {
		all := slices.Clone(w.starts(pixelAttack(eps, 0), indices))
		mean, square := 0.0, 0.0
		for _, v := range all {
			mean, square = mean+float64(v)/float64(len(all)), square+float64(v)*float64(v)/float64(len(all))
			if v < -eps || v > eps {
				t.Fatalf("a start of %g in a ball of %g", v, eps)
			}
		}
		// The mean of n uniform numbers has a deviation of eps/sqrt(3 n), that of their squares one of eps^2 sqrt(4/45 n).
		n := float64(len(all))
		if math.Abs(mean) > 5*eps/math.Sqrt(3*n) || math.Abs(square-eps*eps/3) > 5*eps*eps*math.Sqrt(4./45/n) {
			t.Errorf("mean %g and mean square %g of %g numbers", mean, square, n)
		}
		// A sample's start is its own, wherever in a leaf it is, and another in another epoch.
		per := len(all) / len(indices)
		if got := w.starts(pixelAttack(eps, 0), indices[3:4]); !slices.Equal(got, all[3*per:4*per]) {
			t.Error("a sample's start depends on its leaf")
		}
		w.key[2]++
		if got := w.starts(pixelAttack(eps, 0), indices); slices.Equal(got, all) {
			t.Error("another epoch begins alike")
		}
	})
}

func TestCleanStartsHaveTheirProbability(t *testing.T) {
	attackLeaf(t, pixelAttack(0.1, 0), func(w *worker, _ []int32) {
		a := pixelAttack(0.1, 0)
		a.CleanStart = 0.2
		const n = 2000
		clean := 0
		for sample := range int32(n) {
			starts := w.starts(a, []int32{sample})
			if slices.Max(starts) == 0 && slices.Min(starts) == 0 {
				clean++
			}
		}
		if math.Abs(float64(clean)-0.2*n) > 5*math.Sqrt(0.2*0.8*n) {
			t.Errorf("%d of %d leaves began clean; want a fifth", clean, n)
		}
	})
}

func TestTargetsAreWrongClasses(t *testing.T) {
	set := synthetic(64, 8, 3, 4)
	attackLeaf(t, pixelAttack(0.1, 0), func(w *worker, _ []int32) {
		var counts [4]int
		const n = 64
		for epoch := range int32(50) {
			w.key[2] = epoch
			for i, target := range w.targets(&resident{set: *set}, firstSamples(n)) {
				off := (target - set.Labels[i] + 4) % 4
				counts[off]++
			}
		}
		for off, count := range counts {
			want := 50. * n / 3
			if off == 0 {
				if count != 0 {
					t.Errorf("%d samples were attacked towards their own class", count)
				}
			} else if math.Abs(float64(count)-want) > 5*math.Sqrt(want*2/3) {
				t.Errorf("the class %d further was drawn %d times; want about %g", off, count, want)
			}
		}
	})
}
