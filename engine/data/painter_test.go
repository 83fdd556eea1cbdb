package data

import (
	"slices"
	"testing"

	"broadside/engine/data/autoaugment"
)

// Cutout leaves the byte next to the mean, over no more than its square, and not always in one place.
func TestCutoutErasesToTheMean(t *testing.T) {
	const h, w, side = 9, 7, 4
	set := &Set{H: h, W: w, C: 3, Images: make([]byte, h*w*3), Labels: make([]int32, 1)}
	for i := range set.Images {
		set.Images[i] = byte(200 + i%3)
	}
	p := NewPainter(set, []float32{0.4914, 0.4822, 0.4465})
	seen := map[int]bool{}
	for epoch := range 200 {
		dst := make([]byte, h*w*3)
		if err := p.Paint(dst, 0, View{Cutout: side, Epoch: epoch}); err != nil {
			t.Fatal(err)
		}
		erased := 0
		for i := 0; i < len(dst); i += 3 {
			switch pixel := dst[i : i+3]; {
			case slices.Equal(pixel, []byte{125, 123, 114}):
				erased++
			case !slices.Equal(pixel, set.Images[:3]):
				t.Fatalf("epoch %d, pixel %d: %v", epoch, i/3, pixel)
			}
		}
		if erased == 0 || erased > side*side {
			t.Errorf("epoch %d: %d pixels are erased", epoch, erased)
		}
		seen[erased] = true
	}
	if !seen[side*side] || len(seen) < 3 {
		t.Errorf("numbers of pixels erased: %v", seen)
	}
}

// A policy edits what was cropped and flipped; cutout comes after it.
func TestOrderOfAugmentations(t *testing.T) {
	const h, w = 8, 8
	set := &Set{H: h, W: w, C: 1, Labels: make([]int32, 40)}
	for i := range len(set.Labels) * h * w {
		set.Images = append(set.Images, byte(i*7))
	}
	p, editor, policy := NewPainter(set, nil), autoaugment.NewEditor(h, w, 1), autoaugment.ByName("svhn")
	paint := func(i int, v View) []byte {
		dst := make([]byte, h*w)
		if err := p.Paint(dst, i, v); err != nil {
			t.Fatal(err)
		}
		return dst
	}
	edited := 0
	for i := range set.Labels {
		v := View{Flip: true, Pad: 2, Seed: 3}
		want := paint(i, v)
		v.Policy = policy
		editor.Apply(want, policy, v.draw(i).Policy())
		got := paint(i, v)
		if !slices.Equal(got, want) {
			t.Errorf("image %d: the policy did not come last", i)
		}
		v.Cutout = 3
		for k, b := range paint(i, v) {
			if b != got[k] && b != 0 {
				t.Errorf("image %d, pixel %d: %d where cutout leaves 0 or %d", i, k, b, got[k])
			}
		}
		if !slices.Equal(got, paint(i, View{Flip: true, Pad: 2, Seed: 3})) {
			edited++
		}
	}
	if edited < len(set.Labels)/2 {
		t.Errorf("the policy changed %d of %d images", edited, len(set.Labels))
	}
}
